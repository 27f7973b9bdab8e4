//! The spans of calls, on both sides: what they are called, what they hold, and whose they are.
//!
//! Where nobody listens there are none, and the trace on the wire is all there is. Where they are
//! exported, with the feature `otel`, what travels is the span of the attempt, so that a trace has no
//! gap between a caller and its server.

#[cfg(feature = "otel")]
mod exported;
#[cfg(not(feature = "otel"))]
#[path = "unexported.rs"]
mod exported;

use micro_rpc::{Address, Code, Request, TraceContext};
use tracing::level_filters::LevelFilter;
use tracing::{Span, field::display};

pub(crate) use self::exported::begin_beneath;
use self::exported::{Kind, adopt, adopt_parent, describe, fail, own, status};

/// A span with what is known of it later: how it ended, and what only those see who export it.
macro_rules! span {
    ($name:literal, $($field:tt)*) => {
        tracing::info_span!(
            $name, $($field)*, code = tracing::field::Empty, otel.kind = tracing::field::Empty,
            otel.name = tracing::field::Empty
        )
    };
}

/// Of a call that a client makes, with all of its attempts. Its request is then of the trace of the
/// span.
#[inline]
pub(crate) fn call(service: &str, request: &mut Request) -> Option<Span> {
    listen()?;
    let (contract, method) = (request.contract.as_str(), request.method.as_str());
    let (node, attempts) = (tracing::field::Empty, tracing::field::Empty);
    let span = heard(span!("call", service, contract, method, node, attempts))?;
    describe(&span, Kind::Client, request);
    adopt_parent(&span, request);
    request.trace = own(&span).or(request.trace);
    Some(span)
}

/// Of an attempt of a call at one node.
#[inline]
pub(crate) fn attempt(request: &mut Request, node: &Address) -> Option<Span> {
    listen()?;
    let span = heard(span!("attempt", node = display(node), attempt = request.attempt))?;
    describe(&span, Kind::Client, request);
    request.trace = own(&span).or(request.trace);
    Some(span)
}

/// Of a call that a service serves. A request that is of no trace, as one over HTTP may be, begins one:
/// the calls that are made for it belong together.
#[inline]
pub(crate) fn serve(request: &mut Request) -> Option<Span> {
    let span = listen().and_then(|()| {
        let (contract, method) = (request.contract.as_str(), request.method.as_str());
        heard(span!("serve", contract, method, trace = tracing::field::Empty))
    });
    if let Some(span) = &span {
        describe(span, Kind::Server, request);
        adopt(span, request.trace.as_ref());
        request.trace = own(span).or(request.trace);
    }
    let trace = request.trace.get_or_insert_with(TraceContext::new_root);
    if let Some(span) = &span {
        span.record("trace", display(trace.trace_id()));
    }
    span
}

/// Whether anybody listens to any span at all. Asked first: where a program has the `log` feature of
/// `tracing`, as one of its dependencies may, a span that is none is made for it nevertheless.
#[inline]
fn listen() -> Option<()> {
    (LevelFilter::current() >= LevelFilter::INFO).then_some(())
}

/// The span, if anybody listens to it.
#[inline]
fn heard(span: Span) -> Option<Span> {
    (!span.is_disabled()).then_some(span)
}

/// Notes how what a span is of ended; `is_fault` says whether an error is one of whom the span is of.
pub(crate) fn ended(span: &Span, end: Result<(), Code>, is_fault: impl Fn(Code) -> bool) {
    let code = end.map_or_else(Code::as_str, |()| "ok");
    span.record("code", code);
    status(span, code);
    if let Err(code) = end
        && is_fault(code)
    {
        fail(span, code);
    }
}

/// Whether a call that ended so is a failure of its server, as OpenTelemetry's conventions have it: not what the
/// caller did wrong.
pub(crate) fn is_of_server(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}
