//! What services and clients tell of themselves in figures, in the text format of OpenMetrics.

mod figures;
mod table;

use std::sync::{Arc, Mutex, PoisonError, Weak};

use micro_registry::Registration;
use micro_rpc::{Channel, Code, MethodStats, ServerStats};
use micro_selector::Subscription;

pub(crate) use self::figures::Figures;
#[cfg(feature = "http")]
pub(crate) use self::figures::TYPE;
use self::figures::Value::{Counter, Gauge, Seconds};
use self::table::{CALLED, SERVED};
use crate::client::Inner;
use crate::running::Wellbeing;
use crate::{Client, spans};

/// The clients whose figures a service shows; it does not keep them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown(Arc<Mutex<Vec<Weak<Inner>>>>);

impl Shown {
    /// Adds a client, once.
    pub(crate) fn add(&self, client: &Client) {
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shown.retain(|client| client.strong_count() > 0);
        let new = client.downgrade();
        if !shown.iter().any(|known| known.ptr_eq(&new)) {
            shown.push(new);
        }
    }

    /// Those that are still there.
    pub(crate) fn clients(&self) -> Vec<Client> {
        let shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shown.iter().filter_map(Client::upgrade).collect()
    }
}

impl Figures {
    /// Those of a service, its server and the clients it shows.
    pub(crate) fn of(
        registration: &Registration,
        wellbeing: &Wellbeing,
        server: &ServerStats,
        shown: &Shown,
    ) -> Self {
        let mut figures = Self::default();
        figures.service(registration, wellbeing);
        figures.server(server);
        shown.clients().iter().for_each(|client| figures.client(client));
        figures
    }

    fn service(&mut self, registration: &Registration, wellbeing: &Wellbeing) {
        let Registration { service, version, node, .. } = registration;
        let (healthy, registered) = (wellbeing.is_healthy(), wellbeing.is_registered());
        self.add("micro_service_info", &[service, version, &node.id], Gauge(1));
        self.add("micro_healthy", &[], Gauge(healthy.into()));
        self.add("micro_registered", &[], Gauge(registered.into()));
    }

    fn server(&mut self, stats: &ServerStats) {
        let gauges = [
            ("micro_server_connections", stats.connections),
            ("micro_server_calls_running", stats.running),
            ("micro_server_calls_limit", stats.limit),
            ("micro_server_calls_queued", stats.queued),
        ];
        for (name, value) in gauges {
            self.add(name, &[], Gauge(value as u64));
        }
        self.add("micro_server_calls_shed", &[], Counter(stats.shed));
        for method in &stats.methods {
            let name = method_name(method);
            for (end, took) in &method.ends {
                let error = error_type(*end, spans::is_of_server);
                self.add(SERVED, &[SYSTEM, &name, code(*end), error], Seconds(took.clone()));
            }
        }
    }

    /// Adds the calls that a client made, and what it knows of the services it called.
    pub(crate) fn client(&mut self, client: &Client) {
        for series in client.meter().read() {
            let name = match series.contract.as_str() {
                "" => OTHER.to_owned(),
                contract => format!("{contract}/{}", series.method),
            };
            for (end, took) in series.tally.read() {
                let error = error_type(end, |_| true);
                let labels = [SYSTEM, &*series.service, &*name, code(end), error];
                self.add(CALLED, &labels, Seconds(took));
            }
        }
        for subscription in client.selector().services() {
            self.subscription(&subscription);
        }
    }

    fn subscription(&mut self, subscription: &Subscription<Channel>) {
        let (stats, snapshot) = (subscription.stats(), subscription.snapshot());
        let members = || snapshot.members().iter();
        let in_flight = members().map(|member| u64::from(member.stats().in_flight())).sum();
        let connections = members().map(|member| member.target().connections() as u64).sum();
        let ejected = members().filter(|member| member.stats().is_ejected()).count();
        let figures = [
            ("micro_client_attempts", Counter(stats.attempts)),
            ("micro_client_attempts_near", Counter(stats.near)),
            ("micro_client_attempts_in_flight", Gauge(in_flight)),
            ("micro_client_retries", Counter(stats.retries)),
            ("micro_client_retries_over_budget", Counter(stats.over_budget)),
            ("micro_client_retries_left", Gauge(subscription.retries_left().into())),
            ("micro_client_attempts_throttled", Counter(stats.throttled)),
            ("micro_client_connections", Gauge(connections)),
            ("micro_client_nodes_registered", Gauge(snapshot.registered() as u64)),
            ("micro_client_nodes", Gauge(members().len() as u64)),
            ("micro_client_nodes_ejected", Gauge(ejected as u64)),
            ("micro_client_ejections", Counter(stats.ejections)),
            ("micro_client_registry_answered", Gauge(snapshot.is_answered().into())),
            ("micro_client_registry_stale", Gauge(snapshot.is_stale().into())),
        ];
        for (name, value) in figures {
            self.add(name, &[subscription.service()], value);
        }
    }
}

/// What the conventions call the kind of RPC.
pub(crate) const SYSTEM: &str = "micro";
/// What they call a method that is not known.
const OTHER: &str = "_OTHER";

fn method_name(method: &MethodStats) -> String {
    let name = method.method.as_ref().map_or(OTHER, |method| method.as_str());
    match &method.contract {
        Some(contract) => format!("{contract}/{name}"),
        None => OTHER.to_owned(),
    }
}

fn code(end: Result<(), Code>) -> &'static str {
    end.map_or_else(Code::as_str, |()| "ok")
}

/// Which error a failure is, and nothing for a call that is none of those who show it, as in its span.
fn error_type(end: Result<(), Code>, is_fault: impl Fn(Code) -> bool) -> &'static str {
    end.err().filter(|code| is_fault(*code)).map_or("", Code::as_str)
}
