//! Schemas that no derive gives, and what makes a derived schema one that an apiserver takes as it is meant.

use std::ops::RangeInclusive;

use kube::core::Rule;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use crate::rules;

/// Most entries of a map of quantities.
const RESOURCES_MAX: u32 = 16;

/// A quantity: a whole number, or text such as `500m`, `64Mi`.
pub(crate) fn quantity(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "anyOf": [{ "type": "integer" }, { "type": "string" }],
        "maxLength": 32,
    })
}

/// A map of quantities.
pub(crate) fn quantities(generator: &mut SchemaGenerator) -> Schema {
    let mut quantity = quantity(generator);
    quantity.insert(
        "x-kubernetes-validations".to_owned(),
        json!([rules::any_quantity()]),
    );
    json_schema!({
        "type": "object",
        "additionalProperties": quantity,
        "maxProperties": RESOURCES_MAX,
    })
}

/// Flags of a program, by name.
pub(crate) fn flags(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": { "type": "string", "maxLength": 1024 },
        "maxProperties": 16,
    })
}

/// Annotations.
pub(crate) fn annotations(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": { "type": "string", "maxLength": 4096 },
        "maxProperties": 64,
    })
}

/// A label selector, with bounds.
pub(crate) fn label_selector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "properties": {
            "matchLabels": {
                "description": "Labels with these values.",
                "type": "object",
                "additionalProperties": { "type": "string", "maxLength": 63 },
                "maxProperties": 64,
            },
            "matchExpressions": {
                "description": "Further conditions, all of which must hold.",
                "type": "array",
                "maxItems": 64,
                "x-kubernetes-list-type": "atomic",
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": {
                            "description": "The label.",
                            "type": "string",
                            "minLength": 1,
                            "maxLength": 316,
                        },
                        "operator": {
                            "description": "What is asked of it.",
                            "type": "string",
                            "enum": ["In", "NotIn", "Exists", "DoesNotExist"],
                        },
                        "values": {
                            "description": "Values for `In` and `NotIn`.",
                            "type": "array",
                            "maxItems": 64,
                            "x-kubernetes-list-type": "atomic",
                            "items": { "type": "string", "maxLength": 63 },
                        },
                    },
                },
            },
        },
        "x-kubernetes-map-type": "atomic",
    })
}

/// Labels.
pub(crate) fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": { "type": "string", "maxLength": 63 },
        "maxProperties": 64,
    })
}

/// Alphas of a Dgraph.
pub(crate) fn dgraph_endpoints(_: &mut SchemaGenerator) -> Schema {
    texts(1..=16, 300, &rules::dgraph_endpoint())
}

/// Networks of addresses.
pub(crate) fn networks(_: &mut SchemaGenerator) -> Schema {
    texts(0..=64, 49, &rules::cidr())
}

/// Host names of a route.
pub(crate) fn host_names(_: &mut SchemaGenerator) -> Schema {
    texts(1..=16, 253, &rules::host_name())
}

/// A list of texts that each follow a rule.
fn texts(items: RangeInclusive<u32>, length_max: u32, rule: &Rule) -> Schema {
    json_schema!({
        "type": "array",
        "minItems": items.start(),
        "maxItems": items.end(),
        "items": {
            "type": "string",
            "minLength": 1,
            "maxLength": length_max,
            "x-kubernetes-validations": [rule],
        },
    })
}

/// Changes a derived schema in three ways.
///
/// - No field takes `null`: the apiserver puts the default in its place or refuses it, and a rule never sees one.
/// - Formats of Rust's integers go, which Kubernetes does not know and warns about.
/// - What a reader finds in a description has no line breaks inside a paragraph.
pub(crate) fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            tidy_fields(fields);
            fields.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn tidy_fields(fields: &mut Map<String, Value>) {
    if fields.get("nullable").is_some_and(Value::is_boolean) {
        fields.remove("nullable");
    }
    if let Some(Value::String(format)) = fields.get("format")
        && format.starts_with("uint")
    {
        fields.remove("format");
    }
    if fields.get("default") == Some(&Value::Null) {
        fields.remove("default");
    }
    if let Some(Value::String(description)) = fields.get_mut("description") {
        let paragraphs: Vec<_> = description
            .split("\n\n")
            .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        *description = paragraphs.join("\n\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_formats_and_line_breaks_go() {
        let mut schema = json!({
            "properties": {
                "count": { "type": "integer", "format": "uint64", "nullable": true, "default": null },
                "height": { "type": "integer", "format": "int64", "description": "one\nline\n\nnext" },
            }
        });
        tidy(&mut schema);
        assert_eq!(
            schema,
            json!({
                "properties": {
                    "count": { "type": "integer" },
                    "height": { "type": "integer", "format": "int64", "description": "one line\n\nnext" },
                }
            })
        );
    }
}
