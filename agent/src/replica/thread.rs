//! The replica on a thread of its own, and the handle that the rest of the node holds.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use honeygraph_chain::checkpoint::{Anchor, DeltaDocument};
use honeygraph_chain::fork::BlockReference;
use honeygraph_chain::peer::PeerId;
use honeygraph_chain::quorum::VoterId;
use honeygraph_chain::{BlockNumber, ContentId, Operations};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    AheadOutcome, ExtendOutcome, FetchedBlock, HistoryOutcome, Replica, ReplicaStatus, StartDocuments,
    StartError, StoreError, ToldBlocks, Vouched,
};
use crate::ingest::{EventReceiver, EventSender, SourceCommand, SourceId, event_queue};
use crate::store::{CheckpointRecord, Transaction};

/// Commands that wait for the replica at most.
const QUEUE: usize = 64;
/// Events of sources that wait for the replica at most: what is beyond waits in the socket.
const SOURCE_QUEUE: usize = 1_024;

/// The replica's thread is gone: the node is stopping, or its store failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the replica has stopped")]
pub struct ReplicaGone;

/// Commits held at a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldAnswer {
    /// The checkpoint's block, the newest commit while the hold lasts.
    pub block: BlockNumber,
    /// Its anchor; none where the replica was started from a document and its block's hash is not known.
    pub anchor: Option<Anchor>,
}

/// Why commits cannot be held.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HoldError {
    /// The block is not a checkpoint.
    #[error("block {block} is not a checkpoint; the next one is {next}")]
    NotACheckpoint {
        /// The block asked for.
        block: BlockNumber,
        /// The next checkpoint.
        next: BlockNumber,
    },
    /// The block is committed already.
    #[error("block {block} is below the state height {state_height}")]
    Past {
        /// The block asked for.
        block: BlockNumber,
        /// Where the replica stands.
        state_height: BlockNumber,
    },
    /// A hold is on already.
    #[error("commits are held or about to be held at block {0} already")]
    Held(BlockNumber),
    /// There is no state yet.
    #[error("the replica was not started from a document yet")]
    NotStarted,
    /// The hold was given up before the checkpoint was reached.
    #[error("the hold was ended before its checkpoint was reached")]
    Ended,
    /// The replica is gone.
    #[error(transparent)]
    Gone(#[from] ReplicaGone),
}

/// Changes the replica and gives what answers the one who asked, once the change can be seen.
type Job = Box<dyn FnOnce(&mut Replica) -> Result<Answer, StoreError> + Send>;
type Answer = Box<dyn FnOnce() + Send>;

/// Ends or begins a hold of commits.
enum Control {
    Hold {
        at: Option<BlockNumber>,
        longest: Duration,
        reply: oneshot::Sender<Result<HoldAnswer, HoldError>>,
    },
    Resume {
        reply: oneshot::Sender<bool>,
    },
}

struct Hold {
    at: BlockNumber,
    until: Instant,
    reply: Option<oneshot::Sender<Result<HoldAnswer, HoldError>>>,
}

/// What the rest of the node holds of the replica; cheap to clone.
#[derive(Debug, Clone)]
pub struct ReplicaHandle {
    jobs: mpsc::Sender<Job>,
    control: mpsc::Sender<Control>,
    sources: EventSender,
    status: watch::Receiver<Arc<ReplicaStatus>>,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Control")
    }
}

