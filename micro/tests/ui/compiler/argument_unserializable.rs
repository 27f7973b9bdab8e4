//! An argument is a type that serde can send.

pub struct Opaque;

#[micro::service]
pub trait Greeter {
    async fn hello(&self, name: String, who: Opaque) -> String;
}

fn main() {}
