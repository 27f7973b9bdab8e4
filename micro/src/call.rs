//! One call: its options, then its way.

use std::convert::Infallible;
use std::error::Error as _;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use micro_registry::Registration;
use micro_rpc::{
    Codec, Criticality, Execution, Metadata, Name, Request, Response, Status, TraceContext, TraceId,
};
use micro_selector::{Filter, RetryPolicy};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::client::Target;
use crate::contract::{MethodInfo, Served};
use crate::send::{Plan, Sent, send, site};
use crate::{CallError, Code, Context, Error, Phase, RpcError, Stopwatch, schema, spans};

/// A call that is made when it is awaited. Its options apply to it alone.
///
/// Dropping the future cancels the call, on the server as well.
#[must_use = "a call is made when it is awaited"]
pub struct Call<T, E> {
    plan: Plan,
    /// On the heap: with it the future would be larger than what the allocator has at hand.
    request: Box<Request>,
    /// What is wrong with the request; reported when the call is awaited.
    invalid: Option<Error>,
    timeout: Option<Duration>,
    trace: Option<TraceContext>,
    context: Option<Context>,
    criticality: Option<Criticality>,
    stopwatch: Option<Stopwatch>,
    answer: PhantomData<fn() -> (T, E)>,
}

/// Makes a call of encoded arguments; what the generated clients' methods do.
pub(crate) fn call<A: Serialize, T, E>(
    target: &Target,
    method: &'static MethodInfo,
    arguments: &A,
) -> Call<T, E> {
    let (contract, name) = (method.contract, method.name);
    let mut call = Call::encoded(target, contract, name, Codec::MessagePack, arguments);
    call.request.idempotent = method.idempotent;
    call.timeout = method.timeout;
    call
}

impl<T, E> Call<T, E> {
    /// A call of arguments that this codec encodes.
    pub(crate) fn encoded<A: Serialize + ?Sized>(
        target: &Target,
        contract: impl Into<Name>,
        method: impl Into<Name>,
        codec: Codec,
        arguments: &A,
    ) -> Self {
        match codec.encode(arguments) {
            Ok(body) => Self::of(target, Request::new(contract, method, codec, body)),
            Err(error) => {
                let request = Request::new(contract, method, codec, Bytes::new());
                Self { invalid: Some(bad_arguments(error)), ..Self::of(target, request) }
            }
        }
    }

    /// A call that is encoded already.
    pub(crate) fn of(target: &Target, request: Request) -> Self {
        Self {
            plan: Plan::to(target.clone()),
            request: Box::new(request),
            invalid: None,
            timeout: None,
            trace: None,
            context: None,
            criticality: None,
            stopwatch: None,
            answer: PhantomData,
        }
    }

    /// How long the call may take, its retries included. Default: what the contract says, else what
    /// the client says. While serving a call it ends with that call's deadline at the latest.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sends an entry along: key of `[a-z0-9._-]`, 16 KiB in all. One that is not so fails the call.
    ///
    /// The server's own calls send it on, and theirs in turn, if the key begins with
    /// [`baggage.`](Context::BAGGAGE).
    pub fn metadata(mut self, key: &str, value: &str) -> Self {
        if let Err(error) = self.request.metadata.insert(key, value) {
            self.invalid = Some(invalid_request(error.to_string(), error));
        }
        self
    }

    /// Whether it may be repeated after it may have been executed. Default: what the contract says.
    pub fn idempotent(mut self, idempotent: bool) -> Self {
        self.request.idempotent = idempotent;
        self
    }

    /// Whether to wait for a node when none is registered. Default: what the client says.
    pub fn wait_for_ready(mut self, wait: bool) -> Self {
        self.plan.options.wait_for_ready = wait;
        self
    }

