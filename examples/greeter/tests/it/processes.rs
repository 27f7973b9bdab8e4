//! Processes of a test: started in a directory of their own, killed by their id when dropped.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// What belongs to one test: a registry of its own, and the output of its processes.
///
/// When the test panics it prints that output, which is gone afterwards.
pub(crate) struct Scene {
    directory: TempDir,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self { directory: TempDir::new().unwrap() }
    }

    /// The directory the `local:` registry of this test lives in; made by whoever registers first.
    pub(crate) fn registry(&self) -> PathBuf {
        self.directory.path().join("r")
    }

    pub(crate) fn url(&self) -> String {
        format!("local:{}", self.registry().display())
    }

    /// Starts a greeter in this registry, and returns when it has said who it is.
    pub(crate) async fn server(&self, name: &str, flags: &[&str]) -> Server {
        self.server_with(name, flags, &[]).await
    }

    /// The same with an environment, and nothing else in it.
    pub(crate) async fn server_with(
        &self,
        name: &str,
        flags: &[&str],
        environment: &[(&str, &OsStr)],
    ) -> Server {
        let url = self.url();
        let mut arguments = vec!["--registry", &url];
        arguments.extend(flags);
        let process = self.run_with(SERVER, name, &arguments, environment);
        let node = eventually(&format!("{name} starts"), async || {
            let stdout = process.stdout();
            let (node, _) = stdout.strip_prefix("node=")?.split_once(" address=")?;
            Some(node.to_owned())
        })
        .await;
        Server { process, node }
    }

    /// Starts several of them.
    pub(crate) async fn servers<const N: usize>(&self, flags: &[&str]) -> [Server; N] {
        let mut servers = Vec::new();
        for number in 1..=N {
            servers.push(self.server(&format!("server-{number}"), flags).await);
        }
        servers.try_into().unwrap_or_else(|_| unreachable!("there are N of them"))
    }

    /// Starts a client that calls the greeters of this registry for ten seconds.
    pub(crate) fn client(&self, flags: &[&str]) -> Process {
        self.load(10, flags)
    }

    /// Starts a client that calls the greeters of this registry for so many seconds, or until it is
    /// interrupted.
    pub(crate) fn load(&self, seconds: u64, flags: &[&str]) -> Process {
        let (url, seconds) = (self.url(), seconds.to_string());
        let load = ["--seconds", &seconds, "--concurrency", "16", "--rate", "2000"];
        let mut arguments = vec!["--registry", &url];
        arguments.extend(load);
        arguments.extend(flags);
        self.run(CLIENT, "client", &arguments)
    }

    /// Starts a program; nothing of the environment or of a `micro.toml` around here reaches it.
    pub(crate) fn run(&self, program: &str, name: &str, arguments: &[&str]) -> Process {
        self.run_with(program, name, arguments, &[])
    }

    /// The same with an environment, and nothing else in it.
    pub(crate) fn run_with(
        &self,
        program: &str,
        name: &str,
        arguments: &[&str],
        environment: &[(&str, &OsStr)],
    ) -> Process {
        let (stdout, stderr) = (self.file(name, "stdout"), self.file(name, "stderr"));
        let child = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(environment.iter().copied())
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(File::create(&stdout).unwrap())
            .stderr(File::create(&stderr).unwrap())
            .spawn()
            .unwrap();
        Process { child, name: name.to_owned(), stdout, stderr }
    }

    fn file(&self, name: &str, stream: &str) -> PathBuf {
        self.directory.path().join(format!("{name}.{stream}"))
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let Ok(files) = self.directory.path().read_dir() else { return };
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

/// A greeter that has started.
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) node: String,
}

/// A process; killed, by its id, when dropped.
pub(crate) struct Process {
    child: Child,
    name: String,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until it ends by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let Self { child, name, .. } = self;
        eventually(&format!("{name} ends"), async || child.try_wait().unwrap()).await
    }

    pub(crate) fn stdout(&self) -> String {
        read(&self.stdout)
    }

    pub(crate) fn stderr(&self) -> String {
        read(&self.stderr)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended if it cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for something to be true, and returns it.
///
/// # Panics
///
/// When it takes so long that it will not come.
pub(crate) async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
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
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const SERVER: &str = env!("CARGO_BIN_EXE_greeter-server");
const CLIENT: &str = env!("CARGO_BIN_EXE_greeter-client");

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}
