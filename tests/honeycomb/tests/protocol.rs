//! A honeycomb node speaks the protocol to small nodes made here: `docs/protocol.md`, section 5.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::num::NonZeroUsize;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use honeygraph_chain::operation::OperationFields;
use honeygraph_chain::state::MemoryState;
use honeygraph_chain::{Block, BlockNumber, ContentId, Operation, Operations};
use honeygraph_honeycomb::honeycomb_node::{HoneycombNode, Pace};
use honeygraph_honeycomb::messages::{Framing, MarkerForm};
use honeygraph_honeycomb::peer_list::{ListedPeer, PeerList};
use honeygraph_honeycomb::receiver::{Progress, ReceiverSettings, Resume, Sending, Start};
use honeygraph_honeycomb::reference_chain::{ChainSettings, ReferenceChain};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

/// Nothing here takes that long; a test that waits for ever fails.
const LIMIT: Duration = Duration::from_mins(1);

/// A honeygraph node's socket, as small as can be.
struct Node {
    listener: TcpListener,
}

/// One connection to it.
struct Connection {
    socket: WebSocketStream<TcpStream>,
    authorization: Option<String>,
    identify: Value,
}

impl Node {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { listener }
    }

    fn url(&self) -> String {
        format!("ws://{}/", self.listener.local_addr().unwrap())
    }

    /// Takes a connection through greeting and identification.
    async fn accept(&self) -> Connection {
        let (stream, _) = self.listener.accept().await.unwrap();
        let mut authorization = None;
        #[allow(clippy::result_large_err, reason = "the library's type")]
        let read_header = |request: &Request, response: Response| {
            let header = request.headers().get("authorization");
            authorization = header.map(|value| value.to_str().unwrap().to_owned());
            Ok(response)
        };
        let socket = tokio_tungstenite::accept_hdr_async(stream, read_header)
            .await
            .unwrap();
        let mut connection = Connection {
            socket,
            authorization,
            identify: Value::Null,
        };
        connection
            .say(json!({"type": "connected", "nodeId": "n", "timestamp": 1, "server": "honeygraph"}))
            .await;
        connection.identify = connection.hear().await;
        connection
            .say(json!({"type": "ack", "message": "Welcome", "token": connection.identify["token"]}))
            .await;
        connection
    }
}

impl Connection {
    async fn say(&mut self, message: Value) {
        self.socket
            .send(Message::text(message.to_string()))
            .await
            .unwrap();
    }

    async fn hear(&mut self) -> Value {
        loop {
            match self.next().await {
                Some(Message::Text(text)) => return serde_json::from_str(&text).unwrap(),
                Some(_) => {}
                None => panic!("the honeycomb closed the connection"),
            }
        }
    }

    async fn next(&mut self) -> Option<Message> {
        tokio::time::timeout(LIMIT, self.socket.next())
            .await
            .expect("the honeycomb says nothing")?
            .ok()
    }

    /// Acknowledges an operation, a marker or a batch.
    async fn acknowledge(&mut self, index: u64) {
        self.say(json!({"type": "ack", "index": index, "success": true}))
            .await;
    }
}

/// Gathers blocks from what a honeycomb says, as a node does: a block's content, and only then its hash.
struct Gathered {
    state: MemoryState,
    link: ContentId,
    next: BlockNumber,
    next_index: u64,
    open: Vec<Operation>,
}

impl Gathered {
    fn new(genesis: &[u8]) -> Self {
        let (covered, state) = MemoryState::from_document(genesis).unwrap();
        Self {
            state,
            link: ContentId::of(genesis),
            next: covered.next(),
            next_index: 0,
            open: Vec::new(),
        }
    }

    /// Takes an operation; gives its index.
    fn operation(&mut self, message: Value) -> u64 {
        let index = self.next_index;
        self.next_index += 1;
        if message == json!("W") {
            self.open.push(Operation::WriteMarker);
            return index;
        }
        assert_eq!(message["index"], index);
        self.complete_before(serde_json::from_value(message["blockNum"].clone()).unwrap());
        let fields: OperationFields = serde_json::from_value(message).unwrap();
        self.open.push(fields.try_into().unwrap());
        index
    }

