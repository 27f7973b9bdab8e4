//! Following keys, and telling who watches what that means.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::{Fuse, FusedFuture};
use futures::{FutureExt, StreamExt};

use super::known::Known;
use super::reading::Reader;
use super::registry::in_time;
use super::{Changes, Directory, Keys, Listing};
use crate::feed::{self, Audience, Backoff, Look};
use crate::{Error, ErrorKind};

/// What is followed.
#[derive(Debug)]
pub(super) struct Source<D> {
    pub(super) directory: Arc<D>,
    pub(super) reader: Arc<Reader>,
    pub(super) keys: Keys,
    pub(super) deadline: Duration,
}

type Listed<D> = Result<Listing<<D as Directory>::Lease>, Error>;

impl<D: Directory> Source<D> {
    async fn list(&self) -> Listed<D> {
        in_time(self.deadline, &self.reader.engine, self.directory.list(&self.keys)).await
    }

    async fn changes(&self, after: u64) -> Result<Changes<D::Lease>, Error> {
        let follow = self.directory.follow(&self.keys, after);
        in_time(self.deadline, &self.reader.engine, follow).await
    }
}

#[async_trait]
impl<D: Directory> feed::Source for Source<D> {
    fn name(&self) -> String {
        let (Keys::One(keys) | Keys::Below(keys)) = &self.keys;
        format!("{} registry, {keys}", self.reader.engine)
    }

    async fn follow(&mut self, look: Look, audience: &mut Audience) -> Option<Error> {
        let listing = match audience.meanwhile(self.list()).await? {
            Ok(listing) => listing,
            Err(error) => return Some(error),
        };
        let known = Known::new(&listing, &self.reader);
        audience.reset(look, |_| known.reset());
        match audience.meanwhile(self.changes(listing.revision)).await? {
            Ok(changes) => self.serve(known, changes, audience).await,
            Err(error) => Some(error),
        }
    }
}

impl<D: Directory> Source<D> {
    async fn look(&self, begun: Look, pause: Option<Duration>) -> (Look, Listed<D>) {
        if let Some(pause) = pause {
            tokio::time::sleep(pause).await;
        }
        (begun, self.list().await)
    }

    /// Tells what changes. For those who come it lists again: what changed before they came may not
    /// have been told yet, though a call has answered it. As long as that fails they wait; the others
    /// go on being told.
    async fn serve(
        &self,
        mut known: Known,
        mut changes: Changes<D::Lease>,
        audience: &mut Audience,
    ) -> Option<Error> {
        let (mut look, mut backoff) = (Fuse::terminated(), None);
        loop {
            if look.is_terminated() {
                let begun = audience.begin_look();
                if begun.is_awaited() {
                    look = self.look(begun, backoff.as_ref().map(Backoff::pause)).boxed().fuse();
                }
            }
            // Every arm is cancel-safe. Changes come first: they say why a node left.
            tokio::select! {
                biased;
                batch = changes.next() => match batch {
                    Some(Ok(batch)) => audience.send(&known.take_in(&batch, &self.reader)),
                    Some(Err(error)) => return Some(error),
                    None => return Some(Error::new(ErrorKind::Unavailable, "the watch ended")),
                },
                (begun, listing) = &mut look => match listing {
                    Ok(listing) => {
                        backoff = None;
                        audience.send(&known.catch_up(&listing, &self.reader));
                        audience.admit(begun, |_| known.reset());
                    }
                    Err(error) => {
                        backoff.get_or_insert_with(Backoff::new).lost();
                        audience.put_off(begun, &error);
                    }
                },
                () = audience.changed() => if audience.is_over() {
                    return None;
                },
            }
        }
    }
}
