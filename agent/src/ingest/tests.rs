//! The listener over real sockets, with well-behaved and other sources.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use honeygraph_chain::BlockNumber;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use tokio_util::sync::CancellationToken;

use super::*;

mod tls;

/// A test that waits this long has failed.
const HANG: Duration = Duration::from_secs(20);
/// A block that exists, and from which the tests count.
const FIRST: u64 = 30_000_000;

struct Node {
    ingest: Ingest,
    events: EventReceiver,
    address: SocketAddr,
    shutdown: CancellationToken,
    served: JoinHandle<()>,
}

fn settings() -> IngestSettings {
    IngestSettings::new("node-1", "dlux")
}

async fn start() -> Node {
    start_with(settings(), None).await
}

async fn start_with(settings: IngestSettings, cursor: Option<SourceCursor>) -> Node {
    start_with_room_for(64, settings, cursor).await
}

async fn start_with_room_for(events: usize, settings: IngestSettings, cursor: Option<SourceCursor>) -> Node {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, events) = event_queue(events);
    let sources = [
        (
            "hive-1".parse().unwrap(),
            "secret-1-padded-to-16".parse().unwrap(),
        ),
        (
            "hive-2".parse().unwrap(),
            "secret-2-padded-to-16".parse().unwrap(),
        ),
    ];
    let certified = ["hive-2", "hive-3"].map(|name| name.parse().unwrap());
    let authenticator = SourceAuthenticator::new(sources, certified).unwrap();
    let ingest = Ingest::new(settings, authenticator, move |_| cursor, sender);
    let shutdown = CancellationToken::new();
    let served = tokio::spawn({
        let (ingest, shutdown) = (ingest.clone(), shutdown.clone());
        async move { ingest.serve(listener, shutdown).await }
    });
    Node {
        ingest,
        events,
        address,
        shutdown,
        served,
    }
}

