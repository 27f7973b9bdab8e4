//! Which handler runs which method.

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::{Code, Name, Request, Response, Status, Tally};

/// Runs one method.
///
/// Closures of the shape `Fn(Request) -> impl Future<Output = Result<Response, Status>>` are
/// handlers.
///
/// # Behaviour the server relies on
///
/// - The future is dropped when the caller cancels, its deadline passes or the server gives up
///   waiting for it; it must leave things in order then.
/// - `call` and the first poll run on the connection's task, so a handler that computes for long
///   delays the calls beside it, until the server has noticed and gives each call a task.
/// - A panic, of the handler or of what is around it, is caught and answered with
///   [`Code::Internal`].
pub trait Handler: Send + Sync + 'static {
    /// Runs the method once.
    fn call(&self, request: Request) -> BoxFuture<'static, Result<Response, Status>>;
}

impl<F, Fut> Handler for F
where
    F: Fn(Request) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Response, Status>> + Send + 'static,
{
    fn call(&self, request: Request) -> BoxFuture<'static, Result<Response, Status>> {
        Box::pin(self(request))
    }
}

/// A handler for each method of each contract that a server has.
///
/// [`Server::new`](crate::Server::new) checks that no method has two.
#[derive(Clone, Default)]
#[must_use]
pub struct Router {
    routes: Vec<Arc<Route>>,
}

impl Router {
    /// Creates a router without methods.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a method.
    pub fn route(
        mut self,
        contract: impl Into<Name>,
        method: impl Into<Name>,
        handler: impl Handler,
    ) -> Self {
        self.routes.push(Arc::new(Route::new(contract.into(), Some(method.into()), handler)));
        self
    }

    /// Adds a handler for the methods of a contract that have none of their own, for contracts
    /// whose methods are not known beforehand. It answers [`Code::Unimplemented`] to those it does
    /// not know itself.
    pub fn fallback(mut self, contract: impl Into<Name>, handler: impl Handler) -> Self {
        self.routes.push(Arc::new(Route::new(contract.into(), None, handler)));
        self
    }

    /// Adds all methods of another router.
    pub fn merge(mut self, other: Self) -> Self {
        self.routes.extend(other.routes);
        self
    }

    /// Sorts the routes for lookup.
    pub(super) fn build(mut self) -> Result<Routes, DuplicateRoute> {
        self.routes.sort_by(|a, b| a.key().cmp(&b.key()));
        let twice = self.routes.windows(2).find(|pair| pair[0].key() == pair[1].key());
        match twice {
            Some(pair) => Err(DuplicateRoute {
                contract: pair[0].contract.clone(),
                method: pair[0].method.clone(),
            }),
            None => Ok(Routes(self.routes)),
        }
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.routes.iter().map(|route| route.key())).finish()
    }
}

/// Two handlers were given for one method.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} of contract `{contract}` has two handlers", one_or_other(.method))]
pub struct DuplicateRoute {
    contract: Name,
    method: Option<Name>,
}

fn one_or_other(method: &Option<Name>) -> String {
    method.as_ref().map_or_else(|| "any other method".into(), |method| format!("method `{method}`"))
}

/// Routes in the order of their names, so that lookup neither hashes nor allocates.
pub(super) struct Routes(Vec<Arc<Route>>);

impl Routes {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.0.iter()
    }

    /// Returns a method's route, and its number among all.
    pub(super) fn find(&self, contract: &str, method: &str) -> Option<(usize, &Arc<Route>)> {
        let find = |key| self.0.binary_search_by(|route| route.key().cmp(&key));
        let found = find((contract, Some(method))).or_else(|_| find((contract, None)));
        found.ok().map(|at| (at, &self.0[at]))
    }

    pub(super) fn unknown(&self, contract: &str, method: &str) -> Status {
        let start = self.0.partition_point(|route| *route.contract < *contract);
        let known = self.0.get(start).is_some_and(|route| *route.contract == *contract);
        // A peer's words, which could otherwise forge lines of a log.
        let (contract, method) = (contract.escape_debug(), method.escape_debug());
        let message = match known {
            true => format!("contract `{contract}` has no method `{method}`"),
            false => format!("no contract `{contract}` here"),
        };
        Status::new(Code::Unimplemented, message)
    }
}

