//! Durations as people write them, in settings and on command lines.

use std::time::Duration;

/// Parses `100us`, `200ms`, `30s`, `5m` or `1.5h`.
///
/// # Errors
///
/// What would have been right, for anything else.
pub fn parse(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str =
        "expected a number and a unit (us, ms, s, m or h), for example 200ms, 30s or 1.5h";
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).ok_or(EXPECTED)?;
    let (number, unit) = text.split_at(unit_at);
    let number: f64 = number.trim().parse().map_err(|_| EXPECTED)?;
    let seconds = match unit {
        "us" => number / 1e6,
        "ms" => number / 1e3,
        "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err(EXPECTED.to_owned()),
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| EXPECTED.to_owned())
}

/// The text of a duration, as [`parse`] reads it if it has no nanoseconds.
pub fn text(duration: Duration) -> String {
    match duration {
        Duration::ZERO => "0s".to_owned(),
        other => format!("{other:?}").replace('µ', "u"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every unit is understood, and written as it is read; what is not a duration says what would be.
    #[test]
    fn parses_what_people_write() {
        assert_eq!(parse("200ms"), Ok(Duration::from_millis(200)));
        assert_eq!(parse("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(parse("1h"), Ok(Duration::from_secs(3600)));
        for text in ["0s", "250us", "1.5ms", "30s"] {
            assert_eq!(super::text(parse(text).unwrap()), text);
        }
        for bad in ["", "30", "s", "-1s", "1d", "infs", "1e400s", "ten s", "1min", "nans"] {
            assert!(parse(bad).unwrap_err().contains("(us, ms, s, m or h)"), "{bad}");
        }
    }
}
