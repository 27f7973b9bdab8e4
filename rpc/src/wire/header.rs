//! What precedes the body in a request and in a response.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};

use super::{Head, kind};
use crate::metadata::RETRY_AFTER;
use crate::status::End;
use crate::{Code, Codec, Criticality, Metadata, Request, Response, Status, TraceContext};

/// A field of a header that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {0} of the header cannot be read")]
pub(crate) struct HeaderError(&'static str);

/// The longest timeout that is believed; more is as good as none, and far from overflowing clocks.
const MAX_TIMEOUT: Duration = Duration::from_secs(30 * 24 * 3600);
/// After the timeout, the codec, the flags and the attempt.
const CRITICALITY_AT: usize = 11;
const TRACE_LEN: usize = 25;
const NAME_MAX: usize = u8::MAX as usize;
const MESSAGE_MAX: usize = u16::MAX as usize;

mod call_flag {
    pub(super) const IDEMPOTENT: u8 = 1;
    pub(super) const NO_RETRY: u8 = 2;
    pub(super) const HAS_TRACE: u8 = 4;
}

mod answer_flag {
    pub(super) const HAS_DETAILS: u8 = 1;
    pub(super) const REFUSED: u8 = 2;
    pub(super) const INTERRUPTED: u8 = 4;
}

/// Returns the payload's length, or `None` when a name is longer than its length byte can say.
pub(crate) fn request_len(request: &Request) -> Option<usize> {
    if request.contract.len() > NAME_MAX || request.method.len() > NAME_MAX {
        return None;
    }
    let trace = if request.trace.is_some() { TRACE_LEN } else { 0 };
    let names = 2 + request.contract.len() + request.method.len();
    Some(12 + trace + names + 2 + request.metadata.encoded_len() + request.body.len())
}

/// Appends a request frame; `payload` is its [`request_len`].
pub(crate) fn put_request(
    out: &mut BytesMut,
    id: u64,
    request: &Request,
    timeout: Option<Duration>,
    payload: usize,
) {
    let mut room = Room::new(out, Head::new(kind::REQUEST, id, payload), request.body.len());
    room.put(timeout.map_or(0, micros).to_be_bytes());
    let Request { attempt, criticality, .. } = *request;
    room.put([request.codec.id(), call_flags(request), attempt, criticality as u8]);
    if let Some(trace) = request.trace {
        room.put(trace.to_bytes());
    }
    room.put_name(&request.contract);
    room.put_name(&request.method);
    room.put_metadata(&request.metadata);
    room.end();
    out.extend_from_slice(&request.body);
}

/// Zero means "no timeout" on the wire, so what is left is at least one microsecond.
fn micros(timeout: Duration) -> u64 {
    u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX).max(1)
}

fn call_flags(request: &Request) -> u8 {
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    flag(request.idempotent, call_flag::IDEMPOTENT)
        | flag(request.no_retry, call_flag::NO_RETRY)
        | flag(request.trace.is_some(), call_flag::HAS_TRACE)
}

/// A request's header; names are borrowed, so that looking them up allocates nothing.
#[derive(Debug)]
pub(crate) struct RequestHead<'a> {
    pub(crate) timeout: Option<Duration>,
    pub(crate) codec: Codec,
    pub(crate) idempotent: bool,
    pub(crate) no_retry: bool,
    pub(crate) attempt: u8,
    pub(crate) criticality: Criticality,
    pub(crate) trace: Option<TraceContext>,
    pub(crate) contract: &'a str,
    pub(crate) method: &'a str,
    pub(crate) metadata: Metadata,
    /// Where the body begins in the payload.
    pub(crate) body_at: usize,
}

/// Reads the criticality alone of a request.
pub(crate) fn criticality(payload: &[u8]) -> Option<Criticality> {
    Criticality::from_u8(*payload.get(CRITICALITY_AT)?)
}

