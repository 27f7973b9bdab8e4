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
/// Dropping it stops listening, and removes the socket file that [`Listener::bind`] made.
///
/// A listener of tokio's or of the standard library's, made by the program or handed to it, becomes
/// one with `try_from`. Its socket file stays: whoever made the file may want to listen on it again.
///
/// # Examples
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> std::io::Result<()> {
/// use micro_rpc::Listener;
///
/// let inherited = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let port = inherited.local_addr()?.port();
/// let listener = Listener::try_from(inherited)?;
/// assert_eq!(listener.local_address().to_string(), format!("127.0.0.1:{port}"));
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct Listener {
    address: Address,
    kind: Kind,
}

enum Kind {
    Tcp(TcpListener),
    /// With the file to remove, if it is ours.
    Unix {
        listener: UnixListener,
        _file: Option<SocketFile>,
    },
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
                Self::try_from(TcpListener::bind((host.as_str(), *port)).await?)
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

impl TryFrom<TcpListener> for Listener {
    type Error = io::Error;

    /// Fails when the operating system does not tell where it listens.
    fn try_from(listener: TcpListener) -> io::Result<Self> {
        let address = listener.local_addr()?.into();
        Ok(Self { address, kind: Kind::Tcp(listener) })
    }
}

impl TryFrom<UnixListener> for Listener {
    type Error = io::Error;

    /// Fails for a socket without a path, which no [`Address`] names, and when the operating system
    /// does not tell where it listens.
    fn try_from(listener: UnixListener) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let Some(path) = address.as_pathname() else {
            let message = "a Unix socket without a path has no address to tell others";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        };
        // Bound by a relative path, it would be told to others who are somewhere else.
        let address = Address::Unix(std::path::absolute(path)?);
        Ok(Self { address, kind: Kind::Unix { listener, _file: None } })
    }
}

impl TryFrom<std::net::TcpListener> for Listener {
    type Error = io::Error;

    /// Makes it non-blocking; fails outside a tokio runtime too.
    fn try_from(listener: std::net::TcpListener) -> io::Result<Self> {
        in_runtime()?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)?.try_into()
    }
}

impl TryFrom<std::os::unix::net::UnixListener> for Listener {
    type Error = io::Error;

    /// Makes it non-blocking; fails outside a tokio runtime too.
    fn try_from(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        in_runtime()?;
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener)?.try_into()
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Listener").field(&self.address).finish()
    }
}

/// Tokio panics where it has no runtime.
fn in_runtime() -> io::Result<()> {
    tokio::runtime::Handle::try_current().map(drop).map_err(io::Error::other)
}

async fn bind_unix(path: &Path) -> io::Result<Listener> {
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_if_stale(path, error).await?;
            UnixListener::bind(path)?
        }
        other => other?,
    };
    let kind = Kind::Unix { listener, _file: Some(SocketFile::new(path)?) };
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
