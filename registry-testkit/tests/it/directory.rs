//! What a registry over an engine of leased keys does when something comes in between.

use std::time::Duration;

use futures::{FutureExt, StreamExt};
use micro_registry::directory::DirectoryRegistry;
use micro_registry::{
    EmptyReason, ErrorKind, Node, Registration, Registry, RemoveReason, Scope, Update, Watch,
    encoding,
};

use crate::engine::{Engine, NextPut};

const TTL: Duration = Duration::from_secs(30);
const KEY: &str = "default/shop/a";

fn open(engine: &Engine) -> DirectoryRegistry<Engine> {
    DirectoryRegistry::new(engine.clone(), "default").unwrap()
}

fn node(epoch: u64, weight: u16) -> Registration {
    let mut node = Node::new("a", "127.0.0.1:1");
    node.epoch = epoch;
    node.weight = weight;
    Registration::new("shop", "1.0.0", node)
}

async fn stored(registry: &DirectoryRegistry<Engine>) -> Option<Node> {
    match registry.get("shop").await {
        Ok(mut services) => Some(services.remove(0).nodes.remove(0)),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NotFound);
            None
        }
    }
}

async fn watch(registry: &DirectoryRegistry<Engine>) -> Watch {
    registry.watch(Scope::Service("shop".into())).await.unwrap()
}

async fn next(watch: &mut Watch) -> Update {
    let patience = Duration::from_secs(60);
    tokio::time::timeout(patience, watch.next()).await.expect("news").expect("the watch goes on")
}

fn is_stale(update: &Update) -> bool {
    matches!(update, Update::Stale { .. })
}

fn empty(why: EmptyReason) -> Update {
    Update::reset(vec![], why)
}

fn reset(registration: Registration) -> Update {
    Update::reset(vec![registration.into()], EmptyReason::Unknown)
}

