//! Which nodes come into question.

use micro_registry::Registration;
use semver::{Version, VersionReq};

use crate::Member;

/// Which nodes come into question: by version, zone and labels. [`Default`] is all of them.
///
/// ```
/// # use micro_selector::Filter;
/// let canaries = Filter::default().version(">=1.4, <2")?.label("track", "canary");
/// # Ok::<(), micro_selector::InvalidFilter>(())
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

/// What cannot be a [`Filter`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "version {0:?} is invalid: expected `latest`, a version such as 1.4.2, or a range such as \
     ^1.4, 1.4 or \">=1.4, <2\""
)]
pub struct InvalidFilter(String);

impl Filter {
    /// Nodes of this version alone: `latest` or a complete version is meant exactly, everything
    /// else is a range as Cargo reads it, where `1.4` is `^1.4`. Nodes of version `latest` are in
    /// no range but `*`.
    ///
    /// # Errors
    ///
    /// For what is neither.
    pub fn version(mut self, version: &str) -> Result<Self, InvalidFilter> {
        let is_exact = version == "latest" || Version::parse(version).is_ok();
        self.versions = Some(match VersionReq::parse(version) {
            _ if is_exact => Versions::Exactly(version.to_owned()),
            Ok(range) => Versions::Matching(range),
            Err(_) => return Err(InvalidFilter(version.to_owned())),
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

    pub(crate) fn allows<T>(&self, member: &Member<T>) -> bool {
        let registration: &Registration = member.registration();
        self.versions.as_ref().is_none_or(|versions| versions.has(member))
            && (self.zone.is_none() || self.zone == registration.node.zone)
            && self.labels.iter().all(|(key, value)| label(registration, key) == Some(value))
    }
}

impl Versions {
    fn has<T>(&self, member: &Member<T>) -> bool {
        match self {
            Self::Exactly(version) => member.registration().version == *version,
            Self::Matching(range) => match member.version() {
                Some(version) => range.matches(version),
                None => *range == VersionReq::STAR,
            },
        }
    }
}

/// A node's label, or else its service's.
fn label<'a>(registration: &'a Registration, key: &str) -> Option<&'a String> {
    registration.node.metadata.get(key).or_else(|| registration.metadata.get(key))
}