    /// Everything below `number` is complete.
    fn complete_before(&mut self, number: BlockNumber) {
        while self.next < number {
            let operations = Operations::new(std::mem::take(&mut self.open)).unwrap();
            self.state.apply(&operations).unwrap();
            self.link = Block {
                number: self.next,
                previous_hash: self.link,
                operations,
            }
            .hash();
            self.next = self.next.next();
        }
    }

    /// A checkpoint message completes its block and is what the next one links to.
    fn checkpoint(&mut self, message: &Value) {
        let number: BlockNumber = serde_json::from_value(message["blockNum"].clone()).unwrap();
        self.complete_before(number);
        assert_eq!(self.next, number, "the checkpoint comes late");
        self.link = serde_json::from_value(message["hash"].clone()).unwrap();
    }
}

fn chain() -> ReferenceChain {
    ReferenceChain::from_vectors(ChainSettings::default()).unwrap()
}

async fn until(
    progress: &mut watch::Receiver<Progress>,
    condition: impl FnMut(&Progress) -> bool,
) -> Progress {
    tokio::time::timeout(LIMIT, progress.wait_for(condition))
        .await
        .expect("the honeycomb does not get there")
        .unwrap()
        .clone()
}

/// Follows everything up to the last of `blocks` blocks and compares with the chain.
async fn follow(change: impl FnOnce(&mut ReceiverSettings), blocks: u64) {
    let node = Node::new().await;
    let mut settings = ReceiverSettings::new(node.url());
    change(&mut settings);
    let honeycomb = HoneycombNode::start(chain());
    let head = honeycomb.produce(blocks).unwrap();
    assert!(honeycomb.read(|chain| chain.block(head.number).unwrap().checkpoint.is_some()));
    let mut gathered = Gathered::new(&honeycomb.read(|chain| chain.genesis_document().to_vec()));
    honeycomb.add_receiver("node", settings);
    let mut connection = node.accept().await;
    let status = connection.hear().await;
    assert_eq!(status["type"], "sync_status");
    assert_eq!(status["lastIndex"], head.next_index - 1);
    assert_eq!(status["blockNum"], head.number.get());
    while gathered.next <= head.number {
        let message = connection.hear().await;
        match message["type"].as_str() {
            Some("checkpoint") => gathered.checkpoint(&message),
            Some("batch") => {
                let mut last = 0;
                for operation in message["operations"].as_array().unwrap() {
                    last = gathered.operation(operation.clone());
                }
                connection.acknowledge(last).await;
            }
            Some("put" | "del" | "write_marker") | None => {
                let index = gathered.operation(message);
                connection.acknowledge(index).await;
            }
            _ => panic!("unexpected {message}"),
        }
    }
    assert_eq!(gathered.state.digest(), head.state_digest);
    assert_eq!(gathered.next_index, head.next_index);
    let last_checkpoint = honeycomb.read(|chain| chain.checkpoints().link());
    assert_eq!(gathered.link, last_checkpoint);
}

#[tokio::test]
async fn operations_one_by_one_make_the_chain() {
    follow(|_| {}, 600).await;
}

#[tokio::test]
async fn batches_and_bare_markers_make_the_chain() {
    follow(
        |settings| {
            settings.framing = Framing::Batch(NonZeroUsize::new(5).unwrap());
            settings.marker = MarkerForm::Bare;
        },
        600,
    )
    .await;
}

#[tokio::test]
async fn a_tiny_window_is_enough() {
    follow(|settings| settings.window = 1, 100).await;
}

#[tokio::test]
async fn the_handshake_names_the_network_and_carries_the_token() {
    let node = Node::new().await;
    let honeycomb = HoneycombNode::start(chain());
    let mut settings = ReceiverSettings::new(node.url());
    settings.identity.token = "LARYNX".to_owned();
    settings.bearer_token = Some("s3cret".to_owned());
    honeycomb.add_receiver("node", settings);
    let mut connection = node.accept().await;
    assert_eq!(connection.authorization.as_deref(), Some("Bearer s3cret"));
    assert_eq!(connection.identify["type"], "identify");
    assert_eq!(connection.identify["token"], "LARYNX");
    // Nothing was logged yet.
    assert_eq!(connection.hear().await["lastIndex"], -1);
}

