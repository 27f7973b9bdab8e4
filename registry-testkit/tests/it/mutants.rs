//! The suite finds what is broken, and blames nothing else.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::{StreamExt, stream};
use micro_registry_testkit::{CaseReport, Line, Outcome, Profile, Report, Suite};

use crate::mutant::{DEADLINE, Flaw, Mutants};

/// Each flaw breaks exactly the line of the contract it is a flaw of, and each case of the suite
/// catches one.
#[tokio::test]
async fn each_flaw_breaks_its_line() {
    let judge = |(flaw, line): &(Flaw, Line)| {
        let (flaw, line) = (*flaw, *line);
        async move { (flaw, line, judged(flaw).await) }
    };
    let reports: Vec<_> = stream::iter(FLAWS).map(judge).buffer_unordered(12).collect().await;
    let wrong = reports.iter().filter(|(_, line, report)| report.broken_lines() != [*line].into());
    let wrong: Vec<_> =
        wrong.map(|(flaw, line, report)| format!("{flaw:?} of {line}: {report}")).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));

    let cases = reports.iter().flat_map(|(_, _, report)| &report.cases);
    let (caught, idle): (Vec<_>, Vec<_>) = cases.partition(|case| is_broken(case));
    let caught: BTreeSet<_> = caught.iter().map(|case| case.name).collect();
    let idle: BTreeSet<_> = idle.iter().map(|case| case.name).collect();
    let useless: Vec<_> = idle.difference(&caught).collect();
    assert!(useless.is_empty(), "no flaw is caught by {useless:?}");
}

/// Each line has a flaw, so that no line goes unguarded.
#[test]
fn each_line_has_a_flaw() {
    let lines: BTreeSet<_> = FLAWS.iter().map(|(_, line)| *line).collect();
    assert_eq!(lines, Line::ALL.into());
}

/// What the flaws are put into is judged well without one.
#[tokio::test]
async fn without_a_flaw_no_line_is_broken() {
    let report = judged(Flaw::None).await;
    assert!(report.is_kept(), "{report}");
}

const FLAWS: &[(Flaw, Line)] = &[
    (Flaw::RenewsNeighbours, Line::Register),
    (Flaw::OverlooksMetadata, Line::Register),
    (Flaw::ReplacesOnRenewal, Line::Register),
    (Flaw::NeverLengthensALease, Line::Register),
    (Flaw::FirstComeFirstServed, Line::Register),
    (Flaw::TrustsItsLeases, Line::Register),
    (Flaw::LosesTheZone, Line::Register),
    (Flaw::HidesExpiry, Line::Expiry),
    (Flaw::ServesTheDead, Line::Expiry),
    (Flaw::OutlivesItsProcess, Line::Expiry),
    (Flaw::DeregistersAnyEpoch, Line::Deregister),
    (Flaw::DeregistersOnlyWhatItSees, Line::Deregister),
    (Flaw::DeregistersEverywhere, Line::Deregister),
    (Flaw::ComplainsOfTheGone, Line::Deregister),
    (Flaw::AcceptsLowerEpochs, Line::Fence),
    (Flaw::FencesForever, Line::Fence),
    (Flaw::EmptyForUnknown, Line::Lookup),
    (Flaw::NotFoundWhenAway, Line::Lookup),
    (Flaw::EmptyListWhenAway, Line::Lookup),
    (Flaw::NotFoundForAnEmptyList, Line::Lookup),
    (Flaw::ListsOneVersion, Line::Lookup),
    (Flaw::RemembersMisses, Line::Lookup),
    (Flaw::ChokesOnCorruption, Line::Lookup),
    (Flaw::LosesWhileOpening, Line::Watch),
    (Flaw::ReplaysHistory, Line::Watch),
    (Flaw::TellsInPieces, Line::Watch),
    (Flaw::KeepsTheFirstReset, Line::Watch),
    (Flaw::LagsForLatecomers, Line::Watch),
    (Flaw::LosesTheLastGoodbye, Line::Watch),
    (Flaw::FollowsTheKnownOnly, Line::Watch),
    (Flaw::FollowsTheNeighbours, Line::Watch),
    (Flaw::FailsToWatchWhenAway, Line::Watch),
    (Flaw::EndsOnOutage, Line::Outage),
    (Flaw::NeverComesBack, Line::Outage),
    (Flaw::HidesOutages, Line::Outage),
    (Flaw::CallsExpiryGoodbye, Line::Reason),
    (Flaw::GivesNoReason, Line::Reason),
    (Flaw::CallsAllEmptyNeverSeen, Line::Reason),
    (Flaw::Overflows, Line::SlowConsumer),
    (Flaw::LeaksTheWatch, Line::Drop),
    (Flaw::LeaksTheHandle, Line::Drop),
    (Flaw::MatchesPrefixes, Line::Names),
    (Flaw::DeregistersByPrefix, Line::Names),
    (Flaw::MixesNamespaces, Line::Names),
    (Flaw::IgnoresItsDeadline, Line::Deadline),
    (Flaw::LosesItsLock, Line::Deadline),
    (Flaw::ShowsItsSecret, Line::Errors),
    (Flaw::ShowsItsSecretInErrors, Line::Errors),
    (Flaw::MistypesInvalid, Line::Errors),
    (Flaw::TrimsWhatIsInvalid, Line::Errors),
    (Flaw::AsksFirst, Line::Errors),
    (Flaw::ShowsNothing, Line::Errors),
    (Flaw::ReadsOnePage, Line::Scale),
    (Flaw::StarvesTheMany, Line::Scale),
];

async fn judged(flaw: Flaw) -> Report {
    let mut profile = Profile::default();
    profile.max_nodes = 200;
    profile.max_watches = 50;
    profile.min_ttl = Duration::from_millis(300);
    profile.settle = Duration::from_secs(3);
    profile.deadline = DEADLINE;
    profile.concurrency = 16;
    Suite::new(profile).run(async move || Mutants::new(flaw)).await
}

fn is_broken(case: &CaseReport) -> bool {
    matches!(case.outcome, Outcome::Broken { .. })
}
