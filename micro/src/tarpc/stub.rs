//! What tarpc's generated clients call through.

use std::fmt;
use std::marker::PhantomData;
use std::time::Instant as Clock;

use ::tarpc::client::RpcError;
use ::tarpc::{RequestName, client, context, trace};
use bytes::Bytes;
use micro_rpc::{Codec, Name, Request, TraceContext};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::error::to_tarpc;
use super::shape::{self, Shape};
use crate::call::{bad_answer, bad_arguments, inherit};
use crate::client::Target;
use crate::send::{Plan, Sent, send, site};
use crate::{Client, Code, Context, Error, Phase, spans};

/// What the client that `#[tarpc::service]` generates is to be made of, to call the service of this
/// name: `GreeterClient::from(stub(&client, "greeter"))`. See the [module](super).
pub fn stub<Req, Resp>(client: &Client, service: impl Into<String>) -> Stub<Req, Resp>
where
    Req: RequestName + Serialize,
    Resp: DeserializeOwned,
{
    let plan = Plan::to(Target::new(client, service));
    let named = |shape: Shape| (Name::from(shape.contract("Response")), shape);
    Stub { plan, contract: Shape::of::<Resp>().map(named), types: PhantomData }
}

/// Calls the nodes of a service for a client of tarpc's. Made by [`stub`]; clones share everything.
///
/// # Cancel safety
///
/// Dropping the future of a call cancels it, on the server as well.
pub struct Stub<Req, Resp> {
    plan: Plan,
    /// Its name and methods, unless the response is no enum.
    contract: Option<(Name, Shape)>,
    types: PhantomData<fn(Req) -> Resp>,
}

impl<Req, Resp> client::stub::Stub for Stub<Req, Resp>
where
    Req: RequestName + Serialize,
    Resp: DeserializeOwned,
{
    type Req = Req;
    type Resp = Resp;

    async fn call(&self, context: context::Context, request: Req) -> Result<Resp, RpcError> {
        let now = Instant::now();
        let prepared = self.prepare(&context, &request, now);
        // Only its bytes travel; it need not live, nor be `Sync`, until they are answered.
        drop(request);
        let (mut request, variant) = prepared.map_err(to_tarpc)?;
        let answer = send(&mut self.plan.clone(), &mut request, now).await;
        answer.and_then(|sent| self.open(&request, variant, &sent)).map_err(to_tarpc)
    }
}

impl<Req, Resp> Stub<Req, Resp>
where
    Req: RequestName + Serialize,
    Resp: DeserializeOwned,
{
    /// The call to make, and the variant of its answer.
    fn prepare(
        &self,
        context: &context::Context,
        request: &Req,
        now: Instant,
    ) -> Result<(Request, &'static str), Error> {
        let method = shape::method(request.name());
        let variant = |(name, shape): &(Name, Shape)| Some((name.clone(), shape.variant(method)?));
        let known = self.contract.as_ref().and_then(variant);
        let (contract, variant) = known.ok_or_else(|| no_method(request.name()))?;
        let mut call = Request::new(contract, method.to_owned(), CODEC, Bytes::new());
        match fill(&mut call, context, variant, request, now) {
            Ok(()) => Ok((call, variant)),
            Err(error) => Err(error.with_call(site(&self.plan.target, &call))),
        }
    }

    fn open(&self, request: &Request, variant: &'static str, sent: &Sent) -> Result<Resp, Error> {
        shape::decode(sent.response.codec, variant, &sent.response.body)
            .map_err(|error| bad_answer(error).with_call(sent.site(&self.plan.target, request)))
    }
}

const CODEC: Codec = Codec::MessagePack;

/// Gives a call its arguments and its circumstances.
fn fill<Req: Serialize>(
    call: &mut Request,
    context: &context::Context,
    variant: &'static str,
    request: &Req,
    now: Instant,
) -> Result<(), Error> {
    call.body = shape::encode(CODEC, variant, request).map_err(bad_arguments)?;
    let timeout = context.deadline.saturating_duration_since(Clock::now());
    inherit(call, Context::current().as_ref(), timeout, now)?;
    if let Some(parent) = trace_of(context) {
        call.trace = Some(parent.child());
        spans::begin_beneath(call, Some(parent));
    }
    Ok(())
}

fn no_method(request: &str) -> Error {
    let message = format!("`{request}` is no method of a `#[tarpc::service]`");
    Error::at(Code::InvalidArgument, Phase::Encode, message)
}

/// The span that tarpc's context is of, if it is of any.
fn trace_of(context: &context::Context) -> Option<TraceContext> {
    let trace::Context { trace_id, span_id, sampling_decision } = context.trace_context;
    let flags = match sampling_decision {
        trace::SamplingDecision::Sampled => TraceContext::SAMPLED,
        trace::SamplingDecision::Unsampled => 0,
    };
    let (trace, span) = (u128::from(trace_id).to_be_bytes(), u64::from(span_id).to_be_bytes());
    TraceContext::from_parts(trace, span, flags)
}

impl<Req, Resp> Clone for Stub<Req, Resp> {
    fn clone(&self) -> Self {
        Self { plan: self.plan.clone(), contract: self.contract.clone(), types: PhantomData }
    }
}

impl<Req, Resp> fmt::Debug for Stub<Req, Resp> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stub")
            .field("service", &self.plan.target.service())
            .field("contract", &self.contract.as_ref().map(|(name, _)| name))
            .finish_non_exhaustive()
    }
}
