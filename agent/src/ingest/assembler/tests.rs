use honeygraph_chain::{BlockRange, Operation, Path};
use proptest::prelude::*;

use super::*;
use crate::ingest::message::{Ack, IndexedOperation};

/// Wall clock of the tests: about block 31,000,000.
const NOW_MS: u64 = 1_552_000_000_000;

fn at(seconds: u64) -> Moment {
    Moment {
        unix_ms: NOW_MS + seconds * 1_000,
        elapsed: Duration::from_secs(seconds),
    }
}

fn block(number: u64) -> BlockNumber {
    BlockNumber::try_from(number).unwrap()
}

fn index(number: u64) -> OperationIndex {
    OperationIndex::try_from(number).unwrap()
}

fn logged(number: u64, in_block: u64, operation: Operation) -> LogEntry {
    LogEntry::Indexed(IndexedOperation {
        index: index(number),
        block: block(in_block),
        operation,
        fork_hash: None,
        previous_checkpoint: None,
        timestamp_ms: Some(1_000 + number),
    })
}

fn put(number: u64, in_block: u64) -> LogEntry {
    logged(number, in_block, put_operation(number))
}

fn put_operation(number: u64) -> Operation {
    Operation::Put {
        path: Path(vec![format!("leaf{number}")]),
        data: honeygraph_chain::JsonValue::Null,
    }
}

fn marker(number: u64, in_block: u64) -> LogEntry {
    logged(number, in_block, Operation::WriteMarker)
}

fn status(last: i64, head: Option<u64>) -> SyncStatusMessage {
    SyncStatusMessage {
        last_index: LastIndex(u64::try_from(last).ok().map(index)),
        block_num: head.map(block),
    }
}

fn checkpoint(document_number: u64) -> CheckpointMessage {
    CheckpointMessage {
        block_num: block(document_number),
        hash: ContentId::of(b"document"),
        prev_hash: None,
    }
}

fn cursor(last: u64, in_block: u64) -> SourceCursor {
    SourceCursor {
        last_index: LastIndex(Some(index(last))),
        block: block(in_block),
    }
}

fn small() -> AssemblerLimits {
    AssemblerLimits {
        held_bytes: 20_000,
        ahead_operations: 40,
        request_operations: 5,
        hole_operations: 30,
        request_timeout: Duration::from_secs(10),
        empty_blocks: 50,
        remembered_operations: 16,
        remembered_blocks: 8,
        clock_skew_blocks: 0,
    }
}

fn fresh() -> Assembler {
    Assembler::new(small(), None)
}

fn resumed(last: u64, in_block: u64) -> Assembler {
    Assembler::new(small(), Some(cursor(last, in_block)))
}

/// The shape of what came out, heads and acknowledgements left away.
fn shape(outputs: &[Output]) -> Vec<String> {
    outputs
        .iter()
        .filter_map(|output| match output {
            Output::Event(SourceEventKind::Block {
                number, operations, ..
            }) => Some(format!("block {number}: {}", operations.as_slice().len())),
            Output::Event(SourceEventKind::EmptyBlocks { range, .. }) => Some(format!("empty {range}")),
            Output::Event(SourceEventKind::Restarted) => Some("restarted".to_owned()),
            Output::Event(SourceEventKind::Checkpoint { covered, .. }) => {
                Some(format!("checkpoint {covered}"))
            }
            Output::Event(SourceEventKind::CheckpointReport { at, .. }) => Some(format!("report {at}")),
            Output::Send(ServerMessage::RequestMissing { from, to }) => {
                Some(format!("request {from}..={to}"))
            }
            Output::Send(ServerMessage::Error { .. }) => Some("error".to_owned()),
            Output::Send(ServerMessage::Ack(Ack::Operation {
                index,
                success: false,
            })) => Some(format!("not taken {index}")),
            _ => None,
        })
        .collect()
}

fn run(assembler: &mut Assembler, entries: Vec<LogEntry>) -> Vec<String> {
    shape(&assembler.operations(entries, at(0)))
}