#[tokio::test]
async fn the_window_holds_until_operations_are_acknowledged() {
    let node = Node::new().await;
    let honeycomb = HoneycombNode::start(chain());
    honeycomb.produce(100).unwrap();
    let mut settings = ReceiverSettings::new(node.url());
    settings.window = 10;
    let mut progress = honeycomb.add_receiver("node", settings);
    let mut connection = node.accept().await;
    assert_eq!(connection.hear().await["type"], "sync_status");
    for index in 0..10 {
        assert_eq!(connection.hear().await["index"], index);
    }
    assert_eq!(
        until(&mut progress, |progress| progress.outstanding == 10)
            .await
            .sent_operations,
        10
    );
    connection.acknowledge(3).await;
    for index in 10..14 {
        assert_eq!(connection.hear().await["index"], index);
    }
    let progress = until(&mut progress, |progress| progress.sent_operations == 14).await;
    assert_eq!(progress.outstanding, 10);
    assert_eq!(progress.acknowledged_index, Some(3));
}

#[tokio::test]
async fn missing_operations_are_sent_again_with_their_checkpoints() {
    let node = Node::new().await;
    let honeycomb = HoneycombNode::start(chain());
    let head = honeycomb.produce(150).unwrap();
    let first_period = honeycomb.read(|chain| {
        let checkpoint = chain.kept().find(|block| block.checkpoint.is_some()).unwrap();
        checkpoint.clone()
    });
    let settings = ReceiverSettings {
        start: Start::Head,
        ..ReceiverSettings::new(node.url())
    };
    let mut progress = honeycomb.add_receiver("node", settings);
    let mut connection = node.accept().await;
    assert_eq!(connection.hear().await["type"], "sync_status");
    let to = first_period.indexes().end;
    connection
        .say(json!({"type": "request_missing", "from": 5, "to": to}))
        .await;
    let mut checkpoint = None;
    let mut expected = 5;
    while expected <= to {
        let message = connection.hear().await;
        if message["type"] == "checkpoint" {
            assert_eq!(
                expected, to,
                "after the block's operations and before the next one's"
            );
            checkpoint = Some(message);
        } else {
            assert_eq!(message["index"], expected);
            expected += 1;
        }
    }
    let checkpoint = checkpoint.unwrap();
    assert_eq!(checkpoint["blockNum"], first_period.block.number().get() + 1);
    until(&mut progress, |progress| progress.answered_requests == 1).await;

    for (from, to) in [(7, 6), (head.next_index, head.next_index + 5)] {
        connection
            .say(json!({"type": "request_missing", "from": from, "to": to}))
            .await;
        assert_eq!(connection.hear().await["type"], "error");
    }
    connection.say(json!({"type": "error", "error": "no"})).await;
    let progress = until(&mut progress, |progress| progress.refusals == 1).await;
    assert_eq!(progress.last_error.as_deref(), Some("no"));
}

/// A node that hears of the head at once asks for all of it; it is sent once.
#[tokio::test]
async fn what_is_still_to_come_is_not_sent_twice() {
    let node = Node::new().await;
    let honeycomb = HoneycombNode::start(chain());
    let head = honeycomb.produce(100).unwrap();
    let mut settings = ReceiverSettings::new(node.url());
    settings.window = 5;
    let mut progress = honeycomb.add_receiver("node", settings);
    let mut connection = node.accept().await;
    assert_eq!(connection.hear().await["type"], "sync_status");
    for index in 0..5 {
        assert_eq!(connection.hear().await["index"], index);
    }
    connection
        .say(json!({"type": "request_missing", "from": 2, "to": head.next_index - 1}))
        .await;
    // The first block has 7 operations: it goes on, 2..=6 are repeated, then come the next blocks.
    let mut indexes = Vec::new();
    connection.acknowledge(4).await;
    while indexes.last() != Some(&(head.next_index - 1)) {
        let message = connection.hear().await;
        if let Some(index) = message["index"].as_u64() {
            indexes.push(index);
            connection.acknowledge(index).await;
        }
    }
    let expected: Vec<_> = (5..7).chain(2..7).chain(7..head.next_index).collect();
    assert_eq!(indexes, expected);
    until(&mut progress, |progress| progress.answered_requests == 1).await;
}

