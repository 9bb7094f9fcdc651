//! The reconciler of `HoneygraphNode`, in five steps: dereference, validate, build, apply, status. Only the first and
//! the last two speak to the cluster.

pub mod apply;
pub mod build;
pub mod credentials;
pub mod dereference;
pub mod live;
pub mod observe;
pub mod status;
pub mod stop;
pub mod validate;

use std::sync::Arc;
use std::time::Duration;

use honeygraph_crds::{HoneygraphNode, HoneygraphNodeStatus};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt};
use strum::IntoStaticStr;
use thiserror::Error;
use tracing::{info, instrument};

use self::apply::ApplyError;
use self::dereference::{DereferenceError, Dereferenced};
use self::live::{ListError, Live};
use self::observe::ObservedAgent;
use self::status::Findings;
use self::stop::StopError;
use crate::context::Context;

/// Time to the next look at a node that stands as it should: agents are asked that often.
const POLL: Duration = Duration::from_secs(15);
/// Time to the next look at a node that waits for something; most changes wake it before.
const POLL_WAITING: Duration = Duration::from_secs(5);
/// Time to the next look at a node that waits for a person.
const POLL_STALLED: Duration = Duration::from_secs(30);

/// Why a reconcile was given up. It is tried again, ever later; the name of the variant is the reason in metrics.
#[derive(Debug, Error, IntoStaticStr)]
pub enum ReconcileError {
    /// What the spec refers to could not be read.
    #[error("failed to dereference")]
    Dereference(#[from] DereferenceError),
    /// What stands in the cluster could not be read.
    #[error("failed to look at the cluster")]
    List(#[from] ListError),
    /// What was built could not be applied.
    #[error("failed to apply")]
    Apply(#[from] ApplyError),
    /// Dgraph could not be stopped in order.
    #[error("failed to stop")]
    Stop(#[from] StopError),
    /// The status could not be written.
    #[error("failed to update the status")]
    UpdateStatus(#[source] kube::Error),
}

/// Makes the cluster say what a node's spec says, as far as its order allows now.
///
/// # Errors
/// As [`ReconcileError`] says.
#[instrument(skip_all, fields(node = %status::display_name(&node)))]
pub async fn reconcile(node: Arc<HoneygraphNode>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let namespace = node.namespace().unwrap_or_default();
    if node.metadata.deletion_timestamp.is_some() {
        let live = live::live(&context.client, &namespace, &node.name_any()).await?;
        return match stop::stop(&context.client, &node, &live).await? {
            Some(waiting) => {
                update_status(&node, &context, &Findings::Terminating { waiting: &waiting }).await?;
                Ok(Action::requeue(POLL_WAITING))
            }
            None => Ok(Action::await_change()),
        };
    }
    if node.spec.suspend {
        update_status(&node, &context, &Findings::Suspended).await?;
        return Ok(Action::await_change());
    }
    let live = live::live(&context.client, &namespace, &node.name_any()).await?;
    let input = dereference::dereference(&context.client, &context.nodes(), Arc::clone(&node), &live).await?;
    stop::prepare(&context.client, &node).await?;
    let change = change(&input, &live, &context).await?;
    let agents = ask(&input, &live, &context).await;
    match change {
        Change::Refused { reason, message } => {
            let findings = Findings::Stalled {
                reason,
                message: &message,
                agents: &agents,
            };
            update_status(&node, &context, &findings).await?;
            Ok(Action::requeue(POLL_STALLED))
        }
        Change::Applied { waiting, has_dgraph } => {
            let obstacles = observe::obstacles(&live);
            let findings = Findings::Applied {
                waiting: &waiting,
                obstacles: &obstacles,
                agents: &agents,
                has_dgraph,
            };
            update_status(&node, &context, &findings).await?;
            Ok(Action::requeue(if waiting.is_empty() {
                POLL
            } else {
                POLL_WAITING
            }))
        }
    }
}

/// How far a node was brought.
enum Change {
    /// Not at all: somebody has to change something.
    Refused { reason: &'static str, message: String },
    /// As far as its order allows now.
    Applied {
        waiting: Vec<apply::Waiting>,
        has_dgraph: bool,
    },
}

/// Validates, builds and applies.
async fn change(input: &Dereferenced, live: &Live, context: &Context) -> Result<Change, ReconcileError> {
    let identity = validate::identity(&input.node);
    let validated = match validate::validate(input, &context.settings.images) {
        Ok(validated) => validated,
        Err(invalid) => {
            return Ok(Change::Refused {
                reason: (&invalid).into(),
                message: invalid.to_string(),
            });
        }
    };
    let rotate = input
        .node
        .annotations()
        .get(credentials::ROTATE)
        .map(String::as_str);
    let existing = input.secrets.get(&identity.credentials());
    let credentials = credentials::credentials(&identity, existing, rotate, Timestamp::now());
    let resources = build::build(
        &validated,
        &input.secrets,
        credentials,
        &context.settings.operator_pods,
    );
    match apply::apply(&context.client, &identity.namespace, resources, live).await {
        Ok(waiting) => Ok(Change::Applied {
            waiting,
            has_dgraph: validated.agents.settings.contains_key("DGRAPH_ALPHA"),
        }),
        Err(error) => match error.needs_a_person() {
            Some(reason) => Ok(Change::Refused {
                reason,
                message: error.to_string(),
            }),
            None => Err(error.into()),
        },
    }
}

/// Asks every agent that the spec wants, also where the node cannot be changed now.
async fn ask(input: &Dereferenced, live: &Live, context: &Context) -> Vec<ObservedAgent> {
    let identity = validate::identity(&input.node);
    let tokens = input
        .secrets
        .get(&identity.credentials())
        .map(credentials::admin_tokens)
        .unwrap_or_default();
    let members: Vec<_> = validate::agent_members(&input.node).collect();
    observe::agents(&context.agents, &identity, &members, live, &tokens).await
}

/// Writes the status where it changed, and tells of it.
async fn update_status(
    node: &HoneygraphNode,
    context: &Context,
    findings: &Findings<'_>,
) -> Result<(), ReconcileError> {
    let identity = validate::identity(node);
    let status = status::status(node, &identity, findings, Timestamp::now());
    context
        .metrics
        .observe_phase(&identity.namespace, &identity.name, status.phase);
    if node.status.as_ref() == Some(&status) {
        return Ok(());
    }
    let former = node.status.clone().unwrap_or_default();
    let mut written = node.clone();
    written.status = Some(status.clone());
    written.metadata.managed_fields = None;
    let api: Api<HoneygraphNode> = Api::namespaced(context.client.clone(), &identity.namespace);
    // As a whole, so that nothing stays that somebody wrote by hand; refused where the node changed meanwhile.
    match api
        .replace_status(&identity.name, &PostParams::default(), &written)
        .await
    {
        Ok(_) => {
            tell(node, context, &former, &status).await;
            Ok(())
        }
        // Gone, or changed and reconciled again at once.
        Err(kube::Error::Api(response)) if response.is_not_found() || response.is_conflict() => Ok(()),
        Err(error) => Err(ReconcileError::UpdateStatus(error)),
    }
}

/// An event and a log line for each condition that flipped or gives another reason.
async fn tell(
    node: &HoneygraphNode,
    context: &Context,
    former: &HoneygraphNodeStatus,
    status: &HoneygraphNodeStatus,
) {
    for change in crate::conditions::changes(&former.conditions, &status.conditions) {
        info!(condition = %change.type_, status = %change.status, reason = %change.reason, message = %change.message, "changed");
        context.events.publish(node, change).await;
    }
}

#[cfg(test)]
mod tests;
