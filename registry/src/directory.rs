//! For engines that are a directory of leased keys: what such an engine must be able to do.
//!
//! Most engines are the same thing in other words: keys with values, a lease that takes a key away
//! when nobody renews it, and a watch. What a registry is beyond that, from fencing to the first
//! `Reset`, is the same for all of them and stands here once: [`DirectoryRegistry`]. A backend brings
//! a [`Directory`].

mod known;
mod layout;
mod reading;
mod registry;
mod turns;
mod watching;
mod writing;

pub use registry::DirectoryRegistry;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::Error;

/// An engine that keeps values under keys, each for as long as its lease lives.
///
/// Keys are `namespace/service/node id`; a prefix of its own in front of them is the engine's affair.
/// Values are bytes it does not look into.
///
/// # Behaviour of every method
///
/// - Answers within a deadline of the engine's, and then with
///   [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable); never with an empty listing.
/// - Is cancel-safe: a write that was dropped has happened or not. All writes are guarded, so that
///   repeating one is right either way.
#[async_trait]
pub trait Directory: fmt::Debug + Send + Sync + 'static {
    /// What keeps a key alive, as the engine names it.
    type Lease: Clone + fmt::Debug + Send + Sync + 'static;

    /// The engine's name, for logs.
    fn name(&self) -> &str;

    /// Writes a value, under the lease asked for, provided that the key is as `expected`; all of it in
    /// one step. A put that is refused leaves no lease behind.
    async fn put(&self, put: Put<'_, Self::Lease>) -> Result<PutOutcome<Self::Lease>, Error>;

    /// Gives a lease another whole TTL, without a write, and says whether that was of use: `false` when
    /// the lease is gone, or the key is, or is no longer as it was `held`.
    async fn renew(&self, key: &str, held: &Held<Self::Lease>) -> Result<bool, Error>;

    /// Removes a key and ends its lease, provided that the key is as it was `held`; says whether it
    /// was.
    async fn remove(&self, key: &str, held: &Held<Self::Lease>) -> Result<bool, Error>;

    /// Everything under these keys, as of one revision, which is no earlier than that of anything
    /// answered or told before.
    async fn list(&self, keys: &Keys) -> Result<Listing<Self::Lease>, Error>;

    /// What changes under these keys after a revision, in order, a batch at a time, none left out.
    ///
    /// An error is an outage and the end of it: the connection was cut or is silent, the revision is no
    /// longer remembered, the engine lost its data. It never ends otherwise. Dropping the stream ends
    /// what the engine does for it.
    async fn follow(&self, keys: &Keys, after: u64) -> Result<Changes<Self::Lease>, Error>;
}

/// What [`Directory::follow`] gives.
pub type Changes<L> = BoxStream<'static, Result<Vec<Change<L>>, Error>>;

/// Which keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Keys {
    /// This one.
    One(String),
    /// All that begin with this text, which ends in `/`.
    Below(String),
}

/// A write that may be refused.
#[derive(Clone, Debug)]
pub struct Put<'a, L> {
    /// Under which key.
    pub key: &'a str,
    /// What.
    pub value: &'a [u8],
    /// For how long.
    pub lease: LeaseFor<L>,
    /// How the key has to be for this to happen: at this version, or not there at all.
    pub expected: Option<u64>,
}

/// The lease a value is put under.
#[derive(Clone, Debug)]
pub enum LeaseFor<L> {
    /// One that is there; the put renews nothing.
    Existing(L),
    /// A new one of this TTL.
    New(Duration),
}

/// What became of a [`Put`].
#[derive(Clone, Debug)]
pub enum PutOutcome<L> {
    /// It is stored.
    Stored(Held<L>),
    /// The key is not as expected; nothing changed.
    Conflict,
    /// The lease is gone; nothing changed.
    LeaseLost,
}

/// How a key was when it was written or read.
#[derive(Clone, Debug)]
pub struct Held<L> {
    /// Its version: the revision of the write that left it so, another one after every write.
    pub version: u64,
    /// Its lease.
    pub lease: L,
}

/// A key that is there.
#[derive(Clone, Debug)]
pub struct Entry<L> {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: Vec<u8>,
    /// Its version and its lease.
    pub held: Held<L>,
}

/// What there is, as of a revision.
#[derive(Clone, Debug)]
pub struct Listing<L> {
    /// All entries, in any order.
    pub entries: Vec<Entry<L>>,
    /// The revision, which every change so far is at or before and every later one after;
    /// [`Directory::follow`] goes on from it.
    pub revision: u64,
}

/// A change.
#[derive(Clone, Debug)]
pub enum Change<L> {
    /// A key was written.
    Put(Entry<L>),
    /// A key is gone: removed, or its lease ended.
    Gone {
        /// Which.
        key: String,
        /// The revision of its removal.
        revision: u64,
    },
}

impl<L> Change<L> {
    /// The revision it happened at.
    pub fn revision(&self) -> u64 {
        match self {
            Self::Put(entry) => entry.held.version,
            Self::Gone { revision, .. } => *revision,
        }
    }
}
