//! A contract as a service serves it: methods by name, with what describes them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use micro_registry::Endpoint;
use micro_rpc::{Code, Codec, Handler, Request, Response, Router, Status};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Context, RpcError};

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

    pub(crate) fn mount(self, router: Router) -> Router {
        self.methods.into_iter().fold(router, |router, method| {
            let handler = method.handler;
            router.route(self.name, method.info.name, move |request| handler.call(request))
        })
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

    fn endpoint(&self) -> Endpoint {
        Endpoint {
            contract: self.contract.to_owned(),
            name: self.name.to_owned(),
            idempotent: self.idempotent,
            doc: self.doc.to_owned(),
            ..Endpoint::default()
        }
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
        E: RpcError,
        F: Fn(Arc<S>, Context, A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
    {
        self.method(implementation, info, method, |codec, result| match result {
            Ok(value) => respond(codec, &value),
            Err(error) => Err(status(codec, &error)),
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
        F: Fn(Arc<S>, Context, A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = T> + Send + 'static,
    {
        self.method(implementation, info, method, |codec, value| respond(codec, &value))
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
        answer: fn(Codec, O) -> Result<Response, Status>,
    ) -> Self
    where
        S: Send + Sync + 'static,
        A: DeserializeOwned + Send + 'static,
        O: Send + 'static,
        F: Fn(Arc<S>, Context, A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = O> + Send + 'static,
    {
        let implementation = implementation.clone();
        let handler = move |mut request: Request| -> BoxFuture<'static, _> {
            let codec = request.codec;
            let arguments = match codec.decode::<A>(&request.body) {
                Ok(arguments) => arguments,
                Err(error) => return ready(Err(bad_arguments(info, &error))).boxed(),
            };
            let context = Context::take_from(&mut request);
            let result = method(implementation.clone(), context.clone(), arguments);
            Box::pin(context.scope(async move { answer(codec, result.await) }))
        };
        self.0.methods.push(Method { info, handler: Arc::new(handler) });
        self
    }
}

fn respond<T: Serialize>(codec: Codec, value: &T) -> Result<Response, Status> {
    match codec.encode(value) {
        Ok(body) => Ok(Response::new(codec, body)),
        Err(error) => {
            tracing::error!(%error, "an answer does not encode");
            Err(Status::new(Code::Internal, "the answer does not encode"))
        }
    }
}

/// The method's own error: its code and text for everybody, the value for callers with the type.
fn status<E: RpcError>(codec: Codec, error: &E) -> Status {
    let status = Status::new(error.code(), error.to_string());
    match codec.encode(error) {
        Ok(details) => status.with_details(codec, details),
        Err(failure) => {
            tracing::error!(error = %failure, "an application error does not encode");
            status
        }
    }
}

fn bad_arguments(info: &MethodInfo, error: &micro_rpc::CodecError) -> Status {
    let message = format!("arguments of {}/{} do not decode: {error}", info.contract, info.name);
    Status::new(Code::InvalidArgument, message)
}
