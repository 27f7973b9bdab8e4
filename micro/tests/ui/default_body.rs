//! A contract has no bodies.

#[micro::service]
pub trait Greeter {
    async fn hello(&self) -> String {
        String::new()
    }
}

fn main() {}
