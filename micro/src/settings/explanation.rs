//! Every value with its origin, for people.

use std::collections::BTreeMap;
use std::fmt;

use micro_registry::RegistryUrl;

use super::keys::{KEYS, Unset};
use super::{Origin, Resolved, Settings, shown};

/// A line for each key: its name, its value, and where that comes from.
pub(crate) struct Explanation {
    rows: Vec<[String; 3]>,
}

/// What applies where the settings say nothing: what code says, or better known defaults.
pub(crate) type Beneath = BTreeMap<&'static str, Resolved<String>>;

impl Explanation {
    pub(crate) fn new(settings: &Settings, beneath: &Beneath) -> Self {
        let row = |name: &str, value: String, origin: &Origin| {
            [name.to_owned(), value, origin.to_string()]
        };
        let rows = KEYS.iter().map(|key| {
            if let Some(value) = settings.values.get(key.name) {
                return row(key.name, redacted(key.name, &value.text), &value.origin);
            }
            match (beneath.get(key.name), &key.unset) {
                (Some(said), _) => row(key.name, redacted(key.name, &said.value), &said.origin),
                (None, Unset::Is(value)) => row(key.name, (*value).to_owned(), &Origin::Default),
                (None, Unset::Follows(words)) => {
                    row(key.name, format!("({words})"), &Origin::Default)
                }
            }
        });
        Self { rows: rows.collect() }
    }

    /// The name of each key, its value, and where that comes from.
    pub(crate) fn into_rows(self) -> Vec<[String; 3]> {
        self.rows
    }
}

#[cfg(feature = "http")]
impl Explanation {
    /// The lines in JSON, with their parts by name.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        let row = |[key, value, origin]: &[String; 3]| serde_json::json!({ "key": key, "value": value, "origin": origin });
        self.rows.iter().map(row).collect()
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max();
        let (names, values) = (width(0).unwrap_or(0), width(1).unwrap_or(0));
        for [name, value, origin] in &self.rows {
            writeln!(f, "{name:names$}  {value:values$}  {origin}")?;
        }
        Ok(())
    }
}

/// A value as it may be shown to anybody.
fn redacted(key: &str, text: &str) -> String {
    match text.parse::<RegistryUrl>() {
        Ok(url) if key == "registry" => url.to_string(),
        Err(_) if key == "registry" && text.contains('?') => shown("@").to_owned(),
        _ => shown(text).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn settings() -> Settings {
        let variables =
            [("MICRO_NAME", "shop"), ("MICRO_REGISTRY", "etcd://u:secret@h:1/x?token=t")];
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        let file = (Path::new("micro.toml"), "zone = \"z\"");
        Settings::from_parts(Some(file), variables).unwrap().flag("selector", "random").unwrap()
    }

    fn lines(explanation: &str) -> Vec<Vec<&str>> {
        let cells = |line| str::split(line, "  ").filter(|cell| !cell.is_empty()).map(str::trim);
        explanation.lines().map(|line| cells(line).collect()).collect()
    }

    /// Every key has a line with its value and where that comes from, and no line has a secret.
    #[test]
    fn every_value_has_its_origin() {
        let text = settings().explain().to_string();
        let expected: [[&str; 3]; 31] = [
            ["registry", "etcd://***@h:1/x?token=***", "environment variable MICRO_REGISTRY"],
            ["namespace", "(the registry's own)", "default"],
            ["name", "shop", "environment variable MICRO_NAME"],
            ["version", "latest", "default"],
            ["address", "(a free port)", "default"],
            ["advertise", "(where it listens)", "default"],
            ["hosts", "(none)", "default"],
            ["zone", "z", "file micro.toml"],
            ["register_ttl", "30s", "default"],
            ["register_interval", "10s", "default"],
            ["drain_delay", "2s", "default"],
            ["max_frame", "4194304", "default"],
            ["max_metadata", "16384", "default"],
            ["max_in_flight", "1024", "default"],
            ["max_rate_per_peer", "off", "default"],
            ["max_running", "65536", "default"],
            ["adaptive", "on", "default"],
            ["min_running", "32", "default"],
            ["max_queued", "1024", "default"],
            ["max_queue_time", "100ms", "default"],
            ["max_connections", "10000", "default"],
            ["max_connections_per_peer", "1024", "default"],
            ["stall_timeout", "10s", "default"],
            ["selector", "random", "flag --selector"],
            ["hash_by", "(none)", "default"],
            ["filter", "(all)", "default"],
            ["attempts", "3", "default"],
            ["retry_budget", "20% + 10/s", "default"],
            ["throttle", "1.7 over 1s", "default"],
            ["log", "info", "default"],
            ["spans_to", "(nowhere)", "default"],
        ];
        assert_eq!(lines(&text), expected);
        assert_eq!(settings().explained(), expected);
        let odd = Settings::none().flag("registry", "etcd?password=secret").unwrap();
        assert!(!odd.explain().to_string().contains("secret"));
    }

    /// What code says stands where the settings say nothing.
    #[test]
    fn code_stands_beneath() {
        let beneath = ["name", "version"].map(|key| (key, Resolved::by_code("1.2.3".to_owned())));
        let text = Explanation::new(&settings(), &beneath.into()).to_string();
        assert_eq!(lines(&text)[2], ["name", "shop", "environment variable MICRO_NAME"]);
        assert_eq!(lines(&text)[3], ["version", "1.2.3", "code"]);
    }
}
