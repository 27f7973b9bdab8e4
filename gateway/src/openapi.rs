//! OpenAPI 3.1 of what can be called now.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use micro::Code;
use micro::dynamic::Description;
use micro::registry::Endpoint;
use micro::rpc::Criticality;
use serde_json::{Map, Value, json};

use crate::Access;
use crate::catalogue::Services;
use crate::interface::{Found, Interface, Method};

/// Describes what the versions of a service serve in OpenAPI 3.1, as `/openapi.json` of a gateway does
/// that has no other service behind it.
///
/// The versions are those of one service, the latest last, as `micro::Client::describe` has them.
pub fn openapi(versions: Vec<Description>) -> Value {
    let name = versions.first().map(|version| version.service.clone()).unwrap_or_default();
    description(&[(&name, &Interface::of(versions))])
}

/// The description of all that can be called, kept until something else can.
#[derive(Debug, Default)]
pub(crate) struct Document(Mutex<Option<(u64, Bytes)>>);

impl Document {
    /// The description of these services. Whoever asks while it is made waits for it.
    pub(crate) fn of(&self, services: &Services, access: &Access) -> Bytes {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some((edition, document)) if *edition == services.edition => document.clone(),
            _ => {
                let document = Bytes::from(document(services, access).to_string());
                *kept = Some((services.edition, document.clone()));
                document
            }
        }
    }
}

fn document(services: &Services, access: &Access) -> Value {
    let services: Vec<_> = services.iter().map(|(name, known)| (name, &*known.interface)).collect();
    let mut document = description(&services);
    if matches!(access, Access::Bearer(_)) {
        document["components"]["securitySchemes"] =
            json!({ "token": { "type": "http", "scheme": "bearer" } });
        document["security"] = json!([{ "token": [] }]);
    }
    document
}

fn description(services: &[(&str, &Interface)]) -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Services behind this gateway",
            "version": env!("CARGO_PKG_VERSION"),
            "description": INTRODUCTION,
        },
        "servers": [{ "url": "/" }],
        "tags": tags(services),
        "paths": paths(services),
        "components": {
            "parameters": parameters(),
            "headers": headers(),
            "schemas": { "Error": error() },
            "responses": responses(),
        },
    })
}

const INTRODUCTION: &str = "Every method is called with POST and a map of its arguments in JSON, an \
    idempotent one with GET and a query as well. Headers micro-meta-KEY and authorization go along \
    as metadata; answers have headers micro-meta-KEY in turn.";

fn tags(services: &[(&str, &Interface)]) -> Value {
    services
        .iter()
        .map(|(name, interface)| json!({ "name": name, "description": doc(interface) }))
        .collect()
}

/// What its contracts are for.
fn doc(interface: &Interface) -> String {
    let contracts = interface.descriptions.iter().rev().flat_map(|version| &version.contracts);
    let docs: Vec<_> =
        contracts.map(|contract| &*contract.doc).filter(|doc| !doc.is_empty()).collect();
    docs.first().copied().unwrap_or_default().to_owned()
}

fn paths(services: &[(&str, &Interface)]) -> Value {
    let mut paths = BTreeMap::new();
    for (service, interface) in services {
        for method in interface.methods() {
            let mut item = operations(service, method);
            item.insert("parameters".to_owned(), headers_of(interface));
            paths.insert(path(service, interface, method), item);
        }
    }
    json!(paths)
}

/// The shortest path that leads to the method.
fn path(service: &str, interface: &Interface, method: &Method) -> String {
    let Method { contract, name, .. } = method;
    match interface.find(service, None, name) {
        Found::Method(found) if found.contract == *contract => format!("/{service}/{name}"),
        _ => format!("/{service}/{contract}/{name}"),
    }
}

fn operations(service: &str, method: &Method) -> Map<String, Value> {
    let mut operations = Map::new();
    let endpoint = method.endpoint.as_deref();
    let mut post = operation(service, method, "");
    let schema = endpoint.and_then(|endpoint| endpoint.request.clone());
    let is_needed = schema.as_ref().is_some_and(|schema| schema.get("required").is_some());
    post["requestBody"] = json!({
        "required": is_needed,
        "content": { "application/json": { "schema": schema.unwrap_or_else(arguments) } },
    });
    operations.insert("post".to_owned(), post);
    if method.idempotent {
        let mut get = operation(service, method, ".get");
        get["parameters"] = endpoint.map(query).unwrap_or_default().into();
        operations.insert("get".to_owned(), get);
    }
    operations
}

