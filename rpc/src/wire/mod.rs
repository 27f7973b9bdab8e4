//! `micro/1` as bytes: pure functions and buffers, without I/O. `PROTOCOL.md` is their contract.

mod frame;
mod header;
mod inbox;
mod preface;
#[cfg(test)]
mod vectors;

pub(crate) use frame::{Head, PAD, STOP_SOON, kind, put_control};
pub(crate) use header::{
    RequestHead, criticality, decode_request, decode_response, put_overloaded, put_request,
    put_response, request_len,
};
pub(crate) use inbox::{Inbox, Incoming};
pub(crate) use preface::Preface;

/// Why a connection cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    #[error("the peer does not speak micro")]
    Magic,
    #[error("the peer speaks micro/{0}, this side micro/{version}", version = Preface::VERSION)]
    Version(u8),
    #[error("the peer offers a limit that nothing fits in")]
    Offer,
    #[error("a frame of {0} bytes is too short for its own head")]
    TooShort(u32),
    #[error("a frame of {0} bytes is too long even to skip")]
    TooLong(u32),
    #[error("frame type {0} is unknown and not optional")]
    Unknown(u8),
    #[error("call id {0} is not above the one before")]
    Order(u64),
}
