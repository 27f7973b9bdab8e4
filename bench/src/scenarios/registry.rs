//! The registry of a scenario, which goes away and forgets everything when it is told to.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use micro::{Client, Settings};
use tempfile::TempDir;
use testbed::etcd;

/// Where servers register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A directory made for the run.
    #[value(name = "local:")]
    Local,
    /// An etcd server started for the run.
    #[value(name = "etcd:")]
    Etcd,
}

/// A registry that belongs to one scenario, and ends with it.
#[derive(Debug)]
pub enum Registry {
    /// A directory in a directory of its own.
    Local(TempDir),
    /// A server.
    Etcd(etcd::Server),
}

impl Registry {
    /// One that is ready.
    ///
    /// # Errors
    ///
    /// If there is no place for a directory.
    ///
    /// # Panics
    ///
    /// If there is no etcd and one is asked for.
    pub fn start(kind: Kind) -> Result<Self> {
        Ok(match kind {
            Kind::Local => Self::Local(tempfile::tempdir().context("a temporary directory")?),
            Kind::Etcd => Self::Etcd(etcd::Server::start()),
        })
    }

    /// Its URL.
    pub fn url(&self) -> String {
        match self {
            Self::Local(directory) => format!("local:{}", directory.path().join("r").display()),
            Self::Etcd(server) => format!("etcd://{}", server.address()),
        }
    }

    /// Takes it away: a file is where the directory was; the server is killed.
    ///
    /// # Errors
    ///
    /// If the directory cannot be moved.
    pub fn take_away(&self) -> Result<()> {
        match self {
            Self::Local(directory) => block(directory.path())?,
            Self::Etcd(server) => server.kill(),
        }
        Ok(())
    }

    /// Brings it back, without anything it knew; whoever registers makes the directory.
    ///
    /// # Errors
    ///
    /// If it was not away.
    pub fn bring_back_empty(&self) -> Result<()> {
        match self {
            Self::Local(directory) => fs::remove_file(directory.path().join("r"))?,
            Self::Etcd(server) => server.restart_empty(),
        }
        Ok(())
    }

    /// How many nodes of a service it lists.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub async fn nodes(&self, service: &str) -> Result<usize> {
        let settings = Settings::none().flag("registry", self.url())?;
        let client = Client::connect().settings(settings).await?;
        let services = client.registry().list().await?;
        Ok(services.iter().filter(|found| found.name == service).map(|found| found.nodes).sum())
    }
}

/// Puts a file where the directory is. Servers make the directory anew whenever they miss it, also
/// between the two steps.
fn block(parent: &Path) -> Result<()> {
    let path = parent.join("r");
    for _ in 0..ATTEMPTS {
        match fs::rename(&path, tempfile::tempdir_in(parent)?.keep()) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        match File::create_new(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            created => return Ok(created.map(drop)?),
        }
    }
    bail!("{} was made anew {ATTEMPTS} times", path.display())
}

const ATTEMPTS: u32 = 1_000;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    use std::time::Duration;

    use micro::registry::{Node, Registration, Registry as _};
    use micro_registry_local::LocalRegistry;

    use super::*;

    /// Whoever registers finds the registry away, then back without anybody, and is listed again.
    #[tokio::test]
    async fn a_registry_comes_back_empty() {
        let registry = Registry::start(Kind::Local).unwrap();
        let url = registry.url().parse().unwrap();
        let writer = LocalRegistry::from_url(url, Path::new("/")).unwrap();
        let node = Registration::new("s", "1.0.0", Node::new("n", "127.0.0.1:1"));
        let ttl = Duration::from_secs(30);
        writer.register(&node, ttl).await.unwrap();
        assert_eq!(registry.nodes("s").await.unwrap(), 1);
        registry.take_away().unwrap();
        writer.register(&node, ttl).await.unwrap_err();
        registry.bring_back_empty().unwrap();
        assert_eq!(registry.nodes("s").await.unwrap(), 0);
        writer.register(&node, ttl).await.unwrap();
        assert_eq!(registry.nodes("s").await.unwrap(), 1);
    }

    /// The directory is taken away from under those who make it again as soon as they miss it.
    #[test]
    fn a_directory_is_taken_away_from_busy_servers() {
        let registry = Registry::start(Kind::Local).unwrap();
        let Registry::Local(directory) = &registry else { panic!("it is local") };
        let (path, is_over) = (directory.path().join("r"), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Relaxed) {
                    _ = fs::create_dir(&path);
                }
            });
            let taken: Result<Vec<()>> = (0..200)
                .map(|_| {
                    registry.take_away()?;
                    anyhow::ensure!(path.is_file(), "it is still there");
                    registry.bring_back_empty()
                })
                .collect();
            is_over.store(true, Relaxed);
            taken.unwrap();
        });
    }
}
