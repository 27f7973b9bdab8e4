//! A method has no type parameters.

#[micro::service]
pub trait Greeter {
    async fn hello<T: Send>(&self, name: T) -> String;
}

fn main() {}
