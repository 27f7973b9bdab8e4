//! What a handle knows, and how it stands with the network: pure, over calls, events and time.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, SystemTime};

use micro_registry::{
    Error, ErrorKind, Registration, RemoveReason, Skipped, Update, View, WatchSender,
};
use tokio::time::Instant;

use crate::clock::Clock;
use crate::error::unavailable;
use crate::outbox::{Effect, Outbox, Said};
use crate::text::{Announcement, Found, Key};
use crate::tracker::{MAX_CLAIMS, Tracker};

/// How long the network has to answer before what was heard is all there is. Who announced a record
/// within the last second leaves the first question unanswered (RFC 6762, section 6), and the next
/// is asked a second later; the rest is for busy hosts.
pub(crate) const SETTLE: Duration = Duration::from_millis(1_500);

/// How a handle stands with the network.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Standing {
    /// Nobody tried yet.
    Opening,
    /// Asked, and waiting for the answers; maybe after an outage, which ends with them.
    Settling { until: Instant, after: Option<Outage> },
    /// What was heard is what there is.
    Live,
    /// It cannot be reached.
    Away(Outage),
}

/// For how long the network is away, and why by the latest attempt.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outage {
    since: SystemTime,
    pub(crate) cause: String,
}

impl Outage {
    fn stale(&self) -> Update {
        Update::stale(self.since, self.cause.as_str())
    }
}

/// Ties together what is heard, what is announced and who watches.
#[derive(Debug)]
pub(crate) struct State {
    namespace: String,
    standing: Standing,
    tracker: Tracker,
    outbox: Outbox,
    watchers: Vec<WatchSender>,
    /// How many effects were sent.
    sent: u64,
    /// The instances that were warned of.
    skipped: Skipped<String>,
    started: Instant,
}

