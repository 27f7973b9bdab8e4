//! What browsers are told of pages that came from elsewhere.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use crate::Config;
use crate::body::{Body, Reply};

/// Lets a page of an origin that was let in read the answer.
pub(crate) fn expose(config: &Config, asked: Option<&HeaderValue>, answer: &mut HeaderMap) {
    if config.origins.is_empty() {
        return;
    }
    // Caches must not give to one origin what was said to another.
    answer.append(header::VARY, HeaderValue::from_static("origin"));
    let Some(origin) = asked.filter(|origin| is_let_in(config, origin)) else { return };
    answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    answer.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
}

/// Answers a browser that asks what a page may send. Its origin was checked already, and who it is
/// cannot be asked: browsers send nothing that says so.
pub(crate) fn preflight(config: &Config, asked: &HeaderMap) -> Reply {
    let mut reply = Response::new(Body::from(bytes::Bytes::new()));
    *reply.status_mut() = StatusCode::NO_CONTENT;
    let answer = reply.headers_mut();
    answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
    answer.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    if let Ok(allowed) = HeaderValue::try_from(allowed(config, asked)) {
        answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    }
    reply
}

/// Whether this is such a question.
pub(crate) fn is_preflight(head: &http::request::Parts) -> bool {
    head.method == http::Method::OPTIONS
        && head.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// Of the headers a page wants to send those that mean something here.
fn allowed(config: &Config, asked: &HeaderMap) -> String {
    let asked = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
    let names = asked.and_then(|names| names.to_str().ok()).unwrap_or_default();
    let is_known = |name: &&str| {
        matches!(*name, "authorization" | "content-type" | "traceparent")
            || name.starts_with("micro-")
            || config.forward.iter().map(HeaderName::as_str).any(|known| known == *name)
    };
    let names = names.split(',').map(str::trim).filter(is_known);
    names.collect::<Vec<_>>().join(", ")
}

fn is_let_in(config: &Config, origin: &HeaderValue) -> bool {
    config.origins.iter().any(|known| known.as_bytes() == origin.as_bytes())
}
