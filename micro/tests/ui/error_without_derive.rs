//! A method's error is any type, and says nothing for itself.

#[derive(Debug)]
pub enum Bad {}

#[micro::service]
pub trait Greeter {
    async fn text(&self) -> Result<String, String>;
    async fn bad(&self) -> Result<String, Bad>;
}

fn main() {}
