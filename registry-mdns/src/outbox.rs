//! What this process announces, and what is to be sent because of it: pure, over calls and time.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use micro_registry::{Error, Registration, RemoveReason};
use tokio::time::Instant;
use uuid::Uuid;

use crate::text::{Announcement, Key, Text};

/// Knows our publications, and keeps what is to be sent until it is fetched.
///
/// Each publication is an instance of its own, whose name nobody else can have come up with. Were
/// it one per node, two processes that announce the same node would rename each other.
#[derive(Debug)]
pub(crate) struct Outbox {
    namespace: String,
    published: HashMap<(Key, u64), Publication>,
    unsent: VecDeque<Effect>,
    /// How many effects were ever put into the queue.
    queued: u64,
}

/// Something to send.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Effect {
    Announce(Box<Notice>),
    /// A goodbye, which takes the record out of all caches.
    Withdraw(String),
}

/// An instance and its record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Notice {
    pub(crate) instance: String,
    pub(crate) service: String,
    /// For programs that know only DNS-SD; 0 when the address has none.
    pub(crate) port: u16,
    pub(crate) text: Text,
}

/// What was said under which name, for the tracker to hear.
pub(crate) type Said = (String, Announcement);

/// How long it is announced that a node left, before its record goes: time for two announcements.
pub(crate) const LINGER: Duration = Duration::from_millis(2_500);

impl Outbox {
    pub(crate) fn new(namespace: &str) -> Self {
        let (published, unsent) = (HashMap::new(), VecDeque::new());
        Self { namespace: namespace.to_owned(), published, unsent, queued: 0 }
    }

    /// Announces a node, or renews it.
    ///
    /// # Errors
    ///
    /// `Invalid` for what does not fit into a record.
    pub(crate) fn put(
        &mut self,
        registration: &Registration,
        ttl: Duration,
        stamp: u64,
        now: Instant,
    ) -> Result<Said, Error> {
        let (said, text) = Announcement::here(&self.namespace, registration, ttl, stamp)?;
        let port = port_of(&registration.node.address);
        Ok(self.publish(said, text, port, now + ttl, false))
    }

    /// Announces that a node left, whether it is ours or not.
    pub(crate) fn leave(
        &mut self,
        key: Key,
        epoch: u64,
        reason: RemoveReason,
        stamp: u64,
        now: Instant,
    ) -> Said {
        let (said, text) = Announcement::left(&self.namespace, key, epoch, reason, stamp);
        self.publish(said, text, 0, now + LINGER, true)
    }

    /// Takes a node back without a word, as others spoke for it; gives the name it had.
    pub(crate) fn withdraw(&mut self, key: &Key, epoch: u64) -> Option<String> {
        let publication = self.published.remove(&(key.clone(), epoch))?;
        self.send(Effect::Withdraw(publication.notice.instance.clone()));
        Some(publication.notice.instance)
    }

    /// Somebody else uses the name of an instance of ours: it takes another. Gives the old name,
    /// and what is said under the new one.
    pub(crate) fn rename(&mut self, instance: &str) -> Option<(String, Said)> {
        let named = |publication: &&mut Publication| publication.notice.instance == instance;
        let publication = self.published.values_mut().find(named)?;
        let name = name_of(&publication.notice.service);
        let old = std::mem::replace(&mut publication.notice.instance, name.clone());
        let (said, notice) = (publication.said.clone(), publication.notice.clone());
        self.send(Effect::Withdraw(old.clone()));
        self.send(Effect::Announce(Box::new(notice)));
        Some((old, (name, said)))
    }

    /// The stamp of what an instance of ours said last; `None` when it is not ours.
    pub(crate) fn stamp_of(&self, instance: &str) -> Option<u64> {
        let mut published = self.published.values();
        let publication = published.find(|p| p.notice.instance == instance)?;
        Some(publication.said.stamp)
    }

    /// The epochs in which a node is announced to be there.
    pub(crate) fn epochs_here(&self, key: &Key) -> Vec<u64> {
        let here = self.published.iter().filter(|(_, publication)| !publication.is_leaving);
        here.filter(|((known, _), _)| known == key).map(|((_, epoch), _)| *epoch).collect()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.published.values().map(|publication| publication.ends).min()
    }

    /// The nodes nobody renewed in time. What left long enough ago is not announced any more, and
    /// its names are given.
    pub(crate) fn tick(&mut self, now: Instant) -> (Vec<(Key, u64)>, Vec<String>) {
        let due = self.published.iter().filter(|(_, publication)| publication.ends <= now);
        let (over, expired): (Vec<_>, Vec<_>) = due
            .map(|(node, publication)| (node.clone(), publication.is_leaving))
            .partition(|(_, is_leaving)| *is_leaving);
        let withdrawn = over.into_iter().filter_map(|((key, epoch), _)| self.withdraw(&key, epoch));
        let withdrawn = withdrawn.collect();
        (expired.into_iter().map(|(node, _)| node).collect(), withdrawn)
    }

    /// Says everything again, to a network that knows nothing of it.
    pub(crate) fn repeat(&mut self) {
        self.unsent.clear();
        let notices: Vec<_> = self.published.values().map(|p| p.notice.clone()).collect();
        for notice in notices {
            self.send(Effect::Announce(Box::new(notice)));
        }
    }

    /// What is to be sent next, and how many were put into the queue in all.
    pub(crate) fn unsent(&mut self) -> (Vec<Effect>, u64) {
        (self.unsent.drain(..).collect(), self.queued)
    }

    /// How many were put into the queue.
    pub(crate) fn queued(&self) -> u64 {
        self.queued
    }

