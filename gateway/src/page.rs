//! The pages, which are part of the program and need nothing from elsewhere.

use http::header::{self, HeaderName, HeaderValue};

use crate::body::{Reply, reply};

/// The file of a page at this path. They are the same for everybody: what is known of services the
/// pages ask for themselves.
pub(crate) fn file(path: &str) -> Option<Reply> {
    let (content_type, body) = match path {
        "/" => (HTML, include_str!("../page/index.html")),
        "/docs" => (HTML, include_str!("../page/docs.html")),
        "/page.css" => ("text/css; charset=utf-8", include_str!("../page/page.css")),
        "/common.js" => (SCRIPT, include_str!("../page/common.js")),
        "/page.js" => (SCRIPT, include_str!("../page/page.js")),
        "/docs.js" => (SCRIPT, include_str!("../page/docs.js")),
        "/icon.svg" => ("image/svg+xml", include_str!("../page/icon.svg")),
        _ => return None,
    };
    let mut reply = reply(content_type, body);
    for (name, value) in HEADERS {
        reply.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Some(reply)
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Nothing is loaded from elsewhere, sent elsewhere, or shown inside another page.
const HEADERS: [(HeaderName, &str); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-cache"),
];
