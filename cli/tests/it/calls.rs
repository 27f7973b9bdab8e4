//! `micro call`: where arguments come from, who is called, and what is known of it. What it answers
//! is in `cases`.

use serde_json::{Value, json};
use testbed::eventually;

use crate::shop::Town;

/// Arguments come from the command line, a file, standard input or flags; those of flags are typed
/// by the method's schema, of which no `echo` is confused.
#[tokio::test]
async fn where_arguments_come_from() {
    let town = Town::new();
    let _shop = town.open("a").await;
    let arguments = r#"{"text":"5","tags":["1","b"],"at":"here"}"#;
    std::fs::write(town.scene.directory().join("a.json"), arguments).unwrap();
    let mut answers = Vec::new();
    for line in [
        &["call", "shop.echo", arguments][..],
        &["call", "shop.echo", "@a.json"],
        &["call", "shop.echo", "-"],
        &["call", "shop.echo", "--text", "5", "--tags", "1", "--tags=b", "--at", "here"],
        &["call", "shop/shop.echo", "--text=5", "--tags", r#"["1","b"]"#, "--at=here"],
        &["call", "shop/shop/echo", "--field", "text=5", "--tags=1", "--tags=b", "--at=here"],
    ] {
        answers.push(town.micro_with(line, arguments).await.ok().json());
    }
    let expected = json!({ "text": "5", "tags": ["1", "b"], "at": "here", "metadata": {} });
    for answer in answers {
        assert_eq!(answer, expected);
    }
    let count = town.micro(&["call", "shop.price", "--thing", "tea", "--count", "2"]).await.ok();
    assert_eq!(count.json(), json!({ "cents": 600, "currency": null }));
}

/// What makes no sense is said before anything is called, with what would.
#[tokio::test]
async fn what_makes_no_sense() {
    let town = Town::new();
    let _shop = town.open("a").await;
    for (line, code, expected) in [
        (&["call", "shop.price", "{"][..], 2, "the arguments from the command line are not JSON"),
        (&["call", "shop.price", "@nosuch"], 2, "file \"nosuch\" cannot be read"),
        (&["call", "shop.price", "-"], 2, "the arguments from standard input are not JSON"),
        (&["call", "shop.price", "{}", "--thing", "tea"], 2, "cannot be used with"),
        (&["call", "shop.price", "--thng", "tea"], 2, "did you mean `thing`?"),
        (&["call", "shop.price", "--thing", "tea", "--count", "x"], 2, "expected null or a whole"),
        (&["call", "shop"], 2, "expected SERVICE.METHOD"),
        (&["call", "shop.price", "{}", "--timeout", "5"], 2, "a number and a unit"),
        (&["call", "shop.price", "{}", "--metadata", "A=b"], 2, "metadata key `A`"),
        (&["call", "shop.prise", "{}"], 5, "has no method `prise`\ndid you mean `shop.price`?"),
        (
            &["call", "shop.zzzzzzzzz", "{}"],
            5,
            "it has break_down, echo, letters, panic, price, stall",
        ),
        (&["call", "shop/shop.prise", "{}"], 5, "`micro describe shop` has what there is"),
        (&["call", "shp.price", "{}"], 3, "in the local registry\ndid you mean `shop`?"),
        (&["call", "zzzzzzzz.price", "{}"], 3, "registered are shop"),
        (&["describe", "shp"], 3, "did you mean `shop`?"),
        (&["services", "shp"], 3, "did you mean `shop`?"),
        (&["call", "shop.price", "{}", "--node", "zz"], 3, "no node `zz`\nthere are a at 127."),
        (&["call", "shop.price", "{}", "--registry", "nosuch:"], 2, "scheme `nosuch:`"),
        (&["call", "shop.price", "{}", "--address", "127.0.0.1:1"], 6, "Connection refused"),
    ] {
        let ended = town.micro(line).await;
        assert_eq!(ended.code, Some(code), "{line:?}: {ended:?}");
        assert!(ended.stderr.contains(expected), "{line:?}: {expected:?} is not in {ended:?}");
        assert_eq!(ended.stdout, "", "{line:?}");
    }
}

/// `-v` says on standard error who answered and where the time went, whatever came of it; the answer
/// stays alone on standard output.
#[tokio::test]
async fn what_is_known_of_a_call() {
    let town = Town::new();
    let shop = town.open("a").await;
    let address = &shop.registration().node.address;
    for (line, code) in [
        (&["call", "shop.echo", "-v", "--text=", "--tags=[]", "--at=here"][..], 0),
        (&["call", "shop.price", "-v", "--thing=boat"], 1),
    ] {
        let ended = town.micro(line).await;
        assert_eq!(ended.code, Some(code), "{ended:?}");
        let told: Vec<_> =
            ended.stderr.lines().map(|line| line.split_whitespace().collect()).collect();
        let value = |name: &str| {
            let line = told.iter().find(|words: &&Vec<_>| words[0] == name);
            line.unwrap_or_else(|| panic!("{name} is not in {ended:?}"))[1..].join(" ")
        };
        assert_eq!(value("node"), format!("a at {address}"));
        assert_eq!((value("attempts"), value("trace").len()), ("1".to_owned(), 32));
        for phase in ["resolve", "connect", "wait", "total"] {
            assert!(value(phase).ends_with('s'), "{phase}: {ended:?}");
        }
        assert_eq!(ended.stderr.contains("by=corner"), code == 0, "{ended:?}");
    }
}

/// One node is called by the beginning of its id, or by its address, with or without a registry, also
/// when it wants no calls.
#[tokio::test]
async fn one_node_is_picked() {
    let town = Town::new();
    let (first, second) = (town.open("first").await, town.open("second").await);
    for (id, service) in [("first", &first), ("second", &second)] {
        let address = &*service.registration().node.address;
        for flags in [&["--node", id][..], &["--node", &id[..3]], &["--node", address]] {
            let line = [&["call", "shop.wait", "--millis=1", "-o", "json"], flags].concat();
            let printed = town.micro(&line).await.ok().json();
            assert_eq!(printed["node"], json!({ "id": id, "address": address }), "{flags:?}");
        }
        let line = ["call", "shop.price", "--thing=tea", "--address", address, "-o", "json"];
        let alone = [&line[..], &["--registry", "local:/nosuch/at/all"]].concat();
        let printed = town.micro(&alone).await.ok().json();
        assert_eq!(printed["node"]["address"], *address);
        assert_eq!(printed["answer"]["cents"], 300);
    }
    let ended = town.micro(&["call", "shop.price", "{}", "--node", ""]).await;
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.stderr.contains("2 nodes begin with"), "{ended:?}");
}

