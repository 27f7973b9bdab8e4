//! Measures what it costs a call to be seen: its place in the figures, and a span to which nobody
//! listens, in one interleaved run.

use std::hint::black_box;
use std::num::NonZeroU32;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Parser;
use micro_bench::rows::Target::Most;
use micro_bench::rows::{Output, Row, table};
use micro_rpc::Tally;

/// Measure what it costs a call to be counted, timed and traced.
#[derive(Debug, Parser)]
struct Arguments {
    /// Calls per measurement.
    #[arg(long, default_value = "1000000")]
    calls: NonZeroU32,
    /// How often each row is measured; the report has medians.
    #[arg(long, default_value = "15")]
    repetitions: NonZeroU32,
    #[command(flatten)]
    output: Output,
}

/// What a call may spend on its figures, on both sides together, and on spans.
const FIGURES: f64 = 300.0;
const SPAN: f64 = 20.0;

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let output = arguments.output.open()?;
    let calls = arguments.calls.get();
    let mut measured: [Vec<f64>; 4] = Default::default();
    // The first round warms up.
    for repetition in 0..=arguments.repetitions.get() {
        let round = [alone(calls), shared(calls), spans(calls), clock(calls)];
        if repetition > 0 {
            measured.iter_mut().zip(round).for_each(|(all, one)| all.push(one));
        }
    }
    let [alone, shared, spans, clock] = measured;
    let rows = [
        Row::new(
            "watch",
            "ns: a call counted and timed, one thread",
            "micro",
            Most(FIGURES),
            alone,
        ),
        Row::new("watch", "ns: the same method on two threads", "micro", Most(FIGURES), shared),
        Row::new("watch", "ns: a span to which nobody listens", "micro", Most(SPAN), spans),
        Row::new(
            "watch",
            "ns: of it, the two readings of the clock",
            "micro",
            Most(FIGURES),
            clock,
        ),
    ];
    print!("{}", table(&rows));
    output.write(&rows)
}

/// What a side does for each call: it looks at the clock before and after, and notes the time.
fn note(tally: &Tally, calls: u32) {
    for _ in 0..calls {
        let since = Instant::now();
        black_box(tally).note(black_box(Ok(())), since.elapsed());
    }
}

fn alone(calls: u32) -> f64 {
    let tally = Tally::new();
    per_call(calls, || note(&tally, calls))
}

/// Two threads that note calls of the same method, each as many.
fn shared(calls: u32) -> f64 {
    let tally = Tally::new();
    per_call(calls, || {
        thread::scope(|scope| {
            scope.spawn(|| note(&tally, calls));
            note(&tally, calls);
        });
    })
}

/// A span as calls have, where no subscriber is.
fn spans(calls: u32) -> f64 {
    per_call(calls, || {
        for number in 0..calls {
            let code = tracing::field::Empty;
            let span = tracing::info_span!("call", service = "shop", attempt = number, code);
            black_box(span.is_disabled());
        }
    })
}

fn clock(calls: u32) -> f64 {
    per_call(calls, || (0..calls).for_each(|_| _ = black_box(Instant::now().elapsed())))
}

fn per_call(calls: u32, work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    nanos(start.elapsed()) / f64::from(calls)
}

fn nanos(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9
}
