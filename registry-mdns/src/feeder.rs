//! The task that carries what is heard in, and what is to be sent out.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures::FutureExt;
use if_addrs::Interface;
use micro_registry::Error;
use micro_registry::feed::Backoff;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::MdnsConfig;
use crate::clock::Clock;
use crate::error::unavailable;
use crate::link::{Heard, Link};
use crate::network;
use crate::state::State;

/// How long a call may take.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// What a handle and its task share. Dropping it aborts the task, which says goodbye, and the
/// watches end.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: MdnsConfig,
    state: Mutex<State>,
    task: Mutex<Option<JoinHandle<()>>>,
    /// Told when the task has something to do.
    called: Arc<Notify>,
    /// Told after each turn of the task.
    turned: watch::Sender<()>,
}

impl Shared {
    pub(crate) fn new(config: MdnsConfig) -> Self {
        Self {
            state: Mutex::new(State::new(&config.namespace)),
            config,
            task: Mutex::default(),
            called: Arc::default(),
            turned: watch::Sender::new(()),
        }
    }

    /// Starts the task if it does not run, or the runtime it ran on has gone.
    pub(crate) fn ensure_running(self: &Arc<Self>) {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if task.as_ref().is_none_or(JoinHandle::is_finished) {
            self.lock().restart();
            *task = Some(tokio::spawn(run(Arc::downgrade(self), self.called.clone())));
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the task do what the state asks for.
    pub(crate) fn call(&self) {
        self.called.notify_one();
    }

    /// Waits until the state has an answer. Cancel-safe.
    pub(crate) async fn until<T>(&self, answer: impl Fn(&State) -> Option<T>) -> T {
        let mut turns = self.turned.subscribe();
        loop {
            if let Some(answer) = answer(&self.lock()) {
                return answer;
            }
            // The sender is ours: it does not go away.
            let _ = turns.changed().await;
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

/// Follows the network from outage to outage until the handle is gone.
async fn run(shared: Weak<Shared>, called: Arc<Notify>) {
    let mut backoff = Backoff::new();
    loop {
        let following = AssertUnwindSafe(follow(&shared, &called, &mut backoff));
        let error = match following.catch_unwind().await {
            Ok(Some(error)) => error,
            Ok(None) => return,
            Err(_) => {
                tracing::error!("following the network panicked, starting it again");
                unavailable("the task of the mdns registry panicked")
            }
        };
        let Some(()) = with(&shared, |state| state.lose(&error.chain())) else { return };
        backoff.lost();
        tokio::time::sleep(backoff.pause()).await;
    }
}

/// Ends with what broke, or `None` when the handle is gone.
async fn follow(
    shared: &Weak<Shared>,
    called: &Arc<Notify>,
    backoff: &mut Backoff,
) -> Option<Error> {
    let config = shared.upgrade()?.config.clone();
    match Feed::open(config, shared.clone(), called.clone()) {
        Ok(feed) => {
            backoff.found();
            feed.follow().await
        }
        Err(error) => Some(error),
    }
}

/// How often to look for network interfaces at least, and at most.
const LOOK: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// A network that is followed.
struct Feed {
    config: MdnsConfig,
    shared: Weak<Shared>,
    called: Arc<Notify>,
    link: Link,
    interfaces: Vec<Interface>,
    looked: Instant,
    /// When the last turn began.
    turned: Clock,
}

impl Feed {
    fn open(config: MdnsConfig, shared: Weak<Shared>, called: Arc<Notify>) -> Result<Self, Error> {
        let interfaces = network::interfaces(&config)?;
        let link = Link::open(&config)?;
        let turned = Clock::read();
        with(&shared, |state| state.begin(true, turned.now));
        Ok(Self { config, shared, called, link, interfaces, looked: turned.now, turned })
    }

    /// Ends with what broke, or `None` when the handle is gone.
    async fn follow(mut self) -> Option<Error> {
        loop {
            match self.turn().await {
                Ok(Some(())) => {}
                Ok(None) => return None,
                Err(error) => return Some(error),
            }
        }
    }

    /// Does what is to be done, and waits for more. `None` when the handle is gone.
    async fn turn(&mut self) -> Result<Option<()>, Error> {
        // Nobody expires by a time that is later than that of the check.
        let clock = Clock::read();
        let last = std::mem::replace(&mut self.turned, clock);
        if clock.is_long_after(last) {
            return self.ask_again("this process was stopped for a while").await;
        }
        self.look()?;
        let Some(deadline) = self.send(clock).await? else { return Ok(None) };
        let look = Instant::now() + LOOK;
        match self.wait(deadline.map_or(look, |at| at.min(look))).await {
            Some(heard) if heard.is_empty() => {
                self.ask_again("news came faster than they could be read").await
            }
            Some(heard) => Ok(with(&self.shared, |state| take_in(state, heard))),
            None => Ok(Some(())),
        }
    }

    /// Does what is due, and sends what there is to send; gives when the next is due.
    async fn send(&self, clock: Clock) -> Result<Option<Option<Instant>>, Error> {
        let due = |state: &mut State| {
            state.tick(clock);
            state.unsent()
        };
        let Some((unsent, count)) = with(&self.shared, due) else { return Ok(None) };
        if !unsent.is_empty() {
            in_time(self.link.send(unsent)).await?;
            with(&self.shared, |state| state.sent(count));
        }
        Ok(with(&self.shared, |state| state.next_deadline()))
    }

    /// Every arm is cancel-safe: what is heard is kept, and so is a call. What was heard comes before
    /// what is due because nothing was.
    async fn wait(&self, until: Instant) -> Option<Vec<Heard>> {
        tokio::select! {
            biased;
            heard = self.link.heard() => Some(heard),
            () = self.called.notified() => None,
            () = tokio::time::sleep_until(until) => None,
        }
    }

    /// Looks at the interfaces, always before anybody who vanished is taken for gone.
    fn look(&mut self) -> Result<(), Error> {
        if self.looked.elapsed() < LOOK_AGAIN {
            return Ok(());
        }
        let now = network::interfaces(&self.config)?;
        if self.interfaces.iter().any(|known| !now.contains(known)) {
            with(&self.shared, |state| state.interface_lost(Instant::now()));
        }
        (self.interfaces, self.looked) = (now, Instant::now());
        Ok(())
    }

    /// Some news were lost: whoever watches is told, and everybody is asked anew.
    async fn ask_again(&mut self, cause: &str) -> Result<Option<()>, Error> {
        with(&self.shared, |state| state.lose(cause));
        in_time(self.link.browse_again()).await?;
        Ok(with(&self.shared, |state| state.begin(false, Instant::now())))
    }
}

fn take_in(state: &mut State, heard: Vec<Heard>) {
    let clock = Clock::read();
    for heard in heard {
        match heard {
            Heard::Found(found) => state.found(&found, clock),
            Heard::Vanished(label) => state.vanished(&label, clock.now),
            Heard::Other => {}
        }
    }
}

/// Does something to the state, and tells those who wait; `None` when the handle is gone.
fn with<T>(shared: &Weak<Shared>, change: impl FnOnce(&mut State) -> T) -> Option<T> {
    let shared = shared.upgrade()?;
    let changed = change(&mut shared.lock());
    shared.turned.send_replace(());
    Some(changed)
}

/// Waits for the daemon, as long as a call may take.
pub(crate) async fn in_time<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let unanswered =
        || unavailable(format!("mdns registry did not answer within {CALL_TIMEOUT:?}"));
    tokio::time::timeout(CALL_TIMEOUT, work).await.unwrap_or_else(|_| Err(unanswered()))
}
