//! A request on its way: per-call layers, attempts on one node or several, per-attempt layers.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures::future::Either;
use micro_registry::Registration;
use micro_rpc::{Channel, Execution, Request, Response, Status};
use micro_selector::{Answered, Attempt, Attempted, CallOptions, Class, Classify, Failure, hash};
use tokio::time::{Instant, timeout_at};
use tower::service_fn;
use tracing::{Instrument, Span};

use crate::client::Target;
use crate::error::CallSite;
use crate::layer::{BoxError, Ended, Layers, Next};
use crate::{Code, Error, Phase, Stopwatch, spans};

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

/// How a request is to be sent: what it does not say itself.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) target: Target,
    /// What the selector is to know; of the request itself once it is [to be tried](Self::complete).
    pub(crate) options: CallOptions,
    /// Whether the method may not exist, so that its name is not to be remembered.
    pub(crate) is_unlisted: bool,
}

impl Plan {
    /// To a service, as the client says.
    pub(crate) fn to(target: Target) -> Self {
        let defaults = target.client().call_defaults();
        let mut options = CallOptions::default();
        options.wait_for_ready = defaults.wait_for_ready;
        options.retry = defaults.retry.clone();
        Self { target, options, is_unlisted: false }
    }

    /// Adds what the selector is to know of the request, which layers may have changed.
    fn complete(&mut self, request: &Request, now: Option<Instant>) {
        let hash_by = self.target.client().call_defaults().hash_by.as_deref();
        let options = &mut self.options;
        options.now = now;
        options.deadline = request.deadline;
        options.idempotent = request.idempotent;
        options.method = Some(hash(request.method.as_bytes()));
        options.is_retry = request.no_retry;
        if options.key.is_none() {
            let value = hash_by.and_then(|hash_by| request.metadata.get(hash_by));
            options.key = value.map(|value| hash(value.as_bytes()));
        }
    }
}

/// An answer, and where it came from.
pub(crate) struct Sent {
    pub(crate) response: Response,
    /// None when layers answered by themselves.
    pub(crate) source: Option<Source>,
    /// When it was there.
    at: Instant,
}

/// The node that answered, and how many attempts it took.
pub(crate) type Source = (Arc<Registration>, u32);

impl Sent {
    /// Which call was answered, and by whom, for the error of an answer that is not understood.
    pub(crate) fn site(&self, target: &Target, request: &Request) -> CallSite {
        let mut site = site(target, request);
        if let Some((registration, attempts)) = &self.source {
            let node = &registration.node;
            site.node = Some((node.id.clone(), node.address.clone()));
            site.attempts = *attempts;
        }
        site
    }
}

/// Sends a request as planned, now, through the client's layers, and returns the answer.
pub(crate) async fn send(
    plan: &mut Plan,
    request: &mut Request,
    now: Instant,
) -> Result<Sent, Error> {
    let meter = plan.target.client().meter();
    let metered = match plan.is_unlisted {
        true => meter.begin_other(now),
        false => meter.begin(plan.target.service(), request, now),
    };
    let answer = match spans::call(plan.target.service(), request) {
        None => Either::Left(pass(plan, request, now)),
        // Boxed, so that calls to which nobody listens do not carry room for it.
        Some(span) => Either::Right(Box::pin(told(plan, request, now, span))),
    };
    let answer = answer.await;
    let at = answer.as_ref().map_or_else(|_| Instant::now(), |sent| sent.at);
    metered.ended(answer.as_ref().map(|_| ()).map_err(Error::code), at);
    answer
}

/// Sends a request within its span.
async fn told(
    plan: &mut Plan,
    request: &mut Request,
    now: Instant,
    span: Span,
) -> Result<Sent, Error> {
    let answer = pass(plan, request, now).instrument(span.clone()).await;
    match &answer {
        Ok(Sent { source: Some((registration, attempts)), .. }) => {
            span.record("node", &*registration.node.id).record("attempts", attempts);
        }
        Ok(_) => {}
        Err(error) => {
            span.record("attempts", error.attempts());
            error.node().map(|(id, _)| span.record("node", id));
        }
    }
    spans::ended(&span, answer.as_ref().map(|_| ()).map_err(Error::code), |_| true);
    answer
}

