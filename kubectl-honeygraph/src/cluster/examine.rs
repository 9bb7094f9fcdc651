//! What `doctor` looks at.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use honeygraph_crds::HoneygraphNode;
use honeygraph_operator::names::{MANAGED_BY, MANAGER, NODE_LABEL};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::version::Info;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{ListParams, PostParams};
use kube::client::Body;
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::error::root_cause;
use super::{Cluster, ClusterError, ListedNodes, Scope, clock};
use crate::doctor::installation::variable;
use crate::doctor::{
    AgentFindings, Findings, NodeFindings, OperatorFindings, RIGHTS, Right, Rule, Seen, Unseen,
};
use crate::sight::{AgentSight, namespace};

/// Questions to the API server at once.
const CONCURRENT: usize = 8;
/// Name of the Lease where the operator is told none.
const DEFAULT_LEASE: &str = "honeygraph-operator";
/// Namespace of the operator where all namespaces may not be looked at.
const DEFAULT_NAMESPACE: &str = "honeygraph-system";
/// Longest wait for the API server's version.
const TIMEOUT: Duration = Duration::from_secs(10);

impl Cluster {
    /// Looks at the whole installation, and at these nodes or all.
    ///
    /// # Errors
    /// The API server does not answer at all, or there is no node of a name.
    pub async fn examine(&self, scope: &Scope, names: &[String]) -> Result<Findings, ClusterError> {
        let (version, server_ahead) = self.version().await?;
        let now = Timestamp::now();
        let (nodes, not_understood) = match self.named_nodes(scope, names).await {
            Ok(ListedNodes {
                nodes,
                not_understood,
            }) => {
                let looked = nodes
                    .into_iter()
                    .map(|node| self.examine_node(node, server_ahead));
                let found = stream::iter(looked).buffered(CONCURRENT).collect().await;
                (Ok(found), not_understood)
            }
            Err(
                error @ (ClusterError::NoSuchNode { .. }
                | ClusterError::Unauthorized { .. }
                | ClusterError::Unreachable { .. }),
            ) => return Err(error),
            Err(ClusterError::Forbidden { action, place }) => {
                (Err(Unseen::Forbidden(format!("{action} {place}"))), Vec::new())
            }
            // Said of the definitions already.
            Err(ClusterError::NotInstalled) => (Ok(Vec::new()), Vec::new()),
            Err(error) => (Err(Unseen::Failed(error.to_string())), Vec::new()),
        };
        Ok(Findings {
            now: now
                .saturating_add(server_ahead.unwrap_or_default())
                .unwrap_or(now),
            place: scope.place(),
            version,
            definitions: self.definitions().await,
            operators: self.operators().await,
            nodes,
            not_understood,
        })
    }

    /// Version of Kubernetes, and how far the API server's clock is ahead of ours.
    async fn version(&self) -> Result<(Seen<Info>, Option<SignedDuration>), ClusterError> {
        let request = http::Request::get("/version")
            .body(Body::empty())
            .map_err(kube::Error::HttpError);
        let asked_at = Timestamp::now();
        let answer = match request {
            Ok(request) => tokio::time::timeout(TIMEOUT, self.client.send(request)).await,
            Err(error) => Ok(Err(error)),
        };
        let explained =
            |error| ClusterError::explained(error, "ask for the version", "of Kubernetes", &self.server);
        let answer = match answer {
            Ok(answer) => answer.map_err(explained)?,
            Err(_) => {
                return Err(ClusterError::Unreachable {
                    server: self.server.clone(),
                    reason: "timed out".to_owned(),
                });
            }
        };
        if answer.status() == http::StatusCode::UNAUTHORIZED {
            return Err(ClusterError::Unauthorized {
                server: self.server.clone(),
            });
        }
        let ahead = clock::ahead(answer.headers(), asked_at, Timestamp::now());
        let version = self.client.apiserver_version().await;
        if let Err(error @ (kube::Error::Service(_) | kube::Error::Auth(_))) = version {
            return Err(explained(error));
        }
        Ok((seen(version, "read the version of Kubernetes"), ahead))
    }

    async fn definitions(&self) -> Seen<Vec<CustomResourceDefinition>> {
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let mut found = Vec::new();
        for wanted in honeygraph_crds::definitions() {
            let definition = api.get_opt(&wanted.name_any()).await;
            found.extend(seen(definition, "read customresourcedefinitions")?);
        }
        Ok(found)
    }

