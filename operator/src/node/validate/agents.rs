//! The agents of a node: which settings, sources and peers each of them has.

use std::collections::BTreeMap;
use std::fmt::Write;

use honeygraph_crds::{EnvironmentVariable, HoneycombSource, Verification};
use k8s_openapi::api::core::v1::{ConfigMapKeySelector, EnvVar, EnvVarSource, SecretKeySelector};
use secrecy::SecretString;

use super::dgraph::Connection;
use super::{
    AgentMember, Agents, Invalid, SecretFile, bytes, claim_generation, members, milliseconds, require_keys,
    secret_text, voters,
};
use crate::names::{Member, NodeIdentity, Role};
use crate::node::credentials::ADMIN_TOKEN_KEY;
use crate::node::dereference::Dereferenced;
use crate::settings::Images;

/// Shortest and longest token that an agent takes.
const TOKEN_LENGTH: std::ops::RangeInclusive<usize> = 16..=512;
const TOKEN_ALLOWED: &str = "16 to 512 visible ASCII characters without a comma are allowed";

/// What the agents of a node are built from.
pub(super) fn agents(
    input: &Dereferenced,
    identity: &NodeIdentity,
    images: &Images,
    connection: Option<Connection>,
) -> Result<Agents, Invalid> {
    let agent = &input.node.spec.agent;
    let mut settings = common_settings(input)?;
    let mut files = vec![SecretFile {
        setting: "ADMIN_TOKEN_FILE",
        file: "admin-token",
        secret: identity.credentials(),
        key: ADMIN_TOKEN_KEY.to_owned(),
    }];
    files.extend(api_keys(input)?);
    files.extend(ingest_files(input)?);
    let mut writes_to = None;
    if let Some(connection) = connection {
        settings.insert("DGRAPH_MODE", connection.mode.to_owned());
        settings.insert("DGRAPH_ALPHA", connection.alphas.join(","));
        if let Some((user, namespace)) = connection.login {
            settings.insert("DGRAPH_USER", user);
            settings.insert("DGRAPH_NAMESPACE", namespace.to_string());
        }
        files.extend(connection.files);
        writes_to = connection.owner;
    }
    Ok(Agents {
        members: agent_members(input, identity)?,
        image: agent.image.clone().unwrap_or_else(|| images.agent.clone()),
        resources: agent.resources.clone(),
        storage: agent.storage.clone(),
        priority_class: agent.priority_class_name.clone(),
        settings,
        env: further_variables(input)?,
        files,
        writes_to,
    })
}

/// The settings that every agent of a node has.
fn common_settings(input: &Dereferenced) -> Result<BTreeMap<&'static str, String>, Invalid> {
    let spec = &input.node.spec;
    let limits = &spec.sync.limits;
    let mut settings = BTreeMap::from([
        ("NETWORK", spec.network.clone()),
        ("SYNC_ENABLED", spec.sync.enabled.to_string()),
        (
            "SYNC_INTERVAL",
            milliseconds(&spec.sync.interval, "spec.sync.interval")?.to_string(),
        ),
        (
            "VERIFICATION",
            match spec.sync.verification {
                Verification::Strict => "strict",
                Verification::Quorum => "quorum",
            }
            .to_owned(),
        ),
        ("SYNC_RANGE_BLOCKS_MAX", limits.batch_blocks.to_string()),
        ("SYNC_IN_FLIGHT_MAX", limits.requests_in_flight.to_string()),
        (
            "SYNC_BUFFER_BYTES",
            bytes(&limits.buffer_size, "spec.sync.limits.bufferSize")?.to_string(),
        ),
        ("MAX_REORG_DEPTH", limits.reorganization_blocks.to_string()),
        (
            "LIMIT_RATE_PER_PEER",
            limits.requests_per_second_per_peer.to_string(),
        ),
        (
            "LIMIT_RATE_PER_ADDRESS",
            limits.requests_per_second_per_address.to_string(),
        ),
    ]);
    if let Some(url) = &spec.exposure.advertised_url {
        settings.insert("ADVERTISE_URL", url.clone());
    }
    let proxies = &spec.exposure.trusted_proxies;
    if !proxies.is_empty() {
        settings.insert("TRUSTED_PROXIES", proxies.join(","));
    }
    let with_certificates: Vec<_> = spec
        .honeycomb
        .sources
        .iter()
        .filter(|source| source.client_certificate)
        .map(|source| source.name.as_str())
        .collect();
    if !with_certificates.is_empty() {
        settings.insert("HONEYCOMB_CERTIFICATES", with_certificates.join(","));
    }
    Ok(settings)
}

fn api_keys(input: &Dereferenced) -> Result<Option<SecretFile>, Invalid> {
    let Some(reference) = &input.node.spec.peers.api_keys else {
        return Ok(None);
    };
    secret_text(input, reference, "spec.peers.apiKeys")?;
    Ok(Some(SecretFile {
        setting: "API_KEYS_FILE",
        file: "api-keys",
        secret: reference.name.clone(),
        key: reference.key.clone(),
    }))
}

