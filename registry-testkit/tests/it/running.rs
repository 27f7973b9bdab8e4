//! The suite itself: what it runs, gives up, leaves out, and says.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use micro_registry::Registry;
use micro_registry_testkit::{Backend, Fencing, Line, Outcome, Profile, Report, Suite};

use crate::backends::Memory;
use crate::mutant::{Flaw, Mutants};

/// What is wrong with a backend of which nothing can be said.
#[derive(Clone, Copy)]
enum Trouble {
    Panics,
    NeverOpens,
    BlocksItsThread,
}

struct Troubled(Trouble);

#[async_trait]
impl Backend for Troubled {
    async fn open(&self, namespace: &str) -> Arc<dyn Registry> {
        match self.0 {
            Trouble::Panics => panic!("no {namespace} today"),
            Trouble::NeverOpens => std::future::pending().await,
            Trouble::BlocksItsThread => loop {
                std::thread::park();
            },
        }
    }
}

/// One case, on a backend in trouble.
async fn tried(trouble: Trouble) -> Report {
    let mut profile = Profile::default();
    profile.limit = Duration::from_millis(100);
    Suite::new(profile).only("round_trip").run(async move || Troubled(trouble)).await
}

/// A backend that panics or does not come back breaks the case's line, and the report comes anyway.
#[tokio::test]
async fn trouble_is_reported() {
    for (trouble, said) in [
        (Trouble::Panics, "panicked: no default today"),
        (Trouble::NeverOpens, "did not end within 100ms"),
        (Trouble::BlocksItsThread, "blocked its thread for more than 100ms"),
    ] {
        let report = tried(trouble).await;
        assert_eq!(report.broken_lines(), [Line::Register].into());
        let expected = format!(
            "contract line 1 (register is an idempotent upsert with a TTL, and the only heartbeat) \
             broken by case \"round_trip\": {said}"
        );
        assert!(report.to_string().ends_with(&expected), "{report}");
    }
}

/// What is broken is a panic of the short form, with the line and the case.
#[tokio::test]
#[should_panic(expected = "broken by case \"unknown_is_not_found\"")]
async fn the_short_form_panics() {
    let mut profile = Profile::default();
    profile.settle = Duration::from_secs(1);
    profile.max_nodes = 10;
    micro_registry_testkit::suite(async || Mutants::new(Flaw::EmptyForUnknown), profile).await;
}

/// What a weaker profile leaves out is said, with the reason.
#[tokio::test]
async fn weakness_is_said() {
    let mut profile = Profile::default();
    profile.fencing = Fencing::None;
    let weak =
        Suite::new(profile).only("epoch").run(async || Mutants::new(Flaw::AcceptsLowerEpochs));
    let report = weak.await;
    assert!(report.is_kept(), "{report}");
    let said = report.to_string();
    assert!(said.contains("profile: weaker than the contract: no fencing"), "{said}");
    for name in ["a_lower_epoch_is_refused", "a_lower_epoch_follows_the_dead"] {
        let case = report.cases.iter().find(|case| case.name == name).unwrap();
        assert!(matches!(&case.outcome, Outcome::Skipped(why) if why.starts_with("profile:")));
        assert!(said.lines().any(|line| line.contains(name) && line.contains("profile:")));
    }
}

/// A fault the backend does not have skips the case.
#[tokio::test]
async fn a_missing_fault_is_said() {
    let suite = Suite::new(Profile::default()).only("the_store_hangs");
    let report = suite.run(async || Memory::default()).await;
    let [case] = &report.cases[..] else { panic!("{report}") };
    assert_eq!(case.outcome, Outcome::Skipped("the backend has no such fault".into()));
}

/// A name that no case has is refused, with those there are.
#[tokio::test]
#[should_panic(expected = "no case is called \"typo\"; there are: round_trip, ")]
async fn an_unknown_case_is_refused() {
    Suite::new(Profile::default()).only("typo").run(async || Memory::default()).await;
}