/// A node that leaves says goodbye before it is removed, under its own lease, which ends with it.
#[tokio::test(start_paused = true)]
async fn a_goodbye_comes_first() {
    let engine = Engine::default();
    let (owner, other) = (open(&engine), open(&engine));
    owner.register(&node(1, 1), TTL).await.unwrap();
    let mut watch = watch(&other).await;
    assert_eq!(next(&mut watch).await, reset(node(1, 1)));
    owner.deregister(&node(1, 1)).await.unwrap();
    let left = Update::remove(&node(1, 1), RemoveReason::Deregistered);
    assert_eq!(next(&mut watch).await, left);
    let writes = engine.writes(KEY);
    assert!(writes.len() == 2 && writes[1].contains(r#""left":true"#), "{writes:?}");
    assert_eq!((stored(&other).await, engine.leases()), (None, 0));
    assert!(watch.next().now_or_never().is_none(), "once");
}

/// The goodbye of a process that died over it counts as absent, fences nobody, and is removed by who
/// says goodbye again.
#[tokio::test(start_paused = true)]
async fn a_goodbye_alone_is_no_node() {
    let engine = Engine::default();
    let registry = open(&engine);
    engine.write(KEY, &encoding::encode_goodbye(&node(9, 1)));
    assert_eq!(stored(&registry).await, None);
    assert!(registry.list().await.unwrap().is_empty());
    assert_eq!(next(&mut watch(&registry).await).await, empty(EmptyReason::Unknown));
    registry.register(&node(3, 1), TTL).await.unwrap();
    assert_eq!(stored(&registry).await, Some(node(3, 1).node));

    engine.write(KEY, &encoding::encode_goodbye(&node(9, 1)));
    registry.deregister(&node(3, 1)).await.unwrap();
    assert!(!engine.is_empty(), "the goodbye of another epoch is not ours to remove");
    registry.deregister(&node(9, 1)).await.unwrap();
    assert!(engine.is_empty());
}

/// Who writes in between is not overwritten unseen: a newer epoch fences, an older one is replaced.
#[tokio::test(start_paused = true)]
async fn a_conflict_is_read_again() {
    for (epoch, outcome) in [(9, Err(ErrorKind::Fenced)), (1, Ok(()))] {
        let engine = Engine::default();
        let registry = open(&engine);
        engine.hurt_next_put(NextPut::TooLate(encoding::encode(&node(epoch, 7))));
        let registered = registry.register(&node(5, 1), TTL).await;
        assert_eq!(registered.map_err(|error| error.kind()), outcome);
        let expected = if epoch > 5 { node(epoch, 7) } else { node(5, 1) };
        assert_eq!(stored(&registry).await, Some(expected.node));
    }
}

/// Of nodes that are given up without a goodbye nothing is remembered, of those that are renewed all.
#[tokio::test(start_paused = true)]
async fn who_is_given_up_is_forgotten() {
    let registry = open(&Engine::default());
    let named = |id: &str| {
        let mut registration = node(1, 1);
        registration.node.id = id.into();
        registration
    };
    for round in 0..50 {
        registry.register(&named("renewed"), TTL).await.unwrap();
        registry.register(&named(&format!("given-up-{round}")), TTL).await.unwrap();
        tokio::time::advance(TTL * 2 / 3).await;
    }
    let shown = format!("{registry:?}");
    let (_, shown) = shown.rsplit_once("namespace").unwrap();
    assert!(shown.contains("registered: 3,"), "{shown}");
}

/// Calls that register the same at the same time write it once, instead of getting in each other's
/// way until their time is up.
#[tokio::test(start_paused = true)]
async fn the_same_at_the_same_time_is_written_once() {
    let engine = Engine::default();
    engine.let_others_in();
    let registry = open(&engine);
    let together = (0..64).map(|_| async { registry.register(&node(1, 1), TTL).await });
    futures::future::try_join_all(together).await.unwrap();
    assert_eq!((engine.writes(KEY).len(), engine.leases()), (1, 1));
}

/// A successor that comes while its predecessor says goodbye stays.
#[tokio::test(start_paused = true)]
async fn a_goodbye_never_removes_a_successor() {
    let engine = Engine::default();
    let registry = open(&engine);
    registry.register(&node(1, 1), TTL).await.unwrap();
    engine.hurt_next_put(NextPut::TooLate(encoding::encode(&node(2, 1))));
    registry.deregister(&node(1, 1)).await.unwrap();
    assert_eq!(stored(&registry).await, Some(node(2, 1).node));
}

/// A write that happened although it seemed to fail is neither trusted nor repeated blindly: what is
/// registered next is what is stored.
#[tokio::test(start_paused = true)]
async fn a_write_without_answer_is_read_again() {
    let engine = Engine::default();
    let registry = open(&engine);
    engine.hurt_next_put(NextPut::LosesItsAnswer);
    let error = registry.register(&node(1, 1), TTL).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    registry.register(&node(1, 1), TTL).await.unwrap();
    engine.hurt_next_put(NextPut::LosesItsAnswer);
    registry.register(&node(1, 2), TTL).await.unwrap_err();
    assert_eq!(stored(&registry).await, Some(node(1, 2).node), "it happened");
    registry.register(&node(1, 1), TTL).await.unwrap();
    assert_eq!(stored(&registry).await, Some(node(1, 1).node));
}

/// A register that was dropped half-way, its write done, is made up for by the next.
#[tokio::test(start_paused = true)]
async fn a_dropped_register_is_read_again() {
    let engine = Engine::default();
    let registry = open(&engine);
    registry.register(&node(1, 1), TTL).await.unwrap();
    engine.hurt_next_put(NextPut::IsNeverAnswered);
    assert!(registry.register(&node(1, 2), TTL).now_or_never().is_none());
    assert_eq!(stored(&registry).await, Some(node(1, 2).node), "it happened");
    registry.register(&node(1, 1), TTL).await.unwrap();
    assert_eq!(stored(&registry).await, Some(node(1, 1).node));
}

/// What does not answer is given up at the deadline, which may be set.
#[tokio::test(start_paused = true)]
async fn a_deadline_may_be_set() {
    let engine = Engine::default();
    let registry = open(&engine).with_deadline(Duration::from_secs(1));
    engine.hang();
    let start = tokio::time::Instant::now();
    let error = registry.register(&node(1, 1), TTL).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(start.elapsed(), Duration::from_secs(1));
}

/// A lease that is gone is made anew by the same call that finds out, whether the content changed or
/// not, also when the key was removed by hand and the lease was not.
#[tokio::test(start_paused = true)]
async fn a_lost_lease_is_made_anew() {
    let engine = Engine::default();
    let registry = open(&engine);
    registry.register(&node(1, 1), TTL).await.unwrap();
    for weight in [1, 2] {
        engine.lose_leases();
        assert_eq!(stored(&registry).await, None);
        registry.register(&node(1, weight), TTL).await.unwrap();
        assert_eq!(stored(&registry).await, Some(node(1, weight).node));
    }
    engine.delete(KEY);
    registry.register(&node(1, 2), TTL).await.unwrap();
    assert_eq!((stored(&registry).await, engine.leases()), (Some(node(1, 2).node), 1));
}

/// Changed content goes under the lease that is there, which it renews; unchanged content is not
/// written; another TTL is another lease.
#[tokio::test(start_paused = true)]
async fn leases_are_kept_and_renewed() {
    let engine = Engine::default();
    let registry = open(&engine);
    for weight in [1, 2, 2, 3] {
        registry.register(&node(1, weight), TTL).await.unwrap();
        tokio::time::sleep(TTL * 2 / 3).await;
    }
    assert_eq!((engine.leases(), engine.writes(KEY).len()), (1, 3));
    assert_eq!(stored(&registry).await, Some(node(1, 3).node));
    registry.register(&node(1, 3), TTL / 3).await.unwrap();
    tokio::time::sleep(TTL / 2).await;
    assert_eq!(stored(&registry).await, None);
}

/// A removal without a goodbye is an expiry.
#[tokio::test(start_paused = true)]
async fn without_a_goodbye_it_expired() {
    let engine = Engine::default();
    let registry = open(&engine);
    let mut watch = watch(&registry).await;
    assert_eq!(next(&mut watch).await, empty(EmptyReason::Unknown));
    registry.register(&node(1, 1), TTL).await.unwrap();
    assert_eq!(next(&mut watch).await, Update::Put(node(1, 1).into()));
    assert_eq!(next(&mut watch).await, Update::remove(&node(1, 1), RemoveReason::Expired));
}

/// What is written by hand is told as it is: an older epoch takes the place of a newer one, what
/// cannot be read is gone.
#[tokio::test(start_paused = true)]
async fn what_is_written_by_hand_is_told() {
    let engine = Engine::default();
    let registry = open(&engine);
    registry.register(&node(5, 1), TTL).await.unwrap();
    let mut watch = watch(&registry).await;
    assert_eq!(next(&mut watch).await, reset(node(5, 1)));
    engine.write(KEY, &encoding::encode(&node(4, 1)));
    assert_eq!(next(&mut watch).await, Update::remove(&node(5, 1), RemoveReason::Unknown));
    assert_eq!(next(&mut watch).await, Update::Put(node(4, 1).into()));
    engine.write(KEY, b"{");
    assert_eq!(next(&mut watch).await, Update::remove(&node(4, 1), RemoveReason::Unknown));
}

/// A watch that sees the last node leave tells those who come later why there is none; one that begins
/// afterwards cannot.
#[tokio::test(start_paused = true)]
async fn a_running_watch_knows_why_there_is_none() {
    let engine = Engine::default();
    let registry = open(&engine);
    let mut early = watch(&registry).await;
    next(&mut early).await;
    registry.register(&node(1, 1), TTL).await.unwrap();
    next(&mut early).await;
    registry.deregister(&node(1, 1)).await.unwrap();
    next(&mut early).await;
    assert_eq!(next(&mut watch(&registry).await).await, empty(EmptyReason::AllDeregistered));
    assert_eq!(next(&mut watch(&open(&engine)).await).await, empty(EmptyReason::Unknown));
}

/// A watch that opens beside one which lags behind the engine begins with what a call answered. Whoever
/// watched is told at once who came, and who left when the engine says why; nobody is told twice.
#[tokio::test(start_paused = true)]
async fn who_comes_later_knows_what_was_read() {
    let engine = Engine::default();
    let (owner, reader) = (open(&engine), open(&engine));
    let mut early = watch(&reader).await;
    assert_eq!(next(&mut early).await, empty(EmptyReason::Unknown));
    engine.lag(true);
    owner.register(&node(1, 1), TTL).await.unwrap();
    assert_eq!(stored(&reader).await, Some(node(1, 1).node));
    let mut second = watch(&reader).await;
    assert_eq!(next(&mut second).await, reset(node(1, 1)));
    assert_eq!(next(&mut early).await, Update::Put(node(1, 1).into()));
    owner.deregister(&node(1, 1)).await.unwrap();
    assert_eq!(stored(&reader).await, None);
    let mut third = watch(&reader).await;
    assert_eq!(next(&mut third).await, empty(EmptyReason::Unknown));
    assert!(early.next().now_or_never().is_none());
    engine.lag(false);
    for watch in [&mut early, &mut second] {
        assert_eq!(next(watch).await, Update::remove(&node(1, 1), RemoveReason::Deregistered));
    }
    owner.register(&node(1, 2), TTL).await.unwrap();
    for watch in [&mut early, &mut second, &mut third] {
        assert_eq!(next(watch).await, Update::Put(node(1, 2).into()));
    }
}

/// A watch that opens while the engine is listed for another, as of before, waits for a listing of its
/// own.
#[tokio::test(start_paused = true)]
async fn a_listing_is_for_those_who_came_before_it() {
    let engine = Engine::default();
    let (owner, reader) = (open(&engine), open(&engine));
    engine.hold_next_list();
    engine.lag(true);
    let mut early = watch(&reader).await;
    while !engine.has_held_a_list() {
        tokio::task::yield_now().await;
    }
    owner.register(&node(1, 1), TTL).await.unwrap();
    let mut late = watch(&reader).await;
    engine.restore();
    assert_eq!(next(&mut late).await, reset(node(1, 1)));
    assert!(matches!(next(&mut early).await, Update::Reset { .. }));
}

/// Where the engine cannot be listed for who comes, that is an outage for them, until it can be; those
/// who watch already go on being told, and of no outage.
#[tokio::test(start_paused = true)]
async fn who_comes_later_finds_an_outage() {
    let engine = Engine::default();
    let registry = open(&engine);
    let mut early = watch(&registry).await;
    next(&mut early).await;
    engine.hang();
    let mut late = watch(&registry).await;
    assert!(is_stale(&next(&mut late).await));
    tokio::time::sleep(Duration::from_secs(60)).await;
    engine.write(KEY, &encoding::encode(&node(1, 1)));
    assert_eq!(next(&mut early).await, Update::Put(node(1, 1).into()));
    let mut last = watch(&registry).await;
    engine.restore();
    assert_eq!(next(&mut late).await, reset(node(1, 1)));
    while is_stale(&next(&mut last).await) {}
    engine.delete(KEY);
    for watch in [&mut early, &mut late, &mut last] {
        assert_eq!(next(watch).await, Update::remove(&node(1, 1), RemoveReason::Expired));
    }
}

/// An engine that forgot what changed, or everything, is listed again, and what was registered is
/// registered again by the next renewal.
#[tokio::test(start_paused = true)]
async fn a_forgetful_engine_is_listed_again() {
    let engine = Engine::default();
    let registry = open(&engine);
    registry.register(&node(1, 1), TTL).await.unwrap();
    let mut watch = watch(&registry).await;
    assert_eq!(next(&mut watch).await, reset(node(1, 1)));
    engine.compact();
    assert!(is_stale(&next(&mut watch).await));
    assert_eq!(next(&mut watch).await, reset(node(1, 1)));
    engine.empty();
    assert!(is_stale(&next(&mut watch).await));
    assert_eq!(next(&mut watch).await, empty(EmptyReason::Unknown));
    registry.register(&node(1, 1), TTL).await.unwrap();
    assert_eq!(next(&mut watch).await, Update::Put(node(1, 1).into()));
}

/// An outage is told once, at once to who comes during it, and tried for as long as it lasts.
#[tokio::test(start_paused = true)]
async fn an_outage_is_told_once() {
    let engine = Engine::default();
    let registry = open(&engine);
    let mut early = watch(&registry).await;
    next(&mut early).await;
    engine.interrupt();
    assert!(is_stale(&next(&mut early).await));
    tokio::time::sleep(Duration::from_secs(600)).await;
    let mut late = watch(&registry).await;
    let mut all = registry.watch(Scope::All).await.unwrap();
    for watch in [&mut late, &mut all] {
        assert!(is_stale(&next(watch).await));
        assert!(watch.next().now_or_never().is_none());
    }
    assert!(early.next().now_or_never().is_none());
    engine.restore();
    for watch in [&mut early, &mut late, &mut all] {
        assert_eq!(next(watch).await, empty(EmptyReason::Unknown));
    }
}

/// Watches of one scope share one follow of the engine, which ends with the last of them.
#[tokio::test(start_paused = true)]
async fn watches_of_a_scope_share_a_follow() {
    let engine = Engine::default();
    let registry = open(&engine);
    let mut watches = vec![watch(&registry).await, watch(&registry).await];
    watches.push(registry.watch(Scope::All).await.unwrap());
    for watch in &mut watches {
        next(watch).await;
    }
    assert_eq!(engine.follows(), 2);
    drop(watches);
    while engine.follows() > 0 {
        tokio::task::yield_now().await;
    }
    let mut last = watch(&registry).await;
    next(&mut last).await;
    drop(registry);
    assert_eq!(last.next().await, None, "the registry's end is that of its watches");
    assert_eq!(engine.follows(), 0);
}

/// A namespace that would break the keys is refused.
#[test]
fn a_namespace_is_a_name() {
    let error = DirectoryRegistry::new(Engine::default(), "a/b").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}
