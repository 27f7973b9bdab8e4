//! The registry over an engine: validation, deadlines, and who does what.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::Directory;
use super::reading::Reader;
use super::watching::Source;
use super::writing::Writer;
use crate::feed::Feeders;
use crate::{
    Error, ErrorKind, Registration, Registry, Scope, Service, ServiceSummary, View, Watch, validate,
};

/// A registry whose nodes are the keys of a [`Directory`].
///
/// Each node has a key `namespace/service/node id` under a lease of its own, and the value is its
/// [stored form](crate::encoding). A record that cannot be read, or is not of the node its key names,
/// is left out, with a warning once per version.
///
/// A node that leaves by itself says goodbye first: its record with `"left": true`, which counts as
/// absent, and is how a [`Deregistered`](crate::RemoveReason::Deregistered) is told from an
/// [`Expired`](crate::RemoveReason::Expired). Why a service is empty is known to a watch that saw its
/// last node leave; of what was before, an engine remembers nothing.
///
/// The watches of one scope share one task, started by the first of them and stopped by the end of
/// the last. When the registry is dropped they all end.
///
/// # Errors
///
/// Besides what [`Registry`] names, whatever the engine answers.
///
/// # Panics
///
/// Its calls panic outside of a tokio runtime with its timer enabled.
pub struct DirectoryRegistry<D: Directory> {
    directory: Arc<D>,
    reader: Arc<Reader>,
    writer: Writer<D::Lease>,
    feeders: Feeders,
    deadline: Duration,
}

impl<D: Directory> DirectoryRegistry<D> {
    /// The registry of a namespace. Does no I/O and starts no task.
    ///
    /// # Errors
    ///
    /// `Invalid` for a namespace that cannot be one.
    pub fn new(directory: D, namespace: &str) -> Result<Self, Error> {
        validate::namespace(namespace)?;
        Ok(Self {
            reader: Arc::new(Reader::new(directory.name(), namespace)),
            directory: Arc::new(directory),
            writer: Writer::new(),
            feeders: Feeders::new(),
            deadline: DEADLINE,
        })
    }

    /// How long a call may take in all, whatever the engine's own deadlines are. Default 5 s.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    async fn in_time<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        in_time(self.deadline, self.directory.name(), call).await
    }

    async fn read(&self, scope: &Scope) -> Result<View, Error> {
        let keys = self.reader.layout.keys(scope);
        let listing = self.in_time(self.directory.list(&keys)).await?;
        Ok(self.reader.view(&listing))
    }
}

impl<D: Directory> fmt::Debug for DirectoryRegistry<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectoryRegistry")
            .field("directory", &self.directory)
            .field("namespace", &self.reader.layout.namespace)
            .field("registered", &self.writer.len())
            .field("watching", &self.feeders.running())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl<D: Directory> Registry for DirectoryRegistry<D> {
    fn name(&self) -> &str {
        self.directory.name()
    }

    async fn register(&self, registration: &Registration, ttl: Duration) -> Result<(), Error> {
        validate::registration(registration, ttl)?;
        let (directory, reader) = (&*self.directory, &*self.reader);
        self.in_time(self.writer.register(directory, reader, registration, ttl)).await
    }

    async fn deregister(&self, registration: &Registration) -> Result<(), Error> {
        validate::identity(registration)?;
        let (directory, reader) = (&*self.directory, &*self.reader);
        self.in_time(self.writer.deregister(directory, reader, registration)).await
    }

    async fn get(&self, service: &str) -> Result<Vec<Service>, Error> {
        validate::service_name(service)?;
        let view = self.read(&Scope::Service(service.to_owned())).await?;
        let services = view.service(service);
        if services.is_empty() { Err(Error::not_found(service)) } else { Ok(services) }
    }

    async fn list(&self) -> Result<Vec<ServiceSummary>, Error> {
        Ok(self.read(&Scope::All).await?.list())
    }

    async fn watch(&self, scope: Scope) -> Result<Watch, Error> {
        scope.validate()?;
        let source = Source {
            directory: self.directory.clone(),
            reader: self.reader.clone(),
            keys: self.reader.layout.keys(&scope),
            deadline: self.deadline,
        };
        let (sender, watch) = Watch::channel(scope.clone());
        self.feeders.attach(scope, sender, || source);
        Ok(watch)
    }
}

/// Waits for the engine, as long as a call may take.
pub(super) async fn in_time<T>(
    deadline: Duration,
    engine: &str,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::time::timeout(deadline, call).await.unwrap_or_else(|_| {
        let message = format!("{engine} registry did not answer within {deadline:?}");
        Err(Error::new(ErrorKind::Unavailable, message))
    })
}

const DEADLINE: Duration = Duration::from_secs(5);
