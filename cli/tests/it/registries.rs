//! The same commands over every registry that crosses hosts.

use testbed::{Scene, etcd, eventually};

use crate::shop::{MICRO, Town};

/// Over multicast DNS.
#[tokio::test]
async fn over_multicast_dns() {
    works(Town::over(Scene::over_multicast_dns())).await;
}

/// Over etcd.
#[tokio::test]
async fn over_etcd() {
    if !etcd::is_there() {
        return;
    }
    let server = tokio::task::spawn_blocking(etcd::Server::start).await.unwrap();
    works(Town::over(Scene::over(format!("etcd://{}", server.address())))).await;
}

/// Services are listed, described, called, watched and examined.
async fn works(town: Town) {
    let watch = town.scene.run(MICRO, "watch", &["watch", "shop"]);
    let shop = town.open("a").await;
    let address = &shop.registration().node.address;
    let listed = eventually("it is listed", async || {
        let listed = town.micro(&["services", "-o", "json"]).await.ok().json();
        listed[0]["name"].is_string().then_some(listed)
    })
    .await;
    assert_eq!((&listed[0]["name"], &listed[0]["nodes"][0]["id"]), (&"shop".into(), &"a".into()));
    let described = town.micro(&["describe", "shop"]).await.ok();
    assert!(described.stdout.contains("price(thing: string, count?: uint32)"), "{described:?}");
    let price = town.micro(&["call", "shop.price", "--thing", "tea"]).await.ok();
    assert_eq!(price.json()["cents"], 300);
    let similar = town.micro(&["call", "shp.price", "--thing", "tea"]).await;
    assert_eq!(similar.code, Some(3), "{similar:?}");
    assert!(similar.stderr.contains("did you mean `shop`?"), "{similar:?}");
    let joined = format!("+ shop latest a {address}\n");
    eventually("it is told", async || watch.stdout().contains(&joined).then_some(())).await;
    town.micro(&["doctor", "shop.price"]).await.ok();
}
