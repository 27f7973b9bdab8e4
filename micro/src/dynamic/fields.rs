//! Arguments from text, as command lines and query strings have them.

use std::collections::BTreeMap;

use micro_registry::Endpoint;
use micro_rpc::Code;
use serde_json::{Map, Value};

use super::nearest;
use crate::{Error, Phase};

/// The arguments of a method from pairs of a name and a text, each read as what the method's schema
/// says it is.
///
/// - A string is taken as it is, a number and `true` or `false` as such.
/// - A list is its JSON, or made of all the pairs of its name, each of which is an element: of one
///   pair `[hot]` is an element too, and `[1,2]` if the elements are lists themselves. A list in JSON
///   that does not fit is none.
/// - What else there is, maps for example, is JSON.
/// - Where the schema says nothing, or allows several, it is JSON if it reads as such, else a string.
/// - `null` is nothing where the schema allows that.
///
/// # Errors
///
/// `invalid_argument`, for a text that is not what the schema says, and for a name that it does not
/// know, with the one that was probably meant.
pub fn arguments<'a>(
    method: &Endpoint,
    pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Map<String, Value>, Error> {
    let schema = Schema::of(method);
    let mut texts = BTreeMap::<_, Vec<_>>::new();
    for (name, text) in pairs {
        texts.entry(name).or_default().push(text);
    }
    let read = |(name, texts): (&str, Vec<_>)| {
        Ok((name.to_owned(), schema.field(name)?.read_all(name, &texts)?))
    };
    texts.into_iter().map(read).collect()
}

/// A JSON Schema, as far as it says how a text is to be read.
#[derive(Clone, Copy)]
struct Schema<'a> {
    schema: Option<&'a Value>,
    /// Where its references lead.
    root: Option<&'a Value>,
}

impl<'a> Schema<'a> {
    fn of(method: &'a Endpoint) -> Self {
        let schema = method.request.as_ref();
        Self { schema, root: schema }
    }

    /// The schema of an argument; of any if none is known.
    fn field(self, name: &str) -> Result<Self, Error> {
        let Some(properties) = self.key("properties").and_then(Value::as_object) else {
            return Ok(Self { schema: None, ..self });
        };
        if let Some(schema) = properties.get(name) {
            return Ok(Self { schema: Some(schema), ..self }.resolved());
        }
        let known = properties.keys().map(String::as_str);
        let advice = match nearest(name, known.clone()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None if properties.is_empty() => "it takes none".to_owned(),
            None => format!("expected {}", known.collect::<Vec<_>>().join(", ")),
        };
        Err(invalid(format!("the method has no argument `{name}`: {advice}")))
    }

    /// What is in a list, if it is one.
    fn element(self) -> Option<Self> {
        let list = self.choices().into_iter().find(|choice| choice.is("array"))?;
        Some(Self { schema: list.key("items"), ..list }.resolved())
    }

    /// What all the texts of one name are together.
    fn read_all(self, name: &str, texts: &[&str]) -> Result<Value, Error> {
        match (self.element(), texts) {
            (Some(element), [text]) => match serde_json::from_str::<Value>(text) {
                Ok(whole) if self.is_whole(&whole) => Ok(whole),
                Ok(list) if list.is_array() && !element.fits(&list) => {
                    Err(misfit(name, text, &format!("a list, each {}", element.expected_all())))
                }
                _ => Ok(Value::Array(vec![element.read(name, text)?])),
            },
            (Some(element), texts) => texts.iter().map(|text| element.read(name, text)).collect(),
            (None, [text]) => self.read(name, text),
            (None, _) => Err(invalid(format!("argument `{name}` is given twice"))),
        }
    }

    /// Whether the value is all of a list, or nothing instead of one.
    fn is_whole(self, value: &Value) -> bool {
        (value.is_array() || value.is_null()) && self.fits(value)
    }

    fn read(self, name: &str, text: &str) -> Result<Value, Error> {
        let read = self.choices().iter().find_map(|choice| choice.read_as(text));
        read.ok_or_else(|| misfit(name, text, &self.expected_all()))
    }

    /// The text as exactly what this says.
    fn read_as(&self, text: &str) -> Option<Value> {
        let json =
            || serde_json::from_str::<Value>(text).ok().filter(|value| self.is_met_by(value));
        let string = || Some(Value::from(text)).filter(|value| self.is_met_by(value));
        match self.kind() {
            Some("string") => string(),
            _ => json().or_else(string),
        }
    }

    /// Whether the value is any of what this may be.
    fn fits(self, value: &Value) -> bool {
        self.choices().iter().any(|choice| choice.is_met_by(value))
    }

