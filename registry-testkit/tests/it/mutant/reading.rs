//! How mutants answer.

use std::sync::Arc;

use micro_registry::{Error, ErrorKind, Registry, Service, ServiceSummary, View};

use super::{Flaw, Mutant};

impl Mutant {
    pub(super) async fn read(&self, service: &str) -> Result<Vec<Service>, Error> {
        let mut found = self.inner.get(service).await;
        let kind = found.as_ref().err().map(Error::kind);
        match (self.flaw, kind) {
            (Flaw::EmptyForUnknown, Some(ErrorKind::NotFound)) => Ok(vec![]),
            (Flaw::NotFoundWhenAway, Some(ErrorKind::Unavailable)) => {
                Err(Error::not_found(service))
            }
            (Flaw::RemembersMisses, _) if self.has_missed(service, kind) => {
                Err(Error::not_found(service))
            }
            (Flaw::ChokesOnCorruption, _) if self.store.is_corrupt(service) => {
                Err(Error::new(ErrorKind::Internal, "mutant cannot read its record"))
            }
            (Flaw::ServesTheDead, None | Some(ErrorKind::NotFound)) => {
                self.known_to_others(service).map_or(found, Ok)
            }
            (Flaw::MatchesPrefixes, None | Some(ErrorKind::NotFound)) => {
                self.all_that_begin(service).await
            }
            (Flaw::ReadsOnePage, None) => {
                for service in found.iter_mut().flatten() {
                    service.nodes.truncate(100);
                }
                found
            }
            _ => found,
        }
    }

    pub(super) async fn read_all(&self) -> Result<Vec<ServiceSummary>, Error> {
        let mut list = self.inner.list().await;
        match (self.flaw, &mut list) {
            (Flaw::EmptyListWhenAway, Err(_)) => Ok(vec![]),
            (Flaw::NotFoundForAnEmptyList, Ok(list)) if list.is_empty() => {
                Err(Error::not_found("*"))
            }
            (Flaw::ListsOneVersion, Ok(services)) => {
                services.iter_mut().for_each(|service| service.versions.truncate(1));
                list
            }
            _ => list,
        }
    }

    fn has_missed(&self, service: &str, kind: Option<ErrorKind>) -> bool {
        let mut missed = self.missed.lock().unwrap();
        if kind == Some(ErrorKind::NotFound) && !self.store.has_seen(service) {
            missed.insert(service.to_owned());
        }
        missed.contains(service)
    }

    /// What others registered and nobody deregistered, dead or alive.
    fn known_to_others(&self, service: &str) -> Option<Vec<Service>> {
        let known = self.store.all_known().into_iter().map(|known| known.now);
        let known: Vec<_> = known.filter(|now| now.service == service).collect();
        let own = self.own.lock().unwrap();
        let is_own = |(name, _): &super::Key| name == service;
        if known.is_empty() || own.keys().any(is_own) {
            return None;
        }
        Some(known.into_iter().map(Arc::new).collect::<View>().service(service))
    }

    async fn all_that_begin(&self, part: &str) -> Result<Vec<Service>, Error> {
        let mut found = vec![];
        for summary in self.inner.list().await? {
            if summary.name.starts_with(part) {
                found.extend(self.inner.get(&summary.name).await?);
            }
        }
        if found.is_empty() { Err(Error::not_found(part)) } else { Ok(found) }
    }
}
