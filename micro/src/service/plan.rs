//! From what a builder and the settings say to what is done: every rule on a value is checked here,
//! before anything happens; what depends on the address it comes to listen on, once it is bound.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use micro_registry::{Endpoints, Node, NodeState, Registration, Registry, validate};
use micro_rpc::{Address, Limits, Listener, MemoryNetwork, Server};

use super::Service;
use crate::advertise::Advertised;
use crate::balancing::Balancing;
use crate::dynamic::Description;
use crate::health::HealthCheck;
use crate::metrics::Shown;
use crate::registrar::Timing;
use crate::running::Ending;
use crate::settings::{Beneath, Explanation, Resolved, Settings};
use crate::{Contract, Error, Result, advertise, duration, limiting, mount, open};

/// Everything settled that can be before anything happens.
pub(super) struct Plan {
    /// With a placeholder for the node's address, which is known once it is bound.
    pub(super) registration: Registration,
    pub(super) place: Place,
    pub(super) advertise: Option<Resolved<String>>,
    pub(super) timing: Timing,
    pub(super) registry: Arc<dyn Registry>,
    pub(super) server: Server,
    /// What it answers at `/describe`.
    pub(super) description: Vec<u8>,
    /// What it answers at `/config`.
    pub(super) explanation: Explanation,
    pub(super) shown: Shown,
    pub(super) limits: Limits,
    /// Names HTTP callers may use, besides the advertised one.
    pub(super) hosts: Vec<String>,
    pub(super) memory: Option<MemoryNetwork>,
    pub(super) health: Option<HealthCheck>,
    pub(super) ending: Ending,
    pub(super) settings: Settings,
}

/// Where it listens.
pub(super) enum Place {
    Address(Resolved<Address>),
    /// On what the program has bound: one at least.
    Bound(Vec<Listener>),
}

impl Service {
    /// The settings it was handed, or else those of the process.
    pub(super) fn own_settings(&self) -> Result<Settings> {
        self.settings.clone().map_or_else(Settings::from_process, Ok)
    }

    pub(super) async fn plan(mut self, settings: Settings) -> Result<Plan> {
        let explanation = self.explained(&settings);
        let registry = open::registry(&settings, self.registry.clone()).await?;
        let place = self.place(&settings, registry.is_one_host())?;
        let advertise = settings.resolve("advertise", self.advertise.clone(), text)?;
        let hosts = self.host_names(&settings)?;
        let timing = timing(&settings, self.register_ttl, self.register_interval)?;
        let health = self.health()?;
        let limits = limiting::settle(&self.limits, &settings)?;
        let ending = Ending { drain_delay: self.delay(&settings)?, grace: self.grace() };
        // The client this service gives would refuse it, perhaps in the middle of the night.
        Balancing::default().settle(&settings)?;
        let registration = self.registration(&settings)?;
        validate::registration(&registration, timing.ttl)?;
        let description = Description::of_node(&registration, &self.contracts).to_json();
        let router = mount::router(self.contracts, &self.layers);
        let server = Server::new(router).map_err(|error| Error::invalid(error.to_string()))?;
        Ok(Plan {
            registration,
            place,
            advertise,
            timing,
            registry,
            server,
            description,
            limits,
            explanation,
            shown: self.shown,
            hosts,
            memory: self.memory,
            health,
            ending,
            settings,
        })
    }

    /// Every value with its origin; the settings need not make sense for it.
    pub(crate) fn explained(&self, settings: &Settings) -> Explanation {
        let interval = |interval: &Option<Duration>| interval.map(duration::text);
        let said = [
            ("registry", self.registry.as_ref().map(|registry| registry.name().to_owned())),
            ("name", self.name.clone()),
            ("version", self.version.clone()),
            ("address", self.address.clone().or_else(|| self.bound())),
            ("advertise", self.advertise.clone()),
            ("hosts", (!self.hosts.is_empty()).then(|| self.hosts.join(","))),
            ("zone", self.zone.clone()),
            ("register_ttl", interval(&self.register_ttl)),
            ("register_interval", interval(&self.register_interval)),
            ("drain_delay", interval(&self.drain_delay)),
        ];
        let said = said.into_iter().chain(limiting::said(&self.limits));
        let said = said.filter_map(|(key, value)| Some((key, Resolved::by_code(value?))));
        let mut beneath: Beneath = said.collect();
        if let (None, Ok(name)) = (&self.name, default_name(&self.contracts)) {
            beneath.insert("name", Resolved::by_default(name.to_owned()));
        }
        Explanation::new(settings, &beneath)
    }

