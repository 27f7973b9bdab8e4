//! Bounds on what a peer can make this process hold.

use std::time::Duration;

use crate::Metadata;

/// Bounds on what a peer can make this process hold. Each is checked before memory is set aside.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The longest frame accepted, in bytes after its length field: 1 KiB to 64 MiB, default
    /// 4 MiB. A longer request or response fails that one call.
    pub max_frame: usize,
    /// The most metadata accepted with a request, in bytes as encoded: at most and by default
    /// [`Metadata::MAX_BYTES`]. Part of `max_frame`.
    pub max_metadata: usize,
    /// The most calls at once on one connection: 1 to 65 536, default 1 024. A client waits; a
    /// server refuses what a client sends in spite of it.
    ///
    /// A client that does not read its answers makes a server hold 1 MiB of them, after which the
    /// server looks at no further request of that connection, and the answers of the calls that run
    /// by then: at worst this number times the longest frame the client accepts.
    pub max_in_flight: usize,
    /// The most calls a second that a server takes from one IPv4 address or IPv6 network (/64), on
    /// all its connections; at least 1, default `None`, which is any number. Who was quiet for a
    /// second may make as many at once; what is more is refused as `resource_exhausted`, with
    /// [`Status::retry_after`](crate::Status::retry_after). Unix sockets and memory are not counted.
    /// Who shares an address shares its calls, as with `max_connections_per_peer`.
    ///
    /// Nor are calls counted that come through [`ServerHandle::http`](crate::ServerHandle::http),
    /// unless the application puts the caller's [`Peer`](crate::Peer) into the extensions of the
    /// request: it alone knows who calls.
    pub max_rate_per_peer: Option<u32>,
    /// The most calls that a server runs at once, on all connections: 1 to 65 536, default 65 536.
    /// Calls whose handler ends without ever waiting are not counted.
    ///
    /// Each class of [`Criticality`](crate::Criticality) may use its share of these places. Calls
    /// that find none wait in a queue, and what does not fit in there is refused as
    /// `resource_exhausted`, with [`Status::retry_after`](crate::Status::retry_after).
    pub max_running: usize,
    /// Whether a server allows fewer calls at once than `max_running` while calls take long because
    /// of each other; default `true`.
    ///
    /// It does when more than `min_running` calls run at once and take more than twice as long as
    /// they do when few run, and more than 20 ms, for several tenths of a second; it allows more
    /// again as soon as they do not. Each method is compared with itself; those that a
    /// [fallback](crate::Router::fallback) runs are one. How long they should take is learned from
    /// calls that were answered, not from those that ended in an error.
    ///
    /// Calls that are given up, by their callers or at their deadlines, count by what they cost: with
    /// every other call lost, an answer takes twice as long. A share that is lost in calm times too is
    /// normal. Where more are lost than run at once, before anything was answered, that is an overload.
    ///
    /// Some things cannot be told from durations. A server, or a method, that never had a quiet moment
    /// learns from its first calls, and if they were slow already, it bears twice that until at most
    /// `min_running` calls run for once. Callers who from one moment on give up most calls just before
    /// they would be answered look like an overload. And where all calls have a deadline just above
    /// what they take, and wait inside the handlers, oldest first, about half of what the server can do
    /// comes in time: there a `max_running` of what it can do at once is better.
    ///
    /// Methods that wait on purpose, until something happens for example, may look like an overload
    /// when it does not happen for once. With many such calls set `min_running` to their number, or
    /// this to `false`.
    pub adaptive: bool,
    /// The fewest calls at once that `adaptive` goes down to: at least 1, at most `max_running`,
    /// default 32, or `max_running` if that is less. It is also as many as are taken for few: how
    /// long calls take while no more run is how long they should take.
    pub min_running: usize,
    /// The most calls that wait for their turn to run, of each class of criticality, in order of
    /// arrival and the more important classes first: at most 65 536, default 1 024, and no more than
    /// may run. The classes may use the same shares of it. With 0 there is no queue.
    pub max_queued: usize,
    /// How long a call waits for its turn to run before it is refused: at most a year, default
    /// 100 ms. One whose deadline passes meanwhile is refused as well, and not executed.
    pub max_queue_time: Duration,
    /// The most connections a server keeps open: at least 1, default 10 000. One more takes the
    /// place of the connection that has made no call for the longest, has none running and no
    /// answer to read; that one is told to go away, and its client connects again for its next
    /// call. When there is none such, the newcomer is closed.
    ///
    /// Beside them, an eighth as many and one at least may be open that were told to go: each has
    /// up to two seconds, and if there are more the first of them is closed at once.
    ///
    /// Keep the sum below the file descriptors the process may open.
    pub max_connections: usize,
    /// The most connections a server keeps open to one IPv4 address or IPv6 network (/64): at
    /// least 1, default 1024. One more takes the place of another of the same address, as above.
    /// Unix sockets and memory count towards `max_connections` only.
    ///
    /// It keeps one host from taking all places. Whatever shares an address shares its places:
    /// all processes of this host that call over loopback, all clients behind a NAT, and all
    /// clients of a proxy or sidecar. Where that is the rule, set it to `max_connections`.
    pub max_connections_per_peer: usize,
    /// How long a server bears a peer that stops in the middle of a frame, or that does not read
    /// its answers, before it closes the connection: 1 ms to a year, default 10 s. In each such
    /// time a frame that is not complete has to grow by 64 KiB, so one of 4 MiB may take 11 minutes
    /// and no longer, and as much has to be read of answers that wait, over HTTP too. The clock is
    /// looked at once in this time, so a peer has up to twice as long.
    ///
    /// Also the time allowed for the preface, and for the head and for the body of an HTTP request.
    /// Between two of these a client may rest for 90 s, or for this time if it is longer.
    pub stall_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_frame: 4 * 1024 * 1024,
            max_metadata: Metadata::MAX_BYTES,
            max_in_flight: 1024,
            max_rate_per_peer: None,
            max_running: MAX_IN_FLIGHT,
            adaptive: true,
            min_running: MIN_RUNNING,
            max_queued: 1024,
            max_queue_time: Duration::from_millis(100),
            max_connections: 10_000,
            max_connections_per_peer: 1024,
            stall_timeout: Duration::from_secs(10),
        }
    }
}