/// Reads the header of a request.
///
/// # Errors
///
/// Names the first field that makes no sense. Unknown flags are for later versions to use.
pub(crate) fn decode_request(payload: &[u8]) -> Result<RequestHead<'_>, HeaderError> {
    let mut fields = Fields(payload);
    let timeout_us = u64::from_be_bytes(fields.array("timeout")?);
    let timeout = (timeout_us > 0).then(|| Duration::from_micros(timeout_us).min(MAX_TIMEOUT));
    let [codec, flags, attempt, criticality] = fields.array("flags")?;
    let has = |flag: u8| flags & flag != 0;
    Ok(RequestHead {
        timeout,
        codec: Codec::from_id(codec).ok_or(HeaderError("codec"))?,
        idempotent: has(call_flag::IDEMPOTENT),
        no_retry: has(call_flag::NO_RETRY),
        attempt,
        criticality: Criticality::from_u8(criticality).ok_or(HeaderError("criticality"))?,
        trace: if has(call_flag::HAS_TRACE) { fields.trace()? } else { None },
        contract: fields.name("contract")?,
        method: fields.name("method")?,
        metadata: fields.metadata()?,
        body_at: payload.len() - fields.0.len(),
    })
}

/// Appends a response frame; an answer above `max_frame` is replaced by a status that says so.
pub(crate) fn put_response(
    out: &mut BytesMut,
    id: u64,
    outcome: &Result<Response, Status>,
    max_frame: usize,
) {
    let payload = response_len(outcome);
    if Head::REST + payload > max_frame {
        let message = format!(
            "the answer of {payload} bytes is more than the {max_frame} the caller accepts in a frame"
        );
        let status = Status::new(Code::ResourceExhausted, message);
        return put_status(out, id, &status);
    }
    match outcome {
        Ok(response) => put_success(out, id, response, payload),
        Err(status) => put_status(out, id, status),
    }
}

/// Appends the answer to a request that an overloaded server refuses: what [`put_response`] makes of
/// such a status, without making one. Refusing has to cost much less than serving.
pub(crate) fn put_overloaded(out: &mut BytesMut, id: u64, message: &str, wait: Duration) {
    let mut digits = [0; 20];
    let value = retry_after_ms(wait, &mut digits);
    let metadata = 3 + RETRY_AFTER.len() + value.len();
    let payload = 5 + metadata + 2 + message.len();
    let mut room = Room::new(out, Head::new(kind::RESPONSE, id, payload), 0);
    let code = Code::ResourceExhausted as u8;
    room.put([code, Codec::default().id(), answer_flag::REFUSED]);
    room.put((metadata as u16).to_be_bytes());
    room.put_name(RETRY_AFTER);
    room.put_long(value);
    room.put_long(message.as_bytes());
    room.end();
}

fn retry_after_ms(wait: Duration, digits: &mut [u8; 20]) -> &[u8] {
    let mut rest = wait.as_nanos().div_ceil(1_000_000) as u64;
    let mut at = digits.len();
    while at == digits.len() || rest > 0 {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    &digits[at..]
}

fn response_len(outcome: &Result<Response, Status>) -> usize {
    match outcome {
        Ok(response) => 5 + response.metadata.encoded_len() + response.body.len(),
        Err(status) => status_len(status),
    }
}

fn status_len(status: &Status) -> usize {
    let details = status.details().map_or(0, |(_, details)| details.len());
    5 + status.metadata().encoded_len() + 2 + message(status).len() + details
}

fn put_success(out: &mut BytesMut, id: u64, response: &Response, payload: usize) {
    let head = Head::new(kind::RESPONSE, id, payload);
    let mut room = Room::new(out, head, response.body.len());
    room.put([0, response.codec.id(), 0]);
    room.put_metadata(&response.metadata);
    room.end();
    out.extend_from_slice(&response.body);
}

fn put_status(out: &mut BytesMut, id: u64, status: &Status) {
    let payload = status_len(status);
    let (codec, details) = status.details().unzip();
    let end = match status.end() {
        End::Answered => 0,
        End::Refused => answer_flag::REFUSED,
        End::Interrupted => answer_flag::INTERRUPTED,
    };
    let has_details = if details.is_some() { answer_flag::HAS_DETAILS } else { 0 };
    let details = details.map_or(&[][..], |details| details);
    let mut room = Room::new(out, Head::new(kind::RESPONSE, id, payload), details.len());
    room.put([status.code() as u8, codec.unwrap_or_default().id(), end | has_details]);
    room.put_metadata(status.metadata());
    room.put_long(message(status).as_bytes());
    room.end();
    out.extend_from_slice(details);
}

/// The message, cut where its length field ends.
fn message(status: &Status) -> &str {
    let text = status.message();
    &text[..text.floor_char_boundary_at(MESSAGE_MAX)]
}

/// `str::floor_char_boundary` is younger than the oldest compiler this builds with.
trait FloorCharBoundary {
    fn floor_char_boundary_at(&self, at: usize) -> usize;
}

impl FloorCharBoundary for str {
    fn floor_char_boundary_at(&self, at: usize) -> usize {
        if at >= self.len() {
            return self.len();
        }
        (0..=at).rev().find(|at| self.is_char_boundary(*at)).unwrap_or(0)
    }
}

/// Reads a response: what the server answered, either way.
///
/// # Errors
///
/// Names the first field that makes no sense.
pub(crate) fn decode_response(mut payload: Bytes) -> Result<Result<Response, Status>, HeaderError> {
    let mut fields = Fields(&payload);
    let [code, codec, flags] = fields.array("status")?;
    let codec = Codec::from_id(codec).ok_or(HeaderError("codec"))?;
    let metadata = fields.metadata()?;
    if code == 0 {
        let body_at = payload.len() - fields.0.len();
        payload.advance(body_at);
        return Ok(Ok(Response { body: payload, codec, metadata }));
    }
    let code = Code::from_u8(code).unwrap_or(Code::Unknown);
    let length = u16::from_be_bytes(fields.array("message")?);
    let status = Status::new(code, fields.text("message", length.into())?);
    let details_at = payload.len() - fields.0.len();
    Ok(Err(answer(status.with_metadata(metadata), flags, codec, payload.slice(details_at..))))
}

fn answer(status: Status, flags: u8, codec: Codec, details: Bytes) -> Status {
    let status = match flags {
        refused if refused & answer_flag::REFUSED != 0 => status.refused(),
        cut if cut & answer_flag::INTERRUPTED != 0 => status.interrupted(),
        _ => status,
    };
    match flags & answer_flag::HAS_DETAILS {
        0 => status,
        _ => status.with_details(codec, details),
    }
}

/// Room for what precedes a body, made at once: a buffer that grows field by field asks each time
/// whether it has to.
struct Room<'a>(&'a mut [u8]);

