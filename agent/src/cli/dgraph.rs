//! `dgraph verify` and `dgraph rebuild`: by the node that runs on the data directory, through its admin listener;
//! without one, here.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::health::reachable;
use super::progress::Progress;
use super::{OfflineArguments, offline, say};
use crate::config::{Config, DgraphConfig, read_small_file};
use crate::dgraph::client::DgraphClient;
use crate::dgraph::job::{Job, JobState, LogEnds, Order};
use crate::dgraph::projection::{
    AdvanceError, ErrorPolicy, Progress as Step, Projection, ProjectionStore, Verification, Verified,
    WriterName, clear,
};
use crate::dgraph::service::projection_client;
use crate::store::{Store, StoreError};

/// Longest wait for one answer of the node.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Time between two looks at how far the node is.
const POLL: Duration = Duration::from_millis(300);
/// Looks in a row that the node may leave unanswered.
const MISSED_MAX: u32 = 20;
/// Attempts in a row that Dgraph may let fail.
const ATTEMPTS_MAX: u32 = 10;
/// Time between two of them.
const ATTEMPT: Duration = Duration::from_secs(3);

/// Does what is asked for, and says how it went.
pub(super) fn run(
    config: &Config,
    dgraph: &DgraphConfig,
    admin_token: Option<SecretString>,
    order: Order,
) -> anyhow::Result<ExitCode> {
    let arguments = OfflineArguments {
        data_dir: config.node.data_dir.clone(),
        network: config.network.name.clone(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut worker = match offline::open(&arguments) {
        Ok((store, _writer, _)) => Worker::Here(Box::new(Here {
            store,
            dgraph: dgraph.clone(),
            config: config.clone(),
        })),
        Err(error) if matches!(error.downcast_ref(), Some(StoreError::Locked { .. })) => {
            Worker::Node(Node::new(config, admin_token)?)
        }
        Err(error) => return Err(error),
    };
    runtime.block_on(async {
        let began = Instant::now();
        let first = worker.run(order).await?;
        Ok(match order {
            Order::Rebuild { .. } => {
                say(filled(&first, began.elapsed()));
                ExitCode::SUCCESS
            }
            Order::Verify { repair: true } if first.found > 0 => {
                say(format_args!("{}; once more", compared(&first)));
                verdict(&worker.run(order).await?)
            }
            Order::Verify { .. } => verdict(&first),
        })
    })
}

fn verdict(job: &Job) -> ExitCode {
    say(compared(job));
    if job.found == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn compared(job: &Job) -> String {
    let repaired = match job.order {
        Order::Verify { repair: true } => format!(", {} repaired", job.repaired),
        _ => String::new(),
    };
    format!(
        "{} blocks and {} nodes of the state compared: {} differences{repaired}",
        job.blocks, job.nodes, job.found
    )
}

fn filled(job: &Job, took: Duration) -> String {
    format!(
        "{} blocks stand in Dgraph, and the state; {} nodes of it were written; {:.1} s",
        job.blocks,
        job.nodes,
        took.as_secs_f64()
    )
}

/// The token of the admin API, which the configuration keeps no text of.
pub(super) fn admin_token(file: Option<&Path>) -> anyhow::Result<Option<SecretString>> {
    if let Some(path) = file {
        let text = read_small_file(path).with_context(|| path.display().to_string())?;
        return Ok(Some(text.trim().into()));
    }
    Ok(std::env::var("ADMIN_TOKEN")
        .ok()
        .filter(|token| !token.is_empty())
        .map(Into::into))
}

/// Who does it.
enum Worker {
    Node(Node),
    Here(Box<Here>),
}

impl Worker {
    async fn run(&mut self, order: Order) -> anyhow::Result<Job> {
        let mut shown = Shown {
            progress: Progress::new(),
            differences: 0,
        };
        let done = match self {
            Self::Node(node) => node.run(order, &mut shown).await,
            Self::Here(here) => here.run(order, &mut shown).await,
        };
        shown.progress.finish();
        let job = done?;
        let more = job.found.saturating_sub(job.differences.len() as u64);
        if more > 0 {
            say(format_args!("and {more} more"));
        }
        Ok(job)
    }
}

/// What was shown of a job.
struct Shown {
    progress: Progress,
    differences: usize,
}

impl Shown {
    fn show(&mut self, job: &Job) {
        for difference in job.differences.iter().skip(self.differences) {
            self.progress.above(difference);
        }
        self.differences = job.differences.len();
        self.progress.show(&job.part, job.done, job.total);
    }
}

/// The node that runs on the data directory.
struct Node {
    client: Client,
    base: String,
    token: Option<SecretString>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JobAnswer {
    job: Option<Job>,
    session_id: Uuid,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

#[derive(Serialize)]
struct Ask {
    #[serde(skip_serializing_if = "Option::is_none")]
    repair: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    drop: Option<bool>,
}

impl Node {
    fn new(config: &Config, token: Option<SecretString>) -> anyhow::Result<Self> {
        let client = Client::builder()
            .timeout(TIMEOUT)
            .redirect(Policy::none())
            .no_proxy()
            // The admin listener has no TLS, and the image may have no authorities.
            .tls_certs_only([])
            .build()?;
        Ok(Self {
            client,
            base: format!("http://{}/dgraph", reachable(config.listeners.admin)),
            token,
        })
    }

    async fn run(&self, order: Order, shown: &mut Shown) -> anyhow::Result<Job> {
        let (path, body) = match order {
            Order::Verify { repair } => (
                "verify",
                Ask {
                    repair: Some(repair),
                    drop: None,
                },
            ),
            Order::Rebuild { drop } => (
                "rebuild",
                Ask {
                    repair: None,
                    drop: Some(drop),
                },
            ),
        };
        let asked = self.client.post(format!("{}/{path}", self.base)).json(&body);
        let asked = self.answer(asked).await.context(
            "the node that runs on DATA_DIR was asked at ADMIN_LISTEN; give this command the node's settings",
        )?;
        let (session, id) = (asked.session_id, asked.job.map_or(0, |job| job.id));
        let mut missed = 0;
        loop {
            tokio::time::sleep(POLL).await;
            let answer = match self.answer(self.client.get(format!("{}/job", self.base))).await {
                Ok(answer) => answer,
                Err(error) if missed >= MISSED_MAX => return Err(error),
                Err(_) => {
                    missed += 1;
                    continue;
                }
            };
            missed = 0;
            let Some(job) = answer
                .job
                .filter(|job| answer.session_id == session && job.id == id)
            else {
                anyhow::bail!("the node was started again meanwhile, and the job is lost; ask again");
            };
            shown.show(&job);
            match job.state {
                JobState::Done => return Ok(job),
                JobState::Failed => anyhow::bail!(job.error.unwrap_or_default()),
                JobState::Queued | JobState::Running => {}
            }
        }
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> anyhow::Result<JobAnswer> {
        let request = match &self.token {
            Some(token) => request.bearer_auth(token.expose_secret()),
            None => request,
        };
        let answer = request.send().await?;
        let status = answer.status();
        if !matches!(status, StatusCode::OK | StatusCode::ACCEPTED) {
            let said = answer.json::<Refusal>().await.map(|refusal| refusal.error);
            anyhow::bail!("the node answers {status}: {}", said.unwrap_or_default());
        }
        Ok(answer.json().await?)
    }
}

/// This process, on a store that no node has open.
struct Here {
    store: Store,
    dgraph: DgraphConfig,
    config: Config,
}

type ToDgraph = Projection<ProjectionStore<DgraphClient>>;

impl Here {
    async fn run(&self, order: Order, shown: &mut Shown) -> anyhow::Result<Job> {
        let mut job = Job::new(1, order);
        let client = projection_client(&self.dgraph.client)?;
        let network = &self.config.network.name;
        let writer = crate::node::peer_id(&self.config, &self.config.node.data_dir)?;
        let writer: WriterName = writer.to_string().parse()?;
        match order {
            Order::Rebuild { drop: true } => clear(&client, network, &writer).await?,
            Order::Verify { .. } | Order::Rebuild { drop: false } => {}
        }
        let target = match order {
            Order::Verify { repair: false } => {
                ProjectionStore::open_existing(client, network, &writer).await?
            }
            Order::Verify { repair: true } | Order::Rebuild { .. } => {
                ProjectionStore::open(client, network, &writer).await?
            }
        };
        let settings = crate::node::projection_settings(&self.dgraph);
        let mut projection = Projection::new(target.into(), self.store.clone(), settings);
        let log = projection.log_ends()?.context("the log has no block yet")?;
        if order != (Order::Verify { repair: false }) {
            fill(&mut projection, log, &mut job, shown).await?;
        }
        if let Order::Verify { .. } = order {
            verify(&projection, log, &mut job, shown).await?;
        }
        Ok(job)
    }
}

/// Writes what is missing.
async fn fill(
    projection: &mut ToDgraph,
    log: LogEnds,
    job: &mut Job,
    shown: &mut Shown,
) -> anyhow::Result<()> {
    let mut failed = 0;
    loop {
        let step = projection.advance().await;
        if let Some(cursor) = projection.cursor() {
            job.filled(cursor, log, projection.state_nodes_written());
            shown.show(job);
        }
        match step {
            Ok(Step::Idle) => return Ok(()),
            Ok(Step::Moved | Step::Repaired { .. } | Step::Rewound { .. }) => failed = 0,
            Ok(Step::Waiting { longest }) => {
                failed = 0;
                let ahead = projection
                    .cursor()
                    .and_then(|cursor| cursor.applied)
                    .filter(|applied| applied.number > log.height || applied.number.next() < log.from);
                if let Some(applied) = ahead {
                    anyhow::bail!(
                        "Dgraph stands at block {}, and the log has {} to {}: let the node fetch what it lacks, or \
                         give --drop to `dgraph rebuild`",
                        applied.number,
                        log.from,
                        log.height
                    );
                }
                tokio::time::sleep(longest.min(ATTEMPT)).await;
                projection.forget_cursor();
            }
            Ok(Step::Mismatch { block, .. }) => anyhow::bail!(
                "Dgraph stands at block {}, {}, which contradicts the log; `dgraph rebuild --drop` fills it again",
                block.number,
                block.hash
            ),
            Err(error) if failed < ATTEMPTS_MAX && is_passing(&error) => {
                failed += 1;
                tokio::time::sleep(ATTEMPT).await;
                projection.forget_cursor();
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn is_passing(error: &AdvanceError) -> bool {
    matches!(error, AdvanceError::Projection(error) if error.policy() == ErrorPolicy::RetryLater)
}

/// Compares everything.
async fn verify(projection: &ToDgraph, log: LogEnds, job: &mut Job, shown: &mut Shown) -> anyhow::Result<()> {
    let mut verification = Verification::new(job.order.mend());
    let blocks = log.height.next().distance_from(log.from);
    loop {
        let verified = projection.verify_step(&mut verification).await?;
        job.compared(&verification, blocks);
        shown.show(job);
        match verified {
            Verified::More => {}
            Verified::Done => return Ok(()),
            Verified::NotNow(why) => {
                shown.progress.finish();
                say(format_args!("{}; not everything was compared", compared(job)));
                anyhow::bail!("{why}; --repair brings it in step with the log");
            }
        }
    }
}
