//! Options of contracts have names.

#[micro::service("greeter")]
pub trait Greeter {
    async fn hello(&self) -> String;
}

fn main() {}
