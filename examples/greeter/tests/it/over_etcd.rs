//! Greeters over etcd, with real servers of it; feature `etcd`.

use std::time::Duration;

use greeter::GreeterClient;
use testbed::{PATIENCE, Scene, Signal, etcd};
use tokio::time::{sleep, timeout};

use crate::processes::{Greeters, Server};
use crate::registries::nodes_come_and_go;
use crate::{RENEWS_OFTEN, Report, assert_warned_once_of_the_loss, client_of, registered};

/// Nodes come and go, and no call fails.
#[tokio::test]
async fn nodes_of_etcd_come_and_go() {
    if etcd::is_there() {
        let server = etcd::Server::start();
        nodes_come_and_go(&over(&server)).await;
    }
}

/// Servers and clients may start before etcd does.
#[tokio::test]
async fn etcd_may_come_last() {
    if !etcd::is_there() {
        return;
    }
    let registry = etcd::Server::start();
    registry.kill();
    let scene = over(&registry);
    let servers: [Server; 2] = scene.servers(&RENEWS_OFTEN).await;
    let client = client_of(&scene).await;
    let greeter = GreeterClient::new(&client);
    let call = greeter.hello("Ann").wait_for_ready(true).timeout(PATIENCE);
    let mut asking = tokio::spawn(call.into_future());
    let early = timeout(Duration::from_secs(2), &mut asking).await;
    assert!(early.is_err(), "answered without a registry: {early:?}");
    registry.restart();
    assert_eq!(asking.await.unwrap().unwrap(), "Hello, Ann!");
    registered(&scene, &servers).await;
}

/// etcd may be halted for longer than leases live: callers notice nothing, although all leases end
/// when it goes on.
#[tokio::test]
async fn etcd_may_be_halted() {
    if !etcd::is_there() {
        return;
    }
    let registry = etcd::Server::start();
    let scene = over(&registry);
    let servers: [Server; 3] = scene.servers(&RENEWS_OFTEN).await;
    registered(&scene, &servers).await;
    let mut client = scene.load(600, &[]);
    sleep(Duration::from_secs(3)).await;
    registry.pause();
    sleep(Duration::from_secs(20)).await;
    registry.resume();
    registered(&scene, &servers).await;
    // For what may come late.
    sleep(Duration::from_secs(3)).await;
    client.signal(Signal::INT);
    let report = Report::of(&mut client).await;
    report.assert_all_answered_by(&servers);
    assert_warned_once_of_the_loss(&client);
}

fn over(server: &etcd::Server) -> Scene {
    Scene::over(format!("etcd://{}", server.address()))
}
