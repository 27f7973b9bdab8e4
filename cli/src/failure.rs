//! Why a command failed: what is said of it, and the exit code.

use std::fmt;
use std::io::{self, IsTerminal};
use std::process::ExitCode;

use micro::rpc::Execution;
use micro::{Code, Error};
use serde_json::Value;

use crate::print::{self, Color};

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    end: End,
    message: String,
    /// The application's own error.
    details: Option<Value>,
}

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The method says no, or failed.
    Application = 1,
    /// What was asked for makes no sense.
    Usage = 2,
    /// No service, or no node of it, is registered by that name.
    NotFound = 3,
    /// The deadline passed.
    Deadline = 4,
    /// The service has no such method.
    Unimplemented = 5,
    /// The service, or the registry, cannot be reached, or has too much to do.
    Unavailable = 6,
    /// Whoever reads the output has gone, which is no failure.
    Quiet = 0,
}

impl Failure {
    pub(crate) fn new(end: End, message: impl Into<String>) -> Self {
        Self { end, message: message.into(), details: None }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(End::Usage, message)
    }

    /// Says more, in a sentence of its own.
    pub(crate) fn and(mut self, more: impl fmt::Display) -> Self {
        self.message += &format!("\n{more}");
        self
    }

    pub(crate) fn end(&self) -> End {
        self.end
    }

    /// Says why on standard error.
    pub(crate) fn report(self) -> ExitCode {
        if self.end != End::Quiet {
            let label = print::paint(Color::Red, "error:", io::stderr().is_terminal());
            print::talk(&format!("{label} {}\n", print::plain_lines(&self.message)));
            if let Some(details) = self.details {
                print::talk(&format!("details: {}\n", print::plain(&details.to_string())));
            }
        }
        ExitCode::from(self.end as u8)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let causes = std::iter::successors(std::error::Error::source(&error), |e| e.source());
        let mut message = error.to_string();
        for cause in causes.map(ToString::to_string).filter(|cause| !cause.is_empty()) {
            if !message.contains(&cause) {
                message += &format!(": {cause}");
            }
        }
        Self { end: End::of(&error), message, details: error.details() }
    }
}

impl From<micro::registry::Error> for Failure {
    fn from(error: micro::registry::Error) -> Self {
        Error::from(error).into()
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(End::Quiet, ""),
            _ => Self::new(End::Application, error.to_string()),
        }
    }
}

impl End {
    /// What the error of a call, or of a registry, ends the program with.
    pub(crate) fn of(error: &Error) -> Self {
        let is_applications = error.details::<Value>().is_some();
        let is_answer = error.execution() == Execution::Executed;
        match error.code() {
            _ if is_applications => Self::Application,
            Code::Unimplemented => Self::Unimplemented,
            // Of the call itself, which the service did not understand.
            Code::InvalidArgument => Self::Usage,
            _ if is_answer => Self::Application,
            Code::NotFound => Self::NotFound,
            Code::DeadlineExceeded => Self::Deadline,
            Code::Unavailable | Code::ResourceExhausted => Self::Unavailable,
            _ => Self::Application,
        }
    }
}
