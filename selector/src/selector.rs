//! The cache of services, and the task that keeps each of them current.

use std::collections::HashMap;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use micro_registry::{
    EmptyReason, Error, ErrorKind, Registration, Registry, Scope, Service, Update, View, Watch,
    validate,
};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::cache::{Cache, Change};
use crate::filter::ZONE;
use crate::{
    Avoid, Budget, BudgetPolicy, Filter, Invalid, Picker, StrategyKind, Subscription, Throttle,
    ThrottlePolicy,
};

/// How a [`Selector`] watches and picks. [`Default`] is what the fields name.
///
/// Values out of range count as the nearest that is in it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SelectorConfig {
    /// How nodes are picked. Default `ewma`.
    pub strategy: StrategyKind,
    /// The zone of the caller, whose nodes are preferred while at least three of them are ready and
    /// the best of them takes at most twice as long as is normal elsewhere. Default: none, all zones
    /// are alike.
    pub zone: Option<String>,
    /// Which nodes come into question, for all calls. Default: all.
    pub filter: Filter,
    /// How often a service is read again, in case its watch lost something; ± 10 %. 1 s to a year,
    /// default 60 s.
    pub reread_interval: Duration,
    /// How long a service nobody holds or calls is still watched; while the registry is away, what
    /// is known is kept for longer. 1 s to a year, default 5 min.
    pub idle_timeout: Duration,
    /// The same for a service that has no nodes. 1 s to a year, default 30 s.
    pub negative_timeout: Duration,
    /// How much each service may be asked again, by all of this selector's callers together.
    pub budget: BudgetPolicy,
    /// When attempts at a service that refuses many of them as overloaded end before they are sent:
    /// see [`Throttle`](crate::Throttle). `None` for never.
    pub throttle: Option<ThrottlePolicy>,
}

impl Default for SelectorConfig {
    fn default() -> Self {
        Self {
            strategy: StrategyKind::default(),
            zone: None,
            filter: Filter::default(),
            reread_interval: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(300),
            negative_timeout: Duration::from_secs(30),
            budget: BudgetPolicy::default(),
            throttle: Some(ThrottlePolicy::default()),
        }
    }
}

impl SelectorConfig {
    /// Whether zone, filter, budget and throttle make sense.
    ///
    /// # Errors
    ///
    /// For the first that does not.
    pub fn check(&self) -> Result<(), Invalid> {
        if let Some(zone) = &self.zone {
            validate::zone(zone).map_err(|_| Invalid::new("zone", format!("{zone:?}"), ZONE))?;
        }
        self.filter.check()?;
        self.budget.check()?;
        self.throttle.map_or(Ok(()), |throttle| throttle.check())
    }

    /// With every value in its range, so that no arithmetic with it overflows.
    fn clamped(mut self) -> Self {
        const RANGE: (Duration, Duration) =
            (Duration::from_secs(1), Duration::from_secs(365 * 24 * 3600));
        for span in [&mut self.reread_interval, &mut self.idle_timeout, &mut self.negative_timeout]
        {
            *span = (*span).clamp(RANGE.0, RANGE.1);
        }
        let share = self.budget.share;
        self.budget.share = if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) };
        self
    }
}

/// Makes what is kept for a node; the error says why it cannot be called, for the log.
type Make<T> = Box<dyn Fn(&Registration) -> Result<T, String> + Send + Sync>;

/// The caching selector: one watch and one snapshot per service that is called.
///
/// Owns a task for each; dropping the last clone stops them all, and what subscribers still hold
/// stays as it was.
pub struct Selector<T> {
    inner: Arc<Inner<T>>,
}

