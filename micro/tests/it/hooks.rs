//! What a program does around the life of its service, and what becomes of the service then.

use std::sync::Mutex;

use micro::registry::Registry;
use micro::{BoxError, Code};

use super::*;
use crate::warnings::Warnings;

/// What ran, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<&'static str>>>);

impl Log {
    /// A hook that notes its name.
    fn note(
        &self,
        name: &'static str,
    ) -> impl FnOnce() -> std::future::Ready<Result<(), BoxError>> + Send + use<> {
        let log = self.clone();
        move || {
            log.0.lock().unwrap().push(name);
            std::future::ready(Ok(()))
        }
    }

    /// One that fails then.
    fn fail(
        &self,
        name: &'static str,
    ) -> impl FnOnce() -> std::future::Ready<Result<(), BoxError>> + Send + use<> {
        let note = self.note(name);
        move || {
            drop(note());
            std::future::ready(Err(format!("{name} went wrong").into()))
        }
    }

    fn take(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    /// A service with hooks of each kind.
    fn service(&self, town: &Town) -> Service {
        town.service("a")
            .serve(ShopServer::new(Corner::default()))
            .after_stop(self.note("after stop"))
            .after_deregister(self.note("after deregister"))
            .before_stop(self.note("before stop"))
            .after_start(self.note("after start"))
            .before_start(self.note("before start"))
    }
}

/// Hooks run at their place in the life of a service, those of one kind in the order in which they
/// were added.
#[tokio::test(start_paused = true)]
async fn hooks_run_in_order() {
    let (town, log) = (Town::default(), Log::default());
    let service = log
        .service(&town)
        .before_start(log.note("before start 2"))
        .after_start(log.note("after start 2"))
        .before_stop(log.note("before stop 2"))
        .after_deregister(log.note("after deregister 2"))
        .after_stop(log.note("after stop 2"));
    let running = registered(service).await;
    let start = ["before start", "before start 2", "after start", "after start 2"];
    assert_eq!(log.take(), start);
    running.shutdown().await;
    let stop = [
        "before stop",
        "before stop 2",
        "after deregister",
        "after deregister 2",
        "after stop",
        "after stop 2",
    ];
    assert_eq!(log.take(), stop);
}

/// Each hook finds the service as its name says.
#[tokio::test(start_paused = true)]
async fn hooks_find_the_service_as_named() {
    let (town, seen) = (Town::default(), Arc::new(Mutex::new(Vec::new())));
    let look = |name: &'static str| {
        let (town, seen) = (town.clone(), seen.clone());
        move || async move {
            let listens = town.network.connect("a").is_ok();
            let is_registered = town.registry.get("shop").await.is_ok();
            seen.lock().unwrap().push((name, listens, is_registered));
            Ok(())
        }
    };
    let service = town
        .service("a")
        .before_start(look("before start"))
        .after_start(look("after start"))
        .before_stop(look("before stop"))
        .after_deregister(look("after deregister"))
        .after_stop(look("after stop"));
    let running = registered(service.serve(ShopServer::new(Corner::default()))).await;
    running.shutdown().await;
    let expected = [
        ("before start", false, false),
        // Registering does not hold up the start.
        ("after start", true, false),
        ("before stop", true, true),
        ("after deregister", false, false),
        ("after stop", false, false),
    ];
    assert_eq!(*seen.lock().unwrap(), expected);
}

/// A hook that fails before the start ends it: nothing else of the start runs, what undoes it does,
/// and the error says what went wrong.
#[tokio::test(start_paused = true)]
async fn a_failing_hook_before_the_start_ends_it() {
    let (town, log) = (Town::default(), Log::default());
    let service = log.service(&town).before_start(log.fail("bad")).before_start(log.note("never"));
    let error = service.start().await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert_eq!(error.to_string(), "a hook failed: before_start");
    assert!(format!("{error:?}").contains("bad went wrong"), "{error:?}");
    assert_eq!(log.take(), ["before start", "bad", "after stop"]);
    assert!(town.network.connect("a").is_err());
}

/// A hook that fails after the start stops the service in good order.
#[tokio::test(start_paused = true)]
async fn a_failing_hook_after_the_start_stops_it() {
    let (town, log) = (Town::default(), Log::default());
    let service = log.service(&town).after_start(log.fail("bad")).after_start(log.note("never"));
    let error = service.serve_until(std::future::pending()).await.unwrap_err();
    assert_eq!(error.to_string(), "a hook failed: after_start");
    let all =
        ["before start", "after start", "bad", "before stop", "after deregister", "after stop"];
    assert_eq!(log.take(), all);
    assert!(town.network.connect("a").is_err());
    assert!(town.registry.get("shop").await.is_err());
}

/// What cannot start for another reason is undone as well, if it has begun.
#[tokio::test(start_paused = true)]
async fn a_start_that_fails_is_undone() {
    let (town, log) = (Town::default(), Log::default());
    let _taken = town.network.listen("a").unwrap();
    log.service(&town).start().await.unwrap_err();
    assert_eq!(log.take(), ["before start", "after stop"]);
    log.service(&town).name("No").start().await.unwrap_err();
    assert_eq!(log.take(), [""; 0]);
}

