//! A contract is a trait.

#[micro::service]
pub struct Greeter;

fn main() {}
