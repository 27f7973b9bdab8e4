//! Who watches what over one stream, and who is told what of a message on it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use micro_registry::directory::Change;
use micro_registry::{Error, ErrorKind};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use crate::Lease;
use crate::keys::{Root, version};
use crate::proto::WatchResponse;

/// The watches of a stream, by the id we gave each.
#[derive(Debug)]
pub(crate) struct Watchers {
    root: Root,
    by_id: BTreeMap<i64, Watcher>,
    last_id: i64,
    /// Why there is no stream any more.
    end: Option<Status>,
}

/// One watch, seen from the stream.
#[derive(Debug)]
pub(crate) struct Watcher {
    /// The last revision it has seen.
    pub(crate) after: u64,
    /// The cluster that revision is of; 0 when that is not known.
    pub(crate) cluster: u64,
    /// Who waits for etcd to confirm it.
    pub(crate) created: Option<oneshot::Sender<Result<(), Status>>>,
    pub(crate) changes: mpsc::UnboundedSender<Result<Vec<Change<Lease>>, Error>>,
    /// How many changes were sent and not yet read.
    pub(crate) backlog: Arc<AtomicUsize>,
}

impl Watchers {
    pub(crate) fn new(root: Root) -> Self {
        Self { root, by_id: BTreeMap::new(), last_id: 0, end: None }
    }

    /// Adds one, unless the stream has ended; gives it its id.
    pub(crate) fn add(&mut self, watcher: Watcher) -> Result<i64, Status> {
        if let Some(end) = &self.end {
            return Err(end.clone());
        }
        self.last_id += 1;
        self.by_id.insert(self.last_id, watcher);
        Ok(self.last_id)
    }

    /// Forgets one; says whether etcd still serves it.
    pub(crate) fn remove(&mut self, id: i64) -> bool {
        self.by_id.remove(&id).is_some()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Passes on what etcd sent; gives the id of a watch that etcd is to be told to end.
    pub(crate) fn on_response(&mut self, response: WatchResponse) -> Option<i64> {
        if response.canceled {
            self.on_canceled(&response);
            return None;
        }
        if response.created {
            return self.on_created(&response);
        }
        let watcher = self.by_id.get(&response.watch_id)?;
        let changes: Vec<_> =
            response.events.into_iter().filter_map(|event| self.root.change(event)).collect();
        if changes.is_empty() || watcher.tell(changes) {
            return None;
        }
        self.fail(response.watch_id, Status::resource_exhausted("who watches does not keep up"));
        Some(response.watch_id)
    }

    /// The stream is no more: everybody is told.
    pub(crate) fn end(&mut self, why: &Status) {
        self.end.get_or_insert_with(|| why.clone());
        for (_, watcher) in std::mem::take(&mut self.by_id) {
            watcher.fail(why.clone());
        }
    }

    fn on_created(&mut self, response: &WatchResponse) -> Option<i64> {
        let id = response.watch_id;
        let header = response.header.clone().unwrap_or_default();
        let watcher = self.by_id.get_mut(&id)?;
        if watcher.cluster != 0 && watcher.cluster != header.cluster_id {
            self.fail(id, Status::data_loss("it is another cluster"));
            return Some(id);
        }
        let (is_at, after) = (version(header.revision), watcher.after);
        if is_at < after {
            // It would start there silently, once it has come so far. A member that lags is as well
            // replaced by another; of one that lost its data there is none.
            let what =
                format!("it is at revision {is_at}, before {after}: behind, or without data");
            self.fail(id, Status::unavailable(what));
            return Some(id);
        }
        if let Some(created) = watcher.created.take() {
            // Nobody waits any more: the watch is being dropped, and ends then.
            let _ = created.send(Ok(()));
        }
        None
    }

    fn on_canceled(&mut self, response: &WatchResponse) {
        let why = match response.compact_revision {
            0 if response.cancel_reason.contains("permission denied") => {
                Status::permission_denied(&response.cancel_reason)
            }
            0 => Status::unavailable(format!("canceled by etcd: {}", response.cancel_reason)),
            revision => Status::out_of_range(format!("compacted up to revision {revision}")),
        };
        // What is refused before it has an id of etcd's comes without one, in the order of asking.
        let is_pending = |watcher: &Watcher| watcher.created.is_some();
        let pending = || self.by_id.iter().find(|(_, watcher)| is_pending(watcher));
        let id = match response.watch_id {
            id if self.by_id.contains_key(&id) => Some(id),
            -1 => pending().map(|(id, _)| *id),
            _ => None,
        };
        if let Some(id) = id {
            self.fail(id, why);
        }
    }

    fn fail(&mut self, id: i64, why: Status) {
        if let Some(watcher) = self.by_id.remove(&id) {
            watcher.fail(why);
        }
    }
}

impl Watcher {
    /// Says whether it can take more.
    fn tell(&self, changes: Vec<Change<Lease>>) -> bool {
        let backlog = self.backlog.fetch_add(changes.len(), Ordering::Relaxed) + changes.len();
        // Nobody listens any more: as above.
        let _ = self.changes.send(Ok(changes));
        backlog <= MAX_BACKLOG
    }

    fn fail(self, why: Status) {
        if let Some(created) = self.created {
            // As above.
            let _ = created.send(Err(why));
            return;
        }
        let message = format!("watch of etcd was cut: {}", why.message());
        let _ = self.changes.send(Err(Error::new(ErrorKind::Unavailable, message)));
    }
}

/// How many changes may wait to be read; several times the ten thousand nodes of a large service.
const MAX_BACKLOG: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{Event, KeyValue, ResponseHeader};

