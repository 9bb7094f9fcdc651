//! The thread that makes batches durable, so that the next blocks are applied meanwhile.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::StoreError;
use super::last_commit::LastCommitFile;
use super::rows::BlockRows;

/// What is told once a batch is durable: how long that took.
pub(super) type OnDurable = Box<dyn FnOnce(Duration) + Send>;

/// Fills rows right before they are committed.
pub(super) type Later = Box<dyn FnOnce(&mut BlockRows) -> Result<(), StoreError> + Send>;

/// One batch to make durable.
pub(super) struct Job {
    pub(super) rows: BlockRows,
    pub(super) later: Vec<Later>,
    /// Number of commits once it is durable.
    pub(super) commits: u64,
    pub(super) on_durable: OnDurable,
}

/// Commits one batch at a time. Dropping it waits for the one under way.
pub(super) struct Committer {
    jobs: Option<SyncSender<Job>>,
    state: Mutex<State>,
    thread: Option<JoinHandle<()>>,
}

struct State {
    answers: Receiver<Result<(), StoreError>>,
    progress: Progress,
}

#[derive(Default)]
enum Progress {
    #[default]
    Idle,
    /// A batch is under way.
    Running,
    /// The last batch failed, and nobody was told yet.
    Failed(StoreError),
}

impl Committer {
    pub(super) fn new(last_commit: LastCommitFile) -> Result<Self, StoreError> {
        let (jobs, queue) = sync_channel::<Job>(1);
        let (answer, answers) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("commit".to_owned())
            .spawn(move || {
                for job in queue {
                    // Whoever waits for the answer has gone only when the store is closed.
                    let _ = answer.send(commit(job, &last_commit));
                }
            })
            .map_err(StoreError::Committer)?;
        Ok(Self {
            jobs: Some(jobs),
            state: Mutex::new(State {
                answers,
                progress: Progress::Idle,
            }),
            thread: Some(thread),
        })
    }

    /// Starts to make a batch durable, after the one before is.
    pub(super) fn start(&self, job: Job) -> Result<(), StoreError> {
        self.finish()?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
        if sent {
            state.progress = Progress::Running;
            Ok(())
        } else {
            Err(StoreError::CommitterGone)
        }
    }

    /// Waits until the batch under way, if there is one, is durable or failed. A failure is kept for
    /// [`Committer::finish`].
    pub(super) fn wait(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(state.progress, Progress::Running) {
            state.progress = match state.answers.recv() {
                Ok(Ok(())) => Progress::Idle,
                Ok(Err(error)) => Progress::Failed(error),
                Err(_) => Progress::Failed(StoreError::CommitterGone),
            };
        }
    }

    /// Waits like [`Committer::wait`] and gives the failure.
    pub(super) fn finish(&self) -> Result<(), StoreError> {
        self.wait();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::take(&mut state.progress) {
            Progress::Failed(error) => Err(error),
            Progress::Idle | Progress::Running => Ok(()),
        }
    }

    /// Whether everything that was started is durable, as far as anybody was told.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(state.progress, Progress::Idle)
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // It ends by itself now; a panic there was reported as a failed commit.
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Committer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Committer").finish_non_exhaustive()
    }
}

fn commit(job: Job, last_commit: &LastCommitFile) -> Result<(), StoreError> {
    let started = Instant::now();
    let mut rows = job.rows;
    for encode in job.later {
        encode(&mut rows)?;
    }
    rows.batch.commit()?;
    last_commit.write(job.commits)?;
    (job.on_durable)(started.elapsed());
    Ok(())
}
