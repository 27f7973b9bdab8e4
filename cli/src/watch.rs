//! `micro watch`: who joins, changes and leaves.

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use clap_complete::engine::ArgValueCompleter;
use futures::StreamExt;
use micro::registry::{EmptyReason, Registration, RemoveReason, Scope, Update, View};
use serde::Serialize;
use serde_json::{Value, json};

use crate::completions;
use crate::failure::{End, Failure};
use crate::print::{self, Color};
use crate::services::Instance;
use crate::world::World;

/// Tells who joins, changes and leaves, until it is interrupted. Those who are there come first.
#[derive(Args, Debug)]
pub(crate) struct Watch {
    /// Service to watch [default: all of them]
    #[arg(value_name = "SERVICE", add = ArgValueCompleter::new(completions::services))]
    service: Option<String>,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// + joined, ~ changed, - left
    #[default]
    Text,
    /// An object in JSON on each line
    Json,
}

impl Watch {
    pub(crate) async fn run(self, world: &World) -> Result<(), Failure> {
        let client = world.client().await?;
        let scope = self.service.map_or(Scope::All, Scope::Service);
        let mut watch = client.registry().watch(scope).await?;
        let mut seen = Seen::default();
        while let Some(update) = watch.next().await {
            for event in seen.events(&update) {
                match self.output {
                    Format::Text => print::text(&format!("{}\n", event.told()))?,
                    Format::Json => print::json_line(&event)?,
                }
            }
        }
        Err(Failure::new(End::Unavailable, "the registry ended the watch"))
    }
}

/// What was told so far, and what is to be told next.
#[derive(Debug, Default)]
struct Seen {
    view: View,
    is_stale: bool,
}

/// What happened, in the shape that `-o json` promises.
#[derive(Debug, PartialEq, Serialize)]
struct Event {
    event: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// The node, as it is now or was last.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<Value>,
    /// What is different, from what to what.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    changes: BTreeMap<&'static str, [Value; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Joined,
    Changed,
    Left,
    /// Nobody is there.
    Empty,
    /// The registry cannot be reached: what was told may be out of date.
    Stale,
    /// It can again.
    Current,
}

impl Seen {
    fn events(&mut self, update: &Update) -> Vec<Event> {
        let mut events = Vec::new();
        match update {
            Update::Reset { registrations, empty, .. } => {
                if std::mem::take(&mut self.is_stale) {
                    events.push(Event::of(Kind::Current));
                }
                let next: View = registrations.iter().cloned().collect();
                let reason = empty.map_or(RemoveReason::Unknown, last_of);
                for difference in self.view.diff(&next, |_| reason) {
                    events.extend(self.take_in(&difference));
                }
                if let Some(why) = empty {
                    events.push(Event { reason: Some(emptied(*why)), ..Event::of(Kind::Empty) });
                }
            }
            Update::Stale { cause, .. } => {
                self.is_stale = true;
                events.push(Event { reason: Some(cause.clone()), ..Event::of(Kind::Stale) });
            }
            other => events.extend(self.take_in(other)),
        }
        events
    }

    /// What a put or a removal tells.
    fn take_in(&mut self, update: &Update) -> Option<Event> {
        let event = match update {
            Update::Put(new) => match self.view.node(&new.service, &new.node.id) {
                Some(old) if old.node.epoch > new.node.epoch || old == new => return None,
                Some(old) => {
                    Event { changes: changes(old, new), ..Event::about(Kind::Changed, new) }
                }
                None => Event::about(Kind::Joined, new),
            },
            Update::Remove { service, id, epoch, reason, .. } => {
                let old = self.view.node(service, id).filter(|old| old.node.epoch <= *epoch)?;
                Event { reason: Some(left(*reason).to_owned()), ..Event::about(Kind::Left, old) }
            }
            _ => return None,
        };
        self.view.apply(update);
        Some(event)
    }
}

impl Event {
    fn of(event: Kind) -> Self {
        let (service, version, node, reason) = (None, None, None, None);
        Self { event, service, version, node, changes: BTreeMap::new(), reason }
    }

    fn about(event: Kind, registration: &Registration) -> Self {
        let node = serde_json::to_value(Instance::from(&registration.node));
        Self {
            service: Some(registration.service.clone()),
            version: Some(registration.version.clone()),
            node: Some(node.expect("strings and numbers are JSON")),
            ..Self::of(event)
        }
    }