    /// When to try again; a policy that makes no sense fails the call. Default: what the client says.
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        if let Err(error) = retry.check() {
            self.invalid = Some(invalid_request(error.to_string(), error));
        }
        self.plan.options.retry = retry;
        self
    }

    /// Which nodes come into question, of those that do by the client's filter; one that makes no
    /// sense fails the call. Default: all of these.
    pub fn filter(mut self, filter: Filter) -> Self {
        if let Err(error) = filter.check() {
            self.invalid = Some(invalid_request(error.to_string(), error));
        }
        self.plan.options.filter = Some(Arc::new(filter));
        self
    }

    /// What `consistent-hash` goes by: calls with the same key, a user's name for example, go to the
    /// same node while that is fit. Default: what the client's
    /// [`hash_by`](crate::ClientBuilder::hash_by) says.
    pub fn hash_key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.plan.options.key = Some(micro_selector::hash(key.as_ref()));
        self
    }

    /// How much it matters to an overloaded server. Default: as much as the call being served,
    /// else [`Criticality::Critical`].
    pub fn criticality(mut self, criticality: Criticality) -> Self {
        self.criticality = Some(criticality);
        self
    }

    /// On behalf of which call it is made: it inherits that one's deadline, trace, criticality,
    /// baggage and mark of a [retry](Context::is_retry). Default: the call being served on this task, which a spawned task is not.
    pub fn context(mut self, context: &Context) -> Self {
        self.context = Some(context.clone());
        self
    }

    /// The trace it belongs to, and the span in that which makes it. Default: that of the call being
    /// served, else a new one.
    pub fn trace(mut self, trace: TraceContext) -> Self {
        self.trace = Some(trace);
        self
    }

    /// Says that the method's name is somebody else's word, and that nobody lists it. The call is made
    /// as any other and counted as `_OTHER`, so that who passes calls on can be made to remember no
    /// names. Default: it is counted by its name.
    pub fn unlisted(mut self) -> Self {
        self.plan.is_unlisted = true;
        self
    }

    /// What measures it. Default: nothing does.
    pub fn stopwatch(mut self, stopwatch: &Stopwatch) -> Self {
        self.stopwatch = Some(stopwatch.clone());
        self
    }
}

impl<T, E> IntoFuture for Call<T, E>
where
    T: DeserializeOwned + Send + 'static,
    E: MethodError,
{
    type Output = Result<T, CallError<E>>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(mut self) -> Self::IntoFuture {
        // Borrowed by what it awaits, so that the future holds the call once.
        Box::pin(async move { self.make().await.map(|reply| reply.value) })
    }
}

/// An answer with what travelled beside it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Reply<T> {
    /// What the method returned.
    pub value: T,
    /// What its implementation [sent along](Context::reply_metadata).
    pub metadata: Metadata,
    /// The node that answered; `None` when layers answered by themselves.
    pub node: Option<Arc<Registration>>,
    /// How many attempts were made, the one that was answered among them.
    pub attempts: u32,
    /// The trace the call belongs to; the servers log the same.
    pub trace: Option<TraceId>,
}

impl<T: DeserializeOwned, E: MethodError> Call<T, E> {
    /// Makes the call as awaiting it does, for callers that want the answer's metadata too.
    ///
    /// # Errors
    ///
    /// Those of the call.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call, on the server as well.
    pub async fn reply(mut self) -> Result<Reply<T>, CallError<E>> {
        self.make().await
    }

    async fn make(&mut self) -> Result<Reply<T>, CallError<E>> {
        match self.send().await {
            Ok(sent) => match decode(&sent.response) {
                Ok(value) => Ok(reply(value, sent, &self.request)),
                Err(error) => {
                    let site = sent.site(&self.plan.target, &self.request);
                    Err(CallError::Rpc(error.with_call(site)))
                }
            },
            Err(error) => Err(match error.encoded_details().and_then(|(c, d)| E::decode(c, d)) {
                Some(application) => CallError::App(application),
                None => CallError::Rpc(error),
            }),
        }
    }
}

/// A body as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Encoded {
    /// How it is encoded.
    pub codec: Codec,
    /// Its bytes.
    pub body: Bytes,
}

