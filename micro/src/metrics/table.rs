//! The metrics there are: the one table that what is shown and what is documented are made from.

/// Every metric, in the order in which it is shown.
pub(super) const FAMILIES: [Family; 24] = [
    Family {
        name: "micro_service_info",
        kind: Kind::Gauge,
        labels: &["service", "version", "node"],
        help: "Which service this is: always 1",
    },
    Family {
        name: "micro_healthy",
        kind: Kind::Gauge,
        labels: &[],
        help: "Whether the health check passes: 0 or 1",
    },
    Family {
        name: "micro_registered",
        kind: Kind::Gauge,
        labels: &[],
        help: "Whether the last attempt to register or renew succeeded: 0 or 1",
    },
    Family {
        name: "micro_server_connections",
        kind: Kind::Gauge,
        labels: &[],
        help: "Connections of clients",
    },
    Family {
        name: "micro_server_calls_running",
        kind: Kind::Gauge,
        labels: &[],
        help: "Calls that wait in a handler",
    },
    Family {
        name: "micro_server_calls_limit",
        kind: Kind::Gauge,
        labels: &[],
        help: "How many calls may run at present",
    },
    Family {
        name: "micro_server_calls_queued",
        kind: Kind::Gauge,
        labels: &[],
        help: "Calls that wait for their turn to run",
    },
    Family {
        name: "micro_server_calls_shed",
        kind: Kind::Counter,
        labels: &[],
        help: "Calls that were refused because there was too much to do",
    },
    Family {
        name: SERVED,
        kind: Kind::Seconds,
        labels: &["rpc_system_name", "rpc_method", "rpc_response_status_code", "error_type"],
        help: "How long calls took that were served, from when they had been read",
    },
    Family {
        name: CALLED,
        kind: Kind::Seconds,
        labels: &[
            "rpc_system_name",
            "server_address",
            "rpc_method",
            "rpc_response_status_code",
            "error_type",
        ],
        help: "How long calls took that were made, with all of their attempts",
    },
    Family {
        name: "micro_client_attempts",
        kind: Kind::Counter,
        labels: &["service"],
        help: "Attempts that were given a node, retries among them",
    },
    Family {
        name: "micro_client_attempts_near",
        kind: Kind::Counter,
        labels: &["service"],
        help: "Attempts that went to a node of the zone of the client",
    },
    Family {
        name: "micro_client_attempts_in_flight",
        kind: Kind::Gauge,
        labels: &["service"],
        help: "Attempts under way",
    },
    Family {
        name: "micro_client_retries",
        kind: Kind::Counter,
        labels: &["service"],
        help: "Attempts after the first of a call",
    },
    Family {
        name: "micro_client_retries_over_budget",
        kind: Kind::Counter,
        labels: &["service"],
        help: "Retries that were left out because the budget was used up",
    },
    Family {
        name: "micro_client_retries_left",
        kind: Kind::Gauge,
        labels: &["service"],
        help: "Retries that the budget has left",
    },
    Family {
        name: "micro_client_attempts_throttled",
        kind: Kind::Counter,
        labels: &["service"],
        help: "Attempts that ended before they were sent because the service is overloaded",
    },
    Family {
        name: "micro_client_connections",
        kind: Kind::Gauge,
        labels: &["service"],
        help: "Connections to nodes",
    },
    Family {
        name: "micro_client_nodes_registered",
        kind: Kind::Gauge,
        labels: &["service"],
        help: "Nodes that are registered",
    },
    Family {
        name: "micro_client_nodes",
        kind: Kind::Gauge,
        labels: &["service"],
        help: "Nodes that come into question: serving, and allowed by the filter",
    },
    Family {
        name: "micro_client_nodes_ejected",
        kind: Kind::Gauge,
        labels: &["service"],
        help: "Nodes that are left out because they fail",
    },
    Family {
        name: "micro_client_ejections",
        kind: Kind::Counter,
        labels: &["service"],
        help: "How often a node was left out because it fails",
    },
    Family {
        name: "micro_client_registry_answered",
        kind: Kind::Gauge,
        labels: &["service"],
        help: "Whether the registry has told of the service yet: 0 or 1",
    },
    Family {
        name: "micro_client_registry_stale",
        kind: Kind::Gauge,
        labels: &["service"],
        help: "Whether the registry is out of reach, so that nodes are as last known: 0 or 1",
    },
];

/// The calls a service serves, and those a client makes: named and labelled by OpenTelemetry's
/// conventions for RPC, as of their version 1.40, where a `.` is an underscore in this format.
pub(super) const SERVED: &str = "rpc_server_call_duration";
pub(super) const CALLED: &str = "rpc_client_call_duration";

/// A metric with all of its series.
#[derive(Debug)]
pub(super) struct Family {
    /// Without what the format adds to it.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) labels: &'static [&'static str],
    pub(super) help: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Gauge,
    Counter,
    /// A histogram of times.
    Seconds,
}

/// A metric's place in the table.
pub(super) fn find(name: &str) -> Option<usize> {
    FAMILIES.iter().position(|family| family.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The page that people read lists what there is, row by row.
    #[test]
    fn the_documented_table_does_not_drift() {
        let page = include_str!("../../../docs/src/how-to/observe.md");
        let found: Vec<_> = page.lines().filter(|line| line.starts_with("| `")).collect();
        let expected: Vec<_> = FAMILIES.iter().map(row).collect();
        assert_eq!(found, expected, "docs/src/how-to/observe.md: expected these rows");
    }

    /// Who adds a metric twice would show two series that contradict each other.
    #[test]
    fn names_are_unique() {
        for (index, family) in FAMILIES.iter().enumerate() {
            assert_eq!(find(family.name), Some(index), "{}", family.name);
        }
    }

    fn row(family: &Family) -> String {
        let (suffix, kind) = match family.kind {
            Kind::Gauge => ("", "gauge"),
            Kind::Counter => ("_total", "counter"),
            Kind::Seconds => ("_seconds", "histogram"),
        };
        let labels = family.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>();
        let (name, labels, help) = (family.name, labels.join(", "), family.help);
        format!("| `{name}{suffix}` | {kind} | {labels} | {help} |")
    }
}
