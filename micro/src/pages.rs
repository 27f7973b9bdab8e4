//! What a running service answers over HTTP beside its methods: figures for everybody, and what it
//! is and was told for those on its own host.

use std::sync::Arc;
use std::time::Duration;

use micro_registry::Registration;
use micro_rpc::{Asked, Channel, Page};
use micro_selector::{Member, Subscription};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::Registered;
use crate::metrics::{Figures, Shown, TYPE};
use crate::running::Wellbeing;
use crate::settings::Explanation;
#[cfg(feature = "telemetry")]
use crate::telemetry::page as log;

/// What its pages are made from.
pub(crate) struct About {
    registration: Registration,
    wellbeing: Wellbeing,
    shown: Shown,
    config: Value,
    since: Instant,
}

impl About {
    /// About a service that starts now.
    pub(crate) fn new(
        registration: &Registration,
        wellbeing: &Wellbeing,
        shown: &Shown,
        explanation: &Explanation,
    ) -> Arc<Self> {
        Arc::new(Self {
            registration: registration.clone(),
            wellbeing: wellbeing.clone(),
            shown: shown.clone(),
            config: explanation.to_json(),
            since: Instant::now(),
        })
    }

    pub(crate) fn pages(self: &Arc<Self>) -> Vec<Page> {
        let page = |path, content_type, answer: fn(&Self, &Asked<'_>) -> String| {
            let about = self.clone();
            Page::get(path, content_type, move |asked| Ok(answer(&about, asked)))
        };
        let pages = vec![
            page("/metrics", TYPE, Self::metrics),
            page("/info", JSON, |about, asked| pretty(&about.info(asked))).for_this_host(),
            page("/config", JSON, |about, _| pretty(&about.config)).for_this_host(),
        ];
        #[cfg(feature = "telemetry")]
        let pages = pages.into_iter().chain([
            Page::get("/log", TEXT, log::get).for_this_host(),
            Page::put("/log", log::put).for_this_host(),
        ]);
        pages.into_iter().collect()
    }

    fn metrics(&self, asked: &Asked<'_>) -> String {
        let Self { registration, wellbeing, shown, .. } = self;
        Figures::of(registration, wellbeing, &asked.server(), shown).into_text()
    }

    fn info(&self, asked: &Asked<'_>) -> Value {
        let (Registration { service, version, node, .. }, server) =
            (&self.registration, asked.server());
        let ready = match server.is_draining {
            true => Err("draining".to_owned()),
            false => self.wellbeing.ready(),
        };
        let clients = self.shown.clients();
        let services = clients.iter().flat_map(|client| client.selector().services());
        json!({
            "service": service,
            "version": version,
            "node": node.id,
            "address": node.address,
            "zone": node.zone,
            "pid": std::process::id(),
            "micro": env!("CARGO_PKG_VERSION"),
            "uptime_s": self.since.elapsed().as_secs(),
            "is_ready": ready.is_ok(),
            "not_ready_because": ready.err(),
            "registered": registered(&self.wellbeing.registered.borrow()),
            "server": {
                "connections": server.connections,
                "running": server.running,
                "limit": server.limit,
                "queued": server.queued,
                "shed": server.shed,
            },
            "calls": services.map(|called| known(&called)).collect::<Value>(),
        })
    }
}

const JSON: &str = "application/json";
#[cfg(feature = "telemetry")]
const TEXT: &str = "text/plain; charset=utf-8";

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// Whether it is registered, in words.
fn registered(state: &Registered) -> String {
    match state {
        Registered::Starting => "not yet".to_owned(),
        Registered::Yes => "yes".to_owned(),
        Registered::Retrying { since, was_registered, cause } => {
            let was = if *was_registered { "renewed" } else { "registered" };
            format!("not {was} for {} s: {cause}", since.elapsed().as_secs())
        }
        Registered::Fenced { cause } => format!("fenced: {cause}"),
    }
}

/// What is known of a service that is called.
fn known(called: &Subscription<Channel>) -> Value {
    let snapshot = called.snapshot();
    json!({
        "service": called.service(),
        "registered": snapshot.registered(),
        "is_stale": snapshot.is_stale(),
        "nodes": snapshot.members().iter().map(|member| node(member)).collect::<Value>(),
    })
}

fn node(member: &Member<Channel>) -> Value {
    let (registration, stats) = (member.registration(), member.stats());
    let micros = |latency: Duration| latency.as_micros() as u64;
    json!({
        "node": registration.node.id,
        "version": registration.version,
        "address": registration.node.address,
        "zone": registration.node.zone,
        "in_flight": stats.in_flight(),
        "latency_us": stats.latency().map(micros),
        "is_ejected": stats.is_ejected(),
        "is_away": member.target().is_away(),
        "connections": member.target().connections(),
    })
}
