//! The context is borrowed to be read.

#[micro::service]
pub trait Greeter {
    async fn hello(&self, cx: &mut micro::Context) -> String;
}

fn main() {}
