//! A program's own word on whether it can serve.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use micro_registry::NodeState;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::error::chain;
use crate::hooks::caught;
use crate::layer::BoxError;
use crate::registrar::Announcer;

/// How a service is, by its own check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// The first check has not ended yet.
    Unknown,
    /// The last check passed, or there is none.
    Good,
    /// The last check failed, for this reason.
    Bad(String),
}

/// What is asked, and how often.
pub(crate) struct HealthCheck {
    pub(crate) check: Arc<Check>,
    pub(crate) interval: Duration,
}

pub(crate) type Check = dyn Fn() -> BoxFuture<'static, Result<(), BoxError>> + Send + Sync;

/// The checks of a service, which announce what they find; dropping it ends them.
#[derive(Debug)]
pub(crate) struct HealthTask {
    state: watch::Receiver<Health>,
    task: Option<JoinHandle<()>>,
}

impl HealthTask {
    /// Checks at once and on every interval. A service without a check is always well.
    pub(crate) fn spawn(check: Option<HealthCheck>, announcer: Announcer) -> Self {
        let first = if check.is_some() { Health::Unknown } else { Health::Good };
        let (report, state) = watch::channel(first);
        let task = check.map(|check| tokio::spawn(check.repeat(announcer, report)));
        Self { state, task }
    }

    /// What the last check found, now and as it changes.
    pub(crate) fn state(&self) -> watch::Receiver<Health> {
        self.state.clone()
    }
}

impl Drop for HealthTask {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl HealthCheck {
    async fn repeat(self, announcer: Announcer, report: watch::Sender<Health>) {
        loop {
            let found = self.run().await;
            report_change(&report.borrow(), &found);
            announcer.set(found.node_state());
            report.send_replace(found);
            sleep(self.interval).await;
        }
    }

    /// A check that does not end within the interval has failed, as has one that panics, even in the
    /// text of its error.
    async fn run(&self) -> Health {
        let Self { check, interval } = self;
        let checked = async { check().await.map_err(|error| chain(&*error).into()) };
        match timeout(*interval, caught(checked)).await {
            Ok(Ok(())) => Health::Good,
            Ok(Err(reason)) => Health::Bad(reason.to_string()),
            Err(_) => Health::Bad(format!("the health check did not end within {interval:?}")),
        }
    }
}

impl Health {
    fn node_state(&self) -> NodeState {
        match self {
            Self::Unknown => NodeState::Starting,
            Self::Good => NodeState::Serving,
            Self::Bad(_) => NodeState::NotServing,
        }
    }
}

/// Logs what is new and keeps quiet about what goes on.
fn report_change(before: &Health, now: &Health) {
    match (before, now) {
        (Health::Bad(_), Health::Bad(_)) | (Health::Good, Health::Good) => {}
        (_, Health::Bad(reason)) => tracing::warn!(reason, "the health check fails, not serving"),
        (_, _) => tracing::info!("the health check passes, serving"),
    }
}