/// What both ways to call a method have in common.
fn operation(service: &str, method: &Method, suffix: &str) -> Value {
    let endpoint = method.endpoint.as_deref();
    let doc = endpoint.map(|endpoint| endpoint.doc.as_str()).unwrap_or_default();
    let answer =
        endpoint.and_then(|endpoint| endpoint.response.clone()).unwrap_or_else(|| json!({}));
    let Method { contract, name, idempotent, .. } = method;
    let mut responses = json!({
        "200": {
            "description": "What the method returns.",
            "headers": { "micro-node": { "$ref": "#/components/headers/micro-node" } },
            "content": { "application/json": { "schema": answer } },
        },
        "default": failure(endpoint.and_then(|endpoint| endpoint.error.as_ref())),
    });
    for (status, description) in FAILURES {
        // A status of its own stands above `default`.
        responses[status] = match endpoint.and_then(|endpoint| endpoint.error.as_ref()) {
            Some(own) if !OF_THE_GATEWAY.contains(&status) => {
                with_own(response(&format!("{description} Or the method's own error.")), own)
            }
            _ => json!({ "$ref": format!("#/components/responses/{status}") }),
        };
    }
    json!({
        "operationId": format!("{service}.{contract}.{name}{suffix}"),
        "tags": [service],
        "summary": doc.lines().next().unwrap_or_default(),
        "description": doc,
        "x-idempotent": idempotent,
        "responses": responses,
    })
}

/// What a call ends with that does not reach the method, or no further, whatever the method is.
const FAILURES: [(&str, &str); 10] = [
    ("400", "The arguments, or a header, are not what the method or the gateway takes."),
    ("401", "The gateway, or the service, wants to know who asks."),
    ("403", "Whoever asks may not call this, or a page of another site asks."),
    ("404", "No node of the service is registered, or none of the version that was asked for."),
    ("408", "The body did not come in time."),
    ("413", "The body is longer than the gateway takes."),
    ("429", "The service has too much to do; `retry-after` may say when it is worth another try."),
    ("500", "The method failed where nobody expects it."),
    ("503", "No node of the service can be reached, or none takes calls now."),
    ("504", "The time of `micro-timeout`, or what the gateway grants, was not enough."),
];

/// Those of the failures with which no method ends, whatever its error.
const OF_THE_GATEWAY: [&str; 2] = ["408", "413"];

/// What goes wrong, with the method's own error if it has one.
fn failure(own: Option<&Value>) -> Value {
    match own {
        Some(own) => with_own(any(), own),
        None => json!({ "$ref": "#/components/responses/Error" }),
    }
}

/// The response, with the method's own error as its details.
fn with_own(mut failure: Value, own: &Value) -> Value {
    let details = json!({ "properties": { "details": own } });
    let schema = &mut failure["content"]["application/json"]["schema"];
    *schema = json!({ "allOf": [schema.take(), details] });
    failure
}

/// Arguments of which nothing is known.
fn arguments() -> Value {
    json!({ "type": "object" })
}

/// The arguments as they are in a query: lists by repetition, what else is no plain value as JSON.
fn query(endpoint: &Endpoint) -> Vec<Value> {
    let Some(schema) = &endpoint.request else { return Vec::new() };
    let required = schema.get("required").and_then(Value::as_array);
    let is_required =
        |name: &str| required.is_some_and(|names| names.iter().any(|one| one == name));
    let properties = schema.get("properties").and_then(Value::as_object);
    let parameter = |(name, schema): (&String, &Value)| {
        let mut parameter = json!({ "name": name, "in": "query", "required": is_required(name) });
        match is_plain(schema) {
            true => parameter["schema"] = schema.clone(),
            false => {
                parameter["content"] = json!({ "application/json": { "schema": schema } });
            }
        }
        parameter
    };
    properties.into_iter().flatten().map(parameter).collect()
}

fn is_plain(schema: &Value) -> bool {
    let kind = schema.get("type").and_then(Value::as_str);
    matches!(kind, Some("string" | "integer" | "number" | "boolean"))
}

/// The headers that every call to a service may have.
fn headers_of(interface: &Interface) -> Value {
    let mut all = parameters();
    let mut version = all["version"].take();
    let mut versions: Vec<_> = interface.descriptions.iter().map(|one| &*one.version).collect();
    versions.dedup();
    if !versions.is_empty() {
        version["schema"]["examples"] = json!(versions);
    }
    let names = all.as_object().into_iter().flat_map(Map::keys).filter(|name| *name != "version");
    let shared = names.map(|name| json!({ "$ref": format!("#/components/parameters/{name}") }));
    shared.chain([version]).collect()
}

