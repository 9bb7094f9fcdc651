use std::sync::Arc;

use serde_json::json;

use super::*;

fn arguments(set: &impl serde::Serialize) -> Vec<String> {
    let arguments = json_of(set)["spec"]["template"]["spec"]["containers"][0]["args"].clone();
    serde_json::from_value(arguments).expect("arguments")
}

fn settings(resources: &Resources) -> std::collections::BTreeMap<String, String> {
    resources.config_maps[0].data.clone().expect("settings")
}

#[test]
fn an_owner_has_zeros_and_alphas_that_know_each_other() {
    let input = alone(node(
        "eu",
        json!({"dgraph": {"zero": {"replicas": 3}, "alpha": {"replicas": 3, "cacheSize": "1Gi"}}}),
    ));
    let resources = built(&input).expect("a node");
    assert_eq!(names(&resources.zeros), ["eu-zero-0", "eu-zero-1", "eu-zero-2"]);
    let first = arguments(&resources.zeros[0]);
    assert!(
        first.contains(&"--my=eu-zero-0-0.eu-zero.default.svc:5080".to_owned()),
        "{first:?}"
    );
    assert!(
        !first.iter().any(|argument| argument.starts_with("--peer")),
        "the first founds the cluster"
    );
    let third = arguments(&resources.zeros[2]);
    assert!(third.contains(&"--raft=idx=3".to_owned()), "{third:?}");
    assert!(
        third.contains(&"--peer=eu-zero-0-0.eu-zero.default.svc:5080".to_owned()),
        "{third:?}"
    );
    let alpha = arguments(&resources.alphas[1]);
    assert!(alpha.contains(&"--cache=size-mb=1024".to_owned()), "{alpha:?}");
    assert!(
        alpha.contains(
            &"--zero=eu-zero-0-0.eu-zero.default.svc:5080,eu-zero-1-0.eu-zero.default.svc:5080,\
              eu-zero-2-0.eu-zero.default.svc:5080"
                .to_owned()
        ),
        "{alpha:?}"
    );
    let settings = settings(&resources);
    assert_eq!(settings["DGRAPH_MODE"], "hybrid");
    assert_eq!(settings["DGRAPH_ALPHA"].split(',').count(), 3);
}

#[test]
fn no_token_is_in_an_argument_or_a_setting() {
    let resources = built(&alone(node("eu", json!({})))).expect("a node");
    for object in [
        json_of(&resources.alphas),
        json_of(&resources.zeros),
        json_of(&resources.agents),
        json_of(&resources.config_maps),
    ] {
        let text = object.to_string();
        assert!(
            !text.contains("fedcba9876543210") && !text.contains("0123456789abcdef"),
            "{text}"
        );
    }
}

#[test]
fn another_node_writes_the_dgraph_of_its_owner() {
    let spec = json!({"dgraph": {"clusterRef": {"nodeRef": {"name": "eu"}}}});
    let mut input = alone(node("eu-b", spec));
    assert_eq!(
        built(&input).expect_err("refused"),
        Invalid::DgraphOwnerMissing {
            name: "eu".to_owned()
        }
    );

    input.dgraph_owner = Some(Arc::new(embedded("eu")));
    assert_eq!(
        built(&input).expect_err("refused"),
        Invalid::DgraphOwnerHasNone {
            name: "eu".to_owned()
        }
    );

    let mut elsewhere = node("eu", json!({}));
    elsewhere.spec.region = "us".to_owned();
    input.dgraph_owner = Some(Arc::new(elsewhere));
    assert!(matches!(
        built(&input).expect_err("refused"),
        Invalid::DgraphOwnerElsewhere { .. }
    ));

    input.dgraph_owner = Some(Arc::new(node("eu", json!({}))));
    let resources = built(&input).expect("a node");
    assert!(resources.alphas.is_empty() && resources.zeros.is_empty());
    let settings = settings(&resources);
    assert_eq!(settings["DGRAPH_ALPHA"], "eu-alpha-0-0.eu-alpha.default.svc:9080");
    let pod = &json_of(&resources.agents[0])["spec"]["template"];
    assert_eq!(pod["metadata"]["labels"]["honeygraph.io/writes-to"], "eu");
    let sources = pod["spec"]["volumes"][1]["projected"]["sources"].to_string();
    assert!(sources.contains("eu-credentials"), "the owner's token: {sources}");
}

#[test]
fn a_dgraph_that_runs_elsewhere_is_reached_with_tls() {
    let input = alone(node(
        "eu",
        json!({"dgraph": {
            "mode": "Shared",
            "clusterRef": {"endpoints": ["dgraph.example:9080", "http://other.example:9080"]},
            "tls": {"clientSecretName": "dgraph-tls"},
        }}),
    ));
    let input = with_secret(input, "dgraph-tls", &[("ca.crt", "an authority")]);
    let settings = settings(&built(&input).expect("a node"));
    assert_eq!(
        settings["DGRAPH_ALPHA"],
        "https://dgraph.example:9080,http://other.example:9080"
    );
    assert_eq!(settings["DGRAPH_CA_FILE"], "/etc/honeygraph/dgraph-ca.crt");
    assert!(
        !settings.contains_key("DGRAPH_CERTIFICATE_FILE"),
        "the Secret has no certificate"
    );
}

#[test]
fn access_control_has_its_files() {
    let spec = json!({"dgraph": {"acl": {
        "hmac": {"name": "acl", "key": "hmac"},
        "password": {"name": "acl", "key": "password"},
    }}});
    let input = with_secret(
        alone(node("eu", spec.clone())),
        "acl",
        &[("hmac", "short"), ("password", "secret")],
    );
    assert!(
        matches!(built(&input).expect_err("refused"), Invalid::SecretUnusable { key, .. } if key == "hmac")
    );
    let hmac = "0123456789abcdef0123456789abcdef";
    let input = with_secret(
        alone(node("eu", spec)),
        "acl",
        &[("hmac", hmac), ("password", "secret")],
    );
    let resources = built(&input).expect("a node");
    assert!(arguments(&resources.alphas[0]).contains(&"--acl=secret-file=/etc/dgraph/acl/hmac".to_owned()));
    let settings = settings(&resources);
    assert_eq!(settings["DGRAPH_USER"], "groot");
    assert_eq!(
        settings["DGRAPH_PASSWORD_FILE"],
        "/etc/honeygraph/dgraph-password"
    );
}

#[test]
fn a_dgraph_with_known_holes_is_refused() {
    let input = alone(node("eu", json!({"dgraph": {"image": "dgraph/dgraph:v24.1.2"}})));
    assert!(matches!(
        built(&input).expect_err("refused"),
        Invalid::DgraphTooOld { .. }
    ));
}
