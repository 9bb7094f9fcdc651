//! Keeps a node's Dgraph in step with its log, for as long as the node runs.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::client::{DgraphClient, DgraphSettings, Query, SettingsError};
use super::job::{JobState, Jobs, Order};
use super::projection::region::NETWORK_NODE;
use super::projection::{
    AdvanceError, ErrorPolicy, Progress, Projection, ProjectionError, ProjectionSettings, ProjectionStore,
    StateCursor, WriterName, clear,
};
use super::status::{ProjectionMismatch, ProjectionStatus};
use crate::metrics::{Metrics, ProjectionOutcome};
use crate::replica::ReplicaStatus;
use crate::store::Store;
use crate::wire::NetworkName;

/// Most bytes of an answer about what was projected: one block may be large, and is answered as text within text.
const ANSWER_BYTES: usize = 256 << 20;

/// A client for a projection.
pub fn projection_client(settings: &DgraphSettings) -> Result<DgraphClient, SettingsError> {
    DgraphClient::new(DgraphSettings {
        max_answer_bytes: ANSWER_BYTES,
        ..settings.clone()
    })
}

/// What the service works with.
#[derive(Debug)]
pub struct ProjectionService {
    /// The cluster.
    pub client: DgraphClient,
    /// The network whose log is projected.
    pub network: NetworkName,
    /// This node, among those that write there.
    pub writer: WriterName,
    /// The log.
    pub log: Store,
    /// What people ask of it.
    pub jobs: Jobs,
    /// How it is projected.
    pub settings: ProjectionSettings,
    /// Told where Dgraph stands.
    pub status: watch::Sender<ProjectionStatus>,
    /// Counted in.
    pub metrics: Metrics,
}

impl ProjectionService {
    /// Opens the cluster and follows the log, until it is told to stop. A Dgraph that is away, wrong or wiped
    /// is opened again, with growing waits; nothing else of the node waits for it.
    pub async fn run(self, changes: watch::Receiver<Arc<ReplicaStatus>>, stop: CancellationToken) {
        let mut waits = backoff();
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.drop_for_job() => {}
            }
            if self.jobs.wants_drop() {
                let wait = waits.next().unwrap_or(LONGEST_WAIT);
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(wait) => continue,
                }
            }
            let opened = tokio::select! {
                () = stop.cancelled() => return,
                opened = ProjectionStore::open(self.client.clone(), &self.network, &self.writer) => opened,
            };
            match opened {
                Ok(store) => {
                    tracing::info!(network = %self.network, "dgraph opened");
                    waits = backoff();
                    self.status
                        .send_modify(|status| status.cursor_query = Some(cursor_query()));
                    let projection =
                        Projection::new(Arc::new(store), self.log.clone(), self.settings.clone());
                    projection
                        .follow(
                            changes.clone(),
                            &self.jobs,
                            stop.clone(),
                            |projection, attempt, took| {
                                self.report(projection.cursor(), attempt, took);
                            },
                        )
                        .await;
                    if matches!(self.jobs.order(), Some(Order::Verify { .. })) {
                        self.jobs.fail("Dgraph had to be opened again meanwhile");
                    }
                    if self.jobs.wants_drop() {
                        continue;
                    }
                }
                Err(error) => {
                    self.failed(&error);
                    match self.jobs.order() {
                        Some(Order::Rebuild { .. }) if error.policy() == ErrorPolicy::RetryLater => {
                            self.jobs.note(|job| job.error = Some(error.to_string()));
                        }
                        Some(_) => self.jobs.fail(&error),
                        None => {}
                    }
                }
            }
            let wait = waits.next().unwrap_or(LONGEST_WAIT);
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.jobs.wanted() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Takes everything away that stands in Dgraph, where a job asks for it; it is asked for still where Dgraph
    /// would not do it now.
    async fn drop_for_job(&self) {
        if !self.jobs.wants_drop() {
            return;
        }
        match clear(&self.client, &self.network, &self.writer).await {
            // Somebody else does it, or has done it.
            Ok(()) | Err(ProjectionError::Clearing { .. }) => self.jobs.note(|job| {
                job.state = JobState::Running;
                job.is_dropped = true;
            }),
            Err(error) if error.policy() == ErrorPolicy::RetryLater => {
                self.jobs.note(|job| job.error = Some(error.to_string()));
            }
            Err(error) => self.jobs.fail(error),
        }
    }

    fn report(
        &self,
        cursor: Option<&super::projection::Cursor>,
        attempt: &Result<Progress, AdvanceError>,
        took: Duration,
    ) {
        match attempt {
            Ok(progress) => {
                if *progress == Progress::Moved {
                    self.metrics
                        .count_dgraph_transaction(ProjectionOutcome::Committed);
                    self.metrics.observe_dgraph_step(took);
                }
                let mismatch = mismatch_of(progress);
                // One that lasts may be told of other blocks as other writers go on.
                let is_new = self.status.borrow().mismatch.is_none();
                if let (Some(mismatch), true) = (&mismatch, is_new) {
                    self.metrics.count_dgraph_mismatch();
                    tracing::error!(
                        block = %mismatch.block,
                        "dgraph holds another block than the log; nothing is written before that is settled: \
                         see docs/dgraph.md"
                    );
                }
                if matches!(progress, Progress::Rewound { .. }) {
                    self.metrics.count_dgraph_rewind();
                }
                if let Progress::Repaired { blocks, nodes } = progress {
                    self.metrics.count_dgraph_repairs(blocks + nodes);
                    tracing::warn!(blocks, nodes, "dgraph differed from the log and was repaired");
                }
                self.status.send_modify(|status| {
                    status.connected = true;
                    status.last_error = None;
                    status.mismatch = mismatch;
                    if let Some(cursor) = cursor {
                        status.applied = cursor.applied;
                        status.from = cursor.from;
                        status.state_block = match cursor.state {
                            StateCursor::At(block) => Some(block),
                            StateCursor::Nothing | StateCursor::Replacing { .. } => None,
                        };
                    }
                });
            }
            Err(AdvanceError::Projection(error)) => self.failed(error),
            Err(error) => {
                tracing::error!(%error, "nothing is projected into dgraph");
                self.metrics.count_dgraph_transaction(ProjectionOutcome::Failed);
                let text = error.to_string();
                self.status.send_modify(|status| status.last_error = Some(text));
            }
        }
    }

    fn failed(&self, error: &ProjectionError) {
        if error.policy() == ErrorPolicy::RetryLater {
            tracing::warn!(%error, "dgraph does not take the log; it is tried again");
        } else {
            tracing::error!(%error, "dgraph does not take the log");
        }
        let outcome = match error {
            ProjectionError::Dgraph(error) if error.is_conflict() => ProjectionOutcome::Conflict,
            ProjectionError::Dgraph(error) if error.outcome_unknown() => ProjectionOutcome::Unknown,
            _ => ProjectionOutcome::Failed,
        };
        self.metrics.count_dgraph_transaction(outcome);
        self.status.send_modify(|status| match error {
            ProjectionError::Dgraph(error) => status.failed(error),
            other => status.last_error = Some(other.to_string()),
        });
    }
}

