//! The README's transcripts of `micro`: the same but for the node's id.

use micro::Service;

use crate::shop::{Town, registered};

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
    let transcripts = transcripts(README);
    assert!(transcripts.len() >= 4, "{transcripts:?}");
    for (command, expected) in transcripts {
        let words: Vec<_> = command.split(' ').collect();
        let ended = town.micro(&words).await;
        assert_eq!(format!("{}{}", ended.stdout, ended.stderr), expected, "micro {command}");
    }
}

const README: &str = include_str!("../../../README.md");
/// That of the README.
const ID: &str = "01990d3e-5c1b-7c52-9d52-0f9a53d2c7be";

/// The arguments of each `micro`, and the lines it prints.
fn transcripts(text: &str) -> Vec<(&str, String)> {
    let mut transcripts = Vec::new();
    for block in text.split("```console\n").skip(1) {
        let block = block.split("```").next().unwrap_or_default();
        for transcript in block.split("$ ").skip(1) {
            let (command, output) = transcript.split_once('\n').unwrap_or((transcript, ""));
            if let Some(arguments) = command.strip_prefix("micro ") {
                transcripts.push((arguments, output.trim_end_matches('\n').to_owned() + "\n"));
            }
        }
    }
    transcripts
}
