//! One connected source: socket in, assembler, events out.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::assembler::{Assembler, Moment, Output};
use super::message::{Ack, Identify, ServerMessage, SourceMessage};
use super::server::Shared;
use super::sessions::Place;
use super::source::{SessionId, SourceCommand, SourceEvent, SourceEventKind, SourceId};

/// How long a source may take to answer the end of its session.
const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the source closed the connection")]
    Closed,
    #[error("connection failed: {0}")]
    Failed(axum::Error),
    #[error("the source takes no data")]
    WriteTimeout,
    #[error("nothing heard for {0:?}")]
    Idle(Duration),
    #[error("not identified within {0:?}")]
    NotIdentified(Duration),
    #[error("the source belongs to network `{theirs}`, this node to `{ours}`")]
    OtherNetwork { theirs: &'static str, ours: String },
    #[error("replaced by a newer session, or shutting down")]
    Cancelled,
    #[error("the node takes no events any more")]
    NoReceiver,
}

/// Serves one connection until it ends.
pub(super) async fn run(shared: &Shared, socket: WebSocket, source: SourceId, ended: CancellationToken) {
    let mut line = Line {
        socket,
        write_timeout: shared.settings.write_timeout,
        batch_operations: shared.settings.batch_operations,
    };
    let end = match greet(shared, &mut line, &source, &ended).await {
        Err(end) => end,
        Ok(identify) => match shared.sessions.enter(&source, &ended).await {
            None => End::Cancelled,
            Some(place) => {
                let session = place.session;
                let end = listen(shared, &mut line, &source, place, identify, &ended).await;
                shared.sessions.leave(&source, session);
                end
            }
        },
    };
    info!(%source, reason = %end, "source disconnected");
    line.close(&end).await;
}

/// Greets and waits for an `identify` of our network.
async fn greet(
    shared: &Shared,
    line: &mut Line,
    source: &SourceId,
    ended: &CancellationToken,
) -> Result<Identify, End> {
    line.send(&ServerMessage::Connected {
        node_id: shared.settings.node_id.clone(),
        timestamp: unix_ms(),
        server: "honeygraph",
    })
    .await?;
    let within = shared.settings.identify_timeout;
    let identify = tokio::select! {
        biased;
        () = ended.cancelled() => return Err(End::Cancelled),
        identify = timeout(within, wait_for_identify(line)) => {
            identify.map_err(|_| End::NotIdentified(within))??
        }
    };
    check_network(shared, line, source, &identify).await?;
    Ok(identify)
}

async fn wait_for_identify(line: &mut Line) -> Result<Identify, End> {
    loop {
        match line.receive().await? {
            Frame::Message(SourceMessage::Identify(identify)) => return Ok(identify),
            Frame::Message(_) => line.refuse(&"identify first").await?,
            Frame::Bad(answer) => line.send(&answer).await?,
            Frame::Control => {}
        }
    }
}

async fn check_network(
    shared: &Shared,
    line: &mut Line,
    source: &SourceId,
    identify: &Identify,
) -> Result<(), End> {
    let theirs = identify.network();
    if theirs == shared.settings.network {
        return Ok(());
    }
    let end = End::OtherNetwork {
        theirs,
        ours: shared.settings.network.clone(),
    };
    warn!(%source, reason = %end, "source refused");
    line.refuse(&end).await?;
    Err(end)
}

/// The session proper, between its `Connected` and its `Disconnected`.
async fn listen(
    shared: &Shared,
    line: &mut Line,
    source: &SourceId,
    place: Place,
    identify: Identify,
    ended: &CancellationToken,
) -> End {
    let session = place.session;
    info!(%source, %session, claims = ?identify.source, version = ?identify.version, "source connected");
    let mut listener = Listener {
        shared,
        line,
        source,
        session,
        ended,
        assembler: Assembler::new(shared.settings.assembler, (shared.cursors)(source)),
        began: Instant::now(),
    };
    let end = match listener.event(SourceEventKind::Connected { session }).await {
        Err(end) => return end,
        Ok(()) => match listener.run(place.commands, identify).await {
            Ok(never) => match never {},
            Err(end) => end,
        },
    };
    // Also in a shutdown the receiver gets a fair chance to hear it.
    let last = shared.events.send(SourceEvent {
        source: source.clone(),
        event: SourceEventKind::Disconnected,
    });
    if !matches!(timeout(shared.settings.write_timeout, last).await, Ok(Ok(()))) {
        debug!(%source, %session, "nobody hears of the end of the session");
    }
    end
}

