//! Options of contracts are those of `#[micro::service]`.

#[micro::service]
#[rpc(name = "greeter")]
pub trait Greeter {
    async fn hello(&self) -> String;
}

fn main() {}