async fn pass(plan: &mut Plan, request: &mut Request, now: Instant) -> Result<Sent, Error> {
    let Some(stack) = &plan.target.client().stacks().per_call else {
        return attempts(plan, request, &mut false, Some(now)).await;
    };
    let (mut passed, passage) = (request.clone(), Passage::default());
    let last = Arc::<Last>::default();
    let repeats = Repeats::default();
    passed.extensions.insert(Planned(plan.clone(), passage.clone(), last.clone(), repeats));
    // Boxed, so that calls without layers do not carry room for it.
    let answer = Box::pin(in_time(stack.clone(), passed)).await;
    let source = last.lock().unwrap_or_else(PoisonError::into_inner).take();
    match answer {
        Ok(response) => Ok(Sent { response, source, at: Instant::now() }),
        Err(error) => Err(of_call_layer(error, &passage, site(&plan.target, request))),
    }
}

/// Where the last answer came from that layers let through; they may send a request several times.
type Last = Mutex<Option<Source>>;

/// The way of a request, and of its copies, through layers to what lies behind them. It is open
/// until they end the request unsent: what they may still do with a copy then sends nothing.
#[derive(Clone, Default)]
struct Passage(Arc<OnceLock<bool>>);

impl Passage {
    fn pass(&self) -> Result<(), &'static str> {
        self.0.get_or_init(|| true).then_some(()).ok_or(ENDED)
    }

    /// Whether the request, or a copy, has passed.
    fn end(&self) -> bool {
        *self.0.get_or_init(|| false)
    }
}

const ENDED: &str = "the layers have ended the request already";

/// Passes a request to layers until its deadline, beyond which they may wait for anything.
async fn in_time(stack: Next, request: Request) -> Result<Response, BoxError> {
    let Some(deadline) = request.deadline else { return stack.run(request).await };
    let answer = timeout_at(deadline, stack.run(request)).await;
    answer.unwrap_or_else(|_| Err(expired().into()))
}

fn expired() -> Status {
    Status::new(Code::DeadlineExceeded, "the deadline passed within the layers").interrupted()
}

/// A request's plan on its way through the layers of the call.
#[derive(Clone)]
struct Planned(Plan, Passage, Arc<Last>, Repeats);

/// How many of what the layers sent are under way, or cost a server work, or may have: what they send
/// besides repeats those. One whose end nobody waited for stays among them.
type Repeats = Arc<AtomicUsize>;

/// What lies behind the layers of a call.
async fn planned(mut request: Request) -> Result<Response, BoxError> {
    let Planned(mut plan, passage, last, repeats) =
        request.extensions.remove::<Planned>().ok_or(LOST)?;
    passage.pass()?;
    request.no_retry |= repeats.fetch_add(1, Relaxed) > 0;
    let mut costly = false;
    let outcome = attempts(&mut plan, &mut request, &mut costly, None).await;
    if !costly {
        repeats.fetch_sub(1, Relaxed);
    }
    let Sent { response, source, .. } = outcome?;
    *last.lock().unwrap_or_else(PoisonError::into_inner) = source;
    Ok(response)
}

const LOST: &str = "a layer made a new request: pass the one it was given on, changed if need be";

/// Makes attempts, and says in `costly` whether one that failed cost a server work, or may have.
async fn attempts(
    plan: &mut Plan,
    request: &mut Request,
    costly: &mut bool,
    now: Option<Instant>,
) -> Result<Sent, Error> {
    plan.complete(request, now);
    let subscription = match plan.target.subscription() {
        Ok(subscription) => subscription,
        Err(error) => return Err(Error::from(error).with_call(site(&plan.target, request))),
    };
    let stack = plan.target.client().stacks().per_attempt.as_ref();
    match subscription.call(&plan.options, &mut Attempts { request, stack, costly }).await {
        Ok(Answered { response, node, attempts, at, .. }) => {
            Ok(Sent { response, source: Some((node, attempts)), at })
        }
        Err(failure) => Err(failed(failure, site(&plan.target, request))),
    }
}

/// A request on its way to one node or several. The body was encoded once: repeating it sends the
/// same bytes.
struct Attempts<'a> {
    request: &'a mut Request,
    stack: Option<&'a Next>,
    costly: &'a mut bool,
}