fn ingest_files(input: &Dereferenced) -> Result<Vec<SecretFile>, Invalid> {
    let Some(tls) = &input.node.spec.honeycomb.exposure.tls else {
        return Ok(Vec::new());
    };
    require_keys(
        input,
        &tls.secret_name,
        &["tls.crt", "tls.key"],
        "spec.honeycomb.exposure.tls.secretName",
    )?;
    let file = |setting, file, secret: &str, key: &str| SecretFile {
        setting,
        file,
        secret: secret.to_owned(),
        key: key.to_owned(),
    };
    let mut files = vec![
        file(
            "INGEST_TLS_CERTIFICATE_FILE",
            "ingest.crt",
            &tls.secret_name,
            "tls.crt",
        ),
        file("INGEST_TLS_KEY_FILE", "ingest.key", &tls.secret_name, "tls.key"),
    ];
    if let Some(authority) = &tls.client_authority_secret_name {
        require_keys(
            input,
            authority,
            &["ca.crt"],
            "spec.honeycomb.exposure.tls.clientAuthoritySecretName",
        )?;
        files.push(file(
            "INGEST_TLS_CLIENT_CA_FILE",
            "ingest-clients.crt",
            authority,
            "ca.crt",
        ));
    }
    Ok(files)
}

fn further_variables(input: &Dereferenced) -> Result<Vec<EnvVar>, Invalid> {
    input
        .node
        .spec
        .agent
        .env
        .iter()
        .map(
            |EnvironmentVariable {
                 name,
                 value,
                 value_from,
             }| {
                let mut source = None;
                if let Some(from) = value_from {
                    if let Some(reference) = &from.secret_key_ref {
                        secret_text(input, reference, "spec.agent.env")?;
                    }
                    source = Some(EnvVarSource {
                        secret_key_ref: from.secret_key_ref.as_ref().map(|reference| SecretKeySelector {
                            name: reference.name.clone(),
                            key: reference.key.clone(),
                            optional: None,
                        }),
                        config_map_key_ref: from.config_map_key_ref.as_ref().map(|reference| {
                            ConfigMapKeySelector {
                                name: reference.name.clone(),
                                key: reference.key.clone(),
                                optional: None,
                            }
                        }),
                        ..EnvVarSource::default()
                    });
                }
                Ok(EnvVar {
                    name: name.clone(),
                    value: value.clone(),
                    value_from: source,
                })
            },
        )
        .collect()
}

/// Each agent with the honeycombs, peers and voters of its own.
fn agent_members(input: &Dereferenced, identity: &NodeIdentity) -> Result<Vec<AgentMember>, Invalid> {
    let spec = &input.node.spec;
    let all: Vec<_> = members(Role::Agent, spec.agent.replicas).collect();
    all.iter()
        .map(|member| {
            let sources = sources_of(*member, all.len(), &spec.honeycomb.sources);
            let peers = voters::peers(input, identity, *member, &all);
            let voters = voters::voters(input, identity, *member, &all)?;
            let mut settings = BTreeMap::from([("PEER_ID", identity.member_name(*member))]);
            if !peers.is_empty() {
                settings.insert("PEERS", peers.join(","));
            }
            if !voters.is_empty() {
                settings.insert("VOTERS", voters.join(","));
            }
            Ok(AgentMember {
                member: *member,
                settings,
                sources_file: sources_file(input, &sources)?,
                has_sources: !sources.is_empty(),
                claim_generation: claim_generation(&input.claims, identity, *member),
            })
        })
        .collect()
}

/// The honeycombs that push to an agent: they are spread over all in turn.
pub(super) fn sources_of(
    member: Member,
    agents: usize,
    sources: &[HoneycombSource],
) -> Vec<&HoneycombSource> {
    sources
        .iter()
        .skip(usize::from(member.index))
        .step_by(agents.max(1))
        .collect()
}

/// The lines of the file that `HONEYCOMB_SOURCES_FILE` names.
fn sources_file(input: &Dereferenced, sources: &[&HoneycombSource]) -> Result<Option<SecretString>, Invalid> {
    let mut lines = String::new();
    for source in sources {
        let Some(reference) = &source.token else {
            continue;
        };
        let field = "spec.honeycomb.sources";
        let token = secret_text(input, reference, field)?;
        let fits = TOKEN_LENGTH.contains(&token.len())
            && token.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
        if !fits {
            return Err(Invalid::SecretUnusable {
                name: reference.name.clone(),
                key: reference.key.clone(),
                field: field.to_owned(),
                allowed: TOKEN_ALLOWED,
            });
        }
        // Writing to a string does not fail.
        let _ = writeln!(lines, "{}={token}", source.name);
    }
    Ok((!lines.is_empty()).then(|| SecretString::from(lines)))
}
