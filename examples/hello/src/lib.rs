//! The contract of the greeter, shared by server and client.

/// Greets people.
#[micro::service]
pub trait Greeter {
    /// Greets someone by name.
    #[rpc(idempotent)]
    async fn hello(&self, name: String) -> String;
}
