//! Services on listeners the program made.

use super::*;
use micro::registry::Registry;
use micro::rpc::{Address, Channel, ChannelConfig, Codec, Listener, Request};

fn service(registry: &MemoryRegistry) -> Service {
    let service = Service::new().settings(Settings::none()).registry(registry.clone());
    service.serve(ShopServer::new(Corner::default()))
}

async fn price_at(address: Address) -> Vec<u8> {
    let body = br#"{"thing":"tea"}"#[..].into();
    let request = Request::new("shop", "price", Codec::Json, body);
    let channel = Channel::new(address, ChannelConfig::default());
    channel.call(&request).await.unwrap().body.to_vec()
}

/// It answers on each of its listeners, and others are told the first.
#[tokio::test]
async fn every_listener_is_served() {
    let registry = MemoryRegistry::new();
    let directory = tempfile::TempDir::new().unwrap();
    let unix = Address::Unix(directory.path().join("shop.sock"));
    let inherited = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = Address::from(inherited.local_addr().unwrap());
    let service =
        service(&registry).listener(inherited).listener(Listener::bind(&unix).await.unwrap());
    let _running = registered(service).await;
    let nodes = registry.get("shop").await.unwrap()[0].nodes.clone();
    assert_eq!(nodes[0].address, tcp.to_string());
    for address in [tcp, unix] {
        assert_eq!(price_at(address).await, b"3");
    }
}

/// A listener that cannot be served on fails the start, which says why.
#[tokio::test]
async fn a_listener_without_an_address() {
    let datagrams = std::os::unix::net::UnixDatagram::unbound().unwrap();
    let unnamed = std::os::unix::net::UnixListener::from(std::os::fd::OwnedFd::from(datagrams));
    let error = service(&MemoryRegistry::new()).listener(unnamed).start().await.unwrap_err();
    let error = error.to_string();
    assert!(error.contains("a listener from code: a Unix socket without a path"), "{error}");
}

/// A listener on all interfaces is announced by an address others can connect to, or as told.
#[tokio::test]
async fn an_unspecified_listener_is_advertised() {
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let service = service(&MemoryRegistry::new()).listener(listener).advertise("shop.example");
    let running = registered(service).await;
    assert_eq!(running.registration().node.address, format!("shop.example:{port}"));
}

/// An address beside a listener is refused, wherever it comes from; both are named.
#[tokio::test]
async fn an_address_contradicts_a_listener() {
    let settings = Settings::none().flag("address", "127.0.0.1:7000").unwrap();
    let registry = MemoryRegistry::new();
    for (service, named) in [
        (service(&registry).settings(settings), "address \"127.0.0.1:7000\" from flag --address"),
        (service(&registry).address("127.0.0.1:7"), "address \"127.0.0.1:7\" from code"),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let bound = format!("the listener on {} from code", listener.local_addr().unwrap());
        let error = service.listener(listener).start().await.unwrap_err().to_string();
        assert!(error.contains(named) && error.contains(&bound), "{error}");
    }
}
