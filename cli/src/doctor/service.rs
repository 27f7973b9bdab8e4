//! Why a service is, or is not, callable.

use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use micro::dynamic::{self, Description, Page};
use micro::registry::{Node, NodeState, Registry, Service};
use micro::{Client, Code};

use super::host::{SKEW, is_ones_own, unix_now};
use super::{End, Report};
use crate::duration;
use crate::method::MethodName;
use crate::world;

/// Of more nodes no more are asked, or told of.
const AT_MOST: usize = 50;

/// Looks at a service, and at a method if the name has one.
pub(super) async fn examine(report: &mut Report, client: &Client, name: &str) {
    let registry = client.registry();
    // The name of a service may have dots, as what names a method has.
    let (service, method) = match (registry.get(name).await, name.parse::<MethodName>()) {
        (Err(_), Ok(method)) => (method.service.clone(), Some(method)),
        _ => (name.to_owned(), None),
    };
    let versions = match world::versions(registry, &service).await {
        Ok(versions) => versions,
        Err(failure) if failure.end() == End::NotFound => {
            let advice = "start the service, or call it by the name that it has; both sides need \
                the same registry and namespace";
            return report.fault("service", End::NotFound, failure, advice);
        }
        // It may be told already that the registry does not answer.
        Err(failure) if !report.is_faulty("registry") => {
            let advice = "mend the name, or what the registry says";
            return report.fault("service", failure.end(), failure, advice);
        }
        Err(_) => return,
    };
    let nodes: Vec<_> = versions.iter().flat_map(|version| &version.nodes).collect();
    let findings = stream::iter(nodes.iter().take(AT_MOST))
        .map(|node| find(node, &service))
        .buffered(16)
        .collect::<Vec<_>>()
        .await;
    states(report, &nodes, &findings);
    addresses(report, registry.as_ref(), &nodes, &findings);
    clocks(report, &nodes, &findings);
    if let Some(method) = method {
        of_method(report, &method, &findings);
    }
}

/// A version, with a line for each node: where it is, in which state, and since when.
pub(super) fn told(version: &Service) -> String {
    let now = unix_now();
    let each = version.nodes.iter().take(AT_MOST).map(|node| {
        let age = match node.epoch {
            0 => "of unknown age".to_owned(),
            epoch => {
                let age = now.saturating_sub(Duration::from_millis(epoch));
                format!("started {} ago", duration::text(age))
            }
        };
        format!("{} at {}, {}, {age}", node.id, node.address, node.state)
    });
    let lines = listed(each, version.nodes.len());
    format!("{} {}\n{lines}", version.name, version.version)
}

/// A line each, and how many more there are.
fn listed(lines: impl Iterator<Item = String>, all: usize) -> String {
    let mut lines: Vec<_> = lines.take(AT_MOST).collect();
    if lines.len() < all {
        lines.push(format!("and {} more", all - lines.len()));
    }
    lines.join("\n")
}

/// What is found at the address of a node.
enum Finding {
    /// The node itself, and how far its clock is off.
    Node { description: Description, skew: Option<Duration>, readiness: Option<Page> },
    /// Something that does not say what it is, as a node without the feature `http`.
    Silent(String),
    /// Another node, or something that is none.
    Stranger(String),
    /// Nobody.
    Nobody(String),
}

async fn find(node: &Node, service: &str) -> Finding {
    let page = match dynamic::get(&node.address, "/describe").await {
        Ok(page) => page,
        Err(error) if error.code() == Code::Unavailable => {
            return Finding::Nobody(error.message().to_owned());
        }
        Err(error) => return Finding::Silent(error.message().to_owned()),
    };
    let now = unix_now();
    let described = serde_json::from_slice::<Description>(&page.body).ok();
    let Some(description) = described.filter(|_| page.status == 200) else {
        let message = format!("what answers at {} is no service of micro", node.address);
        return Finding::Stranger(message);
    };
    let who = description.node.as_deref().unwrap_or_default();
    // A record that does not say when the node began is somebody else's, who made up its id.
    let is_itself = node.epoch == 0 || who == node.id;
    if description.service != service || !is_itself {
        let message = format!(
            "at {} answers node {who} of service {}, not node {}",
            node.address, description.service, node.id
        );
        return Finding::Stranger(message);
    }
    let skew = page.header("date").and_then(http_date).map(|then| now.abs_diff(then));
    let readiness = dynamic::get(&node.address, "/health/ready").await.ok();
    Finding::Node { description, skew, readiness }
}

