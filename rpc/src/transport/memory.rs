//! A network inside this process.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use super::Listener;
use super::link::{Link, MemoryStream};

/// A network inside this process: names that can be listened on and connected to.
///
/// Clones are the same network; two networks know nothing of each other, so tests run in
/// parallel. Pipes hold 64 KiB each way, after which a writer waits.
///
/// # Faults
///
/// The way to a name can be hurt: made [silent](Self::set_silent), made
/// [slow](Self::set_delay), or [crashed](Self::crash). Silence and delay belong to the name: they
/// stay until they are taken back, whoever listens on it meanwhile. All of it is on tokio's clock,
/// so it works in paused time.
#[derive(Clone, Default)]
pub struct MemoryNetwork {
    places: Arc<Mutex<HashMap<String, Place>>>,
}

/// What is at a name: the way to it, and who listens there.
#[derive(Default)]
struct Place {
    link: Arc<Link>,
    listener: Option<mpsc::Sender<MemoryStream>>,
}

/// Connections that wait to be accepted; more are refused.
const BACKLOG: usize = 128;

impl MemoryNetwork {
    /// Creates a network with nobody on it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Listens on a name, until the listener is dropped.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::AddrInUse`] when somebody listens on it.
    pub fn listen(&self, name: impl Into<String>) -> io::Result<Listener> {
        let name = name.into();
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let mut places = self.lock();
        let place = places.entry(name.clone()).or_default();
        if place.listener.as_ref().is_some_and(|old| !old.is_closed()) {
            let message = format!("`memory:{name}` is in use");
            return Err(io::Error::new(io::ErrorKind::AddrInUse, message));
        }
        place.listener = Some(sender);
        Ok(Listener::memory(name, receiver))
    }

    /// Opens a pipe to whoever listens on a name.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::ConnectionRefused`] when nobody does, or too many wait to be accepted.
    pub fn connect(&self, name: &str) -> io::Result<MemoryStream> {
        let places = self.lock();
        let listening = places.get(name).and_then(|place| Some((place, place.listener.as_ref()?)));
        if let Some((place, listener)) = listening {
            let (near, far) = MemoryStream::pair(&place.link);
            if listener.try_send(far).is_ok() {
                return Ok(near);
            }
        }
        let message = format!("nobody accepts connections on `memory:{name}`");
        Err(io::Error::new(io::ErrorKind::ConnectionRefused, message))
    }

    /// Whether nothing passes to and from a name, as when its host is unplugged or its process
    /// stopped.
    ///
    /// Connections stay and new ones are made, but what either side writes waits on the way, the
    /// end of a connection included, and arrives when the silence ends. As on a real network the
    /// silence alone does not tell a dead peer from a slow one.
    pub fn set_silent(&self, name: &str, silent: bool) {
        self.link(name).set_silent(silent);
    }

    /// How long the bytes of whoever listens on a name take to reach those who connected to it;
    /// none by default. What is on the way keeps its order.
    pub fn set_delay(&self, name: &str, delay: Duration) {
        self.link(name).set_delay(delay);
    }

    /// Does to a name what the death of its process does: both ends of its connections are reset at
    /// once, and nobody listens on it until somebody does so anew. Those who connected hear of it
    /// when it is not silent.
    pub fn crash(&self, name: &str) {
        let mut places = self.lock();
        let place = places.entry(name.to_owned()).or_default();
        place.listener = None;
        place.link.crash();
    }

