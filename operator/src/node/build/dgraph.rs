//! What the zeros and alphas of a node's own Dgraph are made of.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EmptyDirVolumeSource, EnvVar, EnvVarSource, KeyToPath, Secret,
    SecretKeySelector, SecretVolumeSource, Volume,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::hash::Fingerprint;
use super::pod::{self, DATA_VOLUME, Pod};
use crate::names::{Member, NodeIdentity};
use crate::node::validate::{ALPHA_GRPC_PORT, DgraphMembers, OwnedDgraph};

/// Ports of a zero: to members of its cluster, and its HTTP API.
pub(super) const ZERO_PORT: u16 = 5080;
const ZERO_HTTP_PORT: u16 = 6080;
/// Port of an alpha to members of its cluster.
pub(super) const ALPHA_PORT: u16 = 7080;
const ALPHA_HTTP_PORT: u16 = 8080;

const DATA_PATH: &str = "/dgraph";
const TLS_PATH: &str = "/etc/dgraph/tls";
const LOGIN_KEY_PATH: &str = "/etc/dgraph/acl";
/// Alphas write what they hold in memory before they end.
const GRACE_SECONDS: i64 = 120;

/// The `StatefulSet` of a zero. Its number among the zeros is its id in their Raft group; the first founds it.
pub(super) fn zero(
    identity: &NodeIdentity,
    dgraph: &OwnedDgraph,
    member: Member,
    generation: u32,
    secrets: &BTreeMap<String, Secret>,
) -> StatefulSet {
    let mut args = vec![
        "zero".to_owned(),
        format!("--my={}:{ZERO_PORT}", identity.host(member)),
        format!("--raft=idx={}", member.index + 1),
        format!("--replicas={}", dgraph.alphas.members.len()),
        format!("--wal={DATA_PATH}/zw"),
        "--telemetry=reports=false; sentry=false".to_owned(),
    ];
    if member.index > 0
        && let Some((first, _)) = dgraph.zeros.members.first()
    {
        args.push(format!("--peer={}:{ZERO_PORT}", identity.host(*first)));
    }
    let container = Container {
        ports: Some(ports([("zero", ZERO_PORT), ("zero-http", ZERO_HTTP_PORT)])),
        // Its HTTP API asks for a token on every page but this one.
        startup_probe: Some(pod::http_probe("/health", "zero-http", 2, 150)),
        readiness_probe: Some(pod::http_probe("/health", "zero-http", 5, 3)),
        liveness_probe: Some(pod::http_probe("/health", "zero-http", 10, 12)),
        ..container("zero", dgraph, &dgraph.zeros, args)
    };
    // The token guards its HTTP API; everything else it is asked by alphas.
    stateful_set(
        identity,
        dgraph,
        &dgraph.zeros,
        member,
        generation,
        secrets,
        with_token(container, dgraph, "DGRAPH_ZERO_SECURITY"),
    )
}

/// The `StatefulSet` of an alpha.
pub(super) fn alpha(
    identity: &NodeIdentity,
    dgraph: &OwnedDgraph,
    member: Member,
    generation: u32,
    secrets: &BTreeMap<String, Secret>,
) -> StatefulSet {
    let zeros: Vec<_> = dgraph
        .zeros
        .members
        .iter()
        .map(|(zero, _)| format!("{}:{ZERO_PORT}", identity.host(*zero)))
        .collect();
    let mut args = vec![
        "alpha".to_owned(),
        format!("--my={}:{ALPHA_PORT}", identity.host(member)),
        format!("--zero={}", zeros.join(",")),
        format!("--postings={DATA_PATH}/p"),
        format!("--wal={DATA_PATH}/w"),
        format!("--tmp={DATA_PATH}/t"),
        format!("--cache=size-mb={}", dgraph.cache_mebibytes),
        "--telemetry=reports=false; sentry=false".to_owned(),
    ];
    if dgraph.login_key.is_some() {
        args.push(format!("--acl=secret-file={LOGIN_KEY_PATH}/hmac"));
    }
    if dgraph.tls_secret.is_some() {
        args.push(format!(
            "--tls=ca-cert={TLS_PATH}/ca.crt; server-cert={TLS_PATH}/tls.crt; server-key={TLS_PATH}/tls.key; \
             client-auth-type=VERIFYIFGIVEN"
        ));
    }
    let scheme = dgraph.tls_secret.as_ref().map(|_| "HTTPS".to_owned());
    let probe = |path, period, failures| {
        let mut probe = pod::http_probe(path, "alpha-http", period, failures);
        if let Some(get) = &mut probe.http_get {
            get.scheme.clone_from(&scheme);
        }
        Some(probe)
    };
    let container = Container {
        ports: Some(ports([
            ("alpha", ALPHA_PORT),
            ("alpha-http", ALPHA_HTTP_PORT),
            ("alpha-grpc", ALPHA_GRPC_PORT),
        ])),
        startup_probe: probe("/health", 2, 300),
        // Up once queries are answered: /health says 200 before there is a leader.
        readiness_probe: probe("/probe/graphql", 5, 3),
        liveness_probe: probe("/health", 10, 12),
        ..container("alpha", dgraph, &dgraph.alphas, args)
    };
    stateful_set(
        identity,
        dgraph,
        &dgraph.alphas,
        member,
        generation,
        secrets,
        with_token(container, dgraph, "DGRAPH_ALPHA_SECURITY"),
    )
}

