//! Mistakes in contracts and errors, and what users are told of them.

use std::process::Command;

/// The compiler in whose words the mistakes are told that only it can see.
const COMPILER: &str = "rustc 1.95.";

/// Mistakes are errors at the right place that say what to write, one each.
#[test]
fn macro_errors() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/*.rs");
    let compiler = compiler();
    if compiler.starts_with(COMPILER) {
        cases.compile_fail("tests/ui/compiler/*.rs");
    } else {
        eprintln!("skipped tests/ui/compiler: this is {compiler}, and not {COMPILER}x");
    }
}

fn compiler() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output().expect("there is a compiler");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
