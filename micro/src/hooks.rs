//! What a program does around the life of its service.

use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::timeout;

use crate::error::chain;
use crate::layer::BoxError;
use crate::{Code, Error, Phase, Result, duration};

/// Where in the life of a service a hook runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    BeforeStart,
    AfterStart,
    BeforeStop,
    AfterDeregister,
    AfterStop,
}

impl Stage {
    fn as_str(self) -> &'static str {
        match self {
            Self::BeforeStart => "before_start",
            Self::AfterStart => "after_start",
            Self::BeforeStop => "before_stop",
            Self::AfterDeregister => "after_deregister",
            Self::AfterStop => "after_stop",
        }
    }
}

/// The hooks that have not run yet, in the order in which they were added.
#[derive(Default)]
pub(crate) struct Hooks {
    hooks: Vec<(Stage, Hook)>,
    /// Whether anything has run that an end may have to undo.
    begun: bool,
}

/// A hook is sent between threads, never shared; the lock, which nobody takes, says so.
struct Hook(Mutex<Box<dyn FnOnce() -> BoxFuture<'static, Outcome> + Send>>);

type Outcome = std::result::Result<(), BoxError>;

impl Hooks {
    pub(crate) fn add<F, Fut>(&mut self, stage: Stage, hook: F)
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        self.hooks.push((stage, Hook(Mutex::new(Box::new(|| hook().boxed())))));
    }

    /// Runs the hooks of a stage of the start; the first that fails ends it.
    pub(crate) async fn start(&mut self, stage: Stage) -> Result<()> {
        self.begun = true;
        while let Some(hook) = self.take_next(stage) {
            hook.run().await.map_err(|error| {
                let message = format!("a hook failed: {}", stage.as_str());
                Error::at(Code::FailedPrecondition, Phase::Start, message).with_source(error)
            })?;
        }
        Ok(())
    }

    /// Runs the hooks of a stage of the end, each for so long at most. What fails, or panics, even in
    /// the text of its error, is logged, and the next one runs.
    pub(crate) async fn stop(&mut self, stage: Stage, patience: Duration) {
        while let Some(hook) = self.take_next(stage) {
            let stage = stage.as_str();
            let run = async { hook.run().await.map_err(|error| chain(&*error).into()) };
            match timeout(patience, caught(run)).await {
                Ok(Ok(())) => {}
                Ok(Err(why)) => tracing::error!(stage, error = why.to_string(), "a hook failed"),
                Err(_) => {
                    let patience = duration::text(patience);
                    tracing::error!(stage, patience, "a hook did not end in time");
                }
            }
        }
    }

    /// Ends a start that came no further than to its first hooks.
    pub(crate) async fn give_up(mut self, patience: Duration) {
        if self.begun {
            self.stop(Stage::AfterStop, patience).await;
        }
    }

    fn take_next(&mut self, stage: Stage) -> Option<Hook> {
        let next = self.hooks.iter().position(|(of, _)| *of == stage)?;
        Some(self.hooks.remove(next).1)
    }
}

impl Hook {
    async fn run(self) -> Outcome {
        let hook = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        caught(async move { hook().await }).await
    }
}

/// The outcome of a program's own code; a panic in it is a failure like others, once it has been
/// reported by the panic hook.
pub(crate) async fn caught(code: impl Future<Output = Outcome>) -> Outcome {
    AssertUnwindSafe(code).catch_unwind().await.unwrap_or_else(|_| Err("it panicked".into()))
}
