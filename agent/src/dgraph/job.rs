//! What a person asks of a projection by command: to compare everything, or to fill Dgraph again.
//!
//! One job at a time. It is done by whoever holds the projection, between the steps that follow the log, and
//! watched by whoever asked; `docs/dgraph.md`, section "By command".

use std::sync::Arc;

use honeygraph_chain::BlockNumber;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

use super::projection::{Cursor, Difference, Mend, StateCursor, Verification};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "work", rename_all = "camelCase")]
pub enum Order {
    /// Compare everything that stands in Dgraph with the log.
    Verify {
        /// Whether what differs is written as the log has it.
        repair: bool,
    },
    /// Fill Dgraph from the log.
    Rebuild {
        /// Whether everything that stands in its namespace is taken away first.
        drop: bool,
    },
}

/// How a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum JobState {
    /// It has not begun.
    Queued,
    /// It is under way.
    Running,
    /// It has ended.
    Done,
    /// It could not be done; see [`Job::error`].
    Failed,
}

/// A job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// Counts the jobs of this process, from 1 on.
    pub id: u64,
    /// What was asked for.
    #[serde(flatten)]
    pub order: Order,
    /// How it stands.
    pub state: JobState,
    /// What is being done.
    pub part: String,
    /// Rows of this part that are done.
    pub done: u64,
    /// All of them; 0 where that is not known before.
    pub total: u64,
    /// Blocks that were compared, or stand in Dgraph.
    pub blocks: u64,
    /// Nodes of the state that were compared, or written.
    pub nodes: u64,
    /// Things that differ.
    pub found: u64,
    /// Of these, how many were put right.
    pub repaired: u64,
    /// The first of them.
    pub differences: Vec<Difference>,
    /// Whether what stood there was taken away.
    #[serde(skip)]
    pub is_dropped: bool,
    /// Why it failed, or what it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Job {
    /// One that begins.
    pub fn new(id: u64, order: Order) -> Self {
        Self {
            id,
            order,
            state: JobState::Queued,
            part: "waiting".to_owned(),
            done: 0,
            total: 0,
            blocks: 0,
            nodes: 0,
            found: 0,
            repaired: 0,
            differences: Vec::new(),
            is_dropped: false,
            error: None,
        }
    }

    /// Whether it has ended.
    pub const fn is_over(&self) -> bool {
        matches!(self.state, JobState::Done | JobState::Failed)
    }

    /// Notes how far a comparison is. `blocks` are all that both have.
    pub fn compared(&mut self, verification: &Verification, blocks: u64) {
        let (part, done) = verification.part();
        part.clone_into(&mut self.part);
        self.done = done;
        self.total = if verification.counts_blocks() { blocks } else { 0 };
        let rows = verification.rows();
        self.blocks = rows.blocks;
        self.nodes = rows.state;
        self.found = verification.found();
        self.repaired = verification.mended();
        let known = self.differences.len();
        let new = verification.differences().iter().skip(known);
        self.differences.extend(new.cloned());
    }

    /// Notes how far Dgraph is filled. `nodes` are those of the state that were written.
    pub fn filled(&mut self, cursor: &Cursor, log: LogEnds, nodes: u64) {
        let from = cursor.from.unwrap_or(log.from).max(log.from);
        self.blocks = cursor
            .applied
            .map_or(0, |applied| applied.number.next().distance_from(from));
        self.nodes = nodes;
        let total = log.height.next().distance_from(log.from);
        let is_state = self.blocks >= total && matches!(cursor.state, StateCursor::Replacing { .. });
        (self.part, self.done, self.total) = if is_state {
            ("state written".to_owned(), nodes, 0)
        } else {
            ("blocks written".to_owned(), self.blocks, total)
        };
    }
}

/// The blocks that the log has without a hole, up to its height.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEnds {
    /// The lowest.
    pub from: BlockNumber,
    /// The highest that is applied.
    pub height: BlockNumber,
}

impl Order {
    /// Whether what differs is put right.
    pub const fn mend(self) -> Mend {
        match self {
            Self::Verify { repair: true } => Mend::Yes,
            Self::Verify { repair: false } | Self::Rebuild { .. } => Mend::No,
        }
    }
}

/// Where jobs are asked for, done and watched. Clones are the same.
#[derive(Debug, Clone)]
pub struct Jobs {
    last: watch::Sender<Option<Job>>,
    wanted: Arc<Notify>,
}

impl Default for Jobs {
    fn default() -> Self {
        Self {
            last: watch::Sender::new(None),
            wanted: Arc::default(),
        }
    }
}

/// Another job is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("job {0} is under way; GET /dgraph/job says how far it is")]
pub struct JobUnderWay(pub u64);

