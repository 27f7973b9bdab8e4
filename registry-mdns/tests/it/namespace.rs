//! Namespaces of a test's own: a network whose interfaces it may take away, and a `/run` for daemons.

use std::process::Command;

/// Runs an ignored test of this binary in namespaces of its own; says loudly when the machine does
/// not allow that.
pub(crate) fn run(test: &str, needs: &[&str]) {
    if let Some(obstacle) = obstacle(needs) {
        // To the terminal, past the harness, which shows nothing of a test that passes.
        let skipped = format!("SKIPPED {test}: {obstacle}\n");
        let _ = std::io::Write::write_all(&mut std::io::stderr(), skipped.as_bytes());
        return;
    }
    let inside = ["sh", "-c", "ip link set lo up && exec \"$@\"", "sh"];
    let exe = std::env::current_exe().unwrap();
    let status = unshare().args(inside).arg(exe).args(["--exact", test, "--ignored"]).status();
    assert!(status.unwrap().success(), "{test} failed");
}

/// Runs a command, which must succeed.
pub(crate) fn sh(command: &str) {
    let done = Command::new("sh").args(["-ec", command]).output().unwrap();
    let complaint = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command}: {complaint}");
}

/// A network interface that messages can be sent from: one end of a pair.
pub(crate) fn add_interface(name: &str, address: &str) {
    sh(&format!(
        "ip link add {name} type veth peer name {name}x
         ip addr add {address} dev {name}
         ip link set {name}x up"
    ));
    set_up(name);
}

/// Takes effect a moment after it is said.
pub(crate) fn set_up(name: &str) {
    sh(&format!(
        "ip link set {name} up
         until ip link show {name} | grep -q LOWER_UP; do sleep 0.01; done"
    ));
}

/// They end with whoever waits for them.
fn unshare() -> Command {
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "--mount", "--pid", "--fork", "--kill-child"]);
    unshare
}

fn obstacle(needs: &[&str]) -> Option<String> {
    for program in [&["unshare", "ip"], needs].concat() {
        let there = Command::new("sh").args(["-c", "command -v \"$0\"", program]).output();
        if !there.is_ok_and(|there| there.status.success()) {
            return Some(format!("`{program}` is not installed"));
        }
    }
    let pair = "ip link add try0 type veth peer name try1 && mount -t tmpfs tmpfs /run";
    let tried = unshare().args(["sh", "-c", pair]).output().unwrap();
    let complaint = String::from_utf8_lossy(&tried.stderr).trim().to_owned();
    (!tried.status.success()).then(|| format!("no namespaces here: {complaint}"))
}
