//! Real etcd processes: on free ports, with data in memory, stopped with whoever started
//! them, however that ends.
//!
//! # Panics
//!
//! All of it panics when something does not work: there is nothing to test with then.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::leash::Leashed;

/// One member of a cluster, mostly of a cluster of one.
#[derive(Debug)]
#[must_use = "dropping it kills the server"]
pub struct Server {
    ports: Ports,
    arguments: Vec<String>,
    data: TempDir,
    child: Mutex<Option<Leashed>>,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    client: u16,
    peer: u16,
}

/// Whether there is an etcd to test with. Without one a test passes, loudly, unless
/// `MICRO_TEST_ETCD=required`.
pub fn is_there() -> bool {
    let found = Command::new("etcd").arg("--version").stdout(Stdio::null()).status();
    let is_there = found.is_ok_and(|status| status.success());
    let is_required = std::env::var_os("MICRO_TEST_ETCD").is_some_and(|value| value == "required");
    assert!(is_there || !is_required, "there is no etcd, and MICRO_TEST_ETCD=required");
    if !is_there {
        eprintln!("SKIPPED: there is no etcd here; Debian's package is etcd-server");
    }
    is_there
}

impl Server {
    /// One that is a cluster of its own, and healthy.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// The same with more arguments.
    pub fn with(arguments: &[String]) -> Self {
        let server = Self::prepare(Ports::free(), "s", None, arguments);
        server.run();
        server.wait_until_healthy();
        server
    }

    /// The same with TLS, which nothing here can ask about its health.
    pub fn with_tls(arguments: &[String]) -> Self {
        let server = Self::prepare(Ports::free(), "s", None, arguments);
        server.run();
        server.wait_until("takes connections", |server| server.connect().is_ok());
        server
    }

    /// The members of one cluster.
    pub fn cluster(size: usize) -> Vec<Self> {
        let ports: Vec<_> = (0..size).map(|_| Ports::free()).collect();
        let peer = |(index, ports): (usize, &Ports)| format!("s{index}=http://{}", ports.peer());
        let peers = ports.iter().enumerate().map(peer).collect::<Vec<_>>().join(",");
        let one = |(index, ports): (usize, &Ports)| {
            Self::prepare(*ports, &format!("s{index}"), Some(&peers), &[])
        };
        let members: Vec<_> = ports.iter().enumerate().map(one).collect();
        members.iter().for_each(Self::run);
        members.iter().for_each(Self::wait_until_healthy);
        members
    }

