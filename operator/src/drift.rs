//! Whether an object in the cluster still says everything that was applied.
//!
//! A reconcile that changes nothing must write nothing, and a server-side apply is a write even where it changes
//! nothing. So each object carries the hash of what was applied, and what stands in the cluster is compared with
//! what is wanted: fields that the API server adds are left alone, fields of ours that somebody changed are not.

use kube_quantity::ParsedQuantity;
use serde_json::Value;

/// The first field in which a live object does not say what is wanted, as a path (`spec.replicas`); none if it
/// says it all.
///
/// Objects may hold more than is wanted (defaults, fields of others); lists must be as long as wanted, since the
/// lists that are applied here belong to this operator alone. Exempt are the lists in `metadata`, where others
/// add owners and finalizers.
pub fn first_difference(live: &Value, wanted: &Value) -> Option<String> {
    let mut path = Vec::new();
    differs(live, wanted, &mut path).then(|| path.join("."))
}

/// Leaves `path` at the differing field, if there is one.
fn differs(live: &Value, wanted: &Value, path: &mut Vec<String>) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => wanted.iter().any(|(name, wanted)| {
            path.push(name.clone());
            let different = match live.get(name) {
                Some(live) => differs(live, wanted, path),
                // The API server drops what is empty.
                None => !is_empty(wanted),
            };
            if !different {
                path.pop();
            }
            different
        }),
        (Value::Array(live), Value::Array(wanted))
            if path.first().is_some_and(|first| first == "metadata") =>
        {
            wanted
                .iter()
                .any(|wanted| live.iter().all(|live| differs(live, wanted, &mut path.clone())))
        }
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() != wanted.len()
                || live
                    .iter()
                    .zip(wanted)
                    .enumerate()
                    .any(|(index, (live, wanted))| {
                        path.push(index.to_string());
                        let different = differs(live, wanted, path);
                        if !different {
                            path.pop();
                        }
                        different
                    })
        }
        (Value::String(live), Value::String(wanted)) => live != wanted && !same_quantity(live, wanted),
        (live, wanted) => live != wanted,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The API server writes quantities in its own form: `1024Mi` comes back as `1Gi`.
fn same_quantity(one: &str, other: &str) -> bool {
    let parse = |text: &str| ParsedQuantity::try_from(text).ok();
    matches!((parse(one), parse(other)), (Some(one), Some(other)) if one == other)
}

#[cfg(test)]
mod tests {
    use std::borrow::Borrow;

    use serde_json::json;

    use super::*;

    fn difference(live: impl Borrow<Value>, wanted: impl Borrow<Value>) -> Option<String> {
        first_difference(live.borrow(), wanted.borrow())
    }

    #[test]
    fn what_the_server_adds_is_no_difference() {
        let wanted = json!({"spec": {"replicas": 1, "template": {"containers": [{"name": "agent"}]}}});
        let live = json!({
            "metadata": {"resourceVersion": "7"},
            "spec": {
                "replicas": 1,
                "template": {"containers": [{"name": "agent", "imagePullPolicy": "Always"}], "dnsPolicy": "ClusterFirst"},
            },
            "status": {"replicas": 1},
        });
        assert_eq!(difference(live, wanted), None);
    }

    #[test]
    fn a_changed_field_is_named_by_its_path() {
        let wanted = json!({"spec": {"ports": [{"port": 3030}, {"port": 4000}]}});
        let live = json!({"spec": {"ports": [{"port": 3030}, {"port": 4001}]}});
        assert_eq!(difference(live, wanted), Some("spec.ports.1.port".to_owned()));
    }

    #[test]
    fn a_rule_that_somebody_added_is_a_difference() {
        let wanted = json!({"spec": {"ingress": [{"from": []}]}});
        let live = json!({"spec": {"ingress": [{"from": []}, {}]}});
        assert_eq!(difference(live, wanted), Some("spec.ingress".to_owned()));
    }

    #[test]
    fn a_missing_field_is_a_difference_unless_it_is_empty() {
        let wanted = json!({"spec": {"selector": {"app": "x"}}});
        assert_eq!(
            difference(json!({"spec": {}}), wanted),
            Some("spec.selector".to_owned())
        );
        let empty = json!({"spec": {"egress": [], "note": "", "more": {"list": []}}});
        assert_eq!(difference(json!({"spec": {}}), empty), None);
        let switch = json!({"spec": {"automountServiceAccountToken": false}});
        assert!(difference(json!({"spec": {}}), switch).is_some());
    }

    #[test]
    fn owners_and_finalizers_of_others_are_left_alone() {
        let wanted = json!({"metadata": {"ownerReferences": [{"uid": "1"}]}});
        let live =
            json!({"metadata": {"ownerReferences": [{"uid": "2"}, {"uid": "1", "kind": "HoneygraphNode"}]}});
        assert_eq!(difference(live, &wanted), None);
        let lost = json!({"metadata": {"ownerReferences": [{"uid": "2"}]}});
        assert_eq!(
            difference(lost, wanted),
            Some("metadata.ownerReferences".to_owned())
        );
    }

    #[test]
    fn quantities_are_equal_in_any_spelling() {
        let wanted = json!({"resources": {"memory": "1024Mi", "cpu": "0.5", "storage": "5Gi"}});
        let live = json!({"resources": {"memory": "1Gi", "cpu": "500m", "storage": "5Gi"}});
        assert_eq!(difference(live, &wanted), None);
        let more = json!({"resources": {"memory": "2Gi", "cpu": "500m", "storage": "5Gi"}});
        assert_eq!(difference(more, wanted), Some("resources.memory".to_owned()));
    }
}