#[test]
fn a_log_from_its_beginning_gives_blocks_and_the_empty_ones_between() {
    let mut assembler = fresh();
    let entries = vec![
        put(0, 100),
        marker(1, 100),
        put(2, 103),
        LogEntry::BareWriteMarker,
    ];
    let outputs = assembler.operations(entries, at(0));
    assert_eq!(shape(&outputs), ["block 100: 2", "empty 101..=102"]);
    let handed_over = outputs.iter().find_map(|output| match output {
        Output::Event(SourceEventKind::Block {
            timestamp_ms, cursor, ..
        }) => Some((*timestamp_ms, *cursor)),
        _ => None,
    });
    assert_eq!(handed_over, Some((1_000, cursor(1, 100))));
    let acknowledged = outputs
        .iter()
        .filter(|output| matches!(output, Output::Send(ServerMessage::Ack(_))))
        .count();
    assert_eq!(acknowledged, 4);
    assert_eq!(
        shape(&assembler.sync_status(status(3, Some(106)), at(0))),
        ["block 103: 2", "empty 104..=105"]
    );
}

#[test]
fn a_checkpoint_completes_its_block_and_may_come_late() {
    let mut assembler = resumed(9, 100);
    assert!(run(&mut assembler, vec![put(10, 101), marker(11, 101)]).is_empty());
    assert_eq!(
        shape(&assembler.checkpoint(&checkpoint(102), at(0))),
        ["checkpoint 101", "block 101: 2"]
    );
    run(&mut assembler, vec![put(12, 103), marker(13, 103), put(14, 104)]);
    assert_eq!(
        shape(&assembler.checkpoint(&checkpoint(102), at(0))),
        ["checkpoint 101"]
    );
    assert_eq!(shape(&assembler.checkpoint(&checkpoint(0), at(0))), ["error"]);
}

#[test]
fn the_first_block_is_left_out_unless_its_beginning_is_certain() {
    let mut assembler = fresh();
    let entries = vec![
        put(70, 100),
        marker(71, 100),
        put(72, 102),
        marker(73, 102),
        put(74, 103),
    ];
    assert_eq!(
        run(&mut assembler, entries.clone()),
        ["empty 101..=101", "block 102: 2"]
    );

    let mut told = fresh();
    assert!(shape(&told.sync_status(status(69, Some(98)), at(0))).is_empty());
    assert_eq!(run(&mut told, entries)[..2], ["empty 99..=99", "block 100: 2"]);

    let mut told_the_same_block = fresh();
    told_the_same_block.sync_status(status(69, Some(100)), at(0));
    let entries = vec![
        put(70, 100),
        marker(71, 100),
        put(72, 101),
        marker(73, 101),
        put(74, 102),
    ];
    assert_eq!(run(&mut told_the_same_block, entries), ["block 101: 2"]);
}

#[test]
fn a_source_that_streams_its_history_after_telling_where_it_stands_is_taken_from_the_start() {
    let mut assembler = fresh();
    assembler.sync_status(status(69, Some(98)), at(0));
    assert_eq!(
        run(&mut assembler, vec![put(0, 50), marker(1, 50), put(2, 51)]),
        ["block 50: 2"]
    );
}

#[test]
fn a_source_without_operations_can_be_told_from_one_with_lost_ones() {
    let mut assembler = fresh();
    // What block 98 held before this log began is not known.
    assembler.sync_status(status(-1, Some(98)), at(0));
    assert_eq!(
        run(&mut assembler, vec![put(0, 100), marker(1, 100), put(2, 101)]),
        ["empty 99..=99", "block 100: 2"]
    );

    let mut told_the_same_block = fresh();
    told_the_same_block.sync_status(status(-1, Some(98)), at(0));
    let entries = vec![put(0, 98), marker(1, 98), put(2, 100)];
    assert_eq!(
        run(&mut told_the_same_block, entries),
        ["block 98: 2", "empty 99..=99"]
    );

    let mut empty = fresh();
    empty.sync_status(status(-1, Some(98)), at(0));
    assert_eq!(
        shape(&empty.sync_status(status(-1, Some(101)), at(0))),
        ["empty 99..=100"]
    );
}

#[test]
fn a_checkpoint_before_anything_else_does_not_make_blocks_empty() {
    let mut assembler = resumed(9, 100);
    assert_eq!(
        shape(&assembler.checkpoint(&checkpoint(150), at(0))),
        ["checkpoint 149"]
    );
    assert_eq!(
        run(&mut assembler, vec![put(10, 101), marker(11, 101), put(12, 102)]),
        ["block 101: 2"]
    );
}

