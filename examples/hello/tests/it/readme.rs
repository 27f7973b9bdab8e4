//! The README's transcripts against the program: the same but for ids and ports.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use testbed::Scene;

use crate::hello::{Hello, has_curl, shell};

/// Every command in the README's transcripts exists and prints what stands there.
#[tokio::test]
async fn transcripts_are_true() {
    let scene = Scene::new();
    let hello = Hello::start(&scene, "hello", &[]).await;
    let transcripts = transcripts(README);
    let commands: Vec<_> = transcripts.iter().map(|transcript| transcript.command).collect();
    assert_eq!(commands[..2], ["cargo run -p hello", "./test"], "the README opens with these");
    assert!(commands.iter().any(|command| command.starts_with("curl ")), "{commands:?}");
    for Transcript { command, output } in transcripts {
        match command {
            "cargo run -p hello" => assert_eq!(masked(&output), masked(&hello.process.stdout())),
            "./test" => {
                let test = Path::new(ROOT).join("test").metadata().unwrap();
                assert!(test.permissions().mode() & 0o100 != 0, "./test is not executable");
                assert_eq!(output, "", "what ./test prints depends on the machine");
            }
            // The program's own tests run these, and those that ask the gateway.
            micro if micro.starts_with("micro ") => {}
            curl if curl.starts_with("curl ") && curl.contains("localhost:8080") => {}
            curl if curl.starts_with("curl ") => {
                if has_curl() {
                    let printed = shell(&with_address(curl, &hello.address));
                    assert_eq!(output.trim_end(), printed.trim_end(), "{curl}");
                }
            }
            other => panic!("nothing checks the transcript of {other:?}: add it here"),
        }
    }
}

const README: &str = include_str!("../../../../README.md");
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// A command, and the lines it prints.
struct Transcript<'a> {
    command: &'a str,
    output: String,
}

fn transcripts(text: &str) -> Vec<Transcript<'_>> {
    let mut transcripts: Vec<Transcript<'_>> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        match (inside, line) {
            (_, "```console") => inside = true,
            (_, "```") => inside = false,
            (false, _) => {}
            (true, line) => match (line.strip_prefix("$ "), transcripts.last_mut()) {
                (Some(command), _) => {
                    transcripts.push(Transcript { command, output: String::new() });
                }
                (None, Some(transcript)) => transcript.output += &format!("{line}\n"),
                (None, None) => panic!("a transcript begins with its command, not {line:?}"),
            },
        }
    }
    transcripts
}

/// The text without what differs from run to run: ids, and the ports of addresses.
fn masked(text: &str) -> String {
    let word = |word: &str| match word {
        id if id.len() == 36 && id.split('-').map(str::len).eq([8, 4, 4, 4, 12]) => "ID".to_owned(),
        word => with_address(word, "ADDRESS"),
    };
    let line = |line: &str| line.split(' ').map(word).collect::<Vec<_>>().join(" ");
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// The text with another address in place of its loopback address and port.
fn with_address(text: &str, address: &str) -> String {
    let Some((before, after)) = text.split_once("127.0.0.1:") else { return text.to_owned() };
    let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
    format!("{before}{address}{after}")
}
