//! A contract of tarpc's, as it is, on a registry: several nodes, found by name and balanced over.
//!
//! Run some nodes, each in a terminal of its own: `cargo run -p tarpc-greeter -- serve`.
//! Call them: `cargo run -p tarpc-greeter -- call Ann Bob`, or with the `curl` line a node prints.

use clap::Parser;
use micro::Settings;
use tarpc::context;
use tarpc::server::Serve;
use tarpc_greeter::{English, Greeter, GreeterClient};

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
    let arguments = Arguments::parse();
    let settings = Settings::from_process()?;
    let telemetry = micro::telemetry::init(&settings)?;
    match arguments {
        Arguments::Serve => serve(settings).await?,
        Arguments::Call { names } => call(settings, names).await?,
    }
    telemetry.shutdown().await;
    Ok(())
}

/// Not the contract's name, since the other examples' greeters are registered by that.
const SERVICE: &str = "tarpc-greeter";

async fn serve(settings: Settings) -> anyhow::Result<()> {
    let english = micro::tarpc::host(|cx, request| Serve::serve(English.serve(), cx, request));
    let service = micro::Service::new().settings(settings).name(SERVICE);
    let service = service.serve(english).start().await?;
    let node = service.registration().node.clone();
    let stopped = service.run();
    println!("{SERVICE} {} serves on {}", node.id, node.address);
    println!("Try: curl -d '{{\"name\":\"Bob\"}}' {}/greeter/hello", node.address);
    stopped.await?;
    Ok(())
}

async fn call(settings: Settings, names: Vec<String>) -> anyhow::Result<()> {
    let client = micro::Client::connect().settings(settings).wait_for_ready(true).await?;
    let greeter = GreeterClient::from(micro::tarpc::stub(&client, SERVICE));
    for name in &names {
        println!("{}", greeter.hello(context::current(), name.clone()).await?);
    }
    println!("{}", greeter.hello_all(context::current(), names).await??);
    Ok(())
}