impl<'a> Room<'a> {
    /// Appends a frame with this head to `out`, but for the last `body` bytes, which are left to append.
    fn new(out: &'a mut BytesMut, head: Head, body: usize) -> Self {
        let start = out.len();
        let length = 4 + head.length as usize;
        out.reserve(length);
        out.resize(start + length - body, 0);
        let mut room = Self(&mut out[start..]);
        room.put(head.to_bytes());
        room
    }

    fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        self.put_slice(&bytes);
    }

    #[inline]
    fn put_slice(&mut self, bytes: &[u8]) {
        let (place, rest) = std::mem::take(&mut self.0).split_at_mut(bytes.len());
        place.copy_from_slice(bytes);
        self.0 = rest;
    }

    fn put_name(&mut self, name: &str) {
        self.put([name.len() as u8]);
        self.put_slice(name.as_bytes());
    }

    fn put_long(&mut self, bytes: &[u8]) {
        self.put((bytes.len() as u16).to_be_bytes());
        self.put_slice(bytes);
    }

    /// Nothing is left: the length that was announced is that of the fields.
    fn end(self) {
        debug_assert!(self.0.is_empty(), "{} bytes are left", self.0.len());
    }

    fn put_metadata(&mut self, metadata: &Metadata) {
        self.put((metadata.encoded_len() as u16).to_be_bytes());
        for (key, value) in metadata.iter() {
            self.put_name(key);
            self.put_long(value.as_bytes());
        }
    }
}

