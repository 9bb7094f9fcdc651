//! Carries out one request of the planner: asks the peer, checks what came.

use std::time::{Duration, Instant};

use honeygraph_chain::block::{Block, HashedBlock};
use honeygraph_chain::network::CheckpointSchedule;
use honeygraph_chain::peer::{LocalFault, PeerFault};
use honeygraph_chain::planner::{Event, FetchFault, FetchKind, FetchOrder};
use honeygraph_chain::{BlockNumber, ContentId, Operations};

use super::verify::check_blocks_off_thread;
use crate::peers::client::{BatchOutcome, BatchRequest, PeerClient, Traffic};
use crate::peers::{FetchError, PeerUrl};
use crate::replica::FetchedBlock;
use crate::wire::batch::{BatchExtent, MAX_BLOCK_BYTES};
use crate::wire::shapes::ReportedBlock;
use crate::wire::{NetworkName, UnixMillis};

/// A block as a peer gave it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fetched {
    /// With a link and a hash that is the hash of its content.
    Linked(FetchedBlock),
    /// Operations alone: an older peer's hash that nobody can recompute.
    Operations {
        /// The block.
        number: BlockNumber,
        /// What it did.
        operations: Operations,
        /// When it was made, milliseconds since the Unix epoch.
        timestamp_ms: u64,
    },
}

impl Fetched {
    /// The block, where it has a link.
    pub(super) fn linked(self) -> Option<FetchedBlock> {
        match self {
            Self::Linked(fetched) => Some(fetched),
            Self::Operations { .. } => None,
        }
    }

    pub(super) fn number(&self) -> BlockNumber {
        match self {
            Self::Linked(fetched) => fetched.block.number(),
            Self::Operations { number, .. } => *number,
        }
    }
}

/// What came of a request.
#[derive(Debug)]
pub(super) struct Answer {
    /// The first blocks of the range, in order, in bounds, linked to each other.
    pub(super) blocks: Vec<Fetched>,
    /// Bytes of the blocks, as they came: so much memory is booked for them until they are committed.
    pub(super) bytes: u64,
    pub(super) elapsed: Duration,
    /// Why there are not more of them.
    pub(super) fault: Option<FetchFault>,
}

impl Answer {
    /// What the planner is told.
    pub(super) fn event(&self, order: &FetchOrder) -> Event {
        let (request, bytes, elapsed) = (order.request, self.bytes, self.elapsed);
        match (self.blocks.len() as u64, &self.fault) {
            (0, Some(fault)) => Event::FetchFailed {
                request,
                fault: fault.clone(),
            },
            (0, None) => Event::FetchFailed {
                request,
                fault: PeerFault::ShortAnswer.into(),
            },
            (blocks, None) if blocks == order.range.len() => Event::FetchSucceeded {
                request,
                bytes,
                elapsed,
            },
            (blocks, fault) => Event::FetchPartly {
                request,
                blocks,
                bytes,
                elapsed,
                fault: fault.clone(),
            },
        }
    }
}

/// Asks a peer for the blocks of an order.
pub(super) async fn fetch(
    client: &PeerClient,
    url: &PeerUrl,
    network: &NetworkName,
    schedule: CheckpointSchedule,
    order: &FetchOrder,
    traffic: &Traffic,
) -> Answer {
    match order.kind {
        FetchKind::Batch => {
            let request = BatchRequest {
                network,
                range: order.range,
                timeout: order.timeout,
                byte_limit: order.byte_limit,
                traffic,
            };
            fetch_range(client, url, schedule, request).await
        }
        FetchKind::Single => fetch_singly(client, url, order, traffic).await,
    }
}

