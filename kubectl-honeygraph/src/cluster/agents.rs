//! Calls of agents, through the API server.
//!
//! A call goes to port 3030 of the pod by port-forwarding, not by the API server's HTTP proxy: that one keeps the
//! `Authorization` header for itself and adds others, so that an agent without API keys, which takes calls that change
//! something from its own loopback alone, would refuse them. A forwarded connection is one of loopback, whatever
//! network policies say. Both want a right that `view` does not have.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use honeygraph_crds::HoneygraphNode;
use honeygraph_operator::agent::SyncStatus;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Api;
use kube::client::UpgradeConnectionError;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};

use super::error::root_cause;
use super::{Cluster, clock};
use crate::gaps::Gaps;
use crate::sight::{AgentFault, AgentSight, NodeSight, agent_names, namespace, pod_of};
use crate::sync::{Outcome, SyncAnswer, SyncRequest, SyncResults};

/// Port of the public API.
const PUBLIC_PORT: u16 = 3030;
/// Longest wait for an answer that only reads: an agent answers from memory.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Agents that are asked at once.
const CONCURRENT: usize = 8;
/// Largest answer that is read: 10,000 gaps have under 1 MB.
const MAX_ANSWER_BYTES: usize = 4 << 20;
/// Longest error of an agent that is shown.
const MAX_ERROR_BYTES: usize = 300;

/// An answer, and what it tells of the agent's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentAnswer<T> {
    /// What it says.
    pub body: T,
    /// How far its clock is at least ahead of ours.
    pub ahead: Option<SignedDuration>,
}

/// What is asked of an agent.
struct Call<'a> {
    method: Method,
    path: &'a str,
    body: Bytes,
    key: Option<&'a SecretString>,
    time_limit: Duration,
}

impl<'a> Call<'a> {
    fn get(path: &'a str) -> Self {
        Self {
            method: Method::GET,
            path,
            body: Bytes::new(),
            key: None,
            time_limit: TIMEOUT,
        }
    }
}

impl Cluster {
    /// What the agents of nodes say of themselves.
    pub async fn sights(&self, nodes: Vec<HoneygraphNode>) -> Vec<NodeSight> {
        let asked = nodes.into_iter().map(|node| async {
            let agents = self.of_each_agent(&node, |pod, namespace| async move {
                let answer = self
                    .ask::<SyncStatus>(&namespace, &pod, Call::get("/api/sync/status"))
                    .await;
                answer.map(|answer| answer.body)
            });
            NodeSight {
                agents: agents.await,
                node,
            }
        });
        stream::iter(asked).buffered(CONCURRENT).collect().await
    }

    /// What the agents of a node say of themselves, with how far their clocks are off.
    pub(super) async fn dated_sights(
        &self,
        node: &HoneygraphNode,
    ) -> Vec<AgentSight<AgentAnswer<SyncStatus>>> {
        self.of_each_agent(node, |pod, namespace| async move {
            self.ask(&namespace, &pod, Call::get("/api/sync/status")).await
        })
        .await
    }

    /// What the agents of a node miss, from a block to a block.
    pub async fn gaps(
        &self,
        node: &HoneygraphNode,
        from: Option<u64>,
        to: Option<u64>,
    ) -> Vec<AgentSight<Gaps>> {
        let bounds: Vec<_> = [("from", from), ("to", to)]
            .into_iter()
            .filter_map(|(name, block)| Some(format!("{name}={}", block?)))
            .collect();
        let path = format!("/api/sync/gaps?{}", bounds.join("&"));
        let path = path.trim_end_matches('?');
        self.of_each_agent(node, |pod, namespace| async move {
            let answer = self.ask(&namespace, &pod, Call::get(path)).await;
            answer.map(|answer| answer.body)
        })
        .await
    }

    /// Has every agent of a node fill its gaps, and waits for it so long.
    pub async fn fill_gaps(
        &self,
        node: &HoneygraphNode,
        key: Option<&SecretString>,
        wait: Duration,
    ) -> Vec<AgentSight<Outcome>> {
        self.of_each_agent(node, |pod, namespace| async move {
            self.fill_gaps_of(&namespace, &pod, key, wait).await
        })
        .await
    }

    async fn fill_gaps_of(
        &self,
        namespace: &str,
        pod: &str,
        key: Option<&SecretString>,
        wait: Duration,
    ) -> Result<Outcome, AgentFault> {
        let gaps: AgentAnswer<Gaps> = self.ask(namespace, pod, Call::get("/api/sync/gaps")).await?;
        let gaps = gaps.body;
        if gaps.gaps.is_empty() {
            return Ok(Outcome::NoGaps);
        }
        let missing = gaps.total_missing;
        let request = SyncRequest { gaps: gaps.gaps };
        let body = serde_json::to_vec(&request).map_err(|error| AgentFault::Unreadable {
            reason: error.to_string(),
        })?;
        let call = Call {
            method: Method::POST,
            path: "/api/sync/sync-gaps",
            body: body.into(),
            key,
            time_limit: wait,
        };
        let answer: SyncAnswer = match self.ask(namespace, pod, call).await {
            Ok(answer) => answer.body,
            Err(AgentFault::Unreachable { reason }) if reason == TIMED_OUT => {
                return Ok(Outcome::StillFilling { missing });
            }
            Err(fault) => return Err(fault),
        };
        match (answer.success, answer.reason.as_deref()) {
            (true, _) => Ok(Outcome::Filled(answer.results.unwrap_or_default())),
            (false, Some("sync_in_progress")) => Ok(Outcome::InProgress),
            (false, reason) => Ok(Outcome::Filled(SyncResults {
                failed_blocks: missing,
                ..answer.results.unwrap_or_default()
            }))
            .and_then(|outcome| match reason {
                None => Ok(outcome),
                Some(reason) => Err(AgentFault::Refused {
                    status: 200,
                    reason: reason.to_owned(),
                }),
            }),
        }
    }

