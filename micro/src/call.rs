//! One call: its options, then its way.

use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use micro_rpc::{Channel, Codec, Execution, Request, Response, TraceContext};
use micro_selector::{Attempt, Attempted, CallOptions, Class, Classify, Failure, RetryPolicy};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::client::Target;
use crate::contract::MethodInfo;
use crate::error::CallSite;
use crate::{CallError, Code, Context, Error, Phase, RpcError};

/// A call that is made when it is awaited. Its options apply to it alone.
///
/// Dropping the future cancels the call, on the server as well.
#[must_use = "a call is made when it is awaited"]
pub struct Call<T, E> {
    target: Target,
    method: &'static MethodInfo,
    request: Request,
    /// What is wrong with the request; reported when the call is awaited.
    invalid: Option<Error>,
    timeout: Option<Duration>,
    idempotent: bool,
    wait_for_ready: Option<bool>,
    retry: Option<RetryPolicy>,
    answer: PhantomData<fn() -> (T, E)>,
}

/// Makes a call of encoded arguments; what the generated clients' methods do.
pub(crate) fn call<A: Serialize, T, E>(
    target: &Target,
    method: &'static MethodInfo,
    arguments: &A,
) -> Call<T, E> {
    let codec = Codec::MessagePack;
    let (body, invalid) = match codec.encode(arguments) {
        Ok(body) => (body, None),
        Err(error) => {
            let message = format!("the arguments do not encode: {error}");
            (Bytes::new(), Some(invalid_request(message, error)))
        }
    };
    Call {
        target: target.clone(),
        method,
        request: Request::new(method.contract, method.name, codec, body),
        invalid,
        timeout: method.timeout,
        idempotent: method.idempotent,
        wait_for_ready: None,
        retry: None,
        answer: PhantomData,
    }
}

impl<T, E> Call<T, E> {
    /// How long the call may take, its retries included. Default: what the contract says, else what
    /// the client says. While serving a call it ends with that call's deadline at the latest.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sends an entry along: key of `[a-z0-9._-]`, 16 KiB in all. One that is not so fails the call.
    pub fn metadata(mut self, key: &str, value: &str) -> Self {
        if let Err(error) = self.request.metadata.insert(key, value) {
            self.invalid = Some(invalid_request(error.to_string(), error));
        }
        self
    }

    /// Whether it may be repeated after it may have been executed. Default: what the contract says.
    pub fn idempotent(mut self, idempotent: bool) -> Self {
        self.idempotent = idempotent;
        self
    }

    /// Whether to wait for a node when none is registered. Default: what the client says.
    pub fn wait_for_ready(mut self, wait: bool) -> Self {
        self.wait_for_ready = Some(wait);
        self
    }

    /// When to try again. Default: what the client says.
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = Some(retry);
        self
    }
}

impl<T, E> IntoFuture for Call<T, E>
where
    T: DeserializeOwned + Send + 'static,
    E: Decode + Send + 'static,
{
    type Output = Result<T, CallError<E>>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(mut self) -> Self::IntoFuture {
        // Borrowed by what it awaits, so that the future holds the call once.
        Box::pin(async move { self.make().await })
    }
}

impl<T: DeserializeOwned, E: Decode> Call<T, E> {
    async fn make(&mut self) -> Result<T, CallError<E>> {
        if let Some(error) = self.invalid.take() {
            return Err(CallError::Rpc(error.with_call(self.site())));
        }
        let options = self.settle();
        let subscription = match self.target.subscription() {
            Ok(subscription) => subscription,
            Err(error) => return Err(CallError::Rpc(Error::from(error).with_call(self.site()))),
        };
        let answer = subscription.call(&options, &mut Attempts(&mut self.request)).await;
        match answer {
            Ok(response) => {
                decode(&response).map_err(|error| CallError::Rpc(error.with_call(self.site())))
            }
            Err(failure) => Err(failed(failure, self.site())),
        }
    }

    /// Settles what the caller left open, now that the call begins.
    fn settle(&mut self) -> CallOptions {
        let defaults = self.target.client().call_defaults();
        let current = Context::current();
        let timeout = self.timeout.unwrap_or(defaults.timeout);
        self.request.deadline = Some(deadline(current.as_ref(), timeout));
        self.request.idempotent = self.idempotent;
        self.request.trace = Some(trace(current.as_ref()));
        let mut options = CallOptions::default();
        options.deadline = self.request.deadline;
        options.idempotent = self.idempotent;
        options.wait_for_ready = self.wait_for_ready.unwrap_or(defaults.wait_for_ready);
        options.retry = self.retry.take().unwrap_or_else(|| defaults.retry.clone());
        options
    }

    /// Which call this is, for its error.
    fn site(&self) -> CallSite {
        CallSite {
            service: self.target.service().to_owned(),
            contract: self.method.contract.to_owned(),
            method: self.method.name.to_owned(),
            trace: self.request.trace.map(|trace| trace.trace_id()),
            ..CallSite::default()
        }
    }
}

