//! What the headers of a call say beside its body: deadline and trace.

use std::time::Duration;

use hyper::header::HeaderMap;
use tokio::time::Instant;

use super::reply::Refusal;
use crate::{Code, Status, TraceContext};

/// Reads `micro-timeout: 200ms`.
pub(super) fn deadline(headers: &HeaderMap) -> Result<Option<Instant>, Refusal> {
    let Some(value) = headers.get("micro-timeout") else { return Ok(None) };
    let timeout = value.to_str().ok().and_then(parse_timeout).ok_or_else(|| {
        let message = "micro-timeout is a whole number with a unit, such as 200ms, 2s or 500us";
        Status::new(Code::InvalidArgument, message)
    })?;
    Ok(Some(Instant::now() + timeout))
}

/// A `traceparent` that cannot be read starts no trace, as the recommendation asks.
pub(super) fn trace(headers: &HeaderMap) -> Option<TraceContext> {
    headers.get("traceparent")?.to_str().ok()?.parse().ok()
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
}
