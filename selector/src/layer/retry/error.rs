use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use crate::{Class, Classify};

/// All attempts of a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed<E> {
    earlier: Vec<E>,
    last: E,
}

impl<E> Failed<E> {
    pub(super) fn new(earlier: Vec<E>, last: E) -> Self {
        Self { earlier, last }
    }

    /// What came of each attempt, in their order: one at least, and
    /// [`Tried::CAPACITY`](crate::Tried::CAPACITY) at most.
    pub fn attempts(&self) -> impl ExactSizeIterator<Item = &E> {
        let count = self.earlier.len() + 1;
        (0..count).map(|number| self.earlier.get(number).unwrap_or(&self.last))
    }

    /// What came of the last one.
    pub fn last(&self) -> &E {
        &self.last
    }

    /// What came of the last one, alone.
    pub fn into_last(self) -> E {
        self.last
    }
}

impl<E> fmt::Display for Failed<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.attempts().len() {
            1 => f.write_str("failed after 1 attempt"),
            attempts => write!(f, "failed after {attempts} attempts"),
        }
    }
}

impl<E: StdError + 'static> StdError for Failed<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.last)
    }
}

impl<E: Classify> Classify for Failed<E> {
    /// That of the last attempt, but executed perhaps if any may have been.
    fn class(&self) -> Class {
        let may_be_executed = |error: &E| error.class() == Class::MaybeExecuted;
        match self.last.class() {
            Class::Executed => Class::Executed,
            // Of those, what was sent says more than what was not.
            _ if self.earlier.iter().any(may_be_executed) => Class::MaybeExecuted,
            class => class,
        }
    }

    fn is_late(&self) -> bool {
        self.last.is_late()
    }

    fn is_local(&self) -> bool {
        self.last.is_local()
    }

    fn retry_after(&self) -> Option<Duration> {
        self.last.retry_after()
    }
}
