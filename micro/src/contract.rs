//! A contract as a service serves it: methods by name, with what describes them.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use micro_registry::Endpoint;
use micro_rpc::{Code, Codec, Handler, Name, Request, Response, Status};
use pin_project::pin_project;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tracing::{Instrument, Span};

use crate::call::MethodError;
use crate::{Context, schema, spans};

/// A contract with its implementation, ready to be [served](crate::Service::serve). Comes from the
/// server type that `#[micro::service]` generates: of `English`, which implements the trait
/// `Greeter`, it is `GreeterServer::new(English)`. Of a contract of tarpc's it comes from
/// `micro::tarpc::host`.
pub struct Contract {
    name: Name,
    doc: &'static str,
    methods: Vec<Method>,
    /// Runs what is not among the methods.
    fallback: Option<Arc<dyn Handler>>,
}

struct Method {
    name: Name,
    endpoint: Endpoint,
    schemas: fn() -> Schemas,
    handler: Arc<dyn Handler>,
}

/// JSON Schema of what a method takes, answers and fails with.
#[derive(Default)]
struct Schemas {
    request: Option<Value>,
    response: Option<Value>,
    error: Option<Value>,
}

impl Contract {
    /// Its name, by which callers route.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is for, from the trait's doc comment.
    pub fn doc(&self) -> &'static str {
        self.doc
    }

    /// Its methods as they are registered: without schemas, which every node tells on demand and no
    /// registry need keep for all of them.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.methods.iter().map(|method| method.endpoint.clone()).collect()
    }

    /// Its methods with the schemas of what they take, answer and fail with.
    pub fn described(&self) -> Vec<Endpoint> {
        self.methods.iter().map(Method::described).collect()
    }

    /// One handler for all methods: for those with an endpoint, which are told to others, and for
    /// any that are not known beforehand.
    #[cfg(feature = "tarpc")]
    pub(crate) fn of_any(name: Name, endpoints: Vec<Endpoint>, handler: Arc<dyn Handler>) -> Self {
        let method = |endpoint: Endpoint| Method {
            name: endpoint.name.clone().into(),
            endpoint,
            schemas: Schemas::default,
            handler: handler.clone(),
        };
        let methods = endpoints.into_iter().map(method).collect();
        Self { name, doc: "", methods, fallback: Some(handler) }
    }

    /// Its handlers, for a router: one for each method, and without a name the fallback.
    pub(crate) fn handlers(self) -> impl Iterator<Item = (Name, Option<Name>, Arc<dyn Handler>)> {
        let Self { name, methods, fallback, .. } = self;
        let methods = methods.into_iter().map(|method| (Some(method.name), method.handler));
        let handlers = methods.chain(fallback.map(|fallback| (None, fallback)));
        handlers.map(move |(method, handler)| (name.clone(), method, handler))
    }
}

impl Method {
    fn described(&self) -> Endpoint {
        let Schemas { request, response, error } = (self.schemas)();
        let mut endpoint = self.endpoint.clone();
        (endpoint.request, endpoint.response, endpoint.error) = (request, response, error);
        endpoint
    }
}

impl fmt::Debug for Contract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let methods: Vec<_> = self.methods.iter().map(|method| &method.name).collect();
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
        let mut endpoint = Endpoint::new(self.contract, self.name);
        endpoint.idempotent = self.idempotent;
        endpoint.doc = self.doc.to_owned();
        endpoint
    }
}

