//! A client process: it calls as its input says, and reports every call when that ends.
//!
//! It prints `ready` once a call was answered. A line of its input is a [`Load`], until the next one;
//! when its input ends it waits for its last answers and prints a [`Report`], both as JSON.

use std::collections::HashMap;
use std::fmt::Write;
use std::io::{BufRead, stdin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use micro::layer::{self, BoxError, Next};
use micro::rpc::{Address, Execution, Request, Response};
use micro::{Client, Error, Settings};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::clock::{self, Nanos, nanos};
use super::server::WorkClient;
use crate::process::seconds;

/// What a caller is told.
#[derive(Args, Clone, Debug)]
pub struct Call {
    #[arg(long)]
    registry: String,
    #[arg(long)]
    strategy: Option<String>,
    #[arg(long, value_parser = seconds)]
    timeout: Duration,
    #[arg(long)]
    idempotent: bool,
    #[arg(long)]
    long: Option<f64>,
}

/// How a caller calls.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Load {
    /// So many calls per second, at random, whatever becomes of them.
    Rate(f64),
    /// So many calls at once, each made when another is answered.
    InFlight(usize),
}

/// All that a caller did.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Its calls, as they ended.
    pub calls: Vec<Called>,
    /// Its attempts, as they began.
    pub attempts: Vec<Attempted>,
    /// The addresses of the nodes that attempts name.
    pub nodes: Vec<String>,
    /// The errors that calls name.
    pub errors: Vec<Failed>,
}

/// The methods of [`Work`](super::server::Work).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // They are described there.
pub enum Method {
    Work,
    Short,
    Long,
}

/// A call that ended.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Called {
    /// What was called.
    pub method: Method,
    /// When it was due.
    pub at: Nanos,
    /// How long after that it was made.
    pub late: Nanos,
    /// How long it took from when it was due.
    pub took: Nanos,
    /// Its error, by index, if it failed.
    pub error: Option<usize>,
}

/// An attempt.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempted {
    /// When it was made.
    pub at: Nanos,
    /// Its node, by index.
    pub node: usize,
    /// How long it took; for ever, if it was given up.
    pub took: Nanos,
    /// How it ended.
    pub end: End,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// The node answered, if only that it refuses.
    Answered,
    /// The node did not, and may know of it.
    Lost,
    /// It never left this process.
    Unsent,
}

/// Errors that say the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// What they say, without what tells one call from another.
    pub shape: String,
    /// The first one, verbatim.
    pub first: String,
}

/// Calls as its input says, then reports.
///
/// # Errors
///
/// If it cannot call at all.
pub async fn call(call: Call) -> Result<()> {
    let log = Arc::<Log>::default();
    let mut settings = Settings::none().flag("registry", call.registry)?;
    if let Some(strategy) = call.strategy {
        settings = settings.flag("selector", strategy)?;
    }
    let observed = log.clone();
    let client = Client::connect()
        .settings(settings)
        .timeout(call.timeout)
        .attempt_layer(layer::from_fn(move |request, next| {
            observe(request, next, observed.clone())
        }))
        .await?;
    let work = WorkClient::new(&client);
    work.work().idempotent(true).wait_for_ready(true).timeout(Duration::from_secs(60)).await?;
    println!("ready");
    let calls = Calls { work, is_idempotent: call.idempotent, long: call.long, log: log.clone() };
    calls.make(loads()).await;
    println!("{}", serde_json::to_string(&log.take())?);
    Ok(())
}

/// What the input says, read on a thread of its own, which ends with it: reading blocks.
fn loads() -> watch::Receiver<Load> {
    let (told, loads) = watch::channel(Load::InFlight(0));
    std::thread::spawn(move || {
        for line in stdin().lock().lines().map_while(Result::ok) {
            match serde_json::from_str(&line) {
                Ok(load) => _ = told.send(load),
                Err(error) => eprintln!("{line:?} is no load: {error}"),
            }
        }
    });
    loads
}

/// Notes an attempt on its way to a node, and how it ended; one that is given up is not answered.
async fn observe(request: Request, next: Next, log: Arc<Log>) -> Result<Response, BoxError> {
    let address = request.extensions.get::<Address>().expect("an attempt has an address");
    let attempt = log.attempt(address.to_string());
    let answer = next.run(request).await;
    log.ended(attempt, end_of(&answer));
    answer
}

/// How an attempt ended; a refusal is an answer.
fn end_of(answer: &Result<Response, BoxError>) -> End {
    let Err(error) = answer else { return End::Answered };
    match error.downcast_ref::<micro::rpc::Error>().map(|error| error.execution()) {
        Some(Execution::NotSent) => End::Unsent,
        Some(Execution::Refused | Execution::Executed) => End::Answered,
        _ => End::Lost,
    }
}

/// Calls under way.
#[derive(Clone)]
struct Calls {
    work: WorkClient,
    is_idempotent: bool,
    /// The share of long calls, with the others short; calls are neither if there is none.
    long: Option<f64>,
    log: Arc<Log>,
}

impl Calls {
    /// Makes calls until nobody says any more how many; those under way are ended then.
    async fn make(&self, mut loads: watch::Receiver<Load>) {
        let mut running = JoinSet::new();
        loop {
            let load = *loads.borrow_and_update();
            tokio::select! {
                told = loads.changed() => if told.is_err() { break },
                () = self.under(load, &mut running) => {}
            }
        }
        running.join_all().await;
    }