impl<T> Clone for Selector<T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<T: Clone + Send + Sync + 'static> Selector<T> {
    /// A selector over a registry; `make` gives what is kept for each node. Starts no task.
    pub fn new(
        registry: Arc<dyn Registry>,
        config: SelectorConfig,
        make: impl Fn(&Registration) -> Result<T, String> + Send + Sync + 'static,
    ) -> Self {
        Self::avoiding(registry, config, make, |_| false)
    }

    /// The same, calling nodes for which `avoid` says so only when there is no other: those that
    /// are about to stop, for example, which tell their callers before the registry does. It is
    /// asked for each call, so it must be quick.
    pub fn avoiding(
        registry: Arc<dyn Registry>,
        config: SelectorConfig,
        make: impl Fn(&Registration) -> Result<T, String> + Send + Sync + 'static,
        avoid: impl Fn(&T) -> bool + Send + Sync + 'static,
    ) -> Self {
        let config = config.clamped();
        let subscriptions = Mutex::default();
        let tasks = Mutex::default();
        let (make, avoid, outages) = (Box::new(make), Arc::new(avoid), Arc::default());
        let inner = Inner { registry, config, make, avoid, subscriptions, tasks, outages };
        Self { inner: Arc::new(inner) }
    }

    /// The service of this name, watched from the first time on. Does not wait for the registry.
    ///
    /// # Errors
    ///
    /// `Invalid` for what cannot be a service's name.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn subscribe(&self, service: &str) -> Result<Arc<Subscription<T>>, Error> {
        let mut subscriptions = self.inner.subscriptions();
        if let Some(known) = subscriptions.get(service) {
            known.touch();
            return Ok(known.clone());
        }
        validate::service_name(service)?;
        let name: Arc<str> = service.into();
        let config = &self.inner.config;
        let budget = Budget::new(config.budget.share, config.budget.per_second, Instant::now());
        let picker = Picker::new(&config.strategy, Instant::now());
        let cache = Cache::new(&picker).within(config.zone.clone(), config.filter.clone());
        let avoid = self.inner.avoid.clone();
        let throttle = config.throttle.map(|policy| Throttle::by(&policy, Instant::now()));
        let subscription = Subscription::new(name.clone(), picker, avoid, budget, throttle);
        let subscription =
            Arc::new(subscription.within(config.zone.clone(), config.filter.clone()));
        let owner = Owner {
            registry: self.inner.registry.clone(),
            inner: Arc::downgrade(&self.inner),
            subscription: subscription.clone(),
            cache,
            unpublished: false,
            outage: None,
            refused: false,
            idle_at: Instant::now(),
        };
        self.inner.spawn(owner.run(config.clone()));
        subscriptions.insert(name, subscription.clone());
        Ok(subscription)
    }

    /// The services watched now, for people to look at.
    pub fn services(&self) -> Vec<Arc<Subscription<T>>> {
        self.inner.subscriptions().values().cloned().collect()
    }

    /// The registry it asks.
    pub fn registry(&self) -> &Arc<dyn Registry> {
        &self.inner.registry
    }
}

impl<T> fmt::Debug for Selector<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Selector")
            .field("registry", &self.inner.registry)
            .field("services", &self.inner.subscriptions().keys().collect::<Vec<_>>())
            .field("config", &self.inner.config)
            .finish()
    }
}

struct Inner<T> {
    registry: Arc<dyn Registry>,
    config: SelectorConfig,
    make: Make<T>,
    avoid: Arc<Avoid<T>>,
    subscriptions: Mutex<HashMap<Arc<str>, Arc<Subscription<T>>>>,
    tasks: Mutex<JoinSet<()>>,
    outages: Arc<Outages>,
}

/// The services that have lost their watch's source. The registry is one for all, so the first to
/// lose it says so in the log, and the last to find it again.
#[derive(Default)]
struct Outages {
    count: AtomicUsize,
    /// Whether one of them has found it again.
    found: AtomicBool,
}

/// A service among them. Dropping it alone, because nobody calls the service any more, tells
/// nobody anything.
struct Outage {
    outages: Arc<Outages>,
    registry: Arc<dyn Registry>,
}

impl Outage {
    fn begin(outages: &Arc<Outages>, registry: &Arc<dyn Registry>, cause: &str) -> Self {
        if outages.count.fetch_add(1, Ordering::Relaxed) == 0 {
            let registry = registry.name();
            tracing::warn!(registry, cause, "registry lost, keeping the known nodes");
        }
        Self { outages: outages.clone(), registry: registry.clone() }
    }

    fn over(self) {
        self.outages.found.store(true, Ordering::Relaxed);
    }
}

impl Drop for Outage {
    fn drop(&mut self) {
        let Outages { count, found } = &*self.outages;
        if count.fetch_sub(1, Ordering::Relaxed) == 1 && found.swap(false, Ordering::Relaxed) {
            tracing::info!(registry = self.registry.name(), "registry found again");
        }
    }
}

