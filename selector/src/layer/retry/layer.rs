use std::fmt;
use std::sync::Arc;

use tokio::time::Instant;
use tower::Layer;

use super::Retry;
use crate::{Budget, BudgetPolicy, RetryPolicy};

/// Makes [`Retry`] of a service.
#[derive(Clone)]
pub struct RetryLayer<I> {
    is_idempotent: I,
    policy: RetryPolicy,
    budget: Option<Arc<Budget>>,
}

impl<I> RetryLayer<I> {
    /// Retries by the default [policy](RetryPolicy), 3 attempts; `is_idempotent` says of a request
    /// whether it may be repeated when it may have been executed.
    pub fn new<Req>(is_idempotent: I) -> Self
    where
        I: Fn(&Req) -> bool,
    {
        Self { is_idempotent, policy: RetryPolicy::default(), budget: None }
    }

    /// When to try again.
    #[must_use]
    pub fn policy(self, policy: RetryPolicy) -> Self {
        Self { policy, ..self }
    }

    /// What retries that cost the service work are taken from. Default: a budget of its own for
    /// each service, of 20 % of the calls and 10 a second (Finagle, `RetryBudget`).
    #[must_use]
    pub fn budget(self, budget: Arc<Budget>) -> Self {
        Self { budget: Some(budget), ..self }
    }
}

impl<S, I: Clone> Layer<S> for RetryLayer<I> {
    type Service = Retry<S, I>;

    fn layer(&self, inner: S) -> Retry<S, I> {
        let BudgetPolicy { share, per_second, .. } = BudgetPolicy::default();
        let own = || Arc::new(Budget::new(share, per_second, Instant::now()));
        Retry {
            inner,
            is_idempotent: self.is_idempotent.clone(),
            policy: self.policy.clone(),
            budget: self.budget.clone().unwrap_or_else(own),
        }
    }
}

impl<I> fmt::Debug for RetryLayer<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryLayer")
            .field("policy", &self.policy)
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}
