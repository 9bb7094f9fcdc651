//! 500 nodes: how fast the operator makes what they need, beside a bare client that applies the same objects; what it
//! writes where nothing is to be done; its memory. `cargo bench -p honeygraph-operator`; `NODES` sets their number.
//!
//! It starts a Kubernetes API of its own (level one of `docs/test-cluster.md`): there are no machines, so no pod runs,
//! and every node stays at waiting for its agent. The operator is a process of its own, as in a pod.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_precision_loss,
    reason = "a benchmark prints rates"
)]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::{TryStreamExt, stream};
use honeygraph_test_cluster::{AuditLog, Cluster, Level, Options};
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde_json::{Value, json};

/// Nodes unless `NODES` says otherwise.
const NODES: usize = 500;
/// What is reconciled, or applied, at once: the operator's own default.
const AT_ONCE: usize = 16;
/// Where the nodes are, and where the bare client applies what was made for them.
const NAMESPACES: [&str; 2] = ["nodes", "bare"];
/// The operator's own.
const OPERATOR_NAMESPACE: &str = "honeygraph-system";
/// Longest wait for all nodes.
const PATIENCE: Duration = Duration::from_mins(10);

/// Kinds of what is made for a node without Dgraph.
const KINDS: [(&str, &str, &str); 8] = [
    ("", "v1", "ServiceAccount"),
    ("", "v1", "Secret"),
    ("", "v1", "ConfigMap"),
    ("", "v1", "Service"),
    ("networking.k8s.io", "v1", "NetworkPolicy"),
    ("policy", "v1", "PodDisruptionBudget"),
    ("", "v1", "PersistentVolumeClaim"),
    ("apps", "v1", "StatefulSet"),
];

