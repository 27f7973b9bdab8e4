//! Processes of this program that it starts itself, and both ends of their pipes.

use std::{process::Stdio, str::FromStr, time::Duration};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// A process of this program, killed when dropped.
#[derive(Debug)]
#[must_use = "dropping it kills the process"]
pub struct Process {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts this program with these arguments.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn start<A: AsRef<str>>(arguments: impl IntoIterator<Item = A>) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        arguments.into_iter().for_each(|argument| {
            command.arg(argument.as_ref());
        });
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start a process")?;
        let input = child.stdin.take().expect("its input is a pipe");
        let output = child.stdout.take().expect("its output is a pipe");
        Ok(Self { child, input, output: BufReader::new(output).lines() })
    }

    /// Writes a line to its input.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub async fn write(&mut self, line: &str) -> Result<()> {
        self.input.write_all(format!("{line}\n").as_bytes()).await?;
        Ok(())
    }

    /// Reads the next line of its output.
    ///
    /// # Errors
    ///
    /// If there is none in time, or it is not what is expected.
    pub async fn read<T>(&mut self, patience: Duration) -> Result<T>
    where
        T: FromStr<Err: std::error::Error + Send + Sync + 'static>,
    {
        let line = timeout(patience, self.output.next_line()).await;
        let line = line.context("a process does not answer")??;
        line.context("a process ended early")?.parse().context("a process answers nonsense")
    }

    /// Sends it a signal.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id = self.child.id().context("the process has ended")?;
        Ok(kill(Pid::from_raw(i32::try_from(id)?), signal)?)
    }

    /// Ends its input and waits until it has gone.
    ///
    /// # Errors
    ///
    /// If it does not end in time, or fails.
    pub async fn stop(self) -> Result<()> {
        let Self { child, input, output: _output } = self;
        drop(input);
        ended(child, PATIENCE).await
    }

    /// Waits until it has gone by itself.
    ///
    /// # Errors
    ///
    /// If it does not end in time, or fails.
    pub async fn ended(self, patience: Duration) -> Result<()> {
        let Self { child, input: _input, output: _output } = self;
        ended(child, patience).await
    }

    /// Ends its input and returns the last line of its output.
    ///
    /// # Errors
    ///
    /// If there is none in time, or it does not end, or fails.
    pub async fn report(self, patience: Duration) -> Result<String> {
        let Self { child, input, mut output } = self;
        drop(input);
        let line = timeout(patience, output.next_line()).await;
        let line = line.context("a process does not report")??;
        ended(child, PATIENCE).await?;
        line.context("a process ended without a report")
    }
}

/// How long a process may take for what should be immediate.
pub const PATIENCE: Duration = Duration::from_secs(10);

async fn ended(mut child: Child, patience: Duration) -> Result<()> {
    let status = timeout(patience, child.wait()).await.context("a process does not end")??;
    ensure!(status.success(), "a process ended with {status}");
    Ok(())
}