    /// Asks every agent that a node's spec wants.
    async fn of_each_agent<T, F>(
        &self,
        node: &HoneygraphNode,
        ask: impl Fn(String, String) -> F,
    ) -> Vec<AgentSight<T>>
    where
        F: Future<Output = Result<T, AgentFault>>,
    {
        let asked: Vec<_> = agent_names(node)
            .into_iter()
            .map(|name| {
                let answer = ask(pod_of(&name), namespace(node));
                async {
                    AgentSight {
                        name,
                        answer: answer.await,
                    }
                }
            })
            .collect();
        stream::iter(asked).buffered(CONCURRENT).collect().await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        namespace: &str,
        pod: &str,
        call: Call<'_>,
    ) -> Result<AgentAnswer<T>, AgentFault> {
        let time_limit = call.time_limit;
        match tokio::time::timeout(time_limit, self.exchange(namespace, pod, call)).await {
            Ok(answer) => answer,
            Err(_) => Err(AgentFault::Unreachable {
                reason: TIMED_OUT.to_owned(),
            }),
        }
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        namespace: &str,
        pod: &str,
        call: Call<'_>,
    ) -> Result<AgentAnswer<T>, AgentFault> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let mut forwarder = pods
            .portforward(pod, &[PUBLIC_PORT])
            .await
            .map_err(|error| not_forwarded(&error, pod))?;
        let (Some(stream), Some(error)) = (
            forwarder.take_stream(PUBLIC_PORT),
            forwarder.take_error(PUBLIC_PORT),
        ) else {
            return Err(unreachable("the port was not forwarded"));
        };
        let answer = tokio::select! {
            answer = over(stream, call) => answer,
            Some(error) = error => Err(unreachable(refusal_of_the_machine(&error))),
        };
        forwarder.abort();
        answer
    }
}

const TIMED_OUT: &str = "timed out";

/// One HTTP exchange over a connection.
async fn over<T: DeserializeOwned>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    call: Call<'_>,
) -> Result<AgentAnswer<T>, AgentFault> {
    let mut request = Request::builder()
        .method(call.method)
        .uri(call.path)
        .header(HOST, "localhost");
    if !call.body.is_empty() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    if let Some(key) = call.key {
        request = request.header(AUTHORIZATION, format!("Bearer {}", key.expose_secret()));
    }
    let request = request
        .body(Full::new(call.body))
        .map_err(|_| unreachable("the API key has characters that no header takes"))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| unreachable(root_cause(&error)))?;
    let connection = tokio::spawn(connection);
    let asked_at = Timestamp::now();
    let answer = sender
        .send_request(request)
        .await
        .map_err(|error| unreachable(root_cause(&error)))?;
    let (parts, body) = answer.into_parts();
    let ahead = clock::ahead(&parts.headers, asked_at, Timestamp::now());
    let body = Limited::new(body, MAX_ANSWER_BYTES)
        .collect()
        .await
        .map_err(|error| {
            if error.is::<LengthLimitError>() {
                AgentFault::Unreadable {
                    reason: format!("more than {MAX_ANSWER_BYTES} bytes"),
                }
            } else {
                unreachable(root_cause(&*error))
            }
        })?;
    connection.abort();
    let body = body.to_bytes();
    if parts.status != StatusCode::OK {
        return Err(refused(parts.status, &body));
    }
    let body = serde_json::from_slice(&body).map_err(|error| AgentFault::Unreadable {
        reason: error.to_string(),
    })?;
    Ok(AgentAnswer { body, ahead })
}

fn unreachable(reason: impl Into<String>) -> AgentFault {
    AgentFault::Unreachable {
        reason: reason.into(),
    }
}

fn not_forwarded(error: &kube::Error, pod: &str) -> AgentFault {
    let status = match error {
        kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(status)) => status.as_u16(),
        kube::Error::Api(status) => status.code,
        _ => 0,
    };
    match status {
        403 => AgentFault::Forbidden,
        404 => AgentFault::NoPod { pod: pod.to_owned() },
        400 | 500 => unreachable(format!("pod {pod} does not run")),
        0 => unreachable(root_cause(error)),
        status => unreachable(format!(
            "the API server does not forward its port, status {status}"
        )),
    }
}

/// What a machine says of a port it cannot connect to is long; its last words are the cause.
fn refusal_of_the_machine(error: &str) -> String {
    let last = error.rsplit(": ").next().unwrap_or(error).trim();
    cut(if last.is_empty() {
        "connection refused"
    } else {
        last
    })
}

fn refused(status: StatusCode, body: &[u8]) -> AgentFault {
    #[derive(Deserialize)]
    struct ErrorAnswer {
        error: String,
    }
    if status == StatusCode::UNAUTHORIZED {
        return AgentFault::KeyWanted;
    }
    let reason = match serde_json::from_slice::<ErrorAnswer>(body) {
        Ok(answer) => answer.error,
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    AgentFault::Refused {
        status: status.as_u16(),
        reason: cut(&reason),
    }
}

fn cut(text: &str) -> String {
    text.get(..text.floor_char_boundary(MAX_ERROR_BYTES))
        .unwrap_or_default()
        .to_owned()
}
