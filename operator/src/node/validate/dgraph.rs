//! Which Dgraph a node owns, and which one its agents write.

use std::sync::LazyLock;

use honeygraph_crds::{DgraphMode, HoneygraphNode, SecretKeyReference};
use kube::ResourceExt;
use regex::Regex;

use super::{
    DgraphMembers, Invalid, OwnedDgraph, SecretFile, bytes, claim_generation, members, require_keys,
    secret_text,
};
use crate::names::{NodeIdentity, Role, credentials_name};
use crate::node::credentials::DGRAPH_TOKEN_KEY;
use crate::node::dereference::Dereferenced;
use crate::settings::Images;

/// Port that agents speak to.
pub const ALPHA_GRPC_PORT: u16 = 9080;
/// Oldest Dgraph without known holes.
const OLDEST: (u32, u32) = (25, 4);

/// The version in an image's tag: `dgraph/dgraph:v25.4.0`.
static TAG: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r":v?(\d+)\.(\d+)(?:\.|$|-)").ok());

/// How agents reach the Dgraph that they write.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    /// `DGRAPH_MODE`.
    pub mode: &'static str,
    /// `DGRAPH_ALPHA`.
    pub alphas: Vec<String>,
    /// `DGRAPH_USER` and `DGRAPH_NAMESPACE`.
    pub login: Option<(String, u64)>,
    /// Files from Secrets.
    pub files: Vec<SecretFile>,
    /// The node that owns it, where one does.
    pub owner: Option<String>,
}

/// How the agents of a node reach Dgraph; none in mode `Embedded`.
pub(super) fn connection(
    input: &Dereferenced,
    identity: &NodeIdentity,
) -> Result<Option<Connection>, Invalid> {
    let dgraph = &input.node.spec.dgraph;
    let mode = match dgraph.mode {
        DgraphMode::Embedded => return Ok(None),
        DgraphMode::Independent => "independent",
        DgraphMode::Hybrid => "hybrid",
        DgraphMode::Shared => "shared",
    };
    let scheme = if dgraph.tls.is_some() { "https://" } else { "" };
    let (owner, alphas, token) = match &dgraph.cluster_ref {
        None => (
            Some(identity.name.clone()),
            alphas_of(&input.node, identity),
            Some(token_of(&input.node)),
        ),
        Some(cluster) => match &cluster.node_ref {
            Some(reference) => {
                let owner = owner(input, &reference.name)?;
                let other = NodeIdentity {
                    name: owner.name_any(),
                    ..identity.clone()
                };
                (
                    Some(other.name.clone()),
                    alphas_of(owner, &other),
                    Some(token_of(owner)),
                )
            }
            None => (
                None,
                cluster.endpoints.clone().unwrap_or_default(),
                dgraph.admin_token.clone(),
            ),
        },
    };
    let alphas = alphas
        .into_iter()
        .map(|alpha| {
            if alpha.contains("://") {
                alpha
            } else {
                format!("{scheme}{alpha}")
            }
        })
        .collect();
    Ok(Some(Connection {
        mode,
        alphas,
        login: dgraph.acl.as_ref().map(|acl| (acl.user.clone(), acl.namespace)),
        files: files(input, token)?,
        owner,
    }))
}

/// The Dgraph that a node owns, if any.
pub(super) fn owned(
    input: &Dereferenced,
    identity: &NodeIdentity,
    images: &Images,
) -> Result<Option<OwnedDgraph>, Invalid> {
    let dgraph = &input.node.spec.dgraph;
    if !owns_dgraph(&input.node) {
        return Ok(None);
    }
    let image = dgraph.image.clone().unwrap_or_else(|| images.dgraph.clone());
    if version(&image).is_some_and(|version| version < OLDEST) {
        return Err(Invalid::DgraphTooOld { image });
    }
    let zero = dgraph.zero.clone().unwrap_or_default();
    let alpha = dgraph.alpha.clone().unwrap_or_default();
    let login_key = dgraph.acl.as_ref().and_then(|acl| acl.hmac.clone());
    if let Some(key) = &login_key {
        let text = secret_text(input, key, "spec.dgraph.acl.hmac")?;
        if text.len() < 32 {
            return Err(unusable(
                key,
                "spec.dgraph.acl.hmac",
                "at least 32 bytes are needed",
            ));
        }
    }
    let tls_secret = dgraph.tls.as_ref().and_then(|tls| tls.server_secret_name.clone());
    if let Some(name) = &tls_secret {
        require_keys(
            input,
            name,
            &["tls.crt", "tls.key", "ca.crt"],
            "spec.dgraph.tls.serverSecretName",
        )?;
    }
    let with_generations = |role, count| {
        members(role, count)
            .map(|member| (member, claim_generation(&input.claims, identity, member)))
            .collect()
    };
    Ok(Some(OwnedDgraph {
        image,
        zeros: DgraphMembers {
            members: with_generations(Role::Zero, zero.replicas),
            storage: zero.storage,
            resources: zero.resources,
            flags: zero.flags,
        },
        cache_mebibytes: bytes(&alpha.cache_size, "spec.dgraph.alpha.cacheSize")? >> 20,
        alphas: DgraphMembers {
            members: with_generations(Role::Alpha, alpha.replicas),
            storage: alpha.storage,
            resources: alpha.resources,
            flags: alpha.flags,
        },
        token: token_of(&input.node),
        login_key,
        tls_secret,
    }))
}

