//! Children that do not outlive this process, however it ends.

use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::Pid;

/// A child that is killed when it is dropped, and when this process dies without a word: a shell
/// beside it waits for the end of a pipe that only this process holds open.
///
/// The kernel could do it (`PR_SET_PDEATHSIG`), but counts as a parent the thread that started a
/// child, and threads of tests come and go.
#[derive(Debug)]
pub(crate) struct Leashed {
    child: Child,
    /// `None` once the child has been waited for: its id may be somebody else's then.
    shell: Option<Child>,
}

/// Signals that a terminal sends to all are not for the shell: it has to see that we died.
const WATCH: &str = r#"trap "" HUP INT QUIT TERM; read -r _; kill -KILL "$1""#;

impl Leashed {
    /// Starts a command.
    pub(crate) fn spawn(command: &mut Command) -> std::io::Result<Self> {
        let child = command.spawn()?;
        let mut leashed = Self { child, shell: None };
        let shell = Command::new("/bin/sh")
            .args(["-c", WATCH, "watch", &leashed.child.id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        leashed.shell = Some(shell);
        Ok(leashed)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// How it ended, if it has.
    pub(crate) fn try_wait(&mut self) -> std::io::Result<Option<ExitStatus>> {
        let ended = self.child.try_wait()?;
        if ended.is_some() {
            self.release();
        }
        Ok(ended)
    }

    /// The shell goes first: it must not kill an id that is no longer the child's.
    fn release(&mut self) {
        if let Some(mut shell) = self.shell.take() {
            let _ = shell.kill();
            let _ = shell.wait();
        }
    }
}

impl Drop for Leashed {
    fn drop(&mut self) {
        self.release();
        // It has ended if it cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::time::Duration;

    use rustix::process::test_kill_process;

    use super::*;
    use crate::{Scene, etcd, eventually};

    /// What a test has started ends with it, also when nobody can tell it to: etcd, and a program.
    #[tokio::test]
    async fn nothing_outlives_a_killed_test() {
        if !etcd::is_there() {
            return;
        }
        let mut test = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "leash::tests::is_killed", "--nocapture"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(test.stdout.take().unwrap()).lines();
        let ids = lines
            .map_while(Result::ok)
            .find_map(|line| Some(line.split_once("started ")?.1.to_owned()));
        test.kill().unwrap();
        test.wait().unwrap();
        for id in ids.expect("it starts them").split(' ') {
            let id = id.parse().unwrap();
            eventually("it is gone", async || (!runs(id)).then_some(())).await;
        }
    }

    #[test]
    #[ignore = "is started and killed by the test above"]
    fn is_killed() {
        let (scene, server) = (Scene::new(), etcd::Server::start());
        let program = scene.run("sleep", "program", &["60"]);
        println!("started {} {}", server.id(), program.id());
        std::thread::sleep(Duration::from_secs(60));
    }

    /// One that has ended is not running, though nobody may have waited for it.
    fn runs(id: i32) -> bool {
        match std::fs::read_to_string(format!("/proc/{id}/stat")) {
            Ok(stat) => !stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')),
            Err(_) => test_kill_process(Pid::from_raw(id).unwrap()).is_ok(),
        }
    }
}
