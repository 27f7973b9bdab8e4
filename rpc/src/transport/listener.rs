//! The accepting side of every transport.

use std::fmt;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::mpsc;

use super::{MemoryStream, Stream};
use crate::Address;

/// A bound address that a [`Server`](crate::Server) accepts connections on.
///
/// Dropping it stops listening, and removes the socket file of a Unix listener.
#[must_use]
pub struct Listener {
    address: Address,
    kind: Kind,
}

enum Kind {
    Tcp(TcpListener),
    Unix { listener: UnixListener, _file: SocketFile },
    Memory(mpsc::Receiver<MemoryStream>),
}

impl Listener {
    /// Binds a TCP port or a Unix socket.
    ///
    /// A socket file that nobody answers on is left over from a process that died, and is
    /// replaced. TCP port 0 takes a free port, which [`Listener::local_address`] then tells.
    ///
    /// # Errors
    ///
    /// Those of the operating system; [`io::ErrorKind::InvalidInput`] for a `memory:` address,
    /// which [`MemoryNetwork::listen`](crate::MemoryNetwork::listen) binds.
    ///
    /// # Cancel safety
    ///
    /// Nothing stays bound, though a stale socket file may be gone.
    pub async fn bind(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp { host, port } => {
                TcpListener::bind((host.as_str(), *port)).await.map(Self::from)
            }
            Address::Unix(path) => bind_unix(path).await,
            Address::Memory(_) => {
                let message = format!("`{address}` is bound by a memory network's listen");
                Err(io::Error::new(io::ErrorKind::InvalidInput, message))
            }
        }
    }

    /// Returns where this listens, with the port that was chosen.
    #[must_use]
    pub fn local_address(&self) -> Address {
        self.address.clone()
    }

    pub(super) fn memory(name: String, receiver: mpsc::Receiver<MemoryStream>) -> Self {
        Self { address: Address::Memory(name), kind: Kind::Memory(receiver) }
    }

    /// Waits for the next connection; cancel-safe.
    pub(crate) async fn accept(&mut self) -> io::Result<Stream> {
        match &mut self.kind {
            Kind::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // It fails for a connection that is gone already, which its first read tells.
                let _ = stream.set_nodelay(true);
                Ok(Stream::Tcp(stream))
            }
            Kind::Unix { listener, .. } => Ok(Stream::Unix(listener.accept().await?.0)),
            Kind::Memory(receiver) => match receiver.recv().await {
                Some(stream) => Ok(Stream::Memory(stream)),
                // The network is gone or says that this process is: nobody can ever connect.
                None => std::future::pending().await,
            },
        }
    }
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        let address = match listener.local_addr() {
            Ok(address) => address.into(),
            Err(_) => Address::tcp("0.0.0.0", 0),
        };
        Self { address, kind: Kind::Tcp(listener) }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Listener").field(&self.address).finish()
    }
}

async fn bind_unix(path: &Path) -> io::Result<Listener> {
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_if_stale(path, error).await?;
            UnixListener::bind(path)?
        }
        other => other?,
    };
    let kind = Kind::Unix { listener, _file: SocketFile::new(path)? };
    Ok(Listener { address: Address::Unix(path.into()), kind })
}

/// Removes a socket nobody answers on; anything else that is in the way stays.
async fn remove_if_stale(path: &Path, in_use: io::Error) -> io::Result<()> {
    let is_socket = std::fs::symlink_metadata(path)?.file_type().is_socket();
    let refused = match UnixStream::connect(path).await {
        Ok(_) => false,
        Err(error) => error.kind() == io::ErrorKind::ConnectionRefused,
    };
    if is_socket && refused { std::fs::remove_file(path) } else { Err(in_use) }
}

/// Removes the socket file on drop, unless another process has put its own in that place.
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.into(), identity: identity(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            // A file that cannot be removed is replaced by the next bind.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}
