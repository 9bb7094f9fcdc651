//! Every rule of the schemas with good and bad objects, from `tests/data/*.yaml`.
//!
//! The same files are applied to a real apiserver by the tests of the cluster.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod cases;

use std::collections::BTreeSet;
use std::path::Path;

use cases::{RefusedBy, Sample, Suite};
use honeygraph_crds::{CheckpointSpec, HoneygraphNodeSpec, reference};
use kube_cel::{CompiledSchema, apply_defaults, compile_schema, validate_compiled};
use serde_json::{Value, json};

fn suites() -> Vec<Suite> {
    cases::suites(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data"))
}

/// The schema of the suite's kind.
fn schema(suite: &Suite) -> Value {
    let definition = honeygraph_crds::definitions()
        .into_iter()
        .find(|definition| definition.spec.names.kind == suite.kind)
        .unwrap_or_else(|| panic!("{} is a kind of ours", suite.kind));
    let schema = definition.spec.versions[0]
        .schema
        .clone()
        .expect("a version has a schema");
    serde_json::to_value(schema.open_api_v3_schema).expect("a schema is JSON")
}

/// The checks of one kind, prepared once.
struct Checks {
    schema: Value,
    rules: CompiledSchema,
    shape: jsonschema::Validator,
}

impl Checks {
    fn of(suite: &Suite) -> Self {
        let schema = schema(suite);
        Self {
            rules: compile_schema(&schema),
            shape: jsonschema::draft4::new(&schema).expect("the schema is a JSON schema"),
            schema,
        }
    }

    /// What the rules say to an object: the path of the field and the message, for each rule that fails.
    fn refusals(&self, sample: &Sample) -> Vec<(String, String)> {
        let complete = |object: &Value| apply_defaults(&self.schema, object);
        let old = sample.old.as_ref().map(complete);
        match validate_compiled(&self.rules, &complete(&sample.object), old.as_ref()) {
            Ok(()) => Vec::new(),
            Err(errors) => errors
                .iter()
                .map(|error| (pointer(&error.field_path), error.message.clone()))
                .collect(),
        }
    }

    /// The paths at which an object is not of the schema's shape.
    fn misfits(&self, sample: &Sample) -> Vec<String> {
        let object = apply_defaults(&self.schema, &sample.object);
        self.shape
            .iter_errors(&object)
            .map(|error| error.instance_path().to_string())
            .collect()
    }
}

/// `/spec/peers/static/0/url` for `spec.peers.static[0].url`.
fn pointer(field: &str) -> String {
    let parts = field.trim_start_matches('.').replace('[', ".").replace(']', "");
    parts
        .split('.')
        .fold(String::new(), |pointer, part| format!("{pointer}/{part}"))
}

#[test]
fn good_objects_are_taken() {
    for suite in suites() {
        let checks = Checks::of(&suite);
        for case in &suite.cases {
            for sample in case.good(&suite) {
                assert_eq!(checks.misfits(&sample), Vec::<String>::new(), "{case}: {sample}");
                assert_eq!(checks.refusals(&sample), [], "{case}: {sample}");
            }
        }
    }
}

#[test]
fn bad_objects_are_refused_with_the_message_of_the_rule() {
    for suite in suites() {
        let checks = Checks::of(&suite);
        for case in &suite.cases {
            for sample in case.bad(&suite) {
                match case.refused_by {
                    RefusedBy::Rule => {
                        let expected = (pointer(&case.field), case.message.clone());
                        assert_eq!(checks.misfits(&sample), Vec::<String>::new(), "{case}: {sample}");
                        assert_eq!(checks.refusals(&sample), [expected], "{case}: {sample}");
                    }
                    RefusedBy::Schema => {
                        assert_eq!(
                            checks.misfits(&sample),
                            [pointer(&case.field)],
                            "{case}: {sample}"
                        );
                    }
                    RefusedBy::Server => {}
                }
            }
        }
    }
}

#[test]
fn every_rule_has_good_and_bad_objects() {
    for suite in suites() {
        let mut rules = BTreeSet::new();
        collect_rules(&schema(&suite), "", &mut rules);
        let cases: BTreeSet<_> = suite
            .cases
            .iter()
            .filter(|case| !case.good(&suite).is_empty() && !case.bad(&suite).is_empty())
            .map(|case| (schema_path(&case.field), case.message.clone()))
            .collect();
        let missing: Vec<_> = rules.difference(&cases).collect();
        assert!(
            missing.is_empty(),
            "{}: rules without a case: {missing:#?}",
            suite.kind
        );
    }
}

/// `spec.peers.static[].url` for `spec.peers.static[0].url`.
fn schema_path(field: &str) -> String {
    let digits = |character: char| character.is_ascii_digit();
    let mut parts = field.split('[');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |path, part| {
        format!("{path}[{}", part.trim_start_matches(digits))
    })
}

