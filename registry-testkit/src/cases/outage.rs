//! Line 7, and the part of line 6 on watches that open while the store is away.

use micro_registry::{Update, View};

use crate::Line;
use crate::follower::Follower;
use crate::sample::{fixture, registration, scope};
use crate::stage::{LONG, Stage, Verdict, broken, ensure};

/// A watch opened while the store is away tells all there is when the store is back.
pub(super) async fn a_watch_opens_in_an_outage(stage: &Stage<'_>) -> Verdict {
    let faults = stage.faults()?;
    let registry = stage.open_furnished().await?;
    faults.interrupt().await?;
    let mut follower = stage.watch(&registry, scope("hello")).await?;
    faults.restore().await?;
    until_reset(&mut follower).await?;
    follower.until(Line::Outage, "what there was before", |view| view.len() == 2).await?;
    Ok(())
}

/// Each outage is `Stale` once, then a reset with everything, and the watch goes on.
pub(super) async fn an_outage_is_stale_then_reset(stage: &Stage<'_>) -> Verdict {
    let faults = stage.faults()?;
    let registry = stage.open_furnished().await?;
    let mut follower = stage.watch(&registry, scope("hello")).await?;
    follower.until(Line::Watch, "two nodes", |view| view.len() == 2).await?;
    for _ in 0..2 {
        faults.interrupt().await?;
        let what = "word that the store is away";
        let first = follower.next(Line::Outage, what).await?;
        ensure(Line::Outage, is_stale(&first), || format!("an outage begins with {first:?}"))?;
        faults.restore().await?;
        let then = follower.next(Line::Outage, "the reset after an outage").await?;
        let is_reset = matches!(then, Update::Reset { .. });
        ensure(Line::Outage, is_reset, || format!("after the first word of an outage: {then:?}"))?;
        let hello = fixture().into_iter().filter(|r| r.service == "hello").count();
        let is_back = |view: &View| view.len() == hello;
        follower.until(Line::Outage, "what there was before", is_back).await?;
    }
    Ok(())
}

/// After an outage a watch tells changes as before, watches that opened meanwhile included.
pub(super) async fn changes_go_on_after_an_outage(stage: &Stage<'_>) -> Verdict {
    let (owner, faults) = (stage.open().await, stage.faults()?);
    stage.register(&owner, &registration("shop", "before"), LONG).await?;
    let mut early = stage.watch(&owner, scope("shop")).await?;
    early.until(Line::Watch, "the node", |view| view.len() == 1).await?;
    faults.interrupt().await?;
    let mut late = stage.watch(&owner, scope("shop")).await?;
    until_stale(&mut early).await?;
    faults.restore().await?;
    for follower in [&mut early, &mut late] {
        until_reset(follower).await?;
    }
    let registers = async || {
        let registered = owner.register(&registration("shop", "after"), LONG).await;
        Ok(registered.is_ok())
    };
    stage.eventually(Line::Register, "register works after an outage", registers).await?;
    for follower in [&mut early, &mut late] {
        let what = "a change after an outage";
        follower.until(Line::Outage, what, |view| view.len() == 2).await?;
    }
    Ok(())
}

async fn until_stale(follower: &mut Follower) -> Verdict {
    while !is_stale(&follower.next(Line::Outage, "word that the store is away").await?) {}
    Ok(())
}

async fn until_reset(follower: &mut Follower) -> Verdict {
    loop {
        match follower.next(Line::Outage, "the reset after an outage").await? {
            Update::Stale { .. } => {}
            Update::Reset { .. } => return Ok(()),
            other => {
                return broken(Line::Watch, format!("data before the reset: {other:?}"));
            }
        }
    }
}

fn is_stale(update: &Update) -> bool {
    matches!(update, Update::Stale { .. })
}
