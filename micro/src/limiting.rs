//! What a service bears, by code and settings.

use std::collections::BTreeMap;

use micro_rpc::Limits;

use crate::settings::{self, Resolved};
use crate::{Error, Result, Settings, duration};

/// The limits that apply: those of code, and above them what the settings say of each.
///
/// # Errors
///
/// `invalid_argument`, naming the limit, its value, its origin and what would be right.
pub(crate) fn settle(code: &Limits, settings: &Settings) -> Result<Limits> {
    let (mut limits, mut said) = (code.clone(), BTreeMap::new());
    for field in &FIELDS {
        let read = |text: &str| {
            let mut with = limits.clone();
            let is_read = (field.read)(&mut with, text).is_some();
            is_read.then(|| (with, text.to_owned())).ok_or_else(|| field.expectation())
        };
        if let Some(Resolved { value: (with, text), origin }) =
            settings.resolve(field.key, None, read)?
        {
            limits = with;
            said.insert(field.key, (field, text, origin));
        }
    }
    limits.check().map_err(|invalid| match said.get(invalid.name()) {
        Some((field, text, origin)) => {
            let expected = format!("{}; the nearest is {}", field.expectation(), invalid.nearest());
            settings::invalid(field.key, text, origin, &expected)
        }
        None => Error::invalid(format!("limit from code: {invalid}")),
    })?;
    Ok(limits)
}

/// What code says of each, where that is not the default.
pub(crate) fn said(code: &Limits) -> impl Iterator<Item = (&'static str, Option<String>)> {
    let default = Limits::default();
    FIELDS.iter().map(move |field| {
        let text = (field.text)(code);
        (field.key, (text != (field.text)(&default)).then_some(text))
    })
}

/// A limit as people write it.
struct Field {
    key: &'static str,
    expected: &'static str,
    /// Reads it; `None` for what is no such value, in range or not.
    read: fn(&mut Limits, &str) -> Option<()>,
    text: fn(&Limits) -> String,
}

impl Field {
    fn expectation(&self) -> String {
        format!("expected {}", self.expected)
    }
}

const FIELDS: [Field; 12] = [
    Field {
        key: "max_frame",
        expected: "a number of bytes, 1024 to 67108864",
        read: |limits, text| number(text).map(|value| limits.max_frame = value),
        text: |limits| limits.max_frame.to_string(),
    },
    Field {
        key: "max_metadata",
        expected: "a number of bytes, at most 16384",
        read: |limits, text| number(text).map(|value| limits.max_metadata = value),
        text: |limits| limits.max_metadata.to_string(),
    },
    Field {
        key: "max_in_flight",
        expected: "a number, 1 to 65536",
        read: |limits, text| number(text).map(|value| limits.max_in_flight = value),
        text: |limits| limits.max_in_flight.to_string(),
    },
    Field {
        key: "max_rate_per_peer",
        expected: "a number of calls a second, at least 1, or off",
        read: |limits, text| rate(text).map(|value| limits.max_rate_per_peer = value),
        text: |limits| {
            limits.max_rate_per_peer.map_or_else(|| OFF.to_owned(), |rate| rate.to_string())
        },
    },
    Field {
        key: "max_running",
        expected: "a number, 1 to 65536",
        read: |limits, text| number(text).map(|value| limits.max_running = value),
        text: |limits| limits.max_running.to_string(),
    },
    Field {
        key: "adaptive",
        expected: "on or off",
        read: |limits, text| switch(text).map(|value| limits.adaptive = value),
        text: |limits| if limits.adaptive { ON.to_owned() } else { OFF.to_owned() },
    },
    Field {
        key: "min_running",
        expected: "a number, 1 to max_running",
        read: |limits, text| number(text).map(|value| limits.min_running = value),
        text: |limits| limits.min_running.to_string(),
    },
    Field {
        key: "max_queued",
        expected: "a number, at most 65536",
        read: |limits, text| number(text).map(|value| limits.max_queued = value),
        text: |limits| limits.max_queued.to_string(),
    },
    Field {
        key: "max_queue_time",
        expected: "a duration of at most a year, 8760h, such as 100ms",
        read: |limits, text| duration::parse(text).ok().map(|value| limits.max_queue_time = value),
        text: |limits| duration::text(limits.max_queue_time),
    },
    Field {
        key: "max_connections",
        expected: "a number, at least 1",
        read: |limits, text| number(text).map(|value| limits.max_connections = value),
        text: |limits| limits.max_connections.to_string(),
    },
    Field {
        key: "max_connections_per_peer",
        expected: "a number, at least 1",
        read: |limits, text| number(text).map(|value| limits.max_connections_per_peer = value),
        text: |limits| limits.max_connections_per_peer.to_string(),
    },
    Field {
        key: "stall_timeout",
        expected: "a duration of 1ms to a year, 8760h, such as 10s",
        read: |limits, text| duration::parse(text).ok().map(|value| limits.stall_timeout = value),
        text: |limits| duration::text(limits.stall_timeout),
    },
];

