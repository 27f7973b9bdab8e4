//! Why a call failed, as its caller sees it.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::status::End;
use crate::{Address, Code, Codec, Metadata, Status};

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why a call failed.
///
/// The two questions that decide about a retry are answered apart from the [`Code`]:
/// [`Error::execution`] says whether the server may have run the method, and [`Error::phase`] how
/// far the call came. It is one pointer wide, so results stay small.
pub struct Error(Box<Inner>);

struct Inner {
    code: Code,
    message: Cow<'static, str>,
    phase: Phase,
    execution: Execution,
    details: Option<(Codec, Bytes)>,
    metadata: Metadata,
    address: Option<Address>,
    source: Option<Source>,
}

/// How far a failed call came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// There was no connection, and none could be made.
    Connect,
    /// The request waited to be written, or could not be.
    Send,
    /// The request was written, and its answer awaited.
    Wait,
}

/// Whether the server ran the method of a failed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Execution {
    /// The request did not leave this process as a whole: a retry is safe, elsewhere or here.
    NotSent,
    /// The server says that it did not run the method: a retry elsewhere is safe.
    Refused,
    /// The method may have run, in part or as a whole: only an idempotent one may be retried.
    MaybeExecuted,
    /// The server gave its final answer, and this is it: a retry is of no use.
    Executed,
}

impl Execution {
    /// Returns whether the method certainly did not run, so that every method may be retried.
    #[must_use]
    pub fn is_retry_safe(self) -> bool {
        matches!(self, Self::NotSent | Self::Refused)
    }
}

impl Error {
    /// Creates an error without details or source, as a layer above the engine may need to.
    #[must_use]
    pub fn new(
        code: Code,
        phase: Phase,
        execution: Execution,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self(Box::new(Inner {
            code,
            message: message.into(),
            phase,
            execution,
            details: None,
            metadata: Metadata::new(),
            address: None,
            source: None,
        }))
    }

    /// Attaches the node the call was for.
    #[must_use]
    pub fn with_address(mut self, address: Address) -> Self {
        self.0.address = Some(address);
        self
    }

    /// Attaches what caused this.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Returns the code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// Returns the message, in words for people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns how far the call came.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.0.phase
    }

    /// Returns whether the method ran.
    #[must_use]
    pub fn execution(&self) -> Execution {
        self.0.execution
    }

    /// Returns the application's own error as the server encoded it.
    #[must_use]
    pub fn details(&self) -> Option<(Codec, &Bytes)> {
        self.0.details.as_ref().map(|(codec, details)| (*codec, details))
    }

    /// Returns after how long the server says that a retry may be of use, which an overloaded one
    /// does.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.metadata.retry_after()
    }

    /// Returns the pairs the server sent beside its status.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.0.metadata
    }

    /// Returns the node the call was for.
    #[must_use]
    pub fn address(&self) -> Option<&Address> {
        self.0.address.as_ref()
    }
}

/// What a client sees when a server answers with this status.
impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let (code, message, details, metadata, end) = status.into_parts();
        let execution = match end {
            End::Answered => Execution::Executed,
            End::Refused => Execution::Refused,
            End::Interrupted => Execution::MaybeExecuted,
        };
        let mut error = Self::new(code, Phase::Wait, execution, message);
        error.0.details = details;
        error.0.metadata = metadata;
        error
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("code", &self.0.code)
            .field("message", &self.0.message)
            .field("phase", &self.0.phase)
            .field("execution", &self.0.execution)
            .field("details", &self.details().map(|(codec, details)| (codec, details.len())))
            .field("address", &self.0.address)
            .field("source", &self.0.source)
            .finish()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code, self.0.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
