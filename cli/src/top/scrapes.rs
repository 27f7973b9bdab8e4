//! Asks nodes what they do, many at once, none of them for long.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use micro::dynamic;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::board::{Board, Key, Problem};
use super::figures::Figures;

/// The questions under way. They go on while [`next`](Self::next) is awaited; dropping it ends them.
pub(super) struct Scrapes {
    places: Arc<Semaphore>,
    running: FuturesUnordered<BoxFuture<'static, Heard>>,
    asked: HashSet<Key>,
}

/// Which node said what, and when.
pub(super) type Heard = (Key, Instant, Result<Figures, Problem>);

/// How many nodes are asked at once.
const AT_ONCE: usize = 64;
/// Whoever takes longer hangs: this takes a node no time, whatever else it has to do.
const PATIENCE: Duration = Duration::from_secs(1);

impl Scrapes {
    pub(super) fn new() -> Self {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        Self { places, running: FuturesUnordered::new(), asked: HashSet::new() }
    }

    /// Asks each node that owes no answer.
    pub(super) fn begin(&mut self, board: &Board) {
        for (key, address) in board.nodes() {
            if self.asked.insert(key.clone()) {
                let (places, address) = (Arc::clone(&self.places), address.to_owned());
                let ask = async move {
                    let _place = places.acquire().await;
                    let answer = scrape(&address, &key.1).await;
                    (key, Instant::now(), answer)
                };
                self.running.push(ask.boxed());
            }
        }
    }

    /// The next answer, `None` when none is owed; cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Heard> {
        let heard = self.running.next().await?;
        self.asked.remove(&heard.0);
        Some(heard)
    }
}

async fn scrape(address: &str, id: &str) -> Result<Figures, Problem> {
    let page = timeout(PATIENCE, dynamic::get(address, "/metrics")).await;
    let page = page.map_err(|_| Problem::Hung)?;
    let page = page.map_err(|error| match error.code() {
        micro::Code::Unavailable => Problem::Unreachable,
        _ => Problem::Stranger,
    })?;
    let figures = Figures::read(&String::from_utf8_lossy(&page.body));
    figures.filter(|figures| figures.node.as_deref() == Some(id)).ok_or(Problem::Stranger)
}
