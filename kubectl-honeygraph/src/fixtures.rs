//! What the tests show: three nodes, one well, one that catches up, one that does not come up.

use std::collections::BTreeMap;
use std::path::Path;

use honeygraph_crds::HoneygraphNode;
use honeygraph_operator::agent::SyncStatus;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::jiff::SignedDuration;
use kube::ResourceExt;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::doctor::{AgentFindings, Findings, NodeFindings, OperatorFindings};
use crate::gaps::Gaps;
use crate::sight::{AgentFault, AgentSight, NodeSight, agent_names, pod_of};
use crate::sync::{Outcome, SyncResults};

/// When the tests look.
pub(crate) const NOW: &str = "2026-11-24T12:00:00Z";

fn data<T: DeserializeOwned>(file: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(file);
    let text = std::fs::read_to_string(path).expect("the file");
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// A node without a status.
pub(crate) fn node(name: &str, region: &str) -> HoneygraphNode {
    serde_json::from_value(json!({
        "apiVersion": "honeygraph.io/v1alpha1",
        "kind": "HoneygraphNode",
        "metadata": {"name": name, "namespace": "default", "uid": "1", "generation": 1},
        "spec": {"network": "dlux", "region": region},
    }))
    .expect("a node")
}

/// What an agent of the fixtures answers from a table, or why it does not.
fn answer<T: Clone>(answers: &BTreeMap<String, T>, name: &str) -> Result<T, AgentFault> {
    answers.get(name).cloned().ok_or_else(|| AgentFault::Unreachable {
        reason: if name.starts_with("europe") {
            format!("pod {} does not run", pod_of(name))
        } else {
            "connection refused".to_owned()
        },
    })
}

fn of_agents<T: Clone + DeserializeOwned>(file: &str) -> Vec<AgentSight<T>> {
    let answers: BTreeMap<String, T> = data(file);
    let nodes: Vec<HoneygraphNode> = data("nodes.yaml");
    let names = nodes.iter().flat_map(agent_names);
    names
        .map(|name| AgentSight {
            answer: answer(&answers, &name),
            name,
        })
        .collect()
}

/// The three nodes and what their agents say.
pub(crate) fn sights() -> Vec<NodeSight> {
    let answers: BTreeMap<String, SyncStatus> = data("agents.yaml");
    let nodes: Vec<HoneygraphNode> = data("nodes.yaml");
    nodes
        .into_iter()
        .map(|node| NodeSight {
            agents: agent_names(&node)
                .into_iter()
                .map(|name| AgentSight {
                    answer: answer(&answers, &name),
                    name,
                })
                .collect(),
            node,
        })
        .collect()
}

/// The same for somebody who may not reach pods.
pub(crate) fn sights_of_a_viewer() -> Vec<NodeSight> {
    let mut sights = sights();
    for agent in sights.iter_mut().flat_map(|sight| &mut sight.agents) {
        agent.answer = Err(AgentFault::Forbidden);
    }
    sights
}

/// What the agents miss.
pub(crate) fn gaps_seen() -> Vec<AgentSight<Gaps>> {
    of_agents("gaps.yaml")
}

/// Whom the agents know.
pub(crate) fn peers_seen() -> Vec<AgentSight<SyncStatus>> {
    of_agents("agents.yaml")
}

/// How asking for gaps to be filled may end.
pub(crate) fn synced() -> Vec<AgentSight<Outcome>> {
    let filled = SyncResults {
        total_gaps: 2,
        synced_blocks: 1_704,
        failed_blocks: 0,
        peers: BTreeMap::from([("america-agent-0".to_owned(), 1_004), ("oceania".to_owned(), 700)]),
    };
    let in_part = SyncResults {
        synced_blocks: 1_204,
        failed_blocks: 500,
        ..filled.clone()
    };
    [
        Ok(Outcome::Filled(filled)),
        Ok(Outcome::NoGaps),
        Ok(Outcome::InProgress),
        Ok(Outcome::StillFilling { missing: 9_000 }),
        Ok(Outcome::Filled(in_part)),
        Err(AgentFault::KeyWanted),
        Err(AgentFault::NoPod {
            pod: "asia-agent-6-0".to_owned(),
        }),
    ]
    .into_iter()
    .enumerate()
    .map(|(index, answer)| AgentSight {
        name: format!("asia-agent-{index}"),
        answer,
    })
    .collect()
}

#[derive(Deserialize)]
struct Installation {
    deployment: Deployment,
    lease: Lease,
    pods: BTreeMap<String, Vec<Pod>>,
    claims: BTreeMap<String, Vec<PersistentVolumeClaim>>,
}

/// What `doctor` finds: a good installation, and the three nodes.
pub(crate) fn findings() -> Findings {
    let mut installation: Installation = data("installation.yaml");
    let nodes = sights().into_iter().map(|sight| {
        let name = sight.node.name_any();
        NodeFindings {
            pods: Ok(installation.pods.remove(&name).unwrap_or_default()),
            claims: Ok(installation.claims.remove(&name).unwrap_or_default()),
            agents: sight
                .agents
                .into_iter()
                .map(|agent| AgentFindings {
                    ahead: agent.answer.is_ok().then(|| {
                        let seconds = if agent.name == "asia-agent-0" { -42 } else { 0 };
                        SignedDuration::from_secs(seconds)
                    }),
                    sight: agent,
                })
                .collect(),
            node: sight.node,
        }
    });
    let nodes = nodes.collect();
    Findings {
        now: NOW.parse().expect("a time"),
        place: "in namespace default".to_owned(),
        version: Ok(serde_json::from_value(json!({
            "major": "1", "minor": "34", "gitVersion": "v1.34.2", "buildDate": "", "compiler": "", "gitCommit": "",
            "gitTreeState": "", "goVersion": "", "platform": "",
        }))
        .expect("a version")),
        definitions: Ok(honeygraph_crds::definitions().into()),
        operators: Ok(vec![OperatorFindings {
            deployment: installation.deployment,
            lease: Ok(Some(installation.lease)),
            lacking: Ok(Vec::new()),
        }]),
        nodes: Ok(nodes),
        not_understood: Vec::new(),
    }
}

/// Compares a screen with the committed one; with `UPDATE_DOCS` set, writes it.
pub(crate) fn assert_screen(name: &str, screen: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/screens/{name}.txt"));
    let screen = format!("{screen}\n");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, &screen).expect("the file is writable");
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == screen,
        "{name}.txt differs; run `UPDATE_DOCS=1 cargo test -p kubectl-honeygraph` and look at it:\n{screen}"
    );
}

