//! Compares what a pick costs: ours, alone and in a whole call, with `tower::balance` in a `Buffer`
//! with `PeakEwma`, in one interleaved run.
//!
//! Nodes answer at once, so that nothing but the way to them is measured.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Parser;
use micro::registry::{EmptyReason, MemoryRegistry, Node, Registration, Registry, Update};
use micro::selector::{
    Attempt, Budget, Cache, CallOptions, Class, Classify, Picked, Picker, Selector, SelectorConfig,
    Snapshot, StrategyKind, Subscription, Throttle, Tried,
};
use micro_bench::allocations::Counting;
use micro_bench::rows::Target::Most;
use micro_bench::rows::{Output, Row, table};
use tokio::task::JoinSet;
use tower::balance::p2c::Balance;
use tower::buffer::Buffer;
use tower::discover::ServiceList;
use tower::load::{CompleteOnResponse, PeakEwma};
use tower::{Service, ServiceExt};

/// Compare the cost of a pick and its accounting with tower's.
#[derive(Debug, Parser)]
struct Arguments {
    /// Calls per measurement.
    #[arg(long, default_value = "100000")]
    calls: NonZeroU32,
    /// How often each cell is measured; the report has medians.
    #[arg(long, default_value = "9")]
    repetitions: NonZeroU32,
    /// Threads of the runtime; tower's worker is a task on one of them.
    #[arg(long, default_value = "2")]
    threads: NonZeroUsize,
    #[command(flatten)]
    output: Output,
}

/// One contender with so many nodes: medians.
#[derive(Debug)]
struct Cell {
    contender: &'static str,
    nodes: usize,
    in_flight: u32,
    ns_per_call: f64,
    allocations_per_call: f64,
    /// The time in proportion to tower's with as many nodes and calls in flight.
    of_tower: f64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let output = arguments.output.open()?;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(arguments.threads.get()).enable_time().build()?;
    let mut cells = Vec::new();
    for nodes in [10, 1_000] {
        for in_flight in [1, 64] {
            cells.extend(runtime.block_on(compare(nodes, in_flight, &arguments)));
        }
    }
    print(&cells);
    let goals = goals(&cells);
    print!("\n{}", table(&goals));
    output.write(&goals)
}

async fn compare(nodes: usize, in_flight: u32, arguments: &Arguments) -> Vec<Cell> {
    let (picks, busy) = (Picks::new(nodes), Picks::new(nodes));
    let _in_flight = busy.occupy();
    let (selector, subscription) = subscription(nodes).await;
    let tower = tower_balance(nodes);
    let calls = arguments.calls.get() / in_flight * in_flight;
    let mut measured: [Vec<Measured>; 4] = Default::default();
    // The first round warms up.
    for repetition in 0..=arguments.repetitions.get() {
        let round = [
            measure(calls, async { (0..calls).for_each(|_| picks.call()) }).await,
            measure(calls, async { (0..calls).for_each(|_| busy.call()) }).await,
            measure(
                calls,
                each(in_flight, calls, || {
                    let subscription = subscription.clone();
                    move || {
                        let subscription = subscription.clone();
                        async move { ours(&subscription).await }
                    }
                }),
            )
            .await,
            measure(
                calls,
                each(in_flight, calls, || {
                    let tower = tower.clone();
                    move || {
                        let mut tower = tower.clone();
                        async move {
                            let ready = tower.ready().await.expect("the worker runs");
                            ready.call(()).await.expect("it answers");
                        }
                    }
                }),
            )
            .await,
        ];
        if repetition > 0 {
            measured.iter_mut().zip(round).for_each(|(all, one)| all.push(one));
        }
    }
    drop(selector);
    cells(nodes, in_flight, measured)
}

fn cells(nodes: usize, in_flight: u32, measured: [Vec<Measured>; 4]) -> Vec<Cell> {
    let medians = measured.map(|all| {
        let ns = median(all.iter().map(|one| one.ns_per_call));
        (ns, median(all.iter().map(|one| one.allocations_per_call)))
    });
    let tower = medians[3].0;
    let row = |(contender, (ns_per_call, allocations_per_call))| {
        let of_tower = ns_per_call / tower;
        Cell { contender, nodes, in_flight, ns_per_call, allocations_per_call, of_tower }
    };
    ["pick", "busy pick", "call", "tower"].into_iter().zip(medians).map(row).collect()
}

/// G13, of what is comparable: with more calls in flight tower's has all cores, a pick alone has one.
fn goals(cells: &[Cell]) -> Vec<Row> {
    let ours = cells.iter().filter(|cell| cell.in_flight == 1 && cell.contender != "tower");
    let rows =
        ours.flat_map(|Cell { contender, nodes, of_tower, allocations_per_call, .. }| {
            let row = |measure: &str, most, figure| {
                let measure = format!("{contender} of {nodes} nodes, {measure}");
                Row::new("G13", measure, "micro", Most(most), vec![figure])
            };
            [
                // It explains what is missed by no more than that.
                row("× tower", 0.25, *of_tower).noted(
                    (0.75 * of_tower <= 0.25)
                        .then_some("two readings of the clock are a quarter of it"),
                ),
                // Those of a call: the tasks that make the calls allocate a few.
                row("allocations", 0.0, (allocations_per_call * 100.0).round() / 100.0),
            ]
        });
    rows.collect()
}

