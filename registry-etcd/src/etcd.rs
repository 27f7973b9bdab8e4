//! The engine: guarded writes under leases, lists at one revision, watches.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use micro_registry::Error;
use micro_registry::directory::{
    Changes, Directory, Held, Keys, LeaseFor, Listing, Put, PutOutcome,
};

use crate::EtcdConfig;
use crate::client::{Client, Task};
use crate::failure::Failure;
use crate::keys::{Root, revision, version};
use crate::proto::{
    Compare, DeleteRangeRequest, KeyValue, LeaseGrantRequest, LeaseGrantResponse,
    LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseRevokeRequest, LeaseRevokeResponse, MOD,
    Op, PutRequest, RangeRequest, RangeResponse, RequestOp, ResponseHeader, TxnRequest,
    TxnResponse, path,
};
use crate::watch::Watches;

/// An etcd cluster as a directory of leased keys.
///
/// It connects with its first call. A call asks one server, and the next one when there is no answer
/// in time; what is written is guarded, so that a repetition is harmless. All watches share one
/// stream to one server, which is there while somebody watches.
///
/// # Panics
///
/// Its calls panic outside of a tokio runtime with timer and I/O enabled.
pub struct Etcd {
    root: Root,
    client: Client,
    watches: Watches,
    /// Which cluster the last list was of; 0 before.
    cluster: AtomicU64,
}

/// A lease, by etcd's id; 0 is none, as of a key that somebody put by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease(pub(crate) i64);

impl Etcd {
    /// A handle. Does no I/O and starts no task. The namespace of the configuration is not the
    /// engine's affair.
    ///
    /// # Errors
    ///
    /// `Invalid`, saying what would be right, for an endpoint, a prefix, times or certificates that
    /// cannot be right.
    pub fn new(config: &EtcdConfig) -> Result<Self, Error> {
        config.validate()?;
        let root = Root::new(&config.prefix);
        let client = Client::new(config)?;
        let watches = Watches::new(root.clone());
        Ok(Self { root, client, watches, cluster: AtomicU64::new(0) })
    }

    async fn put_under(
        &self,
        task: &mut Task<'_>,
        put: &Put<'_, Lease>,
        lease: Lease,
    ) -> Result<PutOutcome<Lease>, Error> {
        let key = self.root.key(put.key);
        let write = PutRequest { key: key.clone(), value: put.value.to_vec(), lease: lease.0 };
        let guarded = guarded(&key, put.expected.unwrap_or(0), Op::Put(write));
        let answer = match task.ask::<_, TxnResponse>(path::TXN, &guarded).await {
            Ok(answer) => answer,
            Err(failure) if failure.says(NO_LEASE) => return Ok(PutOutcome::LeaseLost),
            Err(failure) => return Err(failure.into()),
        };
        if answer.succeeded {
            let version = version(answer.header.unwrap_or_default().revision);
            return Ok(PutOutcome::Stored(Held { version, lease }));
        }
        // This may be the repetition of a request that was carried out and not answered.
        Ok(match found(answer) {
            Some(kv) if kv.lease == lease.0 && kv.value == put.value => {
                PutOutcome::Stored(Held { version: version(kv.mod_revision), lease })
            }
            _ => PutOutcome::Conflict,
        })
    }

    /// A part of a list: from a key on, at a revision, 0 being now.
    async fn page(
        &self,
        task: &mut Task<'_>,
        request: &mut RangeRequest,
    ) -> Result<RangeResponse, Failure> {
        loop {
            match task.ask(path::RANGE, request).await {
                Err(failure) if failure.is_too_large() && request.limit > 1 => request.limit /= 2,
                answer => return answer,
            }
        }
    }

