//! Answers are owned.

#[micro::service]
pub trait Greeter {
    async fn hello(&self) -> &str;
}

fn main() {}
