//! The registry of a scenario, which goes away and forgets everything when it is told to.

use std::fs;

use anyhow::{Context, Result};
use clap::ValueEnum;
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
            Self::Local(directory) => {
                let path = directory.path().join("r");
                fs::rename(&path, directory.path().join("gone"))?;
                fs::write(path, "")?;
            }
            Self::Etcd(server) => server.kill(),
        }
        Ok(())
    }

    /// Brings it back, without anything it knew.
    ///
    /// # Errors
    ///
    /// If the directory cannot be made.
    pub fn bring_back_empty(&self) -> Result<()> {
        match self {
            Self::Local(directory) => {
                let path = directory.path().join("r");
                fs::remove_file(&path)?;
                fs::create_dir(path)?;
            }
            Self::Etcd(server) => server.restart_empty(),
        }
        Ok(())
    }
}