impl Limits {
    /// Says which value is out of its range, if one is. A [`Server`](crate::Server) and a
    /// [`Channel`](crate::Channel) take such a value for the nearest in it.
    ///
    /// # Errors
    ///
    /// The first of those values.
    pub fn check(&self) -> Result<(), InvalidLimit> {
        self.fitted().named().into_iter().zip(self.clamped().named()).try_for_each(
            |((name, value), (_, nearest))| {
                if value == nearest { Ok(()) } else { Err(InvalidLimit { name, value, nearest }) }
            },
        )
    }

    /// A default that another value leaves no room for is nobody's mistake.
    fn fitted(&self) -> Self {
        let min_running = match self.min_running {
            MIN_RUNNING => MIN_RUNNING.min(self.max_running.max(1)),
            min_running => min_running,
        };
        Self { min_running, ..self.clone() }
    }

    /// The values that have a range.
    fn named(&self) -> [(&'static str, String); 11] {
        [
            ("max_frame", self.max_frame.to_string()),
            ("max_metadata", self.max_metadata.to_string()),
            ("max_in_flight", self.max_in_flight.to_string()),
            ("max_rate_per_peer", self.max_rate_per_peer.unwrap_or(1).to_string()),
            ("max_running", self.max_running.to_string()),
            ("min_running", self.min_running.to_string()),
            ("max_queued", self.max_queued.to_string()),
            ("max_queue_time", format!("{:?}", self.max_queue_time)),
            ("max_connections", self.max_connections.to_string()),
            ("max_connections_per_peer", self.max_connections_per_peer.to_string()),
            ("stall_timeout", format!("{:?}", self.stall_timeout)),
        ]
    }

    /// Returns these limits with every value moved into its range.
    pub(crate) fn clamped(&self) -> Self {
        let max_running = self.max_running.clamp(1, MAX_IN_FLIGHT);
        Self {
            max_frame: self.max_frame.clamp(MIN_FRAME, HARD_MAX_FRAME),
            max_metadata: self.max_metadata.min(Metadata::MAX_BYTES),
            max_in_flight: self.max_in_flight.clamp(1, MAX_IN_FLIGHT),
            max_rate_per_peer: self.max_rate_per_peer.map(|rate| rate.max(1)),
            max_running,
            adaptive: self.adaptive,
            min_running: self.min_running.clamp(1, max_running),
            max_queued: self.max_queued.min(MAX_IN_FLIGHT),
            max_queue_time: self.max_queue_time.min(YEAR),
            max_connections: self.max_connections.max(1),
            max_connections_per_peer: self.max_connections_per_peer.max(1),
            stall_timeout: self.stall_timeout.clamp(Duration::from_millis(1), YEAR),
        }
    }
}

/// A value of [`Limits`] is out of its range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} of {value} is out of range: the nearest in it is {nearest}")]
pub struct InvalidLimit {
    name: &'static str,
    value: String,
    nearest: String,
}

impl InvalidLimit {
    /// Returns the name of the field.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the nearest value that is in its range, as text.
    #[must_use]
    pub fn nearest(&self) -> &str {
        &self.nearest
    }
}

/// The default of `min_running`.
const MIN_RUNNING: usize = 32;
/// The least a peer may offer to accept: whatever the engine itself answers fits in it.
pub(crate) const MIN_FRAME: usize = 1024;
/// The longest frame that is skipped rather than answered by closing the connection.
pub(crate) const HARD_MAX_FRAME: usize = 64 * 1024 * 1024;
/// As good as for ever, and no sum with it overflows a clock.
pub(crate) const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
/// The client keeps a call's slot in the low 16 bits of its id.
pub(crate) const MAX_IN_FLIGHT: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    /// Each value out of its range is named, with the nearest in it, and what a server makes of it
    /// is in it; the defaults are.
    #[test]
    fn says_what_is_out_of_range() {
        let second = Duration::from_secs(1);
        type Change = fn(&mut Limits);
        let wrong: [(&str, Change); 11] = [
            ("max_frame of 1 is out of range: the nearest in it is 1024", |l| l.max_frame = 1),
            ("max_metadata of 16385", |l| l.max_metadata = Metadata::MAX_BYTES + 1),
            ("max_in_flight of 0", |l| l.max_in_flight = 0),
            ("max_rate_per_peer of 0", |l| l.max_rate_per_peer = Some(0)),
            ("max_running of 65537", |l| l.max_running = MAX_IN_FLIGHT + 1),
            ("min_running of 0 is out of range: the nearest in it is 1", |l| l.min_running = 0),
            ("max_queued of 65537", |l| l.max_queued = MAX_IN_FLIGHT + 1),
            ("max_queue_time of ", |l| l.max_queue_time = Duration::MAX),
            ("max_connections of 0", |l| l.max_connections = 0),
            ("max_connections_per_peer of 0", |l| l.max_connections_per_peer = 0),
            ("stall_timeout of 0ns", |l| l.stall_timeout = Duration::ZERO),
        ];
        for (expected, change) in wrong {
            let mut limits = Limits::default();
            change(&mut limits);
            let error = limits.check().unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
            assert_eq!(limits.clamped().check(), Ok(()), "{expected}");
        }
        let rate =
            Limits { max_rate_per_peer: Some(5), stall_timeout: second, ..Limits::default() };
        assert_eq!(rate.check(), Ok(()));
        let few = Limits { max_running: 8, ..Limits::default() };
        assert_eq!((few.check(), few.clamped().min_running), (Ok(()), 8));
        let error = Limits { min_running: 9, ..few }.check().unwrap_err().to_string();
        assert_eq!(error, "min_running of 9 is out of range: the nearest in it is 8");
        assert_eq!(Limits::default().check(), Ok(()));
    }
}