impl ReplicaHandle {
    /// Runs the replica on a thread of its own until every handle is dropped. The returned future ends
    /// when the running commit is finished; it gives the error that stopped it, if there was one.
    /// `outbox` takes what sources are to be told.
    pub fn spawn(
        replica: Replica,
        outbox: mpsc::UnboundedSender<(SourceId, SourceCommand)>,
    ) -> (Self, oneshot::Receiver<Result<(), StoreError>>) {
        let (jobs, job_queue) = mpsc::channel(QUEUE);
        let (control, control_queue) = mpsc::channel(QUEUE);
        let (sources, source_queue) = event_queue(SOURCE_QUEUE);
        let (status_sender, status) = watch::channel(Arc::new(replica.status()));
        let (done, ended) = oneshot::channel();
        let thread = ReplicaThread {
            replica,
            status: status_sender,
            outbox,
            hold: None,
        };
        let spawned = std::thread::Builder::new()
            .name("replica".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_time()
                    .build();
                let result = match runtime {
                    Ok(runtime) => runtime.block_on(thread.run(job_queue, control_queue, source_queue)),
                    Err(error) => Err(StoreError::LastCommit(error)),
                };
                // Nobody may be waiting any more.
                let _ = done.send(result);
            });
        if let Err(error) = spawned {
            tracing::error!(%error, "the replica's thread cannot be started");
        }
        (
            Self {
                jobs,
                control,
                sources,
                status,
            },
            ended,
        )
    }

    /// Where events of sources go; waits when the replica is behind.
    pub fn source_events(&self) -> EventSender {
        self.sources.clone()
    }

    /// Where the replica stands, after each change.
    pub fn status(&self) -> watch::Receiver<Arc<ReplicaStatus>> {
        self.status.clone()
    }

    /// See [`Replica::extend`]. Answers once the blocks are applied; [`ReplicaHandle::status`] says when they are
    /// durable.
    pub async fn extend(
        &self,
        peer: PeerId,
        blocks: Vec<FetchedBlock>,
    ) -> Result<ExtendOutcome, ReplicaGone> {
        self.ask(move |replica| replica.extend(&peer, &blocks)).await
    }

    /// See [`Replica::extend_operations`].
    pub async fn extend_operations(
        &self,
        peer: PeerId,
        blocks: Vec<(BlockNumber, Operations, u64)>,
        vouched: Vouched,
    ) -> Result<ExtendOutcome, ReplicaGone> {
        self.ask(move |replica| replica.extend_operations(&peer, blocks, vouched))
            .await
    }

    /// See [`Replica::abandon_unproven`].
    pub async fn abandon_unproven(&self, from: BlockNumber) -> Result<(), ReplicaGone> {
        self.ask(move |replica| replica.abandon_unproven(from)).await
    }

    /// See [`Replica::learn_named`].
    pub async fn learn_named(&self, document: DeltaDocument) -> Result<(), ReplicaGone> {
        self.ask(move |replica| replica.learn_named(&document)).await
    }

    /// See [`Replica::fill_history_as_told`].
    pub async fn fill_history(
        &self,
        blocks: Vec<FetchedBlock>,
        told: ToldBlocks,
    ) -> Result<HistoryOutcome, ReplicaGone> {
        self.ask(move |replica| replica.fill_history_as_told(&blocks, &told))
            .await
    }

    /// See [`Replica::learn_past_document`].
    pub async fn learn_past_document(
        &self,
        id: ContentId,
        document: DeltaDocument,
    ) -> Result<bool, ReplicaGone> {
        self.ask(move |replica| replica.learn_past_document(id, &document))
            .await
    }

    /// See [`Replica::store_ahead`].
    pub async fn store_ahead(&self, blocks: Vec<FetchedBlock>) -> Result<AheadOutcome, ReplicaGone> {
        self.ask(move |replica| replica.store_ahead(&blocks)).await
    }

    /// See [`Replica::hold_fork`].
    pub async fn hold_fork(&self, blocks: Vec<FetchedBlock>) -> Result<Option<BlockReference>, ReplicaGone> {
        self.ask(move |replica| replica.hold_fork(&blocks)).await
    }

    /// See [`Replica::voter_stands`].
    pub async fn voter_stands(&self, voter: VoterId, tip: Option<BlockReference>) -> Result<(), ReplicaGone> {
        self.ask(move |replica| replica.voter_stands(voter, tip)).await
    }

    /// See [`Replica::learn_checkpoints`].
    pub async fn learn_checkpoints(&self, records: Vec<CheckpointRecord>) -> Result<usize, ReplicaGone> {
        self.ask(move |replica| replica.learn_checkpoints(&records)).await
    }

    /// See [`Replica::on_vote`].
    pub async fn vote(&self, voter: VoterId, anchors: Vec<Anchor>) -> Result<(), ReplicaGone> {
        self.ask(move |replica| replica.on_votes(&voter, &anchors)).await
    }

    /// See [`Replica::start_from`].
    pub async fn start_from(
        &self,
        documents: StartDocuments,
    ) -> Result<Result<BlockNumber, StartError>, ReplicaGone> {
        self.ask(move |replica| match replica.start_from(&documents) {
            Err(StartError::Store(error)) => Err(error),
            other => Ok(other),
        })
        .await
    }

    /// See [`Replica::set_history_start`].
    pub async fn set_history_start(&self, start: BlockNumber) -> Result<(), ReplicaGone> {
        self.ask(move |replica| replica.set_history_start(start)).await
    }

    /// Writes what belongs to others (peers, retry queue) in one transaction.
    pub async fn write(
        &self,
        change: impl FnOnce(&mut Transaction<'_>) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<(), ReplicaGone> {
        self.ask(move |replica| {
            let mut transaction = replica.writer().begin();
            change(&mut transaction)?;
            transaction.commit()
        })
        .await
    }

    /// Goes on after a halt, on an operator's word.
    pub async fn clear_halt(&self) -> Result<(), ReplicaGone> {
        self.ask(Replica::clear_halt).await
    }

    /// Holds commits as soon as a checkpoint (the next one, if none is named) is the newest commit, until
    /// [`ReplicaHandle::resume`] or until `longest` has passed. Answers once they are held.
    pub async fn hold(&self, at: Option<BlockNumber>, longest: Duration) -> Result<HoldAnswer, HoldError> {
        let (reply, answer) = oneshot::channel();
        self.control
            .send(Control::Hold { at, longest, reply })
            .await
            .map_err(|_| ReplicaGone)?;
        answer.await.map_err(|_| ReplicaGone)?
    }

    /// Ends a hold; false if there was none.
    pub async fn resume(&self) -> Result<bool, ReplicaGone> {
        let (reply, answer) = oneshot::channel();
        self.control
            .send(Control::Resume { reply })
            .await
            .map_err(|_| ReplicaGone)?;
        answer.await.map_err(|_| ReplicaGone)
    }

    async fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Replica) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, ReplicaGone> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |replica| {
            let answer = job(replica)?;
            // The one who asked may have gone.
            let send: Answer = Box::new(move || drop(reply.send(answer)));
            Ok(send)
        });
        self.jobs.send(job).await.map_err(|_| ReplicaGone)?;
        answer.await.map_err(|_| ReplicaGone)
    }
}

