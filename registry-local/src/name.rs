//! What a file's name says about it.

use micro_registry::{Registration, validate};
use uuid::Uuid;

/// How names of files being written begin.
pub(crate) const TEMPORARY: &str = ".tmp-";
/// The name of the file that is locked for a read-check-write.
pub(crate) const GUARD: &str = ".guard";

/// A node, by what its file is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) service: String,
    pub(crate) id: String,
}

impl Key {
    pub(crate) fn of(registration: &Registration) -> Self {
        Self { service: registration.service.clone(), id: registration.node.id.clone() }
    }

    pub(crate) fn node_file(&self) -> String {
        format!("{}@{}.json", self.service, self.id)
    }

    pub(crate) fn left_file(&self) -> String {
        format!("{}@{}.left", self.service, self.id)
    }
}

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Node(Key),
    Left(Key),
    Lock(Uuid),
    Temporary,
    Guard,
    Foreign,
}

impl Name {
    /// Names of nodes contain an `@` and no others do, so a service may be called `.tmp-x`.
    pub(crate) fn parse(name: &str) -> Self {
        if let Some((service, rest)) = name.split_once('@') {
            return node(service, rest).unwrap_or(Self::Foreign);
        }
        if let Some(owner) = name.strip_suffix(".lock") {
            return Uuid::parse_str(owner).map_or(Self::Foreign, Self::Lock);
        }
        match name {
            GUARD => Self::Guard,
            _ if name.starts_with(TEMPORARY) => Self::Temporary,
            _ => Self::Foreign,
        }
    }
}

pub(crate) fn lock_file(owner: Uuid) -> String {
    format!("{owner}.lock")
}

fn node(service: &str, rest: &str) -> Option<Name> {
    let (id, extension) = rest.rsplit_once('.')?;
    validate::service_name(service).ok()?;
    validate::node_id(id).ok()?;
    let key = Key { service: service.to_owned(), id: id.to_owned() };
    match extension {
        "json" => Some(Name::Node(key)),
        "left" => Some(Name::Left(key)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every name we write is read back as what it was, however odd the service is called.
    #[test]
    fn round_trip() {
        for (service, id) in
            [("greeter", "a"), (".tmp-x", "a.json"), ("a.lock", "b.left"), (".guard", "x")]
        {
            let key = Key { service: service.into(), id: id.into() };
            assert_eq!(Name::parse(&key.node_file()), Name::Node(key.clone()));
            assert_eq!(Name::parse(&key.left_file()), Name::Left(key));
        }
        let owner = Uuid::now_v7();
        assert_eq!(Name::parse(&lock_file(owner)), Name::Lock(owner));
        assert_eq!(Name::parse(".tmp-abc"), Name::Temporary);
        assert_eq!(Name::parse(".guard"), Name::Guard);
    }

    /// What we did not write is foreign.
    #[test]
    fn foreign() {
        for name in ["README", "x.lock", "a@b", "a@b.txt", "A@b.json", "a@b@c.json", "@b.json"] {
            assert_eq!(Name::parse(name), Name::Foreign, "{name}");
        }
    }
}