impl<T> Inner<T> {
    fn subscriptions(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Subscription<T>>>> {
        self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the results of the tasks that ended: a panic in one is a bug of this crate.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(ended) = tasks.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(%error, "the task that watched a service failed");
            }
        }
        tasks.spawn(task);
    }

    /// Forgets a service unless somebody besides this map and its task holds it.
    fn forget(&self, subscription: &Arc<Subscription<T>>) -> bool {
        const MAP_AND_TASK: usize = 2;
        let mut subscriptions = self.subscriptions();
        // Under the lock nobody new can take it from the map.
        let idle = Arc::strong_count(subscription) == MAP_AND_TASK;
        if idle {
            subscriptions.remove(subscription.service());
        }
        idle
    }
}

/// The task of one service: the only writer of its snapshot.
struct Owner<T> {
    registry: Arc<dyn Registry>,
    /// Weak, so that dropping the selector ends this task.
    inner: Weak<Inner<T>>,
    subscription: Arc<Subscription<T>>,
    cache: Cache<T>,
    /// The cache has changed since it was published, as after a panic in between.
    unpublished: bool,
    outage: Option<Outage>,
    /// The registry refused the last watch.
    refused: bool,
    /// When to see whether somebody uses the service.
    idle_at: Instant,
}

/// How long a lookup may take; a backend has a deadline of its own, which it may not keep.
const REREAD_PATIENCE: Duration = Duration::from_secs(10);

/// Why following a watch ended.
enum Ended {
    Idle,
    WatchOver,
}

impl<T: Clone + Send + Sync + 'static> Owner<T> {
    async fn run(mut self, config: SelectorConfig) {
        self.idle_at = self.next_idle(&config);
        loop {
            // What others wrote runs here: the backend, and what makes a node's target.
            match AssertUnwindSafe(self.watch(&config)).catch_unwind().await {
                Ok(Ended::Idle) => return,
                Ok(Ended::WatchOver) => {}
                Err(_) => {
                    let service = self.subscription.service();
                    tracing::error!(service, "watching a service panicked, starting it again");
                }
            }
            // By the trait no watch ends; a backend that breaks it must not make this spin.
            sleep(Duration::from_secs(1).mul_f64(0.8 + 0.4 * fastrand::f64())).await;
            if self.is_idle(&config) {
                return;
            }
        }
    }

    async fn watch(&mut self, config: &SelectorConfig) -> Ended {
        let scope = Scope::Service(self.subscription.service().to_owned());
        match self.registry.watch(scope).await {
            Ok(watch) => {
                self.refused = false;
                self.follow(watch, config).await
            }
            Err(error) => {
                let service = self.subscription.service();
                if !std::mem::replace(&mut self.refused, true) {
                    tracing::warn!(service, %error, "the registry refuses a watch, going on trying");
                }
                Ended::WatchOver
            }
        }
    }

    async fn follow(&mut self, mut watch: Watch, config: &SelectorConfig) -> Ended {
        let mut reread_at = next_reread(config);
        loop {
            let idle_at = self.idle_at;
            let hold_over = self.cache.held_until();
            tokio::select! {
                update = watch.next() => match update {
                    Some(update) => self.take_in_all(update, &mut watch),
                    None => return Ended::WatchOver,
                },
                () = sleep_until(reread_at) => {
                    self.reread(&mut watch).await;
                    reread_at = next_reread(config);
                }
                () = sleep_until(hold_over.unwrap_or(idle_at)), if hold_over.is_some() => {
                    let change = self.cache.tick(Instant::now());
                    self.publish_if(change == Change::Changed);
                }
                () = sleep_until(idle_at) => {
                    if self.is_idle(config) {
                        return Ended::Idle;
                    }
                }
            }
        }
    }

    /// Takes in what is ready, and publishes once for all of it.
    fn take_in_all(&mut self, first: Update, watch: &mut Watch) {
        const AT_ONCE: usize = 1_024;
        let mut changed = self.take_in(&first);
        for _ in 1..AT_ONCE {
            let Some(Some(update)) = watch.next().now_or_never() else { break };
            changed |= self.take_in(&update);
        }
        self.publish_if(changed);
    }

    /// Returns whether there is something to publish.
    fn take_in(&mut self, update: &Update) -> bool {
        let change = self.cache.apply(update, Instant::now());
        match update {
            Update::Stale { cause, .. } => {
                if let (None, Some(inner)) = (&self.outage, self.inner.upgrade()) {
                    self.outage = Some(Outage::begin(&inner.outages, &self.registry, cause));
                }
            }
            Update::Reset { .. } => {
                if let Some(outage) = self.outage.take() {
                    outage.over();
                }
            }
            _ => {}
        }
        if let Change::Held(nodes) = change {
            let (service, registry) = (self.subscription.service(), self.registry.name());
            tracing::info!(service, registry, nodes, "registry forgot nodes, keeping them");
        }
        change != Change::Nothing
    }

    /// Reads the service again. An update that comes meanwhile wins, since what is read may be
    /// older, and while the watch itself is behind nothing is gained.
    async fn reread(&mut self, watch: &mut Watch) {
        if !self.cache.is_current() {
            return;
        }
        let registry = self.registry.clone();
        let service = self.subscription.service().to_owned();
        let read = tokio::select! {
            biased;
            update = watch.next() => {
                if let Some(update) = update {
                    self.take_in_all(update, watch);
                }
                return;
            }
            read = timeout(REREAD_PATIENCE, registry.get(&service)) => read,
        };
        let read = match read {
            Ok(Ok(services)) => registrations(services),
            Ok(Err(error)) if error.kind() == ErrorKind::NotFound => View::new(),
            Ok(Err(_)) | Err(_) => return,
        };
        if is_same_nodes(&read, self.cache.view()) {
            return;
        }
        tracing::info!(service, nodes = read.len(), "read again what the watch had not told");
        let changed = self.take_in(&reset(read));
        self.publish_if(changed);
    }

    fn publish_if(&mut self, changed: bool) {
        let Some(inner) = self.inner.upgrade() else { return };
        self.unpublished |= changed;
        if self.unpublished {
            let make = |registration: &Registration| make_or_warn(&inner.make, registration);
            let snapshot = self.cache.snapshot(make, Instant::now());
            self.subscription.publish(snapshot);
            self.unpublished = false;
        }
    }

    /// Whether it is time to look, nobody has used it since the last time, and it is forgotten now.
    fn is_idle(&mut self, config: &SelectorConfig) -> bool {
        if Instant::now() < self.idle_at {
            return false;
        }
        self.idle_at = self.next_idle(config);
        // What is known cannot be read again while the registry is away.
        if !self.cache.is_current() && !self.cache.view().is_empty() {
            return false;
        }
        !self.subscription.take_used() && self.forget()
    }

    fn forget(&self) -> bool {
        self.inner.upgrade().is_none_or(|inner| inner.forget(&self.subscription))
    }

    fn next_idle(&self, config: &SelectorConfig) -> Instant {
        let known = !self.cache.view().is_empty();
        Instant::now() + if known { config.idle_timeout } else { config.negative_timeout }
    }
}

