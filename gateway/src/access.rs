//! Who may ask.

use std::fmt;
use std::sync::Arc;

use http::header::{AUTHORIZATION, HeaderMap, HeaderName};
use http::request::Parts;
use micro::Code;
use micro::rpc::Status;

/// Who may call, and see what there is. Health and the files of the pages are for everybody: there is
/// nothing to learn from them.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Access {
    /// Whoever reaches it.
    #[default]
    Anybody,
    /// Those who send one of these tokens, as `authorization: Bearer …`. The header goes no further
    /// then: services have no use for what opens the gateway.
    Bearer(Vec<String>),
    /// Those whose header has one of these values, which a proxy in front sets.
    #[allow(missing_docs)]
    Header { name: HeaderName, values: Vec<String> },
    /// Those whom this lets pass; what it answers instead goes to the others. The header
    /// `authorization` goes along to services.
    Rule(Arc<Rule>),
}

/// Looks at a request, and lets it pass or says why not.
///
/// Several paths lead to a method, and not every path leads to one: what may be called is to be
/// decided by [`Asked::call`], not by the path.
pub type Rule = dyn Fn(&Asked<'_>) -> Result<(), Status> + Send + Sync;

/// What somebody asks for.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Asked<'a> {
    /// The head of the request.
    pub head: &'a Parts,
    /// The method it calls; `None` for what is only looked at, such as `/services`, and for a path
    /// that leads to no method.
    pub call: Option<Called<'a>>,
}

/// The method that is called, whatever the path that leads to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Called<'a> {
    /// The service.
    pub service: &'a str,
    /// Its contract.
    pub contract: &'a str,
    /// The contract's method.
    pub method: &'a str,
}

impl Access {
    /// Whether a request may pass, by its head alone where that decides.
    pub(crate) fn check(&self, head: &Parts) -> Result<(), Status> {
        match self {
            Self::Anybody => Ok(()),
            Self::Bearer(tokens) => {
                let sent = token(&head.headers).ok_or_else(|| unauthenticated("a bearer token"))?;
                is_among(tokens, sent).then_some(()).ok_or_else(|| unauthenticated("another token"))
            }
            Self::Header { name, values } => {
                let sent = head.headers.get(name).map(|value| value.as_bytes());
                let is_known = sent.is_some_and(|sent| is_among(values, sent));
                let what = format!("a known value of the header `{name}`");
                is_known.then_some(()).ok_or_else(|| unauthenticated(&what))
            }
            Self::Rule(_) => Ok(()),
        }
    }

    /// Whether the rule, if there is one, lets it pass.
    pub(crate) fn check_rule(&self, head: &Parts, call: Option<Called<'_>>) -> Result<(), Status> {
        match self {
            Self::Rule(rule) => rule(&Asked { head, call }),
            _ => Ok(()),
        }
    }

    /// Whether the header `authorization` is for the gateway itself.
    pub(crate) fn takes_authorization(&self) -> bool {
        match self {
            Self::Bearer(_) => true,
            Self::Header { name, .. } => *name == AUTHORIZATION,
            _ => false,
        }
    }
}

/// Secrets are not shown.
impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anybody => f.write_str("Anybody"),
            Self::Bearer(tokens) => write!(f, "Bearer({} tokens)", tokens.len()),
            Self::Header { name, values } => write!(f, "Header({name}, {} values)", values.len()),
            Self::Rule(_) => f.write_str("Rule"),
        }
    }
}

/// The bearer token; the scheme is compared without case, as RFC 9110 has it.
pub(crate) fn token(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| token.trim_ascii())
}

const SCHEME: &[u8] = b"bearer ";

/// Takes as long for a value that is nearly right as for one that is not.
fn is_among(values: &[String], sent: &[u8]) -> bool {
    let is_same = |value: &String| {
        let differences = value.bytes().zip(sent).fold(0, |sum, (a, b)| sum | (a ^ b));
        value.len() == sent.len() && differences == 0
    };
    values.iter().fold(false, |found, value| found | is_same(value))
}

fn unauthenticated(expected: &str) -> Status {
    Status::new(Code::Unauthenticated, format!("the gateway expects {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(access: &Access, header: &str, value: &str) -> bool {
        let request = http::Request::builder().header(header, value).body(());
        let (head, ()) = request.expect("it is well formed").into_parts();
        access.check(&head).is_ok()
    }

    /// A token opens, whatever the case of the scheme; part of one, more than one or none does not.
    #[test]
    fn tokens() {
        let access = Access::Bearer(vec!["first".into(), "second".into()]);
        for value in ["Bearer first", "bearer second", "BEARER  second "] {
            assert!(allows(&access, "authorization", value), "{value}");
        }
        for value in ["Bearer", "Bearer ", "Bearer firs", "Bearer first2", "Basic first", "first"] {
            assert!(!allows(&access, "authorization", value), "{value}");
        }
        assert!(!allows(&access, "x-token", "Bearer first"));
        assert!(!allows(&Access::Bearer(Vec::new()), "authorization", "Bearer "));
    }

    /// A header opens when its value is one of those that are known.
    #[test]
    fn headers() {
        let name = HeaderName::from_static("x-role");
        let access = Access::Header { name, values: vec!["clerk".into()] };
        assert!(allows(&access, "X-Role", "clerk"));
        assert!(!allows(&access, "x-role", "guest"));
        assert!(!allows(&access, "x-other", "clerk"));
    }

    /// Nothing that opens is ever shown.
    #[test]
    fn secrets_are_not_shown() {
        let name = HeaderName::from_static("x-role");
        let header = Access::Header { name, values: vec!["geheim".into()] };
        for access in [Access::Bearer(vec!["geheim".into()]), header] {
            assert!(!format!("{access:?}").contains("geheim"));
        }
    }
}
