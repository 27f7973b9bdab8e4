//! `micro new`: what it makes builds, passes its test and is formatted.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::shop::{MICRO, Town};

/// The checkout this is a part of.
const CHECKOUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Runs cargo there, without the network, building where this was built.
async fn cargo(directory: PathBuf, arguments: &[&str]) -> Output {
    let target = Path::new(MICRO).ancestors().nth(2).expect("it is in target/debug").to_owned();
    let mut command = Command::new(env!("CARGO"));
    command.args(arguments).current_dir(directory).env("CARGO_TARGET_DIR", target);
    // As the workspace has it, so that what it has built serves here too.
    command.env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only");
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// A workspace that was just made against this checkout passes its test as it stands.
#[tokio::test]
async fn what_it_makes_passes_its_test() {
    let town = Town::new();
    let made = town.micro(&["new", "corner-shop", "--micro", CHECKOUT]).await.ok();
    assert!(made.stdout.contains("corner-shop/server/tests/it/main.rs\n"), "{made:?}");
    assert!(made.stderr.contains("micro call corner-shop.hello --name Ann"), "{made:?}");
    let directory = town.scene.directory().join("corner-shop");
    // The same versions as here, all of which are there.
    std::fs::copy(format!("{CHECKOUT}/Cargo.lock"), directory.join("Cargo.lock")).unwrap();
    let formatted = cargo(directory.clone(), &["fmt", "--check"]).await;
    assert!(formatted.status.success(), "{}", String::from_utf8_lossy(&formatted.stdout));
    let tested = cargo(directory, &["test", "--offline", "--quiet", "--workspace"]).await;
    let (stdout, stderr) =
        (String::from_utf8_lossy(&tested.stdout), String::from_utf8_lossy(&tested.stderr));
    assert!(tested.status.success(), "{stdout}\n{stderr}");
    assert!(stdout.contains("2 passed"), "{stdout}\n{stderr}");
    assert!(!stderr.contains("warning"), "{stderr}");
}

/// Without a checkout it builds against the repository, and what is there already stays as it is.
#[tokio::test]
async fn what_is_there_stays() {
    let town = Town::new();
    town.micro(&["new", "shop"]).await.ok();
    let manifest = town.scene.directory().join("shop/Cargo.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    assert!(text.contains("micro = { git = \"https://github.com/"), "{text}");
    std::fs::write(&manifest, "mine").unwrap();
    for (line, expected) in [
        (&["new", "shop"][..], "shop cannot be made"),
        (&["new", "Shop"], "such as corner-shop"),
        (&["new", "other", "--micro", "/nosuch"], "there is no checkout of micro at /nosuch"),
    ] {
        let ended = town.micro(line).await;
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains(expected), "{ended:?}");
    }
    assert_eq!(std::fs::read_to_string(&manifest).unwrap(), "mine");
    assert!(!town.scene.directory().join("other").exists());
}

/// It is whole when nobody reads what it says, and leaves the checkout that it builds against alone.
#[tokio::test]
async fn it_is_whole_and_touches_nothing_else() {
    const UNFORMATTED: &str = "pub  fn f( ){}\n";
    let town = Town::new();
    let directory = town.scene.directory().to_owned();
    let source = directory.join("checkout/micro/src/lib.rs");
    std::fs::create_dir_all(source.parent().unwrap()).unwrap();
    std::fs::write(&source, UNFORMATTED).unwrap();
    let manifest = "[package]\nname = \"micro\"\nedition = \"2024\"\n[workspace]\n";
    std::fs::write(directory.join("checkout/micro/Cargo.toml"), manifest).unwrap();
    let mut command = Command::new(MICRO);
    command.args(["new", "shop", "--micro", "checkout"]).current_dir(&directory);
    command.stdout(std::io::pipe().unwrap().1).stderr(std::io::pipe().unwrap().1);
    let status = tokio::task::spawn_blocking(move || command.status().unwrap()).await.unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(directory.join("shop/client/src/main.rs").exists());
    assert_eq!(std::fs::read_to_string(source).unwrap(), UNFORMATTED);
}
