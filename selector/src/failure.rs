//! Why a call failed.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use micro_registry::Registration;

use crate::{Class, Classify, Filter};

/// Why a call failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Failure<E> {
    /// The registry answered that nobody is registered.
    NotFound,
    /// Nodes are registered, but none of them wants traffic.
    NoneServing {
        /// How many there are.
        registered: usize,
    },
    /// Nodes are serving, but the filters leave none of them.
    NoneMatching {
        /// How many are serving.
        serving: usize,
        /// The service; empty for nodes of a stream of changes.
        service: Arc<str>,
        /// What was asked for, of all calls and of this one.
        filters: Vec<Filter>,
    },
    /// The deadline passed before there was a node to try.
    Unresolved {
        /// Whether the registry has answered; if so, nobody was there who wanted traffic.
        answered: bool,
    },
    /// Nothing was sent: the service refuses so much as overloaded that this call is spared it.
    Throttled,
    /// Attempts were made, and the last ended the call; at least one, in their order. Of more than
    /// 64 the last ones.
    Attempts(Vec<Attempted<E>>),
}

/// One failed attempt.
#[derive(Debug)]
pub struct Attempted<E> {
    /// The node it was made on.
    pub node: Arc<Registration>,
    /// What came back.
    pub error: E,
}

impl<E> fmt::Display for Failure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("there is no node"),
            Self::NoneServing { registered } => {
                write!(f, "none of {registered} registered nodes is serving")
            }
            Self::NoneMatching { serving, service, filters } => {
                let of = if service.is_empty() { "" } else { " of " };
                let filters: Vec<_> = filters.iter().map(Filter::to_string).collect();
                let filters = filters.join("; ");
                write!(f, "none of {serving} serving nodes{of}{service} matches {filters}")
            }
            Self::Unresolved { answered: true } => {
                f.write_str("no node was serving before the deadline")
            }
            Self::Unresolved { answered: false } => {
                f.write_str("nobody named a node before the deadline")
            }
            Self::Throttled => f.write_str("not sent, since the service is overloaded"),
            Self::Attempts(attempts) => match &attempts[..] {
                [only] => write!(f, "failed on {}", only.node.node.id),
                attempts => write!(f, "failed after {} attempts", attempts.len()),
            },
        }
    }
}

impl<E: StdError + 'static> StdError for Failure<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Attempts(attempts) => attempts.last().map(|last| &last.error as _),
            _ => None,
        }
    }
}

impl<E: Classify> Classify for Failure<E> {
    /// That of the last attempt; who found no node to try would not find one at once.
    fn class(&self) -> Class {
        match self {
            Self::Attempts(attempts) => attempts.last().map_or(Class::Unsent, |a| a.error.class()),
            _ => Class::Unsent,
        }
    }

    fn is_late(&self) -> bool {
        match self {
            Self::Attempts(attempts) => attempts.last().is_some_and(|a| a.error.is_late()),
            _ => false,
        }
    }

    fn is_local(&self) -> bool {
        match self {
            Self::Attempts(attempts) => attempts.last().is_none_or(|a| a.error.is_local()),
            _ => true,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Attempts(attempts) => attempts.last()?.error.retry_after(),
            _ => None,
        }
    }
}

/// Why there was no node to try.
#[derive(Debug)]
pub(crate) enum NothingToPick {
    NotFound,
    NoneServing { registered: usize },
    NoneMatching { serving: usize, service: Arc<str>, filters: Vec<Filter> },
    Unresolved { answered: bool },
}

impl<E> From<NothingToPick> for Failure<E> {
    fn from(nothing: NothingToPick) -> Self {
        match nothing {
            NothingToPick::NotFound => Self::NotFound,
            NothingToPick::NoneServing { registered } => Self::NoneServing { registered },
            NothingToPick::NoneMatching { serving, service, filters } => {
                Self::NoneMatching { serving, service, filters }
            }
            NothingToPick::Unresolved { answered } => Self::Unresolved { answered },
        }
    }
}
