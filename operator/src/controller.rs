//! Runs the reconciler: watches nodes and what they are made of, many at once, each with a back-off of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures_util::StreamExt;
use honeygraph_crds::HoneygraphNode;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::PartialObjectMeta;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::runtime::controller::{self, Action, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{Predicate, PredicateConfig, WatchStreamExt, predicates, reflector, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::agent::{AgentClient, AgentError};
use crate::context::Context;
use crate::error::with_causes;
use crate::events::Events;
use crate::metrics::Metrics;
use crate::names::{MANAGED_BY, MANAGER};
use crate::node::{self, ReconcileError};
use crate::settings::Settings;

type Guarded = DeserializeGuard<HoneygraphNode>;

/// First wait after a failed reconcile; doubled each time, with jitter.
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
/// Longest wait after a failed reconcile.
const LONGEST_BACK_OFF: Duration = Duration::from_mins(2);
/// Changes of an object within this time are one.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// Reconciles nodes until `shutdown`; a reconcile that is under way is finished.
///
/// # Errors
/// The client for agents cannot be made.
pub async fn run(
    client: Client,
    settings: Arc<Settings>,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> Result<(), AgentError> {
    let nodes: Api<Guarded> = scoped(&client, &settings);
    let (store, writer) = reflector::store();
    let stream = watcher(nodes, watcher::Config::default())
        .default_backoff()
        .reflect(writer)
        .applied_objects()
        // A status that changed is no reason to reconcile; a finalizer, label or annotation is.
        .predicate_filter(
            predicates::generation
                .combine(predicates::finalizers)
                .combine(predicates::labels)
                .combine(predicates::annotations),
            PredicateConfig::default(),
        );
    let context = Arc::new(Context {
        agents: AgentClient::new()?,
        events: Events::new(client.clone(), settings.pod_name.clone()),
        metrics,
        settings: Arc::clone(&settings),
        store: store.clone(),
        client: client.clone(),
    });
    let back_off = Arc::new(BackOff::default());
    let ours = watcher::Config::default().labels(&format!("{MANAGED_BY}={MANAGER}"));
    let reconciled = Arc::clone(&back_off);
    Controller::for_stream(stream, store)
        .with_config(
            controller::Config::default()
                .concurrency(settings.reconcile_concurrent)
                .debounce(DEBOUNCE),
        )
        .owns(scoped_metadata::<StatefulSet>(&client, &settings), ours.clone())
        .owns(scoped_metadata::<Service>(&client, &settings), ours.clone())
        .owns(scoped_metadata::<ConfigMap>(&client, &settings), ours.clone())
        .owns(scoped_metadata::<Secret>(&client, &settings), ours.clone())
        .owns(
            scoped_metadata::<ServiceAccount>(&client, &settings),
            ours.clone(),
        )
        .owns(scoped_metadata::<NetworkPolicy>(&client, &settings), ours.clone())
        .owns(
            scoped_metadata::<PodDisruptionBudget>(&client, &settings),
            ours.clone(),
        )
        .owns(scoped_metadata::<Ingress>(&client, &settings), ours)
        .graceful_shutdown_on(async move { shutdown.cancelled().await })
        .run(
            move |node, context| reconcile(node, context, Arc::clone(&reconciled)),
            move |node, error, context| on_error(&node, error, &context, &back_off),
            context,
        )
        .for_each(async |result| {
            // What a reconcile returned was told where it happened.
            if let Err(error @ (controller::Error::QueueError(_) | controller::Error::RunnerError(_))) =
                result
            {
                warn!(%error, "the watch was interrupted and begins anew");
            }
        })
        .await;
    Ok(())
}

async fn reconcile(
    node: Arc<Guarded>,
    context: Arc<Context>,
    back_off: Arc<BackOff>,
) -> Result<Action, ReconcileError> {
    let node = match &node.0 {
        Ok(node) => Arc::new(node.clone()),
        Err(invalid) => {
            // It waits for a change; the others are not held up.
            let name = invalid.metadata.name.clone().unwrap_or_default();
            warn!(node = %name, error = %invalid.error, "a node cannot be read and is skipped");
            context.metrics.count_undecodable();
            return Ok(Action::await_change());
        }
    };
    let reference = ObjectRef::from_obj(node.as_ref());
    let began = Instant::now();
    let result = node::reconcile(node, Arc::clone(&context)).await;
    context
        .metrics
        .observe_reconcile(began.elapsed(), result.as_ref().err().map(<&'static str>::from));
    if result.is_ok() {
        back_off.reset(&reference);
    }
    result
}

fn on_error(node: &Guarded, error: &ReconcileError, _: &Context, back_off: &BackOff) -> Action {
    let wait = match &node.0 {
        Ok(node) => back_off.next(ObjectRef::from_obj(node)),
        Err(_) => LONGEST_BACK_OFF,
    };
    error!(node = %node.name_any(), error = %with_causes(error), wait_seconds = wait.as_secs_f32(), "a reconcile failed and is tried again");
    Action::requeue(wait)
}

/// The wait of each node after failures in a row.
#[derive(Default)]
struct BackOff(Mutex<HashMap<ObjectRef<HoneygraphNode>, ExponentialBackoff>>);

impl BackOff {
    fn next(&self, node: ObjectRef<HoneygraphNode>) -> Duration {
        let mut waits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = waits.entry(node).or_insert_with(|| {
            ExponentialBuilder::default()
                .with_min_delay(FIRST_BACK_OFF)
                .with_max_delay(LONGEST_BACK_OFF)
                .without_max_times()
                .with_jitter()
                .build()
        });
        wait.next().unwrap_or(LONGEST_BACK_OFF)
    }

    fn reset(&self, node: &ObjectRef<HoneygraphNode>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(node);
    }
}

/// The objects of a kind in the namespaces that are watched.
fn scoped<K>(client: &Client, settings: &Settings) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    match &settings.watch_namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// The same, of whose objects only the metadata is held in memory.
fn scoped_metadata<K>(client: &Client, settings: &Settings) -> Api<PartialObjectMeta<K>>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    scoped(client, settings)
}
