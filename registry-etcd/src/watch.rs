//! All watches of a handle, over one stream to one server.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures::channel::mpsc as orders;
use futures::{StreamExt, stream};
use micro_registry::Error;
use micro_registry::directory::{Change, Changes};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tonic::{Request, Status, Streaming};

use crate::Lease;
use crate::client::{Attempt, Client};
use crate::failure::{self, Failure};
use crate::keys::{Range, Root, revision};
use crate::login::Token;
use crate::proto::{
    RangeRequest, RangeResponse, WatchCancelRequest, WatchCreateRequest, WatchOrder, WatchRequest,
    WatchResponse, path,
};
use crate::server::Line;
use crate::watchers::{Watcher, Watchers};

/// The stream that new watches join; there is none while nobody watches.
#[derive(Debug)]
pub(crate) struct Watches {
    root: Root,
    current: Mutex<Weak<Conversation>>,
}

impl Watches {
    pub(crate) fn new(root: Root) -> Self {
        Self { root, current: Mutex::default() }
    }

    /// What changes in a range after a revision of a cluster; 0 is any cluster.
    pub(crate) async fn follow(
        &self,
        client: &Client,
        range: &Range,
        after: u64,
        cluster: u64,
    ) -> Result<Changes<Lease>, Error> {
        let mut task = client.task();
        let follower = loop {
            let attempt = task.attempt().await?;
            let outcome = attempt.in_time(self.join(client, &attempt, range, after, cluster)).await;
            match task.judge(&attempt, outcome) {
                Ok(None) => {}
                Ok(Some(follower)) => break follower,
                Err(failure) => return Err(refused(client, failure)),
            }
        };
        Ok(follower.into_stream().boxed())
    }

    async fn join(
        &self,
        client: &Client,
        attempt: &Attempt<'_>,
        range: &Range,
        after: u64,
        cluster: u64,
    ) -> Result<Follower, Status> {
        let token = attempt.token().await?;
        let joining = Joining::new(self, self.conversation(client, &attempt.line, token));
        let follower = joining.conversation.join(range, after, cluster).await?;
        joining.succeeded();
        Ok(follower)
    }

    /// The one there is, or a new one over this line.
    fn conversation(
        &self,
        client: &Client,
        line: &Line,
        token: Option<&Token>,
    ) -> Arc<Conversation> {
        let mut current = lock(&self.current);
        let usable = current.upgrade().filter(|current| !lock(&current.watchers).has_ended());
        usable.unwrap_or_else(|| {
            let started = Arc::new(Conversation::start(client, line, token, &self.root));
            *current = Arc::downgrade(&started);
            started
        })
    }
}

/// A stream of watches. Its followers hold it; with the last of them it ends, its task and what etcd
/// does for it too.
struct Conversation {
    /// At most two orders for each watch wait here.
    orders: orders::UnboundedSender<WatchRequest>,
    watchers: Arc<Mutex<Watchers>>,
    _task: JoinSet<()>,
}

impl Conversation {
    fn start(client: &Client, line: &Line, token: Option<&Token>, root: &Root) -> Self {
        let (orders, received) = orders::unbounded();
        let watchers = Arc::new(Mutex::new(Watchers::new(root.clone())));
        let talk = Talk {
            line: line.clone(),
            orders: orders.clone(),
            watchers: Arc::clone(&watchers),
            heard: AtomicBool::new(true),
            probe: Probe { key: root.key(""), token: token.cloned() },
            patience: client.request_timeout(),
        };
        let requests = Client::dress(received, token);
        let mut task = JoinSet::new();
        task.spawn(async move { talk.run(requests).await });
        Self { orders, watchers, _task: task }
    }

    /// Begins a watch and waits until etcd confirms it.
    async fn join(
        self: &Arc<Self>,
        range: &Range,
        after: u64,
        cluster: u64,
    ) -> Result<Follower, Status> {
        let (created, confirmed) = oneshot::channel();
        let (changes, received) = mpsc::unbounded_channel();
        let backlog = Arc::new(AtomicUsize::new(0));
        let watcher =
            Watcher { after, cluster, created: Some(created), changes, backlog: backlog.clone() };
        let id = lock(&self.watchers).add(watcher)?;
        // From here on dropping it ends the watch.
        let follower = Follower { id, conversation: Arc::clone(self), changes: received, backlog };
        self.order(WatchOrder::Create(WatchCreateRequest {
            key: range.key.clone(),
            range_end: range.end.clone(),
            start_revision: revision(after.saturating_add(1)),
            watch_id: id,
            fragment: true,
        }));
        confirmed.await.unwrap_or_else(|_| Err(Status::unavailable(ENDED)))?;
        Ok(follower)
    }

    /// Nobody takes orders when the stream has ended; whoever watched is told by that.
    fn order(&self, order: WatchOrder) {
        let _ = self.orders.unbounded_send(WatchRequest { order: Some(order) });
    }
}