/// Asks a peer for a range over the batch wire.
pub(super) async fn fetch_range(
    client: &PeerClient,
    url: &PeerUrl,
    schedule: CheckpointSchedule,
    request: BatchRequest<'_>,
) -> Answer {
    let range = request.range;
    let batch = client.blocks(url, request).await;
    let mut fault = match batch.outcome {
        BatchOutcome::Whole(BatchExtent::Complete | BatchExtent::Cut) | BatchOutcome::Stopped => None,
        BatchOutcome::Failed(error) => Some(fault_of(error)),
    };
    let bytes = batch.blocks.iter().map(|block| block.bytes.len() as u64).sum();
    let blocks = match check_blocks_off_thread(batch.blocks, range, schedule).await {
        Ok(checked) => {
            fault = checked.fault.map(FetchFault::Peer).or(fault);
            checked.blocks
        }
        Err(error) => {
            fault = Some(fault_of(error));
            Vec::new()
        }
    };
    let blocks = blocks.into_iter().map(|checked| {
        Fetched::Linked(FetchedBlock {
            block: checked.block,
            timestamp_ms: milliseconds(checked.timestamp),
        })
    });
    Answer {
        blocks: blocks.collect(),
        bytes,
        elapsed: batch.elapsed,
        fault,
    }
}

/// Asks an older peer block by block.
async fn fetch_singly(client: &PeerClient, url: &PeerUrl, order: &FetchOrder, traffic: &Traffic) -> Answer {
    let started = Instant::now();
    let mut answer = Answer {
        blocks: Vec::new(),
        bytes: 0,
        elapsed: Duration::ZERO,
        fault: None,
    };
    let ask = async {
        for number in order.range.iter() {
            let room = order.byte_limit.saturating_sub(answer.bytes);
            let (reported, bytes) = match client.small_block_by_number(url, number, room).await {
                Ok(told) => told,
                // The next request begins with this block.
                Err(FetchError::Peer(PeerFault::TooLarge)) if !answer.blocks.is_empty() => break,
                Err(FetchError::Peer(PeerFault::TooLarge)) if room < MAX_BLOCK_BYTES as u64 => {
                    return Err(LocalFault::LimitTooLow { limit: room }.into());
                }
                Err(error) => return Err(fault_of(error)),
            };
            traffic.count_received(bytes);
            traffic.count_blocks(bytes);
            answer.bytes += bytes;
            answer.blocks.push(from_reported(reported)?);
        }
        Ok::<(), FetchFault>(())
    };
    let result = tokio::time::timeout(order.timeout, ask).await;
    answer.fault = match result {
        Ok(Ok(())) => None,
        Ok(Err(fault)) => Some(fault),
        Err(_) => Some(PeerFault::TimedOut.into()),
    };
    answer.elapsed = started.elapsed();
    answer
}

/// A block in the JavaScript shape: with its link where the hash is one of ours, operations alone else.
fn from_reported(reported: ReportedBlock) -> Result<Fetched, FetchFault> {
    if reported.is_reverted {
        return Err(PeerFault::NotFound.into());
    }
    if let Some(fetched) = linked_of(&reported) {
        return Ok(Fetched::Linked(fetched));
    }
    Ok(Fetched::Operations {
        number: reported.number,
        operations: reported.operations,
        timestamp_ms: milliseconds(reported.timestamp),
    })
}

/// The block with its link, where its hash is one of ours.
pub(super) fn linked_of(reported: &ReportedBlock) -> Option<FetchedBlock> {
    let content_id = |hash: &Option<crate::wire::shapes::ReportedHash>| -> Option<ContentId> {
        hash.as_ref().and_then(|hash| hash.0.parse().ok())
    };
    let block = HashedBlock::from(Block {
        number: reported.number,
        previous_hash: content_id(&reported.previous_hash)?,
        operations: reported.operations.clone(),
    });
    let timestamp_ms = milliseconds(reported.timestamp);
    (content_id(&reported.hash) == Some(block.hash())).then_some(FetchedBlock { block, timestamp_ms })
}

fn milliseconds(timestamp: Option<UnixMillis>) -> u64 {
    timestamp.map_or(0, |timestamp| timestamp.0)
}

