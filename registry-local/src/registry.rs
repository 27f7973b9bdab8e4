//! The registry: validation, deadlines, and handing file work to threads that may block.

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use micro_registry::{
    Error, ErrorKind, Registration, Registry, RegistryUrl, Scope, Service, ServiceSummary, View,
    Watch, validate,
};
use tokio::sync::Semaphore;

use crate::LocalConfig;
use crate::directory::Directory;
use crate::feeder::Feeder;
use crate::reader::Reader;
use crate::writer::Writer;

/// The registry of one user on one host; see the [crate] for how it works.
///
/// Clones share one handle: one lock, one task for all watches. When the last clone is dropped the
/// lock is let go, so its nodes are gone for everybody, as *expired*, and its watches end.
#[derive(Clone)]
pub struct LocalRegistry {
    shared: Arc<Shared>,
}

impl LocalRegistry {
    /// A handle. Does no I/O and starts no task.
    ///
    /// # Errors
    ///
    /// `Invalid` for a namespace that cannot be one, a relative directory, or no rescan interval.
    pub fn new(config: LocalConfig) -> Result<Self, Error> {
        config.validate()?;
        let reader = Reader::new(Directory::new(&config));
        let shared = Shared {
            writer: Writer::new(reader.clone()),
            writing: Arc::new(Semaphore::new(1)),
            feeder: Feeder::new(reader.clone(), &config),
            reader,
            config,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// A handle by URL: `local:`, which is in `default_directory`, or `local:/directory`, either
    /// with `?namespace=name`. Does no I/O and starts no task.
    ///
    /// # Errors
    ///
    /// `Invalid`, saying what would be right, for a host, another scheme, an unknown key, and for
    /// what [`new`](Self::new) refuses.
    pub fn from_url(url: RegistryUrl, default_directory: &Path) -> Result<Self, Error> {
        Self::new(LocalConfig::from_url(url, default_directory)?)
    }

    async fn read(&self, scope: Scope) -> Result<View, Error> {
        let reader = self.shared.reader.clone();
        in_time(blocking(move || reader.view(&scope))).await
    }

    /// One write at a time; it ends also when its caller has gone, and only then the next begins.
    async fn write<F>(&self, write: F) -> Result<(), Error>
    where
        F: FnOnce(&Writer) -> Result<(), Error> + Send + 'static,
    {
        let closed = |_| Error::new(ErrorKind::Internal, "local registry was closed");
        let permit = self.shared.writing.clone().acquire_owned().await.map_err(closed)?;
        let shared = self.shared.clone();
        blocking(move || {
            let _permit = permit;
            write(&shared.writer)
        })
        .await
    }
}

impl fmt::Debug for LocalRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalRegistry")
            .field("directory", &self.shared.config.directory)
            .field("namespace", &self.shared.config.namespace)
            .field("watching", &self.shared.feeder.is_running())
            .finish()
    }
}

#[async_trait]
impl Registry for LocalRegistry {
    fn name(&self) -> &str {
        "local"
    }

    fn is_one_host(&self) -> bool {
        true
    }

    async fn register(&self, registration: &Registration, ttl: Duration) -> Result<(), Error> {
        validate::registration(registration, ttl)?;
        let guard_deadline = Instant::now() + GUARD_PATIENCE;
        let registration = Arc::new(registration.clone());
        in_time(async {
            let (shared, renewed) = (self.shared.clone(), registration.clone());
            if blocking(move || shared.writer.renew(&renewed, ttl)).await? {
                return Ok(());
            }
            self.write(move |writer| writer.put(&registration, ttl, guard_deadline)).await
        })
        .await
    }

    async fn deregister(&self, registration: &Registration) -> Result<(), Error> {
        validate::identity(registration)?;
        let guard_deadline = Instant::now() + GUARD_PATIENCE;
        let registration = registration.clone();
        in_time(self.write(move |writer| writer.remove(&registration, guard_deadline))).await
    }

    async fn get(&self, service: &str) -> Result<Vec<Service>, Error> {
        validate::service_name(service)?;
        let view = self.read(Scope::Service(service.to_owned())).await?;
        let services = view.service(service);
        if services.is_empty() { Err(Error::not_found(service)) } else { Ok(services) }
    }

    async fn list(&self) -> Result<Vec<ServiceSummary>, Error> {
        Ok(self.read(Scope::All).await?.list())
    }

    async fn watch(&self, scope: Scope) -> Result<Watch, Error> {
        scope.validate()?;
        let (sender, watch) = Watch::channel(scope);
        self.shared.feeder.attach(sender);
        Ok(watch)
    }
}

/// Runs what blocks where it may. A dropped caller does not interrupt it.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(Error::new(ErrorKind::Internal, "work of the local registry broke off")
            .with_source(error))
    })
}

async fn in_time<T>(call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::time::timeout(CALL_TIMEOUT, call).await.unwrap_or_else(|_| {
        let message = format!("local registry did not answer within {CALL_TIMEOUT:?}");
        Err(Error::new(ErrorKind::Unavailable, message))
    })
}

/// How long a call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long of it may go by waiting for the guard, so that the error can still say so.
const GUARD_PATIENCE: Duration = Duration::from_secs(4);

struct Shared {
    config: LocalConfig,
    reader: Reader,
    writer: Writer,
    writing: Arc<Semaphore>,
    feeder: Feeder,
}
