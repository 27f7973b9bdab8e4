//! Who has one of a server's places for connections, and who loses theirs when all are taken.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::episode::Episode;
use crate::limits::Limits;

/// The places of a server, and who has them: as many as its limits say, never more. Beside them a
/// few connections that lost theirs may say goodbye.
#[derive(Debug)]
pub(super) struct Places {
    max: usize,
    max_per_peer: usize,
    start: Instant,
    taken: HashMap<u64, Taken>,
    max_leaving: usize,
    /// Connections that lost their place and are not closed yet, from the first that did.
    leaving: VecDeque<(u64, oneshot::Sender<()>)>,
    per_ip: HashMap<IpAddr, usize>,
    next: u64,
    shortage: Episode,
}

/// A place that somebody has.
#[derive(Debug)]
struct Taken {
    ip: Option<IpAddr>,
    pulse: Arc<Pulse>,
    /// Dropped with the entry, which is how the connection learns that it has to go.
    _stay: oneshot::Sender<()>,
    /// Dropped when there is no time for a goodbye any more.
    time: oneshot::Sender<()>,
}

/// What the one who takes a place is given.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) id: u64,
    pub(super) pulse: Arc<Pulse>,
    /// Ends when the place is needed for somebody else.
    pub(super) stay: oneshot::Receiver<()>,
    /// Ends some time after that, when the connection has to be closed at once.
    pub(super) time: oneshot::Receiver<()>,
}

/// The limit that leaves no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Server,
    Peer(IpAddr),
}

impl Places {
    pub(super) fn new(limits: &Limits, start: Instant) -> Self {
        Self {
            max: limits.max_connections,
            max_per_peer: limits.max_connections_per_peer,
            start,
            taken: HashMap::new(),
            max_leaving: (limits.max_connections / 8).max(1),
            leaving: VecDeque::new(),
            per_ip: HashMap::new(),
            next: 0,
            shortage: Episode::default(),
        }
    }

    /// Takes a place. When there is none, it is that of the connection which has made no call for
    /// the longest, has none running and owes no answer, of the same peer if it is the peer that has too many.
    ///
    /// # Errors
    ///
    /// What is full, when every connection in question is busy.
    pub(super) fn take(&mut self, ip: Option<IpAddr>, now: Instant) -> Result<Given, Full> {
        let ip = ip.map(peer_of);
        if let Some(full) = self.full(ip) {
            let idlest = self.idlest(full).ok_or(full)?;
            self.send_away(idlest);
        }
        let id = self.next;
        self.next += 1;
        let pulse = Arc::new(Pulse::new(self.start));
        pulse.beat(now);
        let ((_stay, stays), (time, has_time)) = (oneshot::channel(), oneshot::channel());
        self.taken.insert(id, Taken { ip, pulse: Arc::clone(&pulse), _stay, time });
        if let Some(ip) = ip {
            *self.per_ip.entry(ip).or_default() += 1;
        }
        Ok(Given { id, pulse, stay: stays, time: has_time })
    }

    /// How many have a place.
    pub(super) fn len(&self) -> usize {
        self.taken.len()
    }

    /// Gives a place back, unless it was lost before; returns whether that ends a shortage which
    /// the log heard of.
    pub(super) fn give_back(&mut self, id: u64) -> bool {
        if self.remove(id).is_none() {
            self.leaving.retain(|(leaving, _)| *leaving != id);
            return false;
        }
        self.shortage.is_on() && !self.is_any_full() && self.shortage.ended()
    }

    /// Returns the limit that leaves no place to a peer.
    pub(super) fn full(&self, ip: Option<IpAddr>) -> Option<Full> {
        match ip.map(peer_of) {
            Some(ip) if self.per_ip.get(&ip).copied().unwrap_or(0) >= self.max_per_peer => {
                Some(Full::Peer(ip))
            }
            _ => (self.taken.len() >= self.max).then_some(Full::Server),
        }
    }

    /// Notes that places are short; returns whether to say so.
    pub(super) fn is_short(&mut self, now: Instant) -> bool {
        self.shortage.happened(now)
    }

