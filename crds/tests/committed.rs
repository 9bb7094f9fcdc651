//! The committed YAML and documentation are what the code makes, and the schemas are bounded and complete.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::path::Path;

use honeygraph_crds::{CheckpointCondition, NodeCondition, RESERVED_VARIABLES, definitions, reference, yaml};
use serde_json::Value;

/// Compares a file of the repository with what it must be; with `UPDATE_DOCS` set, writes it.
fn assert_committed(path: &str, made: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, made).expect("the file is writable");
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == made,
        "{path} differs from the types; run `UPDATE_DOCS=1 cargo test -p honeygraph-crds --test committed`"
    );
}

#[test]
fn the_yaml_is_that_of_the_types() {
    for definition in definitions() {
        let name = definition.spec.names.singular.as_deref().unwrap();
        // Helm takes no file from outside a chart, kustomize none from outside its folder.
        for folder in ["crds", "charts/honeygraph/files/crds", "manifests/crds"] {
            assert_committed(&format!("{folder}/{name}.yaml"), &yaml(&definition).unwrap());
        }
    }
}

#[test]
fn the_documentation_is_that_of_the_types() {
    assert_committed("docs/honeygraphnode.md", &reference::honeygraph_node());
    assert_committed("docs/checkpoint.md", &reference::checkpoint());
}

/// `kubectl apply -f crds/` takes every JSON and YAML file there.
#[test]
fn the_folder_holds_no_other_yaml() {
    let mut found: Vec<_> = std::fs::read_dir(env!("CARGO_MANIFEST_DIR"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| {
            [".yaml", ".yml", ".json"]
                .iter()
                .any(|extension| name.ends_with(extension))
        })
        .collect();
    found.sort();
    assert_eq!(found, ["checkpoint.yaml", "honeygraphnode.yaml"]);
}

/// Calls `visit` with every part of a schema and its path.
fn walk(schema: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(property, &format!("{path}.{name}"), visit);
    }
    for inner in ["items", "additionalProperties"] {
        if schema[inner].is_object() {
            walk(&schema[inner], &format!("{path}[]"), visit);
        }
    }
}

fn schemas() -> impl Iterator<Item = (String, Value)> {
    definitions().into_iter().map(|definition| {
        let version = &definition.spec.versions[0];
        (
            definition.spec.names.kind.clone(),
            serde_json::to_value(&version.schema).unwrap()["openAPIV3Schema"].clone(),
        )
    })
}

/// The apiserver refuses rules whose cost it cannot bound.
#[test]
fn everything_in_a_spec_is_bounded() {
    for (kind, schema) in schemas() {
        walk(&schema["properties"]["spec"], &kind, &mut |path, part| {
            let bound = match part["type"].as_str() {
                Some("string") if part["enum"].is_array() => return,
                Some("string") => "maxLength",
                Some("array") => "maxItems",
                Some("integer") => "maximum",
                Some("object") if part["additionalProperties"].is_object() => "maxProperties",
                _ => return,
            };
            assert!(part[bound].is_number(), "{path} has no {bound}");
        });
    }
}

#[test]
fn every_field_is_described_and_none_takes_null() {
    for (kind, schema) in schemas() {
        walk(&schema, &kind, &mut |path, part| {
            for (name, property) in part["properties"].as_object().into_iter().flatten() {
                if path == kind && name == "metadata" || property["description"].is_string() {
                    continue;
                }
                panic!("{path}.{name} has no description");
            }
            assert!(part["nullable"].is_null(), "{path} takes null");
        });
    }
}

#[test]
fn the_status_names_every_condition() {
    let node = NodeCondition::ALL.map(|condition| condition.to_string()).to_vec();
    let checkpoint = CheckpointCondition::ALL
        .map(|condition| condition.to_string())
        .to_vec();
    for ((kind, schema), conditions) in schemas().zip([node, checkpoint]) {
        let list = &schema["properties"]["status"]["properties"]["conditions"];
        assert_eq!(
            list["x-kubernetes-list-map-keys"],
            serde_json::json!(["type"]),
            "{kind}"
        );
        let named: Vec<_> = conditions
            .iter()
            .map(|condition| format!("`{condition}`"))
            .collect();
        let description = list["description"].as_str().unwrap();
        assert!(
            description.starts_with(&named.join(", ")),
            "{kind}: {description}"
        );
    }
}

#[test]
fn reserved_variables_are_settings_of_the_agent() {
    let page = include_str!("../../docs/configuration.md");
    for name in RESERVED_VARIABLES {
        assert!(page.contains(&format!("| `{name}` |")), "{name} is no setting");
    }
}