#[test]
fn a_cursor_goes_on_where_the_last_session_ended() {
    let mut assembler = resumed(9, 100);
    // Known ones again: ignored.
    assert!(run(&mut assembler, vec![put(8, 100), marker(9, 100)]).is_empty());
    assert_eq!(
        shape(&assembler.sync_status(status(13, Some(103)), at(0))),
        ["request 10..=13"]
    );
    let entries = vec![put(10, 101), marker(11, 101), put(12, 103), marker(13, 103)];
    assert_eq!(run(&mut assembler, entries), ["block 101: 2", "empty 102..=102"]);
}

#[test]
fn a_hole_is_requested_in_pieces_and_closes() {
    let mut assembler = resumed(9, 100);
    let entries = vec![put(10, 101), put(18, 101), marker(19, 101), put(20, 102)];
    assert_eq!(run(&mut assembler, entries), ["request 11..=15"]);
    let first = (11..=15).map(|number| put(number, 101)).collect();
    assert_eq!(run(&mut assembler, first), ["request 16..=17"]);
    assert_eq!(
        run(&mut assembler, vec![put(16, 101), put(17, 101)]),
        ["block 101: 10"]
    );
}

#[test]
fn a_completion_waits_for_the_hole_before_it() {
    let mut assembler = resumed(9, 100);
    assert_eq!(
        run(&mut assembler, vec![put(10, 101), marker(12, 101)]),
        ["request 11..=11"]
    );
    assert_eq!(
        shape(&assembler.checkpoint(&checkpoint(103), at(0))),
        ["checkpoint 102"]
    );
    assert_eq!(
        run(&mut assembler, vec![put(11, 101)]),
        ["block 101: 3", "empty 102..=102"]
    );
}

#[test]
fn a_hole_that_is_too_large_is_left_to_the_peers() {
    let mut assembler = resumed(9, 100);
    assert_eq!(
        run(&mut assembler, vec![put(10, 101), marker(42, 150)]),
        ["restarted"]
    );
    let entries = vec![put(43, 151), marker(44, 151), put(45, 152)];
    assert_eq!(run(&mut assembler, entries), ["block 151: 2"]);

    let mut told = resumed(9, 100);
    assert_eq!(
        shape(&told.sync_status(status(1_000, Some(200)), at(0))),
        ["restarted"]
    );
    let entries = vec![put(1_001, 201), marker(1_002, 201), put(1_003, 202)];
    assert_eq!(run(&mut told, entries), ["block 201: 2"]);
}

#[test]
fn a_request_that_brings_nothing_is_given_up() {
    let mut assembler = resumed(9, 100);
    let entries = vec![
        put(10, 101),
        put(12, 101),
        marker(13, 101),
        put(14, 102),
        marker(15, 102),
    ];
    assert_eq!(run(&mut assembler, entries), ["request 11..=11"]);
    assert_eq!(assembler.next_tick(), Some(Duration::from_secs(10)));
    assert!(assembler.tick(at(9)).is_empty());
    assert_eq!(shape(&assembler.tick(at(10))), ["restarted"]);
    assert_eq!(assembler.next_tick(), None);
    assert_eq!(run(&mut assembler, vec![put(16, 103)]), ["block 102: 2"]);
}

#[test]
fn a_block_that_ends_inside_a_batch_is_refused_and_requested() {
    let mut assembler = resumed(9, 100);
    let entries = vec![put(10, 101), put(11, 101), put(12, 102)];
    assert_eq!(run(&mut assembler, entries), ["error", "request 10..=11"]);
    // The same again: left out.
    assert_eq!(
        run(&mut assembler, vec![put(10, 101), put(11, 101)]),
        ["error", "restarted"]
    );
    assert_eq!(
        run(&mut assembler, vec![marker(13, 102), put(14, 103)]),
        ["block 102: 2"]
    );
}

#[test]
fn a_block_that_ends_inside_a_batch_can_come_back_whole() {
    let mut assembler = resumed(9, 100);
    run(&mut assembler, vec![put(10, 101), put(11, 101)]);
    assert_eq!(
        shape(&assembler.checkpoint(&checkpoint(102), at(0))),
        ["checkpoint 101", "error", "request 10..=11"]
    );
    assert_eq!(
        run(&mut assembler, vec![put(10, 101), marker(11, 101)]),
        ["block 101: 2"]
    );
}

