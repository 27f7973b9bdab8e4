//! What goes wrong, and how much of it a caller is told.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use micro_rpc::{Code, Codec, Execution, Metadata, Status, TraceId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::call::MethodError;

/// The framework's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error a method returns to its callers, typed on both sides. Derive it:
///
/// ```
/// #[derive(Debug, thiserror::Error, micro::RpcError, serde::Serialize, serde::Deserialize)]
/// pub enum GreetError {
///     #[error("{name} is banned")]
///     #[rpc(code = failed_precondition)]
///     Banned { name: String },
/// }
/// assert_eq!(
///     micro::RpcError::code(&GreetError::Banned { name: "Bob".into() }),
///     micro::Code::FailedPrecondition
/// );
/// ```
///
/// Besides this trait an error needs `Debug` and `Display` (with `thiserror::Error`, or by hand, as
/// [`std::error::Error`] does), and serde's `Serialize` and `Deserialize` to travel.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an error a method can return",
    label = "not a `micro::RpcError`",
    note = "give it `#[derive(Debug, thiserror::Error, micro::RpcError, serde::Serialize, \
            serde::Deserialize)]`, or return `micro::Error` or `anyhow::Error`"
)]
pub trait RpcError: StdError + Portable + Send + Sync + 'static {
    /// The status code callers without the type see.
    fn code(&self) -> Code;
}

/// What travels: the two traits of serde together.
///
/// As bounds of [`RpcError`] itself the compiler would take them for a means to seal it, and say so
/// to everybody who forgets one of them.
#[doc(hidden)]
pub trait Portable: Serialize + DeserializeOwned {}

impl<T: Serialize + DeserializeOwned> Portable for T {}

/// Why a call failed.
#[derive(Debug)]
pub enum CallError<E> {
    /// The method itself says so.
    App(E),
    /// The call did not get that far, or its answer could not be understood.
    Rpc(Error),
}

impl<E: fmt::Display> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::App(error) => error.fmt(f),
            Self::Rpc(error) => error.fmt(f),
        }
    }
}

impl<E: StdError + 'static> StdError for CallError<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::App(error) => error.source(),
            Self::Rpc(error) => error.source(),
        }
    }
}

/// The framework's error: a call that failed, a service that could not start.
///
/// `Display` says what failed, of which service and method, on which node; `Debug` adds the causes,
/// so that an error returned from `main` reads well.
pub struct Error(Box<Inner>);

struct Inner {
    code: Code,
    message: String,
    /// What callers of callers are told instead of the message, where that says where nodes are.
    told: Option<String>,
    phase: Phase,
    execution: Execution,
    /// The method's own error, as encoded.
    details: Option<(Codec, Bytes)>,
    metadata: Metadata,
    retry_after: Option<Duration>,
    call: Option<CallSite>,
    cause: Cause,
}

/// What is behind an error.
enum Cause {
    None,
    /// An error of its own.
    Source(Box<dyn StdError + Send + Sync>),
    /// The same failure one layer below, whose message is ours already.
    Same(Box<dyn StdError + Send + Sync>),
}

/// Which call failed, and where.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallSite {
    pub(crate) service: String,
    pub(crate) contract: String,
    pub(crate) method: String,
    /// Id and address of the node of the last attempt.
    pub(crate) node: Option<(String, String)>,
    pub(crate) attempts: u32,
    pub(crate) trace: Option<TraceId>,
}

/// How far it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Reading configuration, opening the registry, listening.
    Start,
    /// Encoding the arguments.
    Encode,
    /// Finding a node.
    Resolve,
    /// Connecting to it.
    Connect,
    /// Sending the request.
    Send,
    /// Waiting for the answer.
    Wait,
    /// Understanding the answer.
    Decode,
    /// Ending a service.
    Stop,
    /// Running the method itself.
    Execute,
}