impl Jobs {
    /// Asks for one.
    pub fn ask(&self, order: Order) -> Result<Job, JobUnderWay> {
        let mut asked = Err(JobUnderWay(0));
        self.last.send_if_modified(|last| {
            asked = match last {
                Some(job) if !job.is_over() => Err(JobUnderWay(job.id)),
                _ => Ok(Job::new(last.as_ref().map_or(1, |job| job.id + 1), order)),
            };
            match &asked {
                Ok(job) => *last = Some(job.clone()),
                Err(_) => return false,
            }
            true
        });
        if asked.is_ok() {
            self.wanted.notify_one();
        }
        asked
    }

    /// The job that was asked for last.
    pub fn last(&self) -> Option<Job> {
        self.last.borrow().clone()
    }

    /// What the job under way is to do.
    pub fn order(&self) -> Option<Order> {
        self.last
            .borrow()
            .as_ref()
            .filter(|job| !job.is_over())
            .map(|job| job.order)
    }

    /// What the job that was begun is to do.
    pub(crate) fn begun(&self) -> Option<Order> {
        let last = self.last.borrow();
        let begun = last.as_ref().filter(|job| job.state == JobState::Running);
        begun.map(|job| job.order)
    }

    /// Whether the job under way asks for everything to be taken away, which was not done yet.
    pub(crate) fn wants_drop(&self) -> bool {
        let last = self.last.borrow();
        last.as_ref().is_some_and(|job| {
            !job.is_over() && !job.is_dropped && job.order == Order::Rebuild { drop: true }
        })
    }

    /// Whether a job is still the one under way.
    pub(crate) fn is_under_way(&self, id: u64) -> bool {
        let last = self.last.borrow();
        last.as_ref().is_some_and(|job| job.id == id && !job.is_over())
    }

    /// Begins the job that was asked for, where none has begun; gives its number too.
    pub(crate) fn begin(&self) -> Option<(u64, Order)> {
        let mut begun = None;
        self.note(|job| {
            if job.state == JobState::Queued {
                job.state = JobState::Running;
                begun = Some((job.id, job.order));
            }
        });
        begun
    }

    /// Ends the job under way; none where there is none. What it has written stays.
    pub fn cancel(&self) -> Option<Job> {
        self.order()?;
        self.fail("cancelled");
        self.last()
    }

    /// Notes something about the job under way.
    pub(crate) fn note(&self, note: impl FnOnce(&mut Job)) {
        self.last.send_if_modified(|last| match last {
            Some(job) if !job.is_over() => {
                note(job);
                true
            }
            _ => false,
        });
    }

    /// The job under way is done.
    pub(crate) fn done(&self) {
        self.note(|job| {
            job.error = None;
            job.state = JobState::Done;
        });
    }

    /// The job under way cannot be done.
    pub(crate) fn fail(&self, reason: impl std::fmt::Display) {
        let reason = reason.to_string();
        self.note(|job| {
            job.error = Some(reason);
            job.state = JobState::Failed;
        });
    }

    /// Waits until one is asked for.
    pub(crate) async fn wanted(&self) {
        self.wanted.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_job_at_a_time() {
        let jobs = Jobs::default();
        assert_eq!(jobs.begin(), None);
        let order = Order::Verify { repair: true };
        assert_eq!(jobs.ask(order).unwrap().id, 1);
        let rebuild = Order::Rebuild { drop: false };
        assert_eq!(jobs.ask(rebuild), Err(JobUnderWay(1)));
        assert_eq!(jobs.begun(), None);
        assert_eq!(jobs.begin(), Some((1, order)));
        assert_eq!(jobs.begun(), Some(order));
        assert_eq!(jobs.begin(), None);
        jobs.done();
        jobs.fail("too late");
        assert_eq!(jobs.last().unwrap().state, JobState::Done);
        assert_eq!(jobs.ask(rebuild).unwrap().id, 2);
        jobs.fail("no");
        let last = jobs.last().unwrap();
        assert_eq!(
            (last.state, last.error.as_deref()),
            (JobState::Failed, Some("no"))
        );
        assert_eq!(jobs.cancel(), None);
        jobs.ask(order).unwrap();
        assert!(jobs.is_under_way(3) && !jobs.is_under_way(2));
        let cancelled = jobs.cancel().unwrap();
        assert_eq!(
            (cancelled.state, cancelled.error.as_deref()),
            (JobState::Failed, Some("cancelled"))
        );
        assert!(!jobs.is_under_way(3));
        assert_eq!(jobs.begin(), None);
    }

    #[test]
    fn a_job_is_read_as_it_is_written() {
        let mut job = Job::new(3, Order::Rebuild { drop: true });
        job.differences.push(Difference {
            place: "block 7".into(),
            reason: "not in Dgraph".into(),
        });
        let text = serde_json::to_string(&job).unwrap();
        assert!(text.contains(r#""work":"rebuild","drop":true"#), "{text}");
        assert_eq!(serde_json::from_str::<Job>(&text).unwrap(), job);
    }
}
