//! What shells offer while somebody types.

use std::process::Command;

use crate::shop::{MICRO, Town};

/// What a shell's script gets as candidates for the last of these words.
async fn candidates(town: &Town, words: &[&str]) -> Vec<String> {
    candidates_in("bash", town, words).await
}

async fn candidates_in(shell: &str, town: &Town, words: &[&str]) -> Vec<String> {
    let mut command = Command::new(MICRO);
    let index = (words.len() - 1).to_string();
    command.env_clear().env("MICRO_REGISTRY", town.scene.url());
    command.env("MICRO_COMPLETE", shell).env("_CLAP_COMPLETE_INDEX", index);
    command.env("_CLAP_IFS", "\n").env("_CLAP_COMPLETE_COMP_TYPE", "9");
    command.env("_CLAP_COMPLETE_SPACE", "true").arg("--").args(words);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    printed.lines().map(|line| line.trim().to_owned()).collect()
}

/// Commands, flags, services and methods complete, the latter from what is registered right now.
#[tokio::test]
async fn names_complete_live() {
    let town = Town::new();
    assert_eq!(candidates(&town, &["micro", "describe", "s"]).await, [""; 0]);
    let _shop = town.open("a").await;
    assert_eq!(candidates(&town, &["micro", "serv"]).await, ["services"]);
    assert_eq!(candidates(&town, &["micro", "describe", "s"]).await, ["shop"]);
    assert_eq!(candidates(&town, &["micro", "watch", "s"]).await, ["shop"]);
    assert_eq!(candidates(&town, &["micro", "call", "shop.p"]).await, ["shop.panic", "shop.price"]);
    assert_eq!(candidates(&town, &["micro", "call", "s"]).await.len(), 8);
    assert_eq!(candidates(&town, &["micro", "call", "shop/shop.w"]).await, ["shop/shop.wait"]);
    assert_eq!(candidates(&town, &["micro", "call", "shop.wait", "--timeo"]).await, ["--timeout"]);
    for shell in ["zsh", "fish"] {
        let found = candidates_in(shell, &town, &["micro", "call", "shop.w"]).await;
        // They print what a candidate is as well.
        let [wait] = &*found else { panic!("{shell}: {found:?}") };
        assert!(wait.starts_with("shop.wait") && wait.contains("Waits for so long."), "{wait}");
    }
    for elsewhere in [
        &["micro", "--registry", "static:other=127.0.0.1:1", "describe", ""][..],
        &["micro", "describe", "--registry=static:other=127.0.0.1:1", ""],
    ] {
        assert!(candidates(&town, elsewhere).await.contains(&"other".to_owned()), "{elsewhere:?}");
    }
}

/// There is a script for each shell, which the shell itself can read.
#[tokio::test]
async fn scripts_are_read_by_their_shells() {
    let town = Town::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = town.micro(&["completions", shell]).await.ok().stdout;
        assert!(script.contains("MICRO_COMPLETE"), "{shell}: {script}");
        let file = town.scene.directory().join(shell);
        std::fs::write(&file, &script).unwrap();
        // Shells that are not here are not asked.
        if let Ok(output) = Command::new(shell).arg("-n").arg(&file).output() {
            assert!(output.status.success(), "{shell}: {output:?}");
        }
    }
}