    /// Looks at every place, which only happens when they are short: an order kept up to date
    /// would cost something with every call.
    fn idlest(&self, full: Full) -> Option<u64> {
        let concerned = self.taken.iter().filter(|(_, taken)| match full {
            Full::Server => true,
            Full::Peer(ip) => taken.ip == Some(ip),
        });
        let idle = concerned.filter_map(|(id, taken)| Some((taken.pulse.idle_since()?, *id)));
        idle.min().map(|(_, id)| id)
    }

    /// Takes a place from who has it. Who was sent away the longest ago leaves at once if too many
    /// do: a flood would have as many connections open as it can make in the time they have.
    fn send_away(&mut self, id: u64) {
        let Some(taken) = self.remove(id) else { return };
        self.leaving.push_back((id, taken.time));
        if self.leaving.len() > self.max_leaving {
            self.leaving.pop_front();
        }
    }

    fn remove(&mut self, id: u64) -> Option<Taken> {
        let taken = self.taken.remove(&id)?;
        if let Some(ip) = taken.ip
            && let Some(count) = self.per_ip.get_mut(&ip)
        {
            *count -= 1;
            if *count == 0 {
                self.per_ip.remove(&ip);
            }
        }
        Some(taken)
    }

    fn is_any_full(&self) -> bool {
        let peers = self.per_ip.values().any(|count| *count >= self.max_per_peer);
        peers || self.taken.len() >= self.max
    }
}

/// What counts as one peer: an IPv4 address, however it is written, or the 2⁶⁴ addresses that one
/// host with IPv6 may take turns with.
pub(super) fn peer_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

/// How busy a connection is, as its task tells without a lock.
#[derive(Debug)]
pub(super) struct Pulse {
    start: Instant,
    /// When it was opened or made its last call, in microseconds since the start.
    last_call: AtomicU64,
    running: AtomicUsize,
    /// Whether answers wait for the peer to read, which take memory until it does.
    is_owing: AtomicBool,
}

impl Pulse {
    pub(super) fn new(start: Instant) -> Self {
        Self {
            start,
            last_call: AtomicU64::new(0),
            running: AtomicUsize::new(0),
            is_owing: AtomicBool::new(false),
        }
    }

    /// A call came.
    pub(super) fn beat(&self, now: Instant) {
        let since_start = now.saturating_duration_since(self.start).as_micros();
        self.last_call.store(since_start as u64, Ordering::Relaxed);
    }

    /// A call waits in its handler, or comes over HTTP, until [`Pulse::ended`].
    pub(super) fn began(&self) {
        self.running.fetch_add(1, Ordering::Relaxed);
    }

    #[cfg(feature = "http")]
    pub(super) fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    pub(super) fn ended(&self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }

    /// Answers wait to be written, or do no longer.
    pub(super) fn owes(&self, is_owing: bool) {
        self.is_owing.store(is_owing, Ordering::Relaxed);
    }

