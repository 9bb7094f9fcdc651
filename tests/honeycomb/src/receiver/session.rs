//! One connection after another to the same node.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use honeygraph_chain::BlockNumber;
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::AUTHORIZATION;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::outstanding::Outstanding;
use super::{Progress, ReceiverSettings, Resume, Sending, SharedChain, Start};
use crate::messages::{self, Frame, NodeMessage};
use crate::reference_chain::ReferenceChain;

/// How long the greeting and the answer to `identify` may take.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// Unanswered `request_missing` messages that are remembered.
const REQUESTS: usize = 256;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error("stopped")]
    Stopped,
    #[error("socket: {0}")]
    Socket(#[from] Box<SocketError>),
    #[error("the bearer token cannot stand in a header")]
    BearerToken,
    #[error("the node closed the connection")]
    Closed,
    #[error("no greeting and acknowledgement within {} s", HANDSHAKE_TIME.as_secs())]
    HandshakeTime,
    #[error("unexpected message from the node: {0}")]
    Unexpected(String),
}

impl From<SocketError> for SessionError {
    fn from(error: SocketError) -> Self {
        Self::Socket(Box::new(error))
    }
}

/// What the reading and the writing half of a session share.
#[derive(Debug, Default)]
struct Exchange {
    outstanding: Outstanding,
    requests: VecDeque<RangeInclusive<u64>>,
    /// The first running index that this session has not come to yet.
    unsent_from: u64,
    /// Errors to tell the node.
    errors: VecDeque<String>,
}

/// The state of the connection to one node, beyond one session.
pub(super) struct Session {
    chain: Arc<SharedChain>,
    settings: ReceiverSettings,
    progress: watch::Sender<Progress>,
    exchange: Mutex<Exchange>,
    /// Something that the writing half waits for has changed.
    changed: Notify,
}

impl Session {
    pub(super) fn new(
        chain: Arc<SharedChain>,
        settings: ReceiverSettings,
        progress: watch::Sender<Progress>,
    ) -> Self {
        Self {
            chain,
            settings,
            progress,
            exchange: Mutex::default(),
            changed: Notify::new(),
        }
    }

    pub(super) fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// Notes the end of a session.
    pub(super) fn disconnected(&self, reason: &SessionError) {
        self.progress.send_modify(|progress| {
            progress.connected = false;
            progress.outstanding = 0;
            progress.last_error = Some(reason.to_string());
        });
        self.chain.taken.notify_one();
    }

    /// Runs one session to its end.
    pub(super) async fn run(&self, sending: &mut watch::Receiver<Sending>) -> SessionError {
        let stopped = async {
            // A closed channel stops the session as well.
            let _ = sending.wait_for(|sending| *sending == Sending::Stopped).await;
            SessionError::Stopped
        };
        let feed = async {
            match self.feed().await {
                Ok(never) => match never {},
                Err(error) => error,
            }
        };
        tokio::select! {
            ended = stopped => ended,
            ended = feed => ended,
        }
    }

    async fn feed(&self) -> Result<std::convert::Infallible, SessionError> {
        let socket = tokio::time::timeout(HANDSHAKE_TIME, self.connect())
            .await
            .map_err(|_| SessionError::HandshakeTime)??;
        let next_block = self.place();
        let (sink, stream) = socket.split();
        let mut writer = Writer {
            session: self,
            next_block,
            outbox: VecDeque::new(),
            told: None,
        };
        // Both halves go on at the same time: a node that waits until its acknowledgements are read must
        // not wait for us who wait until our operations are.
        tokio::select! {
            ended = self.listen(stream) => ended,
            ended = writer.run(sink) => ended,
        }
    }

