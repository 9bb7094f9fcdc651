//! The thread that makes batches durable, so that the next blocks are applied meanwhile.

use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

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
    /// Told after each batch.
    ended: Arc<Notify>,
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

impl Progress {
    fn after(answer: Result<(), StoreError>) -> Self {
        answer.map_or_else(Self::Failed, |()| Self::Idle)
    }
}

impl Committer {
    pub(super) fn new(last_commit: LastCommitFile) -> Result<Self, StoreError> {
        let (jobs, queue) = sync_channel::<Job>(1);
        let (answer, answers) = sync_channel(1);
        let ended = Arc::new(Notify::new());
        let tell = Arc::clone(&ended);
        let thread = std::thread::Builder::new()
            .name("commit".to_owned())
            .spawn(move || {
                for job in queue {
                    // Whoever waits for the answer has gone only when the store is closed.
                    let _ = answer.send(commit(job, &last_commit));
                    tell.notify_one();
                }
            })
            .map_err(StoreError::Committer)?;
        Ok(Self {
            jobs: Some(jobs),
            state: Mutex::new(State {
                answers,
                progress: Progress::Idle,
            }),
            ended,
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
            let answer = state.answers.recv();
            state.progress = Progress::after(answer.unwrap_or(Err(StoreError::CommitterGone)));
        }
    }

    /// Takes the answer of a batch that has ended, without waiting for one that has not.
    pub(super) fn look(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(state.progress, Progress::Running) {
            match state.answers.try_recv() {
                Ok(answer) => state.progress = Progress::after(answer),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => {
                    state.progress = Progress::Failed(StoreError::CommitterGone);
                }
            }
        }
    }

    /// Is told each time a batch is durable or failed.
    pub(super) fn ended(&self) -> Arc<Notify> {
        Arc::clone(&self.ended)
    }

    /// Waits like [`Committer::wait`] and gives the failure.
    pub(super) fn finish(&self) -> Result<(), StoreError> {
        self.wait();
        self.take_failure()
    }

    /// The failure that nobody was told yet.
    pub(super) fn take_failure(&self) -> Result<(), StoreError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(state.progress, Progress::Failed(_))
            && let Progress::Failed(error) = std::mem::take(&mut state.progress)
        {
            return Err(error);
        }
        Ok(())
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
