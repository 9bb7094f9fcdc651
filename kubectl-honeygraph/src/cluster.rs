//! What speaks to the API server, and through it to agents.

mod agents;
mod clock;
mod error;
mod examine;
mod logs;

use std::path::PathBuf;
use std::time::Duration;

use honeygraph_crds::{Checkpoint, HoneygraphNode};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, Resource, ResourceExt};
use secrecy::SecretString;
use serde::de::DeserializeOwned;

pub use agents::AgentAnswer;
pub use error::ClusterError;
pub use logs::LogOptions;

use crate::sight::namespace;
use crate::sync::key_of_secret;

/// Longest wait for a connection to the API server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Nodes in one answer of the API server.
const PAGE: u32 = 500;

/// Which cluster, and as whom: as `kubectl` is told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Connection {
    /// The file; `KUBECONFIG` or `~/.kube/config` unless set.
    pub kubeconfig: Option<PathBuf>,
    /// The context in it; the current one unless set.
    pub context: Option<String>,
}

/// Where nodes are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// In one namespace.
    Namespace(String),
    /// In all.
    All,
}

impl Scope {
    /// As it stands in a sentence.
    pub fn place(&self) -> String {
        match self {
            Self::Namespace(namespace) => format!("in namespace {namespace}"),
            Self::All => "in any namespace".to_owned(),
        }
    }

    fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        match self {
            Self::Namespace(namespace) => Api::namespaced(client.clone(), namespace),
            Self::All => Api::all(client.clone()),
        }
    }
}

/// Nodes as they were listed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ListedNodes {
    /// Those that this version understands.
    pub nodes: Vec<HoneygraphNode>,
    /// `<namespace>/<name>` of the others.
    pub not_understood: Vec<String>,
}

/// A cluster.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    /// Address of its API server.
    server: String,
    namespace: String,
}

impl Cluster {
    /// Reads the configuration. Nothing is asked yet.
    ///
    /// # Errors
    /// There is no usable configuration.
    pub async fn connect(connection: &Connection) -> Result<Self, ClusterError> {
        let mut config = configuration(connection).await?;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        let server = config.cluster_url.to_string();
        let namespace = config.default_namespace.clone();
        let client = Client::try_from(config).map_err(|error| ClusterError::Client(Box::new(error)))?;
        Ok(Self {
            client,
            server,
            namespace,
        })
    }

    /// The namespace of the context.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// All nodes, by namespace and name.
    ///
    /// # Errors
    /// They cannot be listed.
    pub async fn nodes(&self, scope: &Scope) -> Result<ListedNodes, ClusterError> {
        // Undecoded: one object of another version must not hide the others.
        let kind = ApiResource::erase::<HoneygraphNode>(&());
        let api: Api<DynamicObject> = match scope {
            Scope::Namespace(namespace) => Api::namespaced_with(self.client.clone(), namespace, &kind),
            Scope::All => Api::all_with(self.client.clone(), &kind),
        };
        let mut objects = all(&api)
            .await
            .map_err(|error| self.explained(error, "list honeygraphnodes", scope))?;
        objects.sort_by_key(|object| (object.namespace(), object.name_any()));
        let mut listed = ListedNodes::default();
        for object in objects {
            let name = format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any());
            match object.try_parse::<HoneygraphNode>() {
                Ok(node) => listed.nodes.push(node),
                Err(_) => listed.not_understood.push(name),
            }
        }
        Ok(listed)
    }

    /// The nodes of these names; all where none is named.
    ///
    /// # Errors
    /// They cannot be listed, or there is none of a name.
    pub async fn named_nodes(&self, scope: &Scope, names: &[String]) -> Result<ListedNodes, ClusterError> {
        let mut listed = self.nodes(scope).await?;
        let short = |name: &str| name.rsplit_once('/').map_or(name, |(_, name)| name).to_owned();
        for name in names {
            let is_there = listed.nodes.iter().any(|node| node.name_any() == *name)
                || listed.not_understood.iter().any(|other| short(other) == *name);
            if !is_there {
                return Err(ClusterError::NoSuchNode {
                    name: name.clone(),
                    place: scope.place(),
                    others: listed.nodes.iter().map(ResourceExt::name_any).collect(),
                });
            }
        }
        if !names.is_empty() {
            listed.nodes.retain(|node| names.contains(&node.name_any()));
            listed.not_understood.retain(|name| names.contains(&short(name)));
        }
        Ok(listed)
    }

    /// All checkpoints that are understood. Where they cannot be listed, none: nodes are shown anyhow.
    pub async fn checkpoints(&self, scope: &Scope) -> Vec<Checkpoint> {
        let api = scope.api::<Checkpoint>(&self.client);
        all(&api).await.unwrap_or_default()
    }

    /// The API key that the spec of a node names a Secret for. None where it names none, and where that may not be read:
    /// the agents say then that they want one.
    pub async fn api_key(&self, node: &HoneygraphNode) -> Option<SecretString> {
        let reference = node.spec.peers.api_keys.as_ref()?;
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &namespace(node));
        let secret = api.get_opt(&reference.name).await.ok()??;
        key_of_secret(&secret, &reference.key)
    }

    fn explained(&self, error: kube::Error, action: &str, scope: &Scope) -> ClusterError {
        ClusterError::explained(error, action, &scope.place(), &self.server)
    }
}

async fn configuration(connection: &Connection) -> Result<Config, ClusterError> {
    let options = KubeConfigOptions {
        context: connection.context.clone(),
        ..KubeConfigOptions::default()
    };
    let unusable = |error| ClusterError::Configuration(Box::new(error));
    let read = match &connection.kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    match read {
        Ok(kubeconfig) => Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .map_err(unusable),
        // Inside a pod there is another way.
        Err(error) if connection.kubeconfig.is_none() && connection.context.is_none() => {
            Config::incluster().map_err(|_| unusable(error))
        }
        Err(error) => Err(unusable(error)),
    }
}

/// All objects of a kind, page by page.
async fn all<K>(api: &Api<K>) -> Result<Vec<K>, kube::Error>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let mut objects = Vec::new();
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let list = api.list(&page).await?;
        objects.extend(list.items);
        match list.metadata.continue_.filter(|next| !next.is_empty()) {
            Some(next) => page = page.continue_token(&next),
            None => return Ok(objects),
        }
    }
}