#[tokio::test]
async fn a_checkpoint_message_can_come_late() {
    let node = Node::new().await;
    let honeycomb = HoneycombNode::start(chain());
    honeycomb.produce(120).unwrap();
    let settings = ReceiverSettings {
        checkpoint_delay_blocks: 10,
        ..ReceiverSettings::new(node.url())
    };
    honeycomb.add_receiver("node", settings);
    let mut connection = node.accept().await;
    let mut newest = 0;
    loop {
        let message = connection.hear().await;
        if message["type"] == "checkpoint" {
            assert_eq!(message["blockNum"], 28_559_202);
            assert!((28_559_203..=28_559_211).contains(&newest), "{newest}");
            return;
        }
        if let Some(index) = message["index"].as_u64() {
            connection.acknowledge(index).await;
            newest = message["blockNum"].as_u64().unwrap();
        }
    }
}

#[tokio::test]
async fn a_lost_connection_is_opened_again_where_acknowledgements_ended() {
    let node = Node::new().await;
    let honeycomb = HoneycombNode::start(chain());
    honeycomb.produce(50).unwrap();
    let mut progress = honeycomb.add_receiver("node", ReceiverSettings::new(node.url()));
    let mut connection = node.accept().await;
    let mut acknowledged_block = 0;
    for _ in 0..40 {
        let message = connection.hear().await;
        if let Some(index) = message["index"].as_u64().filter(|index| *index < 20) {
            acknowledged_block = message["blockNum"].as_u64().unwrap();
            connection.acknowledge(index).await;
        }
    }
    until(&mut progress, |progress| progress.acknowledged_index == Some(19)).await;
    drop(connection);
    let mut connection = node.accept().await;
    assert_eq!(connection.hear().await["type"], "sync_status");
    let first = connection.hear().await;
    let block = first["blockNum"].as_u64().unwrap();
    let index = first["index"].as_u64().unwrap();
    // The block that was not acknowledged whole, from its beginning.
    assert!(index <= 20, "{first}");
    assert!(block >= acknowledged_block, "{first}");
    until(&mut progress, |progress| progress.sessions == 2).await;
}

/// What was cut off by a stop is sent after it, and so is the last checkpoint.
#[tokio::test]
async fn a_stopped_node_gets_the_rest_when_it_is_fed_again() {
    let node = Node::new().await;
    let honeycomb = HoneycombNode::start(chain());
    honeycomb.produce(100).unwrap();
    let mut progress = honeycomb.add_receiver("node", ReceiverSettings::new(node.url()));
    let mut connection = node.accept().await;
    let mut gathered = Gathered::new(&honeycomb.read(|chain| chain.genesis_document().to_vec()));
    assert_eq!(connection.hear().await["type"], "sync_status");
    let checkpoint = loop {
        let message = connection.hear().await;
        if message["type"] == "checkpoint" {
            break message;
        }
        let index = gathered.operation(message);
        connection.acknowledge(index).await;
    };
    let all = gathered.next_index;
    until(&mut progress, |progress| {
        progress.acknowledged_index == Some(all - 1)
    })
    .await;
    honeycomb.set_sending("node", Sending::Stopped);
    until(&mut progress, |progress| !progress.connected).await;
    honeycomb.produce(50).unwrap();
    honeycomb.set_sending("node", Sending::On);
    let mut connection = node.accept().await;
    assert_eq!(connection.hear().await["type"], "sync_status");
    assert_eq!(connection.hear().await, checkpoint);
    gathered.checkpoint(&checkpoint);
    let head = honeycomb.head();
    while gathered.next_index < head.next_index {
        let message = connection.hear().await;
        if message["type"] != "sync_status" {
            gathered.operation(message);
        }
    }
    gathered.complete_before(head.number.next());
    assert_eq!(gathered.state.digest(), head.state_digest);
    assert_eq!(gathered.link, head.hash);
}

