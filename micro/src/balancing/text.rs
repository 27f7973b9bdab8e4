//! What settings say of balancing, as people write it.

use micro_selector::{BudgetPolicy, Filter, Invalid, ThrottlePolicy};

use crate::duration;

/// A value with a text that is read and written, and rules of its own.
pub(super) trait Text: Sized {
    /// Reads it; the error says what is expected.
    fn parse(text: &str) -> Result<Self, String>;
    /// The text, as [`parse`](Self::parse) reads it.
    fn text(&self) -> String;
    /// Whether it makes sense.
    fn check(&self) -> Result<(), Invalid>;
}

/// What a rule asks for, without the value, which whoever reports it names with its origin.
pub(super) fn expectation(invalid: &Invalid) -> String {
    format!("expected {}", invalid.expected())
}

impl Text for Filter {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|invalid| expectation(&invalid))
    }

    fn text(&self) -> String {
        self.to_string()
    }

    fn check(&self) -> Result<(), Invalid> {
        self.check()
    }
}

/// `20% + 10/s`: of the calls, and per second; what is missing is none.
impl Text for BudgetPolicy {
    fn parse(text: &str) -> Result<Self, String> {
        let (mut share, mut per_second) = (None, None);
        for part in text.split('+').map(str::trim) {
            let is_repeated = if let Some(percent) = part.strip_suffix('%') {
                let percent: f64 = percent.trim().parse().map_err(|_| BUDGET)?;
                share.replace(percent / 100.0).is_some()
            } else {
                let number = part.strip_suffix("/s").ok_or(BUDGET)?;
                per_second.replace(number.trim().parse().map_err(|_| BUDGET)?).is_some()
            };
            if is_repeated {
                return Err(BUDGET.to_owned());
            }
        }
        Ok(Self::new(share.unwrap_or_default(), per_second.unwrap_or_default()))
    }

    fn text(&self) -> String {
        // Without the last digits that a share of 0.29 has as a percentage.
        let percent = (self.share * 1e8).round() / 1e6;
        format!("{percent}% + {}/s", self.per_second)
    }

    fn check(&self) -> Result<(), Invalid> {
        self.check()
    }
}

const BUDGET: &str = "expected a share of the calls and retries per second, such as 20% + 10/s, or one of them alone";

/// `1.7 over 1s`, or `off`.
impl Text for Option<ThrottlePolicy> {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(None);
        }
        let (k, window) = text.split_once(" over ").ok_or(THROTTLE)?;
        let k = k.trim().parse().map_err(|_| THROTTLE)?;
        let window = duration::parse(window.trim()).map_err(|_| THROTTLE)?;
        Ok(Some(ThrottlePolicy::new(k, window)))
    }

    fn text(&self) -> String {
        match self {
            Some(policy) => format!("{} over {}", policy.k, duration::text(policy.window)),
            None => "off".to_owned(),
        }
    }

    fn check(&self) -> Result<(), Invalid> {
        self.map_or(Ok(()), |policy| policy.check())
    }
}

const THROTTLE: &str = "expected off, or attempts for each that is accepted and how long to look \
                        back, such as 1.7 over 1s";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Everything is read as it is written.
    #[test]
    fn read_as_written() {
        for text in ["20% + 10/s", "0% + 3/s", "0.5% + 0/s", "29% + 1/s"] {
            assert_eq!(BudgetPolicy::parse(text).unwrap().text(), text);
        }
        assert_eq!(BudgetPolicy::parse("5%"), Ok(BudgetPolicy::new(0.05, 0)));
        assert_eq!(BudgetPolicy::parse("5/s"), Ok(BudgetPolicy::new(0.0, 5)));
        for text in ["20% + 30%", "1/s + 10% + 2/s", "", "10% +"] {
            assert!(BudgetPolicy::parse(text).is_err(), "{text}");
        }
        for text in ["1.7 over 1s", "2 over 120s", "off"] {
            assert_eq!(Option::parse(text).unwrap().text(), text);
        }
        let two_minutes = ThrottlePolicy::new(2.0, Duration::from_secs(120));
        assert_eq!(Option::parse("2 over 2m"), Ok(Some(two_minutes)));
        for text in ["version=^1.4", "version=>=1.4, <2; zone=a; label.track=canary"] {
            assert_eq!(Filter::parse(text).unwrap().text(), text);
        }
    }

    /// The texts of the defaults are the defaults.
    #[test]
    fn defaults_are_the_defaults() {
        use crate::settings::default;
        let budget = default("retry_budget").map(BudgetPolicy::parse);
        assert_eq!(budget, Some(Ok(BudgetPolicy::default())));
        let throttle = default("throttle").map(Option::parse);
        assert_eq!(throttle, Some(Ok(Some(ThrottlePolicy::default()))));
        let attempts = micro_selector::RetryPolicy::default().max_attempts.to_string();
        assert_eq!(default("attempts"), Some(&*attempts));
    }
}
