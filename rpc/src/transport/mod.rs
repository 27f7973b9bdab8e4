//! Byte streams between processes: TCP, Unix sockets and in-memory pipes.

mod late;
mod link;
mod listener;
mod memory;
mod stream;

pub use link::MemoryStream;
pub use listener::Listener;
pub use memory::MemoryNetwork;
pub(crate) use stream::Stream;