impl Encoded {
    /// A body in this codec.
    pub fn new(codec: Codec, body: Bytes) -> Self {
        Self { codec, body }
    }
}

impl<E> Call<Encoded, E> {
    /// Makes the call, and leaves the answer encoded, for callers that pass it on.
    ///
    /// # Errors
    ///
    /// Those of the call; a method's own error is in the [details](Error::details).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call, on the server as well.
    pub async fn encoded_reply(mut self) -> Result<Reply<Encoded>, Error> {
        let mut sent = self.send().await?;
        let (codec, body) = (sent.response.codec, std::mem::take(&mut sent.response.body));
        Ok(reply(Encoded { codec, body }, sent, &self.request))
    }
}

impl<T, E> Call<T, E> {
    async fn send(&mut self) -> Result<Sent, Error> {
        let now = Instant::now();
        self.settle(now);
        let answer = match self.invalid.take() {
            None => send(&mut self.plan, &mut self.request, now).await,
            Some(error) => Err(error.with_call(site(&self.plan.target, &self.request))),
        };
        if let Some(stopwatch) = &self.stopwatch {
            stopwatch.end();
        }
        answer
    }

    /// Settles what the caller left open, now that the call begins.
    fn settle(&mut self, now: Instant) {
        let current = self.context.take().or_else(Context::current);
        let timeout =
            self.timeout.unwrap_or_else(|| self.plan.target.client().call_defaults().timeout);
        if let Err(error) = inherit(&mut self.request, current.as_ref(), timeout, now) {
            self.invalid.get_or_insert(error);
        }
        if let Some(criticality) = self.criticality {
            self.request.criticality = criticality;
        }
        if let Some(trace) = self.trace {
            self.request.trace = Some(trace.child());
            spans::begin_beneath(&mut self.request, Some(trace));
        }
        if let Some(stopwatch) = &self.stopwatch {
            stopwatch.begin();
            self.request.extensions.insert(stopwatch.queued().clone());
            self.request.extensions.insert(stopwatch.clone());
        }
    }
}

impl<T, E> fmt::Debug for Call<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("service", &self.plan.target.service())
            .field("contract", &self.request.contract)
            .field("method", &self.request.method)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// Gives a request that begins now its deadline and its trace, and what it inherits from the call
/// being served.
pub(crate) fn inherit(
    request: &mut Request,
    current: Option<&Context>,
    timeout: Duration,
    now: Instant,
) -> Result<(), Error> {
    request.deadline = Some(deadline(current, timeout, now));
    request.trace = Some(trace(current));
    spans::begin_beneath(request, current.and_then(Context::trace).copied());
    request.criticality = current.map(Context::criticality).unwrap_or_default();
    request.no_retry = current.is_some_and(Context::is_retry);
    current.map_or(Ok(()), |current| add_baggage(request, current))
}

pub(crate) fn bad_arguments(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    invalid_request(format!("the arguments do not encode: {error}"), error)
}

fn invalid_request(
    message: String,
    error: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    Error::of(Code::InvalidArgument, Phase::Encode, message, error)
}

/// The earlier of the caller's own deadline and this call's.
fn deadline(current: Option<&Context>, timeout: Duration, now: Instant) -> Instant {
    // Thirty years are as good as for ever and keep clock arithmetic in range.
    let own = now + timeout.min(Duration::from_secs(30 * 365 * 24 * 3600));
    current.and_then(Context::deadline).map_or(own, |inherited| own.min(inherited))
}

fn trace(current: Option<&Context>) -> TraceContext {
    current.and_then(Context::trace).map_or_else(TraceContext::new_root, TraceContext::child)
}

/// Sends on what came with the call being served; what the caller set itself stands.
fn add_baggage(request: &mut Request, current: &Context) -> Result<(), Error> {
    for (key, value) in current.baggage() {
        if request.metadata.get(key).is_none()
            && let Err(error) = request.metadata.insert(key, value)
        {
            let message = format!("the baggage of the call being served does not fit: {error}");
            return Err(invalid_request(message, error));
        }
    }
    Ok(())
}

