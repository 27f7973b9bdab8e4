//! The keys of the configuration: the one table that what is read, refused, explained and printed
//! as usage is made from.

/// Every key, in the order in which people see them.
pub(crate) const KEYS: [Key; 31] = [
    Key {
        name: "registry",
        value: "URL",
        about: "where services are registered and looked up",
        unset: Unset::Is("local:"),
        is_identity: false,
    },
    Key {
        name: "namespace",
        value: "NAME",
        about: "which part of the registry",
        unset: Unset::Follows("the registry's own"),
        is_identity: false,
    },
    Key {
        name: "name",
        value: "NAME",
        about: "the name the service is looked up by",
        unset: Unset::Follows("its only contract's"),
        is_identity: true,
    },
    Key {
        name: "version",
        value: "VERSION",
        about: "the version of the service, such as 1.4.2",
        unset: Unset::Is("latest"),
        is_identity: true,
    },
    Key {
        name: "address",
        value: "ADDRESS",
        about: "where it listens: host:port or unix:/path",
        unset: Unset::Follows("a free port"),
        is_identity: true,
    },
    Key {
        name: "advertise",
        value: "ADDRESS",
        about: "the address others are told, or only its host",
        unset: Unset::Follows("where it listens"),
        is_identity: true,
    },
    Key {
        name: "hosts",
        value: "NAMES",
        about: "further names for HTTP callers, such as a.example,b.example",
        unset: Unset::Follows("none"),
        is_identity: false,
    },
    Key {
        name: "zone",
        value: "ZONE",
        about: "the failure domain it runs in, whose nodes a client prefers",
        unset: Unset::Follows("none"),
        is_identity: false,
    },
    Key {
        name: "register_ttl",
        value: "DURATION",
        about: "how long a registration lasts, at least twice the interval",
        unset: Unset::Is("30s"),
        is_identity: false,
    },
    Key {
        name: "register_interval",
        value: "DURATION",
        about: "how often it is renewed, at least 100ms",
        unset: Unset::Is("10s"),
        is_identity: false,
    },
    Key {
        name: "drain_delay",
        value: "DURATION",
        about: "how long a service that stops accepts calls, at most 5m",
        unset: Unset::Is("2s"),
        is_identity: false,
    },
    Key {
        name: "max_frame",
        value: "BYTES",
        about: "the longest request accepted, with its head: 1024 to 67108864 bytes",
        unset: Unset::Is("4194304"),
        is_identity: false,
    },
    Key {
        name: "max_metadata",
        value: "BYTES",
        about: "the most metadata accepted with a request, at most 16384 bytes",
        unset: Unset::Is("16384"),
        is_identity: false,
    },
    Key {
        name: "max_in_flight",
        value: "NUMBER",
        about: "calls at once that one connection may make, 1 to 65536",
        unset: Unset::Is("1024"),
        is_identity: false,
    },
    Key {
        name: "max_rate_per_peer",
        value: "NUMBER",
        about: "calls a second that one IP address may make; or off",
        unset: Unset::Is("off"),
        is_identity: false,
    },
    Key {
        name: "max_running",
        value: "NUMBER",
        about: "calls that run at once, 1 to 65536",
        unset: Unset::Is("65536"),
        is_identity: false,
    },
    Key {
        name: "adaptive",
        value: "SWITCH",
        about: "whether fewer run at once while calls take long because of each other: on or off",
        unset: Unset::Is("on"),
        is_identity: false,
    },
    Key {
        name: "min_running",
        value: "NUMBER",
        about: "the fewest at once that this goes down to, 1 to max_running",
        unset: Unset::Is("32"),
        is_identity: false,
    },
    Key {
        name: "max_queued",
        value: "NUMBER",
        about: "calls of each criticality that wait for their turn, at most 65536",
        unset: Unset::Is("1024"),
        is_identity: false,
    },
    Key {
        name: "max_queue_time",
        value: "DURATION",
        about: "how long a call waits for its turn, at most a year",
        unset: Unset::Is("100ms"),
        is_identity: false,
    },
    Key {
        name: "max_connections",
        value: "NUMBER",
        about: "connections that are open at once, at least 1",
        unset: Unset::Is("10000"),
        is_identity: false,
    },
    Key {
        name: "max_connections_per_peer",
        value: "NUMBER",
        about: "those of one IP address, at least 1",
        unset: Unset::Is("1024"),
        is_identity: false,
    },
    Key {
        name: "stall_timeout",
        value: "DURATION",
        about: "how long a peer may stop in the middle of something, 1ms to a year",
        unset: Unset::Is("10s"),
        is_identity: false,
    },
    Key {
        name: "selector",
        value: "STRATEGY",
        about: "how a client picks a node: ewma, least-loaded, round-robin, random, weighted or \
                consistent-hash",
        unset: Unset::Is("ewma"),
        is_identity: false,
    },
    Key {
        name: "hash_by",
        value: "KEY",
        about: "the metadata whose value consistent-hash goes by, such as baggage.user, or call \
                keys for each call's own",
        unset: Unset::Follows("none"),
        is_identity: false,
    },
    Key {
        name: "filter",
        value: "FILTER",
        about: "which nodes a client calls, such as version=^1.4; zone=a; label.track=canary",
        unset: Unset::Follows("all"),
        is_identity: false,
    },
    Key {
        name: "attempts",
        value: "NUMBER",
        about: "how often a call is tried, 1 to 8",
        unset: Unset::Is("3"),
        is_identity: false,
    },
    Key {
        name: "retry_budget",
        value: "BUDGET",
        about: "how much of the calls, and how many a second, may be retries; what is left out is none",
        unset: Unset::Is("20% + 10/s"),
        is_identity: false,
    },
    Key {
        name: "throttle",
        value: "THROTTLE",
        about: "attempts an overloaded service gets for each that it accepts, over how long; or off",
        unset: Unset::Is("1.7 over 1s"),
        is_identity: false,
    },
    Key {
        name: "log",
        value: "FILTER",
        about: "which log lines and spans there are, such as warn,shop=debug",
        unset: Unset::Is("info"),
        is_identity: false,
    },
    Key {
        name: "spans_to",
        value: "URL",
        about: "where spans are exported to, by OTLP over gRPC, such as http://localhost:4317",
        unset: Unset::Follows("nowhere"),
        is_identity: false,
    },
];

