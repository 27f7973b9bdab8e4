//! A method has no lifetime parameters, on `self` neither.

#[micro::service]
pub trait Greeter {
    async fn hello(&'static self, name: String) -> String;
}

fn main() {}