fn fault_of(error: FetchError) -> FetchFault {
    match error {
        FetchError::Peer(fault) => FetchFault::Peer(fault),
        FetchError::Local(fault) => FetchFault::Local(fault),
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::extract::Path;
    use axum::routing::get;
    use honeygraph_chain::BlockRange;
    use honeygraph_chain::peer::PeerScore;
    use honeygraph_chain::planner::{Action, PeerProfile, Planner, PlannerSettings};
    use serde_json::json;

    use super::*;
    use crate::peers::address_guard::AddressGuard;
    use crate::peers::client::ClientTimeouts;
    use crate::test_chain::number;

    /// An order for ten blocks of an older peer.
    fn order() -> FetchOrder {
        let range = BlockRange::new(number(11), number(20)).unwrap();
        let now = Duration::from_hours(500_000);
        let mut planner = Planner::new(PlannerSettings::default(), CheckpointSchedule::default(), 1);
        let wanted = Event::WantedChanged {
            missing: range.into(),
            near_from: BlockNumber::default(),
            head_first: None,
        };
        assert_eq!(planner.step(wanted, now), []);
        let profile = PeerProfile {
            available: Some(range),
            kind: FetchKind::Single,
        };
        let seen = Event::PeerSeen {
            peer: "older".parse().unwrap(),
            profile,
            score: PeerScore::new(),
        };
        let Some(Action::Fetch(order)) = planner.step(seen, now).pop() else {
            panic!("nothing is fetched");
        };
        assert_eq!((order.range, order.byte_limit), (range, 1 << 20));
        order
    }

    /// Asks an older peer whose blocks hold strings of these sizes.
    async fn ask(byte_limit: u64, sizes: [usize; 10]) -> Answer {
        let route = get(async move |Path(number): Path<usize>| {
            let data = "x".repeat(sizes[number - 11]);
            let put = json!({"index": 0, "type": "put", "path": "stats/text", "data": data});
            let marker = json!({"index": 1, "type": "write_marker"});
            axum::Json(json!({"blockNum": number, "blockHash": "opaque", "operations": [put, marker]}))
        });
        let router = Router::new().route("/api/query/block/{number}/full", route);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url: PeerUrl = format!("http://{}", listener.local_addr().unwrap())
            .parse()
            .unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let (own_id, guard) = ("tester".parse().unwrap(), AddressGuard::new([&url]));
        let client = PeerClient::new(&own_id, guard, ClientTimeouts::default()).unwrap();
        let order = FetchOrder {
            byte_limit,
            timeout: Duration::from_secs(20),
            ..order()
        };
        let (network, schedule) = ("dlux".parse().unwrap(), CheckpointSchedule::default());
        fetch(&client, &url, &network, schedule, &order, &Traffic::default()).await
    }

    #[tokio::test]
    async fn blocks_of_an_older_peer_count_with_all_of_their_bytes_and_stop_at_the_limit() {
        let answer = ask(1 << 20, [300 << 10; 10]).await;
        assert_eq!((answer.blocks.len(), &answer.fault), (3, &None));
        assert!((900 << 10..=1 << 20).contains(&answer.bytes), "{}", answer.bytes);
        let mut large_first = [10; 10];
        large_first[0] = 3 << 20;
        let answer = ask(1 << 20, large_first).await;
        let limit = 1 << 20;
        let too_low = FetchFault::Local(LocalFault::LimitTooLow { limit });
        assert_eq!((answer.blocks.len(), answer.fault), (0, Some(too_low)));
        let answer = ask(4 << 20, large_first).await;
        assert_eq!((answer.blocks.len(), answer.fault), (10, None));
        // With all the room that a request ever has, it is the peer that sends too much.
        large_first[0] = 9 << 20;
        let answer = ask(8 << 20, large_first).await;
        assert_eq!(answer.fault, Some(FetchFault::Peer(PeerFault::TooLarge)));
    }
}
