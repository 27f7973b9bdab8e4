//! Which crate may know which, and what every member of the workspace has in common.
//!
//! Read from `cargo metadata` and the manifests, so that a dependency which turns the layers round
//! fails here and not in a review. Only what a crate is built from counts: tests may use anything.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

/// Each member is of a kind that has a rule below; a new one gets its rule before it gets code.
#[test]
fn every_member_has_a_rule() {
    for package in Workspace::load().packages {
        let known = [
            "micro",
            "micro-gateway",
            PROGRAM,
            "micro-macros",
            "micro-overload",
            "micro-registry",
            "micro-rpc",
            "micro-selector",
            TESTBED,
            TESTKIT,
        ];
        assert!(
            known.contains(&package.name.as_str()) || package.is_backend() || package.is_example(),
            "{} has no rule in {}: say there which crates it may know",
            package.name,
            file!(),
        );
    }
}

/// Folder `x` is package `micro-x`; the facade is `micro`, and examples go by their own name.
#[test]
fn every_package_is_named_after_its_folder() {
    for package in Workspace::load().packages {
        let folder = package.folder.to_str().expect("folders of the workspace are UTF-8");
        let name = match folder.strip_prefix("examples/") {
            Some(example) => example.to_owned(),
            None if folder == "micro" => folder.to_owned(),
            None => format!("micro-{folder}"),
        };
        assert_eq!(package.name, name, "the package in {folder}/ has another name than its folder");
    }
}

/// Every member is of edition 2024.
#[test]
fn every_member_is_of_edition_2024() {
    for package in Workspace::load().packages {
        assert_eq!(package.edition, "2024", "{} is of another edition", package.name);
    }
}

/// Every member takes the lints of the workspace.
#[test]
fn every_member_takes_the_lints_of_the_workspace() {
    for package in Workspace::load().packages {
        let manifest = std::fs::read_to_string(&package.manifest_path)
            .unwrap_or_else(|error| panic!("{}: {error}", package.manifest_path.display()));
        let manifest: toml::Table = toml::from_str(&manifest)
            .unwrap_or_else(|error| panic!("{}: {error}", package.manifest_path.display()));
        let inherited = manifest.get("lints").and_then(|lints| lints.get("workspace"));
        assert_eq!(
            inherited.and_then(toml::Value::as_bool),
            Some(true),
            "the manifest of {} lacks `[lints] workspace = true`",
            package.name,
        );
    }
}

/// The documentation of every published crate is built with all features, each labelled.
#[test]
fn published_documentation_has_all_features() {
    for package in Workspace::load().packages {
        if package.publish.as_ref().is_some_and(Vec::is_empty) {
            continue;
        }
        let docs = package.metadata.pointer("/docs/rs").cloned().unwrap_or_default();
        let expected =
            serde_json::json!({ "all-features": true, "rustdoc-args": ["--cfg", "docsrs"] });
        assert_eq!(docs, expected, "[package.metadata.docs.rs] of {}", package.name);
        let library = package.manifest_path.with_file_name("src").join("lib.rs");
        let library = std::fs::read_to_string(library).expect("what is published is a library");
        let labels = "#![cfg_attr(docsrs, feature(doc_cfg))]";
        assert!(library.contains(labels), "{} lacks `{labels}`", package.name);
    }
}

/// The registry stands on nothing of ours: third parties build backends on it alone.
#[test]
fn the_registry_knows_no_other_crate() {
    Workspace::load().assert_knows("micro-registry", &[]);
}

/// The registry opens no socket and watches no file: that is what backends are for.
#[test]
fn the_registry_knows_no_socket() {
    let workspace = Workspace::load();
    let registry = workspace.package("micro-registry");
    for dependency in registry.built_from() {
        assert!(
            !SOCKETS.contains(&dependency.name.as_str()),
            "micro-registry depends on {}, which does I/O",
            dependency.name,
        );
        if dependency.name == "tokio" {
            for feature in ["net", "full", "fs", "process"] {
                assert!(
                    !dependency.features.iter().any(|enabled| enabled == feature),
                    "micro-registry takes tokio with `{feature}`, which does I/O",
                );
            }
        }
    }
}

