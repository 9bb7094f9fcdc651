//! An API server that knows the three nodes of `tests/data`, and forwards ports to agents that answer as told there.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::{SinkExt, StreamExt};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const PORT: u16 = 3030;
/// The key that the agents of `america` want.
pub(crate) const KEY: &str = "a-key-of-the-test";

/// What differs from a cluster where everybody may do everything.
#[derive(Debug, Clone, Default)]
pub(crate) struct Behaviour {
    /// Answers 403 to what has one of these in its path.
    pub(crate) forbidden: Vec<&'static str>,
    /// Answers 404 to what has one of these in its path.
    pub(crate) absent: Vec<&'static str>,
    /// What else is odd.
    pub(crate) odd: Vec<Oddity>,
}

/// Something that a stand-in does beside what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Oddity {
    /// It knows nobody.
    KnowsNobody,
    /// The agent of `america`, which wants a key, misses blocks.
    AmericaMisses,
    /// Agents are never done with filling gaps.
    FillsForEver,
    /// It lists a node that nobody understands.
    LaterNode,
}

impl Behaviour {
    fn is(&self, oddity: Oddity) -> bool {
        self.odd.contains(&oddity)
    }
}

/// A running stand-in.
pub(crate) struct StandIn {
    kubeconfig: NamedTempFile,
    server: JoinHandle<()>,
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl StandIn {
    pub(crate) async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let router = Router::new().fallback(answer).with_state(Arc::new(behaviour));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.expect("a server") });
        let kubeconfig = NamedTempFile::new().expect("a file");
        let content = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "test", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "current-context": "test",
        });
        std::fs::write(kubeconfig.path(), content.to_string()).expect("written");
        Self { kubeconfig, server }
    }

    /// Runs the program against it.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ran {
        run(&[
            &["--kubeconfig", &self.kubeconfig.path().display().to_string()],
            arguments,
        ]
        .concat())
        .await
    }
}

/// Runs the program.
pub(crate) async fn run(arguments: &[&str]) -> Ran {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_kubectl-honeygraph"))
        .args(arguments)
        .env_remove("KUBECONFIG")
        .env_remove("HTTP_PROXY")
        .env_remove("HTTPS_PROXY")
        .env("HOME", "/nonexistent")
        .output()
        .await
        .expect("it runs");
    Ran::new(&output)
}

/// What the program printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    fn new(output: &Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Asserts the exit code, and that all these words were printed.
    #[track_caller]
    pub(crate) fn says(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:#?}");
        for word in words {
            let said = self.stdout.contains(word) || self.stderr.contains(word);
            assert!(said, "nothing says `{word}`: {self:#?}");
        }
        assert!(
            !self.stdout.contains('\u{1b}'),
            "colours, and no terminal: {self:#?}"
        );
    }
}

/// A file of `tests/data`.
fn data(file: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(file);
    serde_saphyr::from_str(&std::fs::read_to_string(path).expect("the file")).expect("YAML")
}

fn refusal(code: StatusCode, message: &str) -> Response {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Other",
        "message": message, "code": code.as_u16(),
    });
    (code, Json(status)).into_response()
}

fn list(kind: &str, items: &Value) -> Response {
    let list =
        json!({"apiVersion": "v1", "kind": kind, "metadata": {"resourceVersion": "1"}, "items": items});
    Json(list).into_response()
}

/// Name of the node in `?labelSelector=honeygraph.io/node=NAME,...`.
fn node_of(query: &str) -> &str {
    let (_, after) = query.split_once("node%3D").unwrap_or_default();
    after.split('%').next().unwrap_or_default()
}

async fn answer(State(behaviour): State<Arc<Behaviour>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let is_in = |parts: &[&str]| parts.iter().any(|part| path.contains(part));
    if behaviour.is(Oddity::KnowsNobody) {
        return refusal(StatusCode::UNAUTHORIZED, "Unauthorized");
    }
    if is_in(&behaviour.forbidden) {
        return refusal(StatusCode::FORBIDDEN, "not for you");
    }
    if is_in(&behaviour.absent) {
        return refusal(StatusCode::NOT_FOUND, "not here");
    }
    let parts: Vec<_> = path.trim_matches('/').split('/').collect();
    match parts.as_slice() {
        ["version"] => Json(json!({
            "major": "1", "minor": "34", "gitVersion": "v1.34.2", "buildDate": "", "compiler": "",
            "gitCommit": "", "gitTreeState": "", "goVersion": "", "platform": "",
        }))
        .into_response(),
        [.., "honeygraphnodes"] => {
            let mut nodes = data("nodes.yaml");
            if behaviour.is(Oddity::LaterNode)
                && let Some(nodes) = nodes.as_array_mut()
            {
                nodes.push(json!({
                    "apiVersion": "honeygraph.io/v1alpha1", "kind": "HoneygraphNode",
                    "metadata": {"name": "later", "namespace": "default"},
                    "spec": {"networks": ["a", "b"]},
                }));
            }
            list("HoneygraphNodeList", &nodes)
        }
        [.., "checkpoints"] => list("CheckpointList", &json!([])),
        [.., "customresourcedefinitions", name] => {
            let definitions = honeygraph_crds::definitions();
            let found = definitions
                .into_iter()
                .find(|found| found.metadata.name.as_deref() == Some(*name));
            Json(found.expect("a definition of ours")).into_response()
        }
        [.., "deployments"] => list(
            "DeploymentList",
            &json!([data("installation.yaml")["deployment"]]),
        ),
        [.., "leases", _] => {
            let mut lease = data("installation.yaml")["lease"].clone();
            let now = k8s_openapi::jiff::Timestamp::now();
            lease["spec"]["renewTime"] = json!(format!("{now:.6}"));
            Json(lease).into_response()
        }
        [.., "subjectaccessreviews"] => {
            let body = axum::body::to_bytes(request.into_body(), 1 << 20)
                .await
                .expect("a body");
            let mut review: Value = serde_json::from_slice(&body).expect("a review");
            let user = &review["spec"]["user"];
            assert_eq!(
                user,
                "system:serviceaccount:honeygraph-system:honeygraph-operator"
            );
            review["status"] =
                json!({"allowed": review["spec"]["resourceAttributes"]["resource"] != "secrets"});
            Json(review).into_response()
        }
        [.., "pods"] => list("PodList", &data("installation.yaml")["pods"][node_of(&query)]),
        [.., "persistentvolumeclaims"] => list("List", &data("installation.yaml")["claims"][node_of(&query)]),
        [.., "secrets", name] => {
            use k8s_openapi::ByteString;
            let keys = ByteString(format!("# keys\n{KEY}\n").into_bytes());
            Json(json!({"metadata": {"name": name}, "data": {"keys": keys}})).into_response()
        }
        [.., "pods", pod, "log"] => {
            assert!(query.contains("container=agent"), "{query}");
            match *pod {
                "asia-agent-1-0" => {
                    refusal(StatusCode::BAD_REQUEST, "container \"agent\" is waiting to start")
                }
                _ => format!("{{\"pod\":\"{pod}\"}}\n\u{1b}[31mred\nno end").into_response(),
            }
        }
        [.., "pods", pod, "portforward"] => forward((*pod).to_owned(), behaviour, request).await,
        _ => refusal(
            StatusCode::NOT_FOUND,
            &format!("the stand-in does not know {path}"),
        ),
    }
}