#[test]
fn heads_that_cannot_exist_are_refused() {
    let mut assembler = resumed(9, 100);
    assert_eq!(
        run(&mut assembler, vec![put(10, 1_000_000_000_000)]),
        ["error", "not taken 10"]
    );
    assert_eq!(
        shape(&assembler.sync_status(status(9, Some(1_000_000_000_000)), at(0))),
        ["error"]
    );
    assert_eq!(
        shape(&assembler.checkpoint(&checkpoint(1_000_000_000_000), at(0))),
        ["error"]
    );
    // A jump that the clock allows is a gap, not millions of empty blocks.
    assert_eq!(
        run(&mut assembler, vec![put(10, 20_000_000), marker(11, 20_000_000)]),
        ["restarted"]
    );
    assert_eq!(
        run(&mut assembler, vec![put(12, 20_000_001)]),
        ["block 20000000: 2"]
    );
}

#[test]
fn operations_of_complete_blocks_are_refused() {
    let mut assembler = resumed(9, 100);
    run(&mut assembler, vec![put(10, 101), marker(11, 101), put(12, 102)]);
    assert_eq!(
        run(&mut assembler, vec![put(13, 101)]),
        ["error", "not taken 13", "request 13..=13"]
    );
}

#[test]
fn a_repeat_that_says_something_else_is_refused() {
    let mut assembler = resumed(9, 100);
    run(&mut assembler, vec![put(10, 101), marker(11, 101), put(12, 102)]);
    assert!(run(&mut assembler, vec![put(10, 101), put(12, 102)]).is_empty());
    assert_eq!(run(&mut assembler, vec![put(11, 101)]), ["error", "not taken 11"]);
    assert_eq!(run(&mut assembler, vec![put(10, 102)]), ["error", "not taken 10"]);
    assert_eq!(
        run(&mut assembler, vec![marker(13, 102), put(14, 103)]),
        ["block 102: 2"]
    );
}

#[test]
fn a_source_that_counts_anew_starts_clean() {
    let mut assembler = resumed(900, 100);
    let entries = vec![
        put(5, 101),
        marker(6, 101),
        put(7, 102),
        marker(8, 102),
        put(9, 103),
    ];
    assert_eq!(run(&mut assembler, entries), ["restarted", "block 102: 2"]);

    let mut told = resumed(900, 100);
    assert_eq!(
        shape(&told.sync_status(status(4, Some(101)), at(0))),
        ["restarted"]
    );
    assert_eq!(
        run(&mut told, vec![put(5, 102), marker(6, 102), put(7, 103)]),
        ["block 102: 2"]
    );
}

#[test]
fn a_hole_before_a_bare_marker_moves_the_marker() {
    let mut assembler = resumed(9, 100);
    // Operation 11 is lost: the marker looks like it, until operation 13 arrives.
    let entries = vec![put(10, 101), LogEntry::BareWriteMarker, put(13, 102)];
    assert_eq!(run(&mut assembler, entries), ["request 10..=12"]);
    assert_eq!(
        run(&mut assembler, vec![put(11, 101), LogEntry::BareWriteMarker]),
        ["block 101: 3"]
    );
    assert_eq!(run(&mut fresh(), vec![LogEntry::BareWriteMarker]), ["error"]);
}

#[test]
fn a_lost_bare_marker_is_requested_with_the_operation_before_it() {
    let mut assembler = resumed(9, 100);
    let entries = vec![
        put(10, 101),
        LogEntry::BareWriteMarker,
        put(12, 102),
        put(14, 103),
    ];
    assert_eq!(run(&mut assembler, entries), ["block 101: 2", "request 12..=13"]);
    assert_eq!(
        run(&mut assembler, vec![put(12, 102), LogEntry::BareWriteMarker]),
        ["block 102: 2"]
    );
}