    fn place(&mut self, settings: &Settings, is_one_host: bool) -> Result<Place> {
        let listeners: std::result::Result<Vec<_>, _> = self.listeners.drain(..).collect();
        let listeners = listeners.map_err(|why| {
            Error::invalid(format!("cannot serve on a listener from code: {why}"))
        })?;
        let Some(bound) = listeners.first().map(Listener::local_address) else {
            return address(settings, self.address.clone(), is_one_host).map(Place::Address);
        };
        match settings.resolve("address", self.address.clone(), text)? {
            None => Ok(Place::Bound(listeners)),
            Some(Resolved { value, origin }) => Err(Error::invalid(format!(
                "address {value:?} from {origin} and the listener on {bound} from code contradict \
                 each other: expected one of them"
            ))),
        }
    }

    /// Where the first of the listeners it was handed listens.
    fn bound(&self) -> Option<String> {
        self.listeners.iter().flatten().next().map(|listener| listener.local_address().to_string())
    }

    fn host_names(&self, settings: &Settings) -> Result<Vec<String>> {
        let code = (!self.hosts.is_empty()).then(|| self.hosts.join(","));
        let Some(hosts) = settings.resolve("hosts", code, text)? else { return Ok(Vec::new()) };
        let names: Vec<_> = hosts.value.split(',').map(|name| name.trim().to_owned()).collect();
        if names.iter().all(|name| is_host(name)) {
            return Ok(names);
        }
        Err(hosts.invalid("hosts", "expected names without a port, such as a.example,b.example"))
    }

    /// How long calls and hooks may take when it stops.
    pub(super) fn grace(&self) -> Duration {
        self.shutdown_timeout.unwrap_or(DEFAULT_SHUTDOWN).min(FOREVER)
    }

    fn delay(&self, settings: &Settings) -> Result<Duration> {
        let delay =
            settings.resolve_or_default("drain_delay", self.drain_delay, duration::parse)?;
        if delay.value > MAX_DELAY {
            return Err(delay.invalid("drain_delay", "expected 5m or less"));
        }
        Ok(delay.value)
    }

    fn health(&self) -> Result<Option<HealthCheck>> {
        let interval = Resolved::by_code(self.health_interval.unwrap_or(DEFAULT_CHECKS));
        if interval.value < MIN_INTERVAL {
            return Err(interval.invalid("health_interval", "expected 100ms or more"));
        }
        let interval = interval.value.min(FOREVER);
        Ok(self.health_check.clone().map(|check| HealthCheck { check, interval }))
    }

    fn registration(&self, settings: &Settings) -> Result<Registration> {
        let name = settings.checked("name", self.name.clone(), validate::service_name)?;
        let service = match name {
            Some(name) => name.value,
            None => default_name(&self.contracts)?.to_owned(),
        };
        let version = settings.resolve_or_default("version", self.version.clone(), text)?;
        let version = version.check("version", validate::version)?.value;
        let zone = settings.checked("zone", self.zone.clone(), validate::zone)?;
        let id = self.id.clone().unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
        let id = Resolved::by_code(id).check("id", validate::node_id)?.value;
        let mut node = Node::new(id, UNBOUND);
        node.epoch = unix_milliseconds();
        node.weight = self.weight.unwrap_or(Node::DEFAULT_WEIGHT);
        node.zone = zone.map(|zone| zone.value);
        if self.health_check.is_some() {
            node.state = NodeState::Starting;
        }
        let mut registration = Registration::new(service, version, node);
        registration.metadata = self.metadata.clone();
        let endpoints = self.contracts.iter().flat_map(Contract::endpoints).collect();
        registration.endpoints = Endpoints::Listed(endpoints);
        Ok(registration)
    }
}