/// Whether a node owns the Dgraph that it writes.
pub fn owns_dgraph(node: &HoneygraphNode) -> bool {
    let dgraph = &node.spec.dgraph;
    dgraph.mode != DgraphMode::Embedded && dgraph.cluster_ref.is_none()
}

fn owner<'a>(input: &'a Dereferenced, name: &str) -> Result<&'a HoneygraphNode, Invalid> {
    let owner = input
        .dgraph_owner
        .as_deref()
        .ok_or_else(|| Invalid::DgraphOwnerMissing {
            name: name.to_owned(),
        })?;
    if !owns_dgraph(owner) {
        return Err(Invalid::DgraphOwnerHasNone {
            name: name.to_owned(),
        });
    }
    let spec = &input.node.spec;
    if spec.dgraph.mode == DgraphMode::Hybrid && owner.spec.region != spec.region {
        return Err(Invalid::DgraphOwnerElsewhere {
            name: name.to_owned(),
            region: owner.spec.region.clone(),
            own: spec.region.clone(),
        });
    }
    Ok(owner)
}

/// The alphas of the node that owns them.
fn alphas_of(owner: &HoneygraphNode, identity: &NodeIdentity) -> Vec<String> {
    let count = owner.spec.dgraph.alpha.as_ref().map_or(1, |alpha| alpha.replicas);
    members(Role::Alpha, count)
        .map(|member| format!("{}:{ALPHA_GRPC_PORT}", identity.host(member)))
        .collect()
}

/// Where the token of the alphas stands: named by the owner, or made by the operator.
fn token_of(owner: &HoneygraphNode) -> SecretKeyReference {
    owner
        .spec
        .dgraph
        .admin_token
        .clone()
        .unwrap_or_else(|| SecretKeyReference {
            name: credentials_name(&owner.name_any()),
            key: DGRAPH_TOKEN_KEY.to_owned(),
        })
}

/// The files that an agent needs to speak to Dgraph.
fn files(input: &Dereferenced, token: Option<SecretKeyReference>) -> Result<Vec<SecretFile>, Invalid> {
    let dgraph = &input.node.spec.dgraph;
    let mut files = Vec::new();
    if let Some(acl) = &dgraph.acl {
        secret_text(input, &acl.password, "spec.dgraph.acl.password")?;
        files.push(SecretFile {
            setting: "DGRAPH_PASSWORD_FILE",
            file: "dgraph-password",
            secret: acl.password.name.clone(),
            key: acl.password.key.clone(),
        });
    }
    if let Some(token) = token {
        if dgraph.admin_token.is_some() {
            secret_text(input, &token, "spec.dgraph.adminToken")?;
        }
        files.push(SecretFile {
            setting: "DGRAPH_AUTH_TOKEN_FILE",
            file: "dgraph-token",
            secret: token.name,
            key: token.key,
        });
    }
    if let Some(tls) = &dgraph.tls {
        let authority = tls
            .client_secret_name
            .as_ref()
            .or(tls.server_secret_name.as_ref());
        if let Some(secret) = authority {
            require_keys(input, secret, &["ca.crt"], "spec.dgraph.tls")?;
            files.push(SecretFile {
                setting: "DGRAPH_CA_FILE",
                file: "dgraph-ca.crt",
                secret: secret.clone(),
                key: "ca.crt".to_owned(),
            });
        }
        if let Some(secret) = &tls.client_secret_name
            && require_keys(input, secret, &["tls.crt", "tls.key"], "").is_ok()
        {
            for (setting, file, key) in [
                ("DGRAPH_CERTIFICATE_FILE", "dgraph-client.crt", "tls.crt"),
                ("DGRAPH_KEY_FILE", "dgraph-client.key", "tls.key"),
            ] {
                files.push(SecretFile {
                    setting,
                    file,
                    secret: secret.clone(),
                    key: key.to_owned(),
                });
            }
        }
    }
    Ok(files)
}

fn unusable(reference: &SecretKeyReference, field: &str, allowed: &'static str) -> Invalid {
    Invalid::SecretUnusable {
        name: reference.name.clone(),
        key: reference.key.clone(),
        field: field.to_owned(),
        allowed,
    }
}

/// The version that an image's tag names, if it names one.
fn version(image: &str) -> Option<(u32, u32)> {
    let captures = TAG.as_ref()?.captures(image)?;
    Some((captures[1].parse().ok()?, captures[2].parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_tags() {
        assert_eq!(version("dgraph/dgraph:v25.4.0"), Some((25, 4)));
        assert_eq!(version("registry.example:5000/dgraph:24.1.2-rc1"), Some((24, 1)));
        assert_eq!(version("registry.example:5000/dgraph:latest"), None);
        assert_eq!(version("dgraph/dgraph@sha256:0011"), None);
    }
}
