//! The calls of one cell, in the process that callgrind watches.
//!
//! They are made in windows, each of which is a call of one function that callgrind is told the name
//! of, so that what it takes to start is in none of them.

use std::pin::Pin;

use anyhow::{Context, Result, ensure};
use micro_rpc::Channel;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use super::Load;
use super::contender::{BenchClient, Contender, Name};

/// Where callgrind counts, and at whose end it writes down what it counted: [`window`].
pub(crate) const WINDOW: &str = "*::calls::window";
/// How many windows without tasks are enough.
pub(crate) const WINDOWS: usize = 3;
/// What is printed after a window in which no call had a task of its own.
pub(crate) const STEADY: &str = "steady";

/// After so many windows it is given up to wait for those without tasks.
const MOST_WINDOWS: u32 = 8;
/// Calls after which a slow one is forgotten, unless it took very long.
const WARM_UP: u32 = 4096;
/// How often that is waited for.
const MOST_WARM_UPS: u32 = 8;

/// Makes the calls, and prints a line for each window.
///
/// # Errors
///
/// If a call fails, or is answered with anything but its payload.
pub(crate) fn run(load: &Load) -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    match load.contender {
        Name::Rpc => windows::<Channel>(&runtime, load),
        Name::Full => windows::<BenchClient>(&runtime, load),
    }
}

fn windows<C: Contender>(runtime: &Runtime, load: &Load) -> Result<()> {
    let (contender, _server) = runtime.block_on(C::start())?;
    let mut was_steady = runtime.block_on(warm_up(&contender, load))?;
    let mut steady_windows = 0;
    for _ in 0..MOST_WINDOWS {
        window(runtime, Box::pin(call(&contender, load, load.calls)))?;
        let is_steady = runtime.block_on(is_steady(&contender))?;
        println!("{}", if was_steady && is_steady { STEADY } else { "calls had tasks" });
        steady_windows += usize::from(was_steady && is_steady);
        if steady_windows == WINDOWS {
            break;
        }
        was_steady = is_steady;
    }
    Ok(())
}

/// Its name is what it is for: there is one function of it, whatever is called.
#[inline(never)]
fn window(runtime: &Runtime, calls: Pin<Box<dyn Future<Output = Result<()>> + '_>>) -> Result<()> {
    runtime.block_on(calls)
}

/// Whether it was enough.
async fn warm_up(contender: &impl Contender, load: &Load) -> Result<bool> {
    for _ in 0..MOST_WARM_UPS {
        call(contender, load, WARM_UP).await?;
        if is_steady(contender).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the server polls handlers in the connection's task, rather than each in one of its own.
async fn is_steady(contender: &impl Contender) -> Result<bool> {
    let (one, other) = (contender.call(&[]).await?, contender.call(&[]).await?);
    ensure!(!one.as_ref().is_empty(), "a handler runs in a task");
    Ok(one.as_ref() == other.as_ref())
}

async fn call(contender: &impl Contender, load: &Load, calls: u32) -> Result<()> {
    let mut callers = JoinSet::new();
    for caller in 0..load.in_flight {
        let share = calls / load.in_flight + u32::from(caller < calls % load.in_flight);
        callers.spawn(in_turn(contender.clone(), load.payload, share));
    }
    while let Some(ended) = callers.join_next().await {
        ended.context("a caller panicked")??;
    }
    Ok(())
}

async fn in_turn(contender: impl Contender, payload: u32, calls: u32) -> Result<()> {
    let payload = vec![7; payload as usize];
    for _ in 0..calls {
        let answer = contender.call(&payload).await?;
        ensure!(answer.as_ref().len() == payload.len(), "an answer of another length");
    }
    Ok(())
}
