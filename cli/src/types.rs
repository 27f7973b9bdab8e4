//! JSON Schema as people read types.

use serde_json::Value;

use crate::print;

/// A type in a few words: `string`, `[uint32]`, `{ name: string, note?: string }`.
pub(crate) fn text(schema: Option<&Value>) -> String {
    schema.map_or_else(|| ANY.to_owned(), |schema| print::plain(&of(schema)))
}

/// The arguments of a method: `name: string, count?: uint32`.
pub(crate) fn arguments(schema: Option<&Value>) -> String {
    match schema.map(fields) {
        None => "…".to_owned(),
        Some(fields) => print::plain(&fields.join(", ")),
    }
}

const ANY: &str = "any";

fn of(schema: &Value) -> String {
    for key in ["anyOf", "oneOf"] {
        if let Some(choices) = schema.get(key).and_then(Value::as_array) {
            return either(choices);
        }
    }
    if let Some(constant) = schema.get("const") {
        return constant.to_string();
    }
    if let Some(listed) = schema.get("enum").and_then(Value::as_array) {
        return listed.iter().map(Value::to_string).collect::<Vec<_>>().join(" | ");
    }
    match schema.get("type") {
        Some(Value::String(kind)) => typed(kind, schema),
        Some(Value::Array(kinds)) => {
            let kinds = kinds.iter().filter_map(Value::as_str);
            let (nothing, kinds): (Vec<_>, Vec<_>) = kinds.partition(|kind| *kind == "null");
            let kinds: Vec<_> = kinds.into_iter().map(|kind| typed(kind, schema)).collect();
            format!("{}{}", kinds.join(" | "), if nothing.is_empty() { "" } else { "?" })
        }
        _ => ANY.to_owned(),
    }
}

fn either(choices: &[Value]) -> String {
    let (nothing, choices): (Vec<_>, Vec<_>) =
        choices.iter().partition(|choice| choice.get("type").is_some_and(|kind| kind == "null"));
    let some = choices.into_iter().map(of).collect::<Vec<_>>().join(" | ");
    match nothing.is_empty() {
        true => some,
        false if some.contains(" | ") => format!("({some})?"),
        false => format!("{some}?"),
    }
}

fn typed(kind: &str, schema: &Value) -> String {
    let format = schema.get("format").and_then(Value::as_str);
    match (kind, format) {
        ("integer" | "number", Some(format)) => format.to_owned(),
        ("array", _) => match schema.get("prefixItems").and_then(Value::as_array) {
            Some(items) => format!("({})", items.iter().map(of).collect::<Vec<_>>().join(", ")),
            None => format!("[{}]", schema.get("items").map_or_else(|| ANY.to_owned(), of)),
        },
        ("object", _) => match schema.get("additionalProperties") {
            Some(values) if values.is_object() => format!("{{ string: {} }}", of(values)),
            _ => match fields(schema) {
                fields if fields.is_empty() => "{}".to_owned(),
                fields => format!("{{ {} }}", fields.join(", ")),
            },
        },
        (kind, _) => kind.to_owned(),
    }
}

/// Required ones first, in their order by name.
fn fields(schema: &Value) -> Vec<String> {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return Vec::new();
    };
    let required = schema.get("required").and_then(Value::as_array);
    let is_required = |name: &str| required.is_some_and(|names| names.iter().any(|n| n == name));
    let mut names: Vec<_> = properties.iter().collect();
    names.sort_by_key(|(name, _)| !is_required(name));
    let field = |(name, schema): (&String, &Value)| {
        let kind = of(schema);
        // That it may be left out says that it may be nothing.
        match (is_required(name), kind.strip_suffix('?')) {
            (false, Some(kind)) => format!("{name}?: {kind}"),
            (false, None) if required.is_some() => format!("{name}?: {kind}"),
            _ => format!("{name}: {kind}"),
        }
    };
    names.into_iter().map(field).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Types read as a person would write them.
    #[test]
    fn types_are_short() {
        let number = json!({ "type": "integer", "format": "uint32" });
        for (schema, expected) in [
            (json!({}), "any"),
            (json!({ "type": "string" }), "string"),
            (json!({ "type": ["string", "null"] }), "string?"),
            (json!({ "type": "array", "items": number }), "[uint32]"),
            (json!({ "type": "array", "prefixItems": [number, {}] }), "(uint32, any)"),
            (json!({ "type": "object", "additionalProperties": number }), "{ string: uint32 }"),
            (json!({ "type": "string", "enum": ["A", "B"] }), r#""A" | "B""#),
            (
                json!({ "oneOf": [
                    { "const": "Nobody" },
                    { "type": "object", "properties": { "Left": { "type": "string" } },
                      "required": ["Left"] },
                ] }),
                r#""Nobody" | { Left: string }"#,
            ),
            (
                json!({ "anyOf": [{ "type": "string", "enum": ["A", "B"] }, { "type": "null" }] }),
                r#"("A" | "B")?"#,
            ),
            (
                json!({ "type": "object", "properties": {
                    "a": { "type": ["string", "null"] }, "b": number, "c": number,
                }, "required": ["b"] }),
                "{ b: uint32, a?: string, c?: uint32 }",
            ),
        ] {
            assert_eq!(text(Some(&schema)), expected);
        }
        assert_eq!(arguments(None), "…");
        assert_eq!(arguments(Some(&json!({ "type": "object", "properties": {} }))), "");
    }
}
