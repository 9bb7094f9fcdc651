//! etcd, kube-apiserver, kube-controller-manager and kube-scheduler.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context;
use serde_json::json;

use crate::addresses;
use crate::certificates::{Certificate, CertificateAuthority, User, service_account_key};
use crate::home::Folder;
use crate::kubectl::{Kubectl, kubeconfig};
use crate::level::Level;
use crate::parts::Part;
use crate::record::Record;
use crate::tools::ControlPlanePrograms;

/// Time for a part to become ready: seconds when the machine is idle, but it may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// Where ports are looked for: below those that Linux gives to outgoing connections (32768 and up), one of which could
/// take a port between our look and a part's start, and below those of Services (30000 and up).
const FIRST_PORT: u32 = 20_000;

/// How many ports are looked at.
const PORT_COUNT: u32 = 10_000;

/// Ports between the first looks of two processes that started one after the other.
const SPACING: u32 = 97;

/// Who may do anything.
const ADMINISTRATORS: &str = "system:masters";

/// Whether mutating requests are written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuditLog {
    /// Nothing is.
    #[default]
    Off,
    /// Every request that changes something, one JSON object a line: who, what, which object.
    Mutating,
}

/// A started control plane.
pub(crate) struct ControlPlane<'a> {
    pub(crate) authority: CertificateAuthority<'a>,
    pub(crate) kubectl: Kubectl,
    pub(crate) server: String,
}

/// Starts a control plane and waits until it answers and its controllers work.
pub(crate) fn start<'a>(
    folder: &'a Folder,
    record: &mut Record,
    programs: &ControlPlanePrograms,
    level: Level,
    audit: AuditLog,
) -> anyhow::Result<ControlPlane<'a>> {
    let authority = CertificateAuthority::create(folder)?;
    let address = address(level);
    let [etcd_clients, etcd_peers, api, controllers, scheduling] = free_ports(address)?;
    let etcd_url = start_etcd(folder, record, &programs.etcd, etcd_clients, etcd_peers)?;

    let server = format!("https://{address}:{api}");
    let write_kubeconfig = |file: &str, user: User<'_>| -> anyhow::Result<PathBuf> {
        let client = authority.client(file, user)?;
        folder.write(
            format!("{file}.kubeconfig"),
            kubeconfig(&server, &authority.files().certificate, &client),
        )
    };
    let administrator = authority.client(
        "admin",
        User {
            name: "admin",
            group: Some(ADMINISTRATORS),
        },
    )?;
    let own = kubeconfig(&server, &authority.files().certificate, &administrator);
    let own = folder.write("admin.kubeconfig", own)?;
    let cache = folder.subfolder("kubectl-cache")?;
    let kubectl = Kubectl::new(programs.kubectl.clone(), own, cache);

    let keys = service_account_key(folder)?;
    let arguments = apiserver_arguments(&authority, &keys, level, api, &etcd_url, audit)?;
    let apiserver = Part::start(folder, record, "kube-apiserver", &programs.apiserver, arguments)?;
    apiserver.wait(PATIENCE, || ready(&kubectl))?;

    if let Some(program) = &programs.controller_manager {
        let user = User {
            name: "system:kube-controller-manager",
            group: None,
        };
        let file = write_kubeconfig("controller-manager", user)?;
        let arguments = controller_manager_arguments(&file, &authority, &keys, controllers);
        let part = Part::start(folder, record, "kube-controller-manager", program, arguments)?;
        // Its work is the proof: two of its controllers make these in every namespace.
        part.wait(PATIENCE, || {
            for object in ["serviceaccount/default", "configmap/kube-root-ca.crt"] {
                kubectl
                    .run(["get", "--namespace", "default", object])
                    .map_err(|error| error.to_string())?;
            }
            Ok(())
        })?;
    }
    if let Some(program) = &programs.scheduler {
        let user = User {
            name: "system:kube-scheduler",
            group: None,
        };
        let file = write_kubeconfig("scheduler", user)?;
        let arguments = [
            flag("kubeconfig", file.display()),
            flag("leader-elect", false),
            flag("bind-address", Ipv4Addr::LOCALHOST),
            flag("secure-port", scheduling),
        ];
        let part = Part::start(folder, record, "kube-scheduler", program, arguments)?;
        part.wait(PATIENCE, || listens(Ipv4Addr::LOCALHOST, scheduling))?;
    }
    Ok(ControlPlane {
        authority,
        kubectl,
        server,
    })
}

fn start_etcd(
    folder: &Folder,
    record: &mut Record,
    program: &Path,
    clients: u16,
    peers: u16,
) -> anyhow::Result<String> {
    let data = folder.subfolder("etcd")?;
    let url = format!("http://127.0.0.1:{clients}");
    let peer_url = format!("http://127.0.0.1:{peers}");
    let arguments = [
        flag("name", "default"),
        flag("data-dir", data.display()),
        // Its data goes with the cluster.
        "--unsafe-no-fsync".to_owned(),
        flag("listen-client-urls", &url),
        flag("advertise-client-urls", &url),
        flag("listen-peer-urls", &peer_url),
        flag("initial-advertise-peer-urls", &peer_url),
        flag("initial-cluster", format!("default={peer_url}")),
        flag("logger", "zap"),
        flag("log-level", "warn"),
    ];
    let etcd = Part::start(folder, record, "etcd", program, arguments)?;
    etcd.wait(PATIENCE, || listens(Ipv4Addr::LOCALHOST, clients))?;
    Ok(url)
}

