//! Greeters and their callers as processes.

use std::ffi::OsStr;

use testbed::{Process, Scene, eventually};

/// Starts greeters and callers in the registry of a scene.
pub(crate) trait Greeters {
    /// Starts a greeter, and returns when it has said who it is.
    async fn server(&self, name: &str, flags: &[&str]) -> Server {
        self.server_with(name, flags, &[]).await
    }

    /// The same with an environment, and nothing else in it.
    async fn server_with(
        &self,
        name: &str,
        flags: &[&str],
        environment: &[(&str, &OsStr)],
    ) -> Server;

    /// Starts several of them.
    async fn servers<const N: usize>(&self, flags: &[&str]) -> [Server; N] {
        let mut servers = Vec::new();
        for number in 1..=N {
            servers.push(self.server(&format!("server-{number}"), flags).await);
        }
        servers.try_into().unwrap_or_else(|_| unreachable!("there are N of them"))
    }

    /// Starts a client that calls the greeters for ten seconds.
    fn client(&self, flags: &[&str]) -> Process {
        self.load(10, flags)
    }

    /// Starts a client that calls the greeters for so many seconds, or until it is interrupted.
    fn load(&self, seconds: u64, flags: &[&str]) -> Process;
}

impl Greeters for Scene {
    async fn server_with(
        &self,
        name: &str,
        flags: &[&str],
        environment: &[(&str, &OsStr)],
    ) -> Server {
        let url = self.url();
        let mut arguments = vec!["--registry", url];
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

    fn load(&self, seconds: u64, flags: &[&str]) -> Process {
        let seconds = seconds.to_string();
        let mut arguments = vec!["--seconds", &seconds, "--concurrency", "16", "--rate", "2000"];
        arguments.extend(flags);
        self.run(CLIENT, "client", &arguments)
    }
}

/// A greeter that has started.
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) node: String,
}

pub(crate) const SERVER: &str = env!("CARGO_BIN_EXE_greeter-server");
const CLIENT: &str = env!("CARGO_BIN_EXE_greeter-client");
