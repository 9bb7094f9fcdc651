//! A log and the model of Dgraph: filled, followed, compared, taken back.

use std::sync::Arc;

use honeygraph_chain::block::{Block, HashedBlock};
use honeygraph_chain::quorum::{VoterId, Voters};
use honeygraph_chain::{BlockNumber, BlockRange, Operation, Operations, Path};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::model::Model;
use super::region::NETWORK_NODE;
use super::schema::predicate as p;
use super::weight::StateLimits;
use super::*;
use crate::dgraph::client::Value;
use crate::dgraph::job::{Jobs, Order};
use crate::ingest::{SourceEvent, SourceEventKind};
use crate::replica::{FetchedBlock, HistoryOutcome, Replica, ReplicaSettings, ReplicaStatus};
use crate::store::{Store, StoreSettings};
use crate::test_chain::{Checkpoint, Home, at, block_event, chain, settings};

/// A log of the first blocks of the chain of the vectors.
fn log(home: &Home, blocks: usize) -> Replica {
    let mut replica = home.started(ReplicaSettings {
        kept_changes: 50,
        ..settings()
    });
    extend(&mut replica, &chain().blocks[..blocks]);
    replica
}

fn extend(replica: &mut Replica, blocks: &[FetchedBlock]) {
    replica.extend(&"a".parse().unwrap(), blocks).unwrap();
    replica.settle().unwrap();
}

type OnModel = Projection<ProjectionStore<Model>>;

async fn projection(model: &Model, log: &Replica, writers: Writers) -> OnModel {
    projection_by("w", model, log, writers).await
}

async fn projection_by(writer: &str, model: &Model, log: &Replica, writers: Writers) -> OnModel {
    projection_of(writer, model, log.store().clone(), writers).await
}

async fn projection_of(writer: &str, model: &Model, log: Store, writers: Writers) -> OnModel {
    let writer = writer.parse().unwrap();
    let store = ProjectionStore::open(model.clone(), &"spkcc".parse().unwrap(), &writer).await;
    let settings = ProjectionSettings {
        step_blocks: 40,
        writers,
    };
    Projection::new(Arc::new(store.unwrap()), log, settings)
}

/// Goes on until there is nothing to do; gives what happened on the way.
async fn catch_up(projection: &mut OnModel) -> Vec<Progress> {
    let mut steps = Vec::new();
    loop {
        match projection.advance().await.unwrap() {
            Progress::Idle => return steps,
            step @ (Progress::Waiting { .. } | Progress::Mismatch { .. }) => panic!("{step:?}"),
            step => steps.push(step),
        }
        assert!(steps.len() < 1_000);
    }
}

/// Compares everything; gives the differences as text.
async fn compare(projection: &OnModel, mend: Mend) -> Vec<String> {
    let mut verification = Verification::new(mend);
    for _ in 0..1_000 {
        match projection.verify_step(&mut verification).await.unwrap() {
            Verified::More => {}
            Verified::Done => {
                let found = verification.differences().iter().map(ToString::to_string);
                return found.collect();
            }
            Verified::NotNow(why) => panic!("{why}"),
        }
    }
    panic!("it does not end");
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    runtime.unwrap().block_on(future)
}

/// A block after `previous` with one operation.
fn block(previous: &HashedBlock, link: honeygraph_chain::ContentId, path: &str) -> FetchedBlock {
    let operations = vec![
        Operation::Put {
            path: Path::from_slashed(path),
            data: serde_json::from_str("1").unwrap(),
        },
        Operation::WriteMarker,
    ];
    let block = HashedBlock::from(Block {
        number: previous.number().next(),
        previous_hash: link,
        operations: Operations::new(operations).unwrap(),
    });
    FetchedBlock {
        block,
        timestamp_ms: 1_544_788_800_000,
    }
}

