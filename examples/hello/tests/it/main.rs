//! The README's first command as somebody would try it, and the README's transcripts.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod hello;
mod readme;
mod shortest;
