//! A method is an `async fn`.

#[micro::service]
pub trait Greeter {
    fn hello(&self, name: String) -> String;
}

fn main() {}