impl State {
    pub(crate) fn new(namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            standing: Standing::Opening,
            tracker: Tracker::default(),
            outbox: Outbox::new(namespace),
            watchers: Vec::new(),
            sent: 0,
            skipped: Skipped::default(),
            started: Instant::now(),
        }
    }

    pub(crate) fn standing(&self) -> &Standing {
        &self.standing
    }

    /// What there is.
    pub(crate) fn view(&self) -> &View {
        self.tracker.view()
    }

    pub(crate) fn watchers(&self) -> usize {
        self.watchers.iter().filter(|watcher| !watcher.is_closed()).count()
    }

    /// Announces a node, or renews it; gives how much has to be sent for it.
    ///
    /// # Errors
    ///
    /// `Invalid` for what does not fit into a record; `Fenced`; `Unavailable` without a network.
    pub(crate) fn register(
        &mut self,
        registration: &Registration,
        ttl: Duration,
        clock: Clock,
    ) -> Result<u64, Error> {
        self.reach()?;
        self.fence(registration)?;
        let stamp = self.next_stamp(&Key::of(registration), clock);
        let said = self.outbox.put(registration, ttl, stamp, clock.now)?;
        self.hear_ours(said, clock.now);
        Ok(self.outbox.queued())
    }

    /// Announces that a node left; gives how much has to be sent for it.
    ///
    /// # Errors
    ///
    /// `Unavailable` without a network.
    pub(crate) fn deregister(
        &mut self,
        registration: &Registration,
        clock: Clock,
    ) -> Result<u64, Error> {
        self.reach()?;
        let reason = RemoveReason::Deregistered;
        self.leave(Key::of(registration), registration.node.epoch, reason, clock);
        Ok(self.outbox.queued())
    }

    /// Takes a watch on.
    pub(crate) fn attach(&mut self, watcher: WatchSender) {
        if self.standing == Standing::Live {
            watcher.send(&self.tracker.reset(watcher.scope()));
        } else if let Some(outage) = self.outage() {
            watcher.send(&outage.stale());
        }
        self.watchers.retain(|watcher| !watcher.is_closed());
        self.watchers.push(watcher);
    }

    /// What asked the network runs no more, and nothing was tried since.
    pub(crate) fn restart(&mut self) {
        self.standing = Standing::Opening;
    }

    /// The network was asked who is there; what is ours is said again when it knows nothing of it.
    pub(crate) fn begin(&mut self, is_new: bool, now: Instant) {
        self.tracker.begin_again(now);
        let after = self.outage().cloned();
        self.standing = Standing::Settling { until: now + SETTLE, after };
        if is_new {
            self.outbox.repeat();
        }
    }

    /// The network is away, or what it said was lost. Those who watch are told once, until they get
    /// a reset; those who call, why by the latest attempt.
    pub(crate) fn lose(&mut self, cause: &str) {
        // Whoever watches is told, and it is theirs to make something of it.
        tracing::debug!(cause, "the network of the mdns registry is lost; retrying");
        let known = self.outage().map(|outage| outage.since);
        let since = known.unwrap_or_else(SystemTime::now);
        let outage = Outage { since, cause: cause.to_owned() };
        if known.is_none() {
            let stale = outage.stale();
            self.watchers.retain(|watcher| watcher.send(&stale));
        }
        self.standing = Standing::Away(outage);
    }

    /// An instance was found, or said something new.
    pub(crate) fn found(&mut self, found: &Found, clock: Clock) {
        if found.text.is_empty() {
            // A long record comes in a moment, by another message.
            return;
        }
        let read = Announcement::read(&self.namespace, found);
        if let Some(ours) = self.outbox.stamp_of(&found.label) {
            // What we sent comes back to us, perhaps late.
            if !matches!(&read, Ok(Some(said)) if said.stamp <= ours) {
                self.rename(&found.label, clock.now);
            }
            return;
        }
        match read {
            Ok(Some(said)) => self.hear(&found.label, said, clock),
            Ok(None) => {}
            Err(error) => self.skip(found, &error, clock),
        }
    }

    /// An instance is there no more.
    pub(crate) fn vanished(&mut self, label: &str, now: Instant) {
        if self.outbox.stamp_of(label).is_none() {
            self.tracker.vanish(label, now);
        }
    }

    /// A network interface went away.
    pub(crate) fn interface_lost(&mut self, now: Instant) {
        self.tracker.lose_interface(now);
    }

    /// When there is something to do without being told.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let standing = match self.standing {
            Standing::Settling { until, .. } => Some(until),
            Standing::Live => self.tracker.next_deadline(),
            _ => None,
        };
        standing.into_iter().chain(self.outbox.next_deadline()).min()
    }

    /// Does what is due. Nobody else expires while the network may not have been heard.
    pub(crate) fn tick(&mut self, clock: Clock) {
        let (expired, withdrawn) = self.outbox.tick(clock.now);
        for instance in withdrawn {
            let updates = self.tracker.retire(&instance);
            self.broadcast(&updates);
        }
        for (key, epoch) in expired {
            self.leave(key, epoch, RemoveReason::Expired, clock);
        }
        if matches!(self.standing, Standing::Settling { until, .. } if until <= clock.now) {
            self.settle();
        }
        if self.standing == Standing::Live {
            let updates = self.tracker.tick(clock.now);
            self.broadcast(&updates);
        }
    }

    /// What is to be sent, and the count it completes.
    pub(crate) fn unsent(&mut self) -> (Vec<Effect>, u64) {
        self.outbox.unsent()
    }

    /// All was sent up to this count.
    pub(crate) fn sent(&mut self, count: u64) {
        self.sent = count;
    }

    /// Whether all was sent up to this count; `None` while it may still be.
    pub(crate) fn is_sent(&self, count: u64) -> Option<Result<(), Error>> {
        if self.sent >= count { Some(Ok(())) } else { self.reach().err().map(Err) }
    }

    fn skip(&mut self, found: &Found, error: &Error, clock: Clock) {
        let mut content = DefaultHasher::new();
        found.text.hash(&mut content);
        let now = clock.now.duration_since(self.started);
        if self.skipped.is_news(&*found.label, content.finish(), now) {
            let (instance, cause) = (&found.label, error.chain());
            tracing::warn!(instance, cause, "an announcement in the network is left out");
        }
    }

    fn reach(&self) -> Result<(), Error> {
        match &self.standing {
            Standing::Away(outage) => Err(unavailable(outage.cause.as_str())),
            _ => Ok(()),
        }
    }

    /// The outage that those who watch know of.
    fn outage(&self) -> Option<&Outage> {
        match &self.standing {
            Standing::Away(outage) | Standing::Settling { after: Some(outage), .. } => Some(outage),
            _ => None,
        }
    }

    fn fence(&mut self, registration: &Registration) -> Result<(), Error> {
        let (key, epoch) = (Key::of(registration), registration.node.epoch);
        let known = self.tracker.view().node(&key.service, &key.id);
        let Some(newer) = known.map(|known| known.node.epoch).filter(|known| *known > epoch) else {
            return Ok(());
        };
        self.withdraw(&key, epoch);
        let Key { service, id } = key;
        Err(Error::new(
            ErrorKind::Fenced,
            format!(
                "node `{id}` of `{service}` is registered with epoch {newer}, newer than {epoch}"
            ),
        ))
    }

    fn leave(&mut self, key: Key, epoch: u64, reason: RemoveReason, clock: Clock) {
        let stamp = self.next_stamp(&key, clock);
        let said = self.outbox.leave(key, epoch, reason, stamp, clock.now);
        self.hear_ours(said, clock.now);
    }

    /// Later than everything heard about the node, and among those who have not heard of each other
    /// by the clocks of their hosts.
    fn next_stamp(&self, key: &Key, clock: Clock) -> u64 {
        self.tracker.stamp(key).saturating_add(1).max(clock.wall_ms)
    }

    fn hear_ours(&mut self, (instance, said): Said, now: Instant) {
        let updates = self.tracker.hear(&instance, said, now);
        self.broadcast(&updates);
    }

    fn hear(&mut self, instance: &str, said: Announcement, clock: Clock) {
        let passed = clock.now.duration_since(self.started);
        if self.tracker.is_full() && self.skipped.is_news("", 0, passed) {
            tracing::warn!(
                known = MAX_CLAIMS,
                "the network has too many nodes; new ones are left out"
            );
        }
        let key = said.key.clone();
        let updates = self.tracker.hear(instance, said, clock.now);
        self.broadcast(&updates);
        for epoch in self.outbox.epochs_here(&key) {
            if self.tracker.is_over(&key, epoch) {
                self.withdraw(&key, epoch);
            }
        }
    }

    /// A node of ours was taken over, or somebody said that it left: we speak for it no more.
    fn withdraw(&mut self, key: &Key, epoch: u64) {
        if let Some(instance) = self.outbox.withdraw(key, epoch) {
            let updates = self.tracker.retire(&instance);
            self.broadcast(&updates);
        }
    }

    fn rename(&mut self, instance: &str, now: Instant) {
        if let Some((old, said)) = self.outbox.rename(instance) {
            let name = &said.0;
            tracing::warn!(old, name, "another host announces under our name; taking another");
            // The new name first, so that nobody sees the node leave.
            self.hear_ours(said.clone(), now);
            let updates = self.tracker.retire(&old);
            self.broadcast(&updates);
        }
    }

    fn settle(&mut self) {
        let Self { tracker, outbox, .. } = self;
        tracker.end_again(|instance| outbox.stamp_of(instance).is_some());
        self.standing = Standing::Live;
        let tracker = &self.tracker;
        self.watchers.retain(|watcher| watcher.send(&tracker.reset(watcher.scope())));
    }

    /// Before everything was heard, those who watch are told by the reset.
    fn broadcast(&mut self, updates: &[Update]) {
        if self.standing == Standing::Live && !updates.is_empty() {
            self.watchers.retain(|watcher| updates.iter().all(|update| watcher.send(update)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::Notice;
    use crate::text::Text;
    use futures::{FutureExt, StreamExt};
    use micro_registry::{EmptyReason, Node, Scope, Watch};

    const TTL: Duration = Duration::from_secs(30);

    fn registration(epoch: u64) -> Registration {
        let mut node = Node::new("a", "127.0.0.1:1");
        node.epoch = epoch;
        Registration::new("greeter", "1.0.0", node)
    }

    /// A state of namespace `shop` that knows its network, and the time.
    fn live() -> (State, Clock) {
        let (mut state, clock) = (State::new("shop"), Clock { now: Instant::now(), wall_ms: 100 });
        state.begin(true, clock.now);
        state.tick(after(clock, SETTLE));
        assert_eq!(state.standing(), &Standing::Live);
        (state, clock)
    }

    fn after(clock: Clock, time: Duration) -> Clock {
        Clock { now: clock.now + time, ..clock }
    }

    fn watch(state: &mut State) -> Watch {
        let (sender, watch) = Watch::channel(Scope::All);
        state.attach(sender);
        watch
    }

    fn told(watch: &mut Watch) -> Vec<Update> {
        std::iter::from_fn(|| watch.next().now_or_never().flatten()).collect()
    }

    /// What was sent: of an announcement its record, of a withdrawal the name.
    fn sent(state: &mut State) -> (Vec<Notice>, Vec<String>) {
        let (mut notices, mut withdrawn) = (vec![], vec![]);
        for effect in state.unsent().0 {
            match effect {
                Effect::Announce(notice) => notices.push(*notice),
                Effect::Withdraw(name) => withdrawn.push(name),
            }
        }
        (notices, withdrawn)
    }

    fn found(label: &str, text: Text) -> Found {
        Found { label: label.into(), text, ..Found::default() }
    }

    /// What another process announces of the node in an epoch, by a stamp.
    fn other(epoch: u64, stamp: u64) -> Found {
        let (_, text) = Announcement::here("shop", &registration(epoch), TTL, stamp).unwrap();
        found("other", text)
    }

    fn entry(notice: &Notice, key: &str) -> String {
        let value = notice.text.iter().find(|(known, _)| known == key).map(|(_, value)| value);
        String::from_utf8(value.cloned().unwrap_or_default()).unwrap()
    }

    /// Before the network had time to answer nobody is told anything; then all there is.
    #[test]
    fn data_begins_when_everybody_had_time() {
        let (mut state, clock) = (State::new("shop"), Clock::read());
        let mut watch = watch(&mut state);
        state.begin(true, clock.now);
        state.found(&other(1, 1), clock);
        state.tick(clock);
        assert!(told(&mut watch).is_empty());
        state.tick(after(clock, SETTLE));
        let all = vec![registration(1).into()];
        assert_eq!(told(&mut watch), [Update::reset(all, EmptyReason::Unknown)]);
    }

    /// While the network is away calls fail and say why by now, those who watch were told once, also
    /// when it was there for a moment, and nobody expires.
    #[test]
    fn outages() {
        let (mut state, clock) = live();
        state.found(&other(1, 1), clock);
        let mut watch = watch(&mut state);
        told(&mut watch);
        state.lose("by the test");
        let stale = told(&mut watch);
        let Standing::Away(Outage { since, .. }) = *state.standing() else { panic!("{state:?}") };
        assert_eq!(stale, [Update::stale(since, "by the test")]);
        state.begin(true, clock.now);
        state.lose("again");
        assert_eq!(told(&mut watch), []);
        let mut late = self::watch(&mut state);
        assert_eq!(told(&mut late), [Update::stale(since, "again")]);
        let error = state.register(&registration(1), TTL, clock).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(error.to_string(), "again");
        let later = after(clock, TTL * 2);
        state.tick(later);
        assert_eq!(state.view().len(), 1);
        // Heard again before it is due.
        state.begin(true, later.now);
        state.found(&other(1, 2), later);
        state.tick(after(later, SETTLE));
        assert!(matches!(&told(&mut watch)[..], [Update::Reset { empty: None, .. }]));
    }

    /// Who watches before there ever was a network is told that there is none.
    #[test]
    fn a_network_that_never_was() {
        let mut state = State::new("shop");
        let mut watch = watch(&mut state);
        state.lose("by the test");
        assert!(matches!(&told(&mut watch)[..], [Update::Stale { .. }]));
    }

    /// After an outage a network that knows nothing of us is told everything again.
    #[test]
    fn ours_is_announced_again() {
        let (mut state, clock) = live();
        state.register(&registration(1), TTL, clock).unwrap();
        let before = sent(&mut state).0;
        state.lose("by the test");
        state.begin(true, clock.now);
        assert_eq!(sent(&mut state).0, before);
        state.tick(after(clock, SETTLE));
        assert_eq!(state.view().len(), 1);
    }

    /// Each word on a node is later than all heard before it, whatever the clocks say.
    #[test]
    fn later_than_what_was_heard() {
        let (mut state, clock) = live();
        state.found(&other(1, 5_000), clock);
        state.deregister(&registration(1), clock).unwrap();
        assert!(state.view().is_empty());
        assert_eq!(entry(&sent(&mut state).0[0], "stamp"), "5001");
        state.register(&registration(1), TTL, Clock { wall_ms: 9_000, ..clock }).unwrap();
        assert_eq!(entry(&sent(&mut state).0[0], "stamp"), "9000");
        assert_eq!(state.view().len(), 1);
    }

    /// A node of ours that nobody renews is said to have expired, and then no more.
    #[test]
    fn ours_expires() {
        let (mut state, clock) = live();
        state.register(&registration(1), TTL, clock).unwrap();
        sent(&mut state);
        state.tick(after(clock, TTL));
        assert!(state.view().is_empty());
        assert_eq!(entry(&sent(&mut state).0[0], "left"), "expired");
        state.tick(after(clock, TTL + crate::outbox::LINGER));
        assert_eq!(sent(&mut state).1.len(), 1);
    }

    /// A newer epoch, or somebody's word that our node left, ends our announcement; only the newer
    /// epoch keeps us from making another.
    #[test]
    fn others_have_the_last_word() {
        let (mut state, clock) = live();
        state.register(&registration(1), TTL, clock).unwrap();
        let ours = sent(&mut state).0.remove(0).instance;
        let key = Key::of(&registration(1));
        let (_, text) = Announcement::left("shop", key, 1, RemoveReason::Deregistered, 200);
        state.found(&found("other", text), clock);
        assert_eq!(sent(&mut state).1, [ours]);
        assert!(state.view().is_empty());
        state.register(&registration(1), TTL, clock).unwrap();
        state.found(&other(2, 1_000), clock);
        assert_eq!(sent(&mut state).1.len(), 1);
        let error = state.register(&registration(1), TTL, clock).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Fenced);
        assert!(error.to_string().contains("epoch 2, newer than 1"), "{error}");
    }

    /// What we sent comes back and means nothing, whichever of it; anything else under our name is
    /// somebody else's.
    #[test]
    fn our_own_words_come_back() {
        let (mut state, clock) = live();
        let mut notices = vec![];
        for _ in 0..2 {
            state.register(&registration(1), TTL, clock).unwrap();
            notices.extend(sent(&mut state).0);
        }
        let ours = notices[0].instance.clone();
        for notice in &notices {
            state.found(&found(&ours, notice.text.clone()), clock);
        }
        state.found(&found(&ours, vec![]), clock);
        state.vanished(&ours, clock.now);
        assert_eq!(sent(&mut state), (vec![], vec![]));
        let mut name = ours;
        for text in [other(1, 9_000).text, vec![("x".into(), vec![])]] {
            state.found(&found(&name, text), clock);
            let (notices, withdrawn) = sent(&mut state);
            assert!(withdrawn == [name] && notices.len() == 1);
            assert_eq!(state.view().len(), 1);
            name = notices[0].instance.clone();
        }
    }
}
