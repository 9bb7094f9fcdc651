//! From a spec to objects and a status: fixtures in, assertions out, no cluster.

mod agents;
mod dgraph;
mod monitoring;
mod network;
mod samples;
mod status;

use std::collections::BTreeMap;
use std::sync::Arc;

use honeygraph_crds::HoneygraphNode;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::build::{Resources, build};
use super::credentials::credentials;
use super::dereference::Dereferenced;
use super::validate::{Invalid, validate};
use crate::settings::{Images, OperatorPods};

/// A node of this name in the region `eu`, with these fields of its spec beside network and region.
fn node(name: &str, spec: Value) -> HoneygraphNode {
    let mut whole = json!({"network": "dlux", "region": "eu"});
    if let (Some(whole), Value::Object(fields)) = (whole.as_object_mut(), spec) {
        whole.extend(fields);
    }
    serde_json::from_value(json!({
        "apiVersion": "honeygraph.io/v1alpha1",
        "kind": "HoneygraphNode",
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-of-{name}"), "generation": 3},
        "spec": whole,
    }))
    .expect("a node")
}

fn embedded(name: &str) -> HoneygraphNode {
    node(name, json!({"dgraph": {"mode": "Embedded"}}))
}

/// A node and nothing else.
fn alone(node: HoneygraphNode) -> Dereferenced {
    Dereferenced {
        node: Arc::new(node),
        secrets: BTreeMap::new(),
        dgraph_owner: None,
        neighbours: Vec::new(),
        claims: Vec::new(),
    }
}

/// Adds a Secret to what a node refers to.
fn with_secret(mut input: Dereferenced, name: &str, data: &[(&str, &str)]) -> Dereferenced {
    let data = data
        .iter()
        .map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec())));
    let mut secret = Secret {
        data: Some(data.collect()),
        ..Secret::default()
    };
    secret.metadata.name = Some(name.to_owned());
    input.secrets.insert(name.to_owned(), secret);
    input
}

fn images() -> Images {
    Images {
        agent: "honeygraph-agent:test".to_owned(),
        dgraph: "dgraph/dgraph:v25.4.0".to_owned(),
    }
}

/// Validates and builds.
fn built(input: &Dereferenced) -> Result<Resources, Invalid> {
    let validated = validate(input, &images())?;
    let now = Timestamp::from_second(1_700_000_000).expect("a time");
    let made = credentials(&validated.identity, None, None, now);
    // The same in every test: what is compared must not differ by chance.
    let made = Secret {
        data: Some(BTreeMap::from([
            ("admin-token".to_owned(), ByteString(b"0123456789abcdef".to_vec())),
            (
                "dgraph-token".to_owned(),
                ByteString(b"fedcba9876543210".to_vec()),
            ),
        ])),
        ..made
    };
    let operator = OperatorPods {
        namespace: "honeygraph-system".to_owned(),
    };
    Ok(build(&validated, &input.secrets, made, &operator))
}

fn names<K: kube::Resource>(objects: &[K]) -> Vec<String> {
    objects.iter().map(ResourceExt::name_any).collect()
}

/// An object as JSON, to look into.
fn json_of(object: &impl serde::Serialize) -> Value {
    serde_json::to_value(object).expect("an object")
}
