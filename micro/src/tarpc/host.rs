//! Implementations of tarpc's contracts, served.

use std::sync::Arc;

use ::tarpc::{RequestName, ServerError, context, trace};
use bytes::Bytes;
use micro_registry::Endpoint;
use micro_rpc::{Code, Request, Response, Status, TraceContext};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::to_status;
use super::shape::{self, Shape};
use crate::contract::{Served, bad_arguments, respond, serve};
use crate::{Context, Contract};

/// A contract of tarpc's with its implementation, ready to be [served](crate::Service::serve). See
/// the [module](super).
///
/// The closure has the concrete types, since only of those it is known that their futures are
/// `Send`. It is called for each request: an implementation that is shared is cloned in it.
///
/// ```
/// # #[tarpc::service]
/// # pub trait Greeter { async fn hello(name: String) -> String; }
/// # #[derive(Clone)]
/// # struct English { greetings: std::sync::Arc<std::sync::atomic::AtomicU64> }
/// # impl Greeter for English {
/// #     async fn hello(self, _: tarpc::context::Context, name: String) -> String { name }
/// # }
/// # let english = English { greetings: Default::default() };
/// use tarpc::server::Serve;
///
/// let contract = micro::tarpc::host(move |cx, request| {
///     Serve::serve(english.clone().serve(), cx, request)
/// });
/// assert_eq!(contract.name(), "greeter");
/// ```
///
/// Methods are called by the names they have in the trait. They are registered by those too, unless
/// a digit comes after an underscore, of which the type knows nothing: `sha_256` is listed as
/// `sha256`.
///
/// # Panics
///
/// If the request is no enum, as that of every `#[tarpc::service]` is.
pub fn host<Req, Resp, F, Fut>(implementation: F) -> Contract
where
    Req: RequestName + DeserializeOwned + Send + 'static,
    Resp: Serialize + Send + 'static,
    F: Fn(context::Context, Req) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Resp, ServerError>> + Send + 'static,
{
    let shape = Shape::of::<Req>().expect("the request of a `#[tarpc::service]` is an enum");
    let contract = shape.contract("Request");
    let endpoints = shape.methods().map(|method| Endpoint::new(&contract, method)).collect();
    let implementation = Arc::new(implementation);
    let handler = move |request| {
        let implementation = implementation.clone();
        serve(request, move |context, body| run(implementation, shape, context, body))
    };
    Contract::of_any(contract.into(), endpoints, Arc::new(handler))
}

async fn run<Req, Resp, F, Fut>(
    implementation: Arc<F>,
    shape: Shape,
    context: Context,
    body: Bytes,
) -> Result<Response, Status>
where
    Req: RequestName + DeserializeOwned,
    Resp: Serialize,
    F: Fn(context::Context, Req) -> Fut,
    Fut: Future<Output = Result<Resp, ServerError>>,
{
    let request = context.request();
    let codec = request.codec;
    let (variant, arguments) = open(shape, request, &body)?;
    drop(body);
    match implementation(to_tarpc(&context), arguments).await {
        Ok(answer) => respond(codec, shape::encode(codec, variant, &answer), &Served(request)),
        Err(error) => Err(to_status(error)),
    }
}

/// The variant and what it holds, if there is such a method and these are its arguments.
fn open<Req>(shape: Shape, request: &Request, body: &[u8]) -> Result<(&'static str, Req), Status>
where
    Req: RequestName + DeserializeOwned,
{
    let Request { codec, method, .. } = request;
    let variant = shape.variant(method).ok_or_else(|| unknown(request))?;
    if !codec.is_map(body) {
        return Err(bad_arguments(request, &NotAMap));
    }
    let arguments: Req =
        shape::decode(*codec, variant, body).map_err(|error| bad_arguments(request, &error))?;
    // Several spellings have the variant in common.
    if shape::method(arguments.name()) != method.as_str() {
        return Err(unknown(request));
    }
    Ok((variant, arguments))
}

fn unknown(request: &Request) -> Status {
    let Request { contract, method, .. } = request;
    Status::new(Code::Unimplemented, format!("contract `{contract}` has no method `{method}`"))
}

/// Arguments go by name: a list of them would be broken by a new one in the middle.
#[derive(Debug, thiserror::Error)]
#[error("they are not a map")]
struct NotAMap;

/// What the implementation is told. A call without a deadline gets what tarpc's own have then: ten
/// seconds.
fn to_tarpc(context: &Context) -> context::Context {
    let mut to = context::current();
    if let Some(deadline) = context.deadline() {
        to.deadline = deadline.into_std();
    }
    if let Some(trace) = context.trace() {
        to.trace_context = trace_to_tarpc(trace);
    }
    to
}

fn trace_to_tarpc(trace: &TraceContext) -> trace::Context {
    let sampled = trace.flags() & TraceContext::SAMPLED != 0;
    trace::Context {
        trace_id: u128::from_be_bytes(trace.trace_id().to_bytes()).into(),
        span_id: u64::from_be_bytes(trace.span_id()).into(),
        sampling_decision: match sampled {
            true => trace::SamplingDecision::Sampled,
            false => trace::SamplingDecision::Unsampled,
        },
    }
}
