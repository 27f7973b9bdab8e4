//! Which HTTP requests may come from a browser, and from which page.

use std::net::{IpAddr, Ipv6Addr};

use hyper::Uri;
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::http::uri::Authority;

use super::reply::Refusal;

/// Refuses what a page of a foreign site can make a browser send.
///
/// `curl -d` sends a content type that any page may send too, so the content type protects
/// nothing. Two headers do, because a page cannot set them:
///
/// - `Origin`, if there is one, must be of the same host and port as `Host`, or one of `origins`.
/// - `Host`, if there is one, must be an IP address, `localhost`, a name without a dot, or one of
///   the service's own names: a page that pointed its own name at this server (DNS rebinding)
///   sends that name.
///
/// A request for `http://name/path` rather than `/path` names the host there, and `Host` does not
/// count (RFC 9112, section 3.2.2).
///
/// # Errors
///
/// A refusal with 403, or 400 where one of them comes twice or is no text.
pub fn check_source(
    uri: &Uri,
    headers: &HeaderMap,
    own: &[String],
    origins: &[String],
) -> Result<(), Refusal> {
    let header = text(headers, &header::HOST)?;
    let host = uri.authority().map(Authority::as_str).or(header);
    if let Some(host) = host
        && !is_own(name_of(host), own)
    {
        return Err(Refusal::foreign_host(host));
    }
    match text(headers, &header::ORIGIN)? {
        Some(origin) if !is_same(origin, host) && !origins.iter().any(|one| one == origin) => {
            Err(Refusal::foreign_origin(origin))
        }
        _ => Ok(()),
    }
}

/// Returns a header that may come once at most, and as text only.
fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let first = values.next().map(|value| value.to_str());
    match (first, values.next()) {
        (None, _) => Ok(None),
        (Some(Ok(value)), None) => Ok(Some(value)),
        _ => Err(Refusal::malformed(name.as_str())),
    }
}

/// The host without its port, and without the brackets of IPv6.
fn name_of(host: &str) -> &str {
    if let Some((address, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

fn is_own(name: &str, own: &[String]) -> bool {
    // What stands before an `@` is no host.
    if name.contains('@') {
        return false;
    }
    let is_ip = name.parse::<IpAddr>().is_ok() || name.parse::<Ipv6Addr>().is_ok();
    let is_single_label = !name.is_empty() && !name.contains('.');
    is_ip || is_single_label || own.iter().any(|own| own.eq_ignore_ascii_case(name))
}

fn is_same(origin: &str, host: Option<&str>) -> bool {
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    match (authority, host) {
        (Some(origin), Some(host)) => origin.eq_ignore_ascii_case(host),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(host: Option<&str>, origin: Option<&str>) -> bool {
        allowed_at("/", host, origin)
    }

    fn allowed_at(target: &'static str, host: Option<&str>, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        host.map(|host| headers.insert(header::HOST, host.parse().unwrap()));
        origin.map(|origin| headers.insert(header::ORIGIN, origin.parse().unwrap()));
        let (own, origins) = (["api.example.com".into()], ["http://shop.example".into()]);
        check_source(&Uri::from_static(target), &headers, &own, &origins).is_ok()
    }

    /// Only addresses, plain names and the service's own names are believed.
    #[test]
    fn hosts() {
        for host in [
            "127.0.0.1:80",
            "[::1]:80",
            "localhost",
            "LOCALHOST:1",
            "node7:80",
            "API.example.com:443",
        ] {
            assert!(allowed(Some(host), None), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:80",
            "127.0.0.1.evil.example",
            "",
            "localhost.evil.example",
            ":80",
        ] {
            assert!(!allowed(Some(host), None), "{host}");
        }
        assert!(allowed(None, None), "health checks in HTTP/1.0 send none, and browsers always do");
    }

    /// A page may only call the host it came from.
    #[test]
    fn origins() {
        assert!(allowed(Some("localhost:80"), Some("http://localhost:80")));
        for origin in ["null", "http://evil.example", "http://localhost:81", "http://localhost"] {
            assert!(!allowed(Some("localhost:80"), Some(origin)), "{origin}");
        }
        assert!(!allowed(None, Some("http://localhost")));
    }

    /// Pages of an origin that was let in may call, by the server's own names.
    #[test]
    fn origins_let_in() {
        assert!(allowed(Some("localhost:80"), Some("http://shop.example")));
        for origin in ["https://shop.example", "http://shop.example:8080", "http://a.shop.example"]
        {
            assert!(!allowed(Some("localhost:80"), Some(origin)), "{origin}");
        }
        assert!(!allowed(Some("shop.example"), Some("http://shop.example:81")));
    }

    /// The host of an absolute target stands for the header, in both checks.
    #[test]
    fn absolute_targets() {
        let (own, foreign) = ("http://localhost:80/a", "http://evil.example/a");
        assert!(allowed_at(own, Some("localhost:80"), Some("http://localhost:80")));
        assert!(allowed_at(own, Some("evil.example"), None));
        assert!(!allowed_at(foreign, Some("localhost:80"), None));
        assert!(!allowed_at(foreign, None, None));
        assert!(!allowed_at(own, Some("evil.example"), Some("http://evil.example")));
        assert!(!allowed_at("http://evil.example@localhost/", Some("localhost"), None));
    }
}
