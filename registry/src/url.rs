//! `MICRO_REGISTRY`-style addresses of registries.

use std::fmt;
use std::str::FromStr;

use crate::{Error, ErrorKind};

/// The address of a registry: `scheme:[//authority][/path or text][?key=value&…]`.
///
/// Examples: `local:`, `local:/run/user/1000/micro?namespace=shop`, `static:greeter=10.0.0.1:7000`,
/// `etcd://user:secret@10.0.0.1:2379,10.0.0.2:2379/micro?namespace=shop`. There are no escapes: a
/// password contains no `?`, and a query no `@`.
///
/// A backend takes the query keys it knows with [`take`](Self::take) and ends with
/// [`finish`](Self::finish), so that an unknown key is an error and not silence. `Display` and
/// `Debug` redact credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryUrl {
    scheme: String,
    authority: Option<String>,
    path: String,
    query: Vec<(String, String)>,
}

impl RegistryUrl {
    /// What stands before the first colon: which backend.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// What stands between `//` and the path, credentials included; `None` without `//`.
    pub fn authority(&self) -> Option<&str> {
        self.authority.as_deref()
    }

    /// What stands between authority and query.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Takes a query value out.
    pub fn take(&mut self, key: &str) -> Option<String> {
        let position = self.query.iter().position(|(known, _)| known == key)?;
        Some(self.query.remove(position).1)
    }

    /// Adds a query value unless the URL has one of that key.
    pub fn set_default(&mut self, key: &str, value: impl Into<String>) {
        if !self.query.iter().any(|(known, _)| known == key) {
            self.query.push((key.to_owned(), value.into()));
        }
    }

    /// Ends the reading: what was not taken is unknown.
    ///
    /// # Errors
    ///
    /// `Invalid`, naming the first key nobody took and the keys that are `known`.
    pub fn finish(self, known: &[&str]) -> Result<(), Error> {
        let Some((key, _)) = self.query.first() else { return Ok(()) };
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Err(Error::new(
            ErrorKind::Invalid,
            format!("query key `{key}` of registry `{self}` is unknown: expected {known}"),
        ))
    }
}

impl FromStr for RegistryUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (scheme, rest) = text.split_once(':').ok_or_else(|| malformed(text))?;
        let starts_well = scheme.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
        if !starts_well || !scheme.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
            return Err(malformed(text));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        if query.contains('@') {
            // What stands before it may be a password that contains a question mark.
            return Err(malformed(text));
        }
        let (authority, path) = match rest.strip_prefix("//") {
            None => (None, rest),
            Some(rest) => {
                // A password may contain slashes; a host may not.
                let host = rest.rfind('@').map_or(0, |at| at + 1);
                let end = rest[host..].find('/').map_or(rest.len(), |slash| host + slash);
                (Some(rest[..end].to_owned()), &rest[end..])
            }
        };
        let pair = |pair: &str| {
            let (key, value) = pair.split_once('=').ok_or_else(|| malformed(text))?;
            Ok((key.to_owned(), value.to_owned()))
        };
        let query =
            query.split('&').filter(|p| !p.is_empty()).map(pair).collect::<Result<_, _>>()?;
        Ok(Self { scheme: scheme.to_owned(), authority, path: path.to_owned(), query })
    }
}

impl fmt::Display for RegistryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.scheme)?;
        if let Some(authority) = &self.authority {
            match authority.rsplit_once('@') {
                Some((_, hosts)) => write!(f, "//***@{hosts}")?,
                None => write!(f, "//{authority}")?,
            }
        }
        match self.path.rsplit_once('@') {
            Some((_, rest)) => write!(f, "***@{rest}")?,
            None => f.write_str(&self.path)?,
        }
        for (index, (key, value)) in self.query.iter().enumerate() {
            let separator = if index == 0 { '?' } else { '&' };
            let value = if is_secret(key) { "***" } else { value };
            write!(f, "{separator}{key}={value}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for RegistryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegistryUrl({self})")
    }
}

fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["pass", "pwd", "secret", "token", "key", "auth", "credential"]
        .iter()
        .any(|word| key.contains(word))
}

/// Does not repeat what may hold a password: what belongs to an `@`, and a query.
fn malformed(text: &str) -> Error {
    let shown = match text.split_once('?') {
        _ if text.contains('@') => "***".to_owned(),
        Some((shown, _)) => format!("{shown}?***"),
        None => text.to_owned(),
    };
    Error::new(
        ErrorKind::Invalid,
        format!(
            "registry {shown:?} is invalid: expected scheme:[//hosts][/path][?key=value], \
             for example local: or static:greeter=10.0.0.1:7000"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every form of DESIGN is taken apart as meant.
    #[test]
    fn parses_the_documented_forms() {
        let mut url: RegistryUrl =
            "etcd://u:p@10.0.0.1:2379,h:1/micro?namespace=shop".parse().unwrap();
        assert_eq!((url.scheme(), url.path()), ("etcd", "/micro"));
        assert_eq!(url.authority(), Some("u:p@10.0.0.1:2379,h:1"));
        url.set_default("namespace", "other");
        url.set_default("cluster", "a");
        assert_eq!(url.take("namespace").as_deref(), Some("shop"));
        assert_eq!(url.take("cluster").as_deref(), Some("a"));
        url.finish(&["namespace"]).unwrap();

        let url: RegistryUrl = "static:greeter=10.0.0.1:7000".parse().unwrap();
        assert_eq!((url.authority(), url.path()), (None, "greeter=10.0.0.1:7000"));
        assert_eq!("local:".parse::<RegistryUrl>().unwrap().path(), "");
    }

    /// No credential is ever printed, whether the URL parses or not.
    #[test]
    fn never_shows_a_secret() {
        let url: RegistryUrl = "etcd://user:hunter2@h:1/x?token=hunter2".parse().unwrap();
        assert_eq!(url.to_string(), "etcd://***@h:1/x?token=***");
        assert!(!format!("{url:?}").contains("hunter2"));
        assert!(!url.finish(&[]).unwrap_err().to_string().contains("hunter2"));
        for hidden in ["etcd://user:hunt/hunter2@h:1", "etcd:user:hunter2@h", "etcd:/u:hunter2@h"] {
            let url: RegistryUrl = hidden.parse().unwrap();
            assert!(!url.to_string().contains("hunter2"), "{url}");
        }
        let url: RegistryUrl = "etcd://h:1/x?apiKey=hunter2&TOKEN=hunter2".parse().unwrap();
        assert_eq!(url.to_string(), "etcd://h:1/x?apiKey=***&TOKEN=***");
        let malformed = [
            "ETCD://user:hunter2@h",
            "etcd://h:1?hunter2",
            "etcd://h?a=1&hunter2",
            "etcd://user:hunter2?x=hunter2@h",
        ];
        for malformed in malformed {
            let error = malformed.parse::<RegistryUrl>().unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    /// Unknown keys and malformed texts are errors that say what would be right.
    #[test]
    fn refuses_what_it_does_not_know() {
        let url: RegistryUrl = "local:?namspace=x".parse().unwrap();
        let error = url.finish(&["namespace"]).unwrap_err().to_string();
        assert!(error.contains("`namspace`") && error.contains("expected namespace"), "{error}");
        for bad in ["", "local", ":", "Local:", "local:?x"] {
            assert!(bad.parse::<RegistryUrl>().is_err(), "{bad}");
        }
    }
}