fn mismatch_of(progress: &Progress) -> Option<ProjectionMismatch> {
    match progress {
        Progress::Mismatch { block, ours } => Some(ProjectionMismatch {
            block: block.number,
            log_hash: *ours,
            dgraph_hash: Some(block.hash),
        }),
        _ => None,
    }
}

/// Asks for the cursor; see [`ProjectionStatus::cursor_query`].
fn cursor_query() -> Query {
    Query::new(format!(
        "{{ cursor(func: uid({NETWORK_NODE})) {{ appliedBlock appliedHash stateBlock }} }}"
    ))
}

/// Longest wait between attempts to open a cluster.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

fn backoff() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_secs(1))
        .with_max_delay(LONGEST_WAIT)
        .with_jitter()
        .without_max_times()
        .build()
}

#[cfg(test)]
mod tests {
    use honeygraph_chain::ContentId;
    use honeygraph_chain::fork::BlockReference;

    use super::*;
    use crate::dgraph::projection::Writers;
    use crate::store::StoreSettings;

    #[test]
    fn a_mismatch_is_told_as_long_as_it_lasts_and_counted_once() {
        let home = tempfile::tempdir().unwrap();
        let (log, _writer, _) = Store::open(home.path(), &StoreSettings::default()).unwrap();
        let (status, seen) = ProjectionStatus::channel();
        let service = ProjectionService {
            client: DgraphClient::new(DgraphSettings::new(vec!["http://alpha".parse().unwrap()])).unwrap(),
            network: "spkcc".parse().unwrap(),
            writer: "w".parse().unwrap(),
            log,
            jobs: Jobs::default(),
            settings: ProjectionSettings {
                step_blocks: 1,
                writers: Writers::Several,
            },
            status,
            metrics: Metrics::new(),
        };
        let report = |progress| service.report(None, &Ok(progress), Duration::ZERO);
        let mismatch = |number: u64| Progress::Mismatch {
            block: BlockReference {
                number: number.try_into().unwrap(),
                hash: ContentId::of(b"x"),
            },
            ours: None,
        };
        let expect = |stands: bool, times: u64| {
            assert_eq!(seen.borrow().mismatch.is_some(), stands);
            let text = service.metrics.encode().unwrap();
            let counted = format!("honeygraph_dgraph_mismatches_total {times}\n");
            assert!(text.contains(&counted), "{text}");
        };
        report(Progress::Idle);
        expect(false, 0);
        for number in 7..10 {
            report(mismatch(number));
            expect(true, 1);
            service.failed(&ProjectionError::Gone("x".to_owned()));
            expect(true, 1);
        }
        report(Progress::Moved);
        expect(false, 1);
        report(mismatch(9));
        expect(true, 2);
    }
}
