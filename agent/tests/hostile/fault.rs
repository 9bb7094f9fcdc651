//! What a scripted peer does wrong.

use honeygraph_chain::block::HashedBlock;
use honeygraph_chain::{Block, BlockNumber, ContentId, Operation, Operations, Path};
use serde_json::{Value, json};

/// One thing that a scripted peer does wrong.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fault {
    /// Nothing.
    Nothing,
    /// It is there to vote: it says that it has the last block only, and does not give that one either.
    NoBlocks,
    /// It knows the calls of the JavaScript honeygraph only, and hashes of a kind that nobody can recompute.
    Older(OlderFault),
    /// The start frame comes after the first block.
    StartFrameLate,
    /// Two block frames in each other's place.
    BlocksSwapped,
    /// No end frame.
    MissingEnd,
    /// A checksum of other bytes.
    WrongChecksum,
    /// A count of other blocks.
    WrongCount,
    /// Ends inside a frame.
    Truncated,
    /// The connection breaks inside a frame.
    ClosesEarly,
    /// A body that decompresses to gigabytes.
    Bomb,
    /// Blocks as large as the format allows, and no end.
    LargeBlocks,
    /// A frame that says it has 4 GiB.
    HugeFrame,
    /// A page of HTML with status 200.
    Html,
    /// A block that has another number inside.
    OtherNumber(BlockNumber),
    /// A block that links elsewhere.
    BrokenLink(BlockNumber),
    /// A block with other operations, which nothing after it links to.
    OtherOperations(BlockNumber),
    /// A block whose operations are numbered with a hole.
    HoleInIndex(BlockNumber),
    /// A block whose bytes are not UTF-8.
    NotUtf8(BlockNumber),
    /// A block with a value that is nested a hundred thousand times.
    DeeplyNested(BlockNumber),
    /// A block that puts a leaf where a subtree stands, everything after it linked to it.
    LeafOverSubtree(BlockNumber),
    /// Another chain from a block on, in itself right to the last link and checkpoint.
    OtherChain(BlockNumber),
    /// Too many requests, it says, and an hour's wait.
    RateLimited,
    /// Its server fails.
    ServerError,
    /// Sends us elsewhere.
    Redirect(String),
    /// Blocks come, a byte every few milliseconds.
    Drip,
    /// No answer for blocks, ever.
    NeverAnswers,
    /// Every answer comes, a byte every few milliseconds.
    SlowInAll,
    /// No answer, whatever is asked.
    SilentInAll,
    /// Says that this is its head.
    Head(Value),
    /// Says that this is its first block.
    Base(u64),
    /// Belongs to another network.
    OtherNetwork,
    /// Says what it can do in a body that is this.
    Capabilities(CapabilitiesFault),
    /// Knows ten thousand peers.
    ManyPeers,
    /// Has no documents, and knows the peer at this address.
    NoDocuments(String),
    /// Lists a checkpoint with another content id.
    FalseCheckpoint(BlockNumber),
    /// Lists a checkpoint with another block.
    FalseCheckpointBlock(BlockNumber),
}

/// What an older peer does wrong.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum OlderFault {
    /// Nothing.
    Nothing,
    /// A block with other operations.
    OtherOperations(BlockNumber),
    /// A block with the number of another one.
    OtherNumber(BlockNumber),
    /// Blocks with a string as long as an answer may be.
    LargeBlocks,
}

/// What is wrong with a description of a peer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum CapabilitiesFault {
    /// Nested a hundred thousand times.
    DeeplyNested,
    /// Decompresses to gigabytes.
    Bomb,
    /// Not UTF-8.
    NotUtf8,
    /// A list.
    WrongType,
}

/// Blocks of one answer with the fault in one of them; canonical bytes, whatever they are.
pub(crate) fn spoil(fault: &Fault, block: &HashedBlock) -> Vec<u8> {
    let number = block.number();
    match fault {
        Fault::OtherNumber(at) if *at == number => HashedBlock::from(Block {
            number: number.next(),
            ..block.block().clone()
        })
        .bytes()
        .to_vec(),
        Fault::BrokenLink(at) if *at == number => block
            .clone()
            .relinked(ContentId::of(b"somewhere else"))
            .bytes()
            .to_vec(),
        Fault::OtherOperations(at) if *at == number => {
            with_operation(block, &["balances", "thief"], json!(1_000_000))
                .bytes()
                .to_vec()
        }
        Fault::HoleInIndex(at) if *at == number => {
            let block = with_operation(block, &["balances", "thief"], json!(1));
            let last = block.block().operations.as_slice().len() - 1;
            let index = |index| format!(r#"{{"index":{index},"type":"write_marker"}}]"#);
            replaced(block.bytes(), &index(last), &index(last + 1))
        }
        Fault::NotUtf8(at) if *at == number => {
            let mut bytes = with_operation(block, &["balances", "thief"], json!("~"))
                .bytes()
                .to_vec();
            let tilde = bytes.iter().position(|byte| *byte == b'~').unwrap();
            bytes[tilde] = 0xFF;
            bytes
        }
        Fault::DeeplyNested(at) if *at == number => {
            let deep = format!("{}1{}", r#"{"a":"#.repeat(100_000), "}".repeat(100_000));
            let block = with_operation(block, &["balances", "thief"], json!("deep"));
            replaced(block.bytes(), r#""deep""#, &deep)
        }
        _ => block.bytes().to_vec(),
    }
}

/// The block with one more batch.
pub(crate) fn with_operation(block: &HashedBlock, path: &[&str], data: Value) -> HashedBlock {
    let mut operations = block.block().operations.as_slice().to_vec();
    operations.extend([
        Operation::Put {
            path: Path(path.iter().map(|segment| (*segment).to_owned()).collect()),
            data: serde_json::from_value(data).unwrap(),
        },
        Operation::WriteMarker,
    ]);
    HashedBlock::from(Block {
        operations: Operations::new(operations).unwrap(),
        ..block.block().clone()
    })
}

fn replaced(bytes: &[u8], what: &str, by: &str) -> Vec<u8> {
    let text = std::str::from_utf8(bytes).unwrap();
    assert!(text.contains(what), "{what} in {text}");
    text.replacen(what, by, 1).into_bytes()
}
