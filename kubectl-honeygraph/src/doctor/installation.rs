//! Checks of what is installed once: Kubernetes, the definitions, the operator.

use honeygraph_crds::{GROUP, VERSION};
use honeygraph_operator::drift::first_difference;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::version::Info;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::{Check, Findings, OperatorFindings, Section, Seen, Unseen};
use crate::text::age;

/// Oldest minor version of Kubernetes 1 that the resources work with.
const OLDEST_MINOR: u32 = 31;
/// Version of this program, which is that of its release.
const OWN_VERSION: &str = env!("CARGO_PKG_VERSION");
const INSTALL: &str =
    "helm upgrade --install honeygraph charts/honeygraph -n honeygraph-system (docs/operator.md)";
/// Rights that are named in a check before the rest is counted.
const NAMED_RIGHTS: usize = 4;

/// The sections about what is installed once.
pub(super) fn sections(findings: &Findings) -> Vec<Section> {
    vec![
        Section {
            title: "cluster".to_owned(),
            checks: vec![kubernetes(&findings.version)],
        },
        Section {
            title: "resources".to_owned(),
            checks: definitions(&findings.definitions),
        },
        Section {
            title: "operator".to_owned(),
            checks: operators(&findings.operators, findings.now),
        },
    ]
}

/// What cannot be looked at is no failure where only a right is missing.
pub(super) fn unseen(about: &str, unseen: &Unseen) -> Check {
    match unseen {
        Unseen::Forbidden(_) => Check::warning(
            format!("{about}: cannot be checked, {unseen}"),
            "ask somebody who may, or for the right to",
        ),
        Unseen::Failed(_) => Check::failed(
            format!("{about}: cannot be checked, {unseen}"),
            "see whether the API server is well: kubectl get --raw '/readyz?verbose'",
        ),
    }
}

fn kubernetes(version: &Seen<Info>) -> Check {
    let version = match version {
        Ok(version) => version,
        Err(reason) => return unseen("Kubernetes", reason),
    };
    // Some vendors write `34+`.
    let digits: String = version.minor.chars().take_while(char::is_ascii_digit).collect();
    let what = format!("the API server answers, Kubernetes {}", version.git_version);
    match digits.parse::<u32>() {
        Ok(minor) if minor < OLDEST_MINOR => Check::failed(
            what,
            format!("update Kubernetes: the resources need 1.{OLDEST_MINOR} or newer"),
        ),
        _ => Check::ok(what),
    }
}

fn definitions(live: &Seen<Vec<CustomResourceDefinition>>) -> Vec<Check> {
    match live {
        Ok(live) => honeygraph_crds::definitions()
            .iter()
            .map(|wanted| definition(wanted, live))
            .collect(),
        Err(reason) => vec![unseen("definitions of honeygraph.io", reason)],
    }
}

fn definition(wanted: &CustomResourceDefinition, live: &[CustomResourceDefinition]) -> Check {
    let name = wanted.name_any();
    let Some(live) = live.iter().find(|live| live.name_any() == name) else {
        return Check::failed(format!("{name} is not installed"), INSTALL);
    };
    let conditions = live
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let refusal = conditions
        .filter(|condition| ["Established", "NamesAccepted"].contains(&condition.type_.as_str()))
        .find(|condition| condition.status != "True");
    if let Some(refusal) = refusal {
        let message = refusal.message.as_deref().unwrap_or_default();
        return Check::failed(
            format!("{name} is not served: {message}"),
            format!("kubectl describe crd {name}"),
        );
    }
    if !live
        .spec
        .versions
        .iter()
        .any(|version| version.name == VERSION && version.served)
    {
        return Check::failed(format!("{name} does not serve {GROUP}/{VERSION}"), INSTALL);
    }
    let spec = |definition: &CustomResourceDefinition| serde_json::to_value(&definition.spec);
    let difference = match (spec(live), spec(wanted)) {
        (Ok(live), Ok(wanted)) => first_difference(&live, &wanted),
        _ => None,
    };
    match difference {
        None => Check::ok(format!("{name} is installed, as of version {OWN_VERSION}")),
        Some(field) => Check::warning(
            format!("{name} is of another version than this program ({OWN_VERSION}): spec.{field} differs"),
            format!("upgrade what is older, this program or the chart: {INSTALL}"),
        ),
    }
}