/// Begins a contract.
pub fn contract(name: &'static str, doc: &'static str) -> ContractBuilder {
    ContractBuilder(Contract { name: name.into(), doc, methods: Vec::new(), fallback: None })
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
        T: Serialize + DeserializeOwned + Send + 'static,
        E: MethodError,
        F: Fn(Arc<S>, Context, A) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
    {
        let schemas = || schemas::<A, T>(E::schema());
        self.method(implementation, info, schemas, method, |codec, result, served| match result {
            Ok(value) => respond(codec, codec.encode(&value), served),
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
        T: Serialize + DeserializeOwned + Send + 'static,
        F: Fn(Arc<S>, Context, A) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = T> + Send + 'static,
    {
        let schemas = || schemas::<A, T>(None);
        self.method(implementation, info, schemas, method, |codec, value, served| {
            respond(codec, codec.encode(&value), served)
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
        schemas: fn() -> Schemas,
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
        let handler = Boxed(move |request: Request| {
            let (method, implementation) = (method.clone(), implementation.clone());
            // Decoded inside the future, whose polls the server times: arguments that take long to
            // decode make the method one that gets a task of its own.
            serve(request, move |context, body| async move {
                let codec = context.request().codec;
                let arguments = codec.decode_map::<A>(&body);
                drop(body);
                let arguments =
                    arguments.map_err(|error| bad_arguments(context.request(), &error))?;
                let result = method(implementation, context.clone(), arguments).await;
                answer(codec, result, &Served(context.request()))
            })
        });
        let (name, endpoint) = (info.name.into(), info.endpoint());
        self.0.methods.push(Method { name, endpoint, schemas, handler: Arc::new(handler) });
        self
    }
}

/// A function as a handler whose future is in a box already: the engine would put it in one more.
struct Boxed<F>(F);

impl<F> Handler for Boxed<F>
where
    F: Fn(Request) -> BoxFuture<'static, Result<Response, Status>> + Send + Sync + 'static,
{
    fn call(&self, request: Request) -> BoxFuture<'static, Result<Response, Status>> {
        self.0(request)
    }
}

fn schemas<A: DeserializeOwned, T: DeserializeOwned>(error: Option<Value>) -> Schemas {
    Schemas { request: Some(schema::of::<A>()), response: Some(schema::of::<T>()), error }
}

/// Runs a method with all that is around each: its context, its span, the answer's metadata.
pub(crate) fn serve<F, Fut>(
    mut request: Request,
    method: F,
) -> BoxFuture<'static, Result<Response, Status>>
where
    F: FnOnce(Context, Bytes) -> Fut,
    Fut: Future<Output = Result<Response, Status>> + Send + 'static,
{
    let span = spans::serve(&mut request);
    let (context, body) = Context::of(request);
    let method = context.scope(method(context.clone(), body));
    let serving = Box::pin(Serving { context, method });
    match span {
        None => serving,
        Some(span) => Box::pin(told(serving, span)),
    }
}

/// A method that runs in its context. An `async` block would hold the method twice.
#[pin_project]
struct Serving<F> {
    context: Context,
    #[pin]
    method: F,
}

impl<F: Future<Output = Result<Response, Status>>> Future for Serving<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let answer = ready!(this.method.poll(cx));
        let metadata = this.context.take_reply();
        Poll::Ready(match answer {
            Ok(mut response) => {
                response.metadata = metadata;
                Ok(response)
            }
            Err(status) => Err(status.with_metadata(metadata)),
        })
    }
}

/// Serves within a span.
async fn told(
    serving: BoxFuture<'static, Result<Response, Status>>,
    span: Span,
) -> Result<Response, Status> {
    let answer = serving.instrument(span.clone()).await;
    let end = answer.as_ref().map(|_| ()).map_err(Status::code);
    spans::ended(&span, end, spans::is_of_server);
    answer
}

/// A call that was served, for the log.
pub struct Served<'a>(pub(crate) &'a Request);

impl fmt::Display for Served<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Request { contract, method, .. } = self.0;
        write!(f, "{contract}/{method}")?;
        match &self.0.trace {
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

/// The answer of a method, if it could be encoded.
pub(crate) fn respond(
    codec: Codec,
    encoded: Result<Bytes, impl std::error::Error>,
    served: &Served<'_>,
) -> Result<Response, Status> {
    match encoded {
        Ok(body) => Ok(Response::new(codec, body)),
        Err(error) => {
            tracing::error!(%error, %served, "the answer of a method does not encode");
            Err(Status::new(Code::Internal, "the answer does not encode"))
        }
    }
}

pub(crate) fn bad_arguments(request: &Request, error: &dyn std::error::Error) -> Status {
    let Request { contract, method, .. } = request;
    let message = format!("arguments of {contract}/{method} do not decode: {error}");
    Status::new(Code::InvalidArgument, message)
}
