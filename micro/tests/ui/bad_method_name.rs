//! A name on the wire has a form.

#[micro::service]
pub trait Greeter {
    #[rpc(name = "hello world")]
    async fn hello(&self) -> String;
}

fn main() {}