    /// For people, in a line.
    fn told(&self) -> String {
        let (sign, color) = match self.event {
            Kind::Joined => ("+", Color::Green),
            Kind::Changed => ("~", Color::Yellow),
            Kind::Left => ("-", Color::Red),
            Kind::Empty | Kind::Stale | Kind::Current => ("!", Color::Yellow),
        };
        let sign = print::painted(color, sign);
        let reason = self.reason.as_deref().unwrap_or_default();
        let (Some(service), Some(version), Some(node)) = (&self.service, &self.version, &self.node)
        else {
            return format!("{sign} {}", print::plain(&told_of_all(self.event, reason)));
        };
        let [id, address, state] = ["id", "address", "state"].map(|key| word(&node[key]));
        let mut line = format!("{service} {version} {id} {address}");
        if !reason.is_empty() {
            line += &format!(" ({reason})");
        }
        if self.event == Kind::Joined && state != "serving" {
            line += &format!(" {state}");
        }
        for (what, [old, new]) in &self.changes {
            line += &format!(" {what}: {} -> {}", word(old), word(new));
        }
        format!("{sign} {}", print::plain(&line))
    }
}

/// A value as people read it: a string without quotes.
fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn told_of_all(event: Kind, reason: &str) -> String {
    match event {
        Kind::Empty => format!("nobody is registered: {reason}"),
        Kind::Stale => format!("the registry cannot be reached: {reason}"),
        _ => "the registry can be reached again".to_owned(),
    }
}

/// What is different between two registrations of a node.
fn changes(old: &Registration, new: &Registration) -> BTreeMap<&'static str, [Value; 2]> {
    let of = |registration: &Registration| {
        let node = &registration.node;
        let methods = registration.endpoints.as_slice().len();
        [
            ("version", json!(registration.version)),
            ("metadata", json!(registration.metadata)),
            ("methods", json!(methods.to_string())),
            ("address", json!(node.address)),
            ("epoch", json!(node.epoch.to_string())),
            ("state", json!(node.state.to_string())),
            ("weight", json!(node.weight.to_string())),
            ("zone", json!(node.zone.as_deref().unwrap_or("-"))),
            ("node metadata", json!(node.metadata)),
        ]
    };
    let pairs = of(old).into_iter().zip(of(new));
    let different = pairs.filter(|((_, old), (_, new))| old != new);
    different.map(|((what, old), (_, new))| (what, [old, new])).collect()
}

fn left(reason: RemoveReason) -> &'static str {
    match reason {
        RemoveReason::Deregistered => "deregistered",
        RemoveReason::Expired => "expired",
        RemoveReason::Fenced => "fenced",
        RemoveReason::Policy => "policy",
        _ => "unknown",
    }
}

/// Why the last one left, if that is why nobody is there.
fn last_of(reason: EmptyReason) -> RemoveReason {
    match reason {
        EmptyReason::AllDeregistered => RemoveReason::Deregistered,
        EmptyReason::AllExpired => RemoveReason::Expired,
        _ => RemoveReason::Unknown,
    }
}

fn emptied(reason: EmptyReason) -> String {
    match reason {
        EmptyReason::AllDeregistered => "the last deregistered",
        EmptyReason::AllExpired => "the last expired",
        EmptyReason::NeverSeen => "nobody ever was",
        _ => "the registry does not say why",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use micro::registry::{Node, NodeState};

    use super::*;

    fn node(id: &str, state: NodeState) -> Arc<Registration> {
        let mut node = Node::new(id, "127.0.0.1:1");
        node.state = state;
        Arc::new(Registration::new("shop", "1.0.0", node))
    }

    fn told(seen: &mut Seen, update: &Update) -> Vec<String> {
        seen.events(update).iter().map(Event::told).collect()
    }

    /// Each change is told once, with what is different or why; a reset tells only what it changes.
    #[test]
    fn updates_become_lines() {
        let mut seen = Seen::default();
        let (a, b) = (node("a", NodeState::Serving), node("b", NodeState::Starting));
        let both = Update::reset(vec![a.clone(), b], EmptyReason::Unknown);
        let lines = told(&mut seen, &both);
        assert_eq!(lines, ["+ shop 1.0.0 a 127.0.0.1:1", "+ shop 1.0.0 b 127.0.0.1:1 starting"]);
        assert!(told(&mut seen, &both).is_empty());
        assert!(told(&mut seen, &Update::Put(a)).is_empty());
        let ready = node("b", NodeState::Serving);
        let lines = told(&mut seen, &Update::Put(ready.clone()));
        assert_eq!(lines, ["~ shop 1.0.0 b 127.0.0.1:1 state: starting -> serving"]);
        let lines = told(&mut seen, &Update::stale(SystemTime::now(), "no route"));
        assert_eq!(lines, ["! the registry cannot be reached: no route"]);
        let lines = told(&mut seen, &Update::reset(vec![ready.clone()], EmptyReason::Unknown));
        assert_eq!(
            lines,
            ["! the registry can be reached again", "- shop 1.0.0 a 127.0.0.1:1 (unknown)"]
        );
        let left = Update::remove(&ready, RemoveReason::Expired);
        assert_eq!(told(&mut seen, &left), ["- shop 1.0.0 b 127.0.0.1:1 (expired)"]);
        assert!(told(&mut seen, &left).is_empty());
        let lines = told(&mut seen, &Update::reset(vec![], EmptyReason::NeverSeen));
        assert_eq!(lines, ["! nobody is registered: nobody ever was"]);
    }
}