/// Where the control plane of a level listens.
fn address(level: Level) -> Ipv4Addr {
    match level {
        Level::One => Ipv4Addr::LOCALHOST,
        Level::Two => addresses::CONTROL_PLANE,
    }
}

fn apiserver_arguments(
    authority: &CertificateAuthority<'_>,
    keys: &Certificate,
    level: Level,
    port: u16,
    etcd: &str,
    audit: AuditLog,
) -> anyhow::Result<Vec<String>> {
    let address = address(level);
    let serving = authority.apiserver(&[
        Ipv4Addr::LOCALHOST.to_string(),
        address.to_string(),
        addresses::APISERVER_SERVICE.to_string(),
    ])?;
    let to_kubelets = authority.client(
        "apiserver-to-kubelets",
        User {
            name: "kube-apiserver",
            group: Some(ADMINISTRATORS),
        },
    )?;
    let mut arguments = vec![
        flag("etcd-servers", etcd),
        flag("bind-address", address),
        flag("secure-port", port),
        flag("tls-cert-file", serving.certificate.display()),
        flag("tls-private-key-file", serving.key.display()),
        flag("client-ca-file", authority.files().certificate.display()),
        flag("service-account-key-file", keys.certificate.display()),
        flag("service-account-signing-key-file", keys.key.display()),
        flag(
            "service-account-issuer",
            "https://kubernetes.default.svc.cluster.local",
        ),
        flag("service-cluster-ip-range", addresses::SERVICES),
        flag("authorization-mode", "Node,RBAC"),
        flag("enable-admission-plugins", "NodeRestriction"),
        flag("kubelet-client-certificate", to_kubelets.certificate.display()),
        flag("kubelet-client-key", to_kubelets.key.display()),
        flag("kubelet-preferred-address-types", "InternalIP"),
        flag("allow-privileged", true),
        flag("profiling", false),
    ];
    match level {
        // Kubernetes refuses a loopback address as the endpoint of its Service, and without nodes nobody needs one.
        Level::One => arguments.push(flag("endpoint-reconciler-type", "none")),
        Level::Two => arguments.push(flag("advertise-address", address)),
    }
    if audit == AuditLog::Mutating {
        let folder = authority.folder();
        let policy = folder.write("audit-policy.json", audit_policy().to_string())?;
        arguments.push(flag("audit-policy-file", policy.display()));
        arguments.push(flag("audit-log-path", folder.audit_log().display()));
        arguments.push(flag("audit-log-mode", "blocking-strict"));
    }
    Ok(arguments)
}

fn audit_policy() -> serde_json::Value {
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            { "level": "Metadata", "verbs": ["create", "update", "patch", "delete", "deletecollection"] },
            { "level": "None" },
        ],
    })
}

fn controller_manager_arguments(
    kubeconfig: &Path,
    authority: &CertificateAuthority<'_>,
    keys: &Certificate,
    port: u16,
) -> Vec<String> {
    let authority = authority.files();
    vec![
        flag("kubeconfig", kubeconfig.display()),
        flag("leader-elect", false),
        flag("bind-address", Ipv4Addr::LOCALHOST),
        flag("secure-port", port),
        flag("use-service-account-credentials", true),
        flag("service-account-private-key-file", keys.key.display()),
        flag("root-ca-file", authority.certificate.display()),
        flag("cluster-signing-cert-file", authority.certificate.display()),
        flag("cluster-signing-key-file", authority.key.display()),
        flag("cluster-name", "honeygraph-test-cluster"),
    ]
}

/// One flag of a command line.
pub(crate) fn flag(name: &str, value: impl std::fmt::Display) -> String {
    format!("--{name}={value}")
}

/// Whether the apiserver says that it is ready.
pub(crate) fn ready(kubectl: &Kubectl) -> Result<(), String> {
    match kubectl.run(["get", "--raw", "/readyz"]) {
        Ok(answer) if answer.trim() == "ok" => Ok(()),
        Ok(answer) => Err(answer),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether somebody listens there.
fn listens(address: Ipv4Addr, port: u16) -> Result<(), String> {
    TcpStream::connect((address, port))
        .map(drop)
        .map_err(|error| format!("{address}:{port}: {error}"))
}

/// Ports that nobody has now, neither on this address nor on loopback.
fn free_ports<const COUNT: usize>(address: Ipv4Addr) -> anyhow::Result<[u16; COUNT]> {
    /// Number of the next port that this process looks at: its clusters do not meet, nor those of most others.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(SPACING);
    let mut free = (0..PORT_COUNT).filter_map(|_| {
        let number = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % PORT_COUNT;
        let port = u16::try_from(FIRST_PORT + number).ok()?;
        let is_free = |address| TcpListener::bind((address, port)).is_ok();
        (is_free(address) && is_free(Ipv4Addr::LOCALHOST)).then_some(port)
    });
    let mut ports = [0; COUNT];
    for port in &mut ports {
        *port = free
            .next()
            .with_context(|| format!("no port is free on {address} from {FIRST_PORT} on, of {PORT_COUNT}"))?;
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_and_come_once() {
        let mut ports: Vec<u16> = (0..20)
            .flat_map(|_| free_ports::<5>(Ipv4Addr::LOCALHOST).unwrap())
            .collect();
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, ports[99] + 1));
        ports.extend(free_ports::<1>(Ipv4Addr::LOCALHOST).unwrap());
        assert!(held.is_err() || ports[100] != ports[99] + 1);
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 101);
    }
}
