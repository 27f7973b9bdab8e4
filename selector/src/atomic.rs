//! The atomics of what all callers share: the standard library's, or in tests those of
//! [`interleave`](crate::interleave).

#[cfg(test)]
pub(crate) use crate::interleave::{AtomicU32, AtomicU64};
#[cfg(not(test))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64};
