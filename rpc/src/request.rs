//! What is asked and what is answered, before and after the wire.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use bytes::Bytes;
use tokio::time::Instant;

use crate::{Codec, Metadata, Name, TraceContext};

/// One call: which method of which contract, the encoded arguments, and how to treat them.
///
/// Cloning is cheap, so that an attempt can be repeated with the same bytes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Request {
    /// The contract, at most 255 bytes.
    pub contract: Name,
    /// The method of the contract, at most 255 bytes.
    pub method: Name,
    /// The arguments, encoded with `codec`.
    pub body: Bytes,
    /// How `body` is encoded, and how the answer is to be.
    pub codec: Codec,
    /// When the caller stops waiting; `None` waits for ever. The remaining time travels, not the
    /// instant, so clocks need not agree.
    pub deadline: Option<Instant>,
    /// Pairs that travel beside the body.
    pub metadata: Metadata,
    /// The trace this call belongs to.
    pub trace: Option<TraceContext>,
    /// Running the method twice does no harm. Default `false`.
    pub idempotent: bool,
    /// Which attempt of a logical call this is; 0 is the first.
    pub attempt: u8,
    /// Who called: set by the server, ignored by a client.
    pub peer: Option<Peer>,
    /// Which calls an overloaded server sheds first.
    pub criticality: Criticality,
    /// This is a retry, or made on behalf of one: servers that make calls for it repeat none of
    /// those that may have been executed, and mark them likewise. Default `false`.
    pub no_retry: bool,
    /// What layers of one process hand on to each other and to the handler; it never travels.
    pub extensions: http::Extensions,
}

impl Request {
    /// Creates a first attempt with no deadline and no metadata, of default criticality.
    #[must_use]
    pub fn new(
        contract: impl Into<Name>,
        method: impl Into<Name>,
        codec: Codec,
        body: Bytes,
    ) -> Self {
        Self {
            contract: contract.into(),
            method: method.into(),
            body,
            codec,
            deadline: None,
            metadata: Metadata::new(),
            trace: None,
            idempotent: false,
            attempt: 0,
            peer: None,
            criticality: Criticality::default(),
            no_retry: false,
            extensions: http::Extensions::new(),
        }
    }
}

/// The answer to a [`Request`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Response {
    /// The result, encoded with `codec`.
    pub body: Bytes,
    /// How `body` is encoded.
    pub codec: Codec,
    /// Pairs that travel beside the body.
    pub metadata: Metadata,
}

impl Response {
    /// Creates an answer without metadata.
    #[must_use]
    pub fn new(codec: Codec, body: Bytes) -> Self {
        Self { body, codec, metadata: Metadata::new() }
    }
}

/// How much a call matters to an overloaded server, most important first.
///
/// Of the places that a server has for calls, each class may use its share: all of them, 95, 75 and
/// 50 percent, so that there is one left for what matters more.
///
/// The four classes are those of Google's SRE book, chapter "Handling Overload".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Criticality {
    /// Losing it has visible, serious effects.
    CriticalPlus = 0,
    /// Losing it is seen by a user. The default.
    #[default]
    Critical = 1,
    /// It may be lost for minutes, and is retried: batch work.
    SheddablePlus = 2,
    /// It may be lost for hours.
    Sheddable = 3,
}

impl Criticality {
    /// All classes, most important first.
    pub const ALL: [Self; 4] =
        [Self::CriticalPlus, Self::Critical, Self::SheddablePlus, Self::Sheddable];

    /// Returns the name it has over HTTP, such as `sheddable_plus`.
    #[must_use]
    pub fn name(self) -> &'static str {
        ["critical_plus", "critical", "sheddable_plus", "sheddable"][self as usize]
    }

    pub(crate) fn from_u8(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

impl fmt::Display for Criticality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Criticality {
    type Err = UnknownCriticality;

    /// Reads a [name](Criticality::name).
    fn from_str(name: &str) -> Result<Self, UnknownCriticality> {
        let class = Self::ALL.into_iter().find(|class| class.name() == name);
        class.ok_or_else(|| UnknownCriticality { name: name.to_owned() })
    }
}

/// No class of [`Criticality`] has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("criticality {name:?} is unknown: expected one of {}", known())]
pub struct UnknownCriticality {
    name: String,
}

fn known() -> String {
    Criticality::ALL.map(Criticality::name).join(", ")
}

/// The other end of a server's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Peer {
    /// A TCP connection from this address.
    Tcp(SocketAddr),
    /// A Unix socket: some process of this host.
    Unix,
    /// An in-memory pipe: this process.
    Memory,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix => f.pad("unix"),
            Self::Memory => f.pad("memory"),
        }
    }
}
