//! Which nodes come into question.

use std::fmt;
use std::str::FromStr;

use micro_registry::{Registration, validate};
use semver::{Version, VersionReq};

use crate::node::read_version;
use crate::{Invalid, Member};

/// Which nodes come into question: by version, zone and labels. [`Default`] is all of them.
///
/// Its text, as configuration has it, is `version=>=1.4, <2; zone=a; label.track=canary`, or a part
/// of that.
///
/// ```
/// # use micro_selector::Filter;
/// let canaries = Filter::default().version(">=1.4, <2")?.label("track", "canary");
/// # Ok::<(), micro_selector::Invalid>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    versions: Option<Versions>,
    zone: Option<String>,
    labels: Vec<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Versions {
    Exactly(String),
    Matching(VersionReq),
}

impl Filter {
    /// Nodes of this version alone: `latest` or a complete version is meant exactly, everything
    /// else is a range as Cargo reads it, where `1.4` is `^1.4`. Nodes of version `latest` are in
    /// no range but `*`.
    ///
    /// # Errors
    ///
    /// For what is neither.
    pub fn version(mut self, version: &str) -> Result<Self, Invalid> {
        let is_exact = version == "latest" || read_version(version).is_some();
        self.versions = Some(match VersionReq::parse(version) {
            _ if is_exact => Versions::Exactly(version.to_owned()),
            Ok(range) => Versions::Matching(range),
            Err(_) => return Err(Invalid::new("version", format!("{version:?}"), VERSIONS)),
        });
        Ok(self)
    }

    /// Nodes of this zone alone. To merely prefer a zone, see
    /// [`SelectorConfig::zone`](crate::SelectorConfig::zone).
    #[must_use]
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// Nodes alone that have this label, or whose service has it.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.push((key.into(), value.into()));
        self
    }

    /// Whether nodes can be so at all.
    ///
    /// # Errors
    ///
    /// For a zone that cannot be a node's, and for a label whose key cannot.
    pub fn check(&self) -> Result<(), Invalid> {
        if let Some(zone) = &self.zone {
            validate::zone(zone).map_err(|_| Invalid::new("zone", format!("{zone:?}"), ZONE))?;
        }
        let is_key = |key: &str| (1..=validate::MAX_METADATA_KEY).contains(&key.len());
        match self.labels.iter().find(|(key, _)| !is_key(key)) {
            Some((key, _)) => Err(Invalid::new("label", format!("{key:?}"), LABEL)),
            None => Ok(()),
        }
    }

    /// Whether nodes of this version come into question, as far as the version goes.
    ///
    /// ```
    /// # use micro_selector::Filter;
    /// let filter = Filter::default().version("^1.4")?;
    /// assert!(filter.allows_version("1.5.0") && !filter.allows_version("2.0.0"));
    /// # Ok::<(), micro_selector::Invalid>(())
    /// ```
    #[must_use]
    pub fn allows_version(&self, version: &str) -> bool {
        let has = |versions: &Versions| versions.has(version, read_version(version).as_ref());
        self.versions.as_ref().is_none_or(has)
    }

    pub(crate) fn allows<T>(&self, member: &Member<T>) -> bool {
        let registration: &Registration = member.registration();
        let has = |versions: &Versions| versions.has(&registration.version, member.version());
        self.versions.as_ref().is_none_or(has)
            && (self.zone.is_none() || self.zone == registration.node.zone)
            && self.labels.iter().all(|(key, value)| label(registration, key) == Some(value))
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = self.versions.as_ref().map(|versions| format!("version={versions}"));
        let zone = self.zone.as_ref().map(|zone| format!("zone={zone}"));
        let labels = self.labels.iter().map(|(key, value)| format!("label.{key}={value}"));
        let parts: Vec<_> = version.into_iter().chain(zone).chain(labels).collect();
        f.write_str(&parts.join("; "))
    }
}

impl FromStr for Filter {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let mut filter = Self::default();
        for part in text.split(';').map(str::trim) {
            let malformed = || Invalid::new("filter", format!("{text:?}"), FORM);
            let (key, value) = part.split_once('=').ok_or_else(malformed)?;
            filter = match (key.trim(), value.trim()) {
                ("version", value) if filter.versions.is_none() => filter.version(value)?,
                ("zone", value) if filter.zone.is_none() => filter.zone(value),
                (key, value) => {
                    filter.label(key.strip_prefix("label.").ok_or_else(malformed)?, value)
                }
            };
        }
        Ok(filter)
    }
}

const FORM: &str = "version=…, zone=… and label.KEY=…, or some of them, with `;` between";
const VERSIONS: &str =
    "`latest`, a version such as 1.4.2, or a range such as ^1.4, 1.4 or \">=1.4, <2\"";
pub(crate) const ZONE: &str = "a zone: 1 to 128 of A-Z a-z 0-9 . _ - (not only dots)";
const LABEL: &str = "a label with a key of 1 to 128 bytes";

impl Versions {
    /// Whether it is among them, by its text and as it is read.
    fn has(&self, text: &str, version: Option<&Version>) -> bool {
        match self {
            Self::Exactly(exactly) => text == exactly,
            Self::Matching(range) => match version {
                Some(version) => range.matches(version),
                None => *range == VersionReq::STAR,
            },
        }
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(version) => f.write_str(version),
            Self::Matching(range) => range.fmt(f),
        }
    }
}

/// A node's label, or else its service's.
fn label<'a>(registration: &'a Registration, key: &str) -> Option<&'a String> {
    registration.node.metadata.get(key).or_else(|| registration.metadata.get(key))
}
