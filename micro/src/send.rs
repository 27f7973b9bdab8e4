//! A request on its way: per-call layers, attempts on one node or several, per-attempt layers.

use micro_rpc::{Channel, Execution, Request, Response, Status};
use micro_selector::{Attempt, Attempted, CallOptions, Class, Classify, Failure, RetryPolicy};
use tokio::time::timeout_at;
use tower::service_fn;

use crate::client::Target;
use crate::error::CallSite;
use crate::layer::{self, BoxError, Layers, Next};
use crate::{Code, Error, Phase};

/// Layers around calls, and around each of their attempts.
#[derive(Debug, Default)]
pub(crate) struct Stacks {
    per_call: Option<Next>,
    per_attempt: Option<Next>,
}

impl Stacks {
    pub(crate) fn new(per_call: &Layers, per_attempt: &Layers) -> Self {
        Self {
            per_call: per_call.around(service_fn(planned)),
            per_attempt: per_attempt.around(service_fn(on_channel)),
        }
    }
}

/// How a request is to be sent: what it does not say itself. Layers pass it on among the
/// extensions. What is `None` is as the client says.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) target: Target,
    pub(crate) wait_for_ready: Option<bool>,
    pub(crate) retry: Option<RetryPolicy>,
}

/// Sends a request as planned, through the client's layers, and returns the answer.
pub(crate) async fn send(plan: &Plan, request: &mut Request) -> Result<Response, Error> {
    let Some(stack) = &plan.target.client().stacks().per_call else {
        return attempts(plan, request).await;
    };
    let mut request = request.clone();
    let site = site(&plan.target, &request);
    request.extensions.insert(plan.clone());
    // Boxed, so that calls without layers do not carry room for it.
    let answer = Box::pin(in_time(stack.clone(), request)).await;
    answer.map_err(|error| of_layer(error, site))
}

/// Passes a request to layers until its deadline, beyond which they may wait for anything.
async fn in_time(stack: Next, request: Request) -> Result<Response, BoxError> {
    let Some(deadline) = request.deadline else { return stack.run(request).await };
    let answer = timeout_at(deadline, stack.run(request)).await;
    answer.unwrap_or_else(|_| Err(expired().into()))
}

fn expired() -> Status {
    Status::new(Code::DeadlineExceeded, "the deadline passed within the layers").interrupted()
}

/// What lies behind the layers of a call.
async fn planned(mut request: Request) -> Result<Response, BoxError> {
    let plan = request.extensions.remove::<Plan>().ok_or(LOST)?;
    Ok(attempts(&plan, &mut request).await?)
}

const LOST: &str = "a layer made a new request: pass the one it was given on, changed if need be";

async fn attempts(plan: &Plan, request: &mut Request) -> Result<Response, Error> {
    let subscription = match plan.target.subscription() {
        Ok(subscription) => subscription,
        Err(error) => return Err(Error::from(error).with_call(site(&plan.target, request))),
    };
    let mut options = CallOptions::default();
    options.deadline = request.deadline;
    options.idempotent = request.idempotent;
    let client = plan.target.client();
    let defaults = client.call_defaults();
    options.wait_for_ready = plan.wait_for_ready.unwrap_or(defaults.wait_for_ready);
    options.retry = plan.retry.as_ref().unwrap_or(&defaults.retry).clone();
    let stack = client.stacks().per_attempt.as_ref();
    let answer = subscription.call(&options, &mut Attempts { request, stack }).await;
    answer.map_err(|failure| failed(failure, site(&plan.target, request)))
}

/// A request on its way to one node or several. The body was encoded once: repeating it sends the
/// same bytes.
struct Attempts<'a> {
    request: &'a mut Request,
    stack: Option<&'a Next>,
}

impl Attempt<Channel> for Attempts<'_> {
    type Response = Response;
    type Error = AttemptError;

    async fn make(&mut self, channel: &Channel, number: u32) -> Result<Response, AttemptError> {
        self.request.attempt = u8::try_from(number).unwrap_or(u8::MAX);
        let Some(stack) = self.stack else {
            return channel.call(self.request).await.map_err(AttemptError);
        };
        let mut request = self.request.clone();
        request.extensions.insert(channel.address().clone());
        request.extensions.insert(On(channel.clone()));
        // Boxed, so that calls without layers do not carry room for it.
        let answer = Box::pin(in_time(stack.clone(), request)).await;
        answer.map_err(AttemptError::of_layer)
    }
}