/// Metadata travels along.
#[tokio::test]
async fn metadata_travels() {
    let town = Town::new();
    let _shop = town.open("a").await;
    let line = ["call", "shop.echo", "--text=", "--tags=[]", "--at=here"];
    let line = [&line[..], &["--metadata", "tenant=acme", "--metadata", "k=a=b"]].concat();
    let answer: Value = town.micro(&line).await.ok().json();
    assert_eq!(answer["metadata"], json!({ "tenant": "acme", "k": "a=b" }));
}

/// A node that dies during a call costs it nothing if its method is idempotent, as it says; else the
/// call fails, since it may have been executed.
#[tokio::test]
async fn idempotent_methods_are_called_again() {
    for (method, code) in [("shop.stall", 0), ("shop.stall_once", 6)] {
        let town = Town::new();
        let mut shops = vec![town.open("a").await, town.open("b").await];
        let line = ["call", method, "-o", "json"];
        let dies = async {
            let stalls = || town.corner.stalls.lock().unwrap().first().cloned();
            let id = eventually("it runs", async || stalls()).await;
            shops.retain(|shop| shop.registration().node.id != id);
        };
        let (ended, ()) = tokio::join!(town.micro(&line), dies);
        assert_eq!(ended.code, Some(code), "{method}: {ended:?}");
        let printed = ended.json();
        match code {
            0 => assert_eq!((&printed["answer"], &printed["attempts"]), (&json!(2), &json!(2))),
            _ => assert_eq!(printed["error"]["code"], "unavailable", "{printed:#}"),
        }
    }
}

/// Whoever waits calls as soon as somebody is there.
#[tokio::test]
async fn a_call_may_wait_for_its_service() {
    let town = Town::new();
    let line = ["call", "shop.price", "--thing=tea", "--wait", "--timeout", "60s"];
    let (ended, _shop) = tokio::join!(town.micro(&line), town.open("a"));
    assert_eq!(ended.ok().json()["cents"], 300);
    let line = ["call", "nobody.price", "--thing=tea", "--wait", "--timeout", "100ms"];
    assert_eq!(town.micro(&line).await.code, Some(4));
}