/// Stands for the address until it is bound, in a form that passes.
const UNBOUND: &str = "memory:unbound";
const DEFAULT_SHUTDOWN: Duration = Duration::from_secs(30);
/// As good as no bound, and within what clocks can add.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);
/// What waits longer for news to get around has lost its way, or a unit.
const MAX_DELAY: Duration = Duration::from_secs(5 * 60);
/// Between health checks.
const DEFAULT_CHECKS: Duration = Duration::from_secs(10);
/// Below this there would be nothing but renewals and checks.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

fn timing(
    settings: &Settings,
    ttl: Option<Duration>,
    interval: Option<Duration>,
) -> Result<Timing> {
    let ttl = settings.resolve_or_default("register_ttl", ttl, duration::parse)?;
    let interval = settings.resolve_or_default("register_interval", interval, duration::parse)?;
    if interval.value < MIN_INTERVAL {
        return Err(interval.invalid("register_interval", "expected 100ms or more"));
    }
    if ttl.value > validate::MAX_TTL {
        return Err(ttl.invalid("register_ttl", "expected a year, 8760h, or less"));
    }
    if ttl.value < interval.value.saturating_mul(2) {
        return Err(Error::invalid(format!(
            "register_ttl {} from {} is less than twice register_interval {} from {}: one lost \
             renewal would take the service out; expected {} or more",
            duration::text(ttl.value),
            ttl.origin,
            duration::text(interval.value),
            interval.origin,
            duration::text(interval.value.saturating_mul(2)),
        )));
    }
    Ok(Timing { ttl: ttl.value, interval: interval.value })
}

impl Settings {
    /// The host or address under which others would find a service with these settings that is
    /// started here, and why; `is_one_host` is what its registry
    /// [says](micro_registry::Registry::is_one_host).
    ///
    /// # Errors
    ///
    /// `invalid_argument` for an address that makes no sense.
    pub fn advertised(&self, is_one_host: bool) -> Result<(String, String)> {
        let mut bound = address(self, None, is_one_host)?.value;
        let is_free = matches!(bound, Address::Tcp { port: 0, .. });
        if let Address::Tcp { port, .. } = &mut bound
            && is_free
        {
            *port = u16::MAX;
        }
        let configured = self.resolve("advertise", None, text)?;
        let Advertised { address, reason } =
            advertise::choose(&bound, configured, &advertise::interfaces())?;
        let address = match (address, is_free) {
            (Address::Tcp { host, port: u16::MAX }, true) => host,
            (address, _) => address.to_string(),
        };
        // The port that is not known yet is nobody's business.
        Ok((address, reason.replace(":65535", "")))
    }
}

/// Where to listen: a free port when nobody says, on the loopback when nobody else could find it.
fn address(
    settings: &Settings,
    code: Option<String>,
    is_one_host: bool,
) -> Result<Resolved<Address>> {
    let default = if is_one_host { "127.0.0.1:0" } else { "0.0.0.0:0" };
    let resolved = settings.resolve("address", code, text)?;
    let resolved = resolved.unwrap_or_else(|| Resolved::by_default(default.to_owned()));
    // Nobody could be told a path that means something else elsewhere.
    let is_absolute = |address: &Address| match address {
        Address::Unix(path) => path.is_absolute(),
        _ => true,
    };
    let Some(value) = resolved.value.parse().ok().filter(is_absolute) else {
        let expected = "expected host:port, [ipv6]:port, unix:/path or memory:name";
        return Err(resolved.invalid("address", expected));
    };
    Ok(Resolved { value, origin: resolved.origin })
}

/// Whether a caller could send this as the name of a host.
fn is_host(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    !name.is_empty() && name.chars().all(allowed)
}

fn text(text: &str) -> std::result::Result<String, String> {
    Ok(text.to_owned())
}