    fn link(&self, name: &str) -> Arc<Link> {
        self.lock().entry(name.to_owned()).or_default().link.clone()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemoryNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.lock().keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Stream;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::{Instant, sleep, timeout};

    const SECOND: Duration = Duration::from_secs(1);

    /// Both ends of a connection to `a`, and its listener.
    async fn connected(network: &MemoryNetwork) -> (MemoryStream, Stream, Listener) {
        let mut listener = network.listen("a").unwrap();
        let near = network.connect("a").unwrap();
        let far = listener.accept().await.unwrap();
        (near, far, listener)
    }

    /// A name is taken while its listener lives, and free again afterwards.
    #[test]
    fn names_are_exclusive() {
        let network = MemoryNetwork::new();
        let listener = network.listen("a").unwrap();
        assert_eq!(network.listen("a").unwrap_err().kind(), io::ErrorKind::AddrInUse);
        network.connect("a").unwrap();
        drop(listener);
        assert_eq!(network.connect("a").unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert!(network.listen("a").is_ok());
    }

    /// In silence both sides write and neither reads; what was written arrives afterwards, and so
    /// does the end.
    #[tokio::test(start_paused = true)]
    async fn silence_holds_everything_back() {
        let network = MemoryNetwork::new();
        let (mut near, mut far, _listener) = connected(&network).await;
        let mut read = [0; 4];
        network.set_silent("a", true);
        near.write_all(b"ping").await.unwrap();
        far.write_all(b"pong").await.unwrap();
        assert!(timeout(SECOND, far.read(&mut read)).await.is_err());
        assert!(timeout(SECOND, near.read(&mut read)).await.is_err());
        network.connect("a").unwrap();

        let waiting = tokio::spawn(async move { far.read_exact(&mut [0; 4]).await.map(|_| far) });
        sleep(SECOND).await;
        network.set_silent("a", false);
        drop(timeout(SECOND, waiting).await.unwrap().unwrap().unwrap());
        let mut rest = Vec::new();
        near.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"pong");
    }

    /// What the listening side writes takes as long as it was told to, in order; the other way is
    /// not slowed down.
    #[tokio::test(start_paused = true)]
    async fn delay_is_one_way() {
        let network = MemoryNetwork::new();
        let (mut near, mut far, _listener) = connected(&network).await;
        let start = Instant::now();
        network.set_delay("a", 5 * SECOND);
        near.write_all(b"ping").await.unwrap();
        far.read_exact(&mut [0; 4]).await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
        far.write_all(b"po").await.unwrap();
        assert!(timeout(SECOND, near.read_u8()).await.is_err());
        network.set_delay("a", Duration::ZERO);
        far.write_all(b"ng").await.unwrap();
        drop(far);
        let mut rest = Vec::new();
        near.read_to_end(&mut rest).await.unwrap();
        assert_eq!((&rest[..], start.elapsed()), (&b"pong"[..], 5 * SECOND));
    }

    /// More than a connection holds is not lost on a slow way.
    #[tokio::test(start_paused = true)]
    async fn delay_loses_nothing() {
        let network = MemoryNetwork::new();
        let (mut near, mut far, _listener) = connected(&network).await;
        network.set_delay("a", SECOND);
        let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        let expected = sent.clone();
        let writing = tokio::spawn(async move { far.write_all(&sent).await });
        let mut received = Vec::new();
        timeout(3_600 * SECOND, near.read_to_end(&mut received)).await.unwrap().unwrap();
        writing.await.unwrap().unwrap();
        assert!(received == expected);
    }

    /// A crash ends connections on both sides, those that wait to read included, and nobody can
    /// connect until somebody listens again.
    #[tokio::test(start_paused = true)]
    async fn a_crash_resets() {
        let network = MemoryNetwork::new();
        let (mut near, mut far, _listener) = connected(&network).await;
        let waiting = tokio::spawn(async move { near.read_u8().await });
        tokio::task::yield_now().await;
        network.crash("a");
        let error = timeout(SECOND, waiting).await.unwrap().unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(far.write(b"x").await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(network.connect("a").unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let _anew = network.listen("a").unwrap();
        network.connect("a").unwrap().write_all(b"x").await.unwrap();
    }

    /// Whoever is cut off does not hear of a crash before the silence ends.
    #[tokio::test(start_paused = true)]
    async fn a_crash_in_silence_is_not_heard() {
        let network = MemoryNetwork::new();
        let (mut near, _far, _listener) = connected(&network).await;
        network.set_silent("a", true);
        network.crash("a");
        near.write_all(b"x").await.unwrap();
        assert!(timeout(SECOND, near.read_u8()).await.is_err());
        network.set_silent("a", false);
        let error = near.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