#[test]
fn what_is_filled_equals_the_log_and_every_edit_is_found_and_mended() {
    block_on(async {
        let home = Home::new();
        let log = log(&home, 250);
        let model = Model::new(1);
        let mut projection = projection(&model, &log, Writers::One).await;
        catch_up(&mut projection).await;
        let cursor = projection.cursor().unwrap().clone();
        assert_eq!(cursor.from, Some(at(0)));
        assert_eq!(cursor.applied.unwrap().number, at(249));
        assert_eq!(compare(&projection, Mend::No).await, [""; 0]);
        let right = model.facts();

        let region = *projection.target.region();
        let stray = Uid(9_000);
        let checkpoint = at(99);
        let somewhere = |predicate: &str| {
            let facts = model.facts();
            facts.keys().find(|(_, name)| name == predicate).unwrap().0
        };
        let value = somewhere(p::STATE_VALUE);
        for (uid, predicate, values) in [
            (region.block(at(3)), p::OPERATIONS, vec!["[1]".into()]),
            (region.block(at(4)), p::BLOCK_NUM, vec![]),
            (region.block(at(5)), p::BLOCK_NUM, vec![9.into()]),
            (region.block(at(6)), p::FORK_ID, vec!["x".into()]),
            (region.block(at(7)), p::OP_PATH, vec!["no/such/path".into()]),
            (
                stray,
                p::BLOCK_NUM,
                vec![Value::Integer(at(8).get().cast_signed())],
            ),
            (stray, p::STATE_PATH, vec!["no/such".into()]),
            (
                region.checkpoint(checkpoint),
                p::CHECKPOINT_KIND,
                vec!["state".into()],
            ),
            (
                region.checkpoint(at(100)),
                p::CHECKPOINT_BLOCK_NUM,
                vec![100.into()],
            ),
            (value, p::STATE_VALUE, vec!["\"edited\"".into()]),
        ] {
            model.tamper(uid, predicate, values);
        }
        let found = compare(&projection, Mend::No).await.join("\n");
        for place in [
            format!("block {}: other operations", at(3)),
            format!("block {}: other blockNum", at(4)),
            format!("block {}: other blockNum", at(5)),
            format!("block {}: other forkId", at(6)),
            format!("block {}: other op.path", at(7)),
            format!("block {}: node {stray} is no block of the log", at(8)),
            format!("checkpoint {checkpoint}: differs"),
            "checkpoint 100: node".to_owned(),
            ": Dgraph has \"edited\", the log".to_owned(),
        ] {
            assert!(found.contains(&place), "{place} is missing in:\n{found}");
        }
        compare(&projection, Mend::Yes).await;
        assert_eq!(compare(&projection, Mend::No).await, [""; 0]);
        // A path at a uid that is not its own cannot be told from one that the log has elsewhere.
        model.tamper(stray, p::STATE_PATH, vec![]);
        let mut mended = model.facts();
        let mut right = right;
        for facts in [&mut mended, &mut right] {
            facts.retain(|(uid, predicate), _| *uid != NETWORK_NODE || predicate != p::APPLIED_BY);
        }
        assert_eq!(mended, right);
    });
}

/// Takes the state away that the cursor names, so that it has to be written anew.
fn forget_state(model: &Model) {
    model.tamper(NETWORK_NODE, p::STATE_BLOCK, vec![]);
}

#[test]
fn a_page_of_a_sweep_that_was_not_written_is_swept_again() {
    block_on(async {
        let home = Home::new();
        let log = log(&home, 150);
        let model = Model::new(8);
        let mut projection = projection(&model, &log, Writers::One).await;
        catch_up(&mut projection).await;
        // More than a page of nodes that are not of the state.
        for stray in 9_000..9_070 {
            model.tamper(Uid(stray), p::STATE_PATH, vec!["no/such".into()]);
            model.tamper(Uid(stray), p::STATE_VALUE, vec!["1".into()]);
        }
        forget_state(&model);
        projection.forget_cursor();
        assert_eq!(projection.advance().await.unwrap(), Progress::Moved);
        model.lose_writes(true);
        projection.advance().await.unwrap_err();
        model.lose_writes(false);
        projection.forget_cursor();
        catch_up(&mut projection).await;
        assert_eq!(compare(&projection, Mend::No).await, [""; 0]);
    });
}

