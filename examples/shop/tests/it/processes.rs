//! Processes of a test: started in a directory of their own, killed by their id when dropped.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Far more than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What belongs to one test: a registry of its own, and the output of its processes.
pub(crate) struct Scene {
    directory: TempDir,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self { directory: TempDir::new().unwrap() }
    }

    pub(crate) fn url(&self) -> String {
        format!("local:{}", self.directory.path().join("r").display())
    }

    /// Starts the shop in a role; nothing of the environment or of a `micro.toml` reaches it.
    pub(crate) fn run(&self, name: &str, role: &[&str]) -> Process {
        let file = |stream: &str| self.directory.path().join(format!("{name}.{stream}"));
        let (stdout, stderr) = (file("stdout"), file("stderr"));
        let child = Command::new(env!("CARGO_BIN_EXE_shop"))
            .args(["--registry", &self.url()])
            .args(role)
            .env_clear()
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(File::create(&stdout).unwrap())
            .stderr(File::create(&stderr).unwrap())
            .spawn()
            .unwrap();
        Process { child, name: name.to_owned(), stdout, stderr }
    }
}

/// A process; killed, by its id, when dropped.
pub(crate) struct Process {
    child: Child,
    name: String,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Waits until it ends by itself, and returns whether it succeeded and what it printed.
    pub(crate) fn ended(&mut self) -> (bool, String) {
        let Self { child, name, .. } = self;
        let status = eventually(&format!("{name} ends"), || child.try_wait().unwrap());
        (status.success(), std::fs::read_to_string(&self.stdout).unwrap())
    }

    pub(crate) fn stderr(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap()
    }

    /// Waits for a line of its log that has all of these, and returns it.
    pub(crate) fn logged(&self, parts: &[&str]) -> String {
        let what = format!("{} logs {parts:?}", self.name);
        eventually(&what, || {
            let stderr = self.stderr();
            let mut lines = stderr.lines();
            lines.find(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned)
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended if it cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.name, self.stderr());
        }
    }
}

fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < end, "gave up waiting: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
