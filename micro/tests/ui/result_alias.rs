//! The error of a `Result` is written out.

#[micro::service]
pub trait Greeter {
    async fn hello(&self) -> std::io::Result<String>;
}

fn main() {}