/// What the API server does with a port of a pod: bytes in frames of a WebSocket, channel 0 for data and 1 for errors.
async fn forward(pod: String, behaviour: Arc<Behaviour>, request: Request) -> Response {
    match pod.as_str() {
        "europe-agent-0-0" => {
            return refusal(
                StatusCode::BAD_REQUEST,
                "unable to forward port because pod is not running",
            );
        }
        "asia-agent-9-0" => return refusal(StatusCode::NOT_FOUND, "no such pod"),
        _ => {}
    }
    let (mut parts, _) = request.into_parts();
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &())
        .await
        .expect("an upgrade");
    upgrade
        .protocols(["v4.channel.k8s.io"])
        .on_upgrade(move |socket| serve(socket, pod, behaviour))
}

async fn serve(socket: WebSocket, pod: String, behaviour: Arc<Behaviour>) {
    let (mut out, mut into) = socket.split();
    let frame = |channel: u8, bytes: &[u8]| Message::binary([&[channel], bytes].concat());
    for channel in [0, 1] {
        out.send(frame(channel, &PORT.to_le_bytes())).await.expect("sent");
    }
    let agent = pod.strip_suffix("-0").expect("a pod of an agent").to_owned();
    if agent == "asia-agent-1" {
        let error = "error forwarding port 3030 to pod 5d1, uid : failed to execute: dial tcp4 127.0.0.1:3030: connect: \
                     connection refused";
        out.send(frame(1, error.as_bytes())).await.expect("sent");
        // The caller goes when it has read it.
        while let Some(Ok(_)) = into.next().await {}
        return;
    }
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let service = TowerToHyperService::new(agent_router(&agent, &behaviour));
    tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(theirs), service));
    let (mut read, mut write) = tokio::io::split(ours);
    let mut buffer = vec![0; 4096];
    loop {
        tokio::select! {
            message = into.next() => match message {
                Some(Ok(Message::Binary(bytes))) => write.write_all(&bytes[1..]).await.expect("written"),
                _ => return,
            },
            count = read.read(&mut buffer) => match count {
                Ok(count) if count > 0 => {
                    // The caller may have gone.
                    let _ = out.send(frame(0, &buffer[..count])).await;
                }
                _ => return,
            },
        }
    }
}

/// An agent as one sees it through its loopback.
fn agent_router(agent: &str, behaviour: &Behaviour) -> Router {
    let lacks = if behaviour.is(Oddity::AmericaMisses) {
        "asia-agent-0"
    } else {
        agent
    };
    let status = data("agents.yaml")[agent].clone();
    let gaps = data("gaps.yaml")[lacks].clone();
    let for_ever = behaviour.is(Oddity::FillsForEver);
    let wants_key = agent.starts_with("america");
    let filled = BTreeMap::from([("america-agent-0", 1_704)]);
    Router::new()
        .route("/api/sync/status", get(async move || Json(status)))
        .route("/api/sync/gaps", get(async move || Json(gaps)))
        .route(
            "/api/sync/sync-gaps",
            post(
                async move |method: Method, headers: HeaderMap, Json(body): Json<Value>| {
                    assert_eq!(method, Method::POST);
                    let bearer = headers
                        .get("authorization")
                        .map(|value| value.to_str().expect("text").to_owned());
                    if wants_key && bearer != Some(format!("Bearer {KEY}")) {
                        return (
                            StatusCode::UNAUTHORIZED,
                            Json(json!({"error": "a key is needed"})),
                        )
                            .into_response();
                    }
                    if for_ever {
                        std::future::pending::<()>().await;
                    }
                    let gaps = body["gaps"].as_array().expect("gaps").len();
                    Json(json!({
                    "success": true,
                    "results": {"totalGaps": gaps, "syncedBlocks": 1704, "failedBlocks": 0, "peers": filled},
                }))
                .into_response()
                },
            ),
        )
}