/// A backend knows the registry only: no other backend, no selector, not the facade.
#[test]
fn backends_know_the_registry_only() {
    let workspace = Workspace::load();
    for backend in workspace.packages.iter().filter(|package| package.is_backend()) {
        workspace.assert_knows(&backend.name, &["micro-registry"]);
    }
}

/// The suite judges backends by the registry's contract: it knows that, and none of them.
#[test]
fn the_testkit_knows_the_registry_only() {
    Workspace::load().assert_knows(TESTKIT, &["micro-registry"]);
}

/// What tests start processes with knows nothing of what is tested, and is built into nothing.
#[test]
fn the_testbed_stands_aside() {
    let workspace = Workspace::load();
    workspace.assert_knows(TESTBED, &[]);
    for package in &workspace.packages {
        let is_built_in = package.built_from().any(|dependency| dependency.name == TESTBED);
        assert!(!is_built_in, "{} is built from {TESTBED}: it is for tests", package.name);
    }
}

/// The engine calls addresses; where they come from is none of its business.
#[test]
fn the_engine_knows_the_limiter_only() {
    Workspace::load().assert_knows("micro-rpc", &["micro-overload"]);
}

/// The limiter is told when calls begin and end, and knows nothing of what they are.
#[test]
fn the_limiter_knows_no_other_crate() {
    Workspace::load().assert_knows("micro-overload", &[]);
}

/// The selector chooses among what the registry tells, and knows neither engine nor backends; one of
/// its layers is the limit of `overload`.
#[test]
fn the_selector_knows_registry_and_overload_only() {
    Workspace::load().assert_knows("micro-selector", &["micro-overload", "micro-registry"]);
}

/// The macros generate names of `micro`, and depend on none.
#[test]
fn the_macros_know_no_other_crate() {
    Workspace::load().assert_knows("micro-macros", &[]);
}

/// The facade joins the layers below it and the backends, and knows no program or example.
#[test]
fn the_facade_knows_the_layers_and_the_backends() {
    let workspace = Workspace::load();
    let mut allowed = vec!["micro-macros", "micro-registry", "micro-rpc", "micro-selector"];
    let backends = workspace.packages.iter().filter(|package| package.is_backend());
    allowed.extend(backends.map(|backend| backend.name.as_str()));
    workspace.assert_knows("micro", &allowed);
}

/// The facade names backend `micro-registry-x` behind its feature `x`, and behind no other.
#[test]
fn the_facade_names_a_backend_only_behind_its_feature() {
    let workspace = Workspace::load();
    let micro = workspace.package("micro");
    for dependency in micro.built_from() {
        let Some(feature) = dependency.name.strip_prefix(BACKEND) else { continue };
        assert!(dependency.optional, "micro always depends on {}", dependency.name);

        let switch = format!("dep:{}", dependency.name);
        let named = |enabled: &String| {
            *enabled == switch || enabled.starts_with(&format!("{}/", dependency.name))
        };
        let features = micro.features.iter().filter(|(_, enables)| enables.iter().any(named));
        let features: Vec<_> = features.map(|(feature, _)| feature.as_str()).collect();
        assert_eq!(features, [feature], "features of micro that enable {}", dependency.name);
    }
}

/// The default features bring the registries that need no server; one that does is opted into.
#[test]
fn the_default_features_bring_no_registry_with_a_server() {
    let workspace = Workspace::load();
    let enabled = workspace.package("micro").enabled_by("default");
    let backends: Vec<_> = enabled
        .iter()
        .filter_map(|feature| feature.strip_prefix("dep:")?.strip_prefix(BACKEND))
        .collect();
    assert_eq!(backends, ["local", "mdns"], "backends in the default features of micro");
}

/// What stands in front of services calls them as everybody does, whatever registry they are in.
#[test]
fn the_gateway_knows_the_facade_only() {
    Workspace::load().assert_knows("micro-gateway", &["micro"]);
}

/// What is mounted in a web application is a tower service: which framework is the user's choice.
#[test]
fn no_library_knows_a_web_framework() {
    let workspace = Workspace::load();
    for library in workspace.packages.iter().filter(|package| !package.is_example()) {
        for dependency in library.built_from() {
            assert!(
                !WEB_FRAMEWORKS.contains(&dependency.name.as_str()),
                "{} depends on {}",
                library.name,
                dependency.name,
            );
        }
    }
}