impl Phase {
    fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Encode => "encode",
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Send => "send",
            Self::Wait => "wait",
            Self::Decode => "decode",
            Self::Stop => "stop",
            Self::Execute => "execute",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Error {
    /// The status code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// How far it got.
    pub fn phase(&self) -> Phase {
        self.0.phase
    }

    /// Whether the method was executed.
    pub fn execution(&self) -> Execution {
        self.0.execution
    }

    /// What went wrong, without the call it happened to, which `Display` names.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The method's own error, for callers who have no type for it: a `serde_json::Value` reads all.
    pub fn details<T: DeserializeOwned>(&self) -> Option<T> {
        let (codec, details) = self.encoded_details()?;
        codec.decode(details).ok()
    }

    /// The service that was called, if a call failed.
    pub fn service(&self) -> Option<&str> {
        self.0.call.as_ref().map(|call| &*call.service)
    }

    /// The contract that was called, if a call failed.
    pub fn contract(&self) -> Option<&str> {
        self.0.call.as_ref().map(|call| &*call.contract)
    }

    /// The method that was called, if a call failed.
    pub fn method(&self) -> Option<&str> {
        self.0.call.as_ref().map(|call| &*call.method)
    }

    /// Id and address of the node the last attempt was made on, if there was one.
    pub fn node(&self) -> Option<(&str, &str)> {
        let (id, address) = self.0.call.as_ref()?.node.as_ref()?;
        Some((id, address))
    }

    /// How many attempts were made.
    pub fn attempts(&self) -> u32 {
        self.0.call.as_ref().map_or(0, |call| call.attempts)
    }

    /// After how long the last node wants to be asked again, which one that has too much to do says.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The trace the call belongs to; the servers log the same.
    pub fn trace_id(&self) -> Option<TraceId> {
        self.0.call.as_ref()?.trace
    }

    /// What the server sent along with it.
    pub fn metadata(&self) -> &Metadata {
        &self.0.metadata
    }

    /// The same as a status, for who passes the call on and has nothing to add: its code, message and
    /// details, and what the server sent along. Of several attempts it tells of the last alone, and
    /// never where nodes are.
    pub fn to_status(&self) -> Status {
        let Inner { code, details, metadata, retry_after, .. } = &*self.0;
        let mut status = Status::new(*code, self.words()).with_metadata(metadata.clone());
        if let Some(wait) = retry_after {
            status = status.with_retry_after(*wait);
        }
        match details {
            Some((codec, details)) => status.with_details(*codec, details.clone()),
            None => status,
        }
    }

    /// An error to return from a method whose callers need no type for it: they see the code and
    /// the message, nothing else.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self::at(code, Phase::Execute, message).with_execution(Execution::Executed)
    }

