//! What a server answers over HTTP beside its methods: figures, and whatever else its owner adds.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Body;
use hyper::header::{HeaderMap, HeaderName};
use hyper::{Method, StatusCode};

use super::reply::{self, Refusal};
use super::{BoxError, Caller, Reply, read_body};
use crate::server::ServerStats;
use crate::server::shared::Shared;
use crate::{Code, Peer, Status};

/// Something that a server answers over HTTP at one path, beside its methods, health and
/// description. Like those it is answered however much there is to do.
#[derive(Clone)]
#[must_use = "a page is answered by the server it is given to"]
pub struct Page {
    method: Method,
    path: &'static str,
    content_type: &'static str,
    is_for_this_host: bool,
    answer: Arc<Answer>,
}

type Answer = dyn Fn(&Asked<'_>) -> Result<String, Status> + Send + Sync;

impl Page {
    /// Creates a page to look at. What answers is called for each request, so it must be quick.
    pub fn get(
        path: &'static str,
        content_type: &'static str,
        answer: impl Fn(&Asked<'_>) -> Result<String, Status> + Send + Sync + 'static,
    ) -> Self {
        let answer = Arc::new(answer);
        Self { method: Method::GET, path, content_type, is_for_this_host: false, answer }
    }

    /// Creates a page that takes a text of at most 64 KiB and answers with one.
    pub fn put(
        path: &'static str,
        answer: impl Fn(&Asked<'_>) -> Result<String, Status> + Send + Sync + 'static,
    ) -> Self {
        Self { method: Method::PUT, ..Self::get(path, TEXT, answer) }
    }

    /// Refuses callers of other hosts, those who come through a proxy, and those of whom nobody
    /// knows where they are.
    pub fn for_this_host(self) -> Self {
        Self { is_for_this_host: true, ..self }
    }

    pub(super) fn is_at(&self, path: &str) -> bool {
        self.path == path
    }

    fn takes(&self, method: &Method) -> bool {
        self.method == method || (self.method == Method::GET && method == Method::HEAD)
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page").field("method", &self.method).field("path", &self.path).finish()
    }
}

/// What a [`Page`] is asked.
pub struct Asked<'a> {
    shared: &'a Shared,
    text: String,
}

impl Asked<'_> {
    /// Returns the text that was sent along; none for pages to look at.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns what the server does now, and what has happened to its calls.
    #[must_use]
    pub fn server(&self) -> ServerStats {
        self.shared.stats()
    }
}

impl fmt::Debug for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked").field("text", &self.text).finish_non_exhaustive()
    }
}

const TEXT: &str = "text/plain; charset=utf-8";
/// The longest text that is taken.
const MAX_TEXT: usize = 64 * 1024;

/// Answers at a path where there are pages.
pub(super) async fn answer<B>(
    request: hyper::Request<B>,
    caller: &Caller,
    shared: &Shared,
) -> Result<Reply, Refusal>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    let path = request.uri().path();
    let here = || shared.web.pages.iter().filter(|page| page.is_at(path));
    let Some(page) = here().find(|page| page.takes(request.method())) else {
        let methods: Vec<_> = here().map(|page| page.method.as_str()).collect();
        return Err(Refusal::method_not_allowed(&methods.join(", "), path));
    };
    if page.is_for_this_host && !is_of_this_host(caller.peer, request.headers()) {
        let message = format!("`{path}` answers callers on this host only");
        return Err(Status::new(Code::PermissionDenied, message).into());
    }
    let text = match page.method {
        Method::PUT => text(read_body(request.into_body(), shared, MAX_TEXT).await?)?,
        _ => String::new(),
    };
    let answer = (page.answer)(&Asked { shared, text })?;
    Ok(reply::with_type(StatusCode::OK, answer.into(), page.content_type))
}

fn text(body: Bytes) -> Result<String, Status> {
    let text = String::from_utf8(body.into());
    text.map_err(|_| Status::new(Code::InvalidArgument, "the body is no UTF-8"))
}

/// A proxy of this host would make everybody a caller of this host.
fn is_of_this_host(peer: Option<Peer>, headers: &HeaderMap) -> bool {
    const OF_PROXIES: [HeaderName; 3] = [
        HeaderName::from_static("forwarded"),
        HeaderName::from_static("x-forwarded-for"),
        HeaderName::from_static("via"),
    ];
    let is_near = match peer {
        Some(Peer::Tcp(address)) => address.ip().to_canonical().is_loopback(),
        Some(Peer::Unix | Peer::Memory) => true,
        None => false,
    };
    is_near && !OF_PROXIES.iter().any(|header| headers.contains_key(header))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only who surely is on this host is taken for it: by any name of the loopback, and not
    /// through a proxy.
    #[test]
    fn callers_of_this_host() {
        let at = |address: &str| Some(Peer::Tcp(address.parse().unwrap()));
        let none = HeaderMap::new();
        for peer in [at("127.0.0.1:1"), at("[::1]:1"), at("[::ffff:127.0.0.1]:1")] {
            assert!(is_of_this_host(peer, &none), "{peer:?}");
        }
        assert!(is_of_this_host(Some(Peer::Unix), &none));
        for peer in [at("10.0.0.1:1"), at("[::ffff:10.0.0.1]:1"), at("[fe80::1]:1"), None] {
            assert!(!is_of_this_host(peer, &none), "{peer:?}");
        }
        for header in ["Forwarded", "X-Forwarded-For", "Via"] {
            let header = header.parse::<HeaderName>().unwrap();
            let headers = HeaderMap::from_iter([(header, "x".parse().unwrap())]);
            assert!(!is_of_this_host(at("127.0.0.1:1"), &headers), "{headers:?}");
        }
    }
}
