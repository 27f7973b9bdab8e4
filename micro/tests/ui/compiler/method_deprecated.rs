//! Who calls a deprecated method is warned.
#![deny(deprecated)]

#[micro::service(mock)]
pub trait Greeter {
    #[deprecated(note = "say hello")]
    async fn hi(&self) -> String;
}

pub struct English;

impl Greeter for English {
    async fn hi(&self) -> String {
        String::new()
    }
}

pub async fn greet(client: &micro::Client) {
    let _ = GreeterClient::new(client).hi().await;
}

fn main() {}
