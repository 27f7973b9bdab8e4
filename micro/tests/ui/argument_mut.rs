//! Whether an argument is mutable is the implementation's business.

#[micro::service]
pub trait Greeter {
    async fn hello(&self, mut name: String) -> String;
}

fn main() {}