/// An error whose text panics.
#[derive(Debug)]
struct Unspeakable;

impl std::fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("on purpose");
    }
}

impl std::error::Error for Unspeakable {}

/// Hooks of the end that fail, panic or hang keep nothing else from happening.
#[tokio::test(start_paused = true)]
async fn an_end_goes_on_whatever_fails() {
    let (town, log) = (Town::default(), Log::default());
    let service = town
        .service("a")
        .shutdown_timeout(Duration::from_secs(1))
        .before_stop(log.fail("fails"))
        .before_stop(|| -> std::future::Ready<_> { panic!("on purpose") })
        .before_stop(|| async { panic!("on purpose") })
        .before_stop(|| async { Err(Unspeakable.into()) })
        .before_stop(std::future::pending)
        .before_stop(log.note("before stop"))
        .after_deregister(log.fail("fails too"))
        .after_deregister(log.note("after deregister"))
        .after_stop(log.fail("fails again"))
        .after_stop(log.note("after stop"));
    let running = registered(service.serve(ShopServer::new(Corner::default()))).await;
    let begin = tokio::time::Instant::now();
    let warnings = Warnings::new();
    running.shutdown().await;
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    let (logged, panicked) = (warnings.lines(), "it panicked");
    for (index, what) in
        ["fails went wrong", panicked, panicked, panicked, "patience=\"1s\""].iter().enumerate()
    {
        assert!(
            logged[index].contains("before_stop") && logged[index].contains(what),
            "{logged:?}"
        );
    }
    let all =
        ["fails", "before stop", "fails too", "after deregister", "fails again", "after stop"];
    assert_eq!(log.take(), all);
    assert!(town.registry.get("shop").await.is_err());
}

/// A service may be told to stop while it starts, before it serves or after.
#[tokio::test(start_paused = true)]
async fn a_start_may_be_stopped() {
    let (town, log) = (Town::default(), Log::default());
    let soon = || tokio::time::sleep(Duration::from_secs(1));
    let hangs = log.service(&town).before_start(std::future::pending);
    hangs.serve_until(soon()).await.unwrap();
    assert_eq!(log.take(), ["before start", "after stop"]);
    assert!(town.network.connect("a").is_err());

    let hangs = log.service(&town).after_start(std::future::pending);
    hangs.serve_until(soon()).await.unwrap();
    let all = ["before start", "after start", "before stop", "after deregister", "after stop"];
    assert_eq!(log.take(), all);
    assert!(town.network.connect("a").is_err());
    assert!(town.registry.get("shop").await.is_err());
}

/// Dropping a start, or what runs, leaves nothing running, and no hook runs after it.
#[tokio::test(start_paused = true)]
async fn a_dropped_service_runs_no_hooks() {
    let (town, log) = (Town::default(), Log::default());
    let hangs = log.service(&town).after_start(std::future::pending).start();
    assert!(tokio::time::timeout(Duration::from_secs(1), hangs).await.is_err());
    let closed = async || {
        while town.network.connect("a").is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    closed().await;
    assert_eq!(log.take(), ["before start", "after start"]);
    drop(registered(log.service(&town)).await);
    closed().await;
    assert_eq!(log.take(), ["before start", "after start"]);
}

/// A second signal cuts off the end of a start, whether the first stopped it or it failed.
#[cfg(unix)]
#[test]
fn a_second_signal_cuts_off_the_end_of_a_start() {
    for (role, expected) in [("told", "stopped at once"), ("failed", "a hook failed")] {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "hooks::signalled", "--nocapture", "--test-threads", "1"])
            .env(ROLE, role)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(&format!("run gave: {expected}")), "{role}: {said}");
    }
}

#[cfg(unix)]
const ROLE: &str = "MICRO_HOOKS_ROLE";

/// Nothing by itself; a process that signals itself when started as one.
#[cfg(unix)]
#[tokio::test]
async fn signalled() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let service = Town::default()
        .service("a")
        .serve(ShopServer::new(Corner::default()))
        .shutdown_timeout(Duration::from_secs(3_600))
        .after_stop(async || {
            terminate().await;
            std::future::pending().await
        });
    let service = match &*role {
        "told" => service.before_start(async || {
            terminate().await;
            std::future::pending().await
        }),
        _ => service.after_start(async || Err("on purpose".into())).drain_delay(Duration::ZERO),
    };
    let run = tokio::time::timeout(Duration::from_secs(20), service.run());
    let outcome = run.await.expect("the second signal is heard");
    println!("run gave: {}", outcome.map_or_else(|e| e.to_string(), |()| "ok".into()));
}

/// Sends this process a SIGTERM.
#[cfg(unix)]
async fn terminate() {
    let pid = std::process::id().to_string();
    let status = tokio::process::Command::new("kill").args(["-TERM", &pid]).status().await;
    assert!(status.unwrap().success());
}