    /// Never ends; dropping it loses no call.
    async fn under(&self, load: Load, running: &mut JoinSet<()>) {
        match load {
            Load::Rate(rate) => self.at_rate(rate, running).await,
            Load::InFlight(count) => self.in_flight(count, running).await,
        }
    }

    async fn at_rate(&self, rate: f64, running: &mut JoinSet<()>) {
        let mut due = Instant::now();
        loop {
            due += Duration::from_secs_f64(-(1.0 - fastrand::f64()).ln() / rate);
            sleep_until(due).await;
            while let Some(ended) = running.try_join_next() {
                ended.expect("no call panics");
            }
            running.spawn(self.clone().one(due));
        }
    }

    async fn in_flight(&self, count: usize, running: &mut JoinSet<()>) {
        loop {
            while running.len() < count {
                running.spawn(self.clone().one(Instant::now()));
            }
            match running.join_next().await {
                Some(ended) => ended.expect("no call panics"),
                None => std::future::pending().await,
            }
        }
    }

    /// Makes a call that was due then.
    async fn one(self, due: Instant) {
        let method = self.method();
        let late = nanos(due.elapsed());
        let at = clock::now() - late;
        let call = match method {
            Method::Work => self.work.work(),
            Method::Short => self.work.short(),
            Method::Long => self.work.long(),
        };
        let answer = call.idempotent(self.is_idempotent).await;
        let took = clock::now() - at;
        let error = answer.err().map(Error::from);
        self.log.called(Called { method, at, late, took, error: None }, error);
    }

    fn method(&self) -> Method {
        match self.long {
            None => Method::Work,
            Some(share) if fastrand::f64() < share => Method::Long,
            Some(_) => Method::Short,
        }
    }
}

/// What happened so far.
#[derive(Debug, Default)]
struct Log(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    report: Report,
    nodes: HashMap<String, usize>,
}

impl Log {
    fn attempt(&self, address: String) -> usize {
        let mut noted = self.noted();
        let Noted { report, nodes } = &mut *noted;
        let node = *nodes.entry(address).or_insert_with_key(|address| {
            report.nodes.push(address.clone());
            report.nodes.len() - 1
        });
        let (at, took, end) = (clock::now(), Nanos::MAX, End::Lost);
        report.attempts.push(Attempted { at, node, took, end });
        report.attempts.len() - 1
    }

    fn ended(&self, attempt: usize, end: End) {
        let attempt = &mut self.noted().report.attempts[attempt];
        (attempt.took, attempt.end) = (clock::now() - attempt.at, end);
    }

    fn called(&self, call: Called, error: Option<Error>) {
        let report = &mut self.noted().report;
        let error = error.map(|error| {
            let shape = shape(&error);
            let known = report.errors.iter().position(|failed| failed.shape == shape);
            known.unwrap_or_else(|| {
                report.errors.push(Failed { shape, first: format!("{error:?}") });
                report.errors.len() - 1
            })
        });
        report.calls.push(Called { error, ..call });
    }

    fn take(&self) -> Report {
        std::mem::take(&mut self.noted().report)
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an error says, without words that have digits in them: traces, nodes, addresses, times.
fn shape(error: &Error) -> String {
    let mut shape = format!("{} ({})", error.code(), error.phase());
    for word in error.to_string().split_whitespace() {
        let word = if word.contains(|c: char| c.is_ascii_digit()) { "…" } else { word };
        write!(shape, " {word}").expect("a string takes all text");
    }
    shape
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Errors that differ in node and trace alone are one group, of which the first stays verbatim.
    #[test]
    fn errors_that_say_the_same_are_one_group() {
        let log = Log::default();
        for text in ["node a1 at 127.0.0.1:1 hung", "node b2 at 127.0.0.1:2 hung", "refused"] {
            let call = Called { method: Method::Work, at: 0, late: 0, took: 1, error: None };
            log.called(call, Some(Error::new(micro::Code::Unavailable, text)));
        }
        let report = log.take();
        let errors: Vec<_> = report.calls.iter().map(|call| call.error).collect();
        assert_eq!(errors, [Some(0), Some(0), Some(1)]);
        assert_eq!(report.errors[0].first, "node a1 at 127.0.0.1:1 hung");
    }

    /// A node that refuses has answered; only one that may have run the method lost the attempt.
    #[test]
    fn a_refusal_is_an_answer() {
        let end = |execution| {
            let (code, phase) = (micro::Code::Unavailable, micro::rpc::Phase::Wait);
            end_of(&Err(micro::rpc::Error::new(code, phase, execution, "no").into()))
        };
        assert_eq!(end(Execution::NotSent), End::Unsent);
        assert_eq!(end(Execution::Refused), End::Answered);
        assert_eq!(end(Execution::Executed), End::Answered);
        assert_eq!(end(Execution::MaybeExecuted), End::Lost);
    }

    /// Attempts at one node share its number.
    #[test]
    fn nodes_are_numbered() {
        let log = Log::default();
        let attempts = ["a", "b", "a"].map(|node| log.attempt(node.to_owned()));
        log.ended(attempts[2], End::Answered);
        let report = log.take();
        let nodes: Vec<_> = report.attempts.iter().map(|attempt| attempt.node).collect();
        assert_eq!((nodes, report.nodes), (vec![0, 1, 0], vec!["a".to_owned(), "b".to_owned()]));
        let ends: Vec<_> = report.attempts.iter().map(|attempt| attempt.end).collect();
        assert_eq!(ends, [End::Lost, End::Lost, End::Answered]);
    }
}
