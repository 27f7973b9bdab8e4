//! The tutorial against its bakery: the files are the page's, and the story it tells happens.

use std::path::Path;

use testbed::{Scene, Signal, eventually};

const PAGE: &str = include_str!("../../../../docs/src/tutorial.md");
const KITCHEN: &str = env!("CARGO_BIN_EXE_kitchen");
const TILL: &str = env!("CARGO_BIN_EXE_till");
const COUNTER: &str = env!("CARGO_BIN_EXE_counter");
const CUSTOMER: &str = env!("CARGO_BIN_EXE_customer");

/// Every file the page prints is the file of this crate, and every file of it is printed.
#[test]
fn the_page_prints_these_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut printed = Vec::new();
    for part in PAGE.split("\n`src/").skip(1) {
        let (name, rest) = part.split_once("`:\n\n```rust\n").expect("a file follows its name");
        let (text, _) = rest.split_once("```\n").expect("the block ends");
        let file = root.join("src").join(name);
        let is = std::fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(text, is, "{} is not what the tutorial prints", file.display());
        printed.push(file);
    }
    let programs = root.join("src/bin").read_dir().expect("it has programs");
    for program in programs.map(|program| program.expect("it can be read").path()) {
        assert!(printed.contains(&program), "the tutorial does not print {}", program.display());
    }
}

/// Two ovens share the work, the death of one fails nobody, and errors come through two hops.
#[tokio::test]
async fn the_story_happens() {
    let scene = Scene::new();
    let kitchens = [scene.run(KITCHEN, "kitchen-1", &[]), scene.run(KITCHEN, "kitchen-2", &[])];
    let (_till, _counter) = (scene.run(TILL, "till", &[]), scene.run(COUNTER, "counter", &[]));
    let customer = scene.run(CUSTOMER, "customer", &[]);
    let bought = |oven: u32| {
        let bread = format!("bread from oven {oven}, takings ");
        customer.stdout().matches(&bread).count()
    };
    for kitchen in &kitchens {
        let what = format!("oven {} bakes", kitchen.id());
        eventually(&what, async || (bought(kitchen.id()) > 0).then_some(())).await;
    }
    let [first, second] = &kitchens;
    first.signal(Signal::KILL);
    let before = bought(second.id());
    eventually("the other goes on", async || (bought(second.id()) > before + 5).then_some(()))
        .await;
    // Before the counter and the kitchens were there an order may have come too early.
    let sales = customer.stdout();
    let (_, sales) = sales.split_once("bread from").expect("there were sales");
    assert!(!sales.contains("no bread"), "{sales}");

    let picky = scene.run(CUSTOMER, "picky", &["brick"]);
    let expected = "nobody here knows how to bake brick";
    eventually("the kitchen says no", async || picky.stdout().contains(expected).then_some(()))
        .await;

    second.signal(Signal::TERM);
    eventually("the customer is told", async || {
        let said = customer.stdout();
        let missing = said.lines().find(|line| line.contains("no node of service `kitchen`"))?;
        assert!(missing.starts_with("no bread: counter/order of counter: not_found"), "{missing}");
        Some(())
    })
    .await;
}