fn reply<T>(value: T, sent: Sent, request: &Request) -> Reply<T> {
    let (node, attempts) = sent.source.unzip();
    let trace = request.trace.map(|trace| trace.trace_id());
    Reply { value, metadata: sent.response.metadata, node, attempts: attempts.unwrap_or(0), trace }
}

fn decode<T: DeserializeOwned>(response: &Response) -> Result<T, Error> {
    response.codec.decode(&response.body).map_err(bad_answer)
}

pub(crate) fn bad_answer(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    let message = format!("the answer does not decode: {error}");
    Error::at(Code::Internal, Phase::Decode, message)
        .with_execution(Execution::Executed)
        .with_source(error)
}

/// What a method may return as its error. Implemented for every [`RpcError`], for
/// [`micro::Error`](Error), for `anyhow::Error` and for [`Infallible`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an error a method can return",
    label = "not a `micro::RpcError`",
    note = "give it `#[derive(Debug, thiserror::Error, micro::RpcError, serde::Serialize, serde::Deserialize)]`",
    note = "or return `micro::Error` or `anyhow::Error`, of which callers see a code and a message"
)]
pub trait MethodError: Send + 'static {
    /// The error, if these are its bytes.
    fn decode(codec: Codec, details: &[u8]) -> Option<Self>
    where
        Self: Sized;

    /// What its server answers; what callers do not see, it logs with the call's name.
    fn into_status(self, codec: Codec, served: &Served<'_>) -> Status;

    /// What those see who do not know its type.
    fn into_error(self) -> Error;

    /// The JSON Schema of what travels of it, if that is more than a code and a message.
    fn schema() -> Option<serde_json::Value>
    where
        Self: Sized,
    {
        None
    }
}

impl<E: RpcError> MethodError for E {
    fn decode(codec: Codec, details: &[u8]) -> Option<Self> {
        codec.decode(details).ok()
    }

    fn into_status(self, codec: Codec, served: &Served<'_>) -> Status {
        let status = Status::new(self.code(), self.to_string());
        match codec.encode(&self) {
            Ok(details) => status.with_details(codec, details),
            Err(error) => {
                tracing::error!(%error, %served, "the error of a method does not encode");
                status
            }
        }
    }

    fn into_error(self) -> Error {
        Error::of(self.code(), Phase::Execute, self.to_string(), self)
            .with_execution(Execution::Executed)
    }

    fn schema() -> Option<serde_json::Value> {
        Some(schema::of::<E>())
    }
}

impl MethodError for Error {
    fn decode(_: Codec, _: &[u8]) -> Option<Self> {
        None
    }

    fn into_status(self, _: Codec, served: &Served<'_>) -> Status {
        // Of a call that failed behind it callers do not see everything either.
        if self.source().is_some() || self.service().is_some() {
            tracing::warn!(error = ?self, %served, "a method failed");
        }
        Status::new(self.code(), self.told())
    }

    fn into_error(self) -> Error {
        self
    }
}

#[cfg(feature = "anyhow")]
impl MethodError for anyhow::Error {
    fn decode(_: Codec, _: &[u8]) -> Option<Self> {
        None
    }

    /// Its text may hold what is not for callers, so it stays in the log.
    fn into_status(self, _: Codec, served: &Served<'_>) -> Status {
        tracing::error!(error = ?self, %served, "a method failed");
        Status::new(Code::Internal, "the method failed")
    }

    fn into_error(self) -> Error {
        Error::new(Code::Internal, self.to_string()).with_source(self)
    }
}

impl MethodError for Infallible {
    fn decode(_: Codec, _: &[u8]) -> Option<Self> {
        None
    }

    fn into_status(self, _: Codec, _: &Served<'_>) -> Status {
        match self {}
    }

    fn into_error(self) -> Error {
        match self {}
    }
}
