//! Attributes of methods are the compiler's, or `rpc`.

#[micro::service]
pub trait Greeter {
    #[timeout("200ms")]
    async fn hello(&self) -> String;
}

fn main() {}
