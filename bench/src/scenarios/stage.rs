//! A registry, servers and callers as processes, and what is done to them.

use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use tokio::time::sleep;

use super::Setup;
use super::caller::Load;
use super::clock::{self, Nanos};
use super::record::Record;
use super::registry::Registry;
use crate::child::{PATIENCE, Process};

/// What calls on it, and how.
#[derive(Clone, Copy, Debug)]
pub struct Callers<'a> {
    /// The name of the strategy by which they pick nodes; the product's default if there is none.
    pub strategy: Option<&'a str>,
    /// Whether their calls may be repeated after they may have been executed.
    pub is_idempotent: bool,
    /// How long a call may take.
    pub timeout: Duration,
    /// The share of long calls among short ones; calls are neither if there is none.
    pub long: Option<f64>,
}

/// Processes that serve and call, killed when it is dropped.
#[derive(Debug)]
pub struct Stage<'a> {
    setup: &'a Setup,
    /// By number, as they were started; those that have gone keep theirs.
    servers: Vec<Option<Process>>,
    addresses: Vec<String>,
    callers: Vec<Process>,
    /// Dropped last: until then processes may write into it.
    registry: Registry,
}

impl<'a> Stage<'a> {
    /// Starts everything: each server is registered, each caller had an answer.
    ///
    /// # Errors
    ///
    /// If a process does not start.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future kills the processes.
    pub async fn set(setup: &'a Setup, callers: Callers<'_>) -> Result<Self> {
        let registry = Registry::start(setup.registry)?;
        let (servers, addresses) = (Vec::new(), Vec::new());
        let mut stage = Self { setup, servers, addresses, callers: Vec::new(), registry };
        for _ in 0..setup.servers {
            stage.add_server().await?;
        }
        for _ in 0..setup.clients {
            stage.callers.push(stage.start_caller(callers)?);
        }
        for caller in &mut stage.callers {
            let line: String = caller.read(PATIENCE).await?;
            ensure!(line == "ready", "a caller says {line:?}");
        }
        Ok(stage)
    }

    /// Starts one more server and returns its number once it is registered.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub async fn add_server(&mut self) -> Result<usize> {
        let Setup { workers, demand, .. } = self.setup;
        let mut server = Process::start([
            "serve".to_owned(),
            format!("--registry={}", self.registry.url()),
            format!("--workers={workers}"),
            format!("--demand={}", demand.as_secs_f64()),
        ])?;
        let address = server.read(PATIENCE).await.context("a server does not register")?;
        self.addresses.push(address);
        self.servers.push(Some(server));
        Ok(self.servers.len() - 1)
    }

    /// Has all callers together call so from now on; returns when that was.
    ///
    /// # Errors
    ///
    /// If one has gone.
    pub async fn load(&mut self, load: Load) -> Result<Nanos> {
        let callers = self.callers.len();
        for (index, caller) in self.callers.iter_mut().enumerate() {
            let share = match load {
                Load::Rate(rate) => Load::Rate(rate / callers as f64),
                Load::InFlight(count) => {
                    Load::InFlight(count / callers + usize::from(index < count % callers))
                }
            };
            caller.write(&serde_json::to_string(&share)?).await?;
        }
        Ok(clock::now())
    }

    /// Has all callers together call so from now on; returns when that is measured, after warming up.
    ///
    /// # Errors
    ///
    /// If one has gone.
    pub async fn window(&mut self, load: Load) -> Result<Range<Nanos>> {
        self.load(load).await?;
        let from = self.wait(self.setup.warm_up).await;
        Ok(from..self.wait(self.setup.seconds).await)
    }

    /// Lets it go on for so long; returns when that is over.
    pub async fn wait(&self, duration: Duration) -> Nanos {
        sleep(duration).await;
        clock::now()
    }

    /// Has a server's work take so many times as long.
    ///
    /// # Errors
    ///
    /// If it has gone.
    pub async fn slow(&mut self, server: usize, times: u32) -> Result<()> {
        self.server(server)?.write(&times.to_string()).await
    }

    /// Sends a server a signal; returns when that was.
    ///
    /// # Errors
    ///
    /// If it has gone.
    pub fn signal(&mut self, server: usize, signal: Signal) -> Result<Nanos> {
        let now = clock::now();
        self.server(server)?.signal(signal)?;
        Ok(now)
    }

    /// Tells a server to stop, and waits until it has.
    ///
    /// # Errors
    ///
    /// If it does not, or fails.
    pub async fn terminate(&mut self, server: usize) -> Result<()> {
        self.signal(server, Signal::SIGTERM)?;
        let process = self.servers[server].take().context("it has just been there")?;
        // The drain, and what is then still at work.
        process.ended(PATIENCE * 6).await
    }

    /// The registry.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Fails unless the registry lists all servers that have not gone.
    ///
    /// # Errors
    ///
    /// If it does not, or cannot be read.
    pub async fn ensure_registered(&self) -> Result<()> {
        let (listed, running) =
            (self.registry.nodes("work").await?, self.servers.iter().flatten().count());
        ensure!(listed == running, "the registry lists {listed} of {running} servers");
        Ok(())
    }

    /// Ends the calls and returns all that was done; kills the servers.
    ///
    /// # Errors
    ///
    /// If a caller does not report.
    pub async fn end(mut self) -> Result<Record> {
        let mut record = Record::default();
        // All inputs end before the first report is waited for.
        let reports: Vec<_> =
            self.callers.drain(..).map(|caller| caller.report(PATIENCE * 6)).collect();
        for report in futures::future::try_join_all(reports).await? {
            record.add(serde_json::from_str(&report)?, &self.addresses)?;
        }
        Ok(record)
    }

    fn start_caller(&self, callers: Callers<'_>) -> Result<Process> {
        let mut arguments = vec![
            "call".to_owned(),
            format!("--registry={}", self.registry.url()),
            format!("--timeout={}", callers.timeout.as_secs_f64()),
        ];
        arguments.extend(callers.strategy.map(|strategy| format!("--strategy={strategy}")));
        arguments.extend(callers.long.map(|share| format!("--long={share}")));
        arguments.extend(callers.is_idempotent.then(|| "--idempotent".to_owned()));
        Process::start(arguments)
    }

    fn server(&mut self, number: usize) -> Result<&mut Process> {
        self.servers[number].as_mut().context("the server has gone")
    }
}
