//! Checks of each node: conditions, pods, claims, Dgraph, agents and their clocks.

use honeygraph_crds::DgraphMode;
use k8s_openapi::api::core::v1::{ContainerStatus, PersistentVolumeClaim, Pod};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::installation::unseen;
use super::{AgentFindings, Check, Findings, NodeFindings, Section};
use crate::advice;
use crate::sight::{AgentFault, namespace, only_objects};
use crate::status::{Severity, bad_conditions};
use crate::text::{count, counted, harmless};

/// Seconds that a clock may be off: answers say whole seconds, and the way to an agent takes time.
const CLOCK_GOOD_SECONDS: u64 = 5;
/// Seconds from which on ages, certificates and leases go wrong.
const CLOCK_BAD_SECONDS: u64 = 60;
/// A restart is worth a line for so long.
const RECENT: SignedDuration = SignedDuration::from_hours(1);
/// Blocks that a Dgraph may be behind.
const DGRAPH_LAG_BLOCKS: u64 = 200;

/// A section for each node.
pub(super) fn sections(findings: &Findings) -> Vec<Section> {
    let nodes = match &findings.nodes {
        Ok(nodes) => nodes,
        Err(reason) => {
            return vec![Section {
                title: "nodes".to_owned(),
                checks: vec![unseen("nodes", reason)],
            }];
        }
    };
    let mut sections: Vec<_> = nodes.iter().map(|node| section(node, findings.now)).collect();
    if nodes.is_empty() && findings.not_understood.is_empty() {
        sections.push(Section {
            title: "nodes".to_owned(),
            checks: vec![Check::warning(
                format!("there is no HoneygraphNode {}", findings.place),
                "-A looks everywhere; docs/operator.md shows how to make one",
            )],
        });
    }
    if !findings.not_understood.is_empty() {
        sections.push(Section {
            title: "nodes".to_owned(),
            checks: vec![Check::failed(
                format!("not understood: {}", findings.not_understood.join(", ")),
                "use the kubectl-honeygraph of the operator's release",
            )],
        });
    }
    sections
}

fn section(found: &NodeFindings, now: Timestamp) -> Section {
    let mut checks = conditions(found);
    checks.extend(pods(found, now));
    checks.extend(claims(found));
    if only_objects(found.agents.iter().map(|agent| &agent.sight)) {
        checks.push(Check::warning(
            "agents: cannot be asked, you may not forward ports to pods",
            "ask somebody who may, or for get and create on pods/portforward",
        ));
    } else {
        checks.extend(found.agents.iter().flat_map(|agent| of_agent(agent, found)));
    }
    for check in &mut checks {
        check.what = harmless(&check.what);
    }
    Section {
        title: format!("node {}/{}", namespace(&found.node), found.node.name_any()),
        checks,
    }
}

fn conditions(found: &NodeFindings) -> Vec<Check> {
    let node = &found.node;
    let Some(status) = &node.status else {
        return vec![Check::failed(
            "the operator has not looked at it yet",
            "see the section operator above",
        )];
    };
    let mut checks: Vec<_> = bad_conditions(node)
        .into_iter()
        .map(|bad| {
            let hint = advice::for_reason(node, bad.reason);
            match bad.severity {
                Severity::Failed => Check::failed(bad.what, hint),
                Severity::Warning => Check::warning(bad.what, hint),
            }
        })
        .collect();
    if node.spec.suspend {
        checks.push(Check::warning(
            "spec.suspend is set: nothing is reconciled",
            advice::for_reason(node, "Suspended"),
        ));
    }
    if status.observed_generation != node.metadata.generation {
        checks.push(Check::warning(
            "the operator has not looked at the newest spec yet",
            "wait a moment; else see the section operator above",
        ));
    }
    if checks.is_empty() {
        let held: Vec<_> = status
            .conditions
            .iter()
            .filter(|condition| condition.status == "True")
            .map(|condition| condition.type_.as_str())
            .collect();
        checks.push(Check::ok(format!("conditions: {}", held.join(", "))));
    }
    checks
}

fn pods(found: &NodeFindings, now: Timestamp) -> Vec<Check> {
    let pods = match &found.pods {
        Ok(pods) => pods,
        Err(reason) => return vec![unseen("pods", reason)],
    };
    let describe = |pod: &str| format!("kubectl -n {} describe pod {pod}", namespace(&found.node));
    let mut checks: Vec<_> = pods
        .iter()
        .filter(|pod| !is_ready(pod))
        .map(|pod| {
            let name = pod.name_any();
            Check::failed(
                format!("pod {name} is not ready: {}", why_not(pod)),
                describe(&name),
            )
        })
        .collect();
    checks.extend(
        pods.iter()
            .filter_map(|pod| restarted(pod, now))
            .map(|(pod, what)| {
                let hint = format!(
                    "see why it ended: kubectl -n {} logs {pod} --previous",
                    namespace(&found.node)
                );
                Check::warning(what, hint)
            }),
    );
    let wanted = usize::try_from(found.node.spec.agent.replicas).unwrap_or_default();
    let agents = pods.iter().filter(|pod| is_agent(pod)).count();
    if agents < wanted {
        checks.push(Check::failed(
            format!("{agents} of {} exist", counted(wanted as u64, "agent pod")),
            advice::for_reason(&found.node, ""),
        ));
    }
    if checks.is_empty() {
        checks.push(Check::ok(format!("pods: {0} of {0} ready", pods.len())));
    }
    checks
}

