//! How much a server and a client have to say, the contract aside.

use std::process::{Child, Command, Stdio};

use crate::hello::{RuntimeDirectory, eventually};

/// A whole server has at most 16 lines of code, a whole client 7, and the README tells how many.
#[test]
fn they_are_short() {
    let server = lines_of_code(include_str!("../../src/bin/hello-server.rs"));
    let client = lines_of_code(include_str!("../../src/bin/hello-client.rs"));
    assert!(server.len() <= 16, "{} lines: {server:#?}", server.len());
    assert!(client.len() <= 7, "{} lines: {client:#?}", client.len());
    let told = format!("a server of {} lines and a client of {}", server.len(), client.len());
    assert!(README.contains(&told), "the README does not tell of {told:?}");
}

/// Short as they are, the client finds the server and is greeted.
#[test]
fn they_work() {
    let directory = RuntimeDirectory::new();
    let server = command(env!("CARGO_BIN_EXE_hello-server"), &directory);
    let _server = Killed(server);
    eventually("it is registered", || (directory.registered().len() == 1).then_some(()));
    let output = command(env!("CARGO_BIN_EXE_hello-client"), &directory).wait_with_output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "Hello, Ann!\n");
}

const README: &str = include_str!("../../../../README.md");

/// Lines that are neither empty nor a comment.
fn lines_of_code(source: &str) -> Vec<&str> {
    let lines = source.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with("//")).collect()
}

fn command(program: &str, directory: &RuntimeDirectory) -> Child {
    Command::new(program)
        .env_clear()
        .env("XDG_RUNTIME_DIR", directory.0.path())
        .current_dir(directory.0.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// A process that is killed, by its id, when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It has ended if it cannot be killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