    async fn pages(
        &self,
        task: &mut Task<'_>,
        keys: &Keys,
    ) -> Result<(ResponseHeader, Vec<KeyValue>), Failure> {
        let range = self.root.range(keys);
        let mut request = RangeRequest {
            key: range.key,
            range_end: range.end,
            limit: PAGE,
            ..RangeRequest::default()
        };
        let first = self.page(task, &mut request).await?;
        let header = first.header.unwrap_or_default();
        let (mut kvs, mut more) = (first.kvs, first.more);
        request.revision = header.revision;
        while more {
            let last = kvs.last().map(|kv| kv.key.clone()).unwrap_or_default();
            request.key = [&last[..], &[0]].concat();
            let page = self.page(task, &mut request).await?;
            more = page.more && !page.kvs.is_empty();
            kvs.extend(page.kvs);
        }
        Ok((header, kvs))
    }
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Etcd")
            .field("root", &self.root)
            .field("client", &self.client)
            .field("watches", &self.watches)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Directory for Etcd {
    type Lease = Lease;

    fn name(&self) -> &str {
        "etcd"
    }

    async fn put(&self, put: Put<'_, Lease>) -> Result<PutOutcome<Lease>, Error> {
        let task = &mut self.client.task();
        let ttl = match put.lease {
            LeaseFor::Existing(lease) => return self.put_under(task, &put, lease).await,
            LeaseFor::New(ttl) => ttl,
        };
        let lease = grant(task, ttl).await?;
        let outcome = self.put_under(task, &put, lease).await;
        if !matches!(outcome, Ok(PutOutcome::Stored(_))) {
            // If that fails too, it ends by itself after its TTL.
            let _ = revoke(task, lease).await;
        }
        outcome
    }

    async fn renew(&self, key: &str, held: &Held<Lease>) -> Result<bool, Error> {
        let task = &mut self.client.task();
        let request = LeaseKeepAliveRequest { id: held.lease.0 };
        let LeaseKeepAliveResponse { ttl } = task.ask(path::LEASE_KEEP_ALIVE, &request).await?;
        if ttl <= 0 {
            return Ok(false);
        }
        let request = RangeRequest { key: self.root.key(key), ..RangeRequest::default() };
        let answer: RangeResponse = task.ask(path::RANGE, &request).await?;
        let is_held =
            |kv: &KeyValue| version(kv.mod_revision) == held.version && kv.lease == held.lease.0;
        Ok(answer.kvs.first().is_some_and(is_held))
    }

    async fn remove(&self, key: &str, held: &Held<Lease>) -> Result<bool, Error> {
        let task = &mut self.client.task();
        let key = self.root.key(key);
        let delete = DeleteRangeRequest { key: key.clone() };
        let guarded = guarded(&key, held.version, Op::Delete(delete));
        let answer: TxnResponse = task.ask(path::TXN, &guarded).await?;
        let was_held = answer.succeeded;
        // A lease is one key's. If that has another by now, this one serves nobody.
        if found(answer).is_none_or(|kv| kv.lease != held.lease.0) {
            let _ = revoke(task, held.lease).await;
        }
        Ok(was_held)
    }

    async fn list(&self, keys: &Keys) -> Result<Listing<Lease>, Error> {
        let task = &mut self.client.task();
        let (header, kvs) = loop {
            match self.pages(task, keys).await {
                // What happened while it was read has been forgotten already: from the start.
                Err(failure) if failure.says(COMPACTED) => {}
                listed => break listed?,
            }
        };
        self.cluster.store(header.cluster_id, Ordering::Relaxed);
        let entries = kvs.into_iter().filter_map(|kv| self.root.entry(kv)).collect();
        Ok(Listing { entries, revision: version(header.revision) })
    }

    async fn follow(&self, keys: &Keys, after: u64) -> Result<Changes<Lease>, Error> {
        let cluster = self.cluster.load(Ordering::Relaxed);
        self.watches.follow(&self.client, &self.root.range(keys), after, cluster).await
    }
}

/// The smallest TTL that etcd gives a lease with its default timing, in seconds.
const MIN_TTL: i64 = 2;

/// How many keys are asked for at once; fewer, once they do not fit into a message.
const PAGE: i64 = 1_000;

/// What etcd says to a put under a lease that is gone, to a grant that was carried out before, and
/// to a read at a revision that it has forgotten.
const NO_LEASE: &str = "requested lease not found";
const LEASE_EXISTS: &str = "lease already exists";
const COMPACTED: &str = "has been compacted";

/// A new lease, under an id of ours, so that a repetition makes no second one.
async fn grant(task: &mut Task<'_>, ttl: Duration) -> Result<Lease, Error> {
    let lease = Lease(fastrand::i64(1..));
    let request = LeaseGrantRequest { ttl: in_seconds(ttl), id: lease.0 };
    match task.ask::<_, LeaseGrantResponse>(path::LEASE_GRANT, &request).await {
        Ok(LeaseGrantResponse {}) => Ok(lease),
        Err(failure) if failure.says(LEASE_EXISTS) => Ok(lease),
        Err(failure) => Err(failure.into()),
    }
}

/// Ends a lease; that there is none is as good.
async fn revoke(task: &mut Task<'_>, lease: Lease) -> Result<(), Failure> {
    if lease == Lease(0) {
        return Ok(());
    }
    let request = LeaseRevokeRequest { id: lease.0 };
    match task.ask::<_, LeaseRevokeResponse>(path::LEASE_REVOKE, &request).await {
        Err(failure) if failure.says(NO_LEASE) => Ok(()),
        answer => answer.map(|_| ()),
    }
}

/// Rounded up.
fn in_seconds(ttl: Duration) -> i64 {
    let whole = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
    i64::try_from(whole).unwrap_or(i64::MAX).max(MIN_TTL)
}

/// The operation, if the key is at this version, 0 being not there; else how the key is.
fn guarded(key: &[u8], version: u64, op: Op) -> TxnRequest {
    let compare = Compare { target: MOD, key: key.to_vec(), mod_revision: Some(revision(version)) };
    let look = RangeRequest { key: key.to_vec(), ..RangeRequest::default() };
    let only = |op| vec![RequestOp { request: Some(op) }];
    TxnRequest { compare: vec![compare], success: only(op), failure: only(Op::Range(look)) }
}

/// The key that a guarded write found in its way.
fn found(answer: TxnResponse) -> Option<KeyValue> {
    let range = answer.responses.into_iter().find_map(|response| response.range);
    range?.kvs.into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A TTL is never shortened, and never below what etcd grants.
    #[test]
    fn ttls() {
        for (millis, seconds) in [(1, 2), (2_000, 2), (2_001, 3), (3_600_000, 3_600)] {
            assert_eq!(in_seconds(Duration::from_millis(millis)), seconds);
        }
    }
}