/// The screens that the documentation shows, with what makes them.
const DOCUMENTED: [(&str, &str); 7] = [
    ("status", "status"),
    ("status america", "status-well"),
    ("gaps", "gaps"),
    ("peers", "peers"),
    ("sync asia", "sync"),
    ("doctor america", "doctor-well"),
    ("doctor", "doctor"),
];

/// With `UPDATE_DOCS` set, screens are written into the page; run it once more where they changed.
#[test]
fn the_documentation_shows_what_the_fixtures_give() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = folder.join("../docs/kubectl-plugin.md");
    let committed = std::fs::read_to_string(&file).expect("the page");
    let mut page = committed.clone();
    for (command, screen) in DOCUMENTED {
        let screen =
            std::fs::read_to_string(folder.join(format!("tests/screens/{screen}.txt"))).expect("a screen");
        let prompt = format!("```\n$ kubectl honeygraph {command}\n");
        let (before, after) = page
            .split_once(&prompt)
            .unwrap_or_else(|| panic!("the page has no {prompt}"));
        let (_, after) = after.split_once("```").expect("the end of the block");
        page = format!("{before}{prompt}{screen}```{after}");
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, &page).expect("the file is writable");
        return;
    }
    assert!(
        page == committed,
        "docs/kubectl-plugin.md differs; run `UPDATE_DOCS=1 cargo test -p kubectl-honeygraph` twice"
    );
}
