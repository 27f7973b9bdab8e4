//! Asks a node what it serves, over HTTP on its own port.

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
    let to = address.parse::<Address>().map_err(|error| unavailable(address, &error))?;
    let answer = timeout(PATIENCE, get(network, &to)).await.unwrap_or_else(|late| Err(late.into()));
    let answer = answer.map_err(|error| unavailable(address, &error))?;
    let body = body(&answer).ok_or_else(|| undescribed(address))?;
    serde_json::from_slice(body).map_err(|error| undescribed(address).with_source(error))
}

/// A node answers this at once, whatever else it has to do.
const PATIENCE: Duration = Duration::from_secs(2);
/// What describes itself at greater length is nothing of ours.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// `localhost` is a name by which every service may be called.
const REQUEST: &[u8] = b"GET /describe HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

async fn get(network: Option<&MemoryNetwork>, address: &Address) -> io::Result<Vec<u8>> {
    match (address, network) {
        (Address::Tcp { host, port }, _) => {
            exchange(TcpStream::connect((host.as_str(), *port)).await?).await
        }
        #[cfg(unix)]
        (Address::Unix(path), _) => exchange(tokio::net::UnixStream::connect(path).await?).await,
        (Address::Memory(name), Some(network)) => exchange(network.connect(name)?).await,
        _ => Err(io::Error::other("only its own process reaches it")),
    }
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<Vec<u8>> {
    stream.write_all(REQUEST).await?;
    let mut answer = Vec::new();
    stream.take(MAX_BYTES).read_to_end(&mut answer).await?;
    Ok(answer)
}

/// The body of an answer that says 200.
fn body(answer: &[u8]) -> Option<&[u8]> {
    const END: &[u8] = b"\r\n\r\n";
    let end = answer.windows(END.len()).position(|window| window == END)?;
    let is_ok = answer.starts_with(b"HTTP/1.1 200 ");
    is_ok.then(|| &answer[end + END.len()..])
}

fn unavailable(address: &str, error: &dyn std::error::Error) -> Error {
    let message = format!("the node at {address} does not describe itself: {error}");
    Error::at(Code::Unavailable, Phase::Connect, message)
}

fn undescribed(address: &str) -> Error {
    let message = format!("what answers at {address} does not describe itself");
    Error::at(Code::Unimplemented, Phase::Decode, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only an answer that says 200 has a description.
    #[test]
    fn other_answers_have_no_body() {
        assert_eq!(body(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n{}"), Some(&b"{}"[..]));
        for other in [&b""[..], b"HTTP/1.1 404 Not Found\r\n\r\n{}", b"HTTP/1.1 200 OK\r\n"] {
            assert_eq!(body(other), None);
        }
    }
}
