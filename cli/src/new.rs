//! `micro new`: a workspace to begin with.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::failure::Failure;
use crate::print;

/// Makes a workspace to begin with: a contract, a server with a test, a client.
#[derive(Args, Debug)]
pub(crate) struct New {
    /// Name of the service, and of the directory that is made for it: a-z, 0-9 and -
    #[arg(value_name = "NAME", value_parser = name)]
    name: String,
    /// Checkout of micro to build against [default: its repository]
    #[arg(long, value_name = "DIRECTORY")]
    micro: Option<PathBuf>,
}

impl New {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let Self { name, micro } = self;
        let root = Path::new(&name);
        let micro = match &micro {
            Some(checkout) => format!("path = {:?}", crate_of(checkout)?),
            None => format!("git = {:?}", env!("CARGO_PKG_REPOSITORY")),
        };
        let unmade = |path: &Path, error: io::Error| {
            Failure::usage(format!("{} cannot be made: {error}", path.display()))
        };
        // What is there already is somebody's work.
        std::fs::create_dir(root).map_err(|error| unmade(root, error))?;
        let mut made = String::new();
        for (path, template) in FILES {
            let path = root.join(path);
            let folder = path.parent().unwrap_or(root);
            std::fs::create_dir_all(folder).map_err(|error| unmade(folder, error))?;
            let text = filled(template, &name, &micro);
            std::fs::write(&path, text).map_err(|error| unmade(&path, error))?;
            made += &format!("{}\n", path.display());
        }
        // How lines break, and which import comes first, is the name's doing. Where there is no
        // rustfmt nobody minds. `--all` would include the checkout.
        let _ = Command::new("cargo").arg("fmt").current_dir(root).output();
        print::talk(&filled(NEXT, &name, &micro));
        print::text(&made)
    }
}

/// The files of the workspace; what stands in double braces in them is filled in.
const FILES: [(&str, &str); 10] = [
    (".gitignore", "/target\n"),
    ("Cargo.toml", include_str!("../template/Cargo.toml.in")),
    ("contract/Cargo.toml", include_str!("../template/contract/Cargo.toml.in")),
    ("contract/src/lib.rs", include_str!("../template/contract/src/lib.rs.in")),
    ("server/Cargo.toml", include_str!("../template/server/Cargo.toml.in")),
    ("server/src/lib.rs", include_str!("../template/server/src/lib.rs.in")),
    ("server/src/main.rs", include_str!("../template/server/src/main.rs.in")),
    ("server/tests/it/main.rs", include_str!("../template/server/tests/it/main.rs.in")),
    ("client/Cargo.toml", include_str!("../template/client/Cargo.toml.in")),
    ("client/src/main.rs", include_str!("../template/client/src/main.rs.in")),
];

const NEXT: &str = "
Next, in {{name}}/:
  cargo test
  cargo run -p {{name}}-server
  cargo run -p {{name}}-client Ann
  micro call {{name}}.hello --name Ann
";

/// A template with this service in it.
fn filled(template: &str, name: &str, micro: &str) -> String {
    let pascal = name.split('-').map(|word| word[..1].to_ascii_uppercase() + &word[1..]);
    let pascal = pascal.collect::<String>();
    template
        .replace("{{{Name}}", &format!("{{{pascal}"))
        .replace("{{Name}}", &pascal)
        .replace("{{name}}", name)
        .replace("{{crate}}", &name.replace('-', "_"))
        .replace("{{micro}}", micro)
}

/// A name that makes names of packages, of a trait and of a service: `shop`, `corner-shop`.
fn name(text: &str) -> Result<String, String> {
    let is_word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_lowercase())
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    if !text.split('-').all(is_word) {
        return Err("expected words of a-z and 0-9 with - between, such as corner-shop".to_owned());
    }
    if TAKEN.contains(&text) {
        return Err("its trait would have the name of something else in Rust".to_owned());
    }
    Ok(text.to_owned())
}

/// As a trait, each of these hides what a contract is written with.
const TAKEN: [&str; 5] = ["self", "result", "string", "serialize", "deserialize"];

/// The crate in a checkout, as the manifests of another directory name it.
fn crate_of(checkout: &Path) -> Result<PathBuf, Failure> {
    let absent = |error: io::Error| {
        Failure::usage(format!("there is no checkout of micro at {}: {error}", checkout.display()))
    };
    let folder = checkout.join("micro");
    std::fs::metadata(folder.join("Cargo.toml")).map_err(absent)?;
    folder.canonicalize().map_err(absent)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name fills all the forms that Rust and micro need of it.
    #[test]
    fn names_take_every_form() {
        let template = "{{name}} {{Name}} {{crate}} {{{Name}}, X} {{micro}}";
        let expected = "corner-shop2 CornerShop2 corner_shop2 {CornerShop2, X} path";
        assert_eq!(filled(template, "corner-shop2", "path"), expected);
        for (_, template) in FILES {
            assert!(!filled(template, "shop", "path").contains("{{"), "{template}");
        }
        for taken in ["self", "result", "serialize"] {
            assert!(name(taken).unwrap_err().contains("something else in Rust"), "{taken}");
        }
        for good in ["match", "type", "async", "english", "corner-shop2"] {
            assert_eq!(name(good).as_deref(), Ok(good));
        }
        for wrong in ["", "Shop", "2shop", "shop-", "-shop", "a_b", "a/b", "..", "self", "a-2"] {
            assert!(name(wrong).is_err(), "{wrong}");
        }
    }
}
