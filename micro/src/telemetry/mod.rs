//! Logs and spans of a program: where they go, and which there are.
//!
//! What this crate logs goes to whatever subscriber of [`tracing`](https://docs.rs/tracing) a
//! program installs. [`init`] installs one, for programs that have none:
//!
//! ```no_run
//! # #[micro::service]
//! # pub trait Greeter { async fn hello(&self, name: String) -> String; }
//! # async fn example(english: impl Greeter) -> micro::Result<()> {
//! let settings = micro::Settings::from_args();
//! let telemetry = micro::telemetry::init(&settings)?;
//! let service = micro::Service::new().settings(settings).serve(GreeterServer::new(english));
//! service.run().await?;
//! telemetry.shutdown().await;
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "otel")]
mod export;
mod level;

use std::io::{self, IsTerminal};

#[cfg(feature = "otel")]
use micro_registry::validate;
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

#[cfg(feature = "otel")]
use self::export::Export;
use self::level::Level;
#[cfg(feature = "http")]
pub(crate) use self::level::page;
use crate::{Error, Result, Settings};

/// Installs a subscriber for the whole process: logs go to standard error, for people when that is a
/// terminal and otherwise as JSON, a line each.
///
/// The setting `log` (`MICRO_LOG`) says what there is: a level, or levels by target, as `EnvFilter`
/// of [`tracing-subscriber`](https://docs.rs/tracing-subscriber) has them. `PUT /log` at any service of the
/// process says something else while it runs. With the feature `otel` and the setting `spans_to` spans are exported as
/// well, from level `info` on, whatever `log` says.
///
/// # Errors
///
/// `invalid_argument` for settings that make no sense, naming the value and its origin;
/// `failed_precondition` when there is a subscriber already, or no tokio runtime to export by.
pub fn init(settings: &Settings) -> Result<Telemetry> {
    let (subscriber, telemetry) = subscriber(settings)?;
    subscriber.try_init().map_err(|error| Error::precondition(error.to_string()))?;
    Ok(telemetry)
}

/// The subscriber that [`init`] installs, for programs that add layers to it or install it for a
/// part of themselves.
///
/// # Errors
///
/// As [`init`], save that nothing is installed.
pub fn subscriber(
    settings: &Settings,
) -> Result<(impl Subscriber + for<'a> LookupSpan<'a> + Send + Sync, Telemetry)> {
    Ok(Plan::new(settings)?.build(io::stderr().is_terminal(), io::stderr))
}

/// What [`init`] has begun: logs go on for as long as the process does, and spans are exported until
/// this is dropped.
///
/// Dropping it exports what is left, and blocks for a second at most; [`shutdown`](Self::shutdown)
/// waits for longer, and blocks nobody.
#[derive(Debug)]
#[must_use = "dropping it ends the export of spans"]
pub struct Telemetry {
    #[cfg(feature = "otel")]
    export: Option<Export>,
}

impl Telemetry {
    /// Exports the spans that have ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the rest to a thread, which ends within five seconds.
    pub async fn shutdown(self) {
        #[cfg(feature = "otel")]
        if let Some(export) = self.export {
            export.shutdown().await;
        }
    }
}

/// What the settings say.
struct Plan {
    filter: String,
    #[cfg(feature = "otel")]
    export: Option<Export>,
}

impl Plan {
    fn new(settings: &Settings) -> Result<Self> {
        let text = |text: &str| Ok(text.to_owned());
        let filter = settings
            .resolve_or_default("log", None, |text| level::filter(text).map(|_| text.to_owned()))?;
        let otlp = settings.resolve("spans_to", None, text)?;
        #[cfg(not(feature = "otel"))]
        if let Some(otlp) = otlp {
            return Err(otlp.invalid("spans_to", "the feature `otel` of micro is not compiled in"));
        }
        #[cfg(feature = "otel")]
        let export = {
            let name = settings.checked("name", None, validate::service_name)?;
            let name = name.map(|name| name.value);
            otlp.map(|otlp| Export::new(&otlp, name)).transpose()?
        };
        Ok(Self {
            filter: filter.value,
            #[cfg(feature = "otel")]
            export,
        })
    }

