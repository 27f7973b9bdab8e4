//! The README's transcripts of `micro` and of a gateway: the same but for the node's id and the port.

use std::io::Write;
use std::process::Command;

use micro::Service;
use testbed::eventually;

use crate::shop::{MICRO, Town, registered};

/// The greeter of `examples/hello`.
mod hello {
    /// Greets people.
    #[micro::service]
    pub trait Greeter {
        /// Greets someone by name.
        #[rpc(idempotent)]
        async fn hello(&self, name: String) -> String;
    }

    pub(super) struct English;

    impl Greeter for English {
        async fn hello(&self, name: String) -> String {
            format!("Hello, {name}!")
        }
    }
}

/// Every command of `micro` in the README prints what stands there.
#[tokio::test]
async fn transcripts_are_true() {
    let town = Town::new();
    let greeter = hello::GreeterServer::new(hello::English);
    let service = Service::new().settings(town.settings()).id(ID).serve(greeter);
    let _greeter = registered(service).await;
    let transcripts = transcripts(README, "micro ");
    assert!(transcripts.len() >= 4, "{transcripts:?}");
    let ends = |(command, _): &(&str, String)| !command.starts_with("micro watch ");
    for (command, expected) in transcripts.into_iter().filter(ends) {
        let words: Vec<_> = command.split(' ').skip(1).collect();
        let ended = town.micro(&words).await;
        assert_eq!(format!("{}{}", ended.stdout, ended.stderr), expected, "{command}");
    }
}

/// What the README's watch tells of a node that is there, and of one that comes and goes, it tells.
#[tokio::test]
async fn the_watch_is_true() {
    let transcripts = transcripts(README, "micro watch ");
    let [(command, expected)] = &*transcripts else { panic!("{transcripts:?}") };
    let words: Vec<_> = command.split(' ').skip(1).collect();
    let town = Town::new();
    let greeter = async |id: &str| {
        let greeter = hello::GreeterServer::new(hello::English);
        registered(Service::new().settings(town.settings()).id(id).serve(greeter)).await
    };
    let first = greeter(ID).await;
    let watch = town.scene.run(MICRO, "watch", &words);
    let shown = async |lines: usize| {
        eventually("as many lines", async || {
            let printed = watch.stdout();
            (printed.lines().count() >= lines).then_some(printed)
        })
        .await
    };
    shown(1).await;
    let second = greeter(OTHER_ID).await;
    shown(2).await;
    let [stays, goes] = [&first, &second].map(|node| node.registration().node.address.clone());
    second.shutdown().await;
    let expected = expected.replace("127.0.0.1:41235", &stays).replace("127.0.0.1:36017", &goes);
    assert_eq!(shown(expected.lines().count()).await, expected);
}

/// Every `curl` of the gateway in the README prints what stands there.
#[tokio::test]
async fn transcripts_of_the_gateway_are_true() {
    let town = Town::new();
    let greeter = hello::GreeterServer::new(hello::English);
    let _greeter = registered(Service::new().settings(town.settings()).id(ID).serve(greeter)).await;
    let gateway = town.gateway(None).await;
    let transcripts: Vec<_> = transcripts(README, "curl ")
        .into_iter()
        .filter(|(command, _)| command.contains("localhost:8080"))
        .collect();
    assert!(transcripts.len() >= 3, "{transcripts:?}");
    for (command, expected) in transcripts {
        let line = command.replace("localhost:8080", &gateway.address().to_string());
        let printed = tokio::task::spawn_blocking(move || curl(&line)).await.unwrap();
        if let Some(printed) = printed {
            assert_eq!(printed.trim_end(), expected.trim_end(), "{command}");
        }
    }
}

/// What a line of a shell prints that runs `curl`, if that is installed; says so when it is not.
fn curl(line: &str) -> Option<String> {
    if Command::new("curl").arg("--version").output().is_err() {
        // Past the capture of the test harness.
        let _ =
            writeln!(std::io::stderr(), "SKIPPED: curl is not installed, its lines are not run");
        return None;
    }
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    Some(String::from_utf8(output.stdout).unwrap())
}

const README: &str = include_str!("../../../README.md");
/// That of the README.
const ID: &str = "01990d3e-5c1b-7c52-9d52-0f9a53d2c7be";

/// That of the node which comes and goes.
const OTHER_ID: &str = "01990d52-91a4-70f3-8a6c-3c1de5a1f0b7";

/// Each command that begins so, and the lines it prints.
fn transcripts<'a>(text: &'a str, begin: &str) -> Vec<(&'a str, String)> {
    let mut transcripts = Vec::new();
    for block in text.split("```console\n").skip(1) {
        let block = block.split("```").next().unwrap_or_default();
        for transcript in block.split("$ ").skip(1) {
            let (command, output) = transcript.split_once('\n').unwrap_or((transcript, ""));
            if command.starts_with(begin) {
                transcripts.push((command, output.trim_end_matches('\n').to_owned() + "\n"));
            }
        }
    }
    transcripts
}
