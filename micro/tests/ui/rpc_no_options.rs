//! Options of methods stand in parentheses.

#[micro::service]
pub trait Greeter {
    #[rpc]
    async fn hello(&self) -> String;
}

fn main() {}
