//! A method takes `&self`.

#[micro::service]
pub trait Greeter {
    async fn hello(name: String) -> String;
}

fn main() {}