/// The rules of a schema: path of the field and message. A map is asked for its key `memory`.
fn collect_rules(schema: &Value, path: &str, rules: &mut BTreeSet<(String, String)>) {
    for rule in schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let message = rule["message"]
            .as_str()
            .unwrap_or_else(|| panic!("{path}: {rule} has no message"));
        let path = rule["fieldPath"]
            .as_str()
            .map_or(path, |path| path.trim_start_matches('.'));
        rules.insert((path.to_owned(), message.to_owned()));
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        collect_rules(property, format!("{path}.{name}").trim_start_matches('.'), rules);
    }
    for (inner, suffix) in [("items", "[]"), ("additionalProperties", "[memory]")] {
        if schema[inner].is_object() {
            collect_rules(&schema[inner], &format!("{path}{suffix}"), rules);
        }
    }
}

/// The examples of the documentation are objects that an apiserver takes.
#[test]
fn examples_of_the_documentation_are_taken() {
    for suite in suites() {
        let page = match suite.kind.as_str() {
            "HoneygraphNode" => reference::honeygraph_node(),
            _ => reference::checkpoint(),
        };
        let checks = Checks::of(&suite);
        let examples: Vec<_> = page
            .split("```yaml\n")
            .skip(1)
            .filter_map(|rest| rest.split("```").next())
            .collect();
        assert!(!examples.is_empty(), "{} has examples", suite.kind);
        for example in examples {
            let sample = Sample {
                old: None,
                object: serde_saphyr::from_str(example).unwrap(),
            };
            assert_eq!(checks.misfits(&sample), Vec::<String>::new(), "{sample}");
            assert_eq!(checks.refusals(&sample), [], "{sample}");
        }
    }
}

/// The samples of the install are objects that an apiserver takes, and every field of them means something.
#[test]
fn samples_of_the_install_are_taken() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/samples");
    let samples = cases::manifests(&folder);
    assert!(!samples.is_empty());
    let suites = suites();
    for (file, object) in samples {
        let suite = suites
            .iter()
            .find(|suite| object["kind"] == suite.kind)
            .unwrap_or_else(|| panic!("{file}: {} is not of ours", object["kind"]));
        let checks = Checks::of(suite);
        assert_eq!(
            unknown_fields(&checks.schema, &object, ""),
            Vec::<String>::new(),
            "{file}"
        );
        let sample = Sample { old: None, object };
        assert_eq!(checks.misfits(&sample), Vec::<String>::new(), "{file}: {sample}");
        assert_eq!(checks.refusals(&sample), [], "{file}: {sample}");
    }
}

/// The paths of fields that a schema does not have. Metadata is the apiserver's own.
fn unknown_fields(schema: &Value, value: &Value, path: &str) -> Vec<String> {
    let known = &schema["properties"];
    let fields = value.as_object().into_iter().flatten();
    let elements = value.as_array().into_iter().flatten();
    fields
        .filter(|(name, _)| !(path.is_empty() && ["apiVersion", "kind", "metadata"].contains(&name.as_str())))
        .flat_map(|(name, value)| {
            let path = format!("{path}/{name}");
            match (known.get(name), known.is_object()) {
                (Some(schema), _) => unknown_fields(schema, value, &path),
                (None, true) => vec![path],
                (None, false) => Vec::new(),
            }
        })
        .chain(elements.flat_map(|element| unknown_fields(&schema["items"], element, path)))
        .collect()
}

#[test]
fn an_unknown_field_is_seen() {
    let schema =
        json!({"properties": {"spec": {"properties": {"peers": {"items": {"properties": {"url": {}}}}}}}});
    let object = json!({"metadata": {}, "spec": {"peers": [{"url": "a", "weight": 1}], "regoin": "eu"}});
    assert_eq!(
        unknown_fields(&schema, &object, ""),
        ["/spec/peers/weight", "/spec/regoin"]
    );
}

#[test]
fn a_thousand_peers_are_taken() {
    let suite = suites()
        .into_iter()
        .find(|suite| suite.kind == "HoneygraphNode")
        .unwrap();
    let peers: Vec<_> = (0..1000)
        .map(|number| json!({ "url": format!("https://peer-{number}.example.org:3030"), "voteWeight": 0 }))
        .collect();
    let sample = Sample {
        old: None,
        object: cases::merged(&suite.base, &json!({ "spec": { "peers": { "static": peers } } })),
    };
    assert_eq!(Checks::of(&suite).refusals(&sample), []);
}

/// What an object means does not depend on who filled in the defaults: the apiserver or these types.
#[test]
fn types_and_schema_have_the_same_defaults() {
    for suite in suites() {
        let schema = schema(&suite);
        let samples = suite.cases.iter().flat_map(|case| case.good(&suite));
        for object in samples.map(|sample| sample.object).chain([suite.base.clone()]) {
            let completed = apply_defaults(&schema, &object);
            let (written, completed) = (object["spec"].clone(), completed["spec"].clone());
            match suite.kind.as_str() {
                "HoneygraphNode" => assert_eq!(
                    serde_json::from_value::<HoneygraphNodeSpec>(written).unwrap(),
                    serde_json::from_value::<HoneygraphNodeSpec>(completed).unwrap(),
                ),
                _ => assert_eq!(
                    serde_json::from_value::<CheckpointSpec>(written).unwrap(),
                    serde_json::from_value::<CheckpointSpec>(completed).unwrap(),
                ),
            }
        }
    }
}
