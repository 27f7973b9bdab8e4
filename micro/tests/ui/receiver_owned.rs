//! Requests share the implementation, so nothing takes `self`.

#[micro::service]
pub trait Greeter {
    async fn hello(self, name: String) -> String;
}

fn main() {}
