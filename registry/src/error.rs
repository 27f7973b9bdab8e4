//! Why a registry could not do what it was asked.

use std::error::Error as StdError;
use std::fmt;

/// A failed registry operation.
///
/// The message says what failed at this level and never contains a secret; the cause, if there is
/// one, is behind [`source`](StdError::source).
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What to do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// What was handed in breaks a rule of the model; repeating it cannot help.
    Invalid,
    /// The registry answered: nothing is registered under that name.
    NotFound,
    /// A newer epoch owns this node id; the caller is the past.
    Fenced,
    /// The registry cannot be reached, or did not answer in time.
    Unavailable,
    /// The registry refuses this caller.
    Denied,
    /// Anything else the engine reported.
    Internal,
}

impl Error {
    /// An error of this kind; the message is lower case and names the value it is about.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// Adds what caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The answer to a lookup of a name nobody registered.
    pub fn not_found(service: &str) -> Self {
        Self::new(ErrorKind::NotFound, format!("no node of service `{service}` is registered"))
    }

    /// What to do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the same call may succeed later without a change by the caller.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, ErrorKind::Unavailable | ErrorKind::Internal)
    }

    /// The message and those of all causes, in one line.
    pub fn chain(&self) -> String {
        let first: &dyn StdError = self;
        let causes = std::iter::successors(Some(first), |error| StdError::source(*error));
        causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.kind)
            .field("message", &self.message)
            .field("source", &self.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| &**source as &(dyn StdError + 'static))
    }
}