fn operators(operators: &Seen<Vec<OperatorFindings>>, now: Timestamp) -> Vec<Check> {
    match operators {
        Err(reason) => vec![unseen("operator", reason)],
        Ok(operators) if operators.is_empty() => {
            vec![Check::failed("no operator is installed", INSTALL)]
        }
        Ok(operators) => {
            let mut checks: Vec<_> = operators
                .iter()
                .flat_map(|operator| {
                    [
                        running(&operator.deployment),
                        version(&operator.deployment),
                        leader(operator, now),
                        rights(operator),
                    ]
                })
                .collect();
            let everywhere = operators
                .iter()
                .filter(|operator| variable(&operator.deployment, "WATCH_NAMESPACE").is_none());
            if operators.len() > 1 && everywhere.count() > 0 {
                checks.push(Check::warning(
                    format!(
                        "{} operators are installed, and one of them reconciles all namespaces",
                        operators.len()
                    ),
                    "uninstall all but one, or give each a namespace of its own (watchNamespace)",
                ));
            }
            checks
        }
    }
}

fn name_of(deployment: &Deployment) -> String {
    format!(
        "{}/{}",
        deployment.namespace().unwrap_or_default(),
        deployment.name_any()
    )
}

fn running(deployment: &Deployment) -> Check {
    let name = name_of(deployment);
    let wanted = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1);
    let ready = deployment
        .status
        .as_ref()
        .and_then(|status| status.ready_replicas)
        .unwrap_or(0);
    let what = format!("{name}: {ready} of {wanted} pods ready");
    let namespace = deployment.namespace().unwrap_or_default();
    let see = format!("kubectl -n {namespace} describe pods -l app.kubernetes.io/name=honeygraph-operator");
    if wanted == 0 {
        let scale = format!(
            "kubectl -n {namespace} scale deployment {} --replicas=1",
            deployment.name_any()
        );
        return Check::failed(what, scale);
    }
    match ready {
        0 => Check::failed(what, see),
        _ if ready < wanted => Check::warning(what, see),
        _ => Check::ok(what),
    }
}

fn version(deployment: &Deployment) -> Check {
    let name = name_of(deployment);
    match deployment
        .labels()
        .get("app.kubernetes.io/version")
        .map(String::as_str)
    {
        Some(OWN_VERSION) => Check::ok(format!("{name}: version {OWN_VERSION}, as this program")),
        Some(version) => Check::warning(
            format!("{name}: version {version}, this program is {OWN_VERSION}"),
            "upgrade what is older: this program or the chart",
        ),
        None => Check::warning(
            format!("{name}: says no version"),
            "it was not installed by the chart; compare its image with this program yourself",
        ),
    }
}

fn leader(operator: &OperatorFindings, now: Timestamp) -> Check {
    let name = name_of(&operator.deployment);
    let lease = match &operator.lease {
        Ok(lease) => lease.as_ref().and_then(|lease| lease.spec.as_ref()),
        Err(reason) => return unseen(&format!("{name}: leader"), reason),
    };
    let namespace = operator.deployment.namespace().unwrap_or_default();
    let see = format!(
        "see why none takes over: kubectl -n {namespace} logs deployment/{}",
        operator.deployment.name_any()
    );
    let holder = lease
        .and_then(|lease| lease.holder_identity.as_deref())
        .unwrap_or_default();
    let renewed = lease.and_then(|lease| lease.renew_time.as_ref());
    match (holder, renewed) {
        ("", _) | (_, None) => Check::failed(format!("{name}: none of its pods leads"), see),
        (holder, Some(renewed)) => {
            let seconds = lease.and_then(|lease| lease.lease_duration_seconds).unwrap_or(15);
            let ago = age(renewed.0, now);
            if now.duration_since(renewed.0).as_secs() > i64::from(seconds) * 2 {
                Check::failed(
                    format!("{name}: {holder} led, and was last heard of {ago} ago"),
                    see,
                )
            } else {
                Check::ok(format!("{name}: {holder} leads, heard of {ago} ago"))
            }
        }
    }
}

fn rights(operator: &OperatorFindings) -> Check {
    let name = name_of(&operator.deployment);
    let lacking = match &operator.lacking {
        Ok(lacking) => lacking,
        Err(reason) => return unseen(&format!("{name}: rights"), reason),
    };
    if lacking.is_empty() {
        return Check::ok(format!("{name}: may do all that it has to"));
    }
    let named: Vec<_> = lacking
        .iter()
        .take(NAMED_RIGHTS)
        .map(ToString::to_string)
        .collect();
    let more = match lacking.len().saturating_sub(NAMED_RIGHTS) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Check::failed(
        format!("{name}: its account may not {}{more}", named.join(", ")),
        format!("let the chart make its roles again: {INSTALL}"),
    )
}

/// Value of a variable of the operator's container.
pub(crate) fn variable<'a>(deployment: &'a Deployment, name: &str) -> Option<&'a str> {
    let pod = deployment.spec.as_ref()?.template.spec.as_ref()?;
    let variables = pod
        .containers
        .iter()
        .flat_map(|container| container.env.iter().flatten());
    variables
        .filter(|variable| variable.name == name)
        .find_map(|variable| variable.value.as_deref())
}
