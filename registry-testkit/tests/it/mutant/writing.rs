//! How mutants write.

use std::time::Duration;

use micro_registry::{Error, ErrorKind, Registration, Registry, validate};

use super::store::key;
use super::{Flaw, GAP, Mutant};

impl Mutant {
    pub(super) async fn put(
        &self,
        registration: &Registration,
        mut ttl: Duration,
    ) -> Result<(), Error> {
        let stored = self.stored(registration).await;
        let mut put = registration.clone();
        match (self.flaw, &stored) {
            (Flaw::OverlooksMetadata, Some(stored)) if differs_in_labels(stored, &put) => {
                put = stored.clone();
            }
            (Flaw::ReplacesOnRenewal, Some(_)) if self.own_ttl(&put) == Some(ttl) => {
                self.inner.deregister(&put).await?;
                tokio::time::sleep(GAP).await;
            }
            (Flaw::NeverLengthensALease, Some(_)) => {
                ttl = self.own_ttl(&put).map_or(ttl, |before| before.min(ttl));
            }
            (Flaw::FirstComeFirstServed, Some(stored)) if stored.node.epoch < put.node.epoch => {
                return Err(Error::new(ErrorKind::Fenced, "by a predecessor"));
            }
            (Flaw::AcceptsLowerEpochs, Some(stored)) if stored.node.epoch > put.node.epoch => {
                self.inner.deregister(stored).await?;
            }
            (Flaw::TrustsItsLeases, None) if self.own_ttl(&put).is_some() => {
                return self.inner.list().await.map(drop);
            }
            (Flaw::LosesTheZone, _) => {
                put.node.zone.take_if(|zone| validate::zone(zone).is_ok());
            }
            (Flaw::TrimsWhatIsInvalid, _) => put.node.weight = put.node.weight.min(10_000),
            (Flaw::FencesForever, None) => self.fence_by_the_dead(&put)?,
            (Flaw::RenewsNeighbours, _) => self.renew_own().await,
            _ => {}
        }
        self.inner.register(&put, ttl).await
    }

    pub(super) async fn remove(&self, registration: &Registration) -> Result<(), Error> {
        let stored = self.stored(registration).await;
        let mut goes = registration.clone();
        match (self.flaw, &stored) {
            (Flaw::DeregistersAnyEpoch, Some(stored)) => goes.clone_from(stored),
            (Flaw::DeregistersOnlyWhatItSees, Some(stored)) if *stored != goes => return Ok(()),
            (Flaw::DeregistersEverywhere, Some(_)) => {
                self.remove_where(|other| other.node.id == goes.node.id).await;
            }
            (Flaw::DeregistersByPrefix, Some(_)) => {
                let is_longer = |other: &Registration| {
                    let is_it = other.node.id == goes.node.id;
                    !is_it && other.node.id.starts_with(&goes.node.id)
                };
                self.remove_where(is_longer).await;
            }
            _ => {}
        }
        self.inner.deregister(&goes).await?;
        match stored {
            None if self.flaw == Flaw::ComplainsOfTheGone => Err(Error::not_found(&goes.service)),
            _ => Ok(()),
        }
    }

    /// What is stored in the place of this.
    async fn stored(&self, registration: &Registration) -> Option<Registration> {
        let services = self.inner.get(&registration.service).await.ok()?;
        let is_it = |id: &str| id == registration.node.id;
        let service = services.into_iter().find(|s| s.nodes.iter().any(|n| is_it(&n.id)))?;
        let known = self.store.known(&key(registration));
        let mut stored = known.map_or_else(|| registration.clone(), |known| known.now);
        stored.node = service.nodes.into_iter().find(|node| is_it(&node.id))?;
        Some(stored)
    }

    async fn remove_where(&self, goes: impl Fn(&Registration) -> bool) {
        for known in self.store.all_known().iter().filter(|known| goes(&known.now)) {
            let _ = self.inner.deregister(&known.now).await;
        }
    }

    /// Those with a short lease: who is written at this moment has a long one.
    async fn renew_own(&self) {
        let own: Vec<_> = self.own.lock().unwrap().values().cloned().collect();
        for (registration, ttl) in own.into_iter().filter(|(_, ttl)| ttl.as_secs() < 60) {
            let _ = self.inner.register(&registration, ttl).await;
        }
    }

    /// For how long this handle registered exactly this last.
    fn own_ttl(&self, registration: &Registration) -> Option<Duration> {
        let own = self.own.lock().unwrap();
        own.get(&key(registration)).filter(|(own, _)| own == registration).map(|(_, ttl)| *ttl)
    }

    fn fence_by_the_dead(&self, registration: &Registration) -> Result<(), Error> {
        let dead = self.store.known(&key(registration));
        match dead.is_some_and(|dead| dead.now.node.epoch > registration.node.epoch) {
            true => Err(Error::new(ErrorKind::Fenced, "by the dead")),
            false => Ok(()),
        }
    }
}

fn differs_in_labels(stored: &Registration, other: &Registration) -> bool {
    let mut same = other.clone();
    same.metadata = stored.metadata.clone();
    same.endpoints = stored.endpoints.clone();
    same.node.metadata = stored.node.metadata.clone();
    *stored == same && stored != other
}