    /// Returns since when nothing happened, unless a call runs or its answer is not written yet.
    fn idle_since(&self) -> Option<u64> {
        let is_idle =
            self.running.load(Ordering::Relaxed) == 0 && !self.is_owing.load(Ordering::Relaxed);
        is_idle.then(|| self.last_call.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const A: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));
    const B: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2)));

    fn places(max: usize, max_per_peer: usize, start: Instant) -> Places {
        let limits = Limits {
            max_connections: max,
            max_connections_per_peer: max_per_peer,
            ..Limits::default()
        };
        Places::new(&limits, start)
    }

    fn has_to_go(given: &mut Given) -> bool {
        given.stay.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    fn has_time(given: &mut Given) -> bool {
        given.time.try_recv() == Err(oneshot::error::TryRecvError::Empty)
    }

    /// The place of the idlest goes to a newcomer; calls, made or running, keep a place.
    #[test]
    fn the_idlest_goes() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut places = places(3, 10, start);
        let mut oldest = places.take(A, at(1)).unwrap();
        let mut calls = places.take(B, at(2)).unwrap();
        let mut waits = places.take(None, at(3)).unwrap();
        oldest.pulse.began();
        calls.pulse.beat(at(9));
        let mut fourth = places.take(A, at(10)).unwrap();
        assert!(has_to_go(&mut waits) && !has_to_go(&mut oldest) && !has_to_go(&mut calls));
        fourth.pulse.began();
        let _fifth = places.take(A, at(11)).unwrap();
        assert!(has_to_go(&mut calls));
        oldest.pulse.ended();
        let mut last = places.take(B, at(12)).unwrap();
        assert!(has_to_go(&mut oldest) && !has_to_go(&mut fourth) && !has_to_go(&mut last));
    }

    /// Of those who lost their place, as many as an eighth of the places, and one at least, have
    /// time to leave; the one who lost it first has none when there are more.
    #[test]
    fn few_leave_at_once() {
        for (max, leaving) in [(1, 1), (15, 1), (16, 2), (80, 10)] {
            let now = Instant::now();
            let mut places = places(max, max, now);
            let mut given: Vec<_> =
                (0..max + leaving).map(|_| places.take(A, now).unwrap()).collect();
            assert!(given.iter_mut().all(has_time), "{max} places");
            places.give_back(given.remove(0).id);
            given.push(places.take(A, now).unwrap());
            assert!(given.iter_mut().all(has_time), "who is gone leaves no more");
            given.push(places.take(A, now).unwrap());
            let late = given.iter_mut().position(|given| !has_time(given));
            assert_eq!(late, Some(0), "{max} places");
            for given in given {
                places.give_back(given.id);
            }
            assert!(places.leaving.is_empty() && places.taken.is_empty());
        }
    }

    /// Who has answers to read keeps a place until they are read.
    #[test]
    fn who_is_owed_stays() {
        let now = Instant::now();
        let mut places = places(1, 10, now);
        let mut owed = places.take(A, now).unwrap();
        owed.pulse.owes(true);
        assert_eq!(places.take(B, now).unwrap_err(), Full::Server);
        owed.pulse.owes(false);
        assert!(places.take(B, now).is_ok() && has_to_go(&mut owed));
    }

    /// A peer with too many connections loses one of its own, and when all are busy gets none.
    #[test]
    fn peers_pay_for_themselves() {
        let now = Instant::now();
        let mut places = places(10, 1, now);
        let mut other = places.take(A, now).unwrap();
        let mut first = places.take(B, now).unwrap();
        let second = places.take(B, now).unwrap();
        assert!(has_to_go(&mut first) && !has_to_go(&mut other));
        second.pulse.began();
        assert_eq!(places.take(B, now).unwrap_err(), Full::Peer(B.unwrap()));
        assert!(places.take(None, now).is_ok(), "a socket file has no address");
    }

    /// A host cannot pass for many by the addresses of its network, or by another way to write one.
    #[test]
    fn what_one_peer_is() {
        let same = |a: &str, b: &str| peer_of(a.parse().unwrap()) == peer_of(b.parse().unwrap());
        assert!(same("2001:db8::1", "2001:db8::ffff:1:2:3"));
        assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(same("192.0.2.1", "::ffff:192.0.2.1"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
        assert!(!same("::ffff:192.0.2.1", "::ffff:192.0.2.2"));
        let now = Instant::now();
        let mut places = places(10, 1, now);
        let mut first = places.take("2001:db8::1".parse().ok(), now).unwrap();
        let _second = places.take("2001:db8::2".parse().ok(), now).unwrap();
        assert!(has_to_go(&mut first));
    }

    /// A place is given back once, also by one who had lost it; nothing is kept of a peer then.
    #[test]
    fn places_come_back() {
        let now = Instant::now();
        let mut places = places(1, 1, now);
        let lost = places.take(A, now).unwrap();
        let given = places.take(A, now).unwrap();
        places.give_back(lost.id);
        assert_eq!(places.full(B), Some(Full::Server));
        places.give_back(given.id);
        assert!(places.full(A).is_none() && places.per_ip.is_empty());
    }

    /// A shortage is told of at its beginning, and at its end when a place is free.
    #[test]
    fn tells_of_shortages() {
        let now = Instant::now();
        let mut places = places(2, 2, now);
        let (lost, first) = (places.take(A, now).unwrap(), places.take(A, now).unwrap());
        assert!(places.is_short(now) && !places.is_short(now));
        places.take(A, now).unwrap();
        assert!(!places.give_back(lost.id));
        assert!(places.give_back(first.id));
    }
}
