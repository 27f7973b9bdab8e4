//! An argument travels from one side to the other: it is written and read.

#[derive(serde::Serialize)]
pub struct Written;

#[micro::service]
pub trait Greeter {
    async fn hello(&self, who: Option<Written>) -> String;
}

fn main() {}
