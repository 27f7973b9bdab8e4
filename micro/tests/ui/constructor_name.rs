//! The client has constructors, whose names are taken.

#[micro::service]
pub trait Greeter {
    async fn new(&self) -> String;
}

fn main() {}