/// One method, or the others of a contract, and what is known about how long it computes.
pub(super) struct Route {
    pub(super) contract: Name,
    pub(super) method: Option<Name>,
    handler: Box<dyn Handler>,
    slowness: AtomicU32,
    pub(super) tally: Tally,
}

/// A first poll that takes longer counts as slow.
pub(super) const SLOW: Duration = Duration::from_micros(100);
/// A first poll that takes longer blocks the connection: once is enough.
const BLOCKING: Duration = Duration::from_millis(10);
/// What a slow first poll adds; a quick one takes 1 away.
const WEIGHT: u32 = 64;
/// From here on every call of the method gets a task of its own.
const SPAWN: u32 = 3 * WEIGHT - WEIGHT / 2;
/// Then a slow poll is made up for by so many quick ones: a machine's hiccups are rarer.
const SLOWER: u32 = 1024;
/// One that blocks, by so many: a method that blocks once in a thousand calls keeps its tasks.
const CONFIRMED: u32 = 4096;

impl Route {
    fn new(contract: Name, method: Option<Name>, handler: impl Handler) -> Self {
        let (slowness, tally) = (AtomicU32::new(0), Tally::new());
        Self { contract, method, handler: Box::new(handler), slowness, tally }
    }

    fn key(&self) -> (&str, Option<&str>) {
        (&self.contract, self.method.as_deref())
    }

    /// The name of the method that is called, which the route of one method has at hand.
    pub(super) fn name_of(&self, called: &str) -> Name {
        self.method.clone().unwrap_or_else(|| called.to_owned().into())
    }

    #[cfg(feature = "http")]
    pub(super) fn is_fallback(&self) -> bool {
        self.method.is_none()
    }

