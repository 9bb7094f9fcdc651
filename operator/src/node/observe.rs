//! What the agents of a node say of themselves, and what keeps their pods from running.

use std::net::IpAddr;

use futures_util::StreamExt;
use futures_util::stream;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use secrecy::SecretString;
use url::Url;

use super::apply::is_ready;
use super::build::agents::ADMIN_PORT;
use super::live::{Live, named};
use crate::agent::{AgentClient, AgentError, AgentStatus};
use crate::names::{Member, NodeIdentity};

/// Agents of one node that are asked at once.
const CONCURRENT: usize = 8;
/// Reasons for which a container waits until somebody changes something.
const NEEDS_A_PERSON: [&str; 6] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
];

/// An agent as one reconcile found it.
#[derive(Debug, Clone, PartialEq)]
pub struct ObservedAgent {
    /// Name of its `StatefulSet`.
    pub name: String,
    /// Whether its pod is ready.
    pub ready: bool,
    /// What it says; none where it has no pod that could be asked.
    pub answer: Option<Result<AgentStatus, AgentError>>,
}

/// A pod that does not run, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// Name of the pod.
    pub pod: String,
    /// One word for programs.
    pub reason: String,
    /// What Kubernetes says of it.
    pub message: String,
    /// Whether it stays so until somebody changes something.
    pub needs_a_person: bool,
}

/// Asks all agents of a node where they stand.
pub async fn agents(
    client: &AgentClient,
    identity: &NodeIdentity,
    members: &[Member],
    live: &Live,
    tokens: &[SecretString],
) -> Vec<ObservedAgent> {
    let asked: Vec<_> = members
        .iter()
        .map(|member| {
            let name = identity.member_name(*member);
            let ready = named(&live.stateful_sets, &name).is_some_and(is_ready);
            let address = named(&live.pods, &identity.pod_name(*member)).and_then(admin_url);
            observe(client.clone(), name, ready, address, tokens.to_vec())
        })
        .collect();
    stream::iter(asked).buffered(CONCURRENT).collect().await
}

async fn observe(
    client: AgentClient,
    name: String,
    ready: bool,
    address: Option<Url>,
    tokens: Vec<SecretString>,
) -> ObservedAgent {
    let answer = match address {
        Some(address) => Some(ask(&client, &address, &tokens).await),
        None => None,
    };
    ObservedAgent { name, ready, answer }
}

/// Asks with the present token, then with the former: an agent may not have been restarted for the present yet.
async fn ask(
    client: &AgentClient,
    address: &Url,
    tokens: &[SecretString],
) -> Result<AgentStatus, AgentError> {
    let mut answer = Err(AgentError::Unauthorized);
    for token in tokens {
        answer = client.status(address, token).await;
        if answer != Err(AgentError::Unauthorized) {
            break;
        }
    }
    answer
}

/// The address of a pod, which needs no name server and leads to this pod alone.
fn admin_url(pod: &Pod) -> Option<Url> {
    let status = pod.status.as_ref()?;
    let address: IpAddr = status.pod_ip.as_ref()?.parse().ok()?;
    let host = match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    Url::parse(&format!("http://{host}:{ADMIN_PORT}/")).ok()
}

/// What keeps pods of a node from running.
pub fn obstacles(live: &Live) -> Vec<Obstacle> {
    live.pods.iter().filter_map(obstacle).collect()
}

fn obstacle(pod: &Pod) -> Option<Obstacle> {
    let status = pod.status.as_ref()?;
    let name = pod.metadata.name.clone().unwrap_or_default();
    let scheduling = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    if let Some(condition) = scheduling {
        return Some(Obstacle {
            pod: name,
            reason: condition
                .reason
                .clone()
                .unwrap_or_else(|| "Unschedulable".to_owned()),
            message: condition.message.clone().unwrap_or_default(),
            // Machines come and volumes are bound without anybody touching the node.
            needs_a_person: false,
        });
    }
    status.container_statuses.iter().flatten().find_map(|container| {
        let (reason, message) = waiting(container)?;
        Some(Obstacle {
            pod: name.clone(),
            needs_a_person: NEEDS_A_PERSON.contains(&reason.as_str()),
            reason,
            message,
        })
    })
}

/// Why a container waits; with the end of the last run, where it keeps ending.
fn waiting(container: &ContainerStatus) -> Option<(String, String)> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.clone()?;
    if matches!(reason.as_str(), "ContainerCreating" | "PodInitializing") {
        return None;
    }
    let mut message = waiting.message.clone().unwrap_or_default();
    let last = container
        .last_state
        .as_ref()
        .and_then(|state| state.terminated.as_ref());
    if let Some(last) = last {
        message = format!("{message} (it last ended with code {})", last.exit_code);
    }
    Some((reason, message))
}
