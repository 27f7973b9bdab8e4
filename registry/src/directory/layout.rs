//! Which key stands for which node.

use super::Keys;
use crate::{Registration, Scope};

/// The keys of a namespace: `namespace/service/node id`, of which no part contains a `/`.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) namespace: String,
}

impl Layout {
    pub(super) fn key(&self, registration: &Registration) -> String {
        self.node(&registration.service, &registration.node.id)
    }

    fn node(&self, service: &str, id: &str) -> String {
        format!("{}/{service}/{id}", self.namespace)
    }

    pub(super) fn keys(&self, scope: &Scope) -> Keys {
        match scope {
            Scope::Service(name) => Keys::Below(format!("{}/{name}/", self.namespace)),
            Scope::Node { service, id } => Keys::One(self.node(service, id)),
            Scope::All => Keys::Below(format!("{}/", self.namespace)),
        }
    }

    /// The service and the node id a key is of; `None` for what is not a node's key.
    pub(super) fn parse<'a>(&self, key: &'a str) -> Option<(&'a str, &'a str)> {
        let rest = key.strip_prefix(&*self.namespace)?.strip_prefix('/')?;
        rest.split_once('/').filter(|(_, id)| !id.contains('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Node;

    /// A key says whose it is, and what is no key of this namespace is none.
    #[test]
    fn keys_and_back() {
        let layout = Layout { namespace: "team".into() };
        let node = Registration::new("shop", "1.0.0", Node::new("a", "127.0.0.1:1"));
        let key = layout.key(&node);
        assert_eq!(layout.parse(&key), Some(("shop", "a")));
        for foreign in ["team2/shop/a", "team/shop", "team/shop/a/b", "shop/a", ""] {
            assert_eq!(layout.parse(foreign), None, "{foreign}");
        }
        let keys = layout.keys(&Scope::Service("shop".into()));
        assert_eq!(keys, Keys::Below("team/shop/".into()), "no longer name begins so");
        assert_eq!(layout.keys(&Scope::node(&node)), Keys::One(key));
    }
}
