//! A registry around another, which hangs, fails and counts as a test wants.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use micro::registry::{
    Error, ErrorKind, MemoryRegistry, Registration, Registry, Scope, Service, ServiceSummary, Watch,
};

#[derive(Clone, Debug, Default)]
pub(crate) struct Fragile {
    pub(crate) inner: MemoryRegistry,
    pub(crate) is_one_host: bool,
    /// Calls of this time never end.
    hangs: Arc<AtomicBool>,
    /// Calls fail, for a reason with a cause.
    fails: Arc<AtomicBool>,
    /// Calls panic.
    panics: Arc<AtomicBool>,
    /// Calls fail with an error whose text panics.
    mumbles: Arc<AtomicBool>,
    registered: Arc<AtomicU32>,
}

impl Fragile {
    pub(crate) fn around(inner: &MemoryRegistry) -> Self {
        Self { inner: inner.clone(), is_one_host: true, ..Self::default() }
    }

    /// From now on calls hang; those under way hang on when later ones no longer do.
    pub(crate) fn hang(&self, hangs: bool) {
        self.hangs.store(hangs, Ordering::Relaxed);
    }

    pub(crate) fn fail(&self, fails: bool) {
        self.fails.store(fails, Ordering::Relaxed);
    }

    pub(crate) fn panic(&self, panics: bool) {
        self.panics.store(panics, Ordering::Relaxed);
    }

    pub(crate) fn mumble(&self, mumbles: bool) {
        self.mumbles.store(mumbles, Ordering::Relaxed);
    }

    /// How often a node was to be registered.
    pub(crate) fn registered(&self) -> u32 {
        self.registered.load(Ordering::Relaxed)
    }

    async fn write(&self) -> Result<(), Error> {
        if self.hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        assert!(!self.panics.load(Ordering::Relaxed), "on purpose");
        if self.mumbles.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Unavailable, "mumbles").with_source(Unspeakable));
        }
        if self.fails.load(Ordering::Relaxed) {
            let error = Error::new(ErrorKind::Unavailable, "cannot write");
            return Err(error.with_source(std::io::Error::other("the disk is full")));
        }
        Ok(())
    }
}

/// An error that cannot be told.
#[derive(Debug)]
pub(crate) struct Unspeakable;

impl std::fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("on purpose")
    }
}

impl std::error::Error for Unspeakable {}

#[async_trait::async_trait]
impl Registry for Fragile {
    fn name(&self) -> &str {
        "fragile"
    }

    fn is_one_host(&self) -> bool {
        self.is_one_host
    }

    async fn register(&self, registration: &Registration, ttl: Duration) -> Result<(), Error> {
        self.registered.fetch_add(1, Ordering::Relaxed);
        self.write().await?;
        self.inner.register(registration, ttl).await
    }

    async fn deregister(&self, registration: &Registration) -> Result<(), Error> {
        self.write().await?;
        self.inner.deregister(registration).await
    }

    async fn get(&self, service: &str) -> Result<Vec<Service>, Error> {
        self.inner.get(service).await
    }

    async fn list(&self) -> Result<Vec<ServiceSummary>, Error> {
        self.inner.list().await
    }

    async fn watch(&self, scope: Scope) -> Result<Watch, Error> {
        self.inner.watch(scope).await
    }
}
