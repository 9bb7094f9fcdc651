//! The resources as pages of documentation, made from their schemas.

use std::fmt::Write as _;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Map, Value};

/// `docs/honeygraphnode.md`.
pub fn honeygraph_node() -> String {
    page(&crate::honeygraph_node(), include_str!("honeygraphnode.md"))
}

/// `docs/checkpoint.md`.
pub fn checkpoint() -> String {
    page(&crate::checkpoint(), include_str!("checkpoint.md"))
}

/// An introduction, the names of the resource, the fields of its spec and status, and the rules of the apiserver.
fn page(definition: &CustomResourceDefinition, introduction: &str) -> String {
    let names = &definition.spec.names;
    let mut page = format!(
        "# {}\n\n<!-- Made from crds/src; a test compares. -->\n\n{introduction}",
        names.kind
    );
    for version in &definition.spec.versions {
        let schema = serde_json::to_value(&version.schema).unwrap_or_default();
        let root = &schema["openAPIV3Schema"];
        let short = names.short_names.iter().flatten().next().unwrap_or(&names.plural);
        let columns: Vec<_> = version
            .additional_printer_columns
            .iter()
            .flatten()
            .map(|column| column.name.as_str())
            .collect();
        let _ = writeln!(
            page,
            "\n`kubectl get {short}` has the columns {}.",
            columns.join(", ")
        );
        rules(&mut page, root);
        for part in ["spec", "status"] {
            section(&mut page, part, &root["properties"][part]);
        }
    }
    page
}

/// The fields of an object as a table, then each object among them as a section of its own.
fn section(page: &mut String, path: &str, schema: &Value) {
    let Some(properties) = schema["properties"].as_object() else {
        return;
    };
    let _ = write!(page, "\n## {path}\n\n{}\n", text(schema, "description"));
    table(page, schema, properties);
    rules(page, schema);
    for (name, property) in properties {
        let (suffix, inner) = match property["type"].as_str() {
            Some("array") => ("[]", &property["items"]),
            _ => ("", property),
        };
        section(page, &format!("{path}.{name}{suffix}"), inner);
    }
}

fn table(page: &mut String, schema: &Value, properties: &Map<String, Value>) {
    page.push_str("\n| field | type | default | allowed | meaning |\n|---|---|---|---|---|\n");
    let required = schema["required"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    for (name, property) in properties {
        let default = match &property["default"] {
            Value::Object(default) if is_made_of_defaults(default, property) => "its fields' own".to_owned(),
            Value::Null if required.iter().any(|field| field == name) => "required".to_owned(),
            Value::Null => String::new(),
            Value::Array(items) if items.is_empty() => "none".to_owned(),
            Value::String(value) => format!("`{value}`"),
            value => format!("`{value}`"),
        };
        let meaning = text(property, "description")
            .replace("\n\n", " ")
            .replace('|', "\\|");
        let _ = writeln!(
            page,
            "| `{name}` | {} | {default} | {} | {meaning} |",
            kind(property),
            allowed(property).replace('|', "\\|"),
        );
    }
}

/// Whether a default says no more than those of the fields.
fn is_made_of_defaults(default: &Map<String, Value>, schema: &Value) -> bool {
    default
        .iter()
        .all(|(name, value)| schema["properties"][name]["default"] == *value)
}

fn kind(schema: &Value) -> String {
    if schema["x-kubernetes-int-or-string"] == true {
        return "quantity".to_owned();
    }
    match (
        schema["type"].as_str().unwrap_or_default(),
        &schema["items"],
        &schema["additionalProperties"],
    ) {
        ("array", items, _) => format!("list of {}", kind(items)),
        ("object", _, Value::Object(values)) => format!("map to {}", kind(&Value::Object(values.clone()))),
        ("string", ..) if schema["format"] == "date-time" => "time".to_owned(),
        (kind, ..) => kind.to_owned(),
    }
}

/// What a value must be like, beside its type: choices, bounds, sizes, then the rules of the field.
fn allowed(schema: &Value) -> String {
    let mut said = Vec::new();
    if let Some(choices) = schema["enum"].as_array() {
        let choices: Vec<_> = choices
            .iter()
            .filter_map(Value::as_str)
            .map(|choice| format!("`{choice}`"))
            .collect();
        said.push(choices.join(", "));
    }
    said.extend(range(&schema["minimum"], &schema["maximum"], ""));
    said.extend(range(&schema["minLength"], &schema["maxLength"], " characters"));
    said.extend(range(&schema["minItems"], &schema["maxItems"], " entries"));
    said.extend(range(&Value::Null, &schema["maxProperties"], " entries"));
    for (part, each) in [
        (schema, ""),
        (&schema["items"], "each "),
        (&schema["additionalProperties"], "each "),
    ] {
        // The rules of an object stand in its own section.
        if !part["properties"].is_object() {
            said.extend(
                messages(part)
                    .into_iter()
                    .map(|message| format!("{each}{message}")),
            );
        }
    }
    said.join("; ")
}

fn range(least: &Value, most: &Value, unit: &str) -> Option<String> {
    let least = least.as_f64().filter(|least| *least > 0.0 || unit.is_empty());
    match (least, most.as_f64()) {
        (Some(least), Some(most)) => Some(format!("{least} to {most}{unit}")),
        (None, Some(most)) => Some(format!("at most {most}{unit}")),
        (Some(least), None) => Some(format!("at least {least}{unit}")),
        (None, None) => None,
    }
}

/// The rules of an object as a list.
fn rules(page: &mut String, schema: &Value) {
    let messages = messages(schema);
    if messages.is_empty() {
        return;
    }
    page.push_str("\nRules:\n\n");
    for message in messages {
        let _ = writeln!(page, "- {message}");
    }
}

fn messages(schema: &Value) -> Vec<String> {
    let rules = schema["x-kubernetes-validations"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    rules
        .iter()
        .map(|rule| text(rule, "message").to_owned())
        .collect()
}

fn text<'value>(schema: &'value Value, field: &str) -> &'value str {
    schema[field].as_str().unwrap_or_default()
}
