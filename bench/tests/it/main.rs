//! The programs, run as people run them, but small.

use std::process::Command;

/// `scenarios` kills and halts a server among real processes, loses no call, and writes a row for
/// each figure.
#[test]
fn scenarios_play() {
    let rows = tempfile::NamedTempFile::new().expect("a temporary file");
    let output = Command::new(env!("CARGO_BIN_EXE_scenarios"))
        .args(["--goal=G6", "--servers=3", "--clients=2", "--workers=2"])
        .args(["--warm-up=1", "--seconds=5", "--json"])
        .arg(rows.path())
        .output()
        .expect("it runs");
    // Whether it met its goals depends on the machine, and is no test.
    let rows: serde_json::Value =
        serde_json::from_reader(rows).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let failed: Vec<_> = rows
        .as_array()
        .expect("rows")
        .iter()
        .filter(|row| row["measure"].as_str().is_some_and(|measure| measure.contains("failed")))
        .collect();
    assert_eq!(failed.len(), 2, "{rows}");
    for row in failed {
        let verdict = (&row["goal"], &row["policy"], &row["figure"], &row["target"], &row["met"]);
        let [goal, policy, target] = ["G6", "micro", "≤ 0"].map(serde_json::Value::from);
        assert_eq!(verdict, (&goal, &policy, &0.0.into(), &target, &true.into()), "{output:?}");
    }
}

/// `compare` measures every contender's calls, its memory, its start-up and its latency at equal
/// load, beside the goals, and draws what it measured.
#[test]
fn contenders_compare() {
    let pictures = tempfile::tempdir().expect("a temporary directory");
    let rows = compare(&["--in-flight=1,64", "--pictures"], pictures.path());
    let contenders: Vec<_> = rows.iter().filter(|row| row["in_flight"] == 64).collect();
    assert!(contenders.len() >= 8, "{contenders:?}");
    assert!(rows.iter().filter(|row| row["kind"] == "goal").count() >= 3, "{rows:?}");
    for picture in ["calls-per-second.svg", "cpu-per-call.svg", "latency-p999.svg"] {
        assert!(pictures.path().join(picture).exists(), "{picture}");
    }

    let parts = ["--parts=memory,start-up,equal-load", "--idle=16", "--only"];
    let rows = compare(&parts, "raw,full,gateway,tonic");
    for (kind, rows_of_it) in [("memory", 4), ("start-up", 4), ("calls", 3)] {
        let of_it = rows.iter().filter(|row| row["kind"] == kind).count();
        assert_eq!(of_it, rows_of_it, "{kind}: {rows:?}");
    }
}

/// Structs are echoed, too.
#[test]
fn structs_compare() {
    let rows =
        compare(&["--payload=wide", "--only"], "raw,rpc,full,gateway,tarpc,tarpc-best,tonic");
    assert_eq!(rows.iter().filter(|row| row["payload"] == "wide").count(), 7, "{rows:?}");
}

/// The rows of a short run.
fn compare(arguments: &[&str], last: impl AsRef<std::ffi::OsStr>) -> Vec<serde_json::Value> {
    let rows = tempfile::NamedTempFile::new().expect("a temporary file");
    let output = Command::new(env!("CARGO_BIN_EXE_compare"))
        .args(arguments)
        .arg(last)
        .args(["--seconds=0.05", "--repetitions=1", "--json"])
        .arg(rows.path())
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{output:?}");
    serde_json::from_reader(rows).expect("rows")
}
