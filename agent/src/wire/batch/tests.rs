use proptest::prelude::*;

use super::*;
use crate::wire::NetworkName;

const END_FRAME: usize = 4 + 1 + 8 + 4;

fn network() -> NetworkName {
    "dlux".parse().unwrap()
}

fn range(start: u64, count: u64) -> BlockRange {
    BlockRange::starting_at(BlockNumber::try_from(start).unwrap(), count)
}

fn encode(asked: BlockRange, bodies: &[Vec<u8>]) -> Vec<u8> {
    let mut encoder = BatchEncoder::new(&network(), asked).unwrap();
    for (number, body) in asked.iter().zip(bodies) {
        let timestamp = (number.get() % 2 == 0).then_some(UnixMillis(number.get()));
        encoder.push(number, timestamp, body).unwrap();
    }
    encoder.finish().to_vec()
}

fn decode(asked: BlockRange, bytes: &[u8], piece: usize) -> (Vec<WireBlock>, Result<BatchExtent, WireError>) {
    let mut decoder = BatchDecoder::new(network(), asked).unwrap();
    let mut blocks = Vec::new();
    for piece in bytes.chunks(piece) {
        if let Err(error) = decoder.push(piece, &mut blocks) {
            return (blocks, Err(error));
        }
    }
    (blocks, decoder.finish())
}

fn three() -> (BlockRange, Vec<u8>) {
    let asked = range(7, 3);
    (asked, encode(asked, &[b"a".to_vec(), vec![], b"ccc".to_vec()]))
}

/// Where each frame starts, and where the last one ends.
fn frame_starts(bytes: &[u8]) -> Vec<usize> {
    let mut starts = vec![0];
    let mut at = 0;
    while at < bytes.len() {
        at += 4 + usize::try_from(u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())).unwrap();
        starts.push(at);
    }
    starts
}

#[test]
fn a_batch_cut_anywhere_is_truncated_or_without_its_end() {
    let (asked, bytes) = three();
    let starts = frame_starts(&bytes);
    for cut in 0..bytes.len() {
        let expected = if starts.contains(&cut) {
            WireError::MissingEnd
        } else {
            WireError::Truncated
        };
        assert_eq!(decode(asked, &bytes[..cut], 5).1, Err(expected), "cut at {cut}");
    }
}

#[test]
fn a_flipped_content_byte_is_a_wrong_checksum() {
    let (asked, mut bytes) = three();
    let last_content = bytes.len() - END_FRAME - 1;
    bytes[last_content] ^= 1;
    assert_eq!(decode(asked, &bytes, 64).1, Err(WireError::WrongChecksum));
}

#[test]
fn bytes_after_the_end_are_refused_in_the_same_piece_and_in_the_next() {
    let (asked, mut bytes) = three();
    let whole = bytes.len();
    bytes.push(0);
    assert_eq!(decode(asked, &bytes, whole + 1).1, Err(WireError::TrailingBytes));
    assert_eq!(decode(asked, &bytes, whole).1, Err(WireError::TrailingBytes));
}

#[test]
fn frames_out_of_order_are_refused() {
    let (asked, bytes) = three();
    let starts = frame_starts(&bytes);
    let frame = |at: usize| &bytes[starts[at]..starts[at + 1]];
    let assemble = |order: &[usize]| {
        order
            .iter()
            .flat_map(|at| frame(*at).to_vec())
            .collect::<Vec<_>>()
    };

    let swapped = decode(asked, &assemble(&[0, 2, 1, 3, 4]), 64).1;
    assert!(matches!(swapped, Err(WireError::WrongNumber { found: 8, .. })));
    let doubled = decode(asked, &assemble(&[0, 1, 1, 2, 3, 4]), 64);
    assert!(matches!(doubled.1, Err(WireError::WrongNumber { found: 7, .. })));
    assert_eq!(doubled.0.len(), 1, "the valid prefix is kept");
    let without_start = decode(asked, &assemble(&[1, 2, 3, 4]), 64).1;
    assert!(matches!(
        without_start,
        Err(WireError::OutOfOrder {
            found: KIND_BLOCK,
            ..
        })
    ));
    let start_twice = decode(asked, &assemble(&[0, 0]), 64).1;
    assert!(matches!(
        start_twice,
        Err(WireError::OutOfOrder {
            found: KIND_START,
            ..
        })
    ));
    let end_early = decode(asked, &assemble(&[0, 1, 4]), 64).1;
    assert_eq!(
        end_early,
        Err(WireError::WrongCount {
            stated: 3,
            received: 1
        })
    );
}

#[test]
fn another_network_range_or_version_is_refused() {
    let (asked, mut bytes) = three();
    let mut other = BatchDecoder::new("spkcc".parse().unwrap(), asked).unwrap();
    assert_eq!(other.push(&bytes, &mut Vec::new()), Err(WireError::OtherNetwork));
    let elsewhere = range(8, 3);
    assert_eq!(
        decode(elsewhere, &bytes, 64).1,
        Err(WireError::OtherRange { asked: elsewhere })
    );
    bytes[6] = 9;
    assert_eq!(decode(asked, &bytes, 64).1, Err(WireError::Version(9)));
}

