//! The program in a runtime directory of its own, and what it answers.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use serde_json::Value;
use testbed::{PATIENCE, Process, Scene, Signal, eventually};

/// The greeting is printed, and the `curl` line below it works as it stands.
#[tokio::test]
async fn the_printed_curl_line_works() {
    let scene = Scene::new();
    let hello = Hello::start(&scene, "hello", &[]).await;
    assert_eq!(hello.greeting, "Hello, Ann!");
    if has_curl() {
        assert_eq!(shell(&hello.curl), "\"Hello, Bob!\"");
    }
}

/// Health and description are there for whoever speaks HTTP.
#[tokio::test]
async fn health_and_description_are_open() {
    let scene = Scene::new();
    let hello = Hello::start(&scene, "hello", &[]).await;
    assert_eq!(hello.get("/health/live"), (200, "ok".to_owned()));
    // It was found in the registry, and hears of it itself a moment later.
    let is_ready = async || (hello.get("/health/ready").0 == 200).then_some(());
    eventually("it is ready", is_ready).await;
    let (status, description) = hello.get("/describe");
    assert_eq!(status, 200, "{description}");
    let description: Value = serde_json::from_str(&description).unwrap();
    assert_eq!(description["service"], "greeter");
    assert_eq!(description["node"], hello.node);
    let contract = &description["contracts"][0];
    assert_eq!(contract["name"], "greeter");
    assert_eq!(contract["methods"][0]["name"], "hello");
    assert_eq!(hello.get("/nosuch").0, 404);
}

/// An argument it does not know is refused with its usage; `--help` says what there is.
#[tokio::test]
async fn arguments_are_not_ignored() {
    let scene = Scene::new();
    for (argument, why) in [
        ("--nmae=x", "hello: flag --nmae is unknown: did you mean --name?"),
        ("shop", "hello: argument \"shop\" is no flag"),
        ("--zone", "hello: flag --zone has no value"),
    ] {
        let (code, _, said) = outcome(&scene, &[argument], &[]).await;
        assert_eq!(code, Some(2), "{said}");
        assert!(said.starts_with(why) && said.contains("usage: hello"), "{said}");
    }
    let (code, _, said) = outcome(&scene, &["--config", "/nosuch"], &[]).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("\"/nosuch\" from flag --config cannot be read"), "{said}");
    let (code, help, said) = outcome(&scene, &["--help"], &[]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(help.contains("MICRO_REGISTRY"), "{help}");
}

/// It explains where each value comes from, what code says included, and what is ignored, and starts
/// nothing.
#[tokio::test]
async fn values_are_explained() {
    let scene = Scene::new();
    let file = scene.directory().join("f.toml");
    std::fs::write(&file, "zone = \"z\"\n").unwrap();
    let arguments = ["--explain-config", "--register-ttl", "1m", "--config", "f.toml"];
    let variables = [("MICRO_VERSION", "1.2.3"), ("MICRO_ZONES", "z")];
    let variables = variables.map(|(name, value)| (name, OsStr::new(value)));
    let (code, printed, said) = outcome(&scene, &arguments, &variables).await;
    assert_eq!(code, Some(0), "{said}");
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let lines: Vec<_> = printed.lines().map(words).collect();
    for line in [
        "registry local: default",
        "name greeter default",
        "version 1.2.3 environment variable MICRO_VERSION",
        "register_ttl 1m flag --register-ttl",
        "zone z file f.toml",
        "environment variable MICRO_ZONES is unknown and ignored: did you mean MICRO_ZONE?",
    ] {
        assert!(lines.contains(&words(line)), "{line:?} is not in\n{printed}");
    }
    assert!(!scene.directory().join("micro").exists(), "it registered");
}

