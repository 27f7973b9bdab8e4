//! How much the gateway has to do, for those who collect figures.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use http::StatusCode;

/// What is counted.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    connections: AtomicU64,
    /// Answers so far, by the first digit of their status, from 1 to 5.
    answers: [AtomicU64; 5],
}

/// A connection, as long as it is there.
pub(crate) struct Connected<'a>(&'a Figures);

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}

impl Figures {
    pub(crate) fn connected(&self) -> Connected<'_> {
        self.connections.fetch_add(1, Relaxed);
        Connected(self)
    }

    pub(crate) fn count(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        if let Some(answers) = self.answers.get(class) {
            answers.fetch_add(1, Relaxed);
        }
    }

    /// What the client's calls came to, in OpenMetrics, and these figures before its last line.
    pub(crate) fn beside(&self, client: &str) -> String {
        let connections = self.connections.load(Relaxed);
        let classes = self.answers.iter().zip(1..);
        let answers: String = classes
            .map(|(answers, class)| {
                let answers = answers.load(Relaxed);
                format!("micro_gateway_requests_total{{status=\"{class}xx\"}} {answers}\n")
            })
            .collect();
        let client = client.strip_suffix(END).unwrap_or(client);
        format!("{client}{CONNECTIONS}{connections}\n{REQUESTS}{answers}{END}")
    }
}

/// The type of the text.
pub(crate) const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const END: &str = "# EOF\n";
const CONNECTIONS: &str = "# TYPE micro_gateway_connections gauge\n\
    # HELP micro_gateway_connections Connections to the gateway.\n\
    micro_gateway_connections ";
const REQUESTS: &str = "# TYPE micro_gateway_requests counter\n\
    # HELP micro_gateway_requests Requests that were answered, by the first digit of the status.\n";

#[cfg(test)]
mod tests {
    use super::*;

    /// The text ends where it says so, and what was counted is in it.
    #[test]
    fn figures_come_before_the_end() {
        let figures = Figures::default();
        for status in [200, 204, 404, 999] {
            figures.count(StatusCode::from_u16(status).expect("a status"));
        }
        let (_first, second) = (figures.connected(), figures.connected());
        drop(second);
        let text = figures.beside("# TYPE a gauge\na 1\n# EOF\n");
        assert!(text.starts_with("# TYPE a gauge\na 1\n# TYPE micro_gateway_connections gauge\n"));
        for line in [
            "micro_gateway_connections 1",
            "micro_gateway_requests_total{status=\"2xx\"} 2",
            "micro_gateway_requests_total{status=\"4xx\"} 1",
        ] {
            assert!(text.lines().any(|known| known == line), "{text}");
        }
        assert!(text.ends_with("5xx\"} 0\n# EOF\n") && text.matches("# EOF").count() == 1);
    }
}
