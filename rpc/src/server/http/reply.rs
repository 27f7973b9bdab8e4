//! What is sent back over HTTP: JSON for calls and errors, text for health.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::Reply;
use super::headers::{put_metadata, put_retry_after};
use crate::{Code, Codec, Status};

pub(super) fn text(status: StatusCode, text: impl Into<Bytes>) -> Reply {
    with_type(status, text.into(), "text/plain; charset=utf-8")
}

pub(super) fn json(status: StatusCode, json: Bytes) -> Reply {
    with_type(status, json, JSON)
}

const JSON: &str = "application/json";

pub(super) fn with_type(status: StatusCode, body: Bytes, content_type: &'static str) -> Reply {
    let mut reply = Reply::new(body.into());
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

/// Returns a body as JSON, whichever codec the handler chose.
///
/// # Errors
///
/// `internal` for what JSON cannot express.
pub fn to_json(codec: Codec, body: Bytes) -> Result<Bytes, Status> {
    if codec == Codec::Json {
        return Ok(body);
    }
    let json = codec.decode::<Value>(&body).and_then(|value| Codec::Json.encode(&value));
    json.map_err(|error| Status::new(Code::Internal, format!("the answer is not JSON: {error}")))
}

/// An answer that is an error: a status, and the HTTP status it goes with, which is that of the code
/// unless it was made with another.
#[derive(Debug)]
#[must_use]
pub struct Refusal {
    http: StatusCode,
    status: Status,
    allow: Option<String>,
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        let http = StatusCode::from_u16(status.code().http_status());
        Self::new(http.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), status)
    }
}

impl Refusal {
    /// Creates one with another HTTP status than that of its code.
    pub fn new(http: StatusCode, status: Status) -> Self {
        Self { http, status, allow: None }
    }

    pub(super) fn code(&self) -> Code {
        self.status.code()
    }

    pub(super) fn not_found(path: &str) -> Self {
        let message = format!(
            "nothing at `{path}`; call a method with POST /contract/method, or see GET /describe"
        );
        Self::new(StatusCode::NOT_FOUND, Status::new(Code::NotFound, message))
    }

    pub(super) fn unknown_method(unknown: &Status) -> Self {
        let message = format!("{}; GET /describe lists what there is", unknown.message());
        Self::new(StatusCode::NOT_FOUND, Status::new(unknown.code(), message))
    }

    /// Refuses a verb where another is taken.
    pub fn method_not_allowed(allow: &str, path: &str) -> Self {
        let message = format!("`{path}` takes {allow}");
        let status = Status::new(Code::Unimplemented, message);
        Self { allow: Some(allow.to_owned()), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, status) }
    }

    /// Refuses a body of more than so many bytes.
    pub fn too_large(limit: usize) -> Self {
        let message = format!("the body is more than {limit} bytes");
        let status = Status::new(Code::ResourceExhausted, message);
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, status)
    }

    /// Refuses a body that does not come in time.
    pub fn too_slow() -> Self {
        let status = Status::new(Code::DeadlineExceeded, "the body did not come in time");
        Self::new(StatusCode::REQUEST_TIMEOUT, status)
    }

    pub(super) fn malformed(header: &str) -> Self {
        let message = format!("the `{header}` header cannot be read");
        Self::new(StatusCode::BAD_REQUEST, Status::new(Code::InvalidArgument, message))
    }

    pub(super) fn foreign_host(host: &str) -> Self {
        let message = format!(
            "`{host}` is not a name of this server; use its address, or add it to its hosts"
        );
        Self::new(StatusCode::FORBIDDEN, Status::new(Code::PermissionDenied, message))
    }

    pub(super) fn foreign_origin(origin: &str) -> Self {
        let message = format!("pages of `{origin}` may not call this server");
        Self::new(StatusCode::FORBIDDEN, Status::new(Code::PermissionDenied, message))
    }

    pub(super) fn into_reply(self) -> Reply {
        self.into_response().map(Full::from)
    }

    /// Turns it into the answer: its JSON, and what goes with it as headers.
    #[must_use]
    pub fn into_response(self) -> Response<Bytes> {
        let mut reply = Response::new(Bytes::from(error_body(&self.status).to_string()));
        *reply.status_mut() = self.http;
        reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        put_metadata(reply.headers_mut(), self.status.metadata());
        if let Some(wait) = self.status.retry_after() {
            put_retry_after(reply.headers_mut(), wait);
        }
        if let Some(Ok(allow)) = self.allow.map(HeaderValue::try_from) {
            reply.headers_mut().insert(ALLOW, allow);
        }
        reply
    }
}

/// `{"code": …, "message": …, "details": …}`; details only when they can be shown as JSON.
fn error_body(status: &Status) -> Value {
    let mut body = json!({ "code": status.code().as_str(), "message": status.message() });
    let details = status.details().and_then(|(codec, details)| codec.decode(details).ok());
    if let (Some(details), Some(fields)) = (details, body.as_object_mut()) {
        fields.insert("details".into(), details);
    }
    body
}
