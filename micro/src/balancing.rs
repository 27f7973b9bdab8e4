//! Which nodes a client's calls go to and how often they are tried, by code and settings: every
//! rule on these values is checked here, when the client is made.

mod text;

use micro_registry::validate;
use micro_rpc::Metadata;
use micro_selector::{
    BudgetPolicy, Filter, RetryPolicy, SelectorConfig, StrategyKind, ThrottlePolicy,
};

use self::text::Text;
use crate::settings::{self, Beneath, Resolved};
use crate::{Error, Origin, Result, Settings};

/// What code says; the settings stand above it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Balancing {
    pub(crate) strategy: Option<StrategyKind>,
    pub(crate) zone: Option<String>,
    pub(crate) filter: Option<Filter>,
    pub(crate) hash_by: Option<HashBy>,
    pub(crate) retry: Option<RetryPolicy>,
    pub(crate) budget: Option<BudgetPolicy>,
    /// Without a policy nothing is throttled.
    pub(crate) throttle: Option<Option<ThrottlePolicy>>,
}

/// Where `consistent-hash` has a call's key from, unless the call says it itself.
#[derive(Clone, Debug)]
pub(crate) enum HashBy {
    /// The value of this entry of the call's metadata.
    Metadata(String),
    /// From nowhere else.
    Calls,
}

/// What applies, with nothing wrong about it.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) selector: SelectorConfig,
    pub(crate) retry: RetryPolicy,
    /// The metadata that calls are hashed by, if the strategy looks at that.
    pub(crate) hash_by: Option<String>,
}

impl Balancing {
    /// What applies.
    ///
    /// # Errors
    ///
    /// `invalid_argument`, naming the value, its origin and what would be right.
    pub(crate) fn settle(&self, settings: &Settings) -> Result<Settled> {
        let mut selector = SelectorConfig::default();
        let zone = settings.checked("zone", self.zone.clone(), validate::zone)?;
        selector.zone = zone.map(|zone| zone.value);
        selector.filter = checked(settings, "filter", self.filter.clone())?.unwrap_or_default();
        if let Some(budget) = checked(settings, "retry_budget", self.budget)? {
            selector.budget = budget;
        }
        if let Some(throttle) = checked(settings, "throttle", self.throttle)? {
            selector.throttle = throttle;
        }
        let strategy =
            settings.resolve_or_default("selector", self.strategy.clone(), parse_strategy)?;
        let hash_by = self.hash_key(settings, &strategy)?;
        selector.strategy = strategy.value;
        Ok(Settled { selector, retry: self.retries(settings)?, hash_by })
    }

    /// What code says, for people.
    pub(crate) fn said(&self) -> Beneath {
        let Self { strategy, zone, filter, hash_by, retry, budget, throttle } = self;
        let said = [
            ("selector", strategy.as_ref().map(StrategyKind::to_string)),
            ("zone", zone.clone()),
            ("filter", filter.as_ref().map(Text::text)),
            ("hash_by", hash_by.as_ref().map(HashBy::text)),
            ("attempts", retry.as_ref().map(|retry| retry.max_attempts.to_string())),
            ("retry_budget", budget.as_ref().map(Text::text)),
            ("throttle", throttle.as_ref().map(Text::text)),
        ];
        let said = said.into_iter();
        said.filter_map(|(key, value)| Some((key, Resolved::by_code(value?)))).collect()
    }

    fn retries(&self, settings: &Settings) -> Result<RetryPolicy> {
        let code = self.retry.as_ref().map(|retry| retry.max_attempts);
        let mut retry = self.retry.clone().unwrap_or_default();
        if let Some(attempts) = settings.resolve("attempts", code, parse_attempts)? {
            check_attempts(&attempts)?;
            retry.max_attempts = attempts.value;
        }
        // What is left are waits, which only code can say.
        retry.check().map_err(|invalid| Error::invalid(format!("retry from code: {invalid}")))?;
        Ok(retry)
    }

    /// A hash of nothing would be a strategy of another name, so it must be said what of.
    fn hash_key(
        &self,
        settings: &Settings,
        strategy: &Resolved<StrategyKind>,
    ) -> Result<Option<String>> {
        let read = |text: &str| Ok(HashBy::read(text));
        let hash_by = settings.resolve("hash_by", self.hash_by.clone(), read)?;
        if let Some(Resolved { value: HashBy::Metadata(key), origin }) = &hash_by
            && Metadata::new().insert(key, "").is_err()
        {
            let expected = "expected a metadata key: 1 to 128 of a-z 0-9 . _ -, or `call keys`, in code hash_by_call_keys(), for each call's own";
            return Err(settings::invalid("hash_by", key, origin, expected));
        }
        let hash_by = hash_by.map(|resolved| resolved.value);
        match (&strategy.value, hash_by) {
            (StrategyKind::ConsistentHash, None) => Err(no_key(&strategy.origin)),
            (StrategyKind::ConsistentHash | StrategyKind::Custom(_), Some(hash_by)) => {
                Ok(hash_by.key())
            }
            _ => Ok(None),
        }
    }
}

/// Each call's own key, in settings: with a space, so that no metadata key is the same.
const CALL_KEYS: &str = "call keys";

impl HashBy {
    fn read(text: &str) -> Self {
        if text == CALL_KEYS { Self::Calls } else { Self::Metadata(text.to_owned()) }
    }

    fn key(self) -> Option<String> {
        match self {
            Self::Metadata(key) => Some(key),
            Self::Calls => None,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Metadata(key) => key.clone(),
            Self::Calls => CALL_KEYS.to_owned(),
        }
    }
}

/// The value of a key, if anybody says one, and it makes sense.
fn checked<T: Text>(settings: &Settings, key: &'static str, code: Option<T>) -> Result<Option<T>> {
    let Some(Resolved { value, origin }) = settings.resolve(key, code, T::parse)? else {
        return Ok(None);
    };
    match value.check() {
        Ok(()) => Ok(Some(value)),
        Err(invalid) => {
            Err(settings::invalid(key, value.text(), &origin, &text::expectation(&invalid)))
        }
    }
}

fn parse_strategy(name: &str) -> std::result::Result<StrategyKind, String> {
    name.parse().map_err(|error: micro_selector::UnknownStrategy| error.to_string())
}

fn parse_attempts(text: &str) -> std::result::Result<u32, String> {
    text.parse().map_err(|_| "expected a number, 1 to 8".to_owned())
}

fn check_attempts(attempts: &Resolved<u32>) -> Result<()> {
    RetryPolicy::default().max_attempts(attempts.value).check().map_err(|invalid| {
        let expected = text::expectation(&invalid);
        settings::invalid("attempts", attempts.value, &attempts.origin, &expected)
    })
}

fn no_key(origin: &Origin) -> Error {
    Error::invalid(format!(
        "selector consistent-hash from {origin} has nothing to hash: expected hash_by with the \
         metadata key whose value calls go by, such as baggage.user, or with `call keys`, in code \
         hash_by_call_keys(), when each call says its own"
    ))
}
