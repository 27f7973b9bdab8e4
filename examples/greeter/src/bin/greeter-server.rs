//! Serves greetings until it is told to stop.
//!
//! Run some of them: `cargo run -p greeter --bin greeter-server`, then `greeter-client`.

use std::time::Duration;

use clap::Parser;
use greeter::{GreetError, Greeter, GreeterServer, NODE};

/// Serves greetings until SIGTERM or Ctrl-C.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Registry to register in, for example `local:` or `local:/some/directory` [default: what
    /// MICRO_REGISTRY or micro.toml says, else local:]
    #[arg(long, value_name = "URL")]
    registry: Option<String>,
    /// Address to listen on, for example 127.0.0.1:7000 [default: a free port]
    #[arg(long)]
    address: Option<String>,
    /// How long the registry keeps this node without hearing of it [default: 30s]
    #[arg(long, value_name = "DURATION")]
    register_ttl: Option<String>,
    /// How often the registration is renewed [default: 10s]
    #[arg(long, value_name = "DURATION")]
    register_interval: Option<String>,
    /// How long each greeting takes, in milliseconds
    #[arg(long, default_value_t = 0)]
    delay_ms: u64,
}

struct English {
    node: String,
    delay: Duration,
}

impl Greeter for English {
    async fn hello(&self, cx: &micro::Context, name: String) -> Result<String, GreetError> {
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        if name.is_empty() {
            return Err(GreetError::Nobody);
        }
        cx.reply_metadata(NODE, &self.node).expect("an id is short, and the key a good one");
        Ok(format!("Hello, {name}!"))
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut settings = micro::Settings::from_process()?;
    for (key, value) in [
        ("registry", arguments.registry),
        ("address", arguments.address),
        ("register_ttl", arguments.register_ttl),
        ("register_interval", arguments.register_interval),
    ] {
        if let Some(value) = value {
            settings = settings.flag(key, value)?;
        }
    }
    let telemetry = micro::telemetry::init(&settings)?;
    let node = uuid::Uuid::now_v7().to_string();
    let delay = Duration::from_millis(arguments.delay_ms);
    let service = micro::Service::new()
        .id(&node)
        .settings(settings)
        .serve(GreeterServer::new(English { node, delay }))
        .start()
        .await?;
    let node = service.registration().node.clone();
    let stopped = service.run();
    println!("node={} address={}", node.id, node.address);
    stopped.await?;
    telemetry.shutdown().await;
    Ok(())
}
