//! A part of line 13: what is refused, and what is not.

use std::time::Duration;

use micro_registry::{Endpoints, ErrorKind, Metadata, Registration, Scope, encoding, validate};

use crate::Line;
use crate::sample::{Change, full, registration, scope, view};
use crate::stage::{Handle, LONG, Stage, Verdict, ensure, ensure_kind};

/// Whatever breaks a rule of the model is refused as `Invalid`, and nobody sees it.
pub(super) async fn invalid_input_is_refused(stage: &Stage<'_>) -> Verdict {
    let registry = stage.open_furnished().await?;
    is_refused(&registry).await?;
    let is_unharmed = async || {
        let list = registry.list().await.into_iter().flatten();
        Ok(list.map(|service| service.name).eq(["hello", "hello2"]))
    };
    stage.eventually(Line::Errors, "the list is as it was before invalid input", is_unharmed).await
}

/// It is refused in the same way when the store is away: the store is not asked.
pub(super) async fn invalid_input_needs_no_store(stage: &Stage<'_>) -> Verdict {
    let (registry, faults) = (stage.open().await, stage.faults()?);
    faults.interrupt().await?;
    is_refused(&registry).await?;
    Ok(faults.restore().await?)
}

/// What stands exactly at a limit is stored as it is.
pub(super) async fn the_limits_are_accepted(stage: &Stage<'_>) -> Verdict {
    let registry = stage.open().await;
    for (what, change) in limits() {
        let mut at_limit = full("shop", "a");
        change(&mut at_limit);
        if stored_size(&at_limit) > stage.profile.max_record {
            continue;
        }
        let done = registry.register(&at_limit, LONG).await;
        ensure(Line::Errors, done.is_ok(), || format!("{what} is refused: {done:?}"))?;
        let expected = view([&at_limit]).service(&at_limit.service);
        let is_found = async || Ok(stage.get(&registry, &at_limit.service).await? == expected);
        stage.eventually(Line::Register, &format!("{what} is found as it is"), is_found).await?;
        stage.deregister(&registry, &at_limit).await?;
    }
    Ok(())
}

fn stored_size(registration: &Registration) -> usize {
    let mut bare = registration.clone();
    bare.endpoints = Endpoints::Omitted;
    encoding::encode(&bare).len()
}

async fn is_refused(registry: &Handle) -> Verdict {
    for (what, change) in violations() {
        let mut bad = registration("shop", "bad");
        change(&mut bad);
        refused(what, "register", registry.register(&bad, LONG).await)?;
    }
    let good = registration("shop", "bad");
    refused("no TTL", "register", registry.register(&good, Duration::ZERO).await)?;
    refused("an endless TTL", "register", registry.register(&good, Duration::MAX).await)?;
    let long = "x".repeat(validate::MAX_NAME + 1);
    for name in ["", "Shop", "..", "a/b", "a b", "a@b", "ä", "a\0", "../shop", "shop*", &long] {
        refused(name, "get", registry.get(name).await)?;
        refused(name, "watch", registry.watch(scope(name)).await)?;
        refused(name, "deregister", registry.deregister(&registration(name, "a")).await)?;
    }
    let nowhere = Scope::node(&registration("shop", "a/b"));
    refused("id", "watch", registry.watch(nowhere).await)?;
    refused("id", "deregister", registry.deregister(&registration("shop", "a/b")).await)
}

fn refused<T: std::fmt::Debug>(
    what: &str,
    call: &str,
    result: Result<T, micro_registry::Error>,
) -> Verdict {
    let call = format!("{call} with {what:?}");
    let error = ensure_kind(Line::Errors, &call, result, ErrorKind::Invalid)?;
    ensure(Line::Errors, !error.is_retryable(), || format!("{call}: {error:?} is retryable"))
}

/// What breaks a rule, by which.
fn violations() -> Vec<Change> {
    vec![
        ("empty service", |r| r.service.clear()),
        ("upper-case service", |r| r.service = "Shop".into()),
        ("service with a slash", |r| r.service = "a/b".into()),
        ("service of dots", |r| r.service = "..".into()),
        ("long service", |r| r.service = "x".repeat(validate::MAX_NAME + 1)),
        ("empty id", |r| r.node.id.clear()),
        ("id with a slash", |r| r.node.id = "../a".into()),
        ("id with an at", |r| r.node.id = "a@b".into()),
        ("long id", |r| r.node.id = "x".repeat(validate::MAX_ID + 1)),
        ("empty version", |r| r.version.clear()),
        ("version of two numbers", |r| r.version = "1.2".into()),
        ("empty address", |r| r.node.address.clear()),
        ("unspecified address", |r| r.node.address = "0.0.0.0:80".into()),
        ("address without port", |r| r.node.address = "host".into()),
        ("address with port 0", |r| r.node.address = "127.0.0.1:0".into()),
        ("heavy weight", |r| r.node.weight = 10_001),
        ("zone with a space", |r| r.node.zone = Some("a b".into())),
        ("too many labels", |r| r.metadata = labels(validate::MAX_METADATA_ENTRIES + 1)),
        ("too many labels of the node", |r| {
            r.node.metadata = labels(validate::MAX_METADATA_ENTRIES + 1);
        }),
        ("too large labels", |r| r.metadata = label(1, validate::MAX_METADATA_BYTES)),
        ("too large labels of the node", |r| {
            r.node.metadata = label(1, validate::MAX_METADATA_BYTES);
        }),
        ("long label key", |r| r.metadata = label(validate::MAX_METADATA_KEY + 1, 0)),
        ("empty label key", |r| r.metadata = label(0, 1)),
    ]
}

/// What just breaks none.
fn limits() -> Vec<Change> {
    vec![
        ("longest service", |r| r.service = "x".repeat(validate::MAX_NAME)),
        ("longest id", |r| r.node.id = "x".repeat(validate::MAX_ID)),
        ("longest names", |r| {
            r.service = "x".repeat(validate::MAX_NAME);
            r.node.id = "x".repeat(validate::MAX_ID);
        }),
        ("service with all it may have", |r| r.service = "a.b_c-9".into()),
        ("heaviest weight", |r| r.node.weight = 10_000),
        ("largest epoch", |r| r.node.epoch = u64::MAX),
        ("most labels", |r| {
            r.metadata = labels(validate::MAX_METADATA_ENTRIES);
            r.node.metadata = labels(validate::MAX_METADATA_ENTRIES);
        }),
        ("largest labels", |r| {
            r.metadata = label(validate::MAX_METADATA_KEY, LARGEST_VALUE);
            r.node.metadata = label(validate::MAX_METADATA_KEY, LARGEST_VALUE);
        }),
        ("version latest", |r| r.version = "latest".into()),
        ("a socket's path as address", |r| r.node.address = "unix:/run/shop.sock".into()),
        ("an address of version 6", |r| r.node.address = "[::1]:80".into()),
    ]
}

const LARGEST_VALUE: usize = validate::MAX_METADATA_BYTES - validate::MAX_METADATA_KEY;

fn labels(count: usize) -> Metadata {
    (0..count).map(|i| (format!("k{i}"), String::new())).collect()
}

fn label(key: usize, value: usize) -> Metadata {
    [("k".repeat(key), "v".repeat(value))].into()
}
