//! What shells offer while somebody types.

use std::path::Path;
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

/// What bash offers at the end of this line, by the script that it is given.
async fn offered(town: &Town, line: &str) -> Vec<String> {
    let script = town.micro(&["completions", "bash"]).await.ok().stdout;
    let words = broken(line);
    let (index, before) = (words.len() - 1, &words[words.len() - 2]);
    // At a break that ends the line there is nothing yet to be replaced.
    let begun = words[index].trim_end_matches([':', '=']);
    let run = r#"
        COMP_LINE=$1 COMP_POINT=${#1} COMP_CWORD=$2 COMP_TYPE=9 begun=$3 before=$4
        COMP_WORDS=("${@:5}")
        _micro_complete micro "$begun" "$before"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", &format!("{script}\n{run}"), "bash", line]);
    bash.args([&index.to_string(), begun, before]).args(&words).current_dir(town.scene.directory());
    let programs = Path::new(MICRO).parent().unwrap().display();
    bash.env_clear().env("PATH", format!("{programs}:{}", std::env::var("PATH").unwrap()));
    let output = tokio::task::spawn_blocking(move || bash.output().unwrap()).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{line}");
    let printed = String::from_utf8(output.stdout).unwrap();
    printed.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// The words of a line as bash breaks them: at `:` and `=`, which are words themselves, and at
/// spaces that are not in quotes.
fn broken(line: &str) -> Vec<String> {
    let (mut words, mut is_quoted) = (vec![String::new()], false);
    for c in line.chars() {
        let last = words.last_mut().unwrap();
        let is_break = |c: char| c == ':' || c == '=';
        is_quoted ^= c == '"';
        match c {
            ' ' if !is_quoted => words.push(String::new()),
            c if is_quoted || last.is_empty() || is_break(c) == last.ends_with(is_break) => {
                last.push(c);
            }
            c => words.push(c.to_string()),
        }
    }
    words
}

/// Bash, which breaks words at `:` and `=`, offers what there is in the registry of the line, and
/// only what comes after the last break.
#[tokio::test]
async fn bash_completes_beside_urls() {
    let town = Town::new();
    let _shop = town.open("a").await;
    let here = town.scene.url();
    let other = "static:other=127.0.0.1:1";
    assert_eq!(
        broken(r#"micro --registry=local:/tmp "a b" "#),
        ["micro", "--registry", "=", "local", ":", "/tmp", "\"a b\"", ""]
    );
    for (line, expected) in [
        (format!("micro --registry {here} call shop.w"), &["shop.wait"][..]),
        (format!("micro --registry={here} call shop.w"), &["shop.wait"]),
        (format!("micro call --registry \"{here}\" shop.w"), &["shop.wait"]),
        (format!("micro --registry={other} describe o"), &["other"]),
        (format!("micro  describe   --registry  {other}  o"), &["other"]),
        (format!("micro --registry={other} call shop.w"), &[]),
        ("micro --registry local: desc".to_owned(), &["describe"]),
        ("micro services --output=js".to_owned(), &["json"]),
        ("micro services --output=".to_owned(), &["table", "wide", "json", "yaml"]),
        ("micro services --outp".to_owned(), &["--output"]),
        ("micro services --output js".to_owned(), &["json"]),
    ] {
        assert_eq!(offered(&town, &line).await, expected, "{line}");
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
