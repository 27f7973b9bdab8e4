//! Counts the calls a client makes, for those who watch it from outside.

use std::cmp::Ordering;
use std::sync::Arc;

use arc_swap::ArcSwap;
use micro_rpc::{Code, Name, Request, Tally};
use tokio::time::Instant;

/// The calls of a client by service, contract and method.
///
/// Finding a method neither locks nor allocates, save for its first call.
#[derive(Debug)]
pub(crate) struct Meter {
    /// In the order of their names.
    series: ArcSwap<Vec<Arc<Series>>>,
    /// The calls for which there was no room among them.
    others: Arc<Series>,
}

/// The calls of one method.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) service: Name,
    /// Empty for the calls of all others, as are the method and the service.
    pub(crate) contract: Name,
    pub(crate) method: Name,
    pub(crate) tally: Tally,
}

/// So many methods are told apart. A program knows fewer; one that passes on whatever it is asked for
/// could be made to remember any number.
const MOST: usize = 1_000;
/// In bytes: a service, contract or method of a longer name is among the others, for each name is in
/// every series of a method.
const LONGEST: usize = 255;

impl Default for Meter {
    fn default() -> Self {
        let others = Arc::new(Series::new("".into(), "".into(), "".into()));
        Self { series: ArcSwap::default(), others }
    }
}

impl Meter {
    /// Begins a call now, which ends when it is told to, or as *cancelled* when it is dropped.
    pub(crate) fn begin(&self, service: &Name, request: &Request, now: Instant) -> Metered {
        let series = self.find(service, request).unwrap_or_else(|| self.add(service, request));
        Metered { series, since: now, has_ended: false }
    }

    /// The same for a call of a method that may not exist: it is one of the others.
    pub(crate) fn begin_other(&self, now: Instant) -> Metered {
        Metered { series: self.others.clone(), since: now, has_ended: false }
    }

    /// All that was called so far, in the order of the names, then the others if there are any.
    pub(crate) fn read(&self) -> Vec<Arc<Series>> {
        let mut all = self.series.load().to_vec();
        all.extend(self.others.tally.read().next().map(|_| self.others.clone()));
        all
    }

    fn find(&self, service: &Name, request: &Request) -> Option<Arc<Series>> {
        let series = self.series.load();
        let found = series.binary_search_by(|series| series.compare(service, request));
        found.ok().map(|at| series[at].clone())
    }

    fn add(&self, service: &Name, request: &Request) -> Arc<Series> {
        let names = [service, &request.contract, &request.method];
        // Asked before anything is copied: every call of the others comes here.
        if names.iter().any(|name| name.len() > LONGEST) || self.series.load().len() >= MOST {
            return self.others.clone();
        }
        let (contract, method) = (request.contract.clone(), request.method.clone());
        let new = Arc::new(Series::new(service.clone(), contract, method));
        self.series.rcu(|known| {
            let mut series = Vec::clone(known);
            if let Err(at) = series.binary_search_by(|series| series.compare(service, request))
                && series.len() < MOST
            {
                series.insert(at, new.clone());
            }
            series
        });
        // Another call of the method may have been quicker.
        self.find(service, request).unwrap_or_else(|| self.others.clone())
    }
}

impl Series {
    fn new(service: Name, contract: Name, method: Name) -> Self {
        Self { service, contract, method, tally: Tally::new() }
    }

    fn compare(&self, service: &Name, request: &Request) -> Ordering {
        order(&self.method, &request.method)
            .then_with(|| order(&self.contract, &request.contract))
            .then_with(|| order(&self.service, service))
    }
}

/// The order of two names, which mostly are one and the same in memory, too.
fn order(one: &str, other: &str) -> Ordering {
    if std::ptr::eq(one, other) { Ordering::Equal } else { one.cmp(other) }
}

/// A call that is under way.
#[derive(Debug)]
pub(crate) struct Metered {
    series: Arc<Series>,
    since: Instant,
    has_ended: bool,
}

impl Metered {
    pub(crate) fn ended(mut self, end: Result<(), Code>, now: Instant) {
        self.has_ended = true;
        self.series.tally.note(end, now.saturating_duration_since(self.since));
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        if !self.has_ended {
            self.series.tally.note(Err(Code::Cancelled), self.since.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use micro_rpc::Codec;

    use super::*;

    fn request(method: String) -> Request {
        Request::new("shop", method, Codec::Json, Bytes::new())
    }

    fn count(series: &Series) -> u64 {
        series.tally.read().map(|(_, took)| took.count()).sum()
    }

    /// Calls of a method are counted together, those of its namesakes elsewhere are not, and calls
    /// that nobody waits for are counted as well.
    #[test]
    fn methods_are_told_apart() {
        let (meter, now) = (Meter::default(), Instant::now());
        let (price, stock) = (request("price".to_owned()), request("stock".to_owned()));
        for (service, request) in [("a", &price), ("a", &stock), ("b", &price), ("a", &price)] {
            meter.begin(&service.into(), request, now).ended(Ok(()), now);
        }
        drop(meter.begin(&"b".into(), &price, now));
        let read = meter.read();
        let read: Vec<_> =
            read.iter().map(|series| (&*series.service, &*series.method, count(series))).collect();
        assert_eq!(read, [("a", "price", 2), ("b", "price", 2), ("a", "stock", 1)]);
    }

    /// Neither a name that is too long nor one that nobody vouches for is remembered; both calls count.
    #[test]
    fn made_up_names_are_not_remembered() {
        let (meter, now) = (Meter::default(), Instant::now());
        let longest = request("m".repeat(LONGEST));
        meter.begin(&"a".into(), &longest, now).ended(Ok(()), now);
        let longer = request("m".repeat(LONGEST + 1));
        meter.begin(&"a".into(), &longer, now).ended(Ok(()), now);
        meter.begin(&"s".repeat(LONGEST + 1).into(), &longest, now).ended(Ok(()), now);
        meter.begin_other(now).ended(Ok(()), now);
        let read = meter.read();
        let read: Vec<_> = read.iter().map(|series| (series.method.len(), count(series))).collect();
        assert_eq!(read, [(LONGEST, 1), (0, 3)]);
    }

    /// However many methods are called, so many are remembered, and no call is lost.
    #[test]
    fn what_is_remembered_is_bounded() {
        let (meter, now) = (Meter::default(), Instant::now());
        for number in 0..2 * MOST {
            meter
                .begin(&"a".into(), &request(number.to_string()), now)
                .ended(Err(Code::NotFound), now);
        }
        let read = meter.read();
        assert_eq!((read.len(), count(&read[MOST])), (MOST + 1, MOST as u64));
        assert_eq!(read.iter().map(|series| count(series)).sum::<u64>(), 2 * MOST as u64);
    }
}