#[test]
fn a_length_beyond_the_limit_is_refused_before_its_bytes_come() {
    let asked = range(7, 3);
    let first = decode(asked, &u32::MAX.to_be_bytes(), 64).1;
    assert_eq!(
        first,
        Err(WireError::FrameTooLarge {
            limit: MAX_OTHER_FRAME
        })
    );

    let (_, bytes) = three();
    let mut later = bytes[..frame_starts(&bytes)[1]].to_vec();
    later.extend_from_slice(&u32::try_from(MAX_BLOCK_BYTES + 64).unwrap().to_be_bytes());
    assert!(matches!(
        decode(asked, &later, 64).1,
        Err(WireError::FrameTooLarge { .. })
    ));
}

#[test]
fn an_answer_ends_early_only_at_its_cut() {
    let asked = range(7, 3);
    let short = encode(asked, &[vec![0; 10]]);
    assert_eq!(
        decode(asked, &short, 64).1,
        Err(WireError::Short {
            received: 1,
            asked: 3
        })
    );
    let full = encode(asked, &[vec![0; BATCH_CUT_BYTES]]);
    let (blocks, extent) = decode(asked, &full, 1 << 16);
    assert_eq!((blocks.len(), extent), (1, Ok(BatchExtent::Cut)));
    assert!(full.len() <= max_answer_bytes(asked));
}

#[test]
fn the_sender_stops_at_the_cut_and_the_reader_insists_on_it() {
    let asked = range(7, 3);
    let mut encoder = BatchEncoder::new(&network(), asked).unwrap();
    let big = vec![0; BATCH_CUT_BYTES];
    encoder.push(asked.start(), None, &big).unwrap();
    assert_eq!(encoder.next(), None);
    assert!(encoder.push(asked.start().next(), None, b"x").is_err());

    let mut bytes = encoder.finish().to_vec();
    let end = frame_starts(&bytes)[2];
    bytes.truncate(end);
    let small = encode(asked, &[b"a".to_vec(), b"b".to_vec(), b"c".to_vec()]);
    let starts = frame_starts(&small);
    bytes.extend_from_slice(&small[starts[2]..starts[3]]);
    assert_eq!(
        decode(asked, &bytes, 1 << 16).1,
        Err(WireError::BeyondCut {
            number: asked.start().next()
        })
    );
}

#[test]
fn too_much_is_not_even_asked_or_sent() {
    let asked = range(7, MAX_BATCH_BLOCKS + 1);
    assert!(BatchDecoder::new(network(), asked).is_err());
    assert!(BatchEncoder::new(&network(), asked).is_err());
    let mut encoder = BatchEncoder::new(&network(), range(7, 1)).unwrap();
    let number = BlockNumber::try_from(7).unwrap();
    assert!(encoder.push(number, None, &vec![0; MAX_BLOCK_BYTES + 1]).is_err());
}

#[test]
fn an_error_stays() {
    let (asked, _) = three();
    let mut decoder = BatchDecoder::new(network(), asked).unwrap();
    let mut blocks = Vec::new();
    let first = decoder.push(&[0, 0, 0, 0], &mut blocks).unwrap_err();
    assert_eq!(decoder.push(b"", &mut blocks), Err(first.clone()));
    assert_eq!(decoder.finish(), Err(first));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn blocks_come_back_whatever_the_pieces(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..20),
        start in 0..1_u64 << 53,
        piece in 1_usize..200,
    ) {
        let count = bodies.len() as u64;
        prop_assume!(start + count < 1 << 53);
        let asked = range(start, count);
        let bytes = encode(asked, &bodies);
        prop_assert!(bytes.len() <= max_answer_bytes(asked));
        let (blocks, extent) = decode(asked, &bytes, piece);
        prop_assert_eq!(extent, Ok(BatchExtent::Complete));
        prop_assert_eq!(blocks.iter().map(|block| &block.bytes).collect::<Vec<_>>(), bodies.iter().collect::<Vec<_>>());
        prop_assert!(asked.iter().eq(blocks.iter().map(|block| block.number)));
    }

    #[test]
    fn damage_never_passes_and_never_panics(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30), 1..6),
        at in any::<prop::sample::Index>(),
        flip in 1..=255_u8,
        piece in 1_usize..50,
    ) {
        let asked = range(100, bodies.len() as u64);
        let mut bytes = encode(asked, &bodies);
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert!(decode(asked, &bytes, piece).1.is_err());
    }

    #[test]
    fn noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..300), piece in 1_usize..50) {
        let (blocks, result) = decode(range(1, 5), &noise, piece);
        prop_assert!(blocks.is_empty() && result.is_err());
    }

    #[test]
    fn noise_inside_a_batch_never_passes(
        noise in prop::collection::vec(any::<u8>(), 1..40),
        at in any::<prop::sample::Index>(),
        piece in 1_usize..50,
    ) {
        let (asked, mut bytes) = three();
        let at = at.index(bytes.len() + 1);
        bytes.splice(at..at, noise);
        prop_assert!(decode(asked, &bytes, piece).1.is_err());
    }
}
