//! `micro bench`: it calls, counts and measures.

use serde_json::{Value, json};

use testbed::{Process, Signal, eventually};

use crate::shop::{MICRO, Town};

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// `bench -o json` has what was called, how often, by whom it was answered and how long that took.
#[tokio::test]
async fn a_run_is_counted_and_measured() {
    let town = Town::new();
    let (_first, _second) = (town.open("first").await, town.open("second").await);
    let line = ["bench", "shop.price", "--thing", "tea", "-c", "4", "-d", "300ms", "-o", "json"];
    let ended = town.micro(&line).await.ok();
    assert_eq!(ended.stderr, "", "there is no bar without a terminal");
    let report = ended.json();
    assert_eq!(report["method"], "shop.price");
    assert_eq!((&report["concurrency"], &report["rate"]), (&json!(4), &Value::Null));
    assert_eq!(report["failed"], json!({}));
    let calls = number(&report["calls"]);
    assert!(calls > 0.0 && report["ok"] == report["calls"], "{report:#}");
    let nodes: f64 = report["nodes"].as_object().unwrap().values().map(number).sum();
    assert_eq!(nodes, calls, "{report:#}");
    for latency in ["latency_ms", "uncorrected_ms"] {
        let of = |name: &str| number(&report[latency][name]);
        let ordered = ["p50", "p90", "p99", "p99.9", "max"].map(of);
        assert!(ordered.is_sorted() && ordered[0] > 0.0 && of("mean") > 0.0, "{report:#}");
    }
    assert!(number(&report["seconds"]) > 0.0 && number(&report["calls_per_second"]) > 0.0);
}

/// With a rate there are as many calls as it has; what nobody was free for is counted.
#[tokio::test]
async fn a_rate_is_kept() {
    let town = Town::new();
    let _shop = town.open("a").await;
    let line = ["bench", "shop.price", r#"{"thing":"tea"}"#, "--rate", "50", "-d", "500ms"];
    let report = town.micro(&[&line[..], &["-o", "json"]].concat()).await.ok().json();
    assert_eq!(report["rate"], 50);
    let calls = number(&report["calls"]);
    assert_eq!(calls + number(&report["missed"]), 25.0, "{report:#}");
    assert!(calls > 0.0, "{report:#}");
    let slow = ["bench", "shop.wait", "--millis=200", "-c1", "--rate=1000", "-d1s", "-o", "json"];
    let report = town.micro(&slow).await.ok().json();
    assert_eq!(number(&report["calls"]) + number(&report["missed"]), 1_000.0, "{report:#}");
    assert!(number(&report["calls"]) <= 5.0, "{report:#}");
    let text = town.micro(&line).await.ok().stdout;
    assert!(text.starts_with("shop.price: ") && text.contains("node       100.0% a"), "{text}");
}

/// What cannot work at all fails at once, with the exit code of a call.
#[tokio::test]
async fn what_cannot_work_fails_at_once() {
    let town = Town::new();
    let _shop = town.open("a").await;
    for (line, code) in [
        (&["bench", "shop.price", "{}", "-d", "10m"][..], 2),
        (&["bench", "shop.nosuch", "-d", "10m"], 5),
        (&["bench", "shop.price", "--thing=boat", "-d", "10m"], 1),
        (&["bench", "nosuch.price", "-d", "10m"], 3),
        (&["bench", "shop.price", "--thing=tea", "-c", "0"], 2),
    ] {
        let ended = town.micro(line).await;
        assert_eq!(ended.code, Some(code), "{line:?}: {ended:?}");
    }
}

/// Whoever interrupts it, or tells it to end, gets what was measured until then.
#[tokio::test]
async fn an_interrupted_run_is_reported() {
    let town = Town::new();
    let _shop = town.open("a").await;
    let line = ["bench", "shop.price", "--thing=tea", "--rate=5", "-d", "1h", "-o", "json"];
    for (name, signal) in [("interrupted", Signal::INT), ("told", Signal::TERM)] {
        let mut bench = town.scene.run(MICRO, name, &line);
        eventually("it hears of interruptions", async || is_caught(&bench)).await;
        bench.signal(signal);
        let status = bench.ended().await;
        assert_eq!(status.code(), Some(0), "{name}: {}", bench.stderr());
        let report: Value = serde_json::from_str(&bench.stdout()).unwrap();
        assert_eq!(report["method"], "shop.price");
    }
}

/// Whoever interrupts it again does not wait for the last answer, and keeps what was measured.
#[tokio::test]
async fn a_second_interruption_ends_it() {
    let town = Town::new();
    let _shop = town.open("a").await;
    // It hangs when it finds none.
    let stalls = town.corner.stalls.clone();
    stalls.lock().unwrap().push("before".to_owned());
    let line = ["bench", "shop.stall", "-c1", "-d1h", "--timeout=1h", "-o", "json"];
    let mut bench = town.scene.run(MICRO, "bench", &line);
    let some = || (stalls.lock().unwrap().len() > 10).then_some(());
    eventually("it calls", async || some()).await;
    eventually("it hears of interruptions", async || is_caught(&bench)).await;
    stalls.lock().unwrap().clear();
    let hangs = || (stalls.lock().unwrap().len() == 1).then_some(());
    eventually("a call hangs", async || hangs()).await;
    let ended = async {
        loop {
            bench.signal(Signal::INT);
            if let Ok(status) =
                tokio::time::timeout(std::time::Duration::from_millis(300), bench.ended()).await
            {
                break status;
            }
        }
    };
    assert_eq!(ended.await.code(), Some(0), "{}", bench.stderr());
    let report: Value = serde_json::from_str(&bench.stdout()).unwrap();
    assert!(number(&report["calls"]) >= 9.0, "{report:#}");
}

/// That a process hears of SIGINT.
fn is_caught(process: &Process) -> Option<()> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).ok()?;
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t"))?;
    // That of SIGINT is bit 1.
    (u64::from_str_radix(caught, 16).ok()? & 0b10 != 0).then_some(())
}
