//! The projection of a log into a real Dgraph.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use honeygraph_agent::dgraph::client::{DgraphClient, Mutation, Query, Reading, Uid};
use honeygraph_agent::dgraph::projection::{
    Progress, Projection, ProjectionSettings, ProjectionStore, StateCursor, Writers,
};
use honeygraph_agent::replica::FetchedBlock;
use honeygraph_chain::{BlockRange, Operation};
use libtest_mimic::Trial;
use serde_json::Value;

use crate::World;
use crate::cluster::{Cluster, ready};
use crate::equality::compare;
use crate::log::Log;

/// Blocks of the log that is projected first.
const BLOCKS: usize = 700;

pub(crate) fn trials(world: &Arc<World>) -> Vec<Trial> {
    vec![
        world.own("projection::a_log_is_projected_followed_and_repaired", followed),
        world.own("projection::two_writers_share_one_cluster", shared),
        world.own("projection::a_reorganization_is_taken_back", reorganized),
        world.own("projection::a_wiped_dgraph_is_filled_again", wiped),
    ]
}

async fn open(client: &DgraphClient, writer: &str) -> Arc<ProjectionStore<DgraphClient>> {
    let store =
        ProjectionStore::open(client.clone(), &"dlux".parse().unwrap(), &writer.parse().unwrap()).await;
    Arc::new(store.unwrap())
}

async fn projection(
    client: &DgraphClient,
    log: &Log,
    writer: &str,
    writers: Writers,
) -> Projection<ProjectionStore<DgraphClient>> {
    let settings = ProjectionSettings {
        step_blocks: 200,
        writers,
    };
    Projection::new(open(client, writer).await, log.replica.store().clone(), settings)
}

/// Goes on until there is nothing to do.
async fn catch_up(projection: &mut Projection<ProjectionStore<DgraphClient>>) {
    while projection.advance().await.unwrap() != Progress::Idle {}
}

/// Compares everything that stands there; gives what was repaired.
async fn verify(projection: &mut Projection<ProjectionStore<DgraphClient>>) -> (u64, u64) {
    let mut repaired = (0, 0);
    for _ in 0..60 {
        if let Progress::Repaired { blocks, nodes } = projection.verify_piece().await.unwrap() {
            repaired.0 += blocks;
            repaired.1 += nodes;
        }
    }
    repaired
}

async fn ask(client: &DgraphClient, text: &str) -> Value {
    client
        .query(&Query::new(text), Reading::Strict)
        .await
        .unwrap()
        .read()
        .unwrap()
}

async fn cluster(program: &Path, directory: &Path) -> (Cluster, DgraphClient) {
    let cluster = Cluster::start(program, directory, &["--security", "whitelist=127.0.0.1"]);
    let client = cluster.client();
    ready(&client).await;
    (cluster, client)
}

async fn followed(program: std::path::PathBuf, directory: std::path::PathBuf) {
    let (_cluster, client) = cluster(&program, &directory).await;
    let mut log = Log::new();
    log.grow(BLOCKS);
    let mut projection = projection(&client, &log, "a", Writers::One).await;
    catch_up(&mut projection).await;
    let position = log.replica.position().unwrap().clone();
    let cursor = projection.cursor().unwrap().clone();
    assert_eq!(cursor.applied.unwrap().number, position.state_height);
    assert_eq!(cursor.applied.unwrap().hash, position.state_block_hash.unwrap());
    assert_eq!(cursor.state, StateCursor::At(position.state_height));
    assert_eq!(verify(&mut projection).await, (0, 0));
    let counted = ask(&client, "{ q(func: has(blockNum)) { count(uid) } }").await;
    assert_eq!(counted["q"][0]["count"], BLOCKS);

    // One block after the other, with the state.
    for _ in 0..20 {
        log.grow(1);
        catch_up(&mut projection).await;
    }
    let position = log.replica.position().unwrap().clone();
    assert_eq!(
        projection.cursor().unwrap().state,
        StateCursor::At(position.state_height)
    );
    assert_eq!(verify(&mut projection).await, (0, 0));

    // Somebody edits a block and a value, removes another value, and adds one that does not exist.
    let found = ask(
        &client,
        "{ q(func: has(state.path), first: 2) { uid } b(func: has(blockNum), first: 1) { uid } }",
    )
    .await;
    let uid = |value: &Value| value["uid"].as_str().unwrap().parse::<Uid>().unwrap();
    let mut edit = Mutation::new();
    edit.set(uid(&found["q"][0]), "state.value", "\"edited\"");
    edit.clear(uid(&found["q"][1]), "state.path");
    edit.clear(uid(&found["q"][1]), "state.value");
    edit.set(uid(&found["b"][0]), "operations", "[]");
    client.write(None, vec![edit]).await.unwrap();
    assert_eq!(verify(&mut projection).await, (1, 2));
    assert_eq!(verify(&mut projection).await, (0, 0));

    // The first block is compared again and again, also while others come.
    for _ in 0..2 {
        let mut edit = Mutation::new();
        edit.set(uid(&found["b"][0]), "operations", "[]");
        client.write(None, vec![edit]).await.unwrap();
        let mut rounds = 0;
        loop {
            log.grow(1);
            catch_up(&mut projection).await;
            let verified = projection.verify_piece().await.unwrap();
            if verified == (Progress::Repaired { blocks: 1, nodes: 0 }) {
                break;
            }
            rounds += 1;
            assert!(rounds < 60);
        }
    }
}

