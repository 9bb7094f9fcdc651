//! What each agent is made of.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapEnvSource, Container, ContainerPort, EnvFromSource, KeyToPath, ProjectedVolumeSource,
    Secret, SecretProjection, Volume, VolumeProjection,
};
use secrecy::ExposeSecret;

use super::hash::Fingerprint;
use super::pod::{self, DATA_VOLUME, Pod};
use crate::names::{NodeIdentity, WRITES_TO_LABEL};
use crate::node::validate::{AgentMember, Agents, SecretFile};

/// Port of the admin API.
pub const ADMIN_PORT: u16 = 3031;
/// Port that honeycombs push to.
pub const INGEST_PORT: u16 = 4000;
/// Port of probes and metrics.
pub const METRICS_PORT: u16 = 9100;
/// Port of the public API.
pub const PUBLIC_PORT: u16 = crate::node::validate::PUBLIC_PORT;

/// Where Secrets stand in the container.
const SECRETS_PATH: &str = "/etc/honeygraph";
const SECRETS_VOLUME: &str = "secrets";
/// Where the store stands in the container.
const DATA_PATH: &str = "/data";
/// Key of the file with the honeycombs of an agent.
const SOURCES_KEY: &str = "honeycomb-sources";
/// Longer than the agent's `SHUTDOWN_TIMEOUT_MS`: the running commit is finished.
const GRACE_SECONDS: i64 = 45;

/// The settings of an agent, which its pod has as its environment.
pub fn config_map(identity: &NodeIdentity, agents: &Agents, agent: &AgentMember) -> ConfigMap {
    let mut settings: BTreeMap<String, String> = agents
        .settings
        .iter()
        .chain(&agent.settings)
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect();
    settings.extend(
        [
            ("DATA_DIR", DATA_PATH.to_owned()),
            ("ADMIN_LISTEN", format!("0.0.0.0:{ADMIN_PORT}")),
            ("LOG_FORMAT", "json".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    settings.extend(
        agents
            .files
            .iter()
            .map(|file| (file.setting.to_owned(), format!("{SECRETS_PATH}/{}", file.file))),
    );
    if agent.sources_file.is_some() {
        settings.insert(
            "HONEYCOMB_SOURCES_FILE".to_owned(),
            format!("{SECRETS_PATH}/{SOURCES_KEY}"),
        );
    }
    ConfigMap {
        metadata: identity.metadata(
            identity.member_name(agent.member),
            identity.member_labels(agent.member),
        ),
        data: Some(settings),
        ..ConfigMap::default()
    }
}

/// The honeycombs of an agent with their tokens; none where it has none.
pub fn sources_secret(identity: &NodeIdentity, agent: &AgentMember) -> Option<Secret> {
    let lines = agent.sources_file.as_ref()?;
    let contents = ByteString(lines.expose_secret().as_bytes().to_vec());
    Some(Secret {
        metadata: identity.metadata(
            identity.member_name(agent.member),
            identity.member_labels(agent.member),
        ),
        data: Some(BTreeMap::from([(SOURCES_KEY.to_owned(), contents)])),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    })
}

/// The `StatefulSet` of an agent. `secrets` are those that its files come from.
pub fn stateful_set(
    identity: &NodeIdentity,
    agents: &Agents,
    agent: &AgentMember,
    secrets: &BTreeMap<String, Secret>,
) -> StatefulSet {
    let config_map = config_map(identity, agents, agent);
    let mut fingerprint = Fingerprint::default();
    fingerprint.add("settings", &config_map.data);
    fingerprint.add(
        "sources",
        agent
            .sources_file
            .as_ref()
            .map_or("", |lines| lines.expose_secret()),
    );
    for file in &agents.files {
        fingerprint.add_secret(secrets, &file.secret, &file.key);
    }
    for variable in &agents.env {
        let source = variable
            .value_from
            .as_ref()
            .and_then(|from| from.secret_key_ref.as_ref());
        if let Some(source) = source {
            fingerprint.add_secret(secrets, &source.name, &source.key);
        }
    }
    let container = Container {
        name: "agent".to_owned(),
        image: Some(agents.image.clone()),
        args: Some(vec!["run".to_owned()]),
        env_from: Some(vec![EnvFromSource {
            config_map_ref: Some(ConfigMapEnvSource {
                name: identity.member_name(agent.member),
                optional: None,
            }),
            ..EnvFromSource::default()
        }]),
        env: (!agents.env.is_empty()).then(|| agents.env.clone()),
        ports: Some(
            [
                ("public", PUBLIC_PORT),
                ("admin", ADMIN_PORT),
                ("ingest", INGEST_PORT),
                ("metrics", METRICS_PORT),
            ]
            .map(|(name, port)| ContainerPort {
                name: Some(name.to_owned()),
                container_port: i32::from(port),
                protocol: Some("TCP".to_owned()),
                ..ContainerPort::default()
            })
            .to_vec(),
        ),
        resources: pod::resources(&agents.resources),
        security_context: Some(pod::container_security()),
        // A new agent looks for a checkpoint to start from, and a store is checked when it is opened.
        startup_probe: Some(pod::http_probe("/startupz", "metrics", 2, 300)),
        readiness_probe: Some(pod::http_probe("/readyz", "metrics", 5, 3)),
        // Longer than commits may be held for a checkpoint.
        liveness_probe: Some(pod::http_probe("/livez", "metrics", 10, 12)),
        volume_mounts: Some(vec![
            pod::mount(DATA_VOLUME, DATA_PATH, false),
            pod::mount(SECRETS_VOLUME, SECRETS_PATH, true),
        ]),
        ..Container::default()
    };
    let writes_to = agents.writes_to.iter();
    pod::stateful_set(
        identity,
        agent.member,
        Pod {
            container,
            volumes: vec![secrets_volume(identity, agents, agent)],
            claim: identity.claim_name(agent.member, agent.claim_generation),
            configuration: fingerprint.finish(),
            labels: writes_to
                .map(|owner| (WRITES_TO_LABEL.to_owned(), owner.clone()))
                .collect(),
            grace_seconds: GRACE_SECONDS,
            priority_class: agents.priority_class.clone(),
            service_account: super::accounts::agent(identity),
        },
    )
}

/// All files of an agent in one folder.
fn secrets_volume(identity: &NodeIdentity, agents: &Agents, agent: &AgentMember) -> Volume {
    let sources = agent.sources_file.iter().map(|_| SecretFile {
        setting: "HONEYCOMB_SOURCES_FILE",
        file: SOURCES_KEY,
        secret: identity.member_name(agent.member),
        key: SOURCES_KEY.to_owned(),
    });
    let projections = agents
        .files
        .iter()
        .cloned()
        .chain(sources)
        .map(|file| VolumeProjection {
            secret: Some(SecretProjection {
                name: file.secret,
                items: Some(vec![KeyToPath {
                    key: file.key,
                    path: file.file.to_owned(),
                    mode: None,
                }]),
                optional: None,
            }),
            ..VolumeProjection::default()
        })
        .collect();
    Volume {
        name: SECRETS_VOLUME.to_owned(),
        projected: Some(ProjectedVolumeSource {
            // Read by the user and the group that the pod runs as.
            default_mode: Some(0o440),
            sources: Some(projections),
        }),
        ..Volume::default()
    }
}
