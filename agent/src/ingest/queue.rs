//! Events of sources on their way to the one who takes them: bounded by their number, and by the bytes of their blocks.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::source::{SourceEvent, SourceEventKind};
use super::weight_of;

/// Bytes of all blocks that wait in a queue at most (64 MiB), estimated as they stand in memory.
const QUEUED_BYTES: usize = 64 << 20;
/// What they are counted in.
const UNIT_BYTES: usize = 1 << 10;

/// An event with the room that it takes.
#[derive(Debug)]
struct Queued {
    event: SourceEvent,
    _room: OwnedSemaphorePermit,
}

/// Nobody takes events any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueClosed;

/// Where sessions put their events; cheap to clone.
#[derive(Debug, Clone)]
pub struct EventSender {
    queue: mpsc::Sender<Queued>,
    room: Arc<Semaphore>,
}

/// Where events are taken.
#[derive(Debug)]
pub struct EventReceiver {
    queue: mpsc::Receiver<Queued>,
}

/// A queue of at most so many events.
pub fn event_queue(events: usize) -> (EventSender, EventReceiver) {
    let (sender, receiver) = mpsc::channel(events);
    let room = Arc::new(Semaphore::new(QUEUED_BYTES / UNIT_BYTES));
    let sender = EventSender { queue: sender, room };
    (sender, EventReceiver { queue: receiver })
}

impl EventSender {
    /// Puts an event behind the others, once there is room for it.
    pub async fn send(&self, event: SourceEvent) -> Result<(), QueueClosed> {
        let bytes = match &event.event {
            SourceEventKind::Block { operations, .. } => weight_of(operations),
            _ => 0,
        };
        let units = bytes.div_ceil(UNIT_BYTES).min(QUEUED_BYTES / UNIT_BYTES);
        let units = u32::try_from(units).map_err(|_| QueueClosed)?;
        let room = Arc::clone(&self.room).acquire_many_owned(units).await;
        let queued = Queued {
            event,
            _room: room.map_err(|_| QueueClosed)?,
        };
        self.queue.send(queued).await.map_err(|_| QueueClosed)
    }
}

impl EventReceiver {
    /// The next event; none once all senders are gone.
    pub async fn recv(&mut self) -> Option<SourceEvent> {
        self.queue.recv().await.map(|queued| queued.event)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use honeygraph_chain::{BlockNumber, JsonValue, Operation, Operations, Path};

    use super::super::source::SourceCursor;
    use super::*;
    use crate::ingest::LastIndex;

    fn block(bytes: usize) -> SourceEvent {
        let put = Operation::Put {
            path: Path(vec!["a".to_owned()]),
            data: JsonValue::String("x".repeat(bytes)),
        };
        let number = BlockNumber::default();
        let event = SourceEventKind::Block {
            number,
            operations: Operations::new(vec![put, Operation::WriteMarker]).unwrap(),
            timestamp_ms: 0,
            cursor: SourceCursor {
                last_index: LastIndex(None),
                block: number,
            },
        };
        SourceEvent {
            source: "one".parse().unwrap(),
            event,
        }
    }

    #[test]
    fn large_blocks_wait_although_few_are_queued() {
        let (sender, mut receiver) = event_queue(1_024);
        let sent = (0..1_024).take_while(|_| sender.send(block(4 << 20)).now_or_never().is_some());
        assert_eq!(sent.count(), 15);
        receiver.recv().now_or_never().unwrap().unwrap();
        // What is larger than all room goes alone.
        assert!(sender.send(block(QUEUED_BYTES)).now_or_never().is_none());
        for _ in 0..14 {
            receiver.recv().now_or_never().unwrap().unwrap();
        }
        assert!(sender.send(block(QUEUED_BYTES)).now_or_never().is_some());
        let mut waits = Box::pin(sender.send(block(1)));
        assert!((&mut waits).now_or_never().is_none());
        drop(receiver);
        assert_eq!(waits.now_or_never(), Some(Err(QueueClosed)));
    }
}
