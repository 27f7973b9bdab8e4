//! Arguments have names.

#[micro::service]
pub trait Greeter {
    async fn hello(&self, (first, last): (String, String)) -> String;
}

fn main() {}
