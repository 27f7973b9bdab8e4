//! Where services are looked up.

use std::sync::Arc;

use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use micro::registry::{ErrorKind, Registry, Service};
use micro::{Client, Settings, dynamic};

use crate::failure::{End, Failure};
use crate::print;

/// The registry to look into, where the command line says.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct World {
    /// Registry to look into, for example local:, mdns: or etcd://10.0.0.1:2379 [default: what
    /// MICRO_REGISTRY or micro.toml says, else local:]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) registry: Option<String>,
    /// Part of the registry to look into [default: the registry's own]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
}

impl World {
    /// The settings of the process, with what the command line says above them.
    pub(crate) fn settings(&self) -> Result<Settings, Failure> {
        let mut settings = Settings::from_process()?;
        for (key, value) in [("registry", &self.registry), ("namespace", &self.namespace)] {
            if let Some(value) = value {
                settings = settings.flag(key, value)?;
            }
        }
        Ok(settings)
    }

    /// A client of the registry.
    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        Ok(Client::connect().settings(self.settings()?).await?)
    }
}

/// The versions of a service.
///
/// # Errors
///
/// When nobody is registered by that name, with the one that was probably meant.
pub(crate) async fn versions(
    registry: &Arc<dyn Registry>,
    service: &str,
) -> Result<Vec<Service>, Failure> {
    match registry.get(service).await {
        Ok(versions) => Ok(versions),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let message = format!("{error} in the {} registry", registry.name());
            Err(Failure::new(End::NotFound, message).and(others(registry, service).await?))
        }
        Err(error) => Err(error.into()),
    }
}

/// The versions of all services.
pub(crate) async fn all(registry: &Arc<dyn Registry>) -> Result<Vec<Service>, Failure> {
    const AT_ONCE: usize = 32;
    let services = registry.list().await?;
    let each = stream::iter(services)
        .map(async |service| match registry.get(&service.name).await {
            // It may have left since.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            other => other,
        })
        .buffered(AT_ONCE);
    Ok(each.try_collect::<Vec<_>>().await?.concat())
}

/// Says on standard error that there is nothing to show.
pub(crate) fn tell_of_nobody(registry: &Arc<dyn Registry>) {
    print::talk(&format!("no service is registered in the {} registry\n", registry.name()));
}

/// What there is instead of a service that is not found.
async fn others(registry: &Arc<dyn Registry>, service: &str) -> Result<String, Failure> {
    let services = registry.list().await?;
    let names: Vec<_> = services.iter().map(|service| &*service.name).collect();
    Ok(match dynamic::nearest(service, names.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if names.is_empty() => "no service is registered there at all".to_owned(),
        None => format!("registered are {}", names.join(", ")),
    })
}