fn container(name: &str, dgraph: &OwnedDgraph, members: &DgraphMembers, mut args: Vec<String>) -> Container {
    args.extend(
        members
            .flags
            .iter()
            .map(|(name, value)| format!("--{name}={value}")),
    );
    Container {
        name: name.to_owned(),
        image: Some(dgraph.image.clone()),
        command: Some(vec!["dgraph".to_owned()]),
        args: Some(args),
        working_dir: Some(DATA_PATH.to_owned()),
        resources: pod::resources(&members.resources),
        security_context: Some(pod::container_security()),
        ..Container::default()
    }
}

/// The token comes by the environment, so that it is in no list of arguments. With it any address may do what needs
/// it; who reaches the port at all is said by the network policies.
fn with_token(mut container: Container, dgraph: &OwnedDgraph, variable: &str) -> Container {
    const TOKEN: &str = "TOKEN";
    container.env = Some(vec![
        EnvVar {
            name: TOKEN.to_owned(),
            value: None,
            value_from: Some(EnvVarSource {
                secret_key_ref: Some(SecretKeySelector {
                    name: dgraph.token.name.clone(),
                    key: dgraph.token.key.clone(),
                    optional: None,
                }),
                ..EnvVarSource::default()
            }),
        },
        EnvVar {
            name: variable.to_owned(),
            value: Some(format!("token=$({TOKEN}); whitelist=0.0.0.0/0,::/0")),
            value_from: None,
        },
    ]);
    container
}

fn stateful_set(
    identity: &NodeIdentity,
    dgraph: &OwnedDgraph,
    members: &DgraphMembers,
    member: Member,
    generation: u32,
    secrets: &BTreeMap<String, Secret>,
    mut container: Container,
) -> StatefulSet {
    let mut fingerprint = Fingerprint::default();
    fingerprint.add("members", members.members.len());
    fingerprint.add_secret(secrets, &dgraph.token.name, &dgraph.token.key);
    let mut mounts = vec![
        pod::mount(DATA_VOLUME, DATA_PATH, false),
        pod::mount("tmp", "/tmp", false),
    ];
    let mut volumes = vec![Volume {
        name: "tmp".to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            size_limit: Some(Quantity("64Mi".to_owned())),
            medium: None,
        }),
        ..Volume::default()
    }];
    if member.role == crate::names::Role::Alpha {
        if let Some(key) = &dgraph.login_key {
            fingerprint.add_secret(secrets, &key.name, &key.key);
            mounts.push(pod::mount("acl", LOGIN_KEY_PATH, true));
            volumes.push(secret_volume("acl", &key.name, &[(&key.key, "hmac")]));
        }
        if let Some(secret) = &dgraph.tls_secret {
            let keys = ["ca.crt", "tls.crt", "tls.key"];
            for key in keys {
                fingerprint.add_secret(secrets, secret, key);
            }
            mounts.push(pod::mount("tls", TLS_PATH, true));
            volumes.push(secret_volume("tls", secret, &keys.map(|key| (key, key))));
        }
    }
    container.volume_mounts = Some(mounts);
    pod::stateful_set(
        identity,
        member,
        Pod {
            container,
            volumes,
            claim: identity.claim_name(member, generation),
            configuration: fingerprint.finish(),
            labels: BTreeMap::new(),
            grace_seconds: GRACE_SECONDS,
            priority_class: None,
            service_account: super::accounts::dgraph(identity),
        },
    )
}

fn secret_volume(name: &str, secret: &str, files: &[(&str, &str)]) -> Volume {
    Volume {
        name: name.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret.to_owned()),
            default_mode: Some(0o440),
            items: Some(
                files
                    .iter()
                    .map(|(key, path)| KeyToPath {
                        key: (*key).to_owned(),
                        path: (*path).to_owned(),
                        mode: None,
                    })
                    .collect(),
            ),
            optional: None,
        }),
        ..Volume::default()
    }
}

fn ports<const COUNT: usize>(ports: [(&str, u16); COUNT]) -> Vec<ContainerPort> {
    ports
        .map(|(name, port)| ContainerPort {
            name: Some(name.to_owned()),
            container_port: i32::from(port),
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        })
        .to_vec()
}
