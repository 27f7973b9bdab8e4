//! Options of contracts are known.

#[micro::service(nam = "greeter")]
pub trait Greeter {
    async fn hello(&self) -> String;
}

fn main() {}