    async fn connect(&self) -> Result<Socket, SessionError> {
        let mut request = self.settings.url.as_str().into_client_request()?;
        if let Some(token) = &self.settings.bearer_token {
            let value = HeaderValue::from_str(&format!("Bearer {token}"));
            request
                .headers_mut()
                .insert(AUTHORIZATION, value.map_err(|_| SessionError::BearerToken)?);
        }
        let (mut socket, _) = connect_async(request).await?;
        match hear(&mut socket).await? {
            NodeMessage::Connected { .. } => {}
            other => return Err(SessionError::Unexpected(format!("{other:?} as a greeting"))),
        }
        say(&mut socket, messages::identify(&self.settings.identity)).await?;
        match hear(&mut socket).await? {
            NodeMessage::Ack { index: None, .. } => {}
            NodeMessage::Error { error } => return Err(SessionError::Unexpected(error)),
            other => return Err(SessionError::Unexpected(format!("{other:?} after `identify`"))),
        }
        Ok(socket)
    }

    /// Decides at which block the session starts, and forgets what the one before left.
    fn place(&self) -> BlockNumber {
        let unacknowledged = self.exchange().outstanding.lowest_block();
        let Progress {
            sessions, next_block, ..
        } = self.progress();
        let next = self.chain.read(|chain| {
            let after_head = chain.head().number.next();
            match (sessions, self.settings.start, self.settings.resume) {
                (0, Start::Beginning, _) => first_kept(chain),
                (0, Start::Head, _) | (1.., _, Resume::Head) => after_head,
                (1.., _, Resume::Unacknowledged) => {
                    unacknowledged.map_or(next_block, |lowest| lowest.min(next_block))
                }
            }
        });
        let unsent_from = self.chain.read(|chain| {
            let first = chain.block(next).or_else(|| chain.kept().next());
            match first {
                Some(block) if next <= chain.head().number => block.first_index,
                _ => chain.head().next_index,
            }
        });
        *self.exchange() = Exchange {
            unsent_from,
            ..Exchange::default()
        };
        self.progress.send_modify(|progress| {
            progress.connected = true;
            progress.sessions += 1;
            progress.next_block = next;
            progress.outstanding = 0;
        });
        self.chain.taken.notify_one();
        next
    }

    fn exchange(&self) -> MutexGuard<'_, Exchange> {
        self.exchange.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The reading half.
    async fn listen(
        &self,
        mut stream: SplitStream<Socket>,
    ) -> Result<std::convert::Infallible, SessionError> {
        loop {
            let message = stream.next().await.ok_or(SessionError::Closed)??;
            if let Some(message) = read(&message)? {
                self.take(message);
                self.changed.notify_one();
            }
        }
    }

    fn take(&self, message: NodeMessage) {
        match message {
            NodeMessage::Ack { index, success } => {
                let mut exchange = self.exchange();
                if let Some(index) = index {
                    exchange.outstanding.acknowledge(index);
                }
                let outstanding = exchange.outstanding.operations();
                drop(exchange);
                self.progress.send_modify(|progress| {
                    progress.outstanding = outstanding;
                    if success == Some(false) {
                        progress.refusals += 1;
                        progress.last_error = Some(format!("operation {index:?} was not taken"));
                    } else {
                        progress.acknowledged_index = progress.acknowledged_index.max(index);
                    }
                });
            }
            NodeMessage::SyncStatus { last_index, .. } => {
                self.progress
                    .send_modify(|progress| progress.reported_index = Some(last_index));
            }
            NodeMessage::RequestMissing { from, to } => self.request(from, to),
            NodeMessage::Error { error } => self.progress.send_modify(|progress| {
                progress.refusals += 1;
                progress.last_error = Some(error);
            }),
            NodeMessage::Connected { .. } => {}
        }
    }

    fn request(&self, from: u64, to: u64) {
        let (head, kept_from) = self
            .chain
            .read(|chain| (chain.head(), chain.kept().next().map(|block| block.first_index)));
        let mut exchange = self.exchange();
        if from > to || from >= head.next_index {
            let text = format!(
                "there are no operations {from}..={to}, the last one is before {}",
                head.next_index
            );
            exchange.errors.push_back(text);
        } else if kept_from.is_none_or(|kept| from < kept) {
            exchange
                .errors
                .push_back(format!("operations from {from} on are no longer kept"));
        } else if exchange.requests.len() >= REQUESTS {
            exchange
                .errors
                .push_back(format!("more than {REQUESTS} requests are unanswered"));
        } else if from < exchange.unsent_from {
            // What this session has not come to yet arrives without being sent twice.
            let request = from..=to.min(exchange.unsent_from - 1);
            if !exchange.requests.contains(&request) {
                exchange.requests.push_back(request);
            }
        }
        exchange.errors.truncate(REQUESTS);
    }
}

