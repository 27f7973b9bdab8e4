//! The program, as nodes and as a caller, in a registry of its own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Who calls is answered by the nodes that are there: after one is killed, by the other.
#[test]
fn calls_find_the_nodes() {
    let directory = TempDir::new().unwrap();
    let first = Node::start(directory.path(), "first");
    let _second = Node::start(directory.path(), "second");
    greets(directory.path());
    drop(first);
    greets(directory.path());
}

/// An error of a method is the caller's, and ends its program.
#[test]
fn errors_reach_the_caller() {
    let directory = TempDir::new().unwrap();
    let _node = Node::start(directory.path(), "node");
    let output = call(directory.path(), &[]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("nobody to greet"), "{output:?}");
}

fn greets(directory: &Path) {
    let output = call(directory, &["Ann", "Bob"]);
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(printed, "Hello, Ann!\nHello, Bob!\nHello, Ann and Bob!\n", "{output:?}");
    assert!(output.status.success(), "{output:?}");
}

fn call(directory: &Path, names: &[&str]) -> Output {
    program(directory).arg("call").args(names).output().unwrap()
}

/// The program; nothing of the environment reaches it but where its registry is.
fn program(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tarpc-greeter"));
    let registry = format!("local:{}", directory.join("registry").display());
    command.env_clear().env("MICRO_REGISTRY", registry).current_dir(directory).stdin(Stdio::null());
    command
}

/// A node that serves; killed, by its id, when dropped.
struct Node(Child);

impl Node {
    fn start(directory: &Path, name: &str) -> Self {
        let stdout: PathBuf = directory.join(format!("{name}.stdout"));
        let output = File::create(&stdout).unwrap();
        let child = program(directory).arg("serve").stdout(output).spawn().unwrap();
        let mut node = Self(child);
        let end = Instant::now() + PATIENCE;
        while !std::fs::read_to_string(&stdout).unwrap().ends_with("/greeter/hello\n") {
            assert!(node.0.try_wait().unwrap().is_none(), "{name} ended");
            assert!(Instant::now() < end, "{name} has not started");
            std::thread::sleep(Duration::from_millis(20));
        }
        node
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It has ended if it cannot be killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);
