//! What is left behind: nothing.

use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use micro_registry::Registry;

use crate::{node, open};
use testbed::etcd::{self as server, Server};

const ROUNDS: u16 = 10_000;
const AT_ONCE: usize = 64;
const ENOUGH: Duration = Duration::from_secs(15);

/// However often nodes come and go, no lease, no key and no watch is left.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left() {
    if !server::is_there() {
        return;
    }
    let server = Server::start();
    let registry = open(&[server.address()]);
    let start = Instant::now();
    let round = async |round: u16| {
        if start.elapsed() > ENOUGH {
            return 0;
        }
        let node = node(&format!("n{round}"), 1);
        registry.register(&node, Duration::from_secs(3_600)).await.unwrap();
        registry.deregister(&node).await.unwrap();
        1
    };
    let rounds = stream::iter(0..ROUNDS).map(round).buffer_unordered(AT_ONCE);
    let done: usize = rounds.fold(0, async |done, round| done + round).await;
    println!("{done} rounds in {:?}", start.elapsed());
    assert!(done > 0);
    assert_eq!(server.leases(), Vec::<String>::new());
    assert!(registry.list().await.unwrap().is_empty());
    assert_eq!(server.watches(), 0);
}