/// Examples show what a user writes, so they depend on what a user depends on.
#[test]
fn examples_know_the_facade_only() {
    let workspace = Workspace::load();
    for example in workspace.packages.iter().filter(|package| package.is_example()) {
        workspace.assert_knows(&example.name, &["micro"]);
    }
}

/// The program is one of those who use the facade and the gateway, and sees nothing below them.
#[test]
fn the_program_knows_the_facade_and_the_gateway_only() {
    Workspace::load().assert_knows(PROGRAM, &["micro", "micro-gateway"]);
}

/// What the names of the packages of registry backends begin with.
const BACKEND: &str = "micro-registry-";

/// The `micro` program.
const PROGRAM: &str = "micro-cli";

/// Processes for tests.
const TESTBED: &str = "micro-testbed";

/// Named like a backend, and none: the suite every one of them is judged by.
const TESTKIT: &str = "micro-registry-testkit";

/// Crates whose users write web applications.
const WEB_FRAMEWORKS: &[&str] = &["actix-web", "axum", "poem", "rocket", "salvo", "warp"];

/// Crates that open sockets or watch files, or exist for crates that do.
const SOCKETS: &[&str] = &[
    "axum",
    "hyper",
    "hyper-util",
    "if-addrs",
    "mio",
    "notify",
    "quinn",
    "reqwest",
    "rustls",
    "socket2",
    "tarpc",
    "tokio-rustls",
    "tonic",
];

struct Workspace {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    edition: String,
    manifest_path: PathBuf,
    /// `None` is everywhere, an empty list nowhere.
    publish: Option<Vec<String>>,
    metadata: serde_json::Value,
    features: BTreeMap<String, Vec<String>>,
    dependencies: Vec<Dependency>,
    /// Where it is, seen from the root of the workspace.
    #[serde(skip)]
    folder: PathBuf,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `None` is a normal one.
    kind: Option<String>,
    optional: bool,
    features: Vec<String>,
}

impl Workspace {
    fn load() -> Self {
        #[derive(Deserialize)]
        struct Metadata {
            packages: Vec<Package>,
            workspace_root: PathBuf,
        }

        // At run time it is the cargo that runs the test; started by hand, the one that built it.
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
        let output = Command::new(cargo)
            .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("cargo starts");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "cargo metadata: {complaint}");

        let Metadata { mut packages, workspace_root } =
            serde_json::from_slice(&output.stdout).expect("cargo metadata prints its format 1");
        for package in &mut packages {
            package.folder = folder(&package.manifest_path, &workspace_root);
        }
        Self { packages }
    }

    fn package(&self, name: &str) -> &Package {
        self.packages
            .iter()
            .find(|package| package.name == name)
            .unwrap_or_else(|| panic!("{name} is not a member of the workspace"))
    }

    /// Asserts that of the workspace's crates, the named one is built from the allowed ones only.
    #[track_caller]
    fn assert_knows(&self, name: &str, allowed: &[&str]) {
        let members: BTreeSet<_> = self.packages.iter().map(|member| &member.name).collect();
        for dependency in self.package(name).built_from() {
            assert!(
                !members.contains(&dependency.name) || allowed.contains(&dependency.name.as_str()),
                "{name} depends on {}, but of this workspace it may know only {allowed:?}",
                dependency.name,
            );
        }
    }
}

impl Package {
    fn is_backend(&self) -> bool {
        self.name.starts_with(BACKEND) && self.name != TESTKIT
    }

    fn is_example(&self) -> bool {
        self.folder.starts_with("examples")
    }

    /// Its normal and build dependencies, on any platform.
    fn built_from(&self) -> impl Iterator<Item = &Dependency> {
        self.dependencies.iter().filter(|dependency| dependency.kind.as_deref() != Some("dev"))
    }

    /// All that the feature enables, directly or through other features of the package.
    fn enabled_by(&self, feature: &str) -> BTreeSet<&str> {
        let mut enabled = BTreeSet::new();
        let mut open = vec![feature];
        while let Some(feature) = open.pop() {
            for next in self.features.get(feature).into_iter().flatten() {
                if enabled.insert(next.as_str()) {
                    open.push(next);
                }
            }
        }
        enabled
    }
}

fn folder(manifest: &Path, root: &Path) -> PathBuf {
    let folder = manifest.parent().expect("a manifest is in a folder");
    folder.strip_prefix(root).expect("members are inside the workspace").to_owned()
}
