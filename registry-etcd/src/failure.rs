//! What a request that failed means, and how that is said.

use std::error::Error as StdError;
use std::fmt::{self, Write};
use std::time::Duration;

use micro_registry::{Error, ErrorKind};
use tonic::{Code, ConnectError, Status};

/// Why there is no answer of use.
#[derive(Debug)]
pub(crate) enum Failure {
    /// etcd understood, and said no.
    Refused(Status),
    /// No server answered in time.
    Unavailable(Error),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(status) => refusal(&status),
            Failure::Unavailable(error) => error,
        }
    }
}

impl Failure {
    /// Whether etcd said no in these words, or some that contain them.
    pub(crate) fn says(&self, words: &str) -> bool {
        matches!(self, Self::Refused(status) if status.message().contains(words))
    }

    /// Whether the answer was longer than what is read.
    pub(crate) fn is_too_large(&self) -> bool {
        self.says("message length too large")
    }
}

/// What to do about the status of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Advice {
    /// It is the answer.
    Accept,
    /// Log in again: the token is no longer known, or none was needed so far.
    LogIn,
    /// Ask another server, which may be able to answer. A write may have happened all the same.
    AskAnother,
}

pub(crate) fn advice(status: &Status) -> Advice {
    let message = status.message();
    match status.code() {
        _ if is_ours(status) => Advice::AskAnother,
        Code::Unauthenticated => Advice::LogIn,
        Code::InvalidArgument if message.contains("revision of auth store is old") => Advice::LogIn,
        Code::InvalidArgument if message.contains("user name is empty") => Advice::LogIn,
        Code::ResourceExhausted if message.contains("too many requests") => Advice::AskAnother,
        Code::Unavailable | Code::Unknown | Code::Internal => Advice::AskAnother,
        Code::Cancelled | Code::DeadlineExceeded | Code::Aborted => Advice::AskAnother,
        _ => Advice::Accept,
    }
}

/// Whether the connection failed, rather than the server with an answer.
pub(crate) fn is_ours(status: &Status) -> bool {
    status.source().is_some()
}

/// Whether there was no connection, so that nothing was sent.
pub(crate) fn is_unconnected(status: &Status) -> bool {
    causes(status).any(|cause| cause.is::<ConnectError>())
}

/// What etcd answered, as an error of a registry.
fn refusal(status: &Status) -> Error {
    let message = status.message();
    let (kind, what) = match status.code() {
        _ if message.contains("user name is empty") => {
            (ErrorKind::Denied, "etcd asks for a user, and none is configured")
        }
        _ if message.contains("authentication failed") => {
            (ErrorKind::Denied, "etcd refuses the user or the password")
        }
        Code::PermissionDenied | Code::Unauthenticated => {
            (ErrorKind::Denied, "etcd denies this to the user")
        }
        Code::InvalidArgument => (ErrorKind::Invalid, "etcd refuses the request"),
        Code::ResourceExhausted => (ErrorKind::Unavailable, "etcd has no room"),
        Code::OutOfRange | Code::DataLoss => {
            (ErrorKind::Unavailable, "etcd no longer knows what was asked for")
        }
        _ => (ErrorKind::Internal, "etcd refuses the request"),
    };
    Error::new(kind, format!("{what}: {message}"))
}

/// Whether there was no answer, although there was time for one.
fn is_broken(status: &Status) -> bool {
    is_ours(status) && !is_unconnected(status) && !causes(status).any(|cause| cause.is::<Silence>())
}

/// How we speak to a server, which explains some failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    Plain,
    Tls,
    TlsWithOwnCertificate,
}

/// Whether trying again at once is of no use: there is no connection, or it is closed by a server
/// that never gave us an answer.
pub(crate) fn is_hopeless(status: &Status, has_answered: bool) -> bool {
    is_unconnected(status) || !has_answered && is_broken(status)
}

