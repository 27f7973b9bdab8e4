//! Arguments are owned, inside of other types too.

#[micro::service]
pub trait Greeter {
    async fn hello(&self, names: Vec<&str>) -> String;
}

fn main() {}