enum Never {}

struct Listener<'a> {
    shared: &'a Shared,
    line: &'a mut Line,
    source: &'a SourceId,
    session: SessionId,
    ended: &'a CancellationToken,
    assembler: Assembler,
    began: Instant,
}

impl Listener<'_> {
    async fn run(
        &mut self,
        mut commands: mpsc::Receiver<SourceCommand>,
        identify: Identify,
    ) -> Result<Never, End> {
        self.acknowledge(identify).await?;
        let settings = &self.shared.settings;
        let mut heard = Instant::now();
        let mut ping_at = heard + settings.ping_interval;
        loop {
            let idle_at = heard + settings.idle_timeout;
            let tick_at = self.assembler.next_tick().map(|due| self.began + due);
            let wake_at = tick_at.unwrap_or(idle_at).min(idle_at).min(ping_at);
            tokio::select! {
                biased;
                () = self.ended.cancelled() => return Err(End::Cancelled),
                Some(command) = commands.recv() => self.command(command).await?,
                () = sleep_until(wake_at) => {
                    let now = Instant::now();
                    if now >= idle_at {
                        return Err(End::Idle(settings.idle_timeout));
                    }
                    if now >= ping_at {
                        self.line.write(Message::Ping(axum::body::Bytes::new())).await?;
                        ping_at = now + settings.ping_interval;
                    }
                    let outputs = self.assembler.tick(self.moment());
                    self.deliver(outputs).await?;
                }
                frame = self.line.receive() => {
                    self.frame(frame?).await?;
                    // Counted from here: while we were busy the source could not be heard.
                    heard = Instant::now();
                }
            }
        }
    }

    async fn acknowledge(&mut self, identify: Identify) -> Result<(), End> {
        let message = format!("identified as {}", self.source);
        self.line
            .send(&ServerMessage::Ack(Ack::Identified {
                message,
                token: identify.token,
            }))
            .await
    }

    async fn command(&mut self, command: SourceCommand) -> Result<(), End> {
        let outputs = match command {
            SourceCommand::Refuse(error) => vec![Output::Send(ServerMessage::error(&error))],
            SourceCommand::RequestMissing { from_index, to_index } => {
                self.assembler
                    .request_missing(from_index, to_index, self.moment())
            }
        };
        self.deliver(outputs).await
    }

    async fn frame(&mut self, frame: Frame) -> Result<(), End> {
        let now = self.moment();
        let message = match frame {
            Frame::Message(message) => message,
            Frame::Bad(answer) => return self.deliver(vec![Output::Send(answer)]).await,
            Frame::Control => return Ok(()),
        };
        let outputs = match message {
            SourceMessage::Logged(entry) => self.assembler.operations(vec![entry], now),
            SourceMessage::Batch(entries) => self.assembler.operations(entries, now),
            SourceMessage::Checkpoint(message) => self.assembler.checkpoint(&message, now),
            SourceMessage::SyncStatus(message) => self.assembler.sync_status(message, now),
            SourceMessage::Identify(identify) => {
                check_network(self.shared, self.line, self.source, &identify).await?;
                return self.acknowledge(identify).await;
            }
        };
        self.deliver(outputs).await
    }

    async fn deliver(&mut self, outputs: Vec<Output>) -> Result<(), End> {
        for output in outputs {
            match output {
                Output::Event(event) => self.event(event).await?,
                Output::Send(message) => {
                    self.log_answer(&message);
                    self.line.queue(&message).await?;
                }
            }
        }
        self.line.flush().await
    }

    fn log_answer(&self, message: &ServerMessage) {
        match message {
            ServerMessage::Error { error } => {
                debug!(source = %self.source, session = %self.session, %error, "refused");
            }
            ServerMessage::RequestMissing { from, to } => {
                debug!(source = %self.source, session = %self.session, %from, %to, "operations missing");
            }
            _ => {}
        }
    }

    /// Hands an event over; waits while there is no room, and does not read from the socket meanwhile.
    async fn event(&mut self, event: SourceEventKind) -> Result<(), End> {
        if let SourceEventKind::Block { number, .. } = &event {
            debug!(source = %self.source, session = %self.session, block = %number, "block complete");
        }
        let event = SourceEvent {
            source: self.source.clone(),
            event,
        };
        tokio::select! {
            biased;
            () = self.ended.cancelled() => Err(End::Cancelled),
            sent = self.shared.events.send(event) => sent.map_err(|_| End::NoReceiver),
        }
    }

    fn moment(&self) -> Moment {
        Moment {
            unix_ms: unix_ms(),
            elapsed: self.began.elapsed(),
        }
    }
}

