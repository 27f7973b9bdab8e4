//! An answer is a type that serde can send.

pub struct Opaque;

#[micro::service]
pub trait Greeter {
    async fn hello(&self) -> Opaque;
}

fn main() {}