#[test]
fn a_burst_that_changed_too_much_makes_the_state_be_written_anew() {
    block_on(async {
        let home = Home::new();
        let mut log = log(&home, 150);
        let model = Model::new(14);
        let mut projection = projection(&model, &log, Writers::One).await;
        catch_up(&mut projection).await;
        for (nodes, bytes, is_too_much) in
            [(20, 1 << 20, true), (10_000, 100, true), (10_000, 1 << 20, false)]
        {
            projection.limits = StateLimits { nodes, bytes };
            let height = log.position().unwrap().state_height;
            let first = chain()
                .blocks
                .iter()
                .position(|block| block.block.number() > height)
                .unwrap();
            extend(&mut log, &chain().blocks[first..first + 20]);
            let before = model.values(NETWORK_NODE, p::STATE_BLOCK);
            projection.forget_cursor();
            assert_eq!(projection.advance().await.unwrap(), Progress::Moved);
            // The blocks stand there at once.
            assert_eq!(
                projection.cursor().unwrap().applied.unwrap().number,
                at(first + 19)
            );
            assert_eq!(model.values(NETWORK_NODE, p::STATE_BLOCK) == before, is_too_much);
            let written = projection.state_nodes_written();
            catch_up(&mut projection).await;
            assert_eq!(projection.state_nodes_written() != written, is_too_much);
            assert_eq!(compare(&projection, Mend::No).await, [""; 0]);
        }
    });
}

#[test]
fn who_knows_less_of_a_checkpoint_corrects_nobody() {
    block_on(async {
        let (home, other_home) = (Home::new(), Home::new());
        let log = log(&home, 150);
        drop(self::log(&other_home, 150));
        let (lesser, mut writer, _) = Store::open(
            &other_home.directory.path().join("data"),
            &StoreSettings::default(),
        )
        .unwrap();
        let mut record = lesser.view().checkpoint(at(99)).unwrap().unwrap();
        assert!(record.state_digest.is_some() && record.block_hash.is_some());
        (record.state_digest, record.block_hash) = (None, None);
        let mut transaction = writer.begin();
        transaction.put_checkpoint(&record).unwrap();
        transaction.commit().unwrap();

        let model = Model::new(13);
        let mut less = projection_of("less", &model, lesser, Writers::Several).await;
        catch_up(&mut less).await;
        let mut more = projection_by("more", &model, &log, Writers::Several).await;
        catch_up(&mut more).await;
        let found = compare(&more, Mend::Yes).await;
        assert_eq!(found, [format!("checkpoint {}: differs", at(99))]);
        for projection in [&less, &more] {
            assert_eq!(compare(projection, Mend::No).await, [""; 0]);
        }
        // Where something else is wrong, what others know is not lost with it.
        let node = less.target.region().block(at(99));
        model.tamper(node, p::OPERATIONS, vec!["[1]".into()]);
        compare(&less, Mend::Yes).await;
        assert_eq!(compare(&more, Mend::No).await, [""; 0]);
    });
}

#[test]
fn history_that_is_fetched_later_is_written_too() {
    block_on(async {
        let home = Home::new();
        let mut log = log(&home, 250);
        let gone = BlockRange::new(at(0), at(149)).unwrap();
        log.discard_blocks(gone).unwrap();
        let model = Model::new(2);
        let mut projection = projection(&model, &log, Writers::One).await;
        catch_up(&mut projection).await;
        assert_eq!(projection.cursor().unwrap().from, Some(at(150)));
        for run in [100..150, 0..100] {
            let blocks = &chain().blocks[run.clone()];
            assert_eq!(log.fill_history(blocks).unwrap(), HistoryOutcome::Stored);
            assert!(!catch_up(&mut projection).await.is_empty());
            assert_eq!(projection.cursor().unwrap().from, Some(at(run.start)));
            assert_eq!(compare(&projection, Mend::No).await, [""; 0]);
        }
        let whole = Model::new(3);
        let mut other = self::projection(&whole, &log, Writers::One).await;
        catch_up(&mut other).await;
        let blocks = |model: &Model| {
            let facts = model.facts().into_iter();
            facts.filter(|((_, name), _)| name == p::OPERATIONS).count()
        };
        assert_eq!(blocks(&model), 250);
        assert_eq!(blocks(&whole), 250);
    });
}