/// The writing half of a session.
struct Writer<'session> {
    session: &'session Session,
    next_block: BlockNumber,
    outbox: VecDeque<(Frame, BlockNumber)>,
    /// The head that the last `sync_status` told.
    told: Option<BlockNumber>,
}

impl Writer<'_> {
    async fn run(
        &mut self,
        mut sink: SplitSink<Socket, Message>,
    ) -> Result<std::convert::Infallible, SessionError> {
        let mut head = self.session.chain.head.subscribe();
        // Where the source stands, before anything else.
        self.tell();
        if self.session.progress().sessions > 1 {
            self.repeat_checkpoint();
        }
        loop {
            if self.outbox.is_empty() {
                self.fill();
            }
            if self.may_send() {
                if let Some((frame, block)) = self.outbox.pop_front() {
                    self.count(&frame, block);
                    sink.feed(Message::text(frame.text)).await?;
                }
                continue;
            }
            sink.flush().await?;
            tokio::select! {
                () = self.session.changed.notified() => {}
                changed = head.changed() => changed.map_err(|_| SessionError::Stopped)?,
            }
        }
    }

    fn may_send(&self) -> bool {
        let Some((frame, _)) = self.outbox.front() else {
            return false;
        };
        let outstanding = self.session.exchange().outstanding.operations();
        frame.indexes.is_none() || outstanding < self.session.settings.window.max(1)
    }

    fn count(&self, frame: &Frame, block: BlockNumber) {
        let Some(indexes) = frame.indexes.clone() else {
            return;
        };
        let operations = *indexes.end() - *indexes.start() + 1;
        let mut exchange = self.session.exchange();
        exchange.outstanding.push(indexes, block);
        let outstanding = exchange.outstanding.operations();
        drop(exchange);
        self.session.progress.send_modify(|progress| {
            progress.sent_operations += operations;
            progress.outstanding = outstanding;
        });
    }

    fn tell(&mut self) {
        let head = self.session.chain.read(ReferenceChain::head);
        self.told = Some(head.number);
        self.outbox.push_back((messages::sync_status(head), head.number));
    }

    /// Checkpoint messages are not acknowledged: the last one may have been lost with the last session.
    fn repeat_checkpoint(&mut self) {
        let before = self.next_block;
        let last = self.session.chain.read(|chain| {
            let mut sent = chain
                .kept()
                .rev()
                .skip_while(|block| block.block.number() >= before);
            sent.find(|block| block.checkpoint.is_some()).cloned()
        });
        if let Some(block) = last {
            self.push_checkpoint(&block);
        }
    }

    /// Puts the next thing to say into the outbox, at most the frames of one block. Everything said before
    /// is on its way.
    fn fill(&mut self) {
        let next = self.next_block;
        let advanced = self.session.progress.send_if_modified(|progress| {
            let before = std::mem::replace(&mut progress.next_block, next);
            before != next
        });
        if advanced {
            self.session.chain.taken.notify_one();
        }
        let mut exchange = self.session.exchange();
        let error = exchange.errors.pop_front();
        let request = match error {
            Some(_) => None,
            None => exchange.requests.pop_front(),
        };
        drop(exchange);
        if let Some(error) = error {
            self.outbox.push_back((messages::error(&error), self.next_block));
        } else if let Some(request) = request {
            self.repeat(request);
        } else {
            self.go_on();
        }
    }

    /// Answers a `request_missing` with the operations of its first block, and puts the rest back.
    fn repeat(&mut self, request: RangeInclusive<u64>) {
        let session = self.session;
        let found = session.chain.read(|chain| {
            let mut blocks = chain.blocks_with_indexes(request.clone());
            let first = blocks.next()?.clone();
            let empty = blocks.take_while(|block| block.indexes().is_empty());
            let empty: Vec<_> = empty
                .filter(|block| block.checkpoint.is_some())
                .cloned()
                .collect();
            Some((first, empty))
        });
        // Forgotten between the request and now: the node asks again and is told so.
        let Some((first, empty)) = found else { return };
        let end = first.indexes().end;
        self.push_operations(&first, &request);
        if *request.end() >= end {
            session.exchange().requests.push_front(end..=*request.end());
        } else {
            session
                .progress
                .send_modify(|progress| progress.answered_requests += 1);
        }
        // The checkpoints in between prove what was sent again.
        if end - 1 <= *request.end() {
            for block in std::iter::once(&first).chain(&empty) {
                self.push_checkpoint(block);
            }
        }
    }

    /// Sends the next block, or says where the source stands when there is none.
    fn go_on(&mut self) {
        let delay = self.session.settings.checkpoint_delay_blocks;
        let next = self.next_block;
        let (head, block, late) = self.session.chain.read(|chain| {
            let next = next.max(first_kept(chain));
            let late = next
                .get()
                .checked_sub(delay)
                .and_then(|number| BlockNumber::try_from(number).ok())
                .and_then(|number| chain.block(number));
            (chain.head(), chain.block(next).cloned(), late.cloned())
        });
        match block {
            Some(block) => {
                self.session.exchange().unsent_from = block.indexes().end;
                self.push_operations(&block, &(0..=u64::MAX));
                if let Some(late) = late {
                    self.push_checkpoint(&late);
                }
                self.next_block = block.block.number().next();
                // An empty block has no frame; go on until there is something to say.
                if self.outbox.is_empty() {
                    self.go_on_after_empty(head.number);
                }
            }
            None if self.told != Some(head.number) => self.tell(),
            None => {}
        }
    }

    fn go_on_after_empty(&mut self, head: BlockNumber) {
        if self.next_block > head && self.told != Some(head) {
            self.tell();
        } else {
            // Wakes the writer for the next block.
            self.session.changed.notify_one();
        }
    }

    fn push_operations(&mut self, block: &crate::reference_chain::ChainBlock, wanted: &RangeInclusive<u64>) {
        let settings = &self.session.settings;
        let frames = messages::operations(block, wanted, settings.framing, settings.marker);
        let number = block.block.number();
        self.outbox
            .extend(frames.into_iter().map(|frame| (frame, number)));
    }

    fn push_checkpoint(&mut self, block: &crate::reference_chain::ChainBlock) {
        if let Some(checkpoint) = &block.checkpoint {
            let frame = messages::checkpoint(checkpoint, block.unix_millis);
            self.outbox.push_back((frame, block.block.number()));
        }
    }
}

fn first_kept(chain: &ReferenceChain) -> BlockNumber {
    chain
        .kept()
        .next()
        .map_or(chain.head().number.next(), |block| block.block.number())
}

fn read(message: &Message) -> Result<Option<NodeMessage>, SessionError> {
    let text = match message {
        Message::Text(text) => text.as_str(),
        Message::Close(_) => return Err(SessionError::Closed),
        _ => return Ok(None),
    };
    serde_json::from_str(text).map(Some).map_err(|_| {
        let start: String = text.chars().take(200).collect();
        SessionError::Unexpected(start)
    })
}

/// The next message of the node, outside the exchange.
async fn hear(socket: &mut Socket) -> Result<NodeMessage, SessionError> {
    loop {
        let message = socket.next().await.ok_or(SessionError::Closed)??;
        if let Some(message) = read(&message)? {
            return Ok(message);
        }
    }
}

async fn say(socket: &mut Socket, frame: Frame) -> Result<(), SessionError> {
    Ok(socket.send(Message::text(frame.text)).await?)
}
