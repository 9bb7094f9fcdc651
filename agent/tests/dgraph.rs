//! The Dgraph client and the projection against a real Dgraph, where there is one: `DGRAPH_BIN` names its program, which the
//! tests start themselves, or `DGRAPH_ALPHA` a running alpha. Without either every test is listed as
//! ignored, with the reason.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "dgraph/by_command.rs"]
mod by_command;
#[path = "dgraph/cluster.rs"]
mod cluster;
mod common;
#[path = "dgraph/equality.rs"]
mod equality;
#[path = "dgraph/faults.rs"]
mod faults;
#[path = "dgraph/guarded.rs"]
mod guarded;
#[path = "dgraph/log.rs"]
mod log;
#[path = "dgraph/pass_through.rs"]
mod pass_through;
#[path = "dgraph/projection.rs"]
mod projection;
#[path = "dgraph/projection_store.rs"]
mod projection_store;
#[path = "dgraph/transactions.rs"]
mod transactions;

use std::cell::RefCell;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use cluster::{Cluster, NO_DGRAPH, Source, eventually, ready};
use honeygraph_agent::dgraph::client::{DgraphClient, DgraphSettings};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

/// Why a test that needs a Dgraph of its own does not run.
const NO_PROGRAM: &str = "it starts a dgraph of its own: name its program in DGRAPH_BIN";

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let world = Arc::new(World {
        source: Source::from_environment(),
        shared: Mutex::new(None),
    });
    let trials = transactions::trials(&world)
        .into_iter()
        .chain(guarded::trials(&world))
        .chain(projection_store::trials(&world))
        .chain(projection::trials(&world))
        .chain(pass_through::trials(&world))
        .chain(faults::trials(&world))
        .chain(by_command::trials(&world))
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
    // The last owner of `world` goes here, and the shared cluster with it.
}

/// What the tests run against.
struct World {
    source: Option<Source>,
    /// Started by the first test that needs one.
    shared: Mutex<Option<(Cluster, tempfile::TempDir)>>,
}

impl World {
    /// A test on whatever Dgraph there is. It keeps to predicates of its own: [`predicate`].
    fn shared<F: Future<Output = ()>>(
        self: &Arc<Self>,
        name: &str,
        test: impl FnOnce(DgraphClient) -> F + Send + 'static,
    ) -> Trial {
        let world = Arc::clone(self);
        Trial::ignorable_test(name, move || {
            let client = match &world.source {
                None => return Ok(Completion::ignored_with(NO_DGRAPH)),
                Some(Source::Alpha(alpha)) => {
                    DgraphClient::new(DgraphSettings::new(vec![alpha.clone()])).unwrap()
                }
                Some(Source::Binary(program)) => {
                    let mut shared = world
                        .shared
                        .lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner);
                    let (cluster, _) = shared.get_or_insert_with(|| {
                        let directory = tempfile::tempdir().unwrap();
                        let flags = ["--security", "whitelist=127.0.0.1"];
                        (Cluster::start(program, directory.path(), &flags), directory)
                    });
                    cluster.client()
                }
            };
            block_on(async {
                ready(&client).await;
                test(client.clone()).await;
                for name in PREDICATES.take() {
                    eventually(|| client.drop_predicate(&name)).await;
                }
            })
        })
    }

    /// A test that starts a Dgraph in a directory of its own.
    fn own<F: Future<Output = ()>>(
        self: &Arc<Self>,
        name: &str,
        test: impl FnOnce(std::path::PathBuf, std::path::PathBuf) -> F + Send + 'static,
    ) -> Trial {
        let world = Arc::clone(self);
        Trial::ignorable_test(name, move || world.run_own(test))
    }

    /// The same, where there is nothing that keeps it from being run: `reason` says what does.
    fn own_unless<F: Future<Output = ()>>(
        self: &Arc<Self>,
        name: &str,
        reason: impl FnOnce() -> Option<&'static str> + Send + 'static,
        test: impl FnOnce(std::path::PathBuf, std::path::PathBuf) -> F + Send + 'static,
    ) -> Trial {
        let world = Arc::clone(self);
        Trial::ignorable_test(name, move || match (&world.source, reason()) {
            (Some(Source::Binary(_)), Some(reason)) => Ok(Completion::ignored_with(reason)),
            _ => world.run_own(test),
        })
    }

    fn run_own<F: Future<Output = ()>>(
        &self,
        test: impl FnOnce(std::path::PathBuf, std::path::PathBuf) -> F,
    ) -> Result<Completion, Failed> {
        match &self.source {
            None => Ok(Completion::ignored_with(NO_DGRAPH)),
            Some(Source::Alpha(_)) => Ok(Completion::ignored_with(NO_PROGRAM)),
            Some(Source::Binary(program)) => {
                let directory = tempfile::tempdir().unwrap();
                block_on(test(program.clone(), directory.path().to_owned()))
            }
        }
    }
}

fn block_on(test: impl Future<Output = ()>) -> Result<Completion, Failed> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(test);
    Ok(Completion::Completed)
}

thread_local! {
    /// Predicates of the test on this thread, to be taken away after it.
    static PREDICATES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// A name that no one else uses: a running Dgraph may hold data that is not the test's.
fn predicate(name: &str) -> String {
    let name = format!("honeygraph_test_{}_{name}", uuid::Uuid::new_v4().simple());
    PREDICATES.with_borrow_mut(|predicates| predicates.push(name.clone()));
    name
}
