//! A contract of tarpc's, as it is, on a registry: several nodes, found by name and balanced over.
//!
//! Run some nodes, each in a terminal of its own: `cargo run -p tarpc-greeter -- serve`.
//! Call them: `cargo run -p tarpc-greeter -- call Ann Bob`, or with the `curl` line a node prints.

use std::io::IsTerminal;

use clap::Parser;
use tarpc::context;
use tarpc::server::Serve;
use tarpc_greeter::{English, Greeter, GreeterClient};
use tracing_subscriber::filter::LevelFilter;

/// Serves greetings, or asks for some.
#[derive(Parser)]
#[command(version)]
enum Arguments {
    /// Serves until SIGTERM or Ctrl-C
    Serve,
    /// Greets people, one by one and all together
    Call {
        /// Whom to greet
        names: Vec<String>,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_max_level(LevelFilter::WARN)
        .init();
    match Arguments::parse() {
        Arguments::Serve => serve().await,
        Arguments::Call { names } => call(names).await,
    }
}

/// Not the contract's name, since the other examples' greeters are registered by that.
const SERVICE: &str = "tarpc-greeter";

async fn serve() -> anyhow::Result<()> {
    let english = micro::tarpc::host(|cx, request| Serve::serve(English.serve(), cx, request));
    let service = micro::Service::new().name(SERVICE).serve(english).start().await?;
    let node = service.registration().node.clone();
    let stopped = service.run();
    println!("{SERVICE} {} serves on {}", node.id, node.address);
    println!("Try: curl -d '{{\"name\":\"Bob\"}}' {}/greeter/hello", node.address);
    stopped.await?;
    Ok(())
}

async fn call(names: Vec<String>) -> anyhow::Result<()> {
    let client = micro::Client::connect().wait_for_ready(true).await?;
    let greeter = GreeterClient::from(micro::tarpc::stub(&client, SERVICE));
    for name in &names {
        println!("{}", greeter.hello(context::current(), name.clone()).await?);
    }
    println!("{}", greeter.hello_all(context::current(), names).await??);
    Ok(())
}
