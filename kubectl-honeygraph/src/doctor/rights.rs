//! What the operator must be allowed to do: the rules of the chart.

use std::fmt;

/// Something that a program does with a kind of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// Group of the kind; empty for the core.
    pub group: &'static str,
    /// The kind in the plural.
    pub resource: &'static str,
    /// A part of its objects, such as `status`.
    pub part: Option<&'static str>,
    /// What is done.
    pub verb: &'static str,
}

impl fmt::Display for Right {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.verb, self.resource)?;
        if let Some(part) = self.part {
            write!(formatter, "/{part}")?;
        }
        if self.group.is_empty() {
            Ok(())
        } else {
            write!(formatter, ".{}", self.group)
        }
    }
}

/// Kinds of one group with what is done with each.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    group: &'static str,
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
}

const fn rule(
    group: &'static str,
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
) -> Rule {
    Rule {
        group,
        resources,
        verbs,
    }
}

/// The rules of `charts/honeygraph/templates/_helpers.tpl`, which has the reason of each. Those of kinds that a cluster may
/// not have, Gateway API and the Prometheus operator, are left out.
pub const RIGHTS: &[Rule] = &[
    rule(
        "honeygraph.io",
        &["honeygraphnodes"],
        &["get", "list", "watch", "patch"],
    ),
    rule("honeygraph.io", &["honeygraphnodes/status"], &["get", "update"]),
    rule("honeygraph.io", &["honeygraphnodes/finalizers"], &["update"]),
    rule("", &["configmaps", "serviceaccounts", "services"], WRITES),
    rule("", &["secrets"], WRITES),
    rule(
        "",
        &["persistentvolumeclaims"],
        &["get", "list", "watch", "create", "patch"],
    ),
    rule("", &["pods"], &["get", "list", "watch"]),
    rule("apps", &["statefulsets"], WRITES),
    rule("policy", &["poddisruptionbudgets"], WRITES),
    rule("networking.k8s.io", &["ingresses", "networkpolicies"], WRITES),
    rule("events.k8s.io", &["events"], &["create", "patch"]),
];

const WRITES: &[&str] = &["get", "list", "watch", "create", "patch", "delete"];

impl Rule {
    /// Each right that the rule gives.
    pub fn rights(&self) -> impl Iterator<Item = Right> {
        let rule = *self;
        rule.resources.iter().flat_map(move |resource| {
            let (resource, part) = match resource.split_once('/') {
                Some((resource, part)) => (resource, Some(part)),
                None => (*resource, None),
            };
            rule.verbs.iter().map(move |verb| Right {
                group: rule.group,
                resource,
                part,
                verb,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct ChartRule {
        api_groups: Vec<String>,
        resources: Vec<String>,
        verbs: Vec<String>,
    }

    /// The rules stand in one definition of the chart, which holds plain YAML.
    #[test]
    fn they_are_the_rules_of_the_chart() {
        let helpers = include_str!("../../../charts/honeygraph/templates/_helpers.tpl");
        let (_, after) = helpers
            .split_once(r#"{{- define "honeygraph.rules" -}}"#)
            .expect("the definition");
        let (rules, _) = after.split_once("{{- end }}").expect("its end");
        let rules: Vec<ChartRule> = serde_saphyr::from_str(rules).expect("YAML");
        let of_chart: BTreeSet<_> = rules
            .iter()
            .filter(|rule| {
                !["gateway.networking.k8s.io", "monitoring.coreos.com"].contains(&rule.api_groups[0].as_str())
            })
            .flat_map(|rule| {
                rule.resources.iter().flat_map(move |resource| {
                    let group = rule.api_groups[0].as_str();
                    let name = if group.is_empty() {
                        resource.clone()
                    } else {
                        format!("{resource}.{group}")
                    };
                    rule.verbs.iter().map(move |verb| format!("{verb} {name}"))
                })
            })
            .collect();
        let ours: BTreeSet<_> = RIGHTS
            .iter()
            .flat_map(Rule::rights)
            .map(|right| right.to_string())
            .collect();
        assert_eq!(ours, of_chart);
    }
}