struct ReplicaThread {
    replica: Replica,
    status: watch::Sender<Arc<ReplicaStatus>>,
    outbox: mpsc::UnboundedSender<(SourceId, SourceCommand)>,
    hold: Option<Hold>,
}

impl ReplicaThread {
    async fn run(
        mut self,
        mut jobs: mpsc::Receiver<Job>,
        mut control: mpsc::Receiver<Control>,
        mut sources: EventReceiver,
    ) -> Result<(), StoreError> {
        let commit_ended = self.replica.writer().commit_ended();
        loop {
            let stored = !self.is_held() && self.replica.can_apply_stored();
            let held = self.is_held();
            let commit = self.replica.commit_deadline().map(tokio::time::Instant::from_std);
            let until = self
                .hold
                .as_ref()
                .map(|hold| tokio::time::Instant::from_std(hold.until));
            let mut answer = None;
            // While commits are held, jobs and events wait in their queues.
            tokio::select! {
                biased;
                () = sleep_until(until) => self.end_hold(),
                control = control.recv() => match control {
                    None => return self.replica.finish(),
                    Some(Control::Hold { at, longest, reply }) => self.begin_hold(at, longest, reply),
                    Some(Control::Resume { reply }) => {
                        let was_on = self.hold.is_some();
                        self.end_hold();
                        let _ = reply.send(was_on);
                    }
                },
                // What is durable is told as soon as it is.
                () = commit_ended.notified() => {
                    self.replica.try_settle()?;
                    if !held {
                        self.replica.commit_if_due()?;
                    }
                }
                () = sleep_until(commit), if !held => self.replica.commit_if_due()?,
                job = jobs.recv(), if !held => match job {
                    None => return self.replica.finish(),
                    Some(job) => answer = Some(job(&mut self.replica)?),
                },
                event = sources.recv(), if !held => match event {
                    None => return self.replica.finish(),
                    Some(event) => self.replica.on_source(event, unix_seconds())?,
                },
                () = std::future::ready(()), if stored => {}
            }
            if stored && !self.is_held() {
                // A part at a time, so that neither waits for the other for long.
                self.replica.apply_stored()?;
            }
            for message in self.replica.take_outbox() {
                // Without anybody to send it, the source's own checkpoints go on telling.
                let _ = self.outbox.send(message);
            }
            self.reach_hold();
            self.status.send_replace(Arc::new(self.replica.status()));
            if let Some(answer) = answer {
                answer();
            }
        }
    }

