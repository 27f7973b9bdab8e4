//! Line 10 and a part of 13: what is left behind, and what is shown.

use std::error::Error as StdError;
use std::fmt::Debug;

use micro_registry::{Error, Scope, View};
use tokio::runtime;

use crate::Line;
use crate::sample::{registration, scope};
use crate::stage::{Handle, LONG, Stage, Stop, Verdict, ensure};

/// However many watches were opened, when the last is dropped nothing runs that did not before.
pub(super) async fn a_dropped_watch_leaves_no_task(stage: &Stage<'_>) -> Verdict {
    let registry = stage.open_furnished().await?;
    let before = tasks();
    let mut first = stage.follow(&registry, "hello").await?;
    if stage.profile.writes {
        // Once it tells of a change, all that feeds it runs.
        stage.register(&registry, &registration("hello", "c"), LONG).await?;
        let is_told = |view: &View| view.node("hello", "c").is_some();
        first.until(Line::Watch, "a node that joined", is_told).await?;
    }
    let with_one = tasks();
    for _ in 0..3 {
        let mut followers = vec![];
        for service in ["hello", "hello2", "nobody"].repeat(10) {
            followers.push(stage.follow(&registry, service).await?);
        }
        // Some unread, some before their first update.
        followers.push(stage.watch(&registry, scope("hello")).await?);
    }
    let what = |left: usize| format!("only {left} tasks run once watches were dropped");
    until_tasks(stage, with_one, &what(with_one)).await?;
    first.pending();
    drop(first);
    until_tasks(stage, before, &what(before)).await
}

/// The store itself serves no watch that was dropped.
pub(super) async fn a_dropped_watch_leaves_the_store(stage: &Stage<'_>) -> Verdict {
    let registry = stage.open_furnished().await?;
    let before = stage.watches().await?;
    let mut followers = vec![];
    for service in ["hello", "hello2", "nobody"] {
        followers.push(stage.follow(&registry, service).await?);
    }
    let is_served = async || Ok(stage.watches().await? > before);
    stage.eventually(Line::Drop, "the store serves the watches that are open", is_served).await?;
    drop(followers);
    let what = format!("the store serves {before} watches once the others were dropped");
    stage.eventually(Line::Drop, &what, async || Ok(stage.watches().await? <= before)).await
}

/// What a handle started ends with it.
pub(super) async fn a_dropped_handle_leaves_no_task(stage: &Stage<'_>) -> Verdict {
    let kept = stage.open_furnished().await?;
    let before = tasks();
    let other = stage.open_furnished().await?;
    let follower = stage.follow(&other, "hello").await?;
    drop((follower, other));
    until_tasks(stage, before, &format!("only {before} tasks run once a handle was dropped"))
        .await?;
    // One handle's end is not another's.
    stage.follow(&kept, "hello").await?;
    Ok(())
}

/// Looking for what is not there, again and again, leaves nothing running.
pub(super) async fn unknown_names_leave_no_task(stage: &Stage<'_>) -> Verdict {
    let registry = stage.open_furnished().await?;
    let before = tasks();
    for i in 0..200 {
        stage.get(&registry, &format!("nobody-{i}")).await?;
        drop(registry.watch(scope(&format!("nobody-{i}"))).await);
    }
    until_tasks(stage, before, &format!("only {before} tasks run after lookups")).await
}

/// Handles, watches and errors say something about themselves.
pub(super) async fn debug_shows_something(stage: &Stage<'_>) -> Verdict {
    let registry = stage.open_furnished().await?;
    ensure(Line::Errors, !registry.name().is_empty(), || "the name is empty".into())?;
    for shown in shown(stage, &registry, Line::Watch).await? {
        ensure(Line::Errors, !shown.trim().is_empty(), || "a Debug or Display is empty".into())?;
    }
    Ok(())
}

/// A password is in no Debug, no error with its causes, and no update; not while the store is away
/// either.
pub(super) async fn no_secret_is_shown(stage: &Stage<'_>) -> Verdict {
    let Some(secret) = stage.secret() else {
        return Err(Stop::Skipped("the backend has no secret".into()));
    };
    let registry = stage.open_furnished().await?;
    let mut all = shown(stage, &registry, Line::Watch).await?;
    if let Ok(faults) = stage.faults()
        && faults.interrupt().await.is_ok()
    {
        all.extend(shown(stage, &registry, Line::Outage).await?);
        faults.restore().await?;
    }
    let told = all.iter().find(|shown| shown.contains(secret));
    ensure(Line::Errors, told.is_none(), || {
        let hidden = told.map(|told| told.replace(secret, "<the secret>"));
        format!("the secret is shown: {}", hidden.unwrap_or_default())
    })
}

/// Everything a handle says about itself and its failures; a silent watch breaks `line`.
async fn shown(stage: &Stage<'_>, registry: &Handle, line: Line) -> Verdict<Vec<String>> {
    let refused = registration("Not A Name", "a");
    let mut shown = vec![format!("{registry:?}"), registry.name().to_owned()];
    shown.extend(error_shown(registry.get("nobody").await));
    shown.extend(error_shown(registry.get("Not A Name").await));
    shown.extend(error_shown(registry.list().await));
    shown.extend(error_shown(registry.register(&refused, LONG).await));
    shown.extend(error_shown(registry.deregister(&refused).await));
    if let Ok(watch) = registry.watch(Scope::Service("hello".into())).await {
        shown.push(format!("{watch:?}"));
    }
    let mut follower = stage.watch(registry, scope("hello")).await?;
    shown.push(format!("{:?}", follower.next(line, "a first update").await?));
    Ok(shown)
}

fn error_shown<T: Debug>(result: Result<T, Error>) -> Vec<String> {
    let Err(error) = result else { return vec![] };
    let first: &dyn StdError = &error;
    let causes = std::iter::successors(Some(first), |error| StdError::source(*error));
    causes.flat_map(|error| [format!("{error:?}"), error.to_string()]).collect()
}

/// How many tasks run on the runtime of the case, which is its own.
fn tasks() -> usize {
    runtime::Handle::current().metrics().num_alive_tasks()
}

async fn until_tasks(stage: &Stage<'_>, at_most: usize, what: &str) -> Verdict {
    stage.eventually(Line::Drop, what, async || Ok(tasks() <= at_most)).await
}
