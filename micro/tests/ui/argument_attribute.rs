//! Arguments have no attributes.

#[micro::service]
pub trait Greeter {
    async fn hello(&self, #[serde(default)] name: String) -> String;
}

fn main() {}
