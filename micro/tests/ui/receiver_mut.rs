//! Requests share the implementation, so nothing is `&mut self`.

#[micro::service]
pub trait Greeter {
    async fn hello(&mut self, name: String) -> String;
}

fn main() {}