fn default_name(contracts: &[Contract]) -> Result<&str> {
    match contracts {
        [only] => Ok(only.name()),
        [] => Err(Error::invalid("the service has no name and nothing to serve: call `.serve(…)`")),
        several => {
            let names: Vec<_> = several.iter().map(Contract::name).collect();
            let names = names.join(", ");
            Err(Error::invalid(format!(
                "the service has no name, and several contracts ({names}): call `.name(…)`"
            )))
        }
    }
}

fn unix_milliseconds() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use micro_registry::MemoryRegistry;

    use super::*;
    use crate::contract::{MethodInfo, contract};

    /// A contract with one method, of whose doc comment others are told.
    fn documented(doc: String) -> Contract {
        let info = MethodInfo::new("shop", "price").doc(doc.leak());
        let info: &'static MethodInfo = Box::leak(Box::new(info));
        let method = |_: Arc<()>, _, ()| async { 3 };
        contract("shop", "").infallible(&Arc::new(()), info, method).build()
    }

    /// Where a service would be found is known before one is started, with the reason.
    #[test]
    fn the_address_others_would_find() {
        let said = |key: &str, value: &str| {
            let settings = Settings::none().flag(key, value).unwrap();
            settings.advertised(true).map_err(|error| error.to_string())
        };
        let (host, reason) = Settings::none().advertised(true).unwrap();
        assert_eq!((&*host, &*reason), ("127.0.0.1", "the address it is bound to"));
        let (host, reason) = said("advertise", "shop.example").unwrap();
        assert_eq!((&*host, &*reason), ("shop.example", "configured by flag --advertise"));
        assert_eq!(said("address", "127.0.0.1:7").unwrap().0, "127.0.0.1:7");
        assert_eq!(said("advertise", "1.2.3.4:9").unwrap().0, "1.2.3.4:9");
        let (_, reason) = Settings::none().advertised(false).unwrap();
        assert!(reason.starts_with("bound to 0.0.0.0; "), "{reason}");
        assert!(said("advertise", "0.0.0.0").unwrap_err().contains("advertise \"0.0.0.0\""));
    }

    /// What is too large for a registry is refused before anything happens, with its size and what
    /// would do.
    #[tokio::test]
    async fn a_registration_that_is_too_large_is_refused() {
        let begun = Arc::new(AtomicBool::new(false));
        let service = |bytes: usize| {
            let begun = begun.clone();
            Service::new()
                .settings(Settings::none())
                .registry(MemoryRegistry::new())
                .before_start(|| async move {
                    begun.store(true, Ordering::Relaxed);
                    Ok(())
                })
                .serve(documented("x".repeat(bytes)))
        };
        let error = service(validate::MAX_RECORD_BYTES).start().await.unwrap_err();
        assert_eq!(error.code(), crate::Code::InvalidArgument);
        let error = error.to_string();
        assert!(
            error.starts_with("registration \"1048") && error.contains("at most 1048576 bytes"),
            "{error}"
        );
        assert!(!begun.load(Ordering::Relaxed));
        drop(service(validate::MAX_RECORD_BYTES - 1_000).start().await.unwrap());
    }

    /// A limit out of its range ends the start, naming it and the nearest that would do.
    #[tokio::test]
    async fn limits_out_of_range_are_refused() {
        let service = |limits| {
            let service = Service::new().settings(Settings::none()).registry(MemoryRegistry::new());
            service.limits(limits).serve(documented(String::new())).start()
        };
        let wrong = [
            (
                Limits { max_rate_per_peer: Some(0), ..Limits::default() },
                "max_rate_per_peer of 0",
                "1",
            ),
            (
                Limits { max_running: 8, min_running: 9, ..Limits::default() },
                "min_running of 9",
                "8",
            ),
        ];
        for (limits, value, nearest) in wrong {
            let error = service(limits).await.unwrap_err();
            assert_eq!(error.code(), crate::Code::InvalidArgument);
            let expected = format!("{value} is out of range: the nearest in it is {nearest}");
            assert!(error.to_string().contains(&expected), "{error}");
        }
        let few = Limits { max_running: 8, ..Limits::default() };
        drop(service(few).await.unwrap());
    }
}
