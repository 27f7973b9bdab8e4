//! Running the cases.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::runtime;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::cases::{self, Case};
use crate::report::{CaseReport, Outcome, Report};
use crate::stage::{Stage, Stop};
use crate::{Backend, Profile};

/// Judges a backend by the whole suite and prints the report.
///
/// `make` makes a fresh, empty store; it is called once per case, on the case's own runtime.
///
/// # Panics
///
/// When a line of the contract is broken, with the report.
pub async fn suite<F, B>(make: F, profile: Profile) -> Report
where
    F: AsyncFn() -> B + Send + Sync + 'static,
    B: Backend,
{
    let report = Suite::new(profile).run(make).await;
    assert!(report.is_kept(), "{report}");
    println!("{report}");
    report
}

/// The suite, or a part of it, to be run against a backend.
///
/// ```
/// # use micro_registry_testkit::{Profile, Suite};
/// let suite = Suite::new(Profile::default()).only("round_trip");
/// ```
#[derive(Clone, Debug)]
#[must_use = "a suite does nothing unless it is run"]
pub struct Suite {
    profile: Profile,
    only: Option<String>,
}

impl Suite {
    /// All cases, asking this much.
    pub fn new(profile: Profile) -> Self {
        Self { profile, only: None }
    }

    /// Leaves out the cases whose names do not contain this.
    pub fn only(mut self, part: impl Into<String>) -> Self {
        self.only = Some(part.into());
        self
    }

    /// Runs the cases, each on a thread and runtime of its own with a store of its own, those on
    /// size one after the other at the end. The calling runtime stays free, so servers that the
    /// backends share may live there.
    ///
    /// A case that hangs in a way that cannot be interrupted is given up and keeps its thread.
    ///
    /// # Panics
    ///
    /// When there is no case of the name asked for.
    pub async fn run<F, B>(self, make: F) -> Report
    where
        F: AsyncFn() -> B + Send + Sync + 'static,
        B: Backend,
    {
        let start = Instant::now();
        let make = Arc::new(make);
        let chosen = self.chosen();
        let run = |case: &'static Case| self.run_one(case, make.clone());
        let (heavy, light): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|case| case.is_heavy);
        let concurrency = self.profile.concurrency.max(1);
        let mut cases: Vec<_> =
            futures::stream::iter(light).map(run).buffer_unordered(concurrency).collect().await;
        for case in heavy {
            cases.push(run(case).await);
        }
        cases.sort_by_key(|case| (case.line, case.name));
        Report { profile: self.profile, cases, took: start.elapsed() }
    }

    fn chosen(&self) -> Vec<&'static Case> {
        let all = cases::ALL.iter();
        let Some(part) = &self.only else { return all.collect() };
        let chosen: Vec<_> = all.filter(|case| case.name.contains(part.as_str())).collect();
        let names = || cases::ALL.iter().map(|case| case.name).collect::<Vec<_>>().join(", ");
        assert!(!chosen.is_empty(), "no case is called {part:?}; there are: {}", names());
        chosen
    }

    async fn run_one<F, B>(&self, case: &'static Case, make: Arc<F>) -> CaseReport
    where
        F: AsyncFn() -> B + Send + Sync + 'static,
        B: Backend,
    {
        let start = Instant::now();
        let outcome = match case.obstacle(&self.profile) {
            Some(why) => Outcome::Skipped(why.to_owned()),
            None => on_its_own_thread(case, make, self.profile.clone()).await,
        };
        CaseReport { name: case.name, line: case.line, outcome, took: start.elapsed() }
    }
}

async fn on_its_own_thread<F, B>(case: &'static Case, make: Arc<F>, profile: Profile) -> Outcome
where
    F: AsyncFn() -> B + Send + Sync + 'static,
    B: Backend,
{
    let limit = profile.limit;
    let (done, outcome) = oneshot::channel();
    let thread = std::thread::Builder::new().name(case.name.to_owned()).spawn(move || {
        let performed = catch_unwind(AssertUnwindSafe(|| perform(case, &*make, profile)));
        let broken = |payload: Box<dyn Any + Send>| case.broken(said(&*payload));
        // Nobody listens when the case was given up.
        let _ = done.send(performed.unwrap_or_else(broken));
    });
    if let Err(error) = thread {
        return case.broken(format!("there is no thread to run it on: {error}"));
    }
    match tokio::time::timeout(limit + GRACE, outcome).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => case.broken("its thread ended without a word".into()),
        Err(_) => case.broken(format!("blocked its thread for more than {limit:?}")),
    }
}

/// Blocks its thread.
fn perform<F, B>(case: &'static Case, make: &F, profile: Profile) -> Outcome
where
    F: AsyncFn() -> B,
    B: Backend,
{
    let built = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = match built {
        Ok(runtime) => runtime,
        Err(error) => return case.broken(format!("there is no runtime to run it on: {error}")),
    };
    let limit = profile.limit;
    let play = async {
        let backend = make().await;
        let stage = Stage::new(&backend, &profile);
        match tokio::time::timeout(limit, (case.run)(&stage)).await {
            Ok(Ok(())) => Outcome::Kept,
            Ok(Err(Stop::Skipped(why))) => Outcome::Skipped(why),
            Ok(Err(Stop::Broken { line, what })) => Outcome::Broken { line, what },
            Err(_) => case.broken(format!("did not end within {limit:?}")),
        }
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| runtime.block_on(play)));
    // Waits for nothing: what still blocks a thread is not to hold the report up.
    runtime.shutdown_background();
    outcome.unwrap_or_else(|payload| case.broken(said(&*payload)))
}

/// What a panic said.
fn said(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    format!("panicked: {}", text.unwrap_or_else(|| "without a message".into()))
}

/// How much longer than its limit a case may take to give up by itself.
const GRACE: Duration = Duration::from_secs(2);
