//! Asks a node what it serves, and how it is, over HTTP on its own port.

use std::io;
use std::time::Duration;

use micro_rpc::{Address, Code, MemoryNetwork};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Description;
use crate::{Error, Phase};

/// What the node at an address says about itself.
///
/// # Errors
///
/// `unavailable` when it cannot be reached within two seconds, `unimplemented` when what is there
/// does not describe itself, as a service without the feature `http`.
///
/// # Cancel safety
///
/// Dropping the future closes the connection.
pub async fn ask(address: &str) -> Result<Description, Error> {
    ask_in(None, address).await
}

/// The same, for addresses in this network inside the process too.
pub(crate) async fn ask_in(
    network: Option<&MemoryNetwork>,
    address: &str,
) -> Result<Description, Error> {
    let page = get_in(network, address, "/describe").await?;
    if page.status != 200 {
        return Err(undescribed(address));
    }
    let described = serde_json::from_slice(&page.body);
    described.map_err(|error| undescribed(address).with_source(error))
}

/// What a node answers to `GET` of a path, `/health/ready` for example.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page {
    /// The status of HTTP.
    pub status: u16,
    /// The headers, a line each.
    pub head: String,
    /// What follows.
    pub body: Vec<u8>,
}

impl Page {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let headers = self.head.lines().filter_map(|line| line.split_once(':'));
        let mut named = headers.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        named.next().map(|(_, value)| value.trim())
    }
}

/// What the node at an address answers to `GET` of a path.
///
/// # Errors
///
/// `unavailable` when it cannot be reached within two seconds, `unimplemented` when what is there
/// speaks no HTTP.
///
/// # Cancel safety
///
/// Dropping the future closes the connection.
pub async fn get(address: &str, path: &str) -> Result<Page, Error> {
    get_in(None, address, path).await
}

async fn get_in(network: Option<&MemoryNetwork>, address: &str, path: &str) -> Result<Page, Error> {
    let to = address.parse::<Address>().map_err(|error| unavailable(address, &error))?;
    let answer = timeout(PATIENCE, reach(network, &to, path)).await;
    let answer = answer.unwrap_or_else(|late| Err(late.into()));
    let answer = answer.map_err(|error| unavailable(address, &error))?;
    page(&answer).ok_or_else(|| undescribed(address))
}

/// A node answers this at once, whatever else it has to do.
const PATIENCE: Duration = Duration::from_secs(2);
/// What says more than this about itself is nothing of ours.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

async fn reach(
    network: Option<&MemoryNetwork>,
    address: &Address,
    path: &str,
) -> io::Result<Vec<u8>> {
    match (address, network) {
        (Address::Tcp { host, port }, _) => {
            exchange(TcpStream::connect((host.as_str(), *port)).await?, path).await
        }
        #[cfg(unix)]
        (Address::Unix(socket), _) => {
            exchange(tokio::net::UnixStream::connect(socket).await?, path).await
        }
        (Address::Memory(name), Some(network)) => exchange(network.connect(name)?, path).await,
        _ => Err(io::Error::other("only its own process reaches it")),
    }
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    path: &str,
) -> io::Result<Vec<u8>> {
    // `localhost` is a name by which every service may be called.
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::new();
    let exchanged = async {
        stream.write_all(request.as_bytes()).await?;
        stream.take(MAX_BYTES).read_to_end(&mut answer).await
    };
    let exchanged = exchanged.await;
    // Some end a connection rudely when they have answered, or because they speak no HTTP.
    let is_rude = |error: &io::Error| {
        matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
    };
    match exchanged {
        Err(error) if answer.is_empty() && !is_rude(&error) => Err(error),
        _ => Ok(answer),
    }
}

fn page(answer: &[u8]) -> Option<Page> {
    const END: &[u8] = b"\r\n\r\n";
    let end = answer.windows(END.len()).position(|window| window == END)?;
    let (head, body) = (std::str::from_utf8(&answer[..end]).ok()?, &answer[end + END.len()..]);
    let (first, head) = head.split_once("\r\n").unwrap_or((head, ""));
    let status = first.strip_prefix("HTTP/1.1 ")?.split(' ').next()?.parse().ok()?;
    Some(Page { status, head: head.to_owned(), body: body.to_owned() })
}

fn unavailable(address: &str, error: &dyn std::error::Error) -> Error {
    let message = format!("the node at {address} does not answer: {error}");
    Error::at(Code::Unavailable, Phase::Connect, message)
}

fn undescribed(address: &str) -> Error {
    let message = format!("what answers at {address} does not describe itself");
    Error::at(Code::Unimplemented, Phase::Decode, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer in HTTP is taken apart, anything else is none.
    #[test]
    fn answers_are_taken_apart() {
        let answer = page(b"HTTP/1.1 404 Not Found\r\nDate: today \r\nA:b\r\n\r\n{}").unwrap();
        assert_eq!((answer.status, &*answer.body), (404, &b"{}"[..]));
        assert_eq!((answer.header("date"), answer.header("b")), (Some("today"), None));
        assert_eq!(page(b"HTTP/1.1 200\r\n\r\n").unwrap().status, 200);
        for other in [&b""[..], b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\n", b"\xff\r\n\r\n"] {
            assert_eq!(page(other), None);
        }
    }
}
