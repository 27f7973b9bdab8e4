//! Durations, as people write and read them.

use std::time::Duration;

/// Reads `200ms`, `30s` or `1.5h`, up to a year: beyond, no clock can tell when that is over.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_secs(365 * 24 * 3_600);
    let duration = micro::duration::parse(text)?;
    if duration > LONGEST { Err("expected at most a year".to_owned()) } else { Ok(duration) }
}

/// A duration to three digits that count: `1.23ms`.
pub(crate) fn text(duration: Duration) -> String {
    let nanos = duration.as_nanos() as f64;
    let (unit, size) = match nanos {
        n if n >= 1e9 => ("s", 1e9),
        n if n >= 1e6 => ("ms", 1e6),
        n if n >= 1e3 => ("us", 1e3),
        _ => ("ns", 1.0),
    };
    let value = nanos / size;
    let digits = if value >= 100.0 || size == 1.0 { 0 } else { 2 - usize::from(value >= 10.0) };
    format!("{value:.digits$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a deadline cannot be made of is refused.
    #[test]
    fn at_most_a_year() {
        assert_eq!(parse("8760h"), Ok(Duration::from_secs(365 * 24 * 3_600)));
        for long in ["8761h", "10000000000000000000s"] {
            assert_eq!(parse(long).unwrap_err(), "expected at most a year");
        }
    }

    /// Three digits say enough, in the unit that fits.
    #[test]
    fn three_digits() {
        for (nanos, expected) in [
            (0, "0ns"),
            (999, "999ns"),
            (1_234, "1.23us"),
            (12_345_678, "12.3ms"),
            (123_456_789, "123ms"),
            (61_000_000_000, "61.0s"),
        ] {
            assert_eq!(text(Duration::from_nanos(nanos)), expected);
        }
    }
}