#[test]
fn the_named_checkpoint_is_reported_when_it_changes() {
    let naming = |number, in_block, name: &[u8]| {
        let LogEntry::Indexed(mut operation) = put(number, in_block) else {
            panic!("not indexed")
        };
        operation.fork_hash = Some(ContentId::of(name));
        LogEntry::Indexed(operation)
    };
    let mut assembler = resumed(9, 101);
    let entries = vec![
        naming(10, 102, b"one"),
        naming(11, 102, b"two"),
        marker(12, 102),
        naming(13, 103, b"one"),
        marker(14, 103),
        naming(15, 104, b"two"),
    ];
    assert_eq!(
        run(&mut assembler, entries),
        ["report 102", "block 102: 3", "block 103: 2", "report 104"]
    );
}

#[test]
fn a_proven_mismatch_takes_blocks_back() {
    let mut assembler = resumed(9, 100);
    let log = vec![
        put(10, 101),
        marker(11, 101),
        put(12, 103),
        marker(13, 103),
        put(14, 104),
    ];
    run(&mut assembler, log.clone());
    assert_eq!(
        shape(&assembler.request_missing(index(12), index(13), at(0))),
        ["restarted", "request 12..=14"]
    );
    assert_eq!(run(&mut assembler, log), ["block 103: 2"]);
    // What is no longer remembered is only asked for.
    assert_eq!(
        shape(&assembler.request_missing(index(2), index(8), at(0))),
        ["request 2..=6"]
    );
}

#[test]
fn status_says_what_is_missing() {
    let mut assembler = resumed(9, 100);
    let outputs = assembler.sync_status(status(12, None), at(0));
    assert_eq!(
        outputs.last(),
        Some(&Output::Send(ServerMessage::SyncStatus {
            last_index: LastIndex(Some(index(9))),
            status: SyncState::Missing,
        }))
    );
}

#[test]
fn what_waits_for_a_hole_is_bounded_and_requested_again() {
    let many = AssemblerLimits {
        hole_operations: 1_000,
        ..small()
    };
    let light = AssemblerLimits {
        held_bytes: 4_000,
        ahead_operations: 1_000,
        ..many
    };
    for limits in [many, light] {
        let mut assembler = Assembler::new(limits, Some(cursor(9, 100)));
        run(&mut assembler, vec![put(10, 101)]);
        let mut not_taken = Vec::new();
        for number in 12..100 {
            let outputs = run(&mut assembler, vec![put(number, 101)]);
            not_taken.extend(outputs.into_iter().filter(|line| line.starts_with("not taken")));
            assert!(assembler.ahead.len() <= 40);
        }
        let kept = u64::try_from(assembler.ahead.len()).unwrap();
        assert_eq!(not_taken.first(), Some(&format!("not taken {}", 12 + kept)));
        assert_eq!(not_taken.len() + assembler.ahead.len(), 88);
        let next = 12 + kept;
        let request = format!("request {next}..={}", next + 4);
        assert_eq!(run(&mut assembler, vec![put(11, 101)]).last(), Some(&request));
    }
}

#[test]
fn a_block_without_end_does_not_fill_the_memory() {
    let mut assembler = resumed(9, 100);
    let mut restarts = 0;
    for number in 10..3_000 {
        let outputs = run(&mut assembler, vec![put(number, 101)]);
        restarts += outputs.iter().filter(|line| *line == "restarted").count();
        let held = assembler.open.as_ref().map_or(0, |open| open.weight);
        assert!(held <= small().held_bytes);
    }
    assert_eq!(restarts, 1);
    let entries = vec![
        marker(3_000, 101),
        put(3_001, 102),
        marker(3_002, 102),
        put(3_003, 103),
    ];
    assert_eq!(run(&mut assembler, entries), ["block 102: 2"]);
}

/// A source's whole log: blocks of closed batches, some of them empty.
#[derive(Debug, Clone)]
struct Log {
    first_index: u64,
    first_block: u64,
    blocks: Vec<Vec<Operation>>,
}

impl Log {
    /// Every operation with its running index and its block.
    fn entries(&self) -> Vec<(u64, u64, Operation)> {
        let mut entries = Vec::new();
        for (number, operations) in (self.first_block..).zip(&self.blocks) {
            for operation in operations {
                let next = self.first_index + u64::try_from(entries.len()).unwrap();
                entries.push((next, number, operation.clone()));
            }
        }
        entries
    }

    fn operations_of(&self, number: BlockNumber) -> &[Operation] {
        let at = usize::try_from(number.get() - self.first_block).unwrap();
        self.blocks.get(at).map_or(&[], Vec::as_slice)
    }

