//! A network inside this process.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::DuplexStream;
use tokio::sync::mpsc;

use super::Listener;

/// A network inside this process: names that can be listened on and connected to.
///
/// Clones are the same network; two networks know nothing of each other, so tests run in
/// parallel. Pipes hold 64 KiB each way, after which a writer waits.
#[derive(Clone, Default)]
pub struct MemoryNetwork {
    listeners: Arc<Mutex<HashMap<String, mpsc::Sender<DuplexStream>>>>,
}

/// Bytes a pipe holds in each direction.
const PIPE: usize = 64 * 1024;
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
        let mut listeners = self.lock();
        if listeners.get(&name).is_some_and(|old| !old.is_closed()) {
            let message = format!("`memory:{name}` is in use");
            return Err(io::Error::new(io::ErrorKind::AddrInUse, message));
        }
        listeners.insert(name.clone(), sender);
        Ok(Listener::memory(name, receiver))
    }

    /// Opens a pipe to whoever listens on a name.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::ConnectionRefused`] when nobody does, or too many wait to be accepted.
    pub fn connect(&self, name: &str) -> io::Result<DuplexStream> {
        let (near, far) = tokio::io::duplex(PIPE);
        let sent = self.lock().get(name).is_some_and(|listener| listener.try_send(far).is_ok());
        if sent {
            return Ok(near);
        }
        let message = format!("nobody accepts connections on `memory:{name}`");
        Err(io::Error::new(io::ErrorKind::ConnectionRefused, message))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, mpsc::Sender<DuplexStream>>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
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
}