impl<T, E> fmt::Debug for Call<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("service", &self.target.service())
            .field("contract", &self.method.contract)
            .field("method", &self.method.name)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// A request on its way to one node or several. The body was encoded once: repeating it sends the
/// same bytes.
struct Attempts<'a>(&'a mut Request);

impl Attempt<Channel> for Attempts<'_> {
    type Response = Response;
    type Error = AttemptError;

    async fn make(&mut self, channel: &Channel, number: u32) -> Result<Response, AttemptError> {
        self.0.attempt = u8::try_from(number).unwrap_or(u8::MAX);
        channel.call(self.0).await.map_err(AttemptError)
    }
}

fn invalid_request(
    message: String,
    error: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    Error::of(Code::InvalidArgument, Phase::Encode, message, error)
}

/// The earlier of the caller's own deadline and this call's.
fn deadline(current: Option<&Context>, timeout: Duration) -> Instant {
    let now = Instant::now();
    // Thirty years are as good as for ever and keep clock arithmetic in range.
    let own = now + timeout.min(Duration::from_secs(30 * 365 * 24 * 3600));
    current.and_then(Context::deadline).map_or(own, |inherited| own.min(inherited))
}

fn trace(current: Option<&Context>) -> TraceContext {
    current.and_then(Context::trace).map_or_else(TraceContext::new_root, TraceContext::child)
}

fn decode<T: DeserializeOwned>(response: &Response) -> Result<T, Error> {
    response.codec.decode(&response.body).map_err(|error| {
        let message = format!("the answer does not decode: {error}");
        Error::new(Code::Internal, Phase::Decode, message)
            .with_execution(Execution::Executed)
            .with_source(error)
    })
}

fn failed<E: Decode>(failure: Failure<AttemptError>, mut site: CallSite) -> CallError<E> {
    let error = match failure {
        Failure::Attempts(attempts) => {
            site.attempts = attempts.len() as u32;
            let earlier = earlier(&attempts);
            let Some(Attempted { node, error: AttemptError(error) }) = attempts.into_iter().last()
            else {
                return CallError::Rpc(Error::new(Code::Internal, Phase::Resolve, "no attempt"));
            };
            if let Some(application) =
                error.details().and_then(|(codec, details)| E::decode(codec, details))
            {
                return CallError::App(application);
            }
            site.node = Some((node.node.id.clone(), node.node.address.clone()));
            let (code, phase, execution) = (error.code(), phase(&error), error.execution());
            let message = format!("{}{earlier}", error.message());
            Error::of(code, phase, message, error).with_execution(execution)
        }
        Failure::NotFound => not_found(&site.service),
        Failure::NoneServing { .. } => {
            Error::new(Code::Unavailable, Phase::Resolve, failure.to_string())
        }
        _ => Error::new(Code::DeadlineExceeded, Phase::Resolve, failure.to_string()),
    };
    CallError::Rpc(error.with_call(site))
}

fn not_found(service: &str) -> Error {
    let message = format!("no node of service `{service}` is registered");
    Error::new(Code::NotFound, Phase::Resolve, message)
}

/// What happened on the nodes before the last, for the message.
fn earlier(attempts: &[Attempted<AttemptError>]) -> String {
    let before = attempts.len().saturating_sub(1);
    let one = |attempt: &Attempted<AttemptError>| {
        format!("; before on {}: {}", attempt.node.node.address, attempt.error.0.message())
    };
    attempts[..before].iter().map(one).collect()
}

fn phase(error: &micro_rpc::Error) -> Phase {
    match error.phase() {
        micro_rpc::Phase::Connect => Phase::Connect,
        micro_rpc::Phase::Send => Phase::Send,
        _ => Phase::Wait,
    }
}

/// An attempt's error, with what the selector must know of it.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct AttemptError(micro_rpc::Error);

impl Classify for AttemptError {
    fn class(&self) -> Class {
        match (self.0.execution(), self.0.code()) {
            (Execution::NotSent, Code::Unavailable) => Class::NotSent,
            // What cannot be sent to one node, too large for example, cannot to another.
            (Execution::NotSent, _) => Class::Executed,
            (Execution::Refused, Code::ResourceExhausted) => Class::Overloaded,
            (Execution::Refused, _) => Class::Refused,
            (Execution::Executed, _) => Class::Executed,
            // What is not known to be safe is treated as if it were not.
            _ => Class::MaybeExecuted,
        }
    }
}

/// What a method's own error is decoded to; nothing for methods that have none.
pub trait Decode: Sized {
    /// The error, if these are its bytes.
    fn decode(codec: Codec, details: &[u8]) -> Option<Self>;
}

impl<E: RpcError> Decode for E {
    fn decode(codec: Codec, details: &[u8]) -> Option<Self> {
        codec.decode(details).ok()
    }
}

impl Decode for Infallible {
    fn decode(_: Codec, _: &[u8]) -> Option<Self> {
        None
    }
}
