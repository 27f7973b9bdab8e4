//! The registry: validation, deadlines, and which work is done where.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use micro_registry::{
    Error, ErrorKind, Registration, Registry, RegistryUrl, Scope, Service, ServiceSummary, View,
    Watch, validate,
};

use crate::LocalConfig;
use crate::directory::Directory;
use crate::lane::{Lane, in_time};
use crate::reader::Reader;
use crate::watching::Watching;
use crate::writer::Writer;

/// The registry of one user on one host; see the [crate] for how it works.
///
/// Clones share one handle: one lock, one task for all watches besides those of single nodes. When the last clone is dropped the
/// lock is let go, so its nodes are gone for everybody, as *expired*, and its watches end.
///
/// # Errors
///
/// Besides what [`Registry`] names: `Denied` for a directory others could reach into, or that the
/// system denies us; every other failure of the file system is `Unavailable`.
///
/// # Panics
///
/// Its calls panic outside of a tokio runtime with its timer enabled.
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
            reading: Lane::new(),
            renewing: Lane::new(),
            writing: Lane::new(),
            watching: Watching::new(reader.clone(), &config),
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

    /// Makes its directory, or says why that can never succeed, for programs that would rather end at
    /// their start than try again for ever.
    ///
    /// # Errors
    ///
    /// `Invalid`, saying what would be right, when the path leads through a file, or the directory
    /// is none, belongs to somebody else, is open to others or cannot be written. What may heal by
    /// itself is no error here; every call tells of it.
    ///
    /// # Cancel safety
    ///
    /// A dropped future has made the directory or not.
    pub async fn check(&self) -> Result<(), Error> {
        let reader = self.shared.reader.clone();
        match in_time(self.shared.reading.run(move || reader.directory.prove())).await {
            Err(error) if error.kind() == ErrorKind::Invalid => Err(error),
            _ => Ok(()),
        }
    }

    async fn read(&self, scope: Scope) -> Result<View, Error> {
        let reader = self.shared.reader.clone();
        in_time(self.shared.reading.run(move || reader.view(&scope))).await
    }
}

impl fmt::Debug for LocalRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalRegistry")
            .field("directory", &self.shared.config.directory)
            .field("namespace", &self.shared.config.namespace)
            .field("watching", &self.shared.watching.is_running())
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
            if self.shared.renewing.run(move || shared.writer.renew(&renewed, ttl)).await? {
                return Ok(());
            }
            let shared = self.shared.clone();
            let put = move || shared.writer.put(&registration, ttl, guard_deadline);
            self.shared.writing.run(put).await
        })
        .await
    }

    async fn deregister(&self, registration: &Registration) -> Result<(), Error> {
        validate::identity(registration)?;
        let guard_deadline = Instant::now() + GUARD_PATIENCE;
        let (shared, registration) = (self.shared.clone(), registration.clone());
        let remove = move || shared.writer.remove(&registration, guard_deadline);
        in_time(self.shared.writing.run(remove)).await
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
        self.shared.watching.attach(sender);
        Ok(watch)
    }
}

/// How long of a call may go by waiting for the guard, so that the error can still say so.
const GUARD_PATIENCE: Duration = Duration::from_secs(4);

/// A lane for each kind of call: neither a directory of thousands of nodes that is read nor a writer
/// that waits for another process holds up renewals.
struct Shared {
    config: LocalConfig,
    reader: Reader,
    writer: Writer,
    reading: Lane,
    renewing: Lane,
    writing: Lane,
    watching: Watching,
}