    /// Whether the value is exactly what this says; of lists, with what is in them.
    fn is_met_by(&self, value: &Value) -> bool {
        let is_kind = match self.kind() {
            Some("string") => value.is_string(),
            Some("integer") => value.is_i64() || value.is_u64(),
            Some("number") => value.is_number(),
            Some("boolean") => value.is_boolean(),
            Some("null") => value.is_null(),
            Some("object") => value.is_object(),
            Some("array") => value.as_array().is_some_and(|list| {
                self.element().is_none_or(|element| list.iter().all(|value| element.fits(value)))
            }),
            _ => true,
        };
        is_kind && self.allows(value)
    }

    /// Whether the value is among those it lists, if it lists any.
    fn allows(&self, value: &Value) -> bool {
        let constant = self.key("const").is_none_or(|constant| constant == value);
        let listed = self.key("enum").and_then(Value::as_array);
        constant && listed.is_none_or(|listed| listed.contains(value))
    }

    /// Of what it may be each; what is nothing comes first, and a string last, which all could be.
    fn choices(self) -> Vec<Self> {
        let several = ["anyOf", "oneOf"].into_iter().find_map(|key| self.key(key)?.as_array());
        let mut choices: Vec<_> = match (several, self.key("type").and_then(Value::as_array)) {
            (Some(several), _) => {
                let one = |schema| Self { schema: Some(schema), ..self }.resolved();
                several.iter().map(one).collect()
            }
            (None, Some(kinds)) if !kinds.is_empty() => {
                kinds.iter().map(|kind| self.only(kind)).collect()
            }
            _ => vec![self],
        };
        choices.sort_by_key(|choice| match choice.kind() {
            Some("null") => 0,
            Some("string") => 2,
            _ => 1,
        });
        choices
    }

    /// The same, of one of the types in its list.
    fn only(self, kind: &'a Value) -> Self {
        // The list's items stay with the list.
        let is_plain = kind != "array" && kind != "object";
        Self { schema: is_plain.then_some(kind).or(self.schema), ..self }
    }

    fn is(&self, kind: &str) -> bool {
        self.kind() == Some(kind)
    }

    /// Its type: alone, the one of several that is no plain one, or one picked by `only`.
    fn kind(&self) -> Option<&'a str> {
        match self.schema? {
            Value::String(kind) => Some(kind),
            schema => match schema.get("type")? {
                Value::String(kind) => Some(kind),
                Value::Array(kinds) => kinds
                    .iter()
                    .filter_map(Value::as_str)
                    .find(|k| matches!(*k, "array" | "object")),
                _ => None,
            },
        }
    }

    fn key(&self, key: &str) -> Option<&'a Value> {
        self.schema?.get(key)
    }

    /// What it refers to, as far as that is in the same document.
    fn resolved(self) -> Self {
        let mut here = self;
        // More in a row lead in a circle.
        for _ in 0..8 {
            let Some(reference) = here.key("$ref").and_then(Value::as_str) else { break };
            let path = reference.strip_prefix('#');
            here.schema = path.and_then(|path| self.root?.pointer(path));
        }
        here
    }

    fn expected_all(self) -> String {
        self.choices().iter().map(Self::expected).collect::<Vec<_>>().join(" or ")
    }

    fn expected(&self) -> String {
        if let Some(listed) = self.key("enum").and_then(Value::as_array) {
            return listed.iter().map(Value::to_string).collect::<Vec<_>>().join(", ");
        }
        match (self.kind(), self.key("const")) {
            (_, Some(constant)) => constant.to_string(),
            (Some("boolean"), _) => "true or false".to_owned(),
            (Some("array"), _) => "a list in JSON".to_owned(),
            (Some("object"), _) => "a map in JSON".to_owned(),
            (Some("integer"), _) => "a whole number".to_owned(),
            (Some(kind), _) => format!("a {kind}").replace("a null", "null"),
            (None, _) => "JSON".to_owned(),
        }
    }
}

fn misfit(name: &str, text: &str, expected: &str) -> Error {
    invalid(format!("argument `{name}` of {text:?} does not fit: expected {expected}"))
}

