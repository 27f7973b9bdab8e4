//! The program in a runtime directory of its own, and what it answers.

use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// The greeting is printed, and the `curl` line below it works as it stands.
#[test]
fn the_printed_curl_line_works() {
    let directory = RuntimeDirectory::new();
    let hello = Hello::start(&directory);
    assert_eq!(hello.greeting, "Hello, Ann!");
    if has_curl() {
        assert_eq!(shell(&hello.curl), "\"Hello, Bob!\"");
    }
}

/// Health and description are there for whoever speaks HTTP.
#[test]
fn health_and_description_are_open() {
    let directory = RuntimeDirectory::new();
    let hello = Hello::start(&directory);
    assert_eq!(hello.get("/health/live"), (200, "ok".to_owned()));
    // It was found in the registry, and hears of it itself a moment later.
    eventually("it is ready", || (hello.get("/health/ready").0 == 200).then_some(()));
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
#[test]
fn arguments_are_not_ignored() {
    for (argument, why) in [
        ("--nmae=x", "hello: flag --nmae is unknown: did you mean --name?"),
        ("shop", "hello: argument \"shop\" is no flag"),
        ("--zone", "hello: flag --zone has no value"),
    ] {
        let refused = run(&[argument]);
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(said.starts_with(why) && said.contains("usage: hello"), "{said}");
    }
    let unread = run(&["--config", "/nosuch"]);
    assert_eq!(unread.status.code(), Some(2), "{unread:?}");
    let said = String::from_utf8(unread.stderr).unwrap();
    assert!(said.contains("\"/nosuch\" from flag --config cannot be read"), "{said}");
    let help = run(&["--help"]);
    assert_eq!(help.status.code(), Some(0), "{help:?}");
    assert!(String::from_utf8(help.stdout).unwrap().contains("MICRO_REGISTRY"));
}

/// It explains where each value comes from, what code says included, and starts nothing.
#[test]
fn values_are_explained() {
    let directory = RuntimeDirectory::new();
    let file = directory.0.path().join("f.toml");
    fs::write(&file, "zone = \"z\"\n").unwrap();
    let explained = output(
        Command::new(PROGRAM)
            .args(["--explain-config", "--register-ttl", "1m", "--config"])
            .arg(&file)
            .env_clear()
            .env("XDG_RUNTIME_DIR", directory.0.path())
            .env("MICRO_VERSION", "1.2.3"),
    );
    assert_eq!(explained.status.code(), Some(0), "{explained:?}");
    let printed = String::from_utf8(explained.stdout).unwrap();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let lines: Vec<_> = printed.lines().map(words).collect();
    let zone = format!("zone z file {}", file.display());
    for line in [
        "registry local: default",
        "name greeter default",
        "version 1.2.3 environment variable MICRO_VERSION",
        "register_ttl 1m flag --register-ttl",
        &zone,
    ] {
        assert!(lines.contains(&words(line)), "{line:?} is not in\n{printed}");
    }
    assert!(!directory.0.path().join("micro").exists(), "it registered");
}

/// Two of them find each other by the runtime directory, and one that is interrupted takes its
/// node out and ends well.
#[test]
fn two_of_them_share_a_registry() {
    let directory = RuntimeDirectory::new();
    let mut first = Hello::start(&directory);
    let second = Hello::start(&directory);
    let mut both = vec![first.node.clone(), second.node.clone()];
    both.sort();
    eventually("both are registered", || (directory.registered() == both).then_some(()));
    first.interrupt();
    let status = first.ended();
    assert_eq!(status.code(), Some(0), "{status}: {}", first.stderr());
    assert_eq!(directory.registered(), std::slice::from_ref(&second.node));
    assert_eq!(second.get("/health/live").0, 200);
}

/// What it does with these arguments and nothing else.
fn run(arguments: &[&str]) -> Output {
    output(Command::new(PROGRAM).args(arguments).env_clear())
}

/// What a command prints that ends by itself; one that does not is killed.
fn output(command: &mut Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let end = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > end {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().unwrap()
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_hello");

/// What `XDG_RUNTIME_DIR` names: only its owner may enter.
pub(crate) struct RuntimeDirectory(pub(crate) TempDir);

impl RuntimeDirectory {
    pub(crate) fn new() -> Self {
        let directory = TempDir::new().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).unwrap();
        Self(directory)
    }

    /// The ids of the greeters in its registry, in order.
    pub(crate) fn registered(&self) -> Vec<String> {
        let url = format!("local:{}", self.0.path().join("micro").display());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let services = runtime.block_on(async {
            let settings = micro::Settings::none().flag("registry", url).unwrap();
            let client = micro::Client::connect().settings(settings).await.unwrap();
            client.registry().get("greeter").await
        });
        let services = services.unwrap_or_default();
        let nodes = services.iter().flat_map(|service| &service.nodes);
        let mut ids: Vec<_> = nodes.map(|node| node.id.clone()).collect();
        ids.sort();
        ids
    }
}

/// The program, when it has printed everything; killed, by its id, when dropped.
pub(crate) struct Hello<'a> {
    child: Child,
    /// Which must not go before it.
    _directory: &'a RuntimeDirectory,
    stdout: PathBuf,
    stderr: PathBuf,
    node: String,
    pub(crate) address: String,
    greeting: String,
    curl: String,
}

impl<'a> Hello<'a> {
    /// Starts it in a runtime directory; nothing else of the environment reaches it.
    pub(crate) fn start(directory: &'a RuntimeDirectory) -> Self {
        let path = directory.0.path();
        let number = fs::read_dir(path).unwrap().count();
        let stdout = path.join(format!("{number}.stdout"));
        let stderr = path.join(format!("{number}.stderr"));
        let child = Command::new(PROGRAM)
            .env_clear()
            .env("XDG_RUNTIME_DIR", path)
            .current_dir(path)
            .stdin(Stdio::null())
            .stdout(File::create(&stdout).unwrap())
            .stderr(File::create(&stderr).unwrap())
            .spawn()
            .unwrap();
        let (node, address, greeting, curl) = Default::default();
        let mut hello =
            Self { child, _directory: directory, stdout, stderr, node, address, greeting, curl };
        let lines = eventually("it has printed everything", || {
            assert!(hello.child.try_wait().unwrap().is_none(), "it ended: {}", hello.stderr());
            let lines: Vec<_> = hello.stdout().lines().map(str::to_owned).collect();
            <[String; 4]>::try_from(lines).ok().filter(|lines| lines[3].ends_with('.'))
        });
        let [serves, greeting, curl, _] = lines;
        let (node, address) = serves
            .strip_prefix("greeter ")
            .and_then(|serves| serves.split_once(" serves on "))
            .unwrap_or_else(|| panic!("the first line is {serves:?}"));
        (hello.node, hello.address) = (node.to_owned(), address.to_owned());
        hello.greeting = greeting;
        hello.curl = curl.strip_prefix("Try: ").unwrap_or_else(|| panic!("{curl:?}")).to_owned();
        hello
    }

    pub(crate) fn stdout(&self) -> String {
        fs::read_to_string(&self.stdout).unwrap()
    }

    fn stderr(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap()
    }

    /// What Ctrl-C does.
    fn interrupt(&self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
    }

    fn ended(&mut self) -> ExitStatus {
        eventually("it ends", || self.child.try_wait().unwrap())
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

impl Drop for Hello<'_> {
    fn drop(&mut self) {
        // It has ended if it cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
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

/// Waits for something to be there, and returns it.
pub(crate) fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < end, "gave up waiting: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);
