//! How much a server and a client have to say, the contract aside.

use testbed::{Scene, eventually};

use crate::hello::registered;

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
#[tokio::test]
async fn they_work() {
    let scene = Scene::new();
    let runtime = [("XDG_RUNTIME_DIR", scene.directory().as_os_str())];
    let run = |program, name| scene.run_with(program, name, &[], &runtime);
    let _server = run(env!("CARGO_BIN_EXE_hello-server"), "server");
    let is_there = async || (registered(&scene).await.len() == 1).then_some(());
    eventually("it is registered", is_there).await;
    let mut client = run(env!("CARGO_BIN_EXE_hello-client"), "client");
    assert!(client.ended().await.success(), "{}", client.stderr());
    assert_eq!(client.stdout(), "Hello, Ann!\n");
}

const README: &str = include_str!("../../../../README.md");

/// Lines that are neither empty nor a comment.
fn lines_of_code(source: &str) -> Vec<&str> {
    let lines = source.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with("//")).collect()
}