    async fn operators(&self) -> Seen<Vec<OperatorFindings>> {
        let parameters = ListParams::default().labels("app.kubernetes.io/name=honeygraph-operator");
        let everywhere: Api<Deployment> = Api::all(self.client.clone());
        let deployments = match everywhere.list(&parameters).await {
            Err(kube::Error::Api(status)) if status.code == 403 => {
                let usual: Api<Deployment> = Api::namespaced(self.client.clone(), DEFAULT_NAMESPACE);
                let action = format!("list deployments in any namespace, nor in {DEFAULT_NAMESPACE}");
                seen(usual.list(&parameters).await, &action)?
            }
            listed => seen(listed, "list deployments")?,
        };
        let mut operators = Vec::new();
        for deployment in deployments.items {
            operators.push(OperatorFindings {
                lease: self.lease(&deployment).await,
                lacking: self.lacking(&deployment).await,
                deployment,
            });
        }
        Ok(operators)
    }

    async fn lease(&self, deployment: &Deployment) -> Seen<Option<Lease>> {
        let namespace = deployment.namespace().unwrap_or_default();
        let name = variable(deployment, "LEASE_NAME").unwrap_or(DEFAULT_LEASE);
        let api: Api<Lease> = Api::namespaced(self.client.clone(), &namespace);
        seen(api.get_opt(name).await, &format!("get leases in {namespace}"))
    }

    /// Rights that the account of an operator should have and has not.
    async fn lacking(&self, deployment: &Deployment) -> Seen<Vec<Right>> {
        let pod = deployment
            .spec
            .as_ref()
            .and_then(|spec| spec.template.spec.as_ref());
        let account = pod
            .and_then(|pod| pod.service_account_name.as_deref())
            .unwrap_or("default");
        let user = format!(
            "system:serviceaccount:{}:{account}",
            deployment.namespace().unwrap_or_default()
        );
        let watched = variable(deployment, "WATCH_NAMESPACE").map(str::to_owned);
        let asked = RIGHTS.iter().flat_map(Rule::rights).map(|right| {
            let (user, watched) = (user.clone(), watched.clone());
            async move { (right, self.may(user, watched, right).await) }
        });
        let mut answers = stream::iter(asked).buffered(CONCURRENT);
        let mut lacking = Vec::new();
        while let Some((right, may)) = answers.next().await {
            if !may? {
                lacking.push(right);
            }
        }
        Ok(lacking)
    }

    async fn may(&self, user: String, namespace: Option<String>, right: Right) -> Seen<bool> {
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user),
                resource_attributes: Some(ResourceAttributes {
                    group: Some(right.group.to_owned()),
                    resource: Some(right.resource.to_owned()),
                    subresource: right.part.map(str::to_owned),
                    verb: Some(right.verb.to_owned()),
                    namespace,
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let answer = seen(
            api.create(&PostParams::default(), &review).await,
            "create subjectaccessreviews",
        )?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }

    async fn examine_node(&self, node: HoneygraphNode, server_ahead: Option<SignedDuration>) -> NodeFindings {
        let agents = self.dated_sights(&node).await.into_iter().map(|sight| {
            let ahead = sight.answer.as_ref().ok().and_then(|answer| answer.ahead);
            AgentFindings {
                sight: AgentSight {
                    name: sight.name,
                    answer: sight.answer.map(|answer| answer.body),
                },
                ahead: ahead.map(|ahead| ahead.saturating_sub(server_ahead.unwrap_or_default())),
            }
        });
        NodeFindings {
            agents: agents.collect(),
            pods: self.parts(&node).await,
            claims: self.parts(&node).await,
            node,
        }
    }

    /// Objects of a kind that belong to a node.
    async fn parts<K>(&self, node: &HoneygraphNode) -> Seen<Vec<K>>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let namespace = namespace(node);
        let api: Api<K> = Api::namespaced(self.client.clone(), &namespace);
        let selector = format!("{NODE_LABEL}={},{MANAGED_BY}={MANAGER}", node.name_any());
        let listed = api.list(&ListParams::default().labels(&selector)).await;
        let listed = seen(listed, &format!("list {} in {namespace}", K::plural(&())))?;
        Ok(listed.items)
    }
}

fn seen<T>(answer: Result<T, kube::Error>, action: &str) -> Seen<T> {
    answer.map_err(|error| match &error {
        kube::Error::Api(status) if status.code == 403 => Unseen::Forbidden(action.to_owned()),
        kube::Error::Api(status) => Unseen::Failed(status.message.clone()),
        error => Unseen::Failed(root_cause(error)),
    })
}