/// What is wrong, for who reads it.
pub(crate) fn explain(status: &Status, manner: Manner, has_answered: bool) -> String {
    let words = in_words(status);
    let is_closed = !has_answered && is_broken(status);
    let hint = match manner {
        Manner::Plain if is_closed => Some("the server closes the connection, it may expect TLS"),
        Manner::Tls if is_closed => {
            Some("the server closes the connection, it may ask for a client certificate")
        }
        _ => hint(&words),
    };
    hint.map_or(words.clone(), |hint| format!("{hint} ({words})"))
}

/// What a status says, with its causes, in one line.
pub(crate) fn in_words(status: &Status) -> String {
    let mut words = status.message().to_owned();
    for cause in causes(status) {
        let cause = cause.to_string();
        if !words.contains(&cause) && cause != "transport error" {
            // Writing to a string does not fail.
            let _ = write!(words, ": {cause}");
        }
    }
    words
}

/// What the reader can do, where the words alone would not tell.
fn hint(words: &str) -> Option<&'static str> {
    const HINTS: [(&str, &str); 5] = [
        ("InvalidContentType", "the server does not speak TLS"),
        ("tls handshake eof", "the server does not speak TLS"),
        ("BadSignature", "the server's certificate is not signed by the CA we trust"),
        ("UnknownIssuer", "the server's certificate is not signed by the CA we trust"),
        ("CertificateRequired", "the server asks for a client certificate"),
    ];
    HINTS.iter().find(|(sign, _)| words.contains(sign)).map(|(_, hint)| *hint)
}

fn causes(status: &Status) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    let mut next = status.source();
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}

/// The status of a request that nobody answered.
pub(crate) fn silence(after: Duration) -> Status {
    Status::from_error(Box::new(Silence(after)))
}

#[derive(Debug)]
struct Silence(Duration);

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no answer within {:?}", self.0)
    }
}

impl StdError for Silence {}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: Code, message: &str) -> Status {
        Status::new(code, message)
    }

    /// An answer is told from the lack of one, and from a token that is too old.
    #[test]
    fn advices() {
        for (code, message, expected) in [
            (Code::Unavailable, "etcdserver: no leader", Advice::AskAnother),
            (Code::Unavailable, "etcdserver: request timed out", Advice::AskAnother),
            (Code::ResourceExhausted, "etcdserver: too many requests", Advice::AskAnother),
            (Code::Unauthenticated, "etcdserver: invalid auth token", Advice::LogIn),
            (Code::InvalidArgument, "etcdserver: revision of auth store is old", Advice::LogIn),
            (Code::InvalidArgument, "etcdserver: user name is empty", Advice::LogIn),
            (Code::NotFound, "etcdserver: requested lease not found", Advice::Accept),
            (Code::PermissionDenied, "etcdserver: permission denied", Advice::Accept),
            (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded", Advice::Accept),
        ] {
            assert_eq!(advice(&status(code, message)), expected, "{message}");
        }
        let broken = Status::from_error(std::io::Error::other("connection reset").into());
        assert_eq!(advice(&broken), Advice::AskAnother);
        assert!(is_ours(&broken) && !is_unconnected(&broken));
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        assert!(is_unconnected(&Status::from_error(ConnectError(refused.into()).into())));
    }

    /// Each refusal has the kind its reader acts on.
    #[test]
    fn refusals() {
        for (code, message, kind) in [
            (Code::InvalidArgument, "etcdserver: user name is empty", ErrorKind::Denied),
            (Code::InvalidArgument, "etcdserver: authentication failed, x", ErrorKind::Denied),
            (Code::PermissionDenied, "etcdserver: permission denied", ErrorKind::Denied),
            (Code::InvalidArgument, "etcdserver: request is too large", ErrorKind::Invalid),
            (Code::ResourceExhausted, "mvcc: database space exceeded", ErrorKind::Unavailable),
            (Code::DataLoss, "etcdserver: corrupt cluster", ErrorKind::Unavailable),
            (Code::FailedPrecondition, "etcdserver: lease already exists", ErrorKind::Internal),
        ] {
            let error = Error::from(Failure::Refused(status(code, message)));
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(message), "{error}");
        }
    }
}
