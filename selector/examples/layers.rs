//! The layers without registry and rpc: calls to plain TCP servers, which a channel names.
//!
//! `cargo run -p micro-selector --example layers`

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::channel::mpsc;
use micro_selector::layer::deadline::Missed;
use micro_selector::layer::{Balance, Classified, DeadlineLayer, Error, RetryLayer, ThrottleLayer};
use micro_selector::{Class, StrategyKind};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tower::discover::Change;
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};

/// A greeter at one address.
type Greeter = BoxCloneSyncService<String, String, Error<Missed, AskError>>;
type AskError = Classified<io::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    for (server, answers) in greet().await? {
        println!("{server}: {answers} answers");
    }
    Ok(())
}

/// Has 300 names greeted by three servers, of which one breaks each connection and one leaves, and
/// returns how many answers came from which.
async fn greet() -> Result<BTreeMap<String, u32>, Box<dyn std::error::Error>> {
    let mut servers = JoinSet::new();
    let (changes, nodes) = mpsc::unbounded();
    let mut addresses = Vec::new();
    for name in ["ada", "bob", "broken"] {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        servers.spawn(serve(listener, name));
        changes.unbounded_send(Ok::<_, Infallible>(Change::Insert(address, greeter(address))))?;
        addresses.push(address);
    }
    let greeters = ServiceBuilder::new()
        // A greeting may be repeated.
        .layer(RetryLayer::new(|_| true))
        .layer(ThrottleLayer::new())
        .service(Balance::discover(nodes, &StrategyKind::RoundRobin));
    let mut answers = BTreeMap::new();
    for number in 0..300 {
        if number == 150 {
            changes.unbounded_send(Ok(Change::Remove(addresses[0])))?;
        }
        let server = greeters.clone().oneshot(format!("guest {number}")).await?;
        *answers.entry(server).or_default() += 1;
    }
    Ok(answers)
}

/// What calls the greeter at this address. An attempt has a second.
fn greeter(address: SocketAddr) -> Greeter {
    let ask = service_fn(move |name| ask(address, name));
    BoxCloneSyncService::new(DeadlineLayer::within(Duration::from_secs(1)).layer(ask))
}

/// Sends a line and reads one.
async fn ask(address: SocketAddr, name: String) -> Result<String, AskError> {
    let stream = TcpStream::connect(address).await;
    let mut stream = stream.map_err(|error| Classified::new(Class::NotSent, error))?;
    // From here on nobody knows what the server did with it.
    let maybe_executed = |error| Classified::new(Class::MaybeExecuted, error);
    stream.write_all(format!("{name}\n").as_bytes()).await.map_err(maybe_executed)?;
    let answer = BufReader::new(stream).lines().next_line().await.map_err(maybe_executed)?;
    answer.ok_or_else(|| maybe_executed(io::ErrorKind::UnexpectedEof.into()))
}

/// Answers each line with its own name, unless it is broken.
async fn serve(listener: TcpListener, name: &'static str) -> io::Result<()> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        let (reader, mut writer) = stream.split();
        // A caller that went away is none of ours to care for.
        if let Ok(Some(_)) = BufReader::new(reader).lines().next_line().await
            && name != "broken"
        {
            let _ = writer.write_all(format!("{name}\n").as_bytes()).await;
        }
    }
}

/// Every name is greeted, whatever the servers do.
#[cfg(test)]
#[tokio::test]
async fn all_are_greeted() {
    let answers = greet().await.expect("all are greeted");
    assert_eq!(answers.keys().collect::<Vec<_>>(), ["ada", "bob"]);
    assert_eq!(answers.values().sum::<u32>(), 300);
    assert!(answers["bob"] > answers["ada"], "ada left half-way: {answers:?}");
}
