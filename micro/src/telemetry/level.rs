//! Which log lines there are, and how that is changed while the program runs.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use tracing::Subscriber;
use tracing_subscriber::filter::{Filtered, LevelFilter};
use tracing_subscriber::{EnvFilter, Layer, reload};

/// Stands among the layers of the subscriber, where whoever wants to change the filter finds it: the
/// process has one subscriber, and this goes with it.
pub(super) struct Level {
    /// What applies now.
    text: Mutex<String>,
    #[cfg_attr(not(feature = "http"), allow(dead_code, reason = "only HTTP asks"))]
    set: Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>,
}

/// A layer that sees nothing.
type Blind<S> = Filtered<Level, LevelFilter, S>;

impl Level {
    /// The layer, and the filter that it changes.
    pub(super) fn new<S, F>(text: String) -> (Blind<S>, reload::Layer<EnvFilter, F>)
    where
        S: Subscriber,
        F: 'static,
    {
        // Checked before; what passes no check leaves what an empty filter does.
        let (filter, handle) = reload::Layer::new(filter(&text).unwrap_or_default());
        let set = Box::new(move |filter| handle.reload(filter));
        (Self { text: Mutex::new(text), set }.with_filter(LevelFilter::OFF), filter)
    }

    #[cfg_attr(not(feature = "http"), allow(dead_code, reason = "only HTTP asks"))]
    fn change(&self, text: &str) -> Result<(), String> {
        let filter = filter(text)?;
        let mut now = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        (self.set)(filter).map_err(|error| error.to_string())?;
        text.clone_into(&mut now);
        Ok(())
    }

    fn text(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<S: Subscriber> Layer<S> for Level {}

impl fmt::Debug for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Level").field("text", &self.text()).finish_non_exhaustive()
    }
}

/// Reads a filter.
pub(super) fn filter(text: &str) -> Result<EnvFilter, String> {
    const EXPECTED: &str = "expected a level, or levels by target, such as warn,shop=debug";
    // A word alone could be a target, and is a level with a slip.
    let is_level = |part: &str| !part.is_empty() && part.parse::<LevelFilter>().is_ok();
    let is_slip = |part: &str| !part.contains(['=', '[']) && !is_level(part.trim());
    if let Some(slip) = text.split(',').find(|part| is_slip(part)) {
        return Err(format!("{:?} is no level: {EXPECTED}", slip.trim()));
    }
    // Values of fields are compared as they are: an expression may take any time to match.
    let filter = EnvFilter::builder().with_regex(false).parse(text.trim());
    filter.map_err(|error| format!("{error}: {EXPECTED}"))
}

#[cfg(feature = "http")]
pub(crate) mod page {
    //! `/log`, which tells the filter and takes another.

    use micro_rpc::{Asked, Code, Status};

    use super::Level;

    pub(crate) fn get(_: &Asked<'_>) -> Result<String, Status> {
        of_process(|level| Ok(format!("{}\n", level.text())))
    }

    pub(crate) fn put(asked: &Asked<'_>) -> Result<String, Status> {
        let text = asked.text().trim();
        of_process(|level| {
            let changed = level.change(text);
            changed.map_err(|why| Status::new(Code::InvalidArgument, why))?;
            // At a level that all but silence lets through: who turned it has to be found.
            tracing::error!(filter = text, "the log's filter was changed");
            Ok(format!("{text}\n"))
        })
    }

    fn of_process<T>(then: impl Fn(&Level) -> Result<T, Status>) -> Result<T, Status> {
        tracing::dispatcher::get_default(|subscriber| match subscriber.downcast_ref::<Level>() {
            Some(level) => then(level),
            None => {
                let why = "the program's log is not that of micro::telemetry::init";
                Err(Status::new(Code::FailedPrecondition, why))
            }
        })
    }
}
