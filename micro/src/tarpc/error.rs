//! Errors of calls as tarpc's, and the other way round.

use std::io::ErrorKind;
use std::sync::Arc;

use ::tarpc::client::RpcError;
use ::tarpc::{ChannelError, ServerError};
use micro_rpc::{Execution, Status};

use crate::{Code, Error, Phase};

/// What a caller with a client of tarpc's is told.
pub(super) fn to_tarpc(error: Error) -> RpcError {
    let (code, execution) = (error.code(), error.execution());
    match error.phase() {
        // The answer of a method that ran into a deadline of its own is an answer.
        _ if code == Code::DeadlineExceeded && execution != Execution::Executed => {
            tracing::debug!(%error, "a call exceeded its deadline");
            RpcError::DeadlineExceeded
        }
        Phase::Encode => RpcError::Send(error.into()),
        Phase::Resolve | Phase::Connect => RpcError::Channel(ChannelError::Ready(Arc::new(error))),
        Phase::Send => RpcError::Channel(ChannelError::Write(Arc::new(error))),
        Phase::Decode => RpcError::Channel(ChannelError::Read(Arc::new(error))),
        _ if code == Code::Unavailable && execution == Execution::MaybeExecuted => {
            RpcError::Channel(ChannelError::Read(Arc::new(error)))
        }
        _ => RpcError::Server(ServerError::new(kind(code), error.to_string())),
    }
}

/// What callers are told by an implementation that gives up.
pub(super) fn to_status(error: ServerError) -> Status {
    Status::new(code(error.kind), error.detail)
}

/// The nearest kind; tarpc's own limits say `WouldBlock` when there is too much to do.
fn kind(code: Code) -> ErrorKind {
    match code {
        Code::InvalidArgument | Code::OutOfRange => ErrorKind::InvalidInput,
        Code::DeadlineExceeded => ErrorKind::TimedOut,
        Code::NotFound => ErrorKind::NotFound,
        Code::AlreadyExists => ErrorKind::AlreadyExists,
        Code::PermissionDenied | Code::Unauthenticated => ErrorKind::PermissionDenied,
        Code::ResourceExhausted => ErrorKind::WouldBlock,
        Code::Cancelled | Code::Aborted => ErrorKind::Interrupted,
        Code::Unimplemented => ErrorKind::Unsupported,
        Code::Unavailable => ErrorKind::NotConnected,
        Code::DataLoss => ErrorKind::InvalidData,
        _ => ErrorKind::Other,
    }
}

fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::InvalidInput => Code::InvalidArgument,
        ErrorKind::TimedOut => Code::DeadlineExceeded,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::PermissionDenied => Code::PermissionDenied,
        ErrorKind::WouldBlock => Code::ResourceExhausted,
        ErrorKind::Interrupted => Code::Aborted,
        ErrorKind::Unsupported => Code::Unimplemented,
        ErrorKind::NotConnected => Code::Unavailable,
        ErrorKind::InvalidData => Code::DataLoss,
        _ => Code::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kind that a server can say is what its caller hears.
    #[test]
    fn kinds_survive() {
        use ErrorKind::*;
        for said in [
            InvalidInput,
            TimedOut,
            NotFound,
            AlreadyExists,
            PermissionDenied,
            WouldBlock,
            Interrupted,
            Unsupported,
            NotConnected,
            InvalidData,
            Other,
        ] {
            assert_eq!(kind(code(said)), said);
        }
    }

    /// How far a call came decides what tarpc's caller is told, and our text is in it.
    #[test]
    fn phases() {
        use RpcError::{Channel, DeadlineExceeded, Send, Server};
        let error = |code, phase, execution| {
            let text = |error: RpcError| {
                let error: &dyn std::error::Error = &error;
                let causes = std::iter::successors(Some(error), |error| error.source());
                causes.map(|error| error.to_string()).collect::<Vec<_>>().join(": ")
            };
            let error = || Error::at(code, phase, "what went wrong").with_execution(execution);
            let told = to_tarpc(error());
            let is_mute = matches!(told, DeadlineExceeded);
            assert!(is_mute || text(to_tarpc(error())).contains("what went wrong"), "{told:?}");
            told
        };
        let (unsent, maybe) = (Execution::NotSent, Execution::MaybeExecuted);
        let executed = Execution::Executed;
        let told = error(Code::InvalidArgument, Phase::Encode, unsent);
        assert!(matches!(told, Send(_)), "{told:?}");
        for phase in [Phase::Resolve, Phase::Connect] {
            let told = error(Code::Unavailable, phase, unsent);
            assert!(matches!(told, Channel(ChannelError::Ready(_))), "{told:?}");
        }
        let told = error(Code::Unavailable, Phase::Send, unsent);
        assert!(matches!(told, Channel(ChannelError::Write(_))), "{told:?}");
        let told = error(Code::Unavailable, Phase::Wait, maybe);
        assert!(matches!(told, Channel(ChannelError::Read(_))), "{told:?}");
        let told = error(Code::Internal, Phase::Decode, executed);
        assert!(matches!(told, Channel(ChannelError::Read(_))), "{told:?}");
        for phase in [Phase::Resolve, Phase::Send, Phase::Wait] {
            let told = error(Code::DeadlineExceeded, phase, maybe);
            assert!(matches!(told, DeadlineExceeded), "{told:?}");
        }
        for (code, kind, execution) in [
            (Code::DeadlineExceeded, ErrorKind::TimedOut, executed),
            (Code::NotFound, ErrorKind::NotFound, executed),
            (Code::Internal, ErrorKind::Other, maybe),
            (Code::Unavailable, ErrorKind::NotConnected, Execution::Refused),
        ] {
            let told = error(code, Phase::Wait, execution);
            assert!(matches!(&told, Server(said) if said.kind == kind), "{told:?}");
        }
    }
}