/// Whether there is a node that wants calls.
fn states(report: &mut Report, nodes: &[&Node], findings: &[Finding]) {
    let findings = findings.iter().map(Some).chain(std::iter::repeat(None));
    let (willing, others): (Vec<_>, Vec<_>) =
        nodes.iter().zip(findings).partition(|(node, _)| node.is_eligible());
    let each = others.iter().map(|(node, finding)| match (node.weight, finding.and_then(reason)) {
        (0, _) if node.state == NodeState::Serving => format!("{} has weight 0", node.id),
        (_, Some(why)) => format!("{} is {why}", node.id),
        (_, None) => format!("{} is {}", node.id, node.state),
    });
    let each = listed(each, others.len());
    let all = nodes.len();
    if others.is_empty() {
        return report.ok("state", format!("all of {all} nodes want calls"));
    }
    let advice = advice_on(others.iter().map(|(node, _)| *node));
    let message = format!("{} of {all} nodes want calls\n{each}", willing.len());
    match willing.is_empty() {
        true => report.fault("state", End::Unavailable, message, advice),
        false => report.warn("state", message, advice),
    }
}

/// Why a node does not serve, in its own words.
fn reason(finding: &Finding) -> Option<String> {
    let Finding::Node { readiness: Some(page), .. } = finding else { return None };
    let text = String::from_utf8_lossy(&page.body).trim().to_owned();
    (page.status != 200 && !text.is_empty()).then_some(text)
}

fn advice_on<'a>(mut nodes: impl Iterator<Item = &'a &'a Node>) -> &'static str {
    match nodes.next().map(|node| node.state) {
        Some(NodeState::Draining) => "they finish what they have and leave: start new ones",
        Some(NodeState::NotServing) => "their health check fails: mend what it says",
        Some(NodeState::Starting) => "their health check has not passed yet: wait, or mend it",
        _ => "give them a weight above 0",
    }
}

/// Whether each node is where its record says.
fn addresses(report: &mut Report, registry: &dyn Registry, nodes: &[&Node], findings: &[Finding]) {
    let is_found = |finding: &&Finding| matches!(finding, Finding::Node { .. });
    let found = findings.iter().filter(is_found).count();
    let asked = match findings.len() {
        asked if asked < nodes.len() => format!(" ({asked} of {} asked)", nodes.len()),
        _ => String::new(),
    };
    if found == findings.len() {
        return report.ok("address", format!("all of {found} nodes are where they say{asked}"));
    }
    let is_silent = |finding: &Finding| matches!(finding, Finding::Silent(_));
    let is_callable = found > 0 || findings.iter().any(is_silent);
    for (node, finding) in nodes.iter().zip(findings) {
        let (check, message, advice) = match finding {
            Finding::Node { .. } => continue,
            Finding::Silent(message) => ("address", message, SILENT),
            Finding::Stranger(message) => ("address", message, WRONG_ADDRESS),
            Finding::Nobody(message) if is_its_own(node) && !registry.is_one_host() => {
                ("address", message, LOOPBACK)
            }
            Finding::Nobody(message) => ("port", message, CLOSED),
        };
        let message = format!("node {}: {message}{asked}", node.id);
        match is_callable {
            true => report.warn(check, message, advice),
            false => report.fault(check, End::Unavailable, message, advice),
        }
    }
}

const WRONG_ADDRESS: &str = "the node advertises an address that is not its own: mend its \
    MICRO_ADVERTISE or MICRO_ADDRESS; or it died, and another took its port: then its record goes \
    with its TTL";
const SILENT: &str = "a service without the feature `http` does so: call it to see; else another \
    program has that port";