    /// Where clients find it: host and port.
    pub fn address(&self) -> String {
        self.ports.client()
    }

    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.child.lock().unwrap().as_ref().expect("it runs").id()
    }

    /// SIGKILL.
    pub fn kill(&self) {
        drop(self.child.lock().unwrap().take());
    }

    /// Starts it again, with its data.
    pub fn restart(&self) {
        self.run();
        self.wait_until_healthy();
    }

    /// Starts it again, without its data.
    pub fn restart_empty(&self) {
        std::fs::remove_dir_all(self.data.path().join("etcd")).unwrap();
        self.restart();
    }

    /// Ends whatever was done to it.
    pub fn restore(&self) {
        if self.child.lock().unwrap().is_some() {
            self.resume();
            self.wait_until_healthy();
        } else {
            self.restart();
        }
    }

    /// SIGSTOP.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// The JSON gateway: another way in than the one that is tested.
    pub fn call(&self, path: &str, body: &Value) -> Value {
        self.call_with(path, body, "")
    }

    /// The same with a token of somebody who may.
    pub fn call_with(&self, path: &str, body: &Value, token: &str) -> Value {
        let answer = self.http("POST", path, &body.to_string(), token).unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert!(answer.get("error").is_none(), "{path}: {answer}");
        answer
    }

    /// Writes a key, without a lease.
    pub fn put(&self, key: &str, value: &str) {
        self.call("/v3/kv/put", &json!({ "key": encoded(key), "value": encoded(value) }));
    }

    /// The ids of all leases, as text.
    pub fn leases(&self) -> Vec<String> {
        let answer = self.call("/v3/lease/leases", &json!({}));
        let leases = answer["leases"].as_array().cloned().unwrap_or_default();
        leases.iter().map(|lease| lease["ID"].as_str().unwrap().to_owned()).collect()
    }

    /// Revokes all leases, as somebody could by hand.
    pub fn revoke_all(&self) {
        for id in self.leases() {
            self.call("/v3/lease/revoke", &json!({ "ID": id }));
        }
    }

    /// The number of watches etcd serves.
    pub fn watches(&self) -> usize {
        let metrics = self.http("GET", "/metrics", "", "").unwrap();
        let name = "etcd_debugging_mvcc_watcher_total ";
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.expect("etcd counts its watches").parse().unwrap()
    }

    /// Whether it leads its cluster.
    pub fn is_leader(&self) -> bool {
        let metrics = self.http("GET", "/metrics", "", "").unwrap_or_default();
        metrics.lines().any(|line| line == "etcd_server_is_leader 1")
    }

    /// Waits until it has a leader and answers.
    pub fn wait_until_healthy(&self) {
        self.wait_until("is healthy", |server| {
            server.http("GET", "/health", "", "").is_ok_and(|answer| answer.contains("\"true\""))
        });
    }

    fn prepare(ports: Ports, name: &str, peers: Option<&str>, arguments: &[String]) -> Self {
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let data = tempfile::Builder::new().prefix("micro-etcd-").tempdir_in(parent).unwrap();
        let scheme = if arguments.iter().any(|a| a == "--cert-file") { "https" } else { "http" };
        let client = format!("{scheme}://{}", ports.client());
        let peer = format!("http://{}", ports.peer());
        let own = format!("{name}={peer}");
        let mut all: Vec<String> = [
            ("--name", name),
            ("--data-dir", data.path().join("etcd").to_str().unwrap()),
            ("--listen-client-urls", &client),
            ("--advertise-client-urls", &client),
            ("--listen-peer-urls", &peer),
            ("--initial-advertise-peer-urls", &peer),
            ("--initial-cluster", peers.unwrap_or(&own)),
            ("--heartbeat-interval", "20"),
            ("--election-timeout", "200"),
            ("--log-level", "error"),
            ("--unsafe-no-fsync", ""),
        ]
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value.to_owned()])
        .filter(|argument| !argument.is_empty())
        .collect();
        all.extend_from_slice(arguments);
        Self { ports, arguments: all, data, child: Mutex::default() }
    }

    /// Starts it, and does not wait for it. One that runs is killed first: it has the ports.
    pub fn run(&self) {
        self.kill();
        let log = self.data.path().join("log");
        let log = File::options().create(true).append(true).open(log).unwrap();
        let mut command = Command::new("etcd");
        command.args(&self.arguments).stdout(log.try_clone().unwrap()).stderr(log);
        // What somebody has set for the etcd of the machine is not for this one.
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_etcds(name)) {
            command.env_remove(name);
        }
        *self.child.lock().unwrap() = Some(Leashed::spawn(&mut command).unwrap());
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.lock().unwrap();
        kill_process(child.as_ref().expect("it runs").pid(), signal).unwrap();
    }

    fn wait_until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !is_so(self) {
            let log = || std::fs::read_to_string(self.data.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "etcd never {what}: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn connect(&self) -> std::io::Result<TcpStream> {
        let stream = TcpStream::connect(self.ports.client())?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(stream)
    }

    /// In HTTP/1.0 the end of the answer is the end of the connection.
    fn http(&self, verb: &str, path: &str, body: &str, token: &str) -> std::io::Result<String> {
        let mut stream = self.connect()?;
        write!(stream, "{verb} {path} HTTP/1.0\r\nContent-Length: {}\r\n", body.len())?;
        if !token.is_empty() {
            write!(stream, "Authorization: {token}\r\n")?;
        }
        write!(stream, "\r\n{body}")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        Ok(body.to_owned())
    }
}

impl Ports {
    /// Two that nobody has, of those the system gives to nobody by itself: a server that is started
    /// again finds its own.
    fn free() -> Self {
        Self { client: free_port(), peer: free_port() }
    }

    fn client(self) -> String {
        format!("127.0.0.1:{}", self.client)
    }

    fn peer(self) -> String {
        format!("127.0.0.1:{}", self.peer)
    }
}

/// A port that is free now.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let _ = NEXT.compare_exchange(
            0,
            fastrand::u16(10_000..30_000),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// As the gateway has keys and values.
pub fn encoded(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}

fn is_etcds(name: &std::ffi::OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with("ETCD_"))
}

#[cfg(test)]
mod tests {
    use rustix::process::test_kill_process;

    use super::*;

    /// A server that is started while it runs is the only one afterwards.
    #[test]
    fn one_server_at_a_time() {
        if !is_there() {
            return;
        }
        let server = Server::start();
        let first = server.child.lock().unwrap().as_ref().unwrap().pid();
        server.restart();
        assert!(test_kill_process(first).is_err());
    }
}