/// Something that can be configured.
#[derive(Debug)]
pub(crate) struct Key {
    /// As the file has it.
    pub(crate) name: &'static str,
    /// What stands for a value in the usage.
    pub(super) value: &'static str,
    pub(super) about: &'static str,
    pub(super) unset: Unset,
    /// Whether it tells one service from another, so that it cannot be meant for several.
    pub(super) is_identity: bool,
}

/// What applies when nobody says anything.
#[derive(Debug)]
pub(super) enum Unset {
    /// This value.
    Is(&'static str),
    /// What depends on something else, in words.
    Follows(&'static str),
}

impl Key {
    /// The environment variable.
    pub(super) fn variable(&self) -> String {
        format!("{PREFIX}{}", self.name.to_ascii_uppercase())
    }

    /// The flag.
    pub(super) fn flag(&self) -> String {
        flag(self.name)
    }
}

/// What all variables begin with.
pub(super) const PREFIX: &str = "MICRO_";

/// The key of this name.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The value a key has when nobody says anything, if there is one.
pub(crate) fn default(name: &str) -> Option<&'static str> {
    match find(name)?.unset {
        Unset::Is(value) => Some(value),
        Unset::Follows(_) => None,
    }
}

/// The flag of a key.
pub(super) fn flag(name: &str) -> String {
    format!("--{}", name.replace('_', "-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tables people read say what the table of the program says, key by key.
    #[test]
    fn documented_tables_do_not_drift() {
        let rows = KEYS.each_ref().map(row);
        let guide = include_str!("../../../docs/src/how-to/configuration.md");
        let found: Vec<_> = guide.lines().filter(|line| line.starts_with("| `")).collect();
        assert_eq!(found, rows, "docs/src/how-to/configuration.md: expected these rows");
        let docstring = include_str!("../settings.rs");
        let found: Vec<_> =
            docstring.lines().filter_map(|line| line.strip_prefix("/// | `")).collect();
        let expected: Vec<_> = rows.iter().filter_map(|row| row.strip_prefix("| `")).collect();
        assert_eq!(found, expected, "the documentation of `Settings`: expected these rows");
    }

    /// No page speaks of a variable nobody reads.
    #[test]
    fn documented_variables_exist() {
        let pages = [
            include_str!("../../../README.md"),
            include_str!("../../../docs/src/how-to/balancing.md"),
            include_str!("../../../docs/src/how-to/configuration.md"),
            include_str!("../../../docs/src/how-to/observe.md"),
            include_str!("../../../docs/src/how-to/overload.md"),
            include_str!("../../../docs/src/how-to/troubleshooting.md"),
            include_str!("../../../docs/src/tutorial.md"),
        ];
        for page in pages {
            let words = page.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            for variable in
                words.filter(|word| word.len() > PREFIX.len() && word.starts_with(PREFIX))
            {
                let is_key = KEYS.iter().any(|key| key.variable() == variable);
                assert!(is_key || variable == super::super::FILE_VARIABLE, "{variable}");
            }
        }
    }

    fn row(key: &Key) -> String {
        let default = match key.unset {
            Unset::Is(value) => format!("`{value}`"),
            Unset::Follows(words) => words.to_owned(),
        };
        let (name, variable, flag) = (key.name, key.variable(), key.flag());
        format!("| `{name}` | `{variable}` | `{flag} {}` | {} | {default} |", key.value, key.about)
    }
}
