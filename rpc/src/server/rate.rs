//! How many calls a second a peer may make.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

use super::places::peer_of;
use crate::outbox::lock;
use crate::{Code, Peer, Status};

/// The rates of all peers. Each connection looks up its own once, so that a call costs no lock.
pub(super) struct Rates {
    quota: Option<Quota>,
    peers: Mutex<Peers>,
}

struct Peers {
    rates: HashMap<IpAddr, Arc<Rate>>,
    /// Those who came no more are looked for when there are so many.
    sweep_at: usize,
}

/// The rate of one peer.
pub(super) struct Rate(Limiter);

type Limiter = RateLimiter<NotKeyed, InMemoryState, Tokio, NoOpMiddleware<std::time::Instant>>;

/// Fewer are not worth looking through.
const FEW: usize = 1024;

impl Rates {
    /// So many calls a second, and as many at once after a second without any.
    pub(super) fn new(per_second: Option<u32>) -> Self {
        let quota =
            |calls: u32| Quota::per_second(NonZeroU32::new(calls).unwrap_or(NonZeroU32::MIN));
        let peers = Mutex::new(Peers { rates: HashMap::new(), sweep_at: FEW });
        Self { quota: per_second.map(quota), peers }
    }

    /// Returns the rate that a peer has to keep to, all its connections together.
    pub(super) fn of(&self, peer: Option<Peer>) -> Option<Arc<Rate>> {
        let quota = self.quota?;
        let Some(Peer::Tcp(address)) = peer else { return None };
        let mut peers = lock(&self.peers);
        let Peers { rates, sweep_at } = &mut *peers;
        if rates.len() >= *sweep_at {
            rates.retain(|_, rate| Arc::strong_count(rate) > 1 || !rate.is_rested(quota));
            *sweep_at = FEW.max(2 * rates.len());
        }
        let new = || Arc::new(Rate(Limiter::direct_with_clock(quota, Tokio)));
        Some(Arc::clone(rates.entry(peer_of(address.ip())).or_insert_with(new)))
    }
}

impl Rate {
    /// Lets a call pass, or refuses it with the time after which one may.
    pub(super) fn check(&self) -> Result<(), Status> {
        self.0.check().map_err(|until| {
            let status = Status::new(Code::ResourceExhausted, "the peer makes too many calls");
            status.with_retry_after(until.wait_time_from(Tokio.now())).refused()
        })
    }

    /// Whether it is as if the peer had never called, which is found out by using all of it up.
    fn is_rested(&self, quota: Quota) -> bool {
        matches!(self.0.check_n(quota.burst_size()), Ok(Ok(())))
    }
}

/// The clock of everything else here, which tests may pause.
struct Tokio;

impl Clock for Tokio {
    type Instant = std::time::Instant;

    fn now(&self) -> Self::Instant {
        Instant::now().into_std()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    fn peer(number: u32) -> Option<Peer> {
        Some(Peer::Tcp((std::net::Ipv4Addr::from_bits(number), 1).into()))
    }

    /// However a peer distributes its calls, no more pass than a second's worth and the rate times
    /// the time, and after the wait that it is told another one does.
    #[tokio::test(start_paused = true)]
    async fn keeps_the_rate() {
        let mut gaps = fastrand::Rng::with_seed(1);
        for per_second in [1, 3, 100, 1999] {
            let rate = Rates::new(Some(per_second)).of(peer(1)).unwrap();
            let (start, mut passed) = (Instant::now(), 0);
            for step in 0..500 {
                advance(Duration::from_micros(gaps.u64(0..50_000) * (step % 3))).await;
                if let Err(status) = rate.check() {
                    advance(status.retry_after().unwrap()).await;
                    assert!(rate.check().is_ok(), "{status}");
                }
                passed += 1;
                let most = f64::from(per_second) * (1.0 + start.elapsed().as_secs_f64());
                assert!(f64::from(passed) <= most + 1.0, "{passed} > {most}");
            }
        }
    }

    /// All connections of a peer have one rate, and others have theirs; without a limit, and for
    /// peers of this host that have no address, there is none.
    #[tokio::test(start_paused = true)]
    async fn each_peer_has_its_own() {
        let rates = Rates::new(Some(1));
        assert!(rates.of(peer(1)).unwrap().check().is_ok());
        assert!(rates.of(peer(1)).unwrap().check().is_err());
        assert!(rates.of(peer(2)).unwrap().check().is_ok());
        assert!(rates.of(Some(Peer::Unix)).is_none() && rates.of(None).is_none());
        assert!(Rates::new(None).of(peer(1)).is_none());
    }

    /// Peers that are gone are forgotten, and those that called lately, or are there, are not.
    #[tokio::test(start_paused = true)]
    async fn forgets_who_is_gone() {
        let rates = Rates::new(Some(1));
        let stays = rates.of(peer(0)).unwrap();
        assert!(stays.check().is_ok() && rates.of(peer(1)).unwrap().check().is_ok());
        for number in 2..10 * FEW as u32 {
            let _ = rates.of(peer(number));
        }
        assert!(lock(&rates.peers).rates.len() <= FEW);
        assert!(rates.of(peer(0)).unwrap().check().is_err(), "it has called");
        assert!(rates.of(peer(1)).unwrap().check().is_err(), "it has called");
        advance(Duration::from_secs(1)).await;
        for number in 2..10 * FEW as u32 {
            let _ = rates.of(peer(number));
        }
        assert!(Arc::ptr_eq(&stays, &rates.of(peer(0)).unwrap()), "it is there");
        assert!(!lock(&rates.peers).rates.contains_key(&peer_of([0, 0, 0, 1].into())));
    }
}