/// A log of the same chain up to a block, and blocks of its own from there on.
fn other_log(home: &Home, common: usize, own: usize) -> Replica {
    let mut other = log(home, common);
    let mut previous = chain().blocks[common - 1].block.clone();
    for place in 0..own {
        let link = other.position().unwrap().link();
        let next = block(&previous, link, &format!("own/{place}"));
        previous = next.block.clone();
        extend(&mut other, &[next]);
    }
    other
}

#[test]
fn a_cluster_of_ones_own_that_contradicts_is_taken_back_and_filled_again() {
    block_on(async {
        let (home, other_home) = (Home::new(), Home::new());
        let log = log(&home, 250);
        // Its last 70 blocks are others, across a checkpoint.
        let other = other_log(&other_home, 150, 90);
        let model = Model::new(4);
        catch_up(&mut projection(&model, &other, Writers::One).await).await;

        let mut shared = projection_by("another", &model, &log, Writers::Several).await;
        let told = shared.advance().await.unwrap();
        assert!(matches!(told, Progress::Mismatch { .. }), "{told:?}");

        let mut own = projection(&model, &log, Writers::One).await;
        let steps = catch_up(&mut own).await;
        let to = steps.iter().rev().find_map(|step| match step {
            Progress::Rewound { to, .. } => *to,
            _ => None,
        });
        assert_eq!(to, Some(at(149)));
        assert_eq!(own.cursor().unwrap().applied.unwrap().number, at(249));
        assert_eq!(compare(&own, Mend::No).await, [""; 0]);
    });
}

#[test]
fn a_cluster_that_contradicts_again_and_again_is_left_alone() {
    block_on(async {
        let (home, other_home) = (Home::new(), Home::new());
        let (log, other) = (log(&home, 250), other_log(&other_home, 150, 100));
        let model = Model::new(5);
        let mut ours = projection(&model, &log, Writers::One).await;
        let mut theirs = projection(&model, &other, Writers::One).await;
        let mut told = None;
        for _ in 0..200 {
            for projection in [&mut ours, &mut theirs] {
                projection.forget_cursor();
                // Each gets as far as it can before the other goes on.
                while told.is_none() {
                    match projection.advance().await.unwrap() {
                        Progress::Idle => break,
                        step @ Progress::Mismatch { .. } => told = Some(step),
                        _ => {}
                    }
                }
            }
        }
        let told = told.unwrap();
        assert!(matches!(told, Progress::Mismatch { .. }), "{told:?}");
    });
}

/// A source reports a checkpoint.
fn report(log: &mut Replica, source: &str, checkpoint: &Checkpoint) {
    let event = SourceEventKind::Checkpoint {
        covered: checkpoint.block_num,
        id: checkpoint.cid,
        previous: None,
    };
    let source = source.parse().unwrap();
    log.on_source(SourceEvent { source, event }, 1_700_000_000)
        .unwrap();
}

/// A source sends a block.
fn send(log: &mut Replica, source: &str, block: &Block) {
    let event = block_event(block);
    let source = source.parse().unwrap();
    // A time at which every block of the vectors is plausible.
    log.on_source(SourceEvent { source, event }, 1_700_000_000)
        .unwrap();
}

