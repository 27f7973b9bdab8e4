//! The engine by itself: what a directory of leased keys has to do.

use std::time::Duration;

use futures::{StreamExt, stream};
use micro_registry::directory::{
    Change, Changes, Directory, Held, Keys, LeaseFor, Put, PutOutcome,
};
use micro_registry_etcd::{Etcd, EtcdConfig, Lease};

use crate::proxy::Proxy;
use crate::{etcd, soon};
use testbed::etcd::{self as server, Server};

const TTL: Duration = Duration::from_secs(60);

fn put<'a>(key: &'a str, value: &'a str, expected: Option<u64>) -> Put<'a, Lease> {
    Put { key, value: value.as_bytes(), lease: LeaseFor::New(TTL), expected }
}

async fn stored(etcd: &Etcd, put: Put<'_, Lease>) -> Held<Lease> {
    match etcd.put(put).await.unwrap() {
        PutOutcome::Stored(held) => held,
        other => panic!("not stored: {other:?}"),
    }
}

fn all() -> Keys {
    Keys::Below("n/".into())
}

async fn next(changes: &mut Changes<Lease>) -> Vec<Change<Lease>> {
    soon("a change", changes.next()).await.unwrap().unwrap()
}

/// What is put is listed and followed, guarded by its version, until it is removed with its lease.
#[tokio::test]
async fn put_list_follow_remove() {
    if !server::is_there() {
        return;
    }
    let server = Server::start();
    let etcd = etcd(&server);
    let empty = etcd.list(&all()).await.unwrap();
    assert!(empty.entries.is_empty());
    let mut changes = etcd.follow(&all(), empty.revision).await.unwrap();

    let first = stored(&etcd, put("n/s/1", "a", None)).await;
    assert!(matches!(etcd.put(put("n/s/1", "b", None)).await.unwrap(), PutOutcome::Conflict));
    let renamed =
        Put { lease: LeaseFor::Existing(first.lease), ..put("n/s/1", "b", Some(first.version)) };
    let second = stored(&etcd, renamed).await;
    assert!(second.version > first.version && second.lease == first.lease);
    assert!(!etcd.remove("n/s/1", &first).await.unwrap());

    let listed = etcd.list(&all()).await.unwrap();
    assert_eq!(listed.revision, second.version);
    let [entry] = &listed.entries[..] else { panic!("{listed:?}") };
    assert_eq!((&*entry.key, &*entry.value), ("n/s/1", &b"b"[..]));
    assert_eq!((entry.held.version, entry.held.lease), (second.version, second.lease));

    assert!(etcd.renew("n/s/1", &second).await.unwrap());
    assert!(!etcd.renew("n/s/1", &first).await.unwrap());
    assert!(etcd.remove("n/s/1", &second).await.unwrap());
    assert!(!etcd.renew("n/s/1", &second).await.unwrap());
    assert!(matches!(&next(&mut changes).await[..], [Change::Put(e)] if e.value == b"a"));
    assert!(matches!(&next(&mut changes).await[..], [Change::Put(e)] if e.value == b"b"));
    let gone = next(&mut changes).await;
    assert!(matches!(&gone[..], [Change::Gone { key, .. }] if key == "n/s/1"));
    assert_eq!(gone[0].revision(), etcd.list(&all()).await.unwrap().revision);
    assert_eq!(server.leases(), Vec::<String>::new());
}

/// A write that is carried out, and whose answer is lost, is not taken for somebody else's when it is
/// repeated; nor is the grant of a lease.
#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_lost() {
    if !server::is_there() {
        return;
    }
    let server = Server::start();
    let proxy = Proxy::start(server.address()).await;
    let etcd = Etcd::new(&EtcdConfig::new([proxy.address()])).unwrap();
    let first = stored(&etcd, put("n/s/1", "a", None)).await;
    proxy.mute();
    let again =
        Put { lease: LeaseFor::Existing(first.lease), ..put("n/s/1", "b", Some(first.version)) };
    let second = stored(&etcd, again).await;
    assert!(second.version > first.version && second.lease == first.lease);
    proxy.mend();
    etcd.list(&all()).await.unwrap();
    proxy.mute();
    stored(&etcd, put("n/s/2", "c", None)).await;
    assert_eq!(server.leases().len(), 2);
}

/// More than fits into a message is listed in pages, as of one revision, and followed in parts.
#[tokio::test(flavor = "multi_thread")]
async fn more_than_a_message() {
    if !server::is_there() {
        return;
    }
    let server = Server::start();
    let etcd = etcd(&server);
    let before = etcd.list(&all()).await.unwrap().revision;
    let value = "x".repeat(6_000);
    let keys: Vec<_> = (0..2_500).map(|index| format!("n/s/{index:04}")).collect();
    let storing = stream::iter(&keys).map(|key| stored(&etcd, put(key, &value, None)));
    storing.buffer_unordered(32).collect::<Vec<_>>().await;

    let listed = etcd.list(&all()).await.unwrap();
    let mut names: Vec<_> = listed.entries.iter().map(|entry| &*entry.key).collect();
    names.sort_unstable();
    assert_eq!(names, keys);
    let mut changes = etcd.follow(&all(), before).await.unwrap();
    let mut told = 0;
    while told < keys.len() {
        told += next(&mut changes).await.len();
    }
    assert_eq!(told, keys.len());
}

/// A watch over an idle connection is not cut: etcd does not take our asking whether it lives for an
/// attack.
#[tokio::test]
async fn idle_watches_last() {
    if !server::is_there() {
        return;
    }
    let server = Server::start();
    let etcd = etcd(&server);
    let mut changes = etcd.follow(&all(), 1).await.unwrap();
    let quiet = tokio::time::timeout(Duration::from_secs(9), changes.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    server.put("/micro/n/s/1", "{}");
    assert_eq!(next(&mut changes).await.len(), 1);
}
