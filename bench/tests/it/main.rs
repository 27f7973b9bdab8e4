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
