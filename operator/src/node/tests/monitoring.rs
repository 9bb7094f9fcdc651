//! What watches a node.

use kube::api::DynamicObject;

use super::*;

fn of_kind<'a>(resources: &'a Resources, kind: &str) -> Vec<&'a DynamicObject> {
    let of = resources.optional.iter().filter(|(of, _)| of.kind == kind);
    of.map(|(_, object)| object).collect()
}

fn monitored(monitoring: &Value) -> Resources {
    let spec = json!({"dgraph": {"mode": "Embedded"}, "monitoring": monitoring});
    built(&alone(node("europe", spec))).expect("resources")
}

#[test]
fn rules_have_the_thresholds_of_the_spec_and_look_at_this_node() {
    let resources = monitored(&json!({"rules": {
        "labels": {"release": "prometheus"},
        "thresholds": {"lagBlocks": 4321, "headAge": "10m"},
    }}));
    let rules = of_kind(&resources, "PrometheusRule");
    let [rule] = rules.as_slice() else {
        panic!("{rules:?}");
    };
    let rule = json_of(rule);
    assert_eq!(rule["metadata"]["name"], "europe");
    assert_eq!(rule["metadata"]["namespace"], "default");
    assert_eq!(rule["metadata"]["labels"]["release"], "prometheus");
    assert_eq!(
        rule["metadata"]["labels"]["app.kubernetes.io/managed-by"],
        "honeygraph-operator"
    );
    let rules = rule["spec"]["groups"]
        .as_array()
        .expect("groups")
        .iter()
        .flat_map(|group| group["rules"].as_array().expect("rules"));
    let expression = |alert: &str| {
        let mut rules = rules.clone();
        let rule = rules.find(|rule| rule["alert"] == alert).expect("an alert");
        rule["expr"].as_str().expect("an expression").to_owned()
    };
    assert_eq!(
        expression("HoneygraphSyncLag"),
        r#"honeygraph_sync_lag_blocks{job="honeygraph",namespace="default",node="europe"} > 4321"#
    );
    assert!(expression("HoneygraphNoSource").contains(" > 600"));
}

#[test]
fn what_is_switched_off_is_not_made() {
    let resources = monitored(&json!({}));
    assert_eq!(of_kind(&resources, "PrometheusRule").len(), 1);
    assert_eq!(of_kind(&resources, "PodMonitor").len(), 1);
    assert!(!names(&resources.config_maps).contains(&"europe-dashboard".to_owned()));
    let resources = monitored(&json!({"rules": {"enabled": false}, "podMonitor": {"enabled": false}}));
    assert!(resources.optional.is_empty());
}

#[test]
fn a_dashboard_is_found_by_the_sidecar_of_grafana() {
    let resources = monitored(&json!({"dashboard": true}));
    let map = resources
        .config_maps
        .iter()
        .find(|map| map.name_any() == "europe-dashboard")
        .expect("a dashboard");
    assert_eq!(map.labels()["grafana_dashboard"], "1");
    let data = map.data.as_ref().expect("data");
    // Files of all dashboards lie in one folder of Grafana.
    assert_eq!(
        data.keys().collect::<Vec<_>>(),
        ["honeygraph-default-europe.json"]
    );
    let made: Value = serde_json::from_str(&data["honeygraph-default-europe.json"]).expect("JSON");
    assert_eq!(made["title"], "Honeygraph: default/europe");
}