impl Attempt<Channel> for Attempts<'_> {
    type Response = Response;
    type Error = AttemptError;

    async fn make(
        &mut self,
        channel: &Channel,
        number: u32,
        now: Instant,
    ) -> Result<Response, AttemptError> {
        self.request.attempt = u8::try_from(number).unwrap_or(u8::MAX);
        if let Some(stopwatch) = self.request.extensions.get::<Stopwatch>() {
            stopwatch.attempt();
        }
        let answer = match spans::attempt(self.request, channel.address()) {
            None => Either::Left(self.on(channel, now)),
            // Boxed, as the call is.
            Some(span) => Either::Right(Box::pin(self.told(channel, now, span))),
        };
        let answer = answer.await;
        // Whoever did something for it, or has too much to do, is asked for less by the next one.
        *self.costly |= answer.as_ref().is_err_and(AttemptError::is_costly);
        self.request.no_retry |= *self.costly;
        answer
    }
}

impl Attempts<'_> {
    /// Tries it within its span.
    async fn told(
        &self,
        channel: &Channel,
        now: Instant,
        span: Span,
    ) -> Result<Response, AttemptError> {
        let answer = self.on(channel, now).instrument(span.clone()).await;
        let end = answer.as_ref().map(|_| ()).map_err(|error| error.state().1);
        spans::ended(&span, end, |_| true);
        answer
    }

    async fn on(&self, channel: &Channel, now: Instant) -> Result<Response, AttemptError> {
        let Some(stack) = self.stack else {
            return channel.call_at(now, self.request).await.map_err(AttemptError::Engine);
        };
        let mut request = self.request.clone();
        request.extensions.insert(channel.address().clone());
        let passage = Passage::default();
        request.extensions.insert(On(channel.clone(), passage.clone()));
        // Boxed, so that calls without layers do not carry room for it.
        let answer = Box::pin(in_time(stack.clone(), request)).await;
        answer.map_err(|error| match of_attempt_layer(error, &passage) {
            error if passage.end() => AttemptError::Layer(error),
            error => AttemptError::Unsent(error),
        })
    }
}

/// The node an attempt goes to.
#[derive(Clone)]
struct On(Channel, Passage);

/// What lies behind the layers of an attempt.
async fn on_channel(mut request: Request) -> Result<Response, BoxError> {
    let On(channel, passage) = request.extensions.remove::<On>().ok_or(LOST)?;
    passage.pass()?;
    Ok(channel.call(&request).await?)
}

/// Which call this is, for its error.
pub(crate) fn site(target: &Target, request: &Request) -> CallSite {
    CallSite {
        service: target.service().to_string(),
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
            let Some(Attempted { node, error, .. }) = attempts.into_iter().last() else {
                return Error::at(Code::Internal, Phase::Resolve, "no attempt");
            };
            site.node = Some((node.node.id.clone(), node.node.address.clone()));
            let error = match error {
                AttemptError::Engine(error) => of_engine(error),
                AttemptError::Layer(error) | AttemptError::Unsent(error) => error,
            };
            error.after(&earlier)
        }
        Failure::NotFound => {
            let message = format!("no node of service `{}` is registered", site.service);
            Error::at(Code::NotFound, Phase::Resolve, message)
        }
        Failure::NoneServing { .. } | Failure::NoneMatching { .. } => {
            Error::at(Code::Unavailable, Phase::Resolve, failure.to_string())
        }
        Failure::Throttled => {
            Error::at(Code::ResourceExhausted, Phase::Resolve, failure.to_string())
        }
        Failure::Unresolved { answered: false } => {
            let message = "the registry did not answer before the deadline";
            Error::at(Code::DeadlineExceeded, Phase::Resolve, message)
        }
        _ => Error::at(Code::DeadlineExceeded, Phase::Resolve, failure.to_string()),
    };
    error.with_call(site)
}

/// What happened on the nodes before the last, for the message.
fn earlier(attempts: &[Attempted<AttemptError>]) -> String {
    let before = attempts.len().saturating_sub(1);
    let one = |attempt: &Attempted<AttemptError>| {
        format!("; before on {}: {}", attempt.node.node.address, attempt.error.message())
    };
    attempts[..before].iter().map(one).collect()
}

fn of_engine(error: micro_rpc::Error) -> Error {
    let phase = match error.phase() {
        micro_rpc::Phase::Connect => Phase::Connect,
        micro_rpc::Phase::Send => Phase::Send,
        _ => Phase::Wait,
    };
    let (code, execution) = (error.code(), error.execution());
    let details = error.details().map(|(codec, details)| (codec, details.clone()));
    let (message, wait) = (error.message().to_owned(), error.retry_after());
    let metadata = error.metadata().clone();
    let same = Error::of(code, phase, message, error).with_execution(execution);
    same.with_details(details).with_metadata(metadata).with_retry_after(wait)
}