impl Node {
    async fn connect(&self, headers: &[(&'static str, &str)]) -> Result<Source, tungstenite::Error> {
        let mut request = format!("ws://{}/any/path", self.address).into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        timeout(HANG, connect_async(request))
            .await
            .unwrap()
            .map(|(socket, _)| Source { socket })
    }

    /// A source that has greeted and identified itself.
    async fn identified(&mut self) -> Source {
        let mut source = self.connect(&[]).await.unwrap();
        source.identify("DLUX").await;
        assert!(matches!(self.event().await, SourceEventKind::Connected { .. }));
        source
    }

    async fn source_event(&mut self) -> SourceEvent {
        timeout(HANG, self.events.recv()).await.unwrap().unwrap()
    }

    async fn event(&mut self) -> SourceEventKind {
        self.source_event().await.event
    }

    /// The next event that is not a head, in short.
    async fn next(&mut self) -> String {
        loop {
            return match self.event().await {
                SourceEventKind::Head { .. } => continue,
                SourceEventKind::Block {
                    number, operations, ..
                } => format!("block {}: {}", number.get() - FIRST, operations.as_slice().len()),
                SourceEventKind::EmptyBlocks { range, .. } => format!("{} empty", range.len()),
                SourceEventKind::Checkpoint { covered, .. } => {
                    format!("checkpoint {}", covered.get() - FIRST)
                }
                SourceEventKind::Connected { .. } => "connected".to_owned(),
                SourceEventKind::Disconnected => "disconnected".to_owned(),
                SourceEventKind::Restarted => "restarted".to_owned(),
                SourceEventKind::CheckpointReport { .. } => "report".to_owned(),
            };
        }
    }
}

struct Source<Stream = MaybeTlsStream<TcpStream>> {
    socket: WebSocketStream<Stream>,
}

impl<Stream: AsyncRead + AsyncWrite + Unpin> Source<Stream> {
    async fn identify(&mut self, token: &str) {
        let greeting = self.hear().await;
        assert_eq!(greeting["type"], "connected");
        assert_eq!(greeting["nodeId"], "node-1");
        assert_eq!(greeting["server"], "honeygraph");
        assert!(greeting["timestamp"].is_u64());
        self.say(json!({"type": "identify", "source": "honeycomb", "version": "1.0", "token": token}))
            .await;
        let answer = self.hear().await;
        assert_eq!(answer["type"], "ack", "{answer}");
        assert_eq!(answer["token"], token);
    }

    async fn say(&mut self, message: Value) {
        self.say_text(&message.to_string()).await;
    }

    async fn say_text(&mut self, text: &str) {
        self.send(Message::text(text)).await.unwrap();
    }

    async fn send(&mut self, message: Message) -> Result<(), tungstenite::Error> {
        timeout(HANG, self.socket.send(message)).await.unwrap()
    }

    async fn frame(&mut self) -> Option<Result<Message, tungstenite::Error>> {
        timeout(HANG, self.socket.next()).await.unwrap()
    }

    /// The next message of the node.
    async fn hear(&mut self) -> Value {
        loop {
            match self.frame().await.unwrap().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The next message that is no acknowledgement of an operation that was taken.
    async fn hear_news(&mut self) -> Value {
        loop {
            let message = self.hear().await;
            if message["success"] != true {
                return message;
            }
        }
    }

    /// Waits for the end of the connection; returns the code and reason it was closed with.
    async fn hear_end(&mut self) -> (u16, String) {
        let mut end = (0, String::new());
        while let Some(Ok(message)) = self.frame().await {
            if let Message::Close(Some(frame)) = message {
                end = (frame.code.into(), frame.reason.to_string());
            }
        }
        end
    }

    /// Shows that the session still works: a block that the next one completes.
    async fn still_works(&mut self, node: &mut Node, next_index: u64, block: u64) {
        self.say(batch(&[
            put(next_index, block),
            marker(next_index + 1, block),
            put(next_index + 2, block + 1),
        ]))
        .await;
        assert_eq!(node.next().await, format!("block {block}: 2"));
    }
}

fn put(index: u64, block: u64) -> Value {
    json!({
        "type": "put", "index": index, "blockNum": FIRST + block, "path": ["a", "b"], "data": {"c": 1},
        "forkHash": null, "prevCheckpointHash": null, "timestamp": 1_600_000_000_000_u64,
    })
}

fn marker(index: u64, block: u64) -> Value {
    json!({"type": "write_marker", "index": index, "blockNum": FIRST + block})
}

fn batch(operations: &[Value]) -> Value {
    json!({"type": "batch", "operations": operations})
}

fn at_the_start() -> SourceCursor {
    SourceCursor {
        last_index: LastIndex(OperationIndex::try_from(99).ok()),
        block: BlockNumber::try_from(FIRST).unwrap(),
    }
}

fn status_of(error: &tungstenite::Error) -> u16 {
    match error {
        tungstenite::Error::Http(response) => response.status().as_u16(),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_session_from_greeting_to_goodbye() {
    let mut node = start().await;
    let mut source = node.identified().await;
    source.say(put(0, 1)).await;
    assert_eq!(
        source.hear().await,
        json!({"type": "ack", "index": 0, "success": true})
    );
    source.say_text("\"W\"").await;
    assert_eq!(
        source.hear().await,
        json!({"type": "ack", "index": 1, "success": true})
    );
    source
        .say(batch(&[put(2, 3), json!("W"), put(4, 3), marker(5, 3)]))
        .await;
    assert_eq!(node.next().await, "block 1: 2");
    assert_eq!(node.next().await, "1 empty");
    for index in 2..=5 {
        assert_eq!(source.hear().await["index"], index);
    }
    let hash = honeygraph_chain::ContentId::of(b"document").to_string();
    source
        .say(json!({"type": "checkpoint", "blockNum": FIRST + 4, "hash": hash, "prevHash": "", "timestamp": 0}))
        .await;
    assert_eq!(node.next().await, "checkpoint 3");
    assert_eq!(node.next().await, "block 3: 4");
    source
        .say(json!({"type": "sync_status", "lastIndex": 5, "blockNum": FIRST + 6}))
        .await;
    assert_eq!(node.next().await, "2 empty");
    assert_eq!(
        source.hear().await,
        json!({"type": "sync_status", "lastIndex": 5, "status": "synced"})
    );
    source.socket.close(None).await.unwrap();
    assert_eq!(node.next().await, "disconnected");
}

#[tokio::test]
async fn a_token_names_the_source() {
    let mut node = start().await;
    let mut source = node
        .connect(&[("authorization", "Bearer secret-2-padded-to-16")])
        .await
        .unwrap();
    source.identify("DLUX").await;
    assert_eq!(node.source_event().await.source.as_str(), "hive-2");
}

#[tokio::test]
async fn strangers_are_refused_even_on_loopback() {
    let node = start().await;
    for headers in [
        ("authorization", "Bearer secret-3"),
        ("authorization", "Basic secret-1"),
        ("x-forwarded-for", "127.0.0.1"),
        ("origin", "http://localhost:4000"),
    ] {
        let error = node.connect(&[headers]).await.err().unwrap();
        assert_eq!(status_of(&error), 401, "{headers:?}");
    }
}

#[tokio::test]
async fn a_request_that_is_no_websocket_gets_a_client_error() {
    let node = start().await;
    let mut stream = TcpStream::connect(node.address).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    timeout(HANG, stream.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
}

#[tokio::test]
async fn a_source_of_another_network_is_refused() {
    let node = start().await;
    for token in ["LARYNX", "SPK", "BROCA"] {
        let mut source = node.connect(&[]).await.unwrap();
        source.hear().await;
        source
            .say(json!({"type": "identify", "source": "x", "token": token}))
            .await;
        let answer = source.hear().await;
        assert_eq!(answer["type"], "error");
        assert!(answer["error"].as_str().unwrap().contains("spkcc"));
        assert_eq!(source.hear_end().await.0, 1008);
    }
}

#[tokio::test]
async fn what_comes_before_identify_is_refused() {
    let mut node = start().await;
    let mut source = node.connect(&[]).await.unwrap();
    source.hear().await;
    source.say(put(0, 1)).await;
    assert_eq!(
        source.hear().await,
        json!({"type": "error", "error": "identify first"})
    );
    source
        .say(json!({"type": "identify", "source": "x", "token": "DLUX"}))
        .await;
    assert_eq!(source.hear().await["type"], "ack");
    assert_eq!(node.next().await, "connected");
}

#[tokio::test]
async fn a_source_that_never_identifies_itself_is_dropped() {
    let node = start_with(
        IngestSettings {
            identify_timeout: Duration::from_millis(20),
            ..settings()
        },
        None,
    )
    .await;
    let mut source = node.connect(&[]).await.unwrap();
    assert_eq!(source.hear_end().await.0, 1008);
}

#[tokio::test]
async fn a_connection_that_never_asks_is_dropped() {
    let node = start_with(
        IngestSettings {
            header_timeout: Duration::from_millis(20),
            ..settings()
        },
        None,
    )
    .await;
    let mut stream = TcpStream::connect(node.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost:").await.unwrap();
    let mut answer = Vec::new();
    // Ends, with or without an answer.
    timeout(HANG, stream.read_to_end(&mut answer)).await.unwrap().ok();
}

#[tokio::test]
async fn a_source_that_answers_no_ping_is_dropped() {
    let mut node = start_with(
        IngestSettings {
            ping_interval: Duration::from_millis(20),
            idle_timeout: Duration::from_millis(60),
            ..settings()
        },
        None,
    )
    .await;
    // Pongs are written while reading, and this source does not read.
    let _source = node.identified().await;
    assert_eq!(node.next().await, "disconnected");
}

#[tokio::test]
async fn bad_messages_are_answered_and_the_session_goes_on() {
    let mut node = start_with(settings(), Some(at_the_start())).await;
    let mut source = node.identified().await;
    let deep = format!(
        r#"{{"type":"put","index":100,"blockNum":{FIRST},"path":["a"],"data":{}{}}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let texts = [
        "",
        "{",
        "[]",
        "7",
        "\"X\"",
        "\"W\"",
        r#"{"type":"shout"}"#,
        r#"{"type":["put"]}"#,
        r#"{"type":"put","index":"100","blockNum":30000001,"path":["a"],"data":1}"#,
        r#"{"type":"put","index":100,"blockNum":30000001,"path":{"a":1},"data":1}"#,
        r#"{"type":"put","index":100,"blockNum":30000001,"path":["a",7],"data":1}"#,
        r#"{"type":"put","index":100,"blockNum":-1,"path":["a"],"data":1}"#,
        r#"{"type":"put","index":-1,"blockNum":30000001,"path":["a"],"data":1}"#,
        r#"{"type":"put","index":100,"blockNum":1000000000000,"path":["a"],"data":1}"#,
        r#"{"type":"put","index":100,"blockNum":30000001,"path":["a"],"data":"\ud800"}"#,
        r#"{"type":"batch","operations":[1]}"#,
        r#"{"type":"checkpoint","blockNum":0,"hash":"QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH"}"#,
        r#"{"type":"checkpoint","blockNum":30000001,"hash":"Qm"}"#,
        r#"{"type":"sync_status","lastIndex":99,"blockNum":1000000000000}"#,
        r#"{"type":"sync_status","lastIndex":99,"blockNum":-1}"#,
        r#"{"type":"sync_status","lastIndex":1e400}"#,
        deep.as_str(),
    ];
    for text in texts {
        source.say_text(text).await;
        let answer = source.hear().await;
        let start: String = text.chars().take(80).collect();
        assert_eq!(answer["type"], "error", "{start}: {answer}");
        if text.contains(r#""blockNum":1000000000000,"path""#) {
            assert_eq!(source.hear().await["success"], false);
        }
    }
    source.send(Message::binary(vec![0xFF, 0xFE])).await.unwrap();
    assert_eq!(source.hear().await["type"], "error");
    source.still_works(&mut node, 100, 1).await;
}

#[tokio::test]
async fn frames_beyond_the_protocol_end_the_session_and_nothing_else() {
    let mut node = start_with(
        IngestSettings {
            message_bytes: 10_000,
            ..settings()
        },
        Some(at_the_start()),
    )
    .await;
    let text_of = |bytes: Vec<u8>| Message::Frame(Frame::message(bytes, OpCode::Data(Data::Text), true));
    for frame in [Message::text(" ".repeat(10_001)), text_of(vec![0xFF, 0xFE])] {
        let mut source = node.identified().await;
        source.send(frame).await.unwrap();
        source.hear_end().await;
        assert_eq!(node.next().await, "disconnected");
    }
    let mut source = node.identified().await;
    source.still_works(&mut node, 100, 1).await;
}

#[tokio::test]
async fn a_block_that_ends_outside_a_batch_is_requested_again() {
    let mut node = start_with(settings(), Some(at_the_start())).await;
    let mut source = node.identified().await;
    source.say(batch(&[put(100, 1), put(101, 1), put(102, 2)])).await;
    let answer = source.hear_news().await;
    assert_eq!(answer["type"], "error");
    assert!(answer["error"].as_str().unwrap().contains("outside a batch"));
    assert_eq!(
        source.hear_news().await,
        json!({"type": "request_missing", "from": 100, "to": 101})
    );
    source.say(batch(&[put(100, 1), marker(101, 1)])).await;
    assert_eq!(node.next().await, "block 1: 2");
}

#[tokio::test]
async fn a_hole_is_requested_and_filled() {
    let mut node = start_with(settings(), Some(at_the_start())).await;
    let mut source = node.identified().await;
    source.say(put(100, 1)).await;
    source.say(batch(&[marker(103, 1), put(104, 2)])).await;
    assert_eq!(
        source.hear_news().await,
        json!({"type": "request_missing", "from": 101, "to": 102})
    );
    source.say(json!({"type": "sync_status", "lastIndex": 104})).await;
    assert_eq!(
        source.hear_news().await,
        json!({"type": "sync_status", "lastIndex": 100, "status": "missing"})
    );
    source.say(put(101, 1)).await;
    source.say(put(102, 1)).await;
    assert_eq!(node.next().await, "block 1: 4");
}

#[tokio::test]
async fn a_newer_session_replaces_the_older() {
    let mut node = start().await;
    let mut older = node.identified().await;
    let mut newer = node.connect(&[]).await.unwrap();
    let identified = tokio::spawn(async move {
        newer.identify("DLUX").await;
        newer
    });
    assert_eq!(node.next().await, "disconnected");
    assert_eq!(node.next().await, "connected");
    assert_eq!(older.hear_end().await.0, 1001);
    let mut newer = identified.await.unwrap();
    newer.still_works(&mut node, 0, 1).await;
}

#[tokio::test]
async fn several_sources_have_their_own_sessions() {
    let mut node = start().await;
    let mut sources = Vec::new();
    for token in ["Bearer secret-1-padded-to-16", "Bearer secret-2-padded-to-16"] {
        let mut source = node.connect(&[("authorization", token)]).await.unwrap();
        source.identify("DLUX").await;
        assert_eq!(node.next().await, "connected");
        sources.push(source);
    }
    for source in &mut sources {
        source.still_works(&mut node, 0, 1).await;
    }
}

#[tokio::test]
async fn commands_reach_the_source() {
    let mut node = start_with(settings(), Some(at_the_start())).await;
    let name = SourceId::loopback();
    let refuse = || SourceCommand::Refuse("block 30000001 contradicts its checkpoint".to_owned());
    assert_eq!(
        node.ingest.send(&name, refuse()),
        Err(CommandError::NotConnected(name.clone()))
    );
    let mut source = node.identified().await;
    source.still_works(&mut node, 100, 1).await;
    node.ingest.send(&name, refuse()).unwrap();
    assert_eq!(
        source.hear_news().await,
        json!({"type": "error", "error": "block 30000001 contradicts its checkpoint"})
    );
    let again = SourceCommand::RequestMissing {
        from_index: OperationIndex::try_from(100).unwrap(),
        to_index: OperationIndex::try_from(101).unwrap(),
    };
    node.ingest.send(&name, again).unwrap();
    assert_eq!(
        source.hear_news().await,
        json!({"type": "request_missing", "from": 100, "to": 102})
    );
    assert_eq!(node.next().await, "restarted");
    source.still_works(&mut node, 100, 1).await;
}

#[tokio::test]
async fn connections_are_limited() {
    let mut node = start_with(
        IngestSettings {
            connections: 1,
            ..settings()
        },
        None,
    )
    .await;
    let mut first = node.identified().await;
    assert!(node.connect(&[]).await.is_err());
    first.still_works(&mut node, 0, 1).await;
    first.socket.close(None).await.unwrap();
    assert_eq!(node.next().await, "disconnected");
    first.hear_end().await;
    // The place is free a moment after the source hears of the end.
    let again = async {
        while node.connect(&[]).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(HANG, again).await.unwrap();
}

#[tokio::test]
async fn a_slow_node_loses_nothing() {
    let mut node = start_with_room_for(1, settings(), None).await;
    let mut source = node.identified().await;
    // One event fits the channel, so nearly all of this waits in the socket.
    for block in 1..=200 {
        source.say(put(2 * block - 2, block)).await;
        source.say(marker(2 * block - 1, block)).await;
    }
    for block in 1..200 {
        assert_eq!(node.next().await, format!("block {block}: 2"));
    }
}

#[tokio::test]
async fn shutdown_ends_every_session() {
    let mut node = start().await;
    let mut source = node.identified().await;
    node.shutdown.cancel();
    assert_eq!(node.next().await, "disconnected");
    assert_eq!(source.hear_end().await.0, 1001);
    timeout(HANG, node.served).await.unwrap().unwrap();
}