    /// The same, with what caused it, for this process to see.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.cause = Cause::Source(source.into());
        self
    }

    pub(crate) fn at(code: Code, phase: Phase, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            code,
            message: message.into(),
            told: None,
            phase,
            execution: Execution::NotSent,
            details: None,
            metadata: Metadata::new(),
            retry_after: None,
            call: None,
            cause: Cause::None,
        }))
    }

    /// The program is not in a state to do this.
    #[cfg(feature = "telemetry")]
    pub(crate) fn precondition(message: impl Into<String>) -> Self {
        Self::at(Code::FailedPrecondition, Phase::Start, message)
    }

    /// What was configured makes no sense.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::at(Code::InvalidArgument, Phase::Start, message)
    }

    pub(crate) fn with_execution(mut self, execution: Execution) -> Self {
        self.0.execution = execution;
        self
    }

    /// Whether it is that of a call to the same method of the same service.
    pub(crate) fn is_of(&self, site: &CallSite) -> bool {
        self.0.call.as_ref().is_some_and(|call| {
            (&call.service, &call.contract, &call.method)
                == (&site.service, &site.contract, &site.method)
        })
    }

    /// Adds to the message what happened before the last attempt.
    pub(crate) fn after(mut self, earlier: &str) -> Self {
        if !earlier.is_empty() {
            let Inner { message, told, .. } = &mut *self.0;
            told.get_or_insert_with(|| message.clone());
            *message += earlier;
        }
        self
    }

    /// Says what callers of callers are told instead of the message.
    pub(crate) fn with_told(mut self, told: String) -> Self {
        self.0.told = Some(told);
        self
    }

    /// The same as `Display` has, without where nodes are: what callers of a method see that returns
    /// the error of a call it made.
    pub(crate) fn told(&self) -> String {
        let node = self.node().map(|(id, _)| format!("node {id}"));
        format!("{}{}", Site(self, node), self.words())
    }

    /// The message, without where nodes are.
    fn words(&self) -> Cow<'_, str> {
        match (self.phase(), self.service()) {
            (Phase::Connect, Some(service)) => {
                format!("no node of service `{service}` can be reached").into()
            }
            (Phase::Connect, None) => "the node cannot be reached".into(),
            _ => self.0.told.as_ref().unwrap_or(&self.0.message).into(),
        }
    }

    pub(crate) fn with_call(mut self, call: CallSite) -> Self {
        self.0.call = Some(call);
        self
    }

    pub(crate) fn with_details(mut self, details: Option<(Codec, Bytes)>) -> Self {
        self.0.details = details;
        self
    }

    pub(crate) fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.0.metadata = metadata;
        self
    }

    pub(crate) fn with_retry_after(mut self, wait: Option<Duration>) -> Self {
        self.0.retry_after = wait;
        self
    }

    pub(crate) fn encoded_details(&self) -> Option<(Codec, &Bytes)> {
        self.0.details.as_ref().map(|(codec, details)| (*codec, details))
    }

    /// The same failure as `error`, whose words `message` has; what caused that caused this.
    pub(crate) fn of(
        code: Code,
        phase: Phase,
        message: impl Into<String>,
        error: impl StdError + Send + Sync + 'static,
    ) -> Self {
        let mut same = Self::at(code, phase, message);
        same.0.cause = Cause::Same(Box::new(error));
        same
    }
}

/// For `?` in a method that calls others: the caller sees the code, and in the message which call
/// failed, on which node and why, but not where that is.
impl<E: MethodError> From<CallError<E>> for Error {
    fn from(error: CallError<E>) -> Self {
        match error {
            CallError::App(error) => error.into_error(),
            CallError::Rpc(error) => error,
        }
    }
}

impl From<micro_registry::Error> for Error {
    fn from(error: micro_registry::Error) -> Self {
        use micro_registry::ErrorKind;
        let code = match error.kind() {
            ErrorKind::Invalid => Code::InvalidArgument,
            ErrorKind::NotFound => Code::NotFound,
            ErrorKind::Fenced => Code::Aborted,
            ErrorKind::Unavailable => Code::Unavailable,
            ErrorKind::Denied => Code::PermissionDenied,
            _ => Code::Internal,
        };
        Self::of(code, Phase::Start, error.to_string(), error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = self.node().map(|(id, address)| format!("node {id} at {address}"));
        write!(f, "{}{}", Site(self, node), self.0.message)
    }
}

/// The call that failed, if one did, on the node of this name.
struct Site<'a>(&'a Error, Option<String>);

impl fmt::Display for Site<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { code, phase, call, .. } = &*self.0.0;
        let Some(call) = call else { return Ok(()) };
        write!(f, "{}/{} of {}: {code} ({phase}", call.contract, call.method, call.service)?;
        if let Some(node) = &self.1 {
            write!(f, ", {node}")?;
        }
        if call.attempts > 1 {
            write!(f, ", {} attempts", call.attempts)?;
        }
        if let Some(trace) = &call.trace {
            write!(f, ", trace {trace}")?;
        }
        f.write_str("): ")
    }
}

/// An error with its causes, in one line for logs and reasons.
pub(crate) fn chain(error: &dyn StdError) -> String {
    let causes = std::iter::successors(Some(error), |error| (*error).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        let mut next = self.source();
        while let Some(cause) = next {
            write!(f, "\n  caused by: {cause}")?;
            next = cause.source();
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.0.cause {
            Cause::None => None,
            Cause::Source(source) => Some(&**source),
            Cause::Same(error) => error.source(),
        }
    }
}
