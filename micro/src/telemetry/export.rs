//! Spans on their way to a collector, by OTLP over gRPC.

use std::fmt;
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::registry::LookupSpan;

use crate::settings::{Resolved, shown};
use crate::{Error, Result};

/// Exports spans in batches, on a thread of its own, until it is dropped.
pub(super) struct Export {
    provider: SdkTracerProvider,
    /// As it may be shown to anybody.
    endpoint: String,
}

/// How long the last batch may take when nobody can wait.
const PATIENCE: Duration = Duration::from_secs(1);

impl Export {
    /// To this collector, as spans of this service. Begins with the first span.
    pub(super) fn new(endpoint: &Resolved<String>, service: Option<String>) -> Result<Self> {
        let expected = "expected the URL of a collector, such as http://localhost:4317";
        if !["http://", "https://"].iter().any(|scheme| endpoint.value.starts_with(scheme)) {
            return Err(endpoint.invalid("spans_to", expected));
        }
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(Error::precondition("exporting spans takes a tokio runtime"));
        }
        let exporter = SpanExporter::builder().with_tonic().with_endpoint(&endpoint.value).build();
        let exporter =
            exporter.map_err(|error| match shown(&endpoint.value) == endpoint.value {
                true => endpoint.invalid("spans_to", &error.to_string()),
                // The error repeats the URL, with the password in it.
                false => endpoint.invalid("spans_to", expected),
            })?;
        let resource = Resource::builder_empty().with_service_name(service.unwrap_or_else(program));
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            // Whoever called said whether the trace is recorded.
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
            .with_resource(resource.build())
            .build();
        Ok(Self { provider, endpoint: shown(&endpoint.value).to_owned() })
    }

    /// What sees the spans. The exporter's own calls are none of them.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let layer = tracing_opentelemetry::layer().with_tracer(self.provider.tracer("micro"));
        let is_own = |target: &str| OWN.iter().any(|own| target.starts_with(own));
        let others = filter_fn(move |metadata| !is_own(metadata.target()));
        layer
            .with_filter(others.with_max_level_hint(LevelFilter::INFO))
            .with_filter(LevelFilter::INFO)
    }

    pub(super) async fn shutdown(self) {
        let provider = self.provider.clone();
        let ended = tokio::task::spawn_blocking(move || provider.shutdown()).await;
        if !matches!(ended, Ok(Ok(()))) {
            tracing::warn!(endpoint = self.endpoint, "the last spans were not exported");
        }
    }
}

/// Where the log lines and spans of an export come from.
const OWN: [&str; 6] = ["h2", "hyper", "opentelemetry", "tonic", "tower", "rustls"];

/// What the process is called by those who started it.
fn program() -> String {
    let path = std::env::current_exe().unwrap_or_default();
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    if name.is_empty() { "unknown".to_owned() } else { name.into_owned() }
}

impl Drop for Export {
    fn drop(&mut self) {
        // After a shutdown it does nothing.
        let _ = self.provider.shutdown_with_timeout(PATIENCE);
    }
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}
