//! A context is the framework's.

pub struct Context;

#[micro::service]
pub trait Greeter {
    async fn hello(&self, cx: &Context) -> String;
}

fn main() {}