#[test]
fn a_fork_across_its_own_checkpoint_is_taken_back() {
    block_on(async {
        let home = Home::new();
        let mut log = home.started(ReplicaSettings {
            kept_changes: 50,
            ..settings()
        });
        let common = 60;
        for place in 0..common {
            send(&mut log, "one", chain().blocks[place].block.block());
        }
        // Two forks, each with a checkpoint of its own at place 99; the first is followed.
        for source in ["one", "four"] {
            let blocks = if source == "one" { common..120 } else { 0..110 };
            for place in blocks {
                let mut own = chain().blocks[place].block.block().clone();
                if place >= common {
                    let path = Path::from_slashed(&format!("of/{source}/{place}"));
                    let data = serde_json::from_str("1").unwrap();
                    let operations = vec![Operation::Put { path, data }, Operation::WriteMarker];
                    own.operations = Operations::new(operations).unwrap();
                }
                send(&mut log, source, &own);
            }
        }
        log.settle().unwrap();
        let model = Model::new(6);
        let mut projection = projection(&model, &log, Writers::Several).await;
        catch_up(&mut projection).await;
        let left = projection.cursor().unwrap().applied.unwrap();
        assert_eq!(left.number, at(119));

        for source in ["two", "three"] {
            for fetched in &chain().blocks[..130] {
                send(&mut log, source, fetched.block.block());
            }
        }
        log.settle().unwrap();
        let position = log.position().unwrap();
        let ours = chain().blocks[129].block.hash();
        assert_eq!(
            (position.state_height, position.state_block_hash),
            (at(129), Some(ours))
        );
        let at_checkpoint = log.store().view().fork_blocks_at(at(99)).count();
        assert_eq!(
            at_checkpoint, 2,
            "which of the two the fork goes through has to be computed"
        );
        projection.forget_cursor();
        catch_up(&mut projection).await;
        assert_eq!(projection.cursor().unwrap().applied.unwrap().hash, ours);
        assert_eq!(compare(&projection, Mend::No).await, [""; 0]);
        let fork = left.hash.to_string();
        let facts = model.facts();
        let orphans = facts
            .iter()
            .filter(|((_, name), values)| name == p::FORK_ID && values[0] == fork.as_str().into());
        assert_eq!(orphans.count(), 60);
    });
}

#[test]
fn what_a_writer_of_several_wrote_itself_it_takes_back() {
    block_on(async {
        let (home, other_home) = (Home::new(), Home::new());
        // Its log took blocks of a lying peer, which it has discarded since.
        let other = other_log(&other_home, 150, 40);
        let model = Model::new(9);
        let mut ours = projection(&model, &other, Writers::Several).await;
        catch_up(&mut ours).await;
        let mut log = log(&home, 150);
        let mut ours = projection(&model, &log, Writers::Several).await;
        let step = ours.advance().await.unwrap();
        assert!(matches!(step, Progress::Waiting { .. }), "{step:?}");
        extend(&mut log, &chain().blocks[150..250]);
        ours.forget_cursor();
        let steps = catch_up(&mut ours).await;
        assert!(
            steps.iter().any(|step| matches!(step, Progress::Rewound { .. })),
            "{steps:?}"
        );
        assert_eq!(compare(&ours, Mend::No).await, [""; 0]);
    });
}

#[test]
fn a_log_that_shares_nothing_with_it_takes_nothing_of_a_shared_cluster_back() {
    block_on(async {
        let (home, other_home) = (Home::new(), Home::new());
        // Others wrote most of it; the writer of this name wrote the last step, and has lost its log since.
        let mut other = other_log(&other_home, 1, 60);
        let model = Model::new(12);
        let mut others = projection_by("another", &model, &other, Writers::Several).await;
        catch_up(&mut others).await;
        let link = other.position().unwrap().link();
        let number = other.position().unwrap().state_height;
        let tip = other.store().view().block(number).unwrap().unwrap();
        let last = block(&tip.decode(number).unwrap(), link, "own/last");
        extend(&mut other, &[last]);
        let mut ours = projection(&model, &other, Writers::Several).await;
        catch_up(&mut ours).await;
        let stood = ours.cursor().cloned();
        let mut ours = projection(&model, &log(&home, 150), Writers::Several).await;
        let told = ours.advance().await.unwrap();
        assert!(matches!(told, Progress::Mismatch { .. }), "{told:?}");
        let cursor = ours.cursor().cloned();
        assert_eq!(cursor.unwrap().applied, stood.unwrap().applied);
    });
}

/// A log that heard of two forks after place 60, and follows the one that two sources send, not the one of the third.
/// Both have as many blocks.
fn log_of_forks(home: &Home, followed: &str, other: &str) -> Replica {
    let mut log = home.started(ReplicaSettings {
        kept_changes: 50,
        ..settings()
    });
    for (source, fork) in [("one", followed), ("two", followed), ("four", other)] {
        for place in 0..90 {
            send(&mut log, source, &block_of_fork(fork, place));
        }
    }
    log.settle().unwrap();
    log
}