async fn shared(program: std::path::PathBuf, directory: std::path::PathBuf) {
    let (_cluster, client) = cluster(&program, &directory).await;
    let (mut log, mut later) = (Log::new(), Log::new());
    later.delay_ms = 7;
    log.grow(BLOCKS);
    later.grow(BLOCKS);
    let mut one = projection(&client, &log, "one", Writers::Several).await;
    let mut two = projection(&client, &later, "two", Writers::Several).await;
    let both = async {
        loop {
            let (first, second) = tokio::join!(one.advance(), two.advance());
            if first.unwrap() == Progress::Idle && second.unwrap() == Progress::Idle {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_mins(3), both).await.unwrap();
    assert_eq!(one.cursor(), two.cursor());
    assert_eq!(verify(&mut one).await, (0, 0));
    assert_eq!(verify(&mut two).await, (0, 0));
    for _ in 0..5 {
        log.grow(2);
        later.grow(2);
        let (first, second) = tokio::join!(one.advance(), two.advance());
        first.unwrap();
        second.unwrap();
        catch_up(&mut one).await;
        catch_up(&mut two).await;
    }
    assert_eq!(verify(&mut one).await, (0, 0));
    assert_eq!(verify(&mut two).await, (0, 0));
}

async fn reorganized(program: std::path::PathBuf, directory: std::path::PathBuf) {
    let (_cluster, client) = cluster(&program, &directory).await;
    let mut log = Log::new();
    log.grow(350);
    let mut projection = projection(&client, &log, "a", Writers::One).await;
    catch_up(&mut projection).await;
    let before = projection.cursor().unwrap().applied.unwrap();
    let forked = "{ q(func: has(forkId)) { count(uid) } f(func: has(fork.tipHash)) { fork.tipHash } }";

    // The log goes back, and the same blocks come again.
    let view = log.replica.store().view();
    log.replica.abandon_unproven(before.number).unwrap();
    let left = log.replica.position().unwrap().state_height;
    catch_up(&mut projection).await;
    assert_ne!(ask(&client, forked).await["q"][0]["count"], 0);
    let again: Vec<FetchedBlock> = view
        .blocks(BlockRange::new(left.next(), before.number).unwrap())
        .map(|row| {
            let (number, stored) = row.unwrap();
            FetchedBlock {
                block: stored.decode(number).unwrap(),
                timestamp_ms: stored.timestamp_ms,
            }
        })
        .collect();
    log.replica.extend(&"peer".parse().unwrap(), &again).unwrap();
    log.replica.settle().unwrap();
    projection.forget_cursor();
    catch_up(&mut projection).await;
    assert_eq!(projection.cursor().unwrap().applied, Some(before));
    let none = ask(&client, forked).await;
    assert_eq!(
        (&none["q"][0]["count"], &none["f"]),
        (&0.into(), &serde_json::json!([]))
    );
    compare(&client, &log.replica.store().view()).await.unwrap();

    // The log goes back to the last checkpoint and on with other blocks.
    log.replica.abandon_unproven(before.number).unwrap();
    let fork_from = log.replica.position().unwrap().state_height;
    let orphans = before.number.distance_from(fork_from);
    assert!(orphans > 10, "{orphans}");
    catch_up(&mut projection).await;
    assert_eq!(projection.cursor().unwrap().applied.unwrap().number, fork_from);
    assert_eq!(verify(&mut projection).await, (0, 0));
    let view = log.replica.store().view();
    let mut orphaned = view.fork_blocks().map(Result::unwrap);
    let (_, first) = orphaned.find(|(number, _)| *number == fork_from.next()).unwrap();
    let mut previous_hash = first.previous_hash(fork_from.next()).unwrap();
    let mut number = fork_from;
    for at in 0..20 {
        number = number.next();
        previous_hash = log.append(
            number,
            previous_hash,
            vec![
                Operation::Del {
                    path: honeygraph_chain::Path::from_slashed("dex"),
                },
                Operation::Put {
                    path: honeygraph_chain::Path::from_slashed(&format!("forked/alice/{at}")),
                    data: serde_json::from_str("{\"x\":1}").unwrap(),
                },
                Operation::WriteMarker,
            ],
        );
        if at % 5 == 0 {
            catch_up(&mut projection).await;
        }
    }
    catch_up(&mut projection).await;
    let cursor = projection.cursor().unwrap().clone();
    assert_eq!(cursor.applied.unwrap().hash, previous_hash);
    assert_eq!(cursor.state, StateCursor::At(number));
    assert_eq!(verify(&mut projection).await, (0, 0));
    let forked = ask(&client, forked).await;
    assert_eq!(forked["q"][0]["count"], orphans);
    assert_eq!(forked["f"][0]["fork.tipHash"], before.hash.to_string());
}

async fn wiped(program: std::path::PathBuf, directory: std::path::PathBuf) {
    let (_cluster, client) = cluster(&program, &directory).await;
    let mut log = Log::new();
    log.grow(300);
    let mut first = projection(&client, &log, "a", Writers::One).await;
    catch_up(&mut first).await;
    client.drop_all().await.unwrap();
    let error = loop {
        match first.advance().await {
            Ok(Progress::Idle) => log.grow(1),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(error.asks_to_reopen(), "{error}");
    let mut again = projection(&client, &log, "a", Writers::One).await;
    catch_up(&mut again).await;
    assert_eq!(verify(&mut again).await, (0, 0));
    let counted = ask(&client, "{ q(func: has(blockNum)) { count(uid) } }").await;
    let height = log.replica.position().unwrap().state_height;
    let from = log.chain.genesis_block().next();
    assert_eq!(counted["q"][0]["count"], height.distance_from(from) + 1);
}
