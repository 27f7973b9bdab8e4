//! Spans as OpenTelemetry has them.

use micro_rpc::{Code, Request, TraceContext};
use opentelemetry::trace::{
    SpanContext, SpanId, Status, TraceContextExt, TraceFlags, TraceId, TraceState,
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::metrics::SYSTEM;

#[derive(Clone, Copy)]
pub(super) enum Kind {
    Client,
    Server,
}

/// The span of the call on whose behalf another one is made, on the way to that one's.
#[derive(Clone, Copy)]
struct Parent(TraceContext);

/// Says on whose behalf a call is made.
pub(crate) fn begin_beneath(request: &mut Request, parent: Option<TraceContext>) {
    if let Some(parent) = parent
        && tracing::enabled!(tracing::Level::INFO)
    {
        request.extensions.insert(Parent(parent));
    }
}

/// Which span it is for others, if it is exported, or would be if the trace were sampled.
pub(super) fn own(span: &Span) -> Option<TraceContext> {
    let context = span.context();
    let context = context.span().span_context().clone();
    let (trace, span) = (context.trace_id().to_bytes(), context.span_id().to_bytes());
    TraceContext::from_parts(trace, span, context.trace_flags().to_u8())
}

pub(super) fn describe(span: &Span, kind: Kind, request: &Request) {
    let method = format!("{}/{}", request.contract, request.method);
    span.record(
        "otel.kind",
        match kind {
            Kind::Client => "client",
            Kind::Server => "server",
        },
    );
    span.record("otel.name", &*method);
    span.set_attribute("rpc.system.name", SYSTEM);
    span.set_attribute("rpc.method", method);
}

/// Puts a span beneath one that another process may have made.
pub(super) fn adopt(span: &Span, parent: Option<&TraceContext>) {
    let Some(parent) = parent else { return };
    let context = SpanContext::new(
        TraceId::from_bytes(parent.trace_id().to_bytes()),
        SpanId::from_bytes(parent.span_id()),
        TraceFlags::new(parent.flags()),
        true,
        TraceState::default(),
    );
    // It fails where nobody exports, and then there is nothing to be beneath.
    let _ = span.set_parent(opentelemetry::Context::new().with_remote_span_context(context));
}

/// Puts the span of a call beneath that of the call on whose behalf it is made, unless a span of the
/// same trace is around it already: one of the handler's own.
pub(super) fn adopt_parent(span: &Span, request: &mut Request) {
    let Some(Parent(parent)) = request.extensions.remove() else { return };
    let around = own(&Span::current());
    if around.is_none_or(|around| around.trace_id() != parent.trace_id()) {
        adopt(span, Some(&parent));
    }
}

pub(super) fn status(span: &Span, code: &'static str) {
    span.set_attribute("rpc.response.status_code", code);
}

pub(super) fn fail(span: &Span, code: Code) {
    span.set_status(Status::error(code.as_str()));
    span.set_attribute("error.type", code.as_str());
}