/// A block of one of the forks, which leave the chain after place 60.
fn block_of_fork(fork: &str, place: usize) -> Block {
    let mut own = chain().blocks[place].block.block().clone();
    if place >= 60 {
        let path = Path::from_slashed(&format!("of/{fork}/{place}"));
        let data = serde_json::from_str("1").unwrap();
        let operations = vec![Operation::Put { path, data }, Operation::WriteMarker];
        own.operations = Operations::new(operations).unwrap();
    }
    own
}

#[test]
fn a_fork_that_became_wrong_for_good_meanwhile_is_taken_back_by_who_wrote_it() {
    block_on(async {
        let home = Home::new();
        let voters = ["one", "two", "three"].map(|voter| (VoterId(voter.to_owned()), 1));
        let mut log = home.started(ReplicaSettings {
            kept_changes: 50,
            voters: Voters::new(voters),
            ..settings()
        });
        for place in 0..90 {
            send(&mut log, "one", &block_of_fork("left", place));
        }
        log.settle().unwrap();
        let model = Model::new(10);
        let mut ours = projection(&model, &log, Writers::Several).await;
        catch_up(&mut ours).await;
        let left = ours.cursor().unwrap().applied.unwrap();
        // Dgraph is away while the fork loses, and what wins becomes irreversible.
        for source in ["two", "three"] {
            for fetched in &chain().blocks[..330] {
                send(&mut log, source, fetched.block.block());
            }
        }
        log.settle().unwrap();
        for source in ["two", "three"] {
            report(&mut log, source, &chain().checkpoints[1]);
        }
        let position = log.position().unwrap();
        assert!(position.irreversible_block() > Some(at(60)), "{position:?}");
        let mut others = projection_by("another", &model, &log, Writers::Several).await;
        let told = others.advance().await.unwrap();
        let Progress::Mismatch { block, ours: hash } = told else {
            panic!("{told:?}")
        };
        assert_eq!(block, left);
        assert_eq!(hash, Some(chain().blocks[89].block.hash()));
        ours.forget_cursor();
        catch_up(&mut ours).await;
        assert_eq!(compare(&ours, Mend::No).await, [""; 0]);
    });
}

#[test]
fn two_nodes_on_forks_that_both_know_do_not_take_them_back_for_ever() {
    block_on(async {
        let (home, other_home) = (Home::new(), Home::new());
        let logs = [
            log_of_forks(&home, "left", "right"),
            log_of_forks(&other_home, "right", "left"),
        ];
        let tips: Vec<_> = logs
            .iter()
            .map(|log| log.position().unwrap().state_block_hash.unwrap())
            .collect();
        assert_ne!(tips[0], tips[1]);
        let model = Model::new(11);
        let mut nodes = [
            projection_by("first", &model, &logs[0], Writers::Several).await,
            projection_by("second", &model, &logs[1], Writers::Several).await,
        ];
        let mut told = 0;
        for _ in 0..5 {
            for node in &mut nodes {
                node.forget_cursor();
                loop {
                    match node.advance().await.unwrap() {
                        Progress::Idle | Progress::Waiting { .. } => break,
                        Progress::Mismatch { .. } => {
                            told += 1;
                            break;
                        }
                        _ => {}
                    }
                }
            }
        }
        assert!(told >= 3, "{told}");
    });
}