/// Runs so many tasks at once that share the calls.
async fn each<F, C, R>(in_flight: u32, calls: u32, mut caller: impl FnMut() -> C)
where
    C: Fn() -> F + Send + 'static,
    F: Future<Output = R> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for _ in 0..in_flight {
        let call = caller();
        tasks.spawn(async move {
            for _ in 0..calls / in_flight {
                call().await;
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no task panics");
    }
}

struct Measured {
    ns_per_call: f64,
    allocations_per_call: f64,
}

async fn measure(calls: u32, work: impl Future<Output = ()>) -> Measured {
    let (start, before) = (Instant::now(), Counting::count());
    work.await;
    let calls = f64::from(calls);
    Measured {
        ns_per_call: start.elapsed().as_nanos() as f64 / calls,
        allocations_per_call: (Counting::count() - before) as f64 / calls,
    }
}

/// Ours without the loop of attempts: budget, throttle, pick and what is learned from the answer.
struct Picks {
    picker: Picker,
    snapshot: Snapshot<()>,
    options: CallOptions,
    budget: Budget,
    throttle: Throttle,
}

impl Picks {
    fn new(nodes: usize) -> Self {
        let now = tokio::time::Instant::now();
        let picker = Picker::new(&StrategyKind::default(), now);
        let mut cache = Cache::new(&picker);
        let all = registrations(nodes).map(Into::into).collect();
        cache.apply(&Update::reset(all, EmptyReason::Unknown), now);
        let snapshot = cache.snapshot(|_| Some(()), now);
        let (budget, throttle) = (Budget::new(0.2, 10, now), Throttle::new(now));
        Self { picker, snapshot, options: options(), budget, throttle }
    }

    /// Makes every node busy for as long as what is returned is held: then there is none to be had
    /// for nothing, and all that are drawn are compared.
    fn occupy(&self) -> Vec<Picked<()>> {
        let pick = || {
            let (tried, now) = (Tried::default(), tokio::time::Instant::now());
            self.picker.pick(&self.snapshot, &self.options, &tried, &|()| false, now)
        };
        let is_idle = || self.snapshot.members().iter().any(|node| node.stats().in_flight() == 0);
        std::iter::from_fn(|| is_idle().then(pick).flatten()).collect()
    }

    fn call(&self) {
        let now = tokio::time::Instant::now();
        self.budget.deposit();
        assert!(self.throttle.admit(now), "nothing is overloaded");
        let tried = Tried::default();
        let picked = self.picker.pick(&self.snapshot, &self.options, &tried, &|()| false, now);
        picked.expect("there are nodes").finish(Ok(()), tokio::time::Instant::now());
    }
}

fn registrations(nodes: usize) -> impl Iterator<Item = Registration> {
    (0..nodes).map(|node| Registration::new("s", "1.0.0", Node::new(format!("n{node}"), "a:1")))
}

async fn subscription(nodes: usize) -> (Selector<()>, Arc<Subscription<()>>) {
    let registry = MemoryRegistry::new();
    for registration in registrations(nodes) {
        let registered = registry.register(&registration, Duration::from_secs(86_400)).await;
        registered.expect("memory does not fail");
    }
    let config = SelectorConfig::default();
    let selector = Selector::new(Arc::new(registry), config, |_| Ok(()));
    let subscription = selector.subscribe("s").expect("a good name");
    ours(&subscription).await;
    (selector, subscription)
}

async fn ours(subscription: &Subscription<()>) {
    subscription.call(&options(), &mut AtOnce).await.expect("it answers");
}

fn options() -> CallOptions {
    let mut options = CallOptions::default();
    options.method = Some(1);
    options
}

/// An attempt that is answered at once.
struct AtOnce;

impl Attempt<()> for AtOnce {
    type Response = ();
    type Error = Never;

    async fn make(&mut self, (): &(), _: u32, _: tokio::time::Instant) -> Result<(), Never> {
        Ok(())
    }
}

#[derive(Debug)]
enum Never {}

impl Classify for Never {
    fn class(&self) -> Class {
        match *self {}
    }
}

type Balanced = Balance<ServiceList<Vec<PeakEwma<Answers>>>, ()>;

/// As tower's documentation has it; the figures are linkerd's.
fn tower_balance(nodes: usize) -> Buffer<(), <Balanced as Service<()>>::Future> {
    let (rtt, decay) = (Duration::from_millis(1), Duration::from_secs(10).as_nanos() as f64);
    let node = |_| PeakEwma::new(Answers, rtt, decay, CompleteOnResponse::default());
    let all: Vec<_> = (0..nodes).map(node).collect();
    Buffer::new(Balanced::new(ServiceList::new(all)), 1_024)
}

/// A node that answers at once.
#[derive(Debug)]
struct Answers;

impl Service<()> for Answers {
    type Response = ();
    type Error = Infallible;
    type Future = Ready<Result<(), Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(()))
    }
}

fn print(cells: &[Cell]) {
    println!(
        "{:>7}{:>11}  {:<10}{:>10}{:>18}{:>10}",
        "nodes", "in flight", "contender", "ns/call", "allocations/call", "× tower"
    );
    for cell in cells {
        println!(
            "{:>7}{:>11}  {:<10}{:>10.0}{:>18.3}{:>10.2}",
            cell.nodes,
            cell.in_flight,
            cell.contender,
            cell.ns_per_call,
            cell.allocations_per_call,
            cell.of_tower
        );
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;