const ON: &str = "on";
const OFF: &str = "off";

fn number(text: &str) -> Option<usize> {
    text.parse().ok()
}

fn rate(text: &str) -> Option<Option<u32>> {
    if text == OFF { Some(None) } else { text.parse().ok().map(Some) }
}

fn switch(text: &str) -> Option<bool> {
    match text {
        ON => Some(true),
        OFF => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::default;

    /// The texts of the defaults are the defaults, and each limit is read as it is written.
    #[test]
    fn defaults_are_the_defaults() {
        let limits = Limits::default();
        for field in &FIELDS {
            let text = (field.text)(&limits);
            assert_eq!(default(field.key), Some(&*text), "{}", field.key);
            let mut read = limits.clone();
            (field.read)(&mut read, &text).unwrap();
            assert_eq!(format!("{read:?}"), format!("{limits:?}"), "{}", field.key);
        }
        // Whoever adds a limit says here whether people may set it.
        let Limits {
            max_frame: _,
            max_metadata: _,
            max_in_flight: _,
            max_rate_per_peer: _,
            max_running: _,
            adaptive: _,
            min_running: _,
            max_queued: _,
            max_queue_time: _,
            max_connections: _,
            max_connections_per_peer: _,
            stall_timeout: _,
        } = limits;
    }

    /// Settings stand above code, limit by limit, and each sets its own.
    #[test]
    fn settings_stand_above_code() {
        let code = Limits { max_queued: 7, max_running: 9, ..Limits::default() };
        for (key, value) in [
            ("max_frame", "2048"),
            ("max_metadata", "100"),
            ("max_in_flight", "5"),
            ("max_rate_per_peer", "500"),
            ("max_running", "200"),
            ("adaptive", "off"),
            ("min_running", "3"),
            ("max_queued", "0"),
            ("max_queue_time", "1s"),
            ("max_connections", "12"),
            ("max_connections_per_peer", "4"),
            ("stall_timeout", "3s"),
        ] {
            let settings = Settings::none().flag(key, value).unwrap();
            let limits = settle(&code, &settings).unwrap();
            for field in &FIELDS {
                let expected = if field.key == key { value.into() } else { (field.text)(&code) };
                assert_eq!((field.text)(&limits), expected, "{key} sets {}", field.key);
            }
        }
        let said: Vec<_> = said(&code).filter_map(|(key, value)| Some((key, value?))).collect();
        assert_eq!(said, [("max_running", "9".to_owned()), ("max_queued", "7".to_owned())]);
    }

    /// What makes no sense names the value, its origin and what would be right; what code says is
    /// named as such, also where a setting leaves no room for it.
    #[test]
    fn what_makes_no_sense_is_refused() {
        let small = Limits { min_running: 100, ..Limits::default() };
        for (code, key, value, expected) in [
            (
                Limits::default(),
                "max_running",
                "70000",
                "max_running \"70000\" from flag --max-running is invalid: expected a number, 1 to \
                 65536; the nearest is 65536",
            ),
            (
                Limits::default(),
                "max_queued",
                "-1",
                "\"-1\" from flag --max-queued is invalid: \
                 expected a number, at most 65536",
            ),
            (Limits::default(), "adaptive", "yes", "expected on or off"),
            (Limits::default(), "max_rate_per_peer", "0", "at least 1, or off; the nearest is 1"),
            (Limits::default(), "max_queue_time", "100", "such as 100ms"),
            (Limits::default(), "stall_timeout", "1us", "the nearest is 1ms"),
            (
                small,
                "max_running",
                "50",
                "limit from code: min_running of 100 is out of range: \
                 the nearest in it is 50",
            ),
        ] {
            let settings = Settings::none().flag(key, value).unwrap();
            let error = settle(&code, &settings).unwrap_err();
            assert_eq!(error.code(), crate::Code::InvalidArgument);
            assert!(error.to_string().contains(expected), "{error}");
        }
        let settings = Settings::none().flag("max_running", "8").unwrap();
        settle(&Limits::default(), &settings).expect("the default makes room");
    }
}