#[test]
fn blocks_that_come_back_stand_in_dgraph_once() {
    block_on(async {
        let home = Home::new();
        let mut log = log(&home, 130);
        let model = Model::new(12);
        let mut projection = projection(&model, &log, Writers::One).await;
        catch_up(&mut projection).await;
        log.abandon_unproven(at(129)).unwrap();
        let left = log.position().unwrap().state_height;
        assert!(left < at(129));
        projection.forget_cursor();
        catch_up(&mut projection).await;
        let of_forks = |model: &Model| {
            let facts = model.facts().into_keys();
            facts
                .filter(|(_, name)| name == p::FORK_ID || name == p::FORK_TIP_HASH)
                .count()
        };
        assert!(of_forks(&model) > 1);
        let first = chain()
            .blocks
            .iter()
            .position(|block| block.block.number() > left)
            .unwrap();
        extend(&mut log, &chain().blocks[first..130]);
        projection.forget_cursor();
        catch_up(&mut projection).await;
        assert_eq!(of_forks(&model), 0);
        assert_eq!(compare(&projection, Mend::No).await, [""; 0]);

        // One that stayed is found and taken away, with its fork.
        let again = projection.cursor().unwrap().applied.unwrap();
        let region = *projection.target.region();
        let node = region.orphan(again.hash);
        let number = Value::Integer(again.number.get().cast_signed());
        model.tamper(node, p::BLOCK_NUM, vec![number]);
        model.tamper(node, p::BLOCK_HASH, vec![again.hash.to_string().into()]);
        model.tamper(node, p::FORK_ID, vec!["x".into()]);
        model.tamper(region.fork(again.hash), p::FORK_TIP_HASH, vec!["x".into()]);
        let found = compare(&projection, Mend::Yes).await;
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(of_forks(&model), 0);
    });
}

#[test]
fn a_job_that_was_cancelled_mends_nothing_more() {
    block_on(async {
        let home = Home::new();
        let log = log(&home, 130);
        let model = Model::new(15);
        let mut projection = projection(&model, &log, Writers::One).await;
        catch_up(&mut projection).await;
        let block = projection.target.region().block(at(3));
        model.tamper(block, p::OPERATIONS, vec!["[1]".into()]);
        let jobs = Jobs::default();
        jobs.ask(Order::Verify { repair: true }).unwrap();
        let (_sender, changes) = watch::channel(Arc::new(ReplicaStatus::default()));
        let stop = CancellationToken::new();
        // What is compared without a job tells of what it puts right.
        let mut told = Vec::new();
        projection
            .follow(changes, &jobs, stop.clone(), |_, progress, _| {
                let _ = jobs.cancel();
                told.push(progress.as_ref().unwrap().clone());
                if told.len() > 1 {
                    stop.cancel();
                }
            })
            .await;
        assert_eq!(told, [Progress::Idle, Progress::Repaired { blocks: 1, nodes: 0 }]);
        assert_eq!(jobs.last().unwrap().repaired, 0);
    });
}

#[test]
fn a_job_that_is_asked_for_during_a_step_is_not_ended_by_it() {
    block_on(async {
        let home = Home::new();
        let model = Model::new(13);
        let projection = projection(&model, &log(&home, 50), Writers::One).await;
        let (jobs, stop) = (Jobs::default(), CancellationToken::new());
        let (_sender, changes) = watch::channel(Arc::new(ReplicaStatus::default()));
        let asked = jobs.clone();
        let drop = Order::Rebuild { drop: true };
        projection
            .follow(changes, &jobs, stop, move |_, attempt, _| {
                if matches!(attempt, Ok(Progress::Idle)) {
                    let _ = asked.ask(drop);
                }
            })
            .await;
        // It returns to have everything taken away, which was not done yet.
        assert!(jobs.wants_drop(), "{:?}", jobs.last());
    });
}

#[test]
fn where_the_log_has_a_hole_dgraph_waits() {
    block_on(async {
        let home = Home::new();
        let mut log = log(&home, 150);
        let model = Model::new(7);
        let mut projection = projection(&model, &log, Writers::One).await;
        catch_up(&mut projection).await;
        extend(&mut log, &chain().blocks[150..250]);
        let torn = BlockRange::new(at(120), at(170)).unwrap();
        log.discard_blocks(torn).unwrap();
        projection.forget_cursor();
        let step = projection.advance().await.unwrap();
        assert!(matches!(step, Progress::Waiting { .. }), "{step:?}");
        assert_eq!(
            log.fill_history(&chain().blocks[120..171]).unwrap(),
            HistoryOutcome::Stored
        );
        catch_up(&mut projection).await;
        assert_eq!(compare(&projection, Mend::No).await, [""; 0]);
        let lowest: BlockNumber = projection.cursor().unwrap().from.unwrap();
        assert_eq!(lowest, at(0));
    });
}
