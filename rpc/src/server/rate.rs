//! How many calls a second a peer may make: the generic cell rate algorithm of ATM networks, as a
//! plain structure over time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::places::peer_of;
use crate::outbox::lock;
use crate::{Code, Peer, Status};

/// The rates of all peers. Each connection looks up its own once, so that a call costs no lock.
pub(super) struct Rates {
    interval: Option<Duration>,
    epoch: Instant,
    peers: Mutex<Peers>,
}

struct Peers {
    rates: HashMap<IpAddr, Arc<Rate>>,
    /// Those who came no more are looked for when there are so many.
    sweep_at: usize,
}

/// The rate of one peer.
pub(super) struct Rate {
    epoch: Instant,
    /// Nanoseconds that one call uses up.
    interval: u64,
    /// The calls so far are paid for at this time, in nanoseconds since the epoch.
    paid_at: AtomicU64,
}

/// So much a peer may run ahead: the calls of a second at once.
const AHEAD: u64 = 1_000_000_000;
/// Fewer are not worth looking through.
const FEW: usize = 1024;

impl Rates {
    pub(super) fn new(per_second: Option<u32>, now: Instant) -> Self {
        let interval = per_second.map(|calls| Duration::from_secs(1) / calls.max(1));
        let peers = Mutex::new(Peers { rates: HashMap::new(), sweep_at: FEW });
        Self { interval, epoch: now, peers }
    }

    /// Returns the rate that a peer has to keep to, all its connections together.
    pub(super) fn of(&self, peer: Option<Peer>) -> Option<Arc<Rate>> {
        let interval = self.interval?;
        let Some(Peer::Tcp(address)) = peer else { return None };
        let mut peers = lock(&self.peers);
        let Peers { rates, sweep_at } = &mut *peers;
        if rates.len() >= *sweep_at {
            let now = Instant::now();
            rates.retain(|_, rate| Arc::strong_count(rate) > 1 || !rate.is_paid(now));
            *sweep_at = FEW.max(2 * rates.len());
        }
        let new = || Arc::new(Rate::new(interval, self.epoch));
        Some(Arc::clone(rates.entry(peer_of(address.ip())).or_insert_with(new)))
    }
}

impl Rate {
    fn new(interval: Duration, epoch: Instant) -> Self {
        Self { epoch, interval: interval.as_nanos() as u64, paid_at: AtomicU64::new(0) }
    }

    /// Lets a call pass, or refuses it with the time after which one may.
    pub(super) fn check(&self, now: Instant) -> Result<(), Status> {
        let now = self.since_epoch(now);
        let next = |paid_at: u64| {
            let next = paid_at.max(now) + self.interval;
            (next <= now + AHEAD).then_some(next)
        };
        let passed = self.paid_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        passed.map(drop).map_err(|paid_at| {
            let wait = (paid_at + self.interval).saturating_sub(now + AHEAD);
            let status = Status::new(Code::ResourceExhausted, "the peer makes too many calls");
            status.with_retry_after(Duration::from_nanos(wait)).refused()
        })
    }

    /// Whether it is as if the peer had never called.
    fn is_paid(&self, now: Instant) -> bool {
        self.paid_at.load(Ordering::Relaxed) <= self.since_epoch(now)
    }

    fn since_epoch(&self, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.epoch).as_nanos();
        // 500 years, and no sum with it overflows.
        u64::try_from(passed).unwrap_or(u64::MAX).min(u64::MAX - 3 * AHEAD)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However a peer distributes its calls, no more pass than a second's worth and the rate
        /// times the time, and after the wait it is told another one does.
        #[test]
        fn keeps_the_rate(
            per_second in 1..2000_u32,
            gaps in prop::collection::vec(0..50_000_000_u64, 1..500),
        ) {
            let start = Instant::now();
            let rate = Rate::new(Duration::from_secs(1) / per_second, start);
            let (mut now, mut passed) = (start, 0);
            for gap in gaps {
                now += Duration::from_nanos(gap);
                match rate.check(now) {
                    Ok(()) => passed += 1,
                    Err(status) => {
                        now += status.retry_after().unwrap();
                        prop_assert!(rate.check(now).is_ok());
                        passed += 1;
                    }
                }
                let most = f64::from(per_second) * (1.001 + (now - start).as_secs_f64() * 1.001);
                prop_assert!(f64::from(passed) <= most + 1.0, "{passed} > {most}");
            }
        }
    }

    fn peer(number: u32) -> Option<Peer> {
        Some(Peer::Tcp((std::net::Ipv4Addr::from_bits(number), 1).into()))
    }

    /// All connections of a peer have one rate, and others have theirs; without a limit, and for
    /// peers of this host that have no address, there is none.
    #[test]
    fn each_peer_has_its_own() {
        let now = Instant::now();
        let rates = Rates::new(Some(1), now);
        assert!(rates.of(peer(1)).unwrap().check(now).is_ok());
        assert!(rates.of(peer(1)).unwrap().check(now).is_err());
        assert!(rates.of(peer(2)).unwrap().check(now).is_ok());
        assert!(rates.of(Some(Peer::Unix)).is_none() && rates.of(None).is_none());
        assert!(Rates::new(None, now).of(peer(1)).is_none());
    }

    /// Peers that are gone are forgotten, and those that still owe are not.
    #[tokio::test(start_paused = true)]
    async fn forgets_who_is_gone() {
        let rates = Rates::new(Some(1), Instant::now());
        for number in 0..10 * FEW as u32 {
            let _ = rates.of(peer(number));
        }
        assert!(lock(&rates.peers).rates.len() <= FEW);
        assert!(rates.of(peer(1)).unwrap().check(Instant::now()).is_ok());
        for number in 0..10 * FEW as u32 {
            let _ = rates.of(peer(100 + number));
        }
        assert!(rates.of(peer(1)).unwrap().check(Instant::now()).is_err());
    }
}
