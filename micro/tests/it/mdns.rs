//! Services of a local network.

use micro::{Client, Service, Settings};

use crate::{Corner, ShopClient, ShopServer, registered};

/// A client that knows nothing but the network finds a service and calls it.
#[tokio::test(flavor = "multi_thread")]
async fn mdns_finds_a_service() {
    let free = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    // Two tests may be given one port, which they share.
    let namespace = fastrand::u64(..);
    let url = format!("mdns:?interface=lo&port={port}&namespace=t{namespace:x}");
    let settings = Settings::none().flag("registry", url).unwrap();
    let service = Service::new().name("shop").address("127.0.0.1:0").settings(settings.clone());
    let running = registered(service.serve(ShopServer::new(Corner::default()))).await;
    let client = Client::connect().settings(settings).await.unwrap();
    assert_eq!(ShopClient::named(&client, "shop").price("tea").await.unwrap(), 3);
    running.shutdown().await;
}
