//! The shortest server: `cargo run -p hello --bin hello-server`.

use hello::{Greeter, GreeterServer};

struct English;

impl Greeter for English {
    async fn hello(&self, name: String) -> String {
        format!("Hello, {name}!")
    }
}

#[tokio::main]
async fn main() -> micro::Result<()> {
    micro::Service::from_args().serve(GreeterServer::new(English)).run().await
}
