//! A method has no lifetime parameters.

#[micro::service]
pub trait Greeter {
    async fn hello<'a>(&self) -> String;
}

fn main() {}
