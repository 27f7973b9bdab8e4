//! What others write into the same etcd.

use std::time::Duration;

use micro_registry::{Registry, Update};
use micro_registry_etcd::EtcdConfig;

use crate::{next, node, service};
use testbed::etcd::{self as server, Server};

/// A record as go-micro v5 writes it is a node like any other, in its namespace, and ours are beside
/// it.
#[tokio::test]
async fn records_of_go_micro() {
    if !server::is_there() {
        return;
    }
    let server = Server::start();
    let record = r#"{"name":"shop","version":"latest","metadata":null,"endpoints":[{"name":
        "Shop.Price","request":{"name":"PriceRequest","type":"PriceRequest","values":[{"name":"item",
        "type":"string","values":null}]},"response":{"name":"PriceResponse","type":"PriceResponse",
        "values":null},"metadata":{}}],"nodes":[{"id":"shop-6f3e","address":"10.0.0.5:4321",
        "metadata":{"broker":"http","protocol":"grpc","registry":"etcd","server":"grpc"}}]}"#;
    server.put("/micro/registry/shop/shop-6f3e", record);
    let url = format!("etcd://{}/micro?namespace=registry", server.address());
    let config = EtcdConfig::from_url(url.parse().unwrap()).unwrap();
    let registry = micro_registry_etcd::open(&config).unwrap();
    let found = registry.get("shop").await.unwrap();
    assert_eq!(found[0].nodes[0].address, "10.0.0.5:4321");
    assert_eq!(found[0].nodes[0].metadata["protocol"], "grpc");
    registry.register(&node("ours", 1), Duration::from_secs(60)).await.unwrap();
    let mut watch = registry.watch(service()).await.unwrap();
    let Update::Reset { registrations: nodes, .. } = next(&mut watch).await else {
        panic!("no reset")
    };
    let ids: Vec<_> = nodes.iter().map(|registration| &*registration.node.id).collect();
    assert_eq!(ids, ["ours", "shop-6f3e"]);
}