    fn publish(
        &mut self,
        said: Announcement,
        text: Text,
        port: u16,
        ends: Instant,
        is_leaving: bool,
    ) -> Said {
        let node = (said.key.clone(), said.epoch);
        let service = said.key.service.clone();
        let known = self.published.get(&node);
        let instance = known.map_or_else(|| name_of(&service), |p| p.notice.instance.clone());
        let port = known.map_or(port, |p| if is_leaving { p.notice.port } else { port });
        let notice = Notice { instance: instance.clone(), service, port, text };
        self.send(Effect::Announce(Box::new(notice.clone())));
        let publication = Publication { notice, said: said.clone(), ends, is_leaving };
        self.published.insert(node, publication);
        (instance, said)
    }

    /// What an instance said and nobody fetched yet is not worth sending any more.
    fn send(&mut self, effect: Effect) {
        if let Effect::Announce(notice) = &effect {
            let same =
                |e: &Effect| matches!(e, Effect::Announce(n) if n.instance == notice.instance);
            self.unsent.retain(|unsent| !same(unsent));
        }
        self.unsent.push_back(effect);
        self.queued += 1;
    }
}

#[derive(Debug)]
struct Publication {
    notice: Notice,
    said: Announcement,
    ends: Instant,
    is_leaving: bool,
}

/// Begins like the service, for people to read; a label has at most 63 bytes.
fn name_of(service: &str) -> String {
    let readable: String =
        service.chars().take(24).map(|c| if c == '.' { '-' } else { c }).collect();
    format!("{readable}-{}", Uuid::now_v7().simple())
}

fn port_of(address: &str) -> u16 {
    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    port.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use micro_registry::Node;

    const TTL: Duration = Duration::from_secs(30);

    fn registration() -> Registration {
        Registration::new("greeter", "1.0.0", Node::new("a", "127.0.0.1:7000"))
    }

    fn with_node() -> (Outbox, String, Instant) {
        let (mut outbox, now) = (Outbox::new("shop"), Instant::now());
        let (instance, _) = outbox.put(&registration(), TTL, 1, now).unwrap();
        (outbox, instance, now)
    }

    fn sent(outbox: &mut Outbox) -> Vec<String> {
        let name = |effect| match effect {
            Effect::Announce(notice) => format!("+{}", notice.instance),
            Effect::Withdraw(instance) => format!("-{instance}"),
        };
        outbox.unsent().0.into_iter().map(name).collect()
    }

    /// A renewal says something new under the same name; what was not sent yet is replaced.
    #[test]
    fn renewals_keep_the_name() {
        let (mut outbox, instance, now) = with_node();
        let (again, said) = outbox.put(&registration(), TTL, 2, now).unwrap();
        assert_eq!((again, said.stamp), (instance.clone(), 2));
        assert_eq!(outbox.stamp_of(&instance), Some(2));
        let (effects, queued) = outbox.unsent();
        let [Effect::Announce(notice)] = &effects[..] else { panic!("{effects:?}") };
        assert_eq!((notice.port, &*notice.service, queued), (7_000, "greeter", 2));
        assert!(instance.starts_with("greeter-") && instance.len() <= 63);
    }

    /// Who leaves is announced to have left for a while, and then no more.
    #[test]
    fn leaving_lingers() {
        let (mut outbox, instance, now) = with_node();
        outbox.leave(Key::of(&registration()), 0, RemoveReason::Deregistered, 2, now);
        assert_eq!(sent(&mut outbox), [format!("+{instance}")]);
        assert!(outbox.epochs_here(&Key::of(&registration())).is_empty());
        assert_eq!(outbox.next_deadline(), Some(now + LINGER));
        let (expired, withdrawn) = outbox.tick(now + LINGER);
        assert!(expired.is_empty() && withdrawn == std::slice::from_ref(&instance));
        assert_eq!(sent(&mut outbox), [format!("-{instance}")]);
        assert_eq!(outbox.next_deadline(), None);
    }

    /// What nobody renews is told at its end.
    #[test]
    fn leases_end() {
        let (mut outbox, _, now) = with_node();
        let node = (Key::of(&registration()), 0);
        assert_eq!(outbox.tick(now + TTL - LINGER), (vec![], vec![]));
        assert_eq!(outbox.tick(now + TTL), (vec![node], vec![]));
    }

    /// A name somebody else uses is given up for another.
    #[test]
    fn duplicate_names_are_given_up() {
        let (mut outbox, old, _) = with_node();
        outbox.unsent();
        let (before, (name, said)) = outbox.rename(&old).unwrap();
        assert!(before == old && name != old && said.stamp == 1);
        assert_eq!(sent(&mut outbox), [format!("-{old}"), format!("+{name}")]);
        assert_eq!((outbox.stamp_of(&old), outbox.stamp_of(&name)), (None, Some(1)));
        assert!(outbox.rename("nobody").is_none());
    }

    /// To a network that knows nothing, everything is said again, once.
    #[test]
    fn repeats() {
        let (mut outbox, instance, _) = with_node();
        outbox.repeat();
        assert_eq!(sent(&mut outbox), [format!("+{instance}")]);
    }

    /// The longest and oddest names make labels DNS takes.
    #[test]
    fn names() {
        for service in [&*"x".repeat(128), "a.b_c-9"] {
            let name = name_of(service);
            assert!(name.len() <= 63 && !name.contains('.'), "{name}");
        }
        assert_eq!([port_of("[::1]:80"), port_of("unix:/x"), port_of("h:1")], [80, 0, 1]);
    }
}