fn make_or_warn<T>(make: &Make<T>, registration: &Registration) -> Option<T> {
    make(registration)
        .inspect_err(|cause| {
            let Registration { service, node, .. } = registration;
            tracing::warn!(
                service,
                node = node.id,
                cause,
                "a node cannot be called, leaving it out"
            );
        })
        .ok()
}

fn next_reread(config: &SelectorConfig) -> Instant {
    Instant::now() + config.reread_interval.mul_f64(0.9 + 0.2 * fastrand::f64())
}

/// Whether both have the same nodes, whatever they say of their service, which a lookup tells for
/// all nodes of a version together.
fn is_same_nodes(read: &View, known: &View) -> bool {
    read.len() == known.len()
        && read.iter().zip(known.iter()).all(|(read, known)| read.node == known.node)
}

fn reset(view: View) -> Update {
    Update::reset(view.iter().cloned().collect(), EmptyReason::Unknown)
}

/// A lookup's answer taken apart into what was registered, save that nodes of one version share
/// what they say of their service.
fn registrations(services: Vec<Service>) -> View {
    let one = |service: &Service, node| {
        let mut one = Registration::new(&service.name, &service.version, node);
        one.metadata = service.metadata.clone();
        one.endpoints = service.endpoints.clone();
        one
    };
    let all = services.into_iter().flat_map(|mut service| {
        let nodes = std::mem::take(&mut service.nodes);
        nodes.into_iter().map(move |node| Arc::new(one(&service, node)))
    });
    all.collect()
}
