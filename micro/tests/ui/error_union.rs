//! An error is an enum or a struct.

#[derive(micro::RpcError)]
pub union GreetError {
    small: u8,
    large: u64,
}

fn main() {}
