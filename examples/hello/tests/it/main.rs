//! The README's first command as somebody would try it, and the README's transcripts.

mod hello;
mod readme;