    fn head(&self) -> u64 {
        self.first_block + u64::try_from(self.blocks.len()).unwrap()
    }

    fn last_index(&self) -> i64 {
        i64::try_from(self.first_index).unwrap() + i64::try_from(self.entries().len()).unwrap() - 1
    }
}

fn any_log() -> impl Strategy<Value = Log> {
    let blocks = prop::collection::vec(prop::collection::vec(1..4_usize, 0..3), 1..12);
    (prop_oneof![Just(0), 1..1_000_u64], 1_000..2_000_u64, blocks).prop_map(
        |(first_index, first_block, blocks)| {
            let mut serial = 0;
            let blocks = blocks
                .into_iter()
                .map(|batches| {
                    let mut operations = Vec::new();
                    for puts in batches {
                        for _ in 0..puts {
                            serial += 1;
                            operations.push(put_operation(serial));
                        }
                        operations.push(Operation::WriteMarker);
                    }
                    operations
                })
                .collect();
            Log {
                first_index,
                first_block,
                blocks,
            }
        },
    )
}

/// What happens to one entry on its way.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Sent,
    SentTwice,
    Lost,
}

fn any_fates() -> impl Strategy<Value = Vec<Fate>> {
    let fate = prop_oneof![5 => Just(Fate::Sent), 1 => Just(Fate::SentTwice), 1 => Just(Fate::Lost)];
    prop::collection::vec(fate, 100)
}

/// How a source writes its markers.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Markers {
    Indexed,
    Bare,
}

fn live(log: &Log, fates: &[Fate], markers: Markers) -> Vec<LogEntry> {
    let mut sent = Vec::new();
    for ((number, in_block, operation), fate) in log.entries().into_iter().zip(fates.iter().cycle()) {
        let entry = match (&operation, markers) {
            (Operation::WriteMarker, Markers::Bare) => LogEntry::BareWriteMarker,
            _ => logged(number, in_block, operation),
        };
        match (fate, &entry) {
            (Fate::Lost, _) => {}
            // A bare marker says nothing of its place: sent twice, the second is another one.
            (Fate::SentTwice, LogEntry::Indexed(_)) => sent.extend([entry.clone(), entry]),
            _ => sent.push(entry),
        }
    }
    sent
}

fn resent(log: &Log, outputs: &[Output]) -> Vec<LogEntry> {
    let mut sent = Vec::new();
    for output in outputs {
        if let Output::Send(ServerMessage::RequestMissing { from, to }) = output {
            for (number, in_block, operation) in log.entries() {
                if (from.get()..=to.get()).contains(&number) {
                    sent.push(logged(number, in_block, operation));
                }
            }
        }
    }
    sent
}

/// Sends in pieces and answers every request at once.
fn send_all(assembler: &mut Assembler, log: &Log, entries: Vec<LogEntry>, piece: usize) -> Vec<Output> {
    let mut outputs = Vec::new();
    let mut entries = entries.into_iter().peekable();
    while entries.peek().is_some() {
        let mut part: Vec<_> = entries.by_ref().take(piece).collect();
        // Nothing comes between an operation and its bare marker.
        part.extend(std::iter::from_fn(|| {
            entries.next_if_eq(&LogEntry::BareWriteMarker)
        }));
        let mut new = assembler.operations(part, at(0));
        loop {
            let answer = resent(log, &new);
            outputs.append(&mut new);
            if answer.is_empty() {
                break;
            }
            new = assembler.operations(answer, at(0));
        }
    }
    outputs
}

/// Checks every block against the log and that they follow each other; returns their numbers.
fn check(log: &Log, outputs: &[Output]) -> Vec<u64> {
    let mut numbers: Vec<u64> = Vec::new();
    let mut expected: Option<BlockNumber> = None;
    let mut follow = |range: BlockRange, expected: Option<BlockNumber>| {
        if let Some(expected) = expected {
            assert_eq!(range.start(), expected, "blocks do not follow each other");
        }
        numbers.extend(range.iter().map(BlockNumber::get));
        Some(range.end().next())
    };
    for output in outputs {
        match output {
            Output::Event(SourceEventKind::Block {
                number, operations, ..
            }) => {
                assert_eq!(
                    operations.as_slice(),
                    log.operations_of(*number),
                    "block {number}"
                );
                expected = follow(BlockRange::single(*number), expected);
            }
            Output::Event(SourceEventKind::EmptyBlocks { range, .. }) => {
                for number in range.iter() {
                    assert!(
                        log.operations_of(number).is_empty(),
                        "block {number} is not empty"
                    );
                }
                expected = follow(*range, expected);
            }
            Output::Event(SourceEventKind::Restarted) => expected = None,
            _ => {}
        }
    }
    numbers
}