    fn begin_hold(
        &mut self,
        at: Option<BlockNumber>,
        longest: Duration,
        reply: oneshot::Sender<Result<HoldAnswer, HoldError>>,
    ) {
        // What is gathered beyond the next checkpoint would jump over it.
        if let Err(error) = self.replica.finish() {
            tracing::error!(%error, "what is gathered cannot be committed");
        }
        let refused = match (self.replica.position(), &self.hold) {
            (None, _) => Err(HoldError::NotStarted),
            (Some(_), Some(hold)) => Err(HoldError::Held(hold.at)),
            (Some(position), None) => {
                let applied = self.replica.status().applied.unwrap_or(position.state_height);
                let next = position.schedule.next_at_or_after(applied);
                match at {
                    None => Ok(next),
                    Some(block) if block < position.state_height => Err(HoldError::Past {
                        block,
                        state_height: position.state_height,
                    }),
                    Some(block) if position.schedule.kind_at(block).is_none() => {
                        Err(HoldError::NotACheckpoint {
                            block,
                            next: position.schedule.next_at_or_after(block),
                        })
                    }
                    Some(block) => Ok(block),
                }
            }
        };
        match refused {
            Ok(at) => {
                self.replica.stop_at(Some(at));
                self.hold = Some(Hold {
                    at,
                    until: Instant::now() + longest,
                    reply: Some(reply),
                });
            }
            Err(error) => {
                let _ = reply.send(Err(error));
            }
        }
    }

    /// Answers the one who waits for the hold, once its checkpoint is the newest commit.
    fn reach_hold(&mut self) {
        let Some(hold) = &mut self.hold else { return };
        let Some(position) = self.replica.position() else {
            return;
        };
        if position.state_height != hold.at {
            return;
        }
        if let Some(reply) = hold.reply.take() {
            let record = self.replica.store().view().checkpoint(hold.at);
            let anchor = record.ok().flatten().and_then(|record| record.anchor());
            let _ = reply.send(Ok(HoldAnswer {
                block: hold.at,
                anchor,
            }));
        }
    }

    fn is_held(&self) -> bool {
        let height = self.replica.position().map(|position| position.state_height);
        self.hold.as_ref().is_some_and(|hold| Some(hold.at) == height)
    }

    fn end_hold(&mut self) {
        self.replica.stop_at(None);
        if let Some(reply) = self.hold.take().and_then(|hold| hold.reply) {
            let _ = reply.send(Err(HoldError::Ended));
        }
    }
}

async fn sleep_until(until: Option<tokio::time::Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// The wall clock, in seconds since the Unix epoch.
fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