fn is_agent(pod: &Pod) -> bool {
    pod.labels()
        .get("app.kubernetes.io/component")
        .map(String::as_str)
        == Some("agent")
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn why_not(pod: &Pod) -> String {
    let Some(status) = &pod.status else {
        return "no machine was chosen yet".to_owned();
    };
    let waiting = status.container_statuses.iter().flatten().find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.as_deref()?;
        Some(match waiting.message.as_deref() {
            Some(message) => format!("{reason}: {message}"),
            None => reason.to_owned(),
        })
    });
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
        .and_then(|condition| condition.message.clone());
    waiting
        .or(unscheduled)
        .unwrap_or_else(|| status.phase.clone().unwrap_or_else(|| "no phase".to_owned()))
}

/// A pod that was started again of late, with what ended it.
fn restarted(pod: &Pod, now: Timestamp) -> Option<(String, String)> {
    let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
    let (container, ended) = containers
        .iter()
        .find_map(|container| Some((container, ended(container)?)))?;
    let finished = ended.finished_at.as_ref()?.0;
    if now.duration_since(finished) > RECENT {
        return None;
    }
    let name = pod.name_any();
    let reason = ended.reason.as_deref().unwrap_or("ended");
    let what = format!(
        "pod {name} was started again {} ago, {} in all: {reason}, code {}",
        crate::text::age(finished, now),
        counted(
            u64::try_from(container.restart_count).unwrap_or_default(),
            "restart"
        ),
        ended.exit_code
    );
    Some((name, what))
}

fn ended(container: &ContainerStatus) -> Option<&k8s_openapi::api::core::v1::ContainerStateTerminated> {
    container.last_state.as_ref()?.terminated.as_ref()
}

fn claims(found: &NodeFindings) -> Vec<Check> {
    let claims = match &found.claims {
        Ok(claims) => claims,
        Err(reason) => return vec![unseen("claims", reason)],
    };
    let mut checks: Vec<_> = claims
        .iter()
        .filter_map(|claim| {
            let what = claim_problem(claim)?;
            let name = claim.name_any();
            let hint = format!("kubectl -n {} describe pvc {name}", namespace(&found.node));
            Some(Check::failed(format!("claim {name} {what}"), hint))
        })
        .collect();
    if checks.is_empty() {
        checks.push(Check::ok(format!("claims: {0} of {0} bound", claims.len())));
    }
    checks
}

fn claim_problem(claim: &PersistentVolumeClaim) -> Option<String> {
    let status = claim.status.as_ref();
    let phase = status
        .and_then(|status| status.phase.as_deref())
        .unwrap_or("Pending");
    if phase != "Bound" {
        return Some(format!("is {phase}: has it a storage class, and room?"));
    }
    let conditions = status
        .into_iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .find(|condition| condition.type_.ends_with("ResizeError") && condition.status == "True")
        .map(|condition| {
            let message = condition.message.as_deref().unwrap_or_default();
            format!("does not grow: {message}")
        })
}

fn of_agent(agent: &AgentFindings, found: &NodeFindings) -> Vec<Check> {
    let name = &agent.sight.name;
    let sync = match &agent.sight.answer {
        Ok(sync) => sync,
        Err(fault @ AgentFault::Forbidden) => {
            return vec![Check::warning(
                format!("{name}: {fault}"),
                "ask for get and create on pods/portforward",
            )];
        }
        Err(fault) => {
            return vec![Check::failed(
                format!("{name}: {fault}"),
                advice::for_reason(&found.node, "NoAnswer"),
            )];
        }
    };
    let mut checks = Vec::new();
    if found.node.spec.dgraph.mode != DgraphMode::Embedded {
        checks.push(match &sync.dgraph {
            None => Check::failed(
                format!("{name}: writes no Dgraph, though the spec wants one"),
                advice::for_reason(&found.node, "WaitingForDgraph"),
            ),
            Some(dgraph) => match (dgraph.mismatch, dgraph.applied_block) {
                (Some(mismatch), _) => Check::failed(
                    format!(
                        "{name}: Dgraph contradicts the log at block {}",
                        count(mismatch.block)
                    ),
                    advice::for_reason(&found.node, "DgraphMismatch"),
                ),
                (None, _) if !dgraph.connected => Check::failed(
                    format!(
                        "{name}: Dgraph does not answer ({})",
                        dgraph.last_error.as_deref().unwrap_or("no reason is known")
                    ),
                    advice::for_reason(&found.node, "WaitingForDgraph"),
                ),
                (None, None) => Check::warning(
                    format!("{name}: Dgraph holds no block yet"),
                    advice::for_reason(&found.node, "WaitingForDgraph"),
                ),
                (None, Some(block)) => {
                    let lag = dgraph.lag_blocks.unwrap_or_default();
                    let what = format!(
                        "{name}: Dgraph holds all up to block {}, {} behind",
                        count(block),
                        counted(lag, "block")
                    );
                    if lag > DGRAPH_LAG_BLOCKS {
                        Check::warning(what, "docs/runbooks.md: Dgraph lags")
                    } else {
                        Check::ok(what)
                    }
                }
            },
        });
    }
    checks.push(clock(name, agent.ahead));
    checks
}

fn clock(agent: &str, ahead: Option<SignedDuration>) -> Check {
    let Some(ahead) = ahead else {
        return Check::warning(
            format!("{agent}: says no time"),
            "it is of an older version: upgrade spec.agent.image",
        );
    };
    let seconds = ahead.as_secs();
    let off = seconds.unsigned_abs();
    let direction = if seconds < 0 { "behind" } else { "ahead of" };
    let what = format!("{agent}: its clock is {off} s {direction} the API server's");
    let hint = "have the time of its machine set by NTP (chrony, systemd-timesyncd)";
    if off <= CLOCK_GOOD_SECONDS {
        Check::ok(format!("{agent}: answers, its clock is right"))
    } else if off <= CLOCK_BAD_SECONDS {
        Check::warning(what, hint)
    } else {
        Check::failed(what, hint)
    }
}
