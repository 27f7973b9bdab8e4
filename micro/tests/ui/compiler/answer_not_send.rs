//! An answer is sent from the thread it was made on.

#[derive(serde::Serialize, serde::Deserialize)]
pub struct Local(std::marker::PhantomData<*const u8>);

#[micro::service]
pub trait Greeter {
    async fn hello(&self) -> Local;
}

fn main() {}
