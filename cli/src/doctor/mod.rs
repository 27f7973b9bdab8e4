//! `micro doctor`: what is wrong, and what to do about it.

mod host;
mod service;

use std::io::{self, IsTerminal};

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use micro::registry::{ErrorKind, Service};
use micro::{Client, Settings};
use serde::Serialize;

use crate::completions;
use crate::failure::{End, Failure};
use crate::print::{self, Color, Format};
use crate::world::{self, World};

/// Finds out what is wrong: with the registry, with this host, with a service, and what to do.
#[derive(Args, Debug)]
pub(crate) struct Doctor {
    /// What cannot be called: SERVICE, or a method as in `micro call`
    #[arg(value_name = "NAME", add = ArgValueCompleter::new(completions::methods))]
    name: Option<String>,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

impl Doctor {
    pub(crate) async fn run(self, world: &World) -> Result<(), Failure> {
        let mut report = Report::default();
        report.features();
        match world.settings() {
            Ok(settings) => self.examine(&mut report, &settings).await,
            Err(failure) => report.fault("configuration", End::Usage, failure, CONFIGURATION),
        }
        let printed = match self.output {
            Format::Text => print::text(&report.told()),
            Format::Json => print::json(&report.record()),
        };
        report.end().and(printed)
    }

    async fn examine(&self, report: &mut Report, settings: &Settings) {
        report.configuration = settings.explained();
        report.settings(settings).await;
        let scheme = report.registry_url().split(':').next().unwrap_or_default().to_owned();
        let client = match Client::connect().settings(settings.clone()).await {
            Ok(client) => client,
            // It is told already what makes no sense.
            Err(_) if report.is_faulty("configuration") => return,
            Err(error) => {
                let schemes = host::schemes();
                let advice = format!("{REGISTRY} ({schemes} can be opened by this program)");
                let failure = Failure::from(error);
                return report.fault("registry", End::Usage, failure, advice);
            }
        };
        let known = report.registry(&client).await;
        report.multicast(scheme == "mdns").await;
        if !report.is_faulty("configuration") {
            report.advertised(settings, client.registry().is_one_host());
        }
        report.clock(&known);
        if let Some(name) = &self.name {
            service::examine(report, &client, name).await;
        }
    }
}

const CONFIGURATION: &str = "mend the value where it comes from";
const REGISTRY: &str = "give a URL with --registry, or mend the one of MICRO_REGISTRY or micro.toml, \
    for example local: or etcd://10.0.0.1:2379";

/// What was looked at, in order.
#[derive(Debug, Default)]
struct Report {
    checks: Vec<Check>,
    configuration: Vec<[String; 3]>,
    /// How the program ends: by the first fault.
    end: Option<End>,
}

/// One thing that was looked at, in the shape that `-o json` promises.
#[derive(Debug, Serialize)]
struct Check {
    check: &'static str,
    status: Status,
    message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Ok,
    /// Worth knowing, and may be meant.
    Warning,
    /// Calls fail.
    Fault,
}

#[derive(Serialize)]
struct Record<'a> {
    healthy: bool,
    checks: &'a [Check],
    configuration: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    key: &'a str,
    value: &'a str,
    origin: &'a str,
}

impl Report {
    fn ok(&mut self, check: &'static str, message: impl Into<String>) {
        let message = message.into();
        self.checks.push(Check { check, status: Status::Ok, message, advice: None });
    }

    fn warn(&mut self, check: &'static str, message: impl Into<String>, advice: impl Into<String>) {
        let (message, advice) = (message.into(), Some(advice.into()));
        self.checks.push(Check { check, status: Status::Warning, message, advice });
    }

    fn fault(
        &mut self,
        check: &'static str,
        end: End,
        message: impl ToString,
        advice: impl Into<String>,
    ) {
        self.end.get_or_insert(end);
        let (message, advice) = (message.to_string(), Some(advice.into()));
        self.checks.push(Check { check, status: Status::Fault, message, advice });
    }

    /// Whether the registry answers, and what is there.
    async fn registry(&mut self, client: &Client) -> Vec<Service> {
        let registry = client.registry();
        let (url, origin) = (self.registry_url().to_owned(), self.registry_origin().to_owned());
        let begun = tokio::time::Instant::now();
        if let Err(error) = registry.list().await {
            let advice = match error.kind() {
                ErrorKind::Denied => "mend the user and password of the URL",
                _ => "start it, or mend its address; look for a firewall in between",
            };
            let message = format!("{url} from {origin} does not answer: {}", error.chain());
            self.fault("registry", End::Unavailable, message, advice);
            return Vec::new();
        }
        let took = crate::duration::text(begun.elapsed());
        let versions = match world::all(registry).await {
            Ok(versions) => versions,
            Err(failure) => {
                let message =
                    format!("{url} from {origin} lists what it cannot look up: {failure}");
                self.fault("registry", failure.end(), message, "look at the registry itself");
                return Vec::new();
            }
        };
        let message = format!("{url} from {origin} answers in {took}");
        if versions.is_empty() {
            let advice = "nobody is registered there at all: do services use the same registry and \
                namespace? their --explain-config says which";
            self.warn("registry", message, advice);
        } else {
            self.ok("registry", message);
        }
        for version in &versions {
            self.ok("records", service::told(version));
        }
        versions
    }

    fn is_faulty(&self, check: &str) -> bool {
        self.checks.iter().any(|known| known.check == check && known.status == Status::Fault)
    }

    fn registry_url(&self) -> &str {
        self.configured("registry").map_or("", |[_, value, _]| value)
    }

    fn registry_origin(&self) -> &str {
        self.configured("registry").map_or("", |[_, _, origin]| origin)
    }

    fn configured(&self, key: &str) -> Option<&[String; 3]> {
        self.configuration.iter().find(|[name, ..]| name == key)
    }

    fn told(&self) -> String {
        let is_terminal = io::stdout().is_terminal();
        let mut text = String::new();
        for Check { check, status, message, advice } in &self.checks {
            let (word, color) = match status {
                Status::Ok => ("ok   ", Color::Green),
                Status::Warning => ("warn ", Color::Yellow),
                Status::Fault => ("FAULT", Color::Red),
            };
            let message = print::plain_lines(message).replace('\n', "\n                      ");
            text += &format!("{} {check:15} {message}\n", print::paint(color, word, is_terminal));
            if let Some(advice) = advice {
                let advice = print::plain_lines(advice);
                text += &format!("                      -> {advice}\n");
            }
        }
        let width = |column: usize| self.configuration.iter().map(|row| row[column].len()).max();
        let (names, values) = (width(0).unwrap_or(0), width(1).unwrap_or(0));
        for [name, value, origin] in &self.configuration {
            text += &format!("      {name:names$}  {value:values$}  {origin}\n");
        }
        text
    }

    fn record(&self) -> Record<'_> {
        let configuration = self.configuration.iter();
        let configuration =
            configuration.map(|[key, value, origin]| Entry { key, value, origin }).collect();
        Record { healthy: self.end.is_none(), checks: &self.checks, configuration }
    }

    fn end(self) -> Result<(), Failure> {
        let Some(end) = self.end else { return Ok(()) };
        let faults = self.checks.iter().filter(|check| check.status == Status::Fault).count();
        let noun = if faults == 1 { "fault" } else { "faults" };
        Err(Failure::new(end, format!("{faults} {noun} found")))
    }
}