impl fmt::Debug for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conversation").field("watchers", &self.watchers).finish_non_exhaustive()
    }
}

/// A watch that is about to begin. If it does not, others begin on another stream: this one may be
/// silent, or of a token that etcd has forgotten, and would then refuse every watch.
struct Joining<'a> {
    watches: &'a Watches,
    conversation: Arc<Conversation>,
    has_succeeded: bool,
}

impl<'a> Joining<'a> {
    fn new(watches: &'a Watches, conversation: Arc<Conversation>) -> Self {
        Self { watches, conversation, has_succeeded: false }
    }

    fn succeeded(mut self) {
        self.has_succeeded = true;
    }
}

impl Drop for Joining<'_> {
    fn drop(&mut self) {
        let mut current = lock(&self.watches.current);
        if !self.has_succeeded && current.as_ptr() == Arc::as_ptr(&self.conversation) {
            *current = Weak::new();
        }
    }
}

/// One watch, seen from who watches.
struct Follower {
    id: i64,
    conversation: Arc<Conversation>,
    changes: mpsc::UnboundedReceiver<Result<Vec<Change<Lease>>, Error>>,
    backlog: Arc<AtomicUsize>,
}

impl Follower {
    /// Ends with an error.
    fn into_stream(self) -> impl stream::Stream<Item = Result<Vec<Change<Lease>>, Error>> {
        stream::unfold(Some(self), async |follower| {
            let mut follower = follower?;
            match follower.changes.recv().await? {
                Ok(changes) => {
                    follower.backlog.fetch_sub(changes.len(), Ordering::Relaxed);
                    Some((Ok(changes), Some(follower)))
                }
                Err(error) => Some((Err(error), None)),
            }
        })
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if lock(&self.conversation.watchers).remove(self.id) {
            let watch_id = self.id;
            self.conversation.order(WatchOrder::Cancel(WatchCancelRequest { watch_id }));
        }
    }
}

/// What a conversation's task has. However it ends, everybody is told.
struct Talk {
    line: Line,
    orders: orders::UnboundedSender<WatchRequest>,
    watchers: Arc<Mutex<Watchers>>,
    /// Whether etcd said something since that was last looked at.
    heard: AtomicBool,
    probe: Probe,
    patience: Duration,
}

/// What a server is asked to see whether it lives.
struct Probe {
    key: Vec<u8>,
    token: Option<Token>,
}

impl Talk {
    async fn run(self, requests: Request<orders::UnboundedReceiver<WatchRequest>>) {
        let end = self.talk(requests).await;
        lock(&self.watchers).end(&end);
    }

    async fn talk(&self, requests: Request<orders::UnboundedReceiver<WatchRequest>>) -> Status {
        // There is an answer when the first watch, which is among the requests, is confirmed.
        let opening = self.line.converse::<_, WatchResponse>(path::WATCH, requests);
        let responses = match timeout(self.patience, opening).await {
            Ok(Ok(responses)) => responses,
            Ok(Err(status)) => return status,
            Err(_) => return failure::silence(self.patience),
        };
        tokio::select! {
            end = self.read(responses) => end,
            end = self.ask_whether_it_lives() => end,
        }
    }

    async fn read(&self, mut responses: Streaming<WatchResponse>) -> Status {
        loop {
            let response = match responses.message().await {
                Ok(Some(response)) => response,
                Ok(None) => return Status::unavailable("etcd ended it"),
                Err(status) => return Status::unavailable(failure::in_words(&status)),
            };
            self.heard.store(true, Ordering::Relaxed);
            if let Some(watch_id) = lock(&self.watchers).on_response(response) {
                let order = Some(WatchOrder::Cancel(WatchCancelRequest { watch_id }));
                let _ = self.orders.unbounded_send(WatchRequest { order });
            }
        }
    }

    /// Ends when a server that has nothing to say does not answer either; any answer will do.
    async fn ask_whether_it_lives(&self) -> Status {
        loop {
            sleep(PROBE_INTERVAL).await;
            if self.heard.swap(false, Ordering::Relaxed) {
                continue;
            }
            let request = RangeRequest {
                key: self.probe.key.clone(),
                serializable: true,
                ..RangeRequest::default()
            };
            let request = Client::dress(request, self.probe.token.as_ref());
            let asking = self.line.ask::<_, RangeResponse>(path::RANGE, request);
            match timeout(self.patience, asking).await {
                Err(_) => return failure::silence(self.patience),
                Ok(Err(status)) if failure::is_ours(&status) => {
                    return Status::unavailable(failure::in_words(&status));
                }
                Ok(_) => {}
            }
        }
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        lock(&self.watchers).end(&Status::unavailable(ENDED));
    }
}

/// An open stream says that it is denied also where etcd has forgotten the token.
fn refused(client: &Client, failure: Failure) -> Error {
    if failure.says("permission denied") {
        client.forget_token();
    }
    failure.into()
}

const ENDED: &str = "its task ended";

/// How often a server that says nothing is asked whether it lives.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
