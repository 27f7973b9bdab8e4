//! The context is the first argument.

#[micro::service]
pub trait Greeter {
    async fn hello(&self, name: String, cx: &micro::Context) -> String;
}

fn main() {}