#[tokio::test]
async fn a_stopped_node_finds_a_gap_when_it_is_fed_again() {
    let node = Node::new().await;
    let honeycomb = HoneycombNode::start(chain());
    let settings = ReceiverSettings {
        resume: Resume::Head,
        ..ReceiverSettings::new(node.url())
    };
    let mut progress = honeycomb.add_receiver("node", settings);
    let mut connection = node.accept().await;
    connection.hear().await;
    assert!(honeycomb.set_sending("node", Sending::Stopped));
    assert!(!honeycomb.set_sending("nobody", Sending::Stopped));
    until(&mut progress, |progress| {
        !progress.connected && progress.sessions == 1
    })
    .await;
    while connection.next().await.is_some() {}
    let head = honeycomb.produce(30).unwrap();
    assert!(honeycomb.set_sending("node", Sending::On));
    let mut connection = node.accept().await;
    assert_eq!(connection.hear().await["blockNum"], head.number.get());
    honeycomb.produce(5).unwrap();
    let first = connection.hear().await;
    assert!(first["blockNum"].as_u64().unwrap() > head.number.get(), "{first}");
}

#[tokio::test]
async fn empty_blocks_are_told_by_the_status() {
    let node = Node::new().await;
    let honeycomb = HoneycombNode::start(chain());
    honeycomb.add_receiver("node", ReceiverSettings::new(node.url()));
    let mut connection = node.accept().await;
    connection.hear().await;
    // The vectors' second and third blocks are empty.
    let head = honeycomb.produce(3).unwrap();
    loop {
        let message = connection.hear().await;
        if let Some(index) = message["index"].as_u64() {
            connection.acknowledge(index).await;
        } else if message["blockNum"] == head.number.get() {
            assert_eq!(message["type"], "sync_status");
            return;
        }
    }
}

#[tokio::test]
async fn blocks_are_made_at_the_pace_that_is_set() {
    let node = Node::new().await;
    let honeycomb = HoneycombNode::start(chain());
    let mut head = honeycomb.watch_head();
    let start = honeycomb.head().number;
    honeycomb.set_pace(Pace::Every(Duration::from_millis(1)));
    head.wait_for(|head| head.number.distance_from(start) >= 20)
        .await
        .unwrap();
    honeycomb.set_pace(Pace::AsReceiversTake);
    honeycomb.add_receiver("node", ReceiverSettings::new(node.url()));
    let mut connection = node.accept().await;
    // It takes nothing: the honeycomb runs ahead by no more than it may.
    let mut status = connection.hear().await;
    assert_eq!(status["type"], "sync_status");
    while status["index"] != 2_000 {
        status = connection.hear().await;
        if let Some(index) = status["index"].as_u64() {
            connection.acknowledge(index).await;
        }
    }
    let far = honeycomb.head().number.distance_from(start);
    assert!(far > 200, "{far}");
    let next = honeycomb.progress("node").unwrap().next_block;
    assert!(honeycomb.head().number.distance_from(next) <= 256);
}

#[tokio::test]
async fn the_peer_list_is_served() {
    let list = PeerList::start("127.0.0.1:0".parse().unwrap(), Vec::new())
        .await
        .unwrap();
    list.set(vec![ListedPeer {
        id: "one".to_owned(),
        url: "http://127.0.0.1:3030".to_owned(),
    }]);
    let mut stream = TcpStream::connect(list.address()).await.unwrap();
    stream
        .write_all(b"GET /api/honeygraph-peers HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        answer.ends_with(r#"[{"id":"one","url":"http://127.0.0.1:3030"}]"#),
        "{answer}"
    );
}