fn invalid(message: String) -> Error {
    Error::at(Code::InvalidArgument, Phase::Encode, message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn method() -> Endpoint {
        let mut method = Endpoint::new("shop", "order");
        method.request = Some(json!({
            "type": "object",
            "properties": {
                "thing": { "type": "string" },
                "count": { "type": "integer" },
                "price": { "type": "number" },
                "gift": { "type": "boolean" },
                "note": { "anyOf": [{ "type": "string" }, { "type": "null" }] },
                "limit": { "type": ["integer", "null"] },
                "tags": { "type": "array", "items": { "type": "string" } },
                "labels": { "type": ["array", "null"], "items": { "type": "string" } },
                "rows": { "type": "array", "items": { "$ref": "#/$defs/Sizes" } },
                "pair": { "type": "array", "prefixItems": [{ "type": "string" }, {}] },
                "sizes": { "$ref": "#/$defs/Sizes" },
                "to": { "type": "object" },
                "speed": { "type": "string", "enum": ["Slow", "Fast"] },
                "any": {},
            },
            "$defs": { "Sizes": { "type": "array", "items": { "type": "integer" } } },
        }));
        method
    }

    fn read(pairs: &[(&str, &str)]) -> Result<Value, String> {
        let read = arguments(&method(), pairs.iter().copied());
        read.map(Value::Object).map_err(|error| error.to_string())
    }

    /// A text becomes what the schema says, be it referred to, optional or repeated.
    #[test]
    fn texts_become_what_the_schema_says() {
        let cases: &[(&[(&str, &str)], Value)] = &[
            (&[("thing", "5")], json!({ "thing": "5" })),
            (&[("count", "5"), ("price", "2")], json!({ "count": 5, "price": 2 })),
            (&[("gift", "true")], json!({ "gift": true })),
            (&[("note", "null")], json!({ "note": null })),
            (&[("note", "7")], json!({ "note": "7" })),
            (&[("limit", "7")], json!({ "limit": 7 })),
            (&[("limit", "null")], json!({ "limit": null })),
            (&[("tags", "1"), ("tags", "b")], json!({ "tags": ["1", "b"] })),
            (&[("tags", r#"["a", "b"]"#)], json!({ "tags": ["a", "b"] })),
            (&[("sizes", "1"), ("sizes", "2")], json!({ "sizes": [1, 2] })),
            (&[("tags", "[hot]")], json!({ "tags": ["[hot]"] })),
            (&[("tags", "[1]"), ("tags", "b")], json!({ "tags": ["[1]", "b"] })),
            (&[("tags", "null")], json!({ "tags": ["null"] })),
            (&[("labels", "null")], json!({ "labels": null })),
            (&[("labels", "null"), ("labels", "b")], json!({ "labels": ["null", "b"] })),
            (&[("labels", "a")], json!({ "labels": ["a"] })),
            (&[("labels", r#"["a"]"#)], json!({ "labels": ["a"] })),
            (&[("rows", "[[1, 2], [3]]")], json!({ "rows": [[1, 2], [3]] })),
            (&[("rows", "[1, 2]"), ("rows", "[]")], json!({ "rows": [[1, 2], []] })),
            (&[("rows", "[1, 2]")], json!({ "rows": [[1, 2]] })),
            (&[("rows", "[]")], json!({ "rows": [] })),
            (&[("pair", r#"["a", 1]"#)], json!({ "pair": ["a", 1] })),
            (&[("to", r#"{"city": "Ulm"}"#)], json!({ "to": { "city": "Ulm" } })),
            (&[("speed", "Fast")], json!({ "speed": "Fast" })),
            (&[("any", "5")], json!({ "any": 5 })),
            (&[("any", "five")], json!({ "any": "five" })),
            (&[], json!({})),
        ];
        for (pairs, expected) in cases {
            assert_eq!(read(pairs).as_ref(), Ok(expected), "{pairs:?}");
        }
        let free = arguments(&Endpoint::new("shop", "order"), [("x", "5"), ("y", "z")]).unwrap();
        assert_eq!(Value::Object(free), json!({ "x": 5, "y": "z" }));
    }

    /// A text that does not fit is refused with what would, and a name that is unknown with the one
    /// that was probably meant.
    #[test]
    fn what_does_not_fit_is_refused() {
        for (pairs, expected) in [
            (
                &[("count", "many")][..],
                "argument `count` of \"many\" does not fit: expected a whole",
            ),
            (&[("count", "1.5")], "expected a whole number"),
            (&[("gift", "yes")], "expected true or false"),
            (&[("limit", "x")], "expected null or a whole number"),
            (&[("to", "Ulm")], "expected a map in JSON"),
            (&[("speed", "Fats")], "expected \"Slow\", \"Fast\""),
            (&[("sizes", "x")], "argument `sizes` of \"x\" does not fit: expected a whole number"),
            (&[("sizes", r#"[1, "x"]"#)], "does not fit: expected a list, each a whole number"),
            (&[("tags", r#"["a", 1]"#)], "expected a list, each a string"),
            (&[("labels", r#"["a", 1]"#)], "expected a list, each a string"),
            (&[("rows", "[x]")], "does not fit: expected a list in JSON"),
            (&[("cuont", "1")], "the method has no argument `cuont`: did you mean `count`?"),
            (&[("zzzzzzzz", "1")], "the method has no argument `zzzzzzzz`: expected any, count"),
            (&[("thing", "a"), ("thing", "b")], "argument `thing` is given twice"),
        ] {
            let error = read(pairs).unwrap_err();
            assert!(error.contains(expected), "{pairs:?}: {error}");
        }
        let mut idle = Endpoint::new("shop", "close");
        idle.request = Some(json!({ "type": "object", "properties": {} }));
        let error = arguments(&idle, [("x", "1")]).unwrap_err().to_string();
        assert!(error.contains("the method has no argument `x`: it takes none"), "{error}");
    }
}