const LOOPBACK: &str = "that is each caller's own host: the node has to advertise an address that \
    others reach, with MICRO_ADVERTISE";
const CLOSED: &str = "start the service again, if its process ended without saying so: its record \
    goes with its TTL; or mend its MICRO_ADVERTISE; or open the port in the firewall";

/// Whether an address means whoever uses it.
fn is_its_own(node: &Node) -> bool {
    let host = node.address.rsplit_once(':').map_or(&*node.address, |(host, _)| host);
    is_ones_own(host)
}

/// Whether the clocks of nodes go with this host's.
fn clocks(report: &mut Report, nodes: &[&Node], findings: &[Finding]) {
    for (node, finding) in nodes.iter().zip(findings) {
        let Finding::Node { skew: Some(skew), .. } = finding else { continue };
        // Dates have no fractions of seconds.
        if *skew > SKEW + Duration::from_secs(1) {
            let message = format!("the clock of node {} is {} off", node.id, duration::text(*skew));
            report.warn("clock", message, "set both clocks, by NTP");
        }
    }
}

/// Whether nodes that answer have the method.
fn of_method(report: &mut Report, method: &MethodName, findings: &[Finding]) {
    let descriptions = findings.iter().filter_map(|finding| match finding {
        Finding::Node { description, .. } => Some(description),
        _ => None,
    });
    let descriptions: Vec<_> = descriptions.collect();
    let Some(first) = descriptions.first() else { return };
    let (with, without): (Vec<_>, Vec<_>) =
        descriptions.iter().partition(|description| method.is_listed(description));
    let all = descriptions.len();
    match (with.len(), without.len()) {
        (_, 0) => report.ok("method", format!("all of {all} nodes that answer have {method}")),
        (0, _) => {
            let failure = method.unknown(first.methods());
            let advice = "call a method that it has; or deploy the version that has this one";
            report.fault("method", End::Unimplemented, failure, advice);
        }
        (with, _) => {
            let nodes =
                without.iter().filter_map(|description: &&Description| description.node.as_deref());
            let nodes = nodes.collect::<Vec<_>>().join(", ");
            let message = format!("{with} of {all} nodes have {method}; it is missing on {nodes}");
            report.warn("method", message, "these run another version: call with a filter");
        }
    }
}

/// A date as HTTP has it, `Sun, 06 Nov 1994 08:49:37 GMT`, as time since 1970.
fn http_date(date: &str) -> Option<Duration> {
    let mut words = date.split_once(", ")?.1.split(' ');
    let day: i64 = words.next()?.parse().ok()?;
    let month = words.next()?;
    let month = MONTHS.iter().position(|known| *known == month)? as i64 + 1;
    let year: i64 = words.next()?.parse().ok()?;
    let mut time = words.next()?.split(':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    // Years begin in March, so that leap days come last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let seconds = ((days - 719_468) * 24 + hour) * 3_600 + minute * 60 + second;
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

#[cfg(test)]
mod tests {
    use super::*;

    /// Dates of HTTP are told in seconds since 1970, leap days included.
    #[test]
    fn dates_of_http() {
        for (date, seconds) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
            ("Thu, 29 Feb 2024 23:59:59 GMT", 1_709_251_199),
            ("Sat, 21 Nov 2026 20:12:05 GMT", 1_795_291_925),
        ] {
            assert_eq!(http_date(date), Some(Duration::from_secs(seconds)), "{date}");
        }
        for other in ["", "now", "Sun, 06 Now 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49 GMT"] {
            assert_eq!(http_date(other), None, "{other}");
        }
    }

    /// An address that means whoever uses it is told apart from one that others reach.
    #[test]
    fn addresses_of_ones_own() {
        for (address, is_own) in [
            ("127.0.0.1:7", true),
            ("[::1]:7", true),
            ("0.0.0.0:7", true),
            ("localhost:7", true),
            ("10.0.0.1:7", false),
            ("shop.example:7", false),
            ("unix:/run/x", false),
        ] {
            assert_eq!(is_its_own(&Node::new("a", address)), is_own, "{address}");
        }
    }
}
