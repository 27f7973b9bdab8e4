//! How a schema is written.

use serde_json::{Map, Value, json};

pub(super) fn anything() -> Value {
    json!({})
}

/// Takes what an earlier round wrote there.
pub(super) fn member(schema: &mut Value, key: &str) -> Value {
    schema.get_mut(key).map_or_else(anything, Value::take)
}

pub(super) fn object(properties: Map<String, Value>, required: &[&str]) -> Value {
    let mut object = json!({ "type": "object", "properties": properties });
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    object
}

pub(super) fn nullable(mut schema: Value) -> Value {
    match schema.get("type") {
        Some(Value::String(kind)) if schema.get("enum").is_none() => {
            schema["type"] = json!([kind, "null"]);
            schema
        }
        // What is anything may be nothing.
        None if schema == anything() => schema,
        _ => json!({ "anyOf": [schema, { "type": "null" }] }),
    }
}

/// What `nullable` made one that is not.
pub(super) fn some(mut schema: Value) -> Value {
    if let Some(first) = schema.get_mut("anyOf").and_then(|several| several.get_mut(0)) {
        return first.take();
    }
    if let Some(kind) = schema.get("type").and_then(|kinds| kinds.get(0)).cloned() {
        schema["type"] = kind;
    }
    if schema.is_null() { anything() } else { schema }
}

pub(super) fn one_of(variants: Vec<Value>) -> Value {
    let names: Option<Vec<_>> = variants.iter().map(|variant| variant.get("const")).collect();
    match (names, &*variants) {
        (Some(names), _) => json!({ "type": "string", "enum": names }),
        (None, [only]) => only.clone(),
        (None, _) => json!({ "oneOf": variants }),
    }
}
