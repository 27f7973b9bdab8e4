//! Three servers, of which one or two fail.

use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use micro_registry::{ErrorKind, Registration, Registry, Scope, Update, View, Watch};
use micro_registry_etcd::EtcdRegistry;
use tokio::task::JoinSet;

use crate::{eventually, next, node, open, service, soon, until};
use testbed::etcd::{self as server, Server};

const SERVICES: usize = 200;
const RETRY: Duration = Duration::from_millis(100);

fn addresses(servers: &[Server]) -> Vec<String> {
    servers.iter().map(Server::address).collect()
}

/// Leader and follower, killed and stopped, one after the other: no renewed node is ever missing, and
/// no change of one is lost.
///
/// A leader that goes on after it was stopped may, seconds later, end leases that it takes for expired
/// (etcd issue 15247): such nodes are back with their next renewal. It comes last, for that.
async fn any_one_fails(ttl: Duration) {
    if !server::is_there() {
        return;
    }
    // Longer than a lease lives without renewals.
    let (renewal, away) = (ttl / 3, ttl + Duration::from_secs(1));
    let servers = Server::cluster(3);
    let watching = open(&addresses(&servers));
    let mut watch = watching.watch(Scope::All).await.unwrap();
    let mut view = View::new();
    let fleet = Fleet::start(&addresses(&servers), ttl);
    until(&mut watch, &mut view, |view| view.len() == SERVICES).await;
    for (weight, (leads, fault)) in (2..).zip(ROUNDS) {
        let victim = member(&servers, leads).await;
        match fault {
            Fault::Kill => victim.kill(),
            Fault::Stop => victim.pause(),
        }
        fleet.announce(weight);
        let missing = missing_within(away, &mut watch, &mut view).await;
        assert_eq!(missing, Vec::<Update>::new(), "{fault:?}, leads: {leads}");
        let stall = fleet.worst_stall();
        victim.restore();
        let ended = missing_within(renewal, &mut watch, &mut view).await.len();
        assert!(ended == 0 || leads && fault == Fault::Stop, "{ended} ended after {fault:?}");
        let is_told = |view: &View| {
            view.len() == SERVICES && view.iter().all(|node| node.node.weight == weight)
        };
        until(&mut watch, &mut view, is_told).await;
        println!(
            "{fault:?}, leads: {leads}, worst stall of a renewal {stall:?}, {ended} ended after"
        );
    }
}

/// Any one member may fail while services renew, and no node of theirs is ever missing.
#[tokio::test(flavor = "multi_thread")]
async fn any_one_member_may_fail() {
    any_one_fails(Duration::from_secs(6)).await;
}

/// The same with leases so short that a slow machine alone may end one.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: see BENCHMARKS.md"]
async fn any_one_member_may_fail_with_short_leases() {
    any_one_fails(Duration::from_secs(3)).await;
}

/// Without a quorum calls fail in time and watches are stale; with it again all goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_lost_and_regained() {
    if !server::is_there() {
        return;
    }
    let servers = Server::cluster(3);
    let registry = open(&addresses(&servers));
    let ttl = Duration::from_secs(60);
    registry.register(&node("a", 1), ttl).await.unwrap();
    let mut watch = registry.watch(service()).await.unwrap();
    assert!(matches!(next(&mut watch).await, Update::Reset { .. }));
    servers[..2].iter().for_each(Server::kill);
    assert!(matches!(next(&mut watch).await, Update::Stale { .. }));
    let error = soon("an error", registry.register(&node("a", 1), ttl)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    servers[..2].iter().for_each(Server::run);
    servers.iter().for_each(Server::wait_until_healthy);
    assert!(matches!(next(&mut watch).await, Update::Reset { .. }));
    let renewed = async || registry.register(&node("a", 2), ttl).await.is_ok();
    eventually("a renewal", renewed).await;
    let mut view = View::new();
    let is_told = |view: &View| view.node("shop", "a").is_some_and(|node| node.node.weight == 2);
    until(&mut watch, &mut view, is_told).await;
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Kill,
    Stop,
}

/// Whether it is done to the leader, and what.
const ROUNDS: [(bool, Fault); 4] =
    [(true, Fault::Kill), (false, Fault::Kill), (false, Fault::Stop), (true, Fault::Stop)];

/// Updates by which nodes were lost, within this time.
async fn missing_within(time: Duration, watch: &mut Watch, view: &mut View) -> Vec<Update> {
    let mut missing = vec![];
    let end = tokio::time::sleep(time);
    tokio::pin!(end);
    loop {
        let update = tokio::select! {
            () = &mut end => return missing,
            update = next(watch) => update,
        };
        view.apply(&update);
        if loses_a_node(&update) {
            missing.push(update);
        }
    }
}

fn loses_a_node(update: &Update) -> bool {
    match update {
        Update::Remove { .. } => true,
        Update::Reset { registrations, .. } => registrations.len() < SERVICES,
        _ => false,
    }
}

/// The leader, or one that is not.
async fn member(servers: &[Server], leads: bool) -> &Server {
    let found = Mutex::new(None);
    eventually("there is a leader", async || {
        let leader = servers.iter().position(Server::is_leader);
        let other = leader.map(|leader| (leader + 1) % servers.len());
        *found.lock().unwrap() = if leads { leader } else { other };
        leader.is_some()
    })
    .await;
    &servers[found.into_inner().unwrap().unwrap()]
}

/// Services that renew as those of `micro` do, each by a task of its own.
struct Fleet {
    /// What they announce.
    weight: Arc<AtomicU16>,
    /// The longest that a renewal took, with its repetitions.
    stall: Arc<Mutex<Duration>>,
    _tasks: JoinSet<()>,
}

impl Fleet {
    fn start(endpoints: &[String], ttl: Duration) -> Self {
        let registries: Vec<_> = (0..4).map(|_| Arc::new(open(endpoints))).collect();
        let (weight, stall) = (Arc::new(AtomicU16::new(1)), Arc::default());
        let mut tasks = JoinSet::new();
        for (index, registry) in registries.iter().cycle().take(SERVICES).enumerate() {
            let mut node = node("a", 1);
            node.service = format!("s{index}");
            tasks.spawn(renew(
                registry.clone(),
                node,
                ttl,
                Arc::clone(&weight),
                Arc::clone(&stall),
            ));
        }
        Self { weight, stall, _tasks: tasks }
    }

    fn announce(&self, weight: u16) {
        self.weight.store(weight, Ordering::Relaxed);
    }

    /// The longest since this was last asked.
    fn worst_stall(&self) -> Duration {
        std::mem::take(&mut *self.stall.lock().unwrap())
    }
}

async fn renew(
    registry: Arc<EtcdRegistry>,
    mut node: Registration,
    ttl: Duration,
    weight: Arc<AtomicU16>,
    stall: Arc<Mutex<Duration>>,
) {
    loop {
        let start = Instant::now();
        node.node.weight = weight.load(Ordering::Relaxed);
        while let Err(error) = registry.register(&node, ttl).await {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
            tokio::time::sleep(RETRY).await;
        }
        note(&stall, start.elapsed());
        tokio::time::sleep(ttl / 3).await;
    }
}

fn note(stall: &Mutex<Duration>, took: Duration) {
    let mut stall = stall.lock().unwrap();
    *stall = took.max(*stall);
}
