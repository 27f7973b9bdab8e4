//! Real processes for tests: started in a directory of their own, killed by their id when dropped or
//! when the test itself is killed, their output printed when the test fails. In [`etcd`] there are servers to register with.

pub mod etcd;
mod leash;

use std::ffi::OsStr;
use std::fs::File;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use leash::Leashed;
use rustix::process::kill_process;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

pub use rustix::process::Signal;

/// What belongs to one test: a registry of its own, and the output of its processes.
///
/// When the test panics it prints the end of that output, which is gone afterwards.
#[derive(Debug)]
pub struct Scene {
    directory: TempDir,
    url: String,
}

impl Default for Scene {
    fn default() -> Self {
        Self::new()
    }
}

impl Scene {
    /// An empty scene, with a `local:` registry.
    ///
    /// # Panics
    ///
    /// When no temporary directory can be made.
    pub fn new() -> Self {
        let mut scene = Self::over("");
        scene.url = format!("local:{}", scene.registry().display());
        scene
    }

    /// An empty scene over the registry of this URL.
    ///
    /// # Panics
    ///
    /// When no temporary directory can be made.
    pub fn over(url: impl Into<String>) -> Self {
        Self { directory: TempDir::new().expect("a temporary directory"), url: url.into() }
    }

    /// An empty scene over multicast DNS on the loopback, which no other scene hears of.
    ///
    /// # Panics
    ///
    /// When no temporary directory can be made, or no port is free.
    pub fn over_multicast_dns() -> Self {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a free port");
        let port = socket.local_addr().expect("it has an address").port();
        // Two tests may be given one port, which they share.
        let namespace = fastrand::u64(..);
        Self::over(format!("mdns:?interface=lo&port={port}&namespace=t{namespace:x}"))
    }

    /// Where its processes run and write.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The directory its `local:` registry, if it has one, lives in; made by whoever registers first.
    pub fn registry(&self) -> PathBuf {
        self.directory().join("r")
    }

    /// The URL of its registry.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Starts a program over the registry of this scene, under a name for its output. Nothing else
    /// of the environment or of a `micro.toml` around here reaches it.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub fn run(&self, program: &str, name: &str, arguments: &[&str]) -> Process {
        self.run_with(program, name, arguments, &[("MICRO_REGISTRY", OsStr::new(self.url()))])
    }

    /// The same with this environment, and nothing else in it.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub fn run_with(
        &self,
        program: &str,
        name: &str,
        arguments: &[&str],
        environment: &[(&str, &OsStr)],
    ) -> Process {
        let (stdout, stderr) = (self.file(name, "stdout"), self.file(name, "stderr"));
        let output = |path: &Path| File::create(path).expect("a file for its output");
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(environment.iter().copied())
            .current_dir(self.directory())
            .stdin(Stdio::null())
            .stdout(output(&stdout))
            .stderr(output(&stderr));
        let child = Leashed::spawn(&mut command)
            .unwrap_or_else(|error| panic!("cannot start {program}: {error}"));
        Process { child, name: name.to_owned(), stdout, stderr }
    }

    fn file(&self, name: &str, stream: &str) -> PathBuf {
        self.directory().join(format!("{name}.{stream}"))
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let Ok(files) = self.directory().read_dir() else { return };
        let mut files: Vec<_> = files.flatten().map(|file| file.path()).collect();
        files.sort();
        for file in files.iter().filter(|file| file.is_file()) {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            let tail = lines[lines.len().saturating_sub(30)..].join("\n");
            eprintln!("--- {} ({} lines)\n{tail}", file.display(), lines.len());
        }
    }
}

/// A process; killed, by its id, when dropped, and when the test is killed.
#[derive(Debug)]
#[must_use = "dropping it kills the process"]
pub struct Process {
    child: Leashed,
    name: String,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    ///
    /// # Panics
    ///
    /// When it has ended.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.child.pid(), signal).expect("it runs");
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub async fn ended(&mut self) -> ExitStatus {
        let Self { child, name, .. } = self;
        let status = async || child.try_wait().expect("it is our child");
        eventually(&format!("{name} ends"), status).await
    }

    /// What it has printed so far.
    ///
    /// # Panics
    ///
    /// When that cannot be read.
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// What it has printed to standard error so far.
    ///
    /// # Panics
    ///
    /// When that cannot be read.
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }
}

/// Waits for something to be true, and returns it.
///
/// # Panics
///
/// When it takes longer than [`PATIENCE`].
pub async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < end, "gave up waiting: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Far more than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(60);

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("the file was made when the process started")
}
