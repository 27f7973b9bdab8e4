//! All mistakes are reported at once, and the implementation adds none.

#[micro::service]
pub trait Greeter {
    #[rpc(timeout = "soon")]
    async fn hello(&self, name: &str) -> String;
    #[rpc(retry)]
    async fn count(&self) -> u64;
}

struct English;

impl Greeter for English {
    async fn hello(&self, name: &str) -> String {
        name.to_owned()
    }
    async fn count(&self) -> u64 {
        1
    }
}

fn main() {}