    /// Starts the handler; a panic in it becomes an answer.
    pub(super) fn call(
        self: &Arc<Self>,
        request: Request,
    ) -> BoxFuture<'static, Result<Response, Status>> {
        match std::panic::catch_unwind(AssertUnwindSafe(|| self.handler.call(request))) {
            Ok(future) => future,
            Err(_) => std::future::ready(Err(self.panicked())).boxed(),
        }
    }

    /// What is answered after a panic, of the handler or of a layer: from here they are one. The
    /// panic's text may hold secrets, so it stays here, where the panic hook has printed it.
    pub(super) fn panicked(&self) -> Status {
        let method = self.method.as_deref();
        tracing::error!(contract = %self.contract, method, "a handler, or a layer around it, panicked");
        let message = "the handler, or a layer around it, panicked";
        Status::new(Code::Internal, message).interrupted()
    }

    /// Whether calls get a task at once, because first polls compute for long.
    pub(super) fn spawns(&self) -> bool {
        self.slowness.load(Ordering::Relaxed) >= SPAWN
    }

    /// Notes how long a first poll took, wherever it was made. It takes three slow polls, not diluted
    /// by many quick ones, to change a method, or one that blocks. Enough quick ones change it back,
    /// since a thread that is preempted looks slow, too, as all do where processor time is rationed.
    pub(super) fn polled(&self, took: Duration) {
        let before = self.slowness.load(Ordering::Relaxed);
        let after = match took {
            took if took > BLOCKING => SPAWN + CONFIRMED,
            took if took > SLOW && before + WEIGHT < SPAWN => before + WEIGHT,
            took if took > SLOW => (before.max(SPAWN) + SLOWER).min(SPAWN + CONFIRMED),
            // It begins anew.
            _ if before == SPAWN => 0,
            _ => before.saturating_sub(1),
        };
        // Calls that race here lose a note, which delays the change by a call.
        if after != before {
            self.slowness.store(after, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn echo(request: Request) -> Result<Response, Status> {
        Ok(Response::new(request.codec, request.body))
    }

    /// Each method is found by its two names, and by nothing else, which is said in one line.
    #[test]
    fn finds_by_both_names() {
        let router = Router::new().route("b", "x", echo).route("a", "y", echo);
        let routes = router.merge(Router::new().route("a", "x", echo)).build().ok().unwrap();
        for (contract, method) in [("a", "x"), ("a", "y"), ("b", "x")] {
            assert_eq!(routes.find(contract, method).unwrap().1.key(), (contract, Some(method)));
        }
        assert!(routes.find("b", "y").is_none());
        assert!(routes.unknown("b", "y").message().contains("no method `y`"));
        assert!(routes.unknown("c", "y").message().contains("no contract `c`"));
        for (contract, method) in [("b", "y\n"), ("\u{1b}c", "y")] {
            let unknown = routes.unknown(contract, method);
            assert!(!unknown.message().contains(char::is_control), "{unknown}");
        }
    }

    /// A fallback runs what no other route of its contract does, and nothing of another contract.
    #[test]
    fn falls_back_within_a_contract() {
        let router = Router::new().fallback("b", echo).route("b", "x", echo).route("a", "x", echo);
        let routes = router.build().ok().unwrap();
        assert_eq!(routes.find("b", "x").unwrap().1.key(), ("b", Some("x")));
        for method in ["", "w", "y"] {
            let (_, route) = routes.find("b", method).unwrap();
            assert_eq!((route.key(), route.name_of(method).as_str()), (("b", None), method));
        }
        assert!(routes.find("a", "y").is_none() && routes.find("c", "x").is_none());
    }

    /// Two handlers for one method are an error that names it, and so are two fallbacks.
    #[test]
    fn refuses_duplicates() {
        let router = Router::new().route("a", "x", echo).route("a", "x", echo);
        let error = router.build().err().unwrap().to_string();
        assert!(error.contains("`x`") && error.contains("`a`"), "{error}");
        let router = Router::new().fallback("a", echo).route("a", "x", echo).fallback("a", echo);
        let error = router.build().err().unwrap().to_string();
        assert!(error.contains("any other") && error.contains("`a`"), "{error}");
    }

    /// A method that computes is given tasks; rare slow polls do not make it so.
    #[test]
    fn learns_which_methods_compute() {
        let route = Route::new("a".into(), Some("x".into()), echo);
        for _ in 0..100 {
            route.polled(2 * SLOW);
            (0..1000).for_each(|_| route.polled(SLOW / 2));
        }
        assert!(!route.spawns());
        for _ in 0..10 {
            (0..3).for_each(|_| route.polled(2 * SLOW));
            (0..1000).for_each(|_| route.polled(SLOW / 2));
            assert!(route.spawns());
        }
    }

    /// A method that was taken for slow once has no tasks in the end, though the machine has hiccups.
    #[test]
    fn forgets_hiccups() {
        let route = Route::new("a".into(), Some("x".into()), echo);
        (0..3).for_each(|_| route.polled(2 * SLOW));
        for _ in 0..10 {
            route.polled(2 * SLOW);
            (0..2 * SLOWER).for_each(|_| route.polled(SLOW / 2));
        }
        assert!(!route.spawns());
    }

    /// A method that was preempted, and is quick ever after, has no tasks in the end.
    #[test]
    fn learns_which_methods_were_only_held_up() {
        let route = Route::new("a".into(), Some("x".into()), echo);
        route.polled(2 * BLOCKING);
        (0..CONFIRMED).for_each(|_| route.polled(SLOW / 2));
        assert!(route.spawns());
        route.polled(SLOW / 2);
        assert!(!route.spawns());
        (0..2).for_each(|_| route.polled(2 * SLOW));
        assert!(!route.spawns(), "it begins anew");
    }

    /// A method that blocked once is given tasks from the next call on.
    #[test]
    fn learns_at_once_which_methods_block() {
        let route = Route::new("a".into(), Some("x".into()), echo);
        route.polled(2 * BLOCKING);
        (0..1000).for_each(|_| route.polled(SLOW / 2));
        assert!(route.spawns());
    }
}