/// Milliseconds since the Unix epoch.
fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// What came in.
enum Frame {
    Message(SourceMessage),
    /// Not a message of the protocol; the answer says why.
    Bad(ServerMessage),
    /// Ping or pong.
    Control,
}

/// The socket, with a limit on how long a write may take.
struct Line {
    socket: WebSocket,
    write_timeout: Duration,
    batch_operations: usize,
}

impl Line {
    /// The next frame; losing this future loses nothing.
    async fn receive(&mut self) -> Result<Frame, End> {
        match self.socket.next().await {
            None | Some(Ok(Message::Close(_))) => Err(End::Closed),
            Some(Err(error)) => Err(End::Failed(error)),
            Some(Ok(Message::Text(text))) => Ok(match SourceMessage::parse(&text, self.batch_operations) {
                Ok(message) => Frame::Message(message),
                Err(error) => Frame::Bad(ServerMessage::error(&error)),
            }),
            Some(Ok(Message::Binary(_))) => Ok(Frame::Bad(ServerMessage::error(
                &"a binary message: this protocol is JSON text",
            ))),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(Frame::Control),
        }
    }

    async fn queue(&mut self, message: &ServerMessage) -> Result<(), End> {
        let frame = Message::Text(message.to_text().into());
        self.within(async |socket| socket.feed(frame).await).await
    }

    async fn flush(&mut self) -> Result<(), End> {
        self.within(async |socket| socket.flush().await).await
    }

    async fn write(&mut self, frame: Message) -> Result<(), End> {
        self.within(async |socket| socket.send(frame).await).await
    }

    async fn send(&mut self, message: &ServerMessage) -> Result<(), End> {
        self.write(Message::Text(message.to_text().into())).await
    }

    async fn refuse(&mut self, reason: &impl ToString) -> Result<(), End> {
        self.send(&ServerMessage::error(reason)).await
    }

    async fn within(
        &mut self,
        work: impl AsyncFnOnce(&mut WebSocket) -> Result<(), axum::Error>,
    ) -> Result<(), End> {
        timeout(self.write_timeout, work(&mut self.socket))
            .await
            .map_err(|_| End::WriteTimeout)?
            .map_err(End::Failed)
    }

    /// Says why, as far as the source still listens.
    async fn close(mut self, end: &End) {
        let code = match end {
            End::Closed | End::WriteTimeout => return,
            End::Failed(error) => {
                if self.refuse(error).await.is_err() {
                    return;
                }
                close_code::PROTOCOL
            }
            End::Idle(_) | End::NotIdentified(_) | End::OtherNetwork { .. } => close_code::POLICY,
            End::Cancelled | End::NoReceiver => close_code::AWAY,
        };
        let frame = Message::Close(Some(CloseFrame {
            code,
            // A control frame holds 125 bytes.
            reason: end
                .to_string()
                .chars()
                .filter(char::is_ascii)
                .take(120)
                .collect::<String>()
                .into(),
        }));
        if self.write(frame).await.is_err() {
            debug!("the source does not hear why its session ends");
            return;
        }
        // Closing with data unread would reset the connection, and our last words with it.
        let unread = async { while let Some(Ok(_)) = self.socket.next().await {} };
        if timeout(CLOSE_GRACE, unread).await.is_err() {
            debug!("the source does not answer the end of its session");
        }
    }
}
