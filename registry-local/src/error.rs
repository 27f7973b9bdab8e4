//! What goes wrong, as an error of the registry, and as a line for people.

use std::io;
use std::path::Path;

use micro_registry::{Error, ErrorKind};

/// What the system answered.
pub(crate) fn failed(what: &str, path: &Path, source: io::Error) -> Error {
    let kind = match source.kind() {
        io::ErrorKind::PermissionDenied => ErrorKind::Denied,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, format!("cannot {what} {}", path.display())).with_source(source)
}

pub(crate) fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}
