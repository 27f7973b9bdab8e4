//! A contract as a service serves it: methods by name, with what describes them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use micro_registry::Endpoint;
use micro_rpc::{Code, Codec, Handler, Request, Response, Status};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::{Instrument, Span, field};

use crate::Context;
use crate::call::MethodError;

/// A contract with its implementation, ready to be [served](crate::Service::serve). Comes from the
/// server type that `#[micro::service]` generates: of `English`, which implements the trait
/// `Greeter`, it is `GreeterServer::new(English)`.
pub struct Contract {
    name: &'static str,
    doc: &'static str,
    methods: Vec<Method>,
}

struct Method {
    info: &'static MethodInfo,
    handler: Arc<dyn Handler>,
}

impl Contract {
    /// Its name, by which callers route.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What it is for, from the trait's doc comment.
    pub fn doc(&self) -> &'static str {
        self.doc
    }

    /// Its methods as they are registered.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.methods.iter().map(|method| method.info.endpoint()).collect()
    }

    /// Its methods by name, for a router.
    pub(crate) fn handlers(self) -> impl Iterator<Item = (&'static MethodInfo, Arc<dyn Handler>)> {
        self.methods.into_iter().map(|Method { info, handler }| (info, handler))
    }
}

impl fmt::Debug for Contract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let methods: Vec<_> = self.methods.iter().map(|method| method.info.name).collect();
        f.debug_struct("Contract").field("name", &self.name).field("methods", &methods).finish()
    }
}

/// What the macro knows of a method.
#[derive(Debug)]
pub struct MethodInfo {
    pub(crate) contract: &'static str,
    pub(crate) name: &'static str,
    pub(crate) idempotent: bool,
    pub(crate) timeout: Option<Duration>,
    doc: &'static str,
}

#[allow(missing_docs)] // Called by the macros' expansions only.
impl MethodInfo {
    pub const fn new(contract: &'static str, name: &'static str) -> Self {
        Self { contract, name, idempotent: false, timeout: None, doc: "" }
    }

    pub const fn idempotent(self) -> Self {
        Self { idempotent: true, ..self }
    }

    pub const fn timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    pub const fn doc(self, doc: &'static str) -> Self {
        Self { doc, ..self }
    }

    /// Contract and method, by which callers route.
    pub(crate) fn key(&self) -> (&'static str, &'static str) {
        (self.contract, self.name)
    }

    /// What the log lines of one call have in common.
    fn span(&self, context: &Context) -> Span {
        let trace = context.trace().map(|trace| field::display(trace.trace_id()));
        tracing::info_span!("serve", contract = self.contract, method = self.name, trace)
    }

    fn endpoint(&self) -> Endpoint {
        let mut endpoint = Endpoint::new(self.contract, self.name);
        endpoint.idempotent = self.idempotent;
        endpoint.doc = self.doc.to_owned();
        endpoint
    }
}

/// Begins a contract.
pub fn contract(name: &'static str, doc: &'static str) -> ContractBuilder {
    ContractBuilder(Contract { name, doc, methods: Vec::new() })
}

/// Collects the methods of a contract.
#[derive(Debug)]
pub struct ContractBuilder(Contract);

impl ContractBuilder {
    /// Adds a method that returns a `Result`.
    pub fn fallible<S, A, T, E, F, Fut>(
        self,
        implementation: &Arc<S>,
        info: &'static MethodInfo,
        method: F,
    ) -> Self
    where
        S: Send + Sync + 'static,
        A: DeserializeOwned + Send + 'static,
        T: Serialize + Send + 'static,
        E: MethodError,
        F: Fn(Arc<S>, Context, A) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
    {
        self.method(implementation, info, method, |codec, result, served| match result {
            Ok(value) => respond(codec, &value, served),
            Err(error) => Err(error.into_status(codec, served)),
        })
    }

    /// Adds a method that always answers.
    pub fn infallible<S, A, T, F, Fut>(
        self,
        implementation: &Arc<S>,
        info: &'static MethodInfo,
        method: F,
    ) -> Self
    where
        S: Send + Sync + 'static,
        A: DeserializeOwned + Send + 'static,
        T: Serialize + Send + 'static,
        F: Fn(Arc<S>, Context, A) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = T> + Send + 'static,
    {
        self.method(implementation, info, method, |codec, value, served| {
            respond(codec, &value, served)
        })
    }

    /// The contract.
    pub fn build(self) -> Contract {
        self.0
    }

    fn method<S, A, O, F, Fut>(
        mut self,
        implementation: &Arc<S>,
        info: &'static MethodInfo,
        method: F,
        answer: fn(Codec, O, &Served<'_>) -> Result<Response, Status>,
    ) -> Self
    where
        S: Send + Sync + 'static,
        A: DeserializeOwned + Send + 'static,
        O: Send + 'static,
        F: Fn(Arc<S>, Context, A) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = O> + Send + 'static,
    {
        let implementation = implementation.clone();
        let handler = move |mut request: Request| -> BoxFuture<'static, _> {
            let (method, implementation) = (method.clone(), implementation.clone());
            let context = Context::take_from(&mut request);
            let own = context.clone();
            let span = info.span(&context);
            // Decoded inside the future, whose polls the server times: arguments that take long to
            // decode make the method one that gets a task of its own.
            let serve = async move {
                let codec = request.codec;
                let arguments = codec.decode_map::<A>(&request.body);
                let arguments = arguments.map_err(|error| bad_arguments(info, &error))?;
                let result = method(implementation, own.clone(), arguments).await;
                match answer(codec, result, &Served { method: info, context: &own }) {
                    Ok(mut response) => {
                        response.metadata = own.take_reply();
                        Ok(response)
                    }
                    Err(status) => Err(status.with_metadata(own.take_reply())),
                }
            };
            Box::pin(context.scope(serve).instrument(span))
        };
        self.0.methods.push(Method { info, handler: Arc::new(handler) });
        self
    }
}

/// A call that was served, for the log.
pub struct Served<'a> {
    method: &'static MethodInfo,
    context: &'a Context,
}

impl fmt::Display for Served<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (contract, method) = self.method.key();
        write!(f, "{contract}/{method}")?;
        match self.context.trace() {
            Some(trace) => write!(f, ", trace {}", trace.trace_id()),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Served<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Served({self})")
    }
}

fn respond<T: Serialize>(codec: Codec, value: &T, served: &Served<'_>) -> Result<Response, Status> {
    match codec.encode(value) {
        Ok(body) => Ok(Response::new(codec, body)),
        Err(error) => {
            tracing::error!(%error, %served, "the answer of a method does not encode");
            Err(Status::new(Code::Internal, "the answer does not encode"))
        }
    }
}

fn bad_arguments(info: &MethodInfo, error: &micro_rpc::CodecError) -> Status {
    let message = format!("arguments of {}/{} do not decode: {error}", info.contract, info.name);
    Status::new(Code::InvalidArgument, message)
}
