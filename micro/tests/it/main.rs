//! The facade, end to end.
