//! Who may ask, from where, and by which name.

use super::*;
use micro_gateway::Access;
use std::sync::Arc;

/// Whoever has no token sees nothing but that it runs; the token goes no further.
#[tokio::test]
async fn tokens() {
    let town = Town::default();
    let _shop = town.open("a").await;
    let access = Access::Bearer(vec!["open sesame".into()]);
    let gateway = town.gateway_with(|config| config.access = access).await;
    let asked = Asked::post("/shop/seen", r#"{"keys":["authorization"]}"#);
    for (token, status) in [("", 401), ("Bearer open", 401), ("Bearer open sesame", 200)] {
        let asked = asked.clone().with("authorization", token);
        let answer = asked.of(gateway.address()).await;
        assert_eq!(answer.status, status, "{token}: {}", answer.body);
        if status == 401 {
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
            assert_eq!(answer.code(), "unauthenticated");
        } else {
            assert!(answer.body.contains(r#""entries":{}"#), "{}", answer.body);
        }
    }
    assert_eq!(get(&gateway, "/health/live").await.status, 200);
    assert_eq!(get(&gateway, "/nothing").await.status, 401);
}

/// Who lacks another header than a token is not asked for a token.
#[tokio::test]
async fn headers_of_a_proxy() {
    let access = Access::Header { name: "x-role".parse().unwrap(), values: vec!["clerk".into()] };
    let gateway = Town::default().gateway_with(|config| config.access = access).await;
    let answer = get(&gateway, "/services").await;
    assert_eq!((answer.status, answer.header("www-authenticate")), (401, None));
    let clerk = Asked::get("/services").with("x-role", "clerk").of(gateway.address()).await;
    assert_eq!(clerk.status, 200);
}

/// A rule of the program decides over the method that is meant, by whatever path, and its words go to
/// the caller; who may not call does not learn either what there is.
#[tokio::test]
async fn rules() {
    let town = Town::default();
    let _shop = town.open("a").await;
    let rule = |asked: &micro_gateway::Asked<'_>| match asked.call {
        Some(call) if (call.service, call.contract, call.method) == ("shop", "shop", "price") => {
            Ok(())
        }
        _ => Err(Status::new(Code::PermissionDenied, "prices only")),
    };
    let access = Access::Rule(Arc::new(rule));
    let gateway = town.gateway_with(|config| config.access = access).await;
    for target in ["/shop/price", "/shop/shop/price"] {
        assert_eq!(post(&gateway, target, r#"{"thing":"tea"}"#).await.status, 200, "{target}");
    }
    for target in ["/shop/wait", "/shop/shop/wait", "/shop/other/price", "/shop/none", "/none/of"] {
        let answer = post(&gateway, target, r#"{"millis":1}"#).await;
        assert_eq!((answer.status, &answer.json()["message"]), (403, &"prices only".into()));
        assert_eq!(answer.header("www-authenticate"), None);
    }
    for target in ["/services", "/events", "/metrics", "/describe?service=shop", "/openapi.json"] {
        assert_eq!(get(&gateway, target).await.status, 403, "{target}");
    }
}

/// Pages of an origin that was let in may call and read the answer; a browser is told so before.
#[tokio::test]
async fn origins() {
    let town = Town::default();
    let _shop = town.open("a").await;
    let own = "https://shop.example";
    let gateway = town.gateway_with(|config| config.origins = vec![own.into()]).await;
    let tea = Asked::post("/shop/price", r#"{"thing":"tea"}"#);
    let answer = tea.clone().with("origin", own).of(gateway.address()).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, Some(own)));
    assert_eq!(answer.header("vary"), Some("origin"));
    let got = Asked::get("/shop/price?thing=tea").with("origin", own);
    let got = got.with("sec-fetch-site", "cross-site").of(gateway.address()).await;
    assert_eq!((got.status, got.header("access-control-allow-origin")), (200, Some(own)));

    let question = Asked { verb: "OPTIONS", ..Asked::get("/shop/price") }
        .with("access-control-request-method", "POST")
        .with("access-control-request-headers", "content-type, micro-timeout, x-evil");
    let answer = question.clone().with("origin", own).of(gateway.address()).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (204, Some(own)));
    let allowed = answer.header("access-control-allow-headers");
    assert_eq!(allowed, Some("content-type, micro-timeout"));

    for asked in [tea, question] {
        let answer = asked.with("origin", "https://evil.example").of(gateway.address()).await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (403, None));
    }
}

/// A name with a dot is one of the gateway's only when that is said.
#[tokio::test]
async fn names() {
    let town = Town::default();
    let _shop = town.open("a").await;
    let gateway = town.gateway_with(|config| config.hosts = vec!["api.example".into()]).await;
    for (host, status) in [("api.example", 200), ("api.example:80", 200), ("evil.example", 403)] {
        let asked = Asked::post("/shop/price", r#"{"thing":"tea"}"#).with("host", host);
        assert_eq!(asked.of(gateway.address()).await.status, status, "{host}");
    }
}