    type Told = mpsc::UnboundedReceiver<Result<Vec<Change<Lease>>, Error>>;
    type Created = oneshot::Receiver<Result<(), Status>>;

    fn watchers() -> Watchers {
        Watchers::new(Root::new("micro"))
    }

    fn watch(watchers: &mut Watchers, after: u64, cluster: u64) -> (i64, Created, Told) {
        let (created, confirmed) = oneshot::channel();
        let (changes, told) = mpsc::unbounded_channel();
        let backlog = Arc::default();
        let watcher = Watcher { after, cluster, created: Some(created), changes, backlog };
        (watchers.add(watcher).unwrap(), confirmed, told)
    }

    fn response(watch_id: i64, revision: i64) -> WatchResponse {
        let header = Some(ResponseHeader { cluster_id: 7, revision });
        WatchResponse { header, watch_id, ..WatchResponse::default() }
    }

    fn created(watch_id: i64, revision: i64) -> WatchResponse {
        WatchResponse { created: true, ..response(watch_id, revision) }
    }

    fn put(watch_id: i64, count: usize) -> WatchResponse {
        let kv = KeyValue { key: b"/micro/n/s/1".into(), mod_revision: 9, ..KeyValue::default() };
        let events = vec![Event { kind: 0, kv: Some(kv) }; count];
        WatchResponse { events, ..response(watch_id, 9) }
    }

    /// Each watch hears of its own changes only.
    #[test]
    fn one_stream_for_many() {
        let mut watchers = watchers();
        let (a, _, mut told_a) = watch(&mut watchers, 5, 7);
        let (b, _, mut told_b) = watch(&mut watchers, 5, 7);
        for id in [a, b] {
            assert_eq!(watchers.on_response(created(id, 5)), None);
        }
        watchers.on_response(put(b, 1));
        let Ok(Ok(changes)) = told_b.try_recv() else { panic!("nothing was told") };
        assert!(matches!(&changes[..], [Change::Put(entry)] if entry.held.version == 9));
        assert!(told_a.try_recv().is_err());
        assert!(watchers.remove(b) && !watchers.remove(b));
        assert_eq!(watchers.on_response(put(b, 1)), None);
    }

    /// A server that is behind the revision asked for is not watched at, nor is another cluster's.
    #[test]
    fn behind_or_elsewhere() {
        let mut watchers = watchers();
        let cases = [(6, 7, tonic::Code::Unavailable), (5, 8, tonic::Code::DataLoss)];
        for (after, cluster, expected) in cases {
            let (id, mut confirmed, _) = watch(&mut watchers, after, cluster);
            assert_eq!(watchers.on_response(created(id, 5)), Some(id));
            let why = confirmed.try_recv().unwrap().unwrap_err();
            assert_eq!(why.code(), expected);
            assert!(!watchers.remove(id));
        }
    }

    /// Compaction ends a watch with an error, after it was confirmed.
    #[test]
    fn compaction() {
        let mut watchers = watchers();
        let (id, _, mut told) = watch(&mut watchers, 5, 7);
        watchers.on_response(created(id, 9));
        let compacted = WatchResponse { canceled: true, compact_revision: 8, ..response(id, 9) };
        watchers.on_response(compacted);
        let error = told.try_recv().unwrap().unwrap_err();
        assert!(error.to_string().contains("compacted up to revision 8"), "{error}");
        assert!(told.try_recv().is_err());
    }

    /// A refusal without an id is that of the watch that has waited longest.
    #[test]
    fn refusals_without_an_id() {
        let mut watchers = watchers();
        let (first, _, mut told) = watch(&mut watchers, 5, 7);
        watchers.on_response(created(first, 5));
        let (_, mut second, _) = watch(&mut watchers, 5, 7);
        let (_, mut third, _) = watch(&mut watchers, 5, 7);
        let cancel_reason = "etcdserver: permission denied".to_owned();
        let denied =
            WatchResponse { created: true, canceled: true, cancel_reason, ..response(-1, 5) };
        watchers.on_response(denied);
        let why = second.try_recv().unwrap().unwrap_err();
        assert_eq!(why.code(), tonic::Code::PermissionDenied);
        assert!(third.try_recv().is_err() && told.try_recv().is_err());
    }

    /// The end of the stream is told to all, and to those who come later.
    #[test]
    fn the_end() {
        let mut watchers = watchers();
        let (id, _, mut told) = watch(&mut watchers, 5, 7);
        watchers.on_response(created(id, 5));
        let (_, mut pending, _) = watch(&mut watchers, 5, 7);
        watchers.end(&Status::unavailable("cut"));
        assert!(told.try_recv().unwrap().is_err() && pending.try_recv().unwrap().is_err());
        let (changes, _) = mpsc::unbounded_channel();
        let late =
            Watcher { after: 0, cluster: 0, created: None, changes, backlog: Arc::default() };
        assert!(watchers.add(late).is_err() && watchers.has_ended());
    }

    /// Who does not read is cut off, rather than remembered for without end.
    #[test]
    fn bounded() {
        let mut watchers = watchers();
        let (id, _, mut told) = watch(&mut watchers, 5, 7);
        watchers.on_response(created(id, 5));
        assert_eq!(watchers.on_response(put(id, MAX_BACKLOG)), None);
        assert_eq!(watchers.on_response(put(id, 1)), Some(id));
        assert_eq!(watchers.on_response(put(id, 1)), None);
        let told = std::iter::from_fn(|| told.try_recv().ok()).collect::<Vec<_>>();
        assert!(matches!(&told[..], [Ok(_), Ok(_), Err(_)]));
    }
}