/// The error of a call that its layers ended.
fn of_call_layer(error: BoxError, passage: &Passage, site: CallSite) -> Error {
    match (Ended::from(error), passage.end()) {
        // From behind the layers: it says itself what is known.
        (Ended::Error(error), true) if error.is_of(&site) => error,
        (ended, passed) => of_layer(ended, passed).with_call(site),
    }
}

/// The error of an attempt that its layers ended.
fn of_attempt_layer(error: BoxError, passage: &Passage) -> Error {
    match (Ended::from(error), passage.end()) {
        // From behind the layers: it says itself what is known.
        (Ended::Engine(error), true) => of_engine(error),
        (ended, passed) => of_layer(ended, passed),
    }
}

/// The error of a layer itself. Of the request it knows at most that it refused it.
fn of_layer(ended: Ended, passed: bool) -> Error {
    let phase = if passed { Phase::Wait } else { Phase::Send };
    let execution = match &ended {
        Ended::Status(status) if status.is_refused() => Execution::Refused,
        _ if passed => Execution::MaybeExecuted,
        _ => Execution::NotSent,
    };
    let error = match ended {
        Ended::Error(error) => {
            let (told, wait) = (error.told(), error.retry_after());
            let same = Error::of(error.code(), phase, error.to_string(), error);
            same.with_told(told).with_retry_after(wait)
        }
        Ended::Engine(error) => return of_layer(Ended::Error(of_engine(error)), passed),
        Ended::Status(status) => of_status(status, phase),
        Ended::Other(error) => {
            let message = format!("a layer ended the call: {error}");
            Error::at(Code::Unknown, phase, message).with_source(error)
        }
    };
    error.with_execution(execution)
}

fn of_status(status: Status, phase: Phase) -> Error {
    let details = status.details().map(|(codec, details)| (codec, details.clone()));
    let (code, message, wait) = (status.code(), status.message().to_owned(), status.retry_after());
    let metadata = status.metadata().clone();
    let same = Error::of(code, phase, message, status).with_metadata(metadata);
    same.with_details(details).with_retry_after(wait)
}

/// An attempt's error, with what the selector must know of it.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
enum AttemptError {
    Engine(micro_rpc::Error),
    /// With layers around the attempt, theirs or what they let through.
    Layer(Error),
    /// Theirs, and they have not let the request through.
    Unsent(Error),
}

impl AttemptError {
    fn message(&self) -> &str {
        match self {
            Self::Engine(error) => error.message(),
            Self::Layer(error) | Self::Unsent(error) => error.message(),
        }
    }

    /// Whether a server did something for it, may have, or has too much to do.
    fn is_costly(&self) -> bool {
        !self.is_local() && !self.class().is_free()
    }

    fn state(&self) -> (Execution, Code) {
        match self {
            Self::Engine(error) => (error.execution(), error.code()),
            Self::Layer(error) | Self::Unsent(error) => (error.execution(), error.code()),
        }
    }
}

impl Classify for AttemptError {
    fn is_late(&self) -> bool {
        self.state().1 == Code::DeadlineExceeded
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Engine(error) => error.retry_after(),
            Self::Layer(error) | Self::Unsent(error) => error.retry_after(),
        }
    }

    /// Of a node that was not asked nothing is known, whatever the layers say.
    fn is_local(&self) -> bool {
        matches!(self, Self::Unsent(_)) || self.class() == Class::Unsent
    }

    fn class(&self) -> Class {
        match self.state() {
            (Execution::NotSent, Code::Unavailable | Code::DeadlineExceeded) => Class::NotSent,
            // Of what a layer says in its own words nothing is known.
            (Execution::NotSent, Code::Unknown) => Class::MaybeExecuted,
            // What cannot be sent to one node, too large for example, cannot to another.
            (Execution::NotSent, _) => Class::Unsent,
            (Execution::Refused, Code::ResourceExhausted) => Class::Overloaded,
            (Execution::Refused, _) => Class::Refused,
            (Execution::Executed, _) => Class::Executed,
            // What is not known to be safe is treated as if it were not.
            _ => Class::MaybeExecuted,
        }
    }
}