fn parameters() -> Value {
    let header = |name: &str, description: &str, schema: Value| json!({ "name": name, "in": "header", "description": description, "schema": schema });
    let classes: Vec<_> = Criticality::ALL.iter().map(ToString::to_string).collect();
    json!({
        "criticality": header(
            "micro-criticality",
            "How much it matters to a service that has too much to do.",
            json!({ "type": "string", "enum": classes, "default": "critical" }),
        ),
        "timeout": header(
            "micro-timeout",
            "How long the call may take, its retries included: a whole number of ms or s. Less than \
             100 ms, in us too, is taken as well, but hardly any call keeps it.",
            json!({
                "type": "string",
                "pattern": "^([1-9][0-9]{2,6}ms|[1-9][0-9]{0,4}s)$",
                "examples": ["200ms", "5s"],
            }),
        ),
        "trace": header(
            "traceparent",
            "The trace it belongs to, as W3C Trace Context has it.",
            json!({ "type": "string" }),
        ),
        "version": header(
            "micro-version",
            "Which versions of the service it may go to: `latest`, one such as 1.4.2-rc.1, `*`, or \
             ranges such as ^1.4 with commas between.",
            json!({ "type": "string", "examples": ["1.4.2", "^1.4"] }),
        ),
    })
}

fn headers() -> Value {
    json!({
        "micro-node": {
            "description": "The node that answered.",
            "schema": { "type": "string" },
        },
        "retry-after": {
            "description": "After how many seconds a retry may be of use.",
            "schema": { "type": "integer", "minimum": 1 },
        },
    })
}

fn error() -> Value {
    let codes: Vec<_> = (1..=16).filter_map(Code::from_u8).map(Code::as_str).collect();
    json!({
        "type": "object",
        "required": ["code", "message"],
        "properties": {
            "code": { "type": "string", "enum": codes },
            "message": { "type": "string", "description": "For people." },
            "details": { "description": "The method's own error, if it has one: the responses of the method say what that is." },
        },
    })
}

/// The failures that several methods have, by status, and that of any status.
fn responses() -> Value {
    let failures = FAILURES.iter().map(|(status, description)| (*status, response(description)));
    failures.chain([("Error", any())]).collect()
}

fn any() -> Value {
    let codes = (1..=16).filter_map(Code::from_u8);
    let codes: Vec<_> =
        codes.map(|code| format!("{} {}", code.http_status(), code.as_str())).collect();
    response(&format!(
        "What went wrong. The status is that of the code ({}), but for an unknown path or method \
         (404), a wrong verb (405), a body above the limit (413) or one that is late (408).",
        codes.join(", ")
    ))
}

fn response(description: &str) -> Value {
    json!({
        "description": description,
        "headers": { "retry-after": { "$ref": "#/components/headers/retry-after" } },
        "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } },
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use micro::registry::{EmptyReason, Endpoints, Node, Registration, Update};

    use super::*;
    use crate::Config;
    use crate::catalogue::Catalogue;

    fn node(id: &str, method: &str) -> Arc<Registration> {
        let mut registration = Registration::new("s", "1.0.0", Node::new(id, "127.0.0.1:1"));
        registration.endpoints = Endpoints::Listed(vec![Endpoint::new("c", method)]);
        Arc::new(registration)
    }

    /// Whatever status the method's own error has, what it is like is said there.
    #[test]
    fn own_errors_are_described() {
        let mut endpoint = Endpoint::new("c", "x");
        endpoint.error = Some(json!({ "const": "closed" }));
        let mut method = Method::unlisted("c".to_owned().into(), "x");
        let details = |responses: &Value, status: &str| {
            let schema = &responses[status]["content"]["application/json"]["schema"];
            schema["allOf"][1]["properties"]["details"].clone()
        };
        method.endpoint = Some(Arc::new(endpoint));
        let responses = operation("s", &method, "")["responses"].clone();
        for status in ["400", "401", "403", "404", "429", "500", "503", "504", "default"] {
            assert_eq!(details(&responses, status), json!({ "const": "closed" }), "{status}");
        }
        let words = responses["404"]["description"].as_str().unwrap_or_default();
        assert!(words.contains("or none of the version") && words.contains("own error"), "{words}");
        for status in ["408", "413"] {
            assert!(responses[status]["$ref"].is_string(), "{status}");
        }
    }

    /// The document is made once for all who ask, until something else can be called.
    #[test]
    fn the_document_is_kept() {
        let (document, mut catalogue) = (Document::default(), Catalogue::new(Config::default()));
        let of = |catalogue: &Catalogue| document.of(catalogue.services(), &Access::Anybody);
        catalogue.apply(&[Update::reset(vec![node("a", "x")], EmptyReason::Unknown)]);
        let first = of(&catalogue);
        catalogue.apply(&[Update::Put(node("b", "x"))]);
        assert_eq!(of(&catalogue).as_ptr(), first.as_ptr());
        catalogue.apply(&[Update::reset(vec![node("a", "y")], EmptyReason::Unknown)]);
        let second = of(&catalogue);
        assert!(second != first && String::from_utf8_lossy(&second).contains("/s/y"));
    }
}
