//! Following keys, and telling who watches what that means.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;

use super::known::Known;
use super::reading::Reader;
use super::registry::in_time;
use super::{Changes, Directory, Keys, Listing};
use crate::feed::{self, Audience};
use crate::{Error, ErrorKind};

/// What is followed.
#[derive(Debug)]
pub(super) struct Source<D> {
    pub(super) directory: Arc<D>,
    pub(super) reader: Arc<Reader>,
    pub(super) keys: Keys,
    pub(super) deadline: Duration,
}

impl<D: Directory> Source<D> {
    async fn list(&self) -> Result<Listing<D::Lease>, Error> {
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

    async fn follow(&mut self, audience: &mut Audience) -> Option<Error> {
        let listing = match audience.meanwhile(self.list()).await? {
            Ok(listing) => listing,
            Err(error) => return Some(error),
        };
        let mut known = Known::new(self.reader.view(&listing));
        audience.reset(|_| known.reset());
        let mut changes = match serve(audience, &known, self.changes(listing.revision)).await? {
            Ok(changes) => changes,
            Err(error) => return Some(error),
        };
        loop {
            match serve(audience, &known, changes.next()).await? {
                Some(Ok(batch)) => {
                    let updates = known.take_in(&batch, &self.reader);
                    audience.send(&updates);
                }
                Some(Err(error)) => return Some(error),
                None => return Some(Error::new(ErrorKind::Unavailable, "the watch ended")),
            }
        }
    }
}

/// Waits for news, telling those who come meanwhile what is known; `None` when nobody watches any
/// more. Every arm is cancel-safe, and what is waited for is polled to its end.
async fn serve<T>(
    audience: &mut Audience,
    known: &Known,
    news: impl Future<Output = T>,
) -> Option<T> {
    let mut news = pin!(news);
    loop {
        tokio::select! {
            news = &mut news => return Some(news),
            () = audience.changed() => audience.admit(|_| known.reset()),
        }
        if audience.is_over() {
            return None;
        }
    }
}
