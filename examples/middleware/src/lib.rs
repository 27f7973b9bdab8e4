//! Layers on both sides: authentication, a rate limit, timing, and a look at each attempt.
//!
//! `src/main.rs` puts them around a service and a client; the tests show what each of them does.

mod timing;

use std::num::NonZeroU32;
use std::sync::Arc;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use micro::layer::{BoxError, Next};
use micro::rpc::{Address, Request, Response, Status};
use micro::{Code, Context};

pub use timing::{Timed, Timing};

/// What is served behind the layers.
#[micro::service]
pub trait Diary {
    /// Says whose diary it is.
    #[rpc(idempotent)]
    async fn owner(&self, cx: &Context) -> String;
}

/// Everybody's diary: it relies on the authentication in front of it.
#[derive(Clone, Copy, Debug)]
pub struct Shared;

impl Diary for Shared {
    async fn owner(&self, cx: &Context) -> String {
        match cx.extension::<Principal>() {
            Some(Principal(name)) => name.clone(),
            None => "nobody".to_owned(),
        }
    }
}

/// Who calls, as far as the server is convinced of it. Extensions do not travel, so only a layer of
/// this process can have put it there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Principal(pub String);

/// Server: turns the metadata `authorization` into a [`Principal`], or the call away.
pub async fn authenticate(mut request: Request, next: Next) -> Result<Response, BoxError> {
    let token = request.metadata.get("authorization").unwrap_or_default();
    // Where tokens would be looked up, or their signature checked.
    let Some(name) = token.strip_prefix("token-of-") else {
        // A status is what the caller gets; any other error would be `internal` to it.
        return Err(Status::new(Code::Unauthenticated, "no valid token").into());
    };
    let principal = Principal(name.to_owned());
    request.extensions.insert(principal);
    next.run(request).await
}

/// How many calls each principal may make.
pub type Limiter = DefaultKeyedRateLimiter<Option<Principal>>;

/// So many calls at once, and as many in an hour.
#[must_use]
pub fn per_hour(calls: NonZeroU32) -> Arc<Limiter> {
    Arc::new(RateLimiter::keyed(Quota::per_hour(calls)))
}

/// Server: turns away who calls too often. Goes behind [`authenticate`].
pub async fn limit_rate(
    limiter: Arc<Limiter>,
    request: Request,
    next: Next,
) -> Result<Response, BoxError> {
    let principal = request.extensions.get::<Principal>().cloned();
    if limiter.check_key(&principal).is_err() {
        // Refused says that nothing was executed: another node may have room.
        return Err(Status::new(Code::ResourceExhausted, "too many calls").refused().into());
    }
    next.run(request).await
}

/// Client: sends the token along.
pub async fn send_token(
    token: &str,
    mut request: Request,
    next: Next,
) -> Result<Response, BoxError> {
    request.metadata.insert("authorization", token)?;
    next.run(request).await
}

/// Client, around attempts: tells which node each one goes to, and how it went.
pub async fn log_attempt(request: Request, next: Next) -> Result<Response, BoxError> {
    let (method, attempt) = (request.method.clone(), request.attempt);
    let node = request.extensions.get::<Address>().cloned();
    let answer = next.run(request).await;
    let node = node.map(|node| node.to_string()).unwrap_or_default();
    match &answer {
        Ok(_) => tracing::info!(%method, attempt, node, "answered"),
        Err(error) => tracing::info!(%method, attempt, node, error, "failed"),
    }
    answer
}
