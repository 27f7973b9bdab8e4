//! `Self` is not the same type for a client.

#[micro::service]
pub trait Greeter {
    async fn hello(&self, names: Box<Self>) -> String;
}

fn main() {}
