//! The cases of `tests/data/*.yaml`.
//!
//! A file has a base object and cases. A sample is a JSON merge patch on the base; `{from, to}` is a change from one such
//! object to another.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The cases of one kind.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Suite {
    /// Kind of the objects.
    pub(crate) kind: String,
    /// The object that samples are patches on.
    pub(crate) base: Value,
    /// The cases.
    pub(crate) cases: Vec<Case>,
}

/// One rule.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Case {
    /// Path of the field that bad objects are refused for; empty for the object itself.
    pub(crate) field: String,
    /// The message, or a part of the apiserver's own one.
    pub(crate) message: String,
    /// What refuses.
    #[serde(default)]
    pub(crate) refused_by: RefusedBy,
    #[serde(default)]
    good: Vec<Value>,
    #[serde(default)]
    bad: Vec<Value>,
}

/// What refuses a bad object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum RefusedBy {
    /// A rule in CEL.
    #[default]
    Rule,
    /// The shape that the schema demands.
    Schema,
    /// Something that only an apiserver checks.
    Server,
}

/// An object, or a change to one.
#[derive(Debug)]
pub(crate) struct Sample {
    /// The object before the change; none where it is created.
    pub(crate) old: Option<Value>,
    /// The object.
    pub(crate) object: Value,
}

impl Suite {
    fn sample(&self, patch: &Value) -> Sample {
        match (patch.get("from"), patch.get("to")) {
            (Some(from), Some(to)) => Sample {
                old: Some(merged(&self.base, from)),
                object: merged(&self.base, to),
            },
            _ => Sample {
                old: None,
                object: merged(&self.base, patch),
            },
        }
    }
}

impl Case {
    /// Objects that are taken.
    pub(crate) fn good(&self, suite: &Suite) -> Vec<Sample> {
        self.good.iter().map(|patch| suite.sample(patch)).collect()
    }

    /// Objects that are refused.
    pub(crate) fn bad(&self, suite: &Suite) -> Vec<Sample> {
        self.bad.iter().map(|patch| suite.sample(patch)).collect()
    }
}

impl fmt::Display for Case {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.field, self.message)
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", json!({ "from": self.old, "to": self.object }))
    }
}

/// The suites of a folder, `crds/tests/data`.
pub(crate) fn suites(folder: &Path) -> Vec<Suite> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder of cases is there")
        .map(|entry| entry.expect("the folder is readable").path())
        .collect();
    files.sort();
    files
        .iter()
        .map(|file| {
            let text = std::fs::read_to_string(file).expect("a file of cases is readable");
            serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
        })
        .collect()
}

/// The objects of a folder of manifests, each with the name of its file.
pub(crate) fn manifests(folder: &Path) -> Vec<(String, Value)> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder of manifests is there")
        .map(|entry| entry.expect("the folder is readable").path())
        .collect();
    files.sort();
    files
        .iter()
        .flat_map(|file| {
            let text = std::fs::read_to_string(file).expect("a manifest is readable");
            let objects: Vec<Value> = serde_saphyr::from_multiple(&text)
                .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let name = file
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            objects.into_iter().map(move |object| (name.clone(), object))
        })
        .collect()
}

/// A JSON merge patch (RFC 7386) applied.
pub(crate) fn merged(base: &Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else {
        return patch.clone();
    };
    let mut merged = base.as_object().cloned().unwrap_or_else(Map::new);
    for (name, change) in patch {
        if change.is_null() {
            merged.remove(name);
        } else {
            let before = merged.get(name).cloned().unwrap_or_default();
            merged.insert(name.clone(), self::merged(&before, change));
        }
    }
    Value::Object(merged)
}
