//! What a case has at hand: handles, faults, patience, and the way it ends.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use micro_registry::{
    DEFAULT_NAMESPACE, Error, ErrorKind, Node, Registration, Registry, Scope, Service,
};
use tokio::time::Instant;

use crate::follower::Follower;
use crate::{Backend, Faults, Line, Profile, Unsupported, sample};

/// A handle on the store of a case.
pub(crate) type Handle = Arc<dyn Registry>;

/// Longer than any case.
pub(crate) const LONG: Duration = Duration::from_secs(3_600);

/// How a case ends early.
#[derive(Debug)]
pub(crate) enum Stop {
    Skipped(String),
    Broken { line: Line, what: String },
}

/// What a case, or a step of it, comes to.
pub(crate) type Verdict<T = ()> = Result<T, Stop>;

impl From<Unsupported> for Stop {
    fn from(unsupported: Unsupported) -> Self {
        Self::Skipped(unsupported.to_string())
    }
}

/// Ends the case with a broken line.
pub(crate) fn broken<T>(line: Line, what: impl Into<String>) -> Verdict<T> {
    Err(Stop::Broken { line, what: what.into() })
}

/// Ends the case with a broken line unless it holds.
pub(crate) fn ensure(line: Line, holds: bool, what: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { broken(line, what()) }
}

/// Ends the case with a broken line unless the call failed in this way.
pub(crate) fn ensure_kind<T: Debug>(
    line: Line,
    call: &str,
    result: Result<T, Error>,
    expected: ErrorKind,
) -> Verdict<Error> {
    match result {
        Err(error) if error.kind() == expected => Ok(error),
        Err(error) => broken(line, format!("{call} failed with {error:?}, not {expected:?}")),
        Ok(answer) => broken(line, format!("{call} answered {answer:?}, not {expected:?}")),
    }
}

/// The store of one case and what is asked of it.
pub(crate) struct Stage<'a> {
    backend: &'a dyn Backend,
    pub(crate) profile: &'a Profile,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(backend: &'a dyn Backend, profile: &'a Profile) -> Self {
        Self { backend, profile }
    }

    pub(crate) async fn open(&self) -> Handle {
        self.open_in(DEFAULT_NAMESPACE).await
    }

    pub(crate) async fn open_in(&self, namespace: &str) -> Handle {
        self.backend.open(namespace).await
    }

    /// A handle on a store that holds the fixture.
    pub(crate) async fn open_furnished(&self) -> Verdict<Handle> {
        let registry = self.open().await;
        if self.profile.writes {
            for registration in sample::fixture() {
                self.register(&registry, &registration, LONG).await?;
            }
        }
        Ok(registry)
    }

    /// The faults of the backend; without any the case is skipped.
    pub(crate) fn faults(&self) -> Verdict<&dyn Faults> {
        Ok(self.backend.faults().ok_or(Unsupported)?)
    }

    pub(crate) fn secret(&self) -> Option<&str> {
        self.backend.secret()
    }

    /// How many watches the store serves; if it cannot tell the case is skipped.
    pub(crate) async fn watches(&self) -> Verdict<usize> {
        let count = self.backend.watches().await;
        count.ok_or_else(|| Stop::Skipped("the backend cannot count its watches".into()))
    }

    /// How long to wait for something before it is called missing.
    pub(crate) fn patience(&self) -> Duration {
        self.profile.settle
    }

    /// How long to wait for a node of this TTL to expire before it is said to stay.
    pub(crate) fn expiry_patience(&self, ttl: Duration) -> Duration {
        ttl + ttl / 2 + Duration::from_secs(1) + self.profile.settle
    }

    pub(crate) async fn register(
        &self,
        registry: &Handle,
        registration: &Registration,
        ttl: Duration,
    ) -> Verdict {
        let done = registry.register(registration, ttl).await;
        let name = || format!("{}/{}", registration.service, registration.node.id);
        done.or_else(|e| broken(Line::Register, format!("register of {} failed: {e:?}", name())))
    }

    pub(crate) async fn deregister(
        &self,
        registry: &Handle,
        registration: &Registration,
    ) -> Verdict {
        let done = registry.deregister(registration).await;
        let name = || format!("{}/{}", registration.service, registration.node.id);
        done.or_else(|e| {
            broken(Line::Deregister, format!("deregister of {} failed: {e:?}", name()))
        })
    }

    /// The versions of a service, none when there is no such service: how that is said is a case
    /// of its own.
    pub(crate) async fn get(&self, registry: &Handle, service: &str) -> Verdict<Vec<Service>> {
        match registry.get(service).await {
            Ok(services) => Ok(services),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(vec![]),
            Err(error) => broken(Line::Lookup, format!("get of {service:?} failed: {error:?}")),
        }
    }

    /// The nodes of a service, ordered by id.
    pub(crate) async fn nodes(&self, registry: &Handle, service: &str) -> Verdict<Vec<Node>> {
        let services = self.get(registry, service).await?;
        let mut nodes: Vec<_> = services.into_iter().flat_map(|service| service.nodes).collect();
        nodes.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(nodes)
    }

    /// A watch, before its first update.
    pub(crate) async fn watch(&self, registry: &Handle, scope: Scope) -> Verdict<Follower> {
        match registry.watch(scope.clone()).await {
            Ok(watch) => Ok(Follower::new(watch, self.patience())),
            Err(error) => broken(Line::Watch, format!("watch of {scope:?} failed: {error:?}")),
        }
    }

    /// A watch that has told what there is.
    pub(crate) async fn follow(&self, registry: &Handle, service: &str) -> Verdict<Follower> {
        let mut follower = self.watch(registry, sample::scope(service)).await?;
        follower.first_reset().await?;
        Ok(follower)
    }

    /// Waits until a service has exactly these nodes.
    pub(crate) async fn until_nodes(
        &self,
        line: Line,
        registry: &Handle,
        service: &str,
        expected: &[&Registration],
    ) -> Verdict {
        self.until_nodes_within(self.patience(), line, registry, service, expected).await
    }

    /// Waits so long until a service has exactly these nodes.
    pub(crate) async fn until_nodes_within(
        &self,
        patience: Duration,
        line: Line,
        registry: &Handle,
        service: &str,
        expected: &[&Registration],
    ) -> Verdict {
        let expected: Vec<_> = expected.iter().map(|registration| &registration.node).collect();
        let deadline = Instant::now() + patience;
        loop {
            let found = self.nodes(registry, service).await?;
            if found.iter().collect::<Vec<_>>() == expected {
                return Ok(());
            }
            let what = || format!("get of {service:?} gives {found:?}, not {expected:?}");
            ensure(line, Instant::now() < deadline, || format!("{} ({patience:?})", what()))?;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Looks until it is so.
    pub(crate) async fn eventually(
        &self,
        line: Line,
        what: &str,
        mut is_so: impl AsyncFnMut() -> Verdict<bool>,
    ) -> Verdict {
        let deadline = Instant::now() + self.patience();
        while !is_so().await? {
            let missing = || format!("not within {:?}: {what}", self.patience());
            ensure(line, Instant::now() < deadline, missing)?;
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }
}

const PAUSE: Duration = Duration::from_millis(10);
