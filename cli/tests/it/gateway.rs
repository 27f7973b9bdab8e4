//! `micro gateway`: HTTP/JSON in front of every service, from a shell.

use serde_json::json;
use testbed::{Process, Signal, eventually};

use crate::shop::{MICRO, Town, post};

/// A gateway at a free port, once it says where that is.
async fn started(town: &Town, more: &[&str]) -> (Process, String) {
    let line = [&["gateway", "--listen", ":0"], more].concat();
    let gateway = town.scene.run(MICRO, "gateway", &line);
    let address = eventually("it says where it listens", async || {
        let said = gateway.stderr();
        let (_, rest) = said.split_once("listening on ")?;
        Some(rest.split_once(',')?.0.to_owned())
    });
    let address = address.await;
    (gateway, address)
}

/// It says where it listens and which pages there are, calls go through it, what is unknown is not
/// found, and a signal ends it well.
#[tokio::test]
async fn from_its_start_to_its_end() {
    let town = Town::new();
    let _shop = town.open("a").await;
    let (mut gateway, address) = started(&town, &[]).await;
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    for page in ["/docs", "/openapi.json", "/metrics", "/health/ready"] {
        assert!(gateway.stderr().contains(page), "{page} in {}", gateway.stderr());
    }
    let tea = post(&address, "/shop/price", "", r#"{"thing":"tea"}"#).await;
    assert_eq!(tea, (200, json!({ "cents": 300, "currency": null })));
    let (status, error) = post(&address, "/nosuch/price", "", "{}").await;
    assert_eq!((status, &error["code"]), (404, &json!("not_found")), "{error}");
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.ended().await.code(), Some(0), "{}", gateway.stderr());
    assert_eq!(gateway.stdout(), "");
}

/// A call that runs when it is told to stop, by either signal, is answered, and the process ends.
#[tokio::test]
async fn what_runs_is_answered() {
    let town = Town::new();
    let shop = town.open("a").await;
    for signal in [Signal::INT, Signal::TERM] {
        let (mut gateway, address) = started(&town, &[]).await;
        let wait =
            tokio::spawn(
                async move { post(&address, "/shop/wait", "", r#"{"millis":1000}"#).await },
            );
        eventually("the call runs", async || {
            let figures = shop.metrics();
            figures.contains("micro_server_calls_running 1\n").then_some(())
        })
        .await;
        gateway.signal(signal);
        assert_eq!(wait.await.unwrap(), (200, json!(null)));
        assert_eq!(gateway.ended().await.code(), Some(0), "{}", gateway.stderr());
    }
}

/// Flags reach it: who brings no token is told so, and services that are not on the list are not
/// there.
#[tokio::test]
async fn who_may_ask_for_what() {
    let town = Town::new();
    let _shop = town.open("a").await;
    let tokens = town.scene.directory().join("tokens");
    std::fs::write(&tokens, "sesame\n").unwrap();
    let flags = ["--token-file", tokens.to_str().unwrap(), "--service", "other"];
    let (_gateway, address) = started(&town, &flags).await;
    let (status, _) = post(&address, "/shop/price", "", r#"{"thing":"tea"}"#).await;
    assert_eq!(status, 401);
    let token = "authorization: Bearer sesame\r\n";
    let (status, _) = post(&address, "/shop/price", token, r#"{"thing":"tea"}"#).await;
    assert_eq!(status, 404);
}

/// What makes no sense, or cannot be had, is said in a sentence, with the exit code of wrong usage.
#[tokio::test]
async fn what_makes_no_sense() {
    let town = Town::new();
    let (_first, taken) = started(&town, &[]).await;
    for (flags, expected) in [
        (&["--listen", &taken][..], "cannot listen on 127.0.0.1:"),
        (&["--listen", "8080"], "expected :PORT or IP:PORT"),
        (&["--listen", "0.0.0.0:0"], "other hosts reach it with --remote"),
        (&["--listen", ":0", "--timeout", "0s"], "timeout 0ns is invalid"),
        (&["--listen", ":0", "--origin", "*"], "origins \"*\" is invalid"),
    ] {
        let ended = town.micro(&[&["gateway"], flags].concat()).await;
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains(expected), "{ended:?}");
        assert_eq!(ended.stdout, "");
    }
}
