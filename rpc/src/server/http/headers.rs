//! What the headers of a call say beside its body: deadline, class, trace and metadata.

use std::time::Duration;

use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use tokio::time::Instant;

use super::reply::Refusal;

use crate::{Code, Criticality, Metadata, Status, TraceContext, UnknownCriticality};

/// When a call ends that begins now.
pub(super) fn deadline(headers: &HeaderMap) -> Result<Option<Instant>, Refusal> {
    Ok(timeout(headers)?.map(|timeout| Instant::now() + timeout))
}

/// Reads `micro-timeout: 200ms`; a day at most.
///
/// # Errors
///
/// A refusal with 400 for another form.
pub fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Refusal> {
    let Some(value) = headers.get("micro-timeout") else { return Ok(None) };
    let timeout = value.to_str().ok().and_then(parse_timeout).ok_or_else(|| {
        let message = "micro-timeout is a whole number with a unit, such as 200ms, 2s or 500us";
        Status::new(Code::InvalidArgument, message)
    })?;
    Ok(Some(timeout))
}

/// Reads `micro-criticality: sheddable`.
///
/// # Errors
///
/// A refusal with 400 for another name, with those there are.
pub fn criticality(headers: &HeaderMap) -> Result<Criticality, Refusal> {
    let Some(value) = headers.get("micro-criticality") else { return Ok(Criticality::default()) };
    let name = String::from_utf8_lossy(value.as_bytes());
    name.parse().map_err(|unknown: UnknownCriticality| {
        Status::new(Code::InvalidArgument, unknown.to_string()).into()
    })
}

/// Reads `traceparent`. One that cannot be read starts no trace, as the recommendation asks.
pub fn trace(headers: &HeaderMap) -> Option<TraceContext> {
    headers.get("traceparent")?.to_str().ok()?.parse().ok()
}

/// Reads `micro-meta-key: value`, and `authorization`, which is a key of that name.
///
/// # Errors
///
/// A refusal with 400 for metadata that breaks a rule.
pub fn metadata(headers: &HeaderMap) -> Result<Metadata, Refusal> {
    let mut metadata = Metadata::new();
    for (name, value) in headers {
        let Some(key) = key_of(name) else { continue };
        let value = std::str::from_utf8(value.as_bytes()).ok();
        let Some(value) = value.filter(|_| metadata.get(key).is_none()) else {
            return Err(Refusal::malformed(name.as_str()));
        };
        metadata
            .insert(key, value)
            .map_err(|error| Status::new(Code::InvalidArgument, error.to_string()))?;
    }
    Ok(metadata)
}

/// Adds a header for each entry, except those whose value HTTP has no place for: one with line
/// breaks or other control characters.
pub fn put_metadata(headers: &mut HeaderMap, metadata: &Metadata) {
    for (key, value) in metadata.iter() {
        let name = HeaderName::try_from(format!("{META}{key}"));
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.as_bytes())) {
            headers.insert(name, value);
        }
    }
}

/// Says after how many whole seconds, one at least, a retry may be of use: HTTP has no shorter ones.
pub(super) fn put_retry_after(headers: &mut HeaderMap, wait: Duration) {
    let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0));
    headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
}

/// What the headers that are metadata begin with.
const META: &str = "micro-meta-";

fn key_of(name: &HeaderName) -> Option<&str> {
    let name = name.as_str();
    if name == AUTHORIZATION.as_str() { Some(name) } else { name.strip_prefix(META) }
}

/// A day is as good as for ever, and cannot overflow a clock.
fn parse_timeout(text: &str) -> Option<Duration> {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit_at);
    let number = number.parse().ok()?;
    let timeout = match unit {
        "us" => Duration::from_micros(number),
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        _ => return None,
    };
    Some(timeout.min(DAY))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A timeout needs its unit, and an absurd one does not overflow.
    #[test]
    fn timeouts() {
        assert_eq!(parse_timeout("200ms"), Some(Duration::from_millis(200)));
        assert_eq!(parse_timeout("2s"), Some(Duration::from_secs(2)));
        assert_eq!(parse_timeout("18446744073709551615s"), Some(Duration::from_secs(86_400)));
        for wrong in ["", "5", "ms", "-5s", "1.5s", "5 s", "99999999999999999999s"] {
            assert_eq!(parse_timeout(wrong), None, "{wrong}");
        }
    }

    /// Whoever comes back after what is said is not too early, and nobody is told to come at once.
    #[test]
    fn waits_are_rounded_up() {
        for (ms, seconds) in [(0, "1"), (10, "1"), (1000, "1"), (1001, "2")] {
            let mut headers = HeaderMap::new();
            put_retry_after(&mut headers, Duration::from_millis(ms));
            assert_eq!(headers[RETRY_AFTER], seconds);
        }
        put_retry_after(&mut HeaderMap::new(), Duration::MAX);
    }

    /// What HTTP cannot carry is left out, and takes nothing else with it.
    #[test]
    fn values_that_no_header_has() {
        let mut metadata = Metadata::new();
        for (key, value) in [("a", "two\r\nlines"), ("b", "é"), ("c", "")] {
            metadata.insert(key, value).unwrap();
        }
        let mut headers = HeaderMap::new();
        put_metadata(&mut headers, &metadata);
        assert_eq!(headers.len(), 2);
        assert_eq!(headers["micro-meta-b"].as_bytes(), "é".as_bytes());
        assert_eq!(headers["micro-meta-c"], "");
    }
}