    /// The subscriber, whose lines go to the writer.
    fn build<W>(
        self,
        is_terminal: bool,
        writer: W,
    ) -> (impl Subscriber + for<'a> LookupSpan<'a> + Send + Sync, Telemetry)
    where
        W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
    {
        let (level, filter) = Level::new(self.filter);
        let lines = fmt::layer().with_writer(writer);
        let lines = match is_terminal {
            true => lines.boxed(),
            false => lines.json().flatten_event(true).boxed(),
        };
        let subscriber = tracing_subscriber::registry().with(lines.with_filter(filter)).with(level);
        #[cfg(feature = "otel")]
        let subscriber = subscriber.with(self.export.as_ref().map(Export::layer));
        let telemetry = Telemetry {
            #[cfg(feature = "otel")]
            export: self.export,
        };
        (subscriber, telemetry)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is logged within a span, at a level that the settings let through.
    fn logged(is_terminal: bool) -> String {
        let lines = Lines::default();
        let settings = Settings::none().flag("log", "error,micro=warn").unwrap();
        let plan = Plan::new(&settings).unwrap();
        let writer = lines.clone();
        let (subscriber, _telemetry) = plan.build(is_terminal, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            let _span = tracing::error_span!("serve", method = "price").entered();
            tracing::warn!(thing = "tea", "sold \n out");
            tracing::info!("not this");
        });
        let lines = lines.0.lock().unwrap();
        String::from_utf8(lines.clone()).unwrap()
    }

    /// Machines get a JSON object a line, with the fields of the spans around it; people get text.
    #[test]
    fn lines_are_for_their_reader() {
        let line: serde_json::Value = serde_json::from_str(&logged(false)).unwrap();
        assert_eq!((&line["level"], &line["thing"]), (&"WARN".into(), &"tea".into()));
        assert_eq!(line["span"]["method"], "price");
        let text = logged(true);
        assert!(text.contains("sold") && serde_json::from_str::<serde_json::Value>(&text).is_err());
    }

    /// Sends a request over HTTP; returns the status and the body.
    #[cfg(feature = "http")]
    async fn send(network: &micro_rpc::MemoryNetwork, first: &str, body: &str) -> (u16, String) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = network.connect("a").unwrap();
        let head =
            format!("{first} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}", body.len());
        stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    /// What is logged changes at the word of a caller on the same host, at once and for as long as
    /// it says nothing else; what makes no sense changes nothing, and a proxy's word neither.
    #[cfg(feature = "http")]
    #[tokio::test(start_paused = true)]
    async fn the_level_changes_at_run_time() {
        let (lines, network) = (Lines::default(), micro_rpc::MemoryNetwork::new());
        let writer = lines.clone();
        let plan = Plan::new(&Settings::none()).unwrap();
        let (subscriber, _telemetry) = plan.build(false, move || writer.clone());
        let _guard = tracing::subscriber::set_default(subscriber);
        let service = crate::Service::new().name("shop").settings(Settings::none());
        let service = service.registry(micro_registry::MemoryRegistry::new());
        let service = service.memory_network(network.clone()).address("memory:a");
        let _service = service.start().await.unwrap();
        let is_debugged = || {
            lines.0.lock().unwrap().clear();
            tracing::debug!(target: "bakery", "a word");
            tracing::error!(target: "other", "a word");
            let logged = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
            [logged.contains("bakery"), logged.contains("other")]
        };
        let put = async |filter: &str| send(&network, "PUT /log", filter).await.0;
        let get = async || send(&network, "GET /log", "").await.1;
        assert_eq!((get().await, is_debugged()), ("info\n".to_owned(), [false, true]));
        assert_eq!(put("off,bakery=debug\n").await, 200);
        for wrong in ["bakery=loud", ""] {
            assert_eq!(put(wrong).await, 400, "{wrong:?}");
        }
        assert_eq!(send(&network, "PUT /log HTTP/1.1\r\nVia: 1.1 p\r\nX:", "debug").await.0, 403);
        let expected = ("off,bakery=debug\n".to_owned(), [true, false]);
        assert_eq!((get().await, is_debugged()), expected);
        assert_eq!((put("off").await, is_debugged()), (200, [false, false]));
    }

    /// A filter that cannot be read is an error of the settings.
    #[test]
    fn filters_are_checked() {
        for wrong in ["", " ", "loud", "micro=loud", "info,", "info,["] {
            let settings = Settings::none().flag("log", wrong).unwrap();
            let error = Plan::new(&settings).err().unwrap().to_string();
            assert!(
                error.contains("from flag --log") && error.contains("expected a level"),
                "{error}"
            );
        }
    }
}
