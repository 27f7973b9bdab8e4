//! Why a call failed, in sixteen words everybody knows.

use std::fmt;
use std::str::FromStr;

/// One of gRPC's sixteen error codes.
///
/// There is no `Ok`: success is a [`Response`](crate::Response). The number of a code is its byte
/// on the wire, and [`Code::http_status`] is what an HTTP caller sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// The caller gave the call up.
    Cancelled = 1,
    /// The cause is not known, or the peer used a code this version does not know.
    Unknown,
    /// The request is wrong whatever the state of the system.
    InvalidArgument,
    /// The deadline passed before the answer came.
    DeadlineExceeded,
    /// The thing asked for does not exist.
    NotFound,
    /// The thing to be created exists.
    AlreadyExists,
    /// The caller is known, and may not do this.
    PermissionDenied,
    /// A quota, a limit or a buffer is used up.
    ResourceExhausted,
    /// The system is not in the state this call needs.
    FailedPrecondition,
    /// A concurrent change got in the way.
    Aborted,
    /// A value is past the end of what is valid.
    OutOfRange,
    /// The server has no such method.
    Unimplemented,
    /// The server broke one of its own rules.
    Internal,
    /// The server cannot be reached, or does not take calls just now.
    Unavailable,
    /// Data is lost or damaged for good.
    DataLoss,
    /// The caller did not say who it is.
    Unauthenticated,
}

/// Everything known about the codes, in the order of their numbers: code, name, HTTP status.
const TABLE: [(Code, &str, u16); 16] = [
    (Code::Cancelled, "cancelled", 499),
    (Code::Unknown, "unknown", 500),
    (Code::InvalidArgument, "invalid_argument", 400),
    (Code::DeadlineExceeded, "deadline_exceeded", 504),
    (Code::NotFound, "not_found", 404),
    (Code::AlreadyExists, "already_exists", 409),
    (Code::PermissionDenied, "permission_denied", 403),
    (Code::ResourceExhausted, "resource_exhausted", 429),
    (Code::FailedPrecondition, "failed_precondition", 400),
    (Code::Aborted, "aborted", 409),
    (Code::OutOfRange, "out_of_range", 400),
    (Code::Unimplemented, "unimplemented", 501),
    (Code::Internal, "internal", 500),
    (Code::Unavailable, "unavailable", 503),
    (Code::DataLoss, "data_loss", 500),
    (Code::Unauthenticated, "unauthenticated", 401),
];

impl Code {
    /// Returns the name in snake case, such as `not_found`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.row().1
    }

    /// Returns the code with this number on the wire, if there is one.
    #[must_use]
    pub fn from_u8(number: u8) -> Option<Self> {
        let index = usize::from(number).checked_sub(1)?;
        TABLE.get(index).map(|row| row.0)
    }

    /// Returns the HTTP status the Connect protocol gives this code.
    #[must_use]
    pub fn http_status(self) -> u16 {
        self.row().2
    }

    fn row(self) -> &'static (Code, &'static str, u16) {
        &TABLE[self as usize - 1]
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Code {
    type Err = UnknownCode;

    fn from_str(name: &str) -> Result<Self, UnknownCode> {
        let row = TABLE.iter().find(|row| row.1 == name);
        row.map(|row| row.0).ok_or_else(|| UnknownCode(name.to_owned()))
    }
}

/// A name that is none of the sixteen codes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a status code; the codes are gRPC's, in snake case, such as `not_found`")]
pub struct UnknownCode(String);

#[cfg(test)]
mod tests {
    use super::*;

    /// Number, name and row of every code agree, so nothing in the table is out of order.
    #[test]
    fn numbers_and_names_round_trip() {
        for number in 1..=16 {
            let code = Code::from_u8(number).unwrap();
            assert_eq!(code as u8, number);
            assert_eq!(code.as_str().parse(), Ok(code));
        }
        assert_eq!(Code::from_u8(0), None);
        assert_eq!(Code::from_u8(17), None);
        assert!("canceled?".parse::<Code>().is_err());
    }
}
