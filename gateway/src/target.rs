//! Which method a path means.

use http::StatusCode;
use http::request::Parts;
use micro::Code;
use micro::rpc::Status;
use micro::rpc::web::Refusal;
use tokio::time::{Instant, timeout_at};

use crate::access::Called;
use crate::answer::State;
use crate::catalogue::Known;
use crate::interface::{Found, Method};

/// The method that a request calls, if it may.
pub(crate) async fn resolve<'a>(
    head: &'a Parts,
    until: Instant,
    state: &State,
) -> Result<(Path<'a>, Method), Refusal> {
    let access = &state.config.access;
    let path = head.uri.path();
    let found = match Path::of(path) {
        Some(path) => find(&path, until, state).await.map(|method| (path, method)),
        None => Err(nothing_at(path)),
    };
    // Who may not call is not told either what there is.
    let called = found.as_ref().ok().map(|(path, method)| Called {
        service: path.service,
        contract: &method.contract,
        method: &method.name,
    });
    access.check_rule(head, called)?;
    found
}

/// What a call's path names.
#[derive(Debug, PartialEq)]
pub(crate) struct Path<'a> {
    pub(crate) service: &'a str,
    contract: Option<&'a str>,
    method: &'a str,
}

impl<'a> Path<'a> {
    /// `/service/method` or `/service/contract/method`.
    fn of(path: &'a str) -> Option<Self> {
        let (service, rest) = path.strip_prefix('/')?.split_once('/')?;
        let (contract, method) = match rest.split_once('/') {
            Some((contract, method)) => (Some(contract), method),
            None => (None, rest),
        };
        let is_complete = !service.is_empty() && !method.is_empty() && !method.contains('/');
        is_complete.then_some(Self { service, contract, method })
    }
}

/// The method that is meant. Waits for the registry's first word, and for that of a node whose
/// registration leaves its methods out, no longer than the call may take.
async fn find(path: &Path<'_>, until: Instant, state: &State) -> Result<Method, Refusal> {
    if !state.config.allows(path.service) {
        return Err(no_service(path.service));
    }
    let now = state.services();
    if let Some(known) = now.get(path.service).filter(|known| is_enough(known, path)) {
        return look_up(known, path);
    }
    let mut services = state.services.clone();
    let clear = services.wait_for(|services| match services.get(path.service) {
        Some(known) => is_enough(known, path),
        None => services.has_answered,
    });
    let services = match timeout_at(until, clear).await {
        Err(_) => return Err(too_late(path.service, state).into()),
        Ok(Err(_)) => return Err(Status::new(Code::Unavailable, "the registry is gone").into()),
        Ok(Ok(services)) => services.clone(),
    };
    let known = services.get(path.service).ok_or_else(|| no_service(path.service))?;
    look_up(known, path)
}

fn too_late(service: &str, state: &State) -> Status {
    let message = match state.services().has_answered {
        true => format!("no node of `{service}` said before the deadline what it serves"),
        false => "the registry did not answer before the deadline".to_owned(),
    };
    Status::new(Code::DeadlineExceeded, message)
}

/// Whether the method can be told from what is known.
fn is_enough(known: &Known, path: &Path<'_>) -> bool {
    known.is_settled
        || matches!(find_in(known, path), Found::Method(Method { endpoint: Some(_), .. }))
}

fn find_in(known: &Known, path: &Path<'_>) -> Found {
    known.find(path.service, path.contract, path.method)
}

fn look_up(known: &Known, path: &Path<'_>) -> Result<Method, Refusal> {
    let Path { service, method, .. } = path;
    match find_in(known, path) {
        Found::Method(method) => Ok(method),
        Found::Several(contracts) => {
            let paths: Vec<_> =
                contracts.iter().map(|one| format!("/{service}/{one}/{method}")).collect();
            let paths = paths.join(" or ");
            let message = format!("several contracts of `{service}` have `{method}`: call {paths}");
            Err(Status::new(Code::InvalidArgument, message).into())
        }
        Found::Nothing => {
            let message = format!(
                "service `{service}` has no method `{method}`; GET /openapi.json lists all"
            );
            let status = Status::new(Code::Unimplemented, message);
            Err(Refusal::new(StatusCode::NOT_FOUND, status))
        }
    }
}

fn nothing_at(path: &str) -> Refusal {
    let message = format!(
        "nothing at `{path}`; call a method with POST /service/method, or see GET /openapi.json"
    );
    Status::new(Code::NotFound, message).into()
}

fn no_service(service: &str) -> Refusal {
    let message = format!("no node of service `{service}` is registered");
    Status::new(Code::NotFound, message).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two names are a service and its method, three have the contract between them.
    #[test]
    fn paths() {
        let path = |service, contract, method| Some(Path { service, contract, method });
        assert_eq!(Path::of("/a/b"), path("a", None, "b"));
        assert_eq!(Path::of("/a/b/c"), path("a", Some("b"), "c"));
        assert_eq!(Path::of("/a//c"), path("a", Some(""), "c"));
        for other in ["", "/", "/a", "/a/", "//b", "/a/b/", "/a/b/c/d", "a/b"] {
            assert_eq!(Path::of(other), None, "{other}");
        }
    }
}
