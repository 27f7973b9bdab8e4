//! The errors of layers.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use tower::BoxError;

use crate::{Class, Classify};

/// How a call ends at a layer, or behind it.
///
/// The first parameter says why the layer ends calls: one small type per layer, which knows its
/// [`Class`]. What comes from behind is passed on as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error<R, E> {
    /// The layer ended the call.
    Ended(R),
    /// What is behind the layer failed.
    Inner(E),
}

impl<R: Into<BoxError>> Error<R, BoxError> {
    /// The reason, or what failed behind the layer, in the box that tower's own layers use.
    ///
    /// A box is no `Error` to the language, so that this conversion has to be named where services
    /// with boxed errors are expected:
    ///
    /// ```
    /// use micro_selector::layer::{Error, LoadShedLayer};
    /// use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), BoxError> {
    /// let greet = ServiceBuilder::new()
    ///     .map_err(Error::into_boxed)
    ///     .layer(LoadShedLayer::new(100))
    ///     .service(service_fn(async |name: &str| Ok::<_, BoxError>(format!("Hello, {name}!"))));
    /// let answer: Result<String, BoxError> = greet.oneshot("Ann").await;
    /// # assert_eq!(answer?, "Hello, Ann!");
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_boxed(self) -> BoxError {
        match self {
            Self::Ended(reason) => reason.into(),
            Self::Inner(error) => error,
        }
    }
}

impl<R: fmt::Display, E: fmt::Display> fmt::Display for Error<R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(reason) => reason.fmt(f),
            Self::Inner(error) => error.fmt(f),
        }
    }
}

/// As if the layer were not there: the source is that of the reason, or of what failed behind it.
impl<R: StdError, E: StdError> StdError for Error<R, E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Ended(reason) => reason.source(),
            Self::Inner(error) => error.source(),
        }
    }
}

impl<R: Classify, E: Classify> Classify for Error<R, E> {
    fn class(&self) -> Class {
        match self {
            Self::Ended(reason) => reason.class(),
            Self::Inner(error) => error.class(),
        }
    }

    fn is_late(&self) -> bool {
        match self {
            Self::Ended(reason) => reason.is_late(),
            Self::Inner(error) => error.is_late(),
        }
    }

    fn is_local(&self) -> bool {
        match self {
            Self::Ended(reason) => reason.is_local(),
            Self::Inner(error) => error.is_local(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Ended(reason) => reason.retry_after(),
            Self::Inner(error) => error.retry_after(),
        }
    }
}

/// An error of somebody else's, with the [`Class`] that it is given.
///
/// ```
/// use std::io;
/// use micro_selector::layer::Classified;
/// use micro_selector::{Class, Classify};
///
/// fn classified(error: io::Error) -> Classified<io::Error> {
///     let class = match error.kind() {
///         io::ErrorKind::ConnectionRefused => Class::NotSent,
///         _ => Class::MaybeExecuted,
///     };
///     Classified::new(class, error)
/// }
///
/// let refused = classified(io::ErrorKind::ConnectionRefused.into());
/// assert_eq!(refused.class(), Class::NotSent);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Classified<E> {
    class: Class,
    retry_after: Option<Duration>,
    error: E,
}

impl<E> Classified<E> {
    /// An error of this class.
    pub fn new(class: Class, error: E) -> Self {
        Self { class, retry_after: None, error }
    }

    /// The same of a service that says after how long it wants to be asked again, by HTTP's
    /// `Retry-After` for example.
    #[must_use]
    pub fn with_retry_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// The error.
    pub fn error(&self) -> &E {
        &self.error
    }

    /// The error, without its class.
    pub fn into_error(self) -> E {
        self.error
    }
}

impl<E> Classify for Classified<E> {
    fn class(&self) -> Class {
        self.class
    }

    fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl<E: fmt::Display> fmt::Display for Classified<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<E: StdError> StdError for Classified<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.error.source()
    }
}