fn from_before(log: &Log, limits: AssemblerLimits) -> Assembler {
    Assembler::new(
        limits,
        Some(SourceCursor {
            last_index: LastIndex(log.first_index.checked_sub(1).map(index)),
            block: block(log.first_block - 1),
        }),
    )
}

fn roomy() -> AssemblerLimits {
    AssemblerLimits {
        hole_operations: 1_000,
        ahead_operations: 1_000,
        held_bytes: 1 << 20,
        ..small()
    }
}

proptest! {
    #[test]
    fn losses_and_repeats_that_are_sent_again_change_nothing(
        log in any_log(),
        fates in any_fates(),
        piece in 1..20_usize,
        markers in prop_oneof![Just(Markers::Indexed), Just(Markers::Bare)],
    ) {
        let mut assembler = from_before(&log, roomy());
        let mut outputs = send_all(&mut assembler, &log, live(&log, &fates, markers), piece);
        let mut new = assembler.sync_status(status(log.last_index(), Some(log.head())), at(0));
        let answer = resent(&log, &new);
        outputs.append(&mut new);
        outputs.extend(send_all(&mut assembler, &log, answer, piece));
        let numbers = check(&log, &outputs);
        prop_assert_eq!(numbers, (log.first_block..log.head()).collect::<Vec<_>>());
    }

    #[test]
    fn no_part_of_a_block_passes_for_the_whole(
        log in any_log(),
        fates in any_fates(),
        answered in prop::collection::vec(any::<bool>(), 40),
        skipped in 0..10_usize,
        known in any::<bool>(),
    ) {
        let mut assembler = if known { from_before(&log, small()) } else { Assembler::new(small(), None) };
        let mut outputs = Vec::new();
        let sent = live(&log, &fates, Markers::Indexed);
        let mut answers = answered.iter().cycle();
        for (second, entry) in (0..).zip(sent.into_iter().skip(skipped)) {
            let mut new = assembler.tick(at(second * 4));
            new.extend(assembler.operations(vec![entry], at(second * 4)));
            if answers.next() == Some(&true) {
                let answer = resent(&log, &new);
                new.extend(assembler.operations(answer, at(second * 4)));
            }
            outputs.extend(new);
        }
        outputs.extend(assembler.sync_status(status(log.last_index(), Some(log.head())), at(1_000)));
        outputs.extend(assembler.tick(at(2_000)));
        check(&log, &outputs);
    }

    #[test]
    fn whatever_is_sent_the_memory_stays_bounded(
        steps in prop::collection::vec(
            (0..6_u8, prop_oneof![0..200_u64, any::<u64>().prop_map(|n| n >> 11)], 990..1_010_u64),
            1..300,
        ),
    ) {
        let mut assembler = fresh();
        for (second, (kind, number, in_block)) in (0..).zip(steps) {
            let now = at(second);
            let last = i64::try_from(number).unwrap() - 1;
            let outputs = match kind {
                0 => assembler.sync_status(status(last, Some(in_block)), now),
                1 => assembler.checkpoint(&checkpoint(in_block), now),
                2 => assembler.operations(vec![marker(number, in_block)], now),
                3 => assembler.operations(vec![LogEntry::BareWriteMarker], now),
                4 => assembler.request_missing(index(number), index(number), now),
                _ => assembler.operations(vec![put(number, in_block)], now),
            };
            prop_assert!(outputs.len() < 300);
            assembler.tick(now);
            let limits = small();
            prop_assert!(assembler.ahead.len() <= limits.ahead_operations);
            prop_assert!(assembler.cursors.len() <= limits.remembered_blocks);
            prop_assert!(assembler.open.as_ref().is_none_or(|open| open.weight <= limits.held_bytes));
        }
    }
}
