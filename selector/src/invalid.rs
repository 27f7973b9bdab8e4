//! What is wrong with a value that somebody set.

/// A value that makes no sense, and what would.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting} {value} is invalid: expected {expected}")]
pub struct Invalid {
    setting: &'static str,
    value: String,
    expected: String,
}

impl Invalid {
    pub(crate) fn new(
        setting: &'static str,
        value: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self { setting, value: value.into(), expected: expected.into() }
    }

    /// The same without setting and value, for who names them in words of his own.
    pub fn expected(&self) -> &str {
        &self.expected
    }
}
