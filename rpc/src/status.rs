//! What a server answers instead of a response.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::{Code, Codec, Metadata};

/// What a handler, or the server itself, answers instead of a [`Response`](crate::Response).
///
/// The application's own error travels in the details, encoded as a body is, so that the caller
/// gets back the type it was.
#[derive(Clone)]
#[must_use]
pub struct Status(Box<Inner>);

#[derive(Clone)]
struct Inner {
    code: Code,
    message: String,
    details: Option<(Codec, Bytes)>,
    metadata: Metadata,
    end: End,
}

/// Whose word a status is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum End {
    /// The handler's: it ran to its end.
    #[default]
    Answered,
    /// Nothing was executed.
    Refused,
    /// The server ended the call before the handler did.
    Interrupted,
}

impl Status {
    /// Creates a status without details. The message is for people; at most 64 KiB of it travel.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let message = message.into();
        let metadata = Metadata::new();
        Self(Box::new(Inner { code, message, details: None, metadata, end: End::default() }))
    }

    /// Attaches the application's own error, encoded with `codec`.
    pub fn with_details(mut self, codec: Codec, details: Bytes) -> Self {
        self.0.details = Some((codec, details));
        self
    }

    /// Attaches pairs that travel beside the status.
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.0.metadata = metadata;
        self
    }

    /// Says after how long a retry may be of use, as the entry `retry-after-ms` of the metadata: in
    /// milliseconds, rounded up, 2⁶⁴ − 1 at most.
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.0.metadata.set_retry_after(wait);
        self
    }

    /// Says that nothing was executed, so that a retry elsewhere is safe for every method.
    pub fn refused(mut self) -> Self {
        self.0.end = End::Refused;
        self
    }

    /// Says that the call was ended while the handler ran, which may have done part of its work: only
    /// an idempotent method may be retried.
    pub fn interrupted(mut self) -> Self {
        self.0.end = End::Interrupted;
        self
    }

    /// Returns the code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// Returns the message.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns the application's own error, as encoded.
    #[must_use]
    pub fn details(&self) -> Option<(Codec, &Bytes)> {
        self.0.details.as_ref().map(|(codec, details)| (*codec, details))
    }

    /// Returns the pairs that travel beside the status.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.0.metadata
    }

    /// Returns after how long a retry may be of use, if the server says so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.metadata.retry_after()
    }

    /// Returns whether nothing was executed.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.0.end == End::Refused
    }

    pub(crate) fn end(&self) -> End {
        self.0.end
    }

    pub(crate) fn into_parts(self) -> (Code, String, Option<(Codec, Bytes)>, Metadata, End) {
        let inner = *self.0;
        (inner.code, inner.message, inner.details, inner.metadata, inner.end)
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Status")
            .field("code", &self.0.code)
            .field("message", &self.0.message)
            .field("details", &self.details().map(|(codec, details)| (codec, details.len())))
            .field("metadata", &self.0.metadata)
            .field("end", &self.0.end)
            .finish()
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code, self.0.message)
    }
}

impl std::error::Error for Status {}
