//! `micro top`: services, nodes and methods with what they do, on a screen that keeps current.

mod board;
mod draw;
mod figures;
mod rows;
mod scrapes;
mod screen;
mod state;

use std::io::{self, IsTerminal};
use std::time::Duration;

use clap::Args;
use futures::StreamExt;
use micro::Client;
use micro::registry::{Scope, Watch};
use serde::Serialize;
use tokio::time::{sleep, timeout};

use self::board::{Board, Service};
use self::scrapes::Scrapes;
use self::state::State;
use crate::duration;
use crate::failure::{End, Failure};
use crate::print::{self, Format};
use crate::world::{self, World};

/// Shows services, nodes and methods with how often they are called, how that ends and how long it
/// takes, as the nodes' own metrics say.
///
/// Keys: q quits, up and down move, enter unfolds, / filters, s sorts. Where there is no terminal it
/// prints what happens within one interval, and ends.
#[derive(Args, Debug)]
pub(crate) struct Top {
    /// How often to look
    #[arg(short, long, value_name = "DURATION", default_value = "1s", value_parser = interval)]
    interval: Duration,
    /// Print what happens within one interval, and end
    #[arg(long)]
    once: bool,
    /// How to print it, once
    #[arg(short, long, value_enum)]
    output: Option<Format>,
}

impl Top {
    /// Whether it takes the terminal for itself, on which nothing else is to be written then.
    pub(crate) fn takes_screen(&self) -> bool {
        !self.once && self.output.is_none() && io::stdout().is_terminal()
    }

    pub(crate) async fn run(self, world: &World) -> Result<(), Failure> {
        let client = world.client().await?;
        let mut updates = client.registry().watch(Scope::All).await?;
        let board = first(&mut updates).await?;
        match self.takes_screen() {
            true => screen::run(board, updates, client.registry().name(), self.interval).await,
            false => self.print(board, &client).await,
        }
    }

    async fn print(self, board: Board, client: &Client) -> Result<(), Failure> {
        let services = snapshot(board, self.interval).await;
        match self.output {
            Some(Format::Json) => {
                print::json(&Snapshot { seconds: self.interval.as_secs_f64(), services })
            }
            _ if services.is_empty() => {
                world::tell_of_nobody(client.registry());
                Ok(())
            }
            _ => print::text(&draw::plain(&rows::rows(&services, &State::everything()))),
        }
    }
}

/// What happened within one interval, in the shape that `-o json` promises.
#[derive(Serialize)]
struct Snapshot {
    seconds: f64,
    services: Vec<Service>,
}

/// Who is registered, as soon as the registry says so.
async fn first(updates: &mut Watch) -> Result<Board, Failure> {
    const PATIENCE: Duration = Duration::from_secs(10);
    let mut board = Board::default();
    let update = timeout(PATIENCE, updates.next()).await.ok().flatten();
    board.apply(&update.ok_or_else(|| unavailable("it says nothing"))?);
    match &board.stale {
        Some(cause) => Err(unavailable(cause)),
        None => Ok(board),
    }
}

fn unavailable(why: &str) -> Failure {
    Failure::new(End::Unavailable, format!("the registry cannot be reached: {why}"))
}

/// Asks every node twice, an interval apart.
async fn snapshot(mut board: Board, interval: Duration) -> Vec<Service> {
    ask_all(&mut board).await;
    sleep(interval).await;
    ask_all(&mut board).await;
    board.report()
}

async fn ask_all(board: &mut Board) {
    let mut scrapes = Scrapes::new();
    scrapes.begin(board);
    while let Some((key, at, answer)) = scrapes.next().await {
        board.hear(key, at, answer);
    }
}

/// An interval that does not keep nodes busy with answering this alone.
fn interval(text: &str) -> Result<Duration, String> {
    const RANGE: std::ops::RangeInclusive<Duration> =
        Duration::from_millis(100)..=Duration::from_secs(3600);
    let interval = duration::parse(text)?;
    match RANGE.contains(&interval) {
        true => Ok(interval),
        false => Err("expected 100ms to 1h".to_owned()),
    }
}
