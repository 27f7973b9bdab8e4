//! The identity of a trace, as W3C Trace Context has it.

use std::fmt;
use std::str::FromStr;

/// The trace a call belongs to, and the span that makes it.
///
/// `Display` and `FromStr` are the `traceparent` header of
/// [W3C Trace Context](https://www.w3.org/TR/trace-context/), version 00.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    flags: u8,
}

impl TraceContext {
    /// The flag that says this trace is recorded.
    pub const SAMPLED: u8 = 1;

    /// Starts a trace: random ids, sampled.
    #[must_use]
    pub fn new_root() -> Self {
        let mut trace_id = [0; 16];
        trace_id[..8].copy_from_slice(&fastrand::u64(..).to_be_bytes());
        trace_id[8..].copy_from_slice(&random_span());
        Self { trace_id, span_id: random_span(), flags: Self::SAMPLED }
    }

    /// Returns a new span of the same trace.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { span_id: random_span(), ..*self }
    }

    /// Builds a context from its parts; `None` when either id is all zero, which means "no trace".
    #[must_use]
    pub fn from_parts(trace_id: [u8; 16], span_id: [u8; 8], flags: u8) -> Option<Self> {
        let valid = trace_id != [0; 16] && span_id != [0; 8];
        valid.then_some(Self { trace_id, span_id, flags })
    }

    /// Returns the trace id; it displays as 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(&self) -> TraceId {
        TraceId(self.trace_id)
    }

    /// Returns the id of the span that makes the call.
    #[must_use]
    pub fn span_id(&self) -> [u8; 8] {
        self.span_id
    }

    /// Returns the flags; [`TraceContext::SAMPLED`] is the only one defined.
    #[must_use]
    pub fn flags(&self) -> u8 {
        self.flags
    }

    pub(crate) fn to_bytes(self) -> [u8; 25] {
        let mut bytes = [0; 25];
        bytes[..16].copy_from_slice(&self.trace_id);
        bytes[16..24].copy_from_slice(&self.span_id);
        bytes[24] = self.flags;
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8; 25]) -> Option<Self> {
        let (ids, flags) = bytes.split_at(24);
        let trace_id = *ids.first_chunk::<16>()?;
        Self::from_parts(trace_id, *ids.last_chunk::<8>()?, flags[0])
    }
}

fn random_span() -> [u8; 8] {
    fastrand::u64(1..).to_be_bytes()
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = u64::from_be_bytes(self.span_id);
        write!(f, "00-{}-{span:016x}-{:02x}", self.trace_id(), self.flags)
    }
}

impl FromStr for TraceContext {
    type Err = InvalidTraceparent;

    fn from_str(text: &str) -> Result<Self, InvalidTraceparent> {
        parse(text).ok_or(InvalidTraceparent)
    }
}

/// Later versions may append fields, so only version 00 has to end after the flags.
fn parse(text: &str) -> Option<TraceContext> {
    let mut parts = text.split('-');
    let version = u8::try_from(hex(parts.next()?, 2)?).ok()?;
    let trace_id = hex(parts.next()?, 32)?.to_be_bytes();
    let span_id = u64::try_from(hex(parts.next()?, 16)?).ok()?.to_be_bytes();
    let flags = u8::try_from(hex(parts.next()?, 2)?).ok()?;
    if version == 0xff || (version == 0 && parts.next().is_some()) {
        return None;
    }
    TraceContext::from_parts(trace_id, span_id, flags)
}

/// Reads exactly `digits` lower-case hexadecimal digits; `from_str_radix` alone would take a sign.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let lower = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    (text.len() == digits && text.bytes().all(lower))
        .then(|| u128::from_str_radix(text, 16).ok())?
}

/// The id all spans of one trace share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

impl TraceId {
    /// Returns the sixteen bytes of the id.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// A text that is not a `traceparent` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a traceparent is `00-<32 hex>-<16 hex>-<2 hex>` in lower case, with ids that are not zero"
)]
pub struct InvalidTraceparent;

#[cfg(test)]
mod tests {
    use super::*;

    /// A context survives both of its encodings, and a child stays in its trace.
    #[test]
    fn round_trips() {
        let root = TraceContext::new_root();
        assert_eq!(root.to_string().parse(), Ok(root));
        assert_eq!(TraceContext::from_bytes(&root.to_bytes()), Some(root));
        assert_eq!(root.child().trace_id(), root.trace_id());
        assert_ne!(root.child().span_id(), root.span_id());
    }

    /// The header is read as strictly as the recommendation asks.
    #[test]
    fn refuses_malformed_headers() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(good.parse::<TraceContext>().unwrap().to_string(), good);
        for bad in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-+7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
        ] {
            assert!(bad.parse::<TraceContext>().is_err(), "{bad}");
        }
    }
}
