//! Durations as people write them: a number and a unit.

use std::time::Duration;

const NANOS: [(&str, u64); 6] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Parses `200ms`, `2s`, `5m`.
///
/// # Errors
///
/// A sentence on what is wrong and what to write, when the text is anything else, zero, or longer
/// than 584 years.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
    let nanos = NANOS.iter().find(|(name, _)| *name == unit).map(|(_, nanos)| nanos);
    let (Ok(number), Some(nanos)) = (number.parse::<u64>(), nanos) else {
        return Err("expected a whole number and a unit (ns, us, ms, s, m, h): \
                    \"200ms\", \"2s\", \"5m\""
            .to_owned());
    };
    match number.checked_mul(*nanos) {
        Some(0) => Err("nothing is done in no time: leave it out, or write \"200ms\"".to_owned()),
        Some(nanos) => Ok(Duration::from_nanos(nanos)),
        None => Err("this is longer than 584 years: write less, such as \"5m\"".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every unit means what its name says.
    #[test]
    fn units() {
        for (text, expected) in [
            ("1ns", Duration::from_nanos(1)),
            ("20us", Duration::from_micros(20)),
            ("200ms", Duration::from_millis(200)),
            ("2s", Duration::from_secs(2)),
            ("5m", Duration::from_secs(300)),
            ("1h", Duration::from_secs(3600)),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    /// Anything else is refused, with an example of what is right.
    #[test]
    fn refusals() {
        for text in ["", "200", "ms", "-1s", "1.5s", "2 s", "2S", "2sec", "0s", "99999999999999h"] {
            let error = parse(text).expect_err(text);
            assert!(error.contains("\"200ms\"") || error.contains("\"5m\""), "{text}: {error}");
        }
    }
}