/// Two of them find each other by the runtime directory, and one that is interrupted takes its
/// node out and ends well.
#[tokio::test]
async fn two_of_them_share_a_registry() {
    let scene = Scene::new();
    let mut first = Hello::start(&scene, "first", &[]).await;
    let second = Hello::start(&scene, "second", &[]).await;
    let mut both = vec![first.node.clone(), second.node.clone()];
    both.sort();
    let are_there = async || (registered(&scene).await == both).then_some(());
    eventually("both are registered", are_there).await;
    first.process.signal(Signal::INT);
    let status = first.process.ended().await;
    assert_eq!(status.code(), Some(0), "{status}: {}", first.process.stderr());
    assert_eq!(registered(&scene).await, std::slice::from_ref(&second.node));
    assert_eq!(second.get("/health/live").0, 200);
}

/// With a registry inside the process it finds itself, and nobody else does.
#[tokio::test]
async fn it_finds_itself_in_memory() {
    let scene = Scene::new();
    let hello = Hello::start(&scene, "hello", &["--registry", "memory:"]).await;
    assert_eq!(hello.greeting, "Hello, Ann!");
    assert!(registered(&scene).await.is_empty());
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_hello");

/// The exit code of the program with these arguments and variables, and what it prints.
async fn outcome(
    scene: &Scene,
    arguments: &[&str],
    variables: &[(&str, &OsStr)],
) -> (Option<i32>, String, String) {
    let runtime = ("XDG_RUNTIME_DIR", scene.directory().as_os_str());
    let variables = [&[runtime], variables].concat();
    let mut process = scene.run_with(PROGRAM, "hello", arguments, &variables);
    let status = process.ended().await;
    (status.code(), process.stdout(), process.stderr())
}

/// The ids of the greeters in the registry of the scene's runtime directory, in order.
pub(crate) async fn registered(scene: &Scene) -> Vec<String> {
    let url = format!("local:{}", scene.directory().join("micro").display());
    let settings = micro::Settings::none().flag("registry", url).unwrap();
    let client = micro::Client::connect().settings(settings).await.unwrap();
    let services = client.registry().get("greeter").await.unwrap_or_default();
    let nodes = services.iter().flat_map(|service| &service.nodes);
    let mut ids: Vec<_> = nodes.map(|node| node.id.clone()).collect();
    ids.sort();
    ids
}

/// The program, when it has printed everything.
pub(crate) struct Hello {
    pub(crate) process: Process,
    pub(crate) address: String,
    node: String,
    greeting: String,
    curl: String,
}

impl Hello {
    /// Starts it in the scene's directory as runtime directory, under a name for its output.
    pub(crate) async fn start(scene: &Scene, name: &str, arguments: &[&str]) -> Self {
        let runtime = [("XDG_RUNTIME_DIR", scene.directory().as_os_str())];
        let process = scene.run_with(PROGRAM, name, arguments, &runtime);
        let lines = async || {
            let lines: Vec<_> = process.stdout().lines().map(str::to_owned).collect();
            <[String; 4]>::try_from(lines).ok().filter(|lines| lines[3].ends_with('.'))
        };
        let [serves, greeting, curl, _] = eventually("it has printed everything", lines).await;
        let said = serves.strip_prefix("greeter ").and_then(|said| said.split_once(" serves on "));
        let (node, address) = said.unwrap_or_else(|| panic!("the first line is {serves:?}"));
        let (node, address) = (node.to_owned(), address.to_owned());
        let curl = curl.strip_prefix("Try: ").unwrap_or_else(|| panic!("{curl:?}")).to_owned();
        Self { process, address, node, greeting, curl }
    }

    /// Asks over HTTP, in a request as plain as can be; returns the status and the body.
    fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let host = &self.address;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.unwrap_or_else(|| panic!("{head:?}")), body.to_owned())
    }
}

/// Runs a line as a person would, and returns what it prints.
pub(crate) fn shell(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {}: {stderr}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Whether `curl` is installed; says so when it is not.
pub(crate) fn has_curl() -> bool {
    let found = Command::new("curl").arg("--version").output().is_ok();
    if !found {
        // Past the capture of the test harness.
        let _ =
            writeln!(std::io::stderr(), "SKIPPED: curl is not installed, its lines are not run");
    }
    found
}