/// What is left to read of a header.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], HeaderError> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(HeaderError(field))?;
        self.0 = rest;
        Ok(*bytes)
    }

    fn slice(&mut self, field: &'static str, length: usize) -> Result<&'a [u8], HeaderError> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(HeaderError(field))?;
        self.0 = rest;
        Ok(bytes)
    }

    fn text(&mut self, field: &'static str, length: usize) -> Result<&'a str, HeaderError> {
        std::str::from_utf8(self.slice(field, length)?).map_err(|_| HeaderError(field))
    }

    fn name(&mut self, field: &'static str) -> Result<&'a str, HeaderError> {
        let [length] = self.array(field)?;
        self.text(field, length.into())
    }

    /// A context with a zero id means "no trace", as in the header it comes from.
    fn trace(&mut self) -> Result<Option<TraceContext>, HeaderError> {
        self.array::<TRACE_LEN>("trace").map(|bytes| TraceContext::from_bytes(&bytes))
    }

    fn metadata(&mut self) -> Result<Metadata, HeaderError> {
        const FIELD: &str = "metadata";
        let length = u16::from_be_bytes(self.array(FIELD)?);
        let mut entries = Fields(self.slice(FIELD, length.into())?);
        let mut metadata = Metadata::new();
        while !entries.0.is_empty() {
            let key = entries.name(FIELD)?;
            let length = u16::from_be_bytes(entries.array(FIELD)?);
            let value = entries.text(FIELD, length.into())?;
            let count = metadata.len();
            metadata.insert(key, value).map_err(|_| HeaderError(FIELD))?;
            // A key that comes twice would make the header larger than the limits count.
            if metadata.len() == count {
                return Err(HeaderError(FIELD));
            }
        }
        Ok(metadata)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Inbox, Incoming};
    use proptest::prelude::*;

    const MAX: usize = 1 << 20;

    fn metadata() -> impl Strategy<Value = Metadata> {
        prop::collection::btree_map("[a-z0-9._-]{1,20}", ".{0,40}", 0..5).prop_map(|pairs| {
            let mut metadata = Metadata::new();
            pairs.iter().for_each(|(key, value)| metadata.insert(key, value).unwrap());
            metadata
        })
    }

    fn codec() -> impl Strategy<Value = Codec> {
        prop_oneof![Just(Codec::MessagePack), Just(Codec::Json)]
    }

    prop_compose! {
        fn request()(
            (contract, method) in (".{0,60}", ".{0,60}"),
            codec in codec(),
            body in prop::collection::vec(any::<u8>(), 0..300),
            metadata in metadata(),
            (idempotent, no_retry, traced) in any::<(bool, bool, bool)>(),
            (attempt, criticality) in (any::<u8>(), 0..4_u8),
        ) -> Request {
            let mut request = Request::new(contract, method, codec, body.into());
            request.metadata = metadata;
            request.trace = traced.then(TraceContext::new_root);
            (request.idempotent, request.no_retry, request.attempt) = (idempotent, no_retry, attempt);
            request.criticality = Criticality::from_u8(criticality).unwrap();
            request
        }
    }

    prop_compose! {
        fn outcome()(
            codec in codec(),
            body in prop::collection::vec(any::<u8>(), 0..300),
            metadata in metadata(),
            code in 0..=16_u8,
            message in ".{0,60}",
            (has_details, end) in (any::<bool>(), 0..3_u8),
        ) -> Result<Response, Status> {
            let Some(code) = Code::from_u8(code) else {
                return Ok(Response { body: body.into(), codec, metadata });
            };
            let status = Status::new(code, message).with_metadata(metadata);
            let status = match end { 0 => status, 1 => status.refused(), _ => status.interrupted() };
            Err(if has_details { status.with_details(codec, body.into()) } else { status })
        }
    }

    fn only_payload(bytes: BytesMut) -> Bytes {
        let mut inbox = Inbox::new(MAX);
        inbox.space().extend_from_slice(&bytes);
        let Ok(Some(Incoming::Frame(_, payload))) = inbox.next() else { panic!("no frame") };
        assert!(!inbox.is_mid_frame(), "the length is exact");
        payload
    }

    fn respond(outcome: &Result<Response, Status>, max: usize) -> Result<Response, Status> {
        let mut out = BytesMut::new();
        put_response(&mut out, 3, outcome, max);
        decode_response(only_payload(out)).unwrap()
    }

    proptest! {
        /// Every field of a request arrives as it was sent.
        #[test]
        fn requests_round_trip(sent in request(), timeout in prop::option::of(1..u64::MAX)) {
            let timeout = timeout.map(Duration::from_micros);
            let mut out = BytesMut::new();
            match request_len(&sent) {
                None => return Ok(()),
                Some(payload) => put_request(&mut out, 3, &sent, timeout, payload),
            }
            let payload = only_payload(out);
            let head = decode_request(&payload).unwrap();
            prop_assert_eq!((head.contract, head.method), (&*sent.contract, &*sent.method));
            prop_assert_eq!((head.codec, head.criticality), (sent.codec, sent.criticality));
            prop_assert_eq!((head.idempotent, head.no_retry), (sent.idempotent, sent.no_retry));
            prop_assert_eq!((head.attempt, head.trace), (sent.attempt, sent.trace));
            prop_assert_eq!(head.timeout, timeout.map(|timeout| timeout.min(MAX_TIMEOUT)));
            prop_assert_eq!(&payload[head.body_at..], &sent.body[..]);
            prop_assert_eq!(head.metadata, sent.metadata);
        }

        /// Every field of an answer arrives as it was sent.
        #[test]
        fn responses_round_trip(sent in outcome()) {
            match (respond(&sent, MAX), sent) {
                (Ok(got), Ok(sent)) => {
                    prop_assert_eq!((got.body, got.codec, got.metadata), (sent.body, sent.codec, sent.metadata));
                }
                (Err(got), Err(sent)) => prop_assert_eq!(got.into_parts(), sent.into_parts()),
                (got, sent) => prop_assert!(false, "sent {sent:?}, got {got:?}"),
            }
        }

        /// Random bytes are a header or an error, and never a panic.
        #[test]
        fn random_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_request(&bytes);
            let _ = decode_response(bytes.into());
        }

        /// A header that was cut short is an error or has a shorter body; never a panic.
        #[test]
        fn cut_headers_do_no_harm(sent in request(), cut in any::<prop::sample::Index>()) {
            let mut out = BytesMut::new();
            if let Some(payload) = request_len(&sent) {
                put_request(&mut out, 3, &sent, None, payload);
                let payload = only_payload(out);
                let _ = decode_request(&payload[..cut.index(payload.len())]);
            }
        }
    }

    /// A refusal by an overloaded server is, byte by byte, what its status would be, whatever the
    /// wait; and a request's criticality is found without reading the rest.
    #[test]
    fn shortcuts_are_exact() {
        for wait in [0, 1, 10_500_000, 1_000_000_000, u64::MAX].map(Duration::from_nanos) {
            let status = Status::new(Code::ResourceExhausted, "busy").with_retry_after(wait);
            let (mut slow, mut quick) = (BytesMut::new(), BytesMut::new());
            put_response(&mut slow, 7, &Err(status.refused()), 1024);
            put_overloaded(&mut quick, 7, "busy", wait);
            assert_eq!(quick, slow);
        }
        for class in Criticality::ALL {
            let mut request = Request::new("c", "m", Codec::Json, Bytes::new());
            request.criticality = class;
            let mut frame = BytesMut::new();
            put_request(&mut frame, 1, &request, None, request_len(&request).unwrap());
            assert_eq!(criticality(&frame[Head::LEN..]), Some(class));
        }
        assert_eq!(criticality(&[0; 11]), None);
    }

    /// An answer that does not fit becomes a status that does.
    #[test]
    fn oversized_answers_become_a_status() {
        let large = Response::new(Codec::Json, vec![0; 2000].into());
        let status = respond(&Ok(large), 1024).unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(!status.is_refused());
    }

    /// A message longer than its length field is cut between characters.
    #[test]
    fn long_messages_are_cut() {
        let status = Status::new(Code::Internal, "ä".repeat(40_000));
        let got = respond(&Err(status), MAX).unwrap_err();
        assert_eq!(got.message().len(), 65_534);
    }

    /// A key that comes twice is an error, in a request and in a response.
    #[test]
    fn keys_come_once() {
        let mut request = Request::new("a", "b", Codec::Json, Bytes::new());
        request.metadata.insert("k1", "v").unwrap();
        request.metadata.insert("k2", "w").unwrap();
        let mut out = BytesMut::new();
        put_request(&mut out, 1, &request, None, request_len(&request).unwrap());
        let twice = |payload: &[u8]| {
            let at = payload.windows(2).position(|two| two == b"k2").unwrap();
            [&payload[..at], b"k1", &payload[at + 2..]].concat()
        };
        let payload = only_payload(out);
        assert!(decode_request(&payload).is_ok());
        assert_eq!(decode_request(&twice(&payload)).unwrap_err(), HeaderError("metadata"));
        let mut response = Response::new(Codec::Json, Bytes::new());
        response.metadata = request.metadata;
        let mut out = BytesMut::new();
        put_response(&mut out, 1, &Ok(response), MAX);
        let payload = only_payload(out);
        assert_eq!(decode_response(twice(&payload).into()).unwrap_err(), HeaderError("metadata"));
    }
}