fn main() {
    // `cargo test --benches` runs this too, without the argument.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let count = std::env::var("NODES").map_or(NODES, |text| text.parse().expect("NODES is a number"));
    let cluster = Cluster::start_own(Options {
        level: Level::One,
        audit: AuditLog::Mutating,
    })
    .unwrap();
    prepare(&cluster, count);

    let mut operator = Operator::start(&cluster);
    let cold = operator.wait_for(&cluster, count);
    let memory = operator.highest_resident_bytes();
    operator.end();
    println!("{count} nodes without Dgraph, {AT_ONCE} at once\n\n| from cold | |\n|---|---|");
    println!(
        "| the operator | {:.0} nodes/s |",
        count as f64 / cold.as_secs_f64()
    );

    let (objects, bare) = runtime().block_on(apply_bare(&cluster));
    println!(
        "| a bare client, the same {objects} objects | {:.0} nodes/s |",
        count as f64 / bare.as_secs_f64()
    );
    println!(
        "| the operator / the bare client | {:.2} |",
        bare.as_secs_f64() / cold.as_secs_f64()
    );
    println!(
        "| highest resident memory of the operator | {} MiB |",
        memory >> 20
    );

    let written = Writes::of(&cluster);
    let mut operator = Operator::start(&cluster);
    let reconciles = operator.wait_for_reconciles(count as u64 * 2);
    println!("\n| nothing to do, from a new start | |\n|---|---|");
    println!("| reconciles | {reconciles} |");
    println!(
        "| requests that change something | {} |",
        Writes::of(&cluster).0 - written.0
    );
    println!(
        "| highest resident memory of the operator | {} MiB |",
        operator.highest_resident_bytes() >> 20
    );
    operator.end();
    cluster.end().unwrap();
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// Definitions, namespaces, nodes: all there before the operator starts.
fn prepare(cluster: &Cluster, count: usize) {
    let kubectl = cluster.kubectl();
    let definitions = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds");
    for file in ["honeygraphnode.yaml", "checkpoint.yaml"] {
        kubectl
            .apply(&std::fs::read_to_string(definitions.join(file)).unwrap())
            .unwrap();
    }
    let established = [
        "wait",
        "--for=condition=Established",
        "crd",
        "--all",
        "--timeout=60s",
    ];
    kubectl.run(established).unwrap();
    for namespace in NAMESPACES.into_iter().chain([OPERATOR_NAMESPACE]) {
        kubectl.run(["create", "namespace", namespace]).unwrap();
    }
    let nodes: Vec<_> = (0..count)
        .map(|number| {
            json!({
                "apiVersion": "honeygraph.io/v1alpha1",
                "kind": "HoneygraphNode",
                "metadata": { "name": format!("node-{number}") },
                // A network of its own: it is nobody's peer, and its voter is a source.
                "spec": {
                    "network": format!("net{number}"),
                    "region": "europe",
                    "dgraph": { "mode": "Embedded" },
                    "peers": { "static": [{ "url": "https://honeygraph.example" }] },
                },
            })
        })
        .collect();
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": nodes });
    kubectl.apply_in(NAMESPACES[0], &list.to_string()).unwrap();
}

/// A running operator.
struct Operator {
    process: Child,
    metrics: u16,
    started: Instant,
}

impl Operator {
    fn start(cluster: &Cluster) -> Self {
        let metrics = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let process = Command::new(env!("CARGO_BIN_EXE_honeygraph-operator"))
            .arg("run")
            .arg(format!("--metrics-listen=127.0.0.1:{metrics}"))
            .arg(format!("--pod-namespace={OPERATOR_NAMESPACE}"))
            .arg(format!("--reconcile-concurrent={AT_ONCE}"))
            .arg("--pod-name=operator")
            .arg("--log=warn")
            .env("KUBECONFIG", cluster.kubeconfig())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        Self {
            process,
            metrics,
            started: Instant::now(),
        }
    }

    /// The time until every node has its `StatefulSet`, the last thing that is made for it.
    fn wait_for(&mut self, cluster: &Cluster, count: usize) -> Duration {
        let question = [
            "--namespace",
            NAMESPACES[0],
            "get",
            "statefulsets",
            "--output=name",
        ];
        self.until(|| {
            let there = cluster.kubectl().run(question).unwrap().lines().count();
            (there == count).then_some(())
        });
        self.started.elapsed()
    }

    /// Waits until it has reconciled so often, and gives how often that is.
    fn wait_for_reconciles(&mut self, wanted: u64) -> u64 {
        let port = self.metrics;
        self.until(|| {
            let address = format!("http://127.0.0.1:{port}/metrics");
            let text = runtime().block_on(async { reqwest::get(address).await?.text().await });
            let done: u64 = text
                .unwrap_or_default()
                .lines()
                .filter(|line| line.starts_with("honeygraph_operator_reconciles_total"))
                .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
                .sum();
            (done >= wanted).then_some(done)
        })
    }

    fn until<T>(&mut self, mut look: impl FnMut() -> Option<T>) -> T {
        loop {
            if let Some(seen) = look() {
                return seen;
            }
            assert!(
                self.process.try_wait().unwrap().is_none(),
                "the operator has ended"
            );
            assert!(self.started.elapsed() < PATIENCE, "the operator is not done");
            std::thread::sleep(Duration::from_millis(250));
        }
    }

    fn highest_resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    }

    fn end(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// Requests in the audit log by which the operator, or kubectl, changed something. The Lease of who leads is none.
struct Writes(usize);

impl Writes {
    fn of(cluster: &Cluster) -> Self {
        let log = std::fs::read_to_string(cluster.audit_log().unwrap()).unwrap();
        let counted = log.lines().filter(|line| {
            let entry: Value = serde_json::from_str(line).unwrap();
            // Controllers and the API server itself write too.
            let user = entry["user"]["username"].as_str().unwrap_or_default();
            !user.starts_with("system:") && entry["objectRef"]["resource"] != "leases"
        });
        Self(counted.count())
    }
}

/// Applies what was made for the nodes once more, in another namespace. Gives how many objects that are, and how long
/// it took.
async fn apply_bare(cluster: &Cluster) -> (usize, Duration) {
    let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig()).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap();
    let client = Client::try_from(config).unwrap();
    let mut made = Vec::new();
    for (group, version, kind) in KINDS {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let from: Api<DynamicObject> = Api::namespaced_with(client.clone(), NAMESPACES[0], &resource);
        let to: Api<DynamicObject> = Api::namespaced_with(client.clone(), NAMESPACES[1], &resource);
        let ours =
            kube::api::ListParams::default().labels("app.kubernetes.io/managed-by=honeygraph-operator");
        let objects = from.list(&ours).await.unwrap();
        made.extend(
            objects
                .items
                .into_iter()
                .map(|object| (to.clone(), bare(object, kind))),
        );
    }
    let count = made.len();
    let started = Instant::now();
    stream::iter(made.into_iter().map(Ok))
        .try_for_each_concurrent(AT_ONCE, |(api, object)| async move {
            let name = object.metadata.name.clone().unwrap();
            let parameters = PatchParams::apply("bare").force();
            api.patch(&name, &parameters, &Patch::Apply(object))
                .await
                .map(drop)
        })
        .await
        .unwrap();
    (count, started.elapsed())
}

/// An object as it is applied, without what the API server added.
fn bare(object: DynamicObject, kind: &str) -> DynamicObject {
    let mut bare = DynamicObject::clone(&object);
    bare.metadata = kube::api::ObjectMeta {
        name: object.metadata.name,
        labels: object.metadata.labels,
        annotations: object.metadata.annotations,
        ..Default::default()
    };
    if let Value::Object(data) = &mut bare.data {
        data.remove("status");
        if kind == "Service"
            && let Some(Value::Object(spec)) = data.get_mut("spec")
            && spec.get("clusterIP") != Some(&Value::from("None"))
        {
            spec.remove("clusterIP");
            spec.remove("clusterIPs");
        }
    }
    bare
}
