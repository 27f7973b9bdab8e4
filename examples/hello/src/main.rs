//! The shortest whole story: a service that registers itself, and a client that finds and calls it.
//!
//! Run it: `cargo run -p hello`. Start it twice and the greetings are shared. `--help` says what can
//! be configured.

use std::io::IsTerminal;

use hello::{Greeter, GreeterClient, GreeterServer};
use tracing_subscriber::filter::LevelFilter;

struct English;

impl Greeter for English {
    async fn hello(&self, name: String) -> String {
        format!("Hello, {name}!")
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let settings = micro::Settings::from_args();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_max_level(LevelFilter::WARN)
        .init();

    // The server: listens on a free port and registers in the local registry.
    let service = micro::Service::new().settings(settings.clone());
    let service = service.serve(GreeterServer::new(English)).start().await?;
    let node = service.registration().node.clone();
    let stopped = service.run();
    println!("greeter {} serves on {}", node.id, node.address);

    // The client: finds the greeter by its name, whichever process serves it.
    let client = micro::Client::connect().settings(settings).wait_for_ready(true).await?;
    let greeting = GreeterClient::new(&client).hello("Ann").await?;
    println!("{greeting}");

    println!("Try: curl -d '{{\"name\":\"Bob\"}}' {}/greeter/hello", node.address);
    println!("Ctrl-C stops it.");
    stopped.await?;
    Ok(())
}