/// The node an attempt goes to.
#[derive(Clone)]
struct On(Channel);

/// What lies behind the layers of an attempt.
async fn on_channel(mut request: Request) -> Result<Response, BoxError> {
    let On(channel) = request.extensions.remove::<On>().ok_or(LOST)?;
    Ok(channel.call(&request).await?)
}

/// Which call this is, for its error.
pub(crate) fn site(target: &Target, request: &Request) -> CallSite {
    CallSite {
        service: target.service().to_owned(),
        contract: request.contract.to_string(),
        method: request.method.to_string(),
        trace: request.trace.map(|trace| trace.trace_id()),
        ..CallSite::default()
    }
}

fn failed(failure: Failure<AttemptError>, mut site: CallSite) -> Error {
    let error = match failure {
        Failure::Attempts(attempts) => {
            site.attempts = attempts.len() as u32;
            let earlier = earlier(&attempts);
            let Some(Attempted { node, error: AttemptError(error), .. }) =
                attempts.into_iter().last()
            else {
                return Error::at(Code::Internal, Phase::Resolve, "no attempt");
            };
            site.node = Some((node.node.id.clone(), node.node.address.clone()));
            of_attempt(error, &earlier)
        }
        Failure::NotFound => {
            let message = format!("no node of service `{}` is registered", site.service);
            Error::at(Code::NotFound, Phase::Resolve, message)
        }
        Failure::NoneServing { .. } => {
            Error::at(Code::Unavailable, Phase::Resolve, failure.to_string())
        }
        _ => Error::at(Code::DeadlineExceeded, Phase::Resolve, failure.to_string()),
    };
    error.with_call(site)
}

/// What happened on the nodes before the last, for the message.
fn earlier(attempts: &[Attempted<AttemptError>]) -> String {
    let before = attempts.len().saturating_sub(1);
    let one = |attempt: &Attempted<AttemptError>| {
        format!("; before on {}: {}", attempt.node.node.address, attempt.error.0.message())
    };
    attempts[..before].iter().map(one).collect()
}

fn of_attempt(error: micro_rpc::Error, earlier: &str) -> Error {
    let phase = match error.phase() {
        micro_rpc::Phase::Connect => Phase::Connect,
        micro_rpc::Phase::Send => Phase::Send,
        _ => Phase::Wait,
    };
    let (code, execution) = (error.code(), error.execution());
    let details = error.details().map(|(codec, details)| (codec, details.clone()));
    let message = format!("{}{earlier}", error.message());
    Error::of(code, phase, message, error).with_execution(execution).with_details(details)
}

/// The error of a call that a layer around it ended.
fn of_layer(error: BoxError, site: CallSite) -> Error {
    let error = match error.downcast::<Error>() {
        Ok(error) => return *error,
        Err(error) => error,
    };
    match layer::known_status(&error) {
        Some(status) => of_attempt(status.into(), "").with_call(site),
        None => {
            let message = format!("a layer ended the call: {error}");
            let ended = Error::at(Code::Unknown, Phase::Send, message);
            ended.with_execution(Execution::MaybeExecuted).with_source(error).with_call(site)
        }
    }
}

/// An attempt's error, with what the selector must know of it.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct AttemptError(micro_rpc::Error);

impl AttemptError {
    fn of_layer(error: BoxError) -> Self {
        let error = match error.downcast::<micro_rpc::Error>() {
            Ok(error) => return Self(*error),
            Err(error) => error,
        };
        if let Some(status) = error.downcast_ref::<Status>() {
            return Self(status.clone().into());
        }
        let code = layer::known_status(&error).map_or(Code::Unknown, |status| status.code());
        let message = format!("a layer ended the attempt: {error}");
        let maybe = Execution::MaybeExecuted;
        let ended = micro_rpc::Error::new(code, micro_rpc::Phase::Wait, maybe, message);
        Self(ended.with_source(error))
    }
}

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
