//! A honeycomb node: makes blocks and pushes them to honeygraph nodes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, JoinSet};

use crate::receiver::{self, Progress, ReceiverSettings, Sending, SharedChain};
use crate::reference_chain::{ChainError, Head, ReferenceChain};

/// Blocks that a node may be behind before [`Pace::AsReceiversTake`] waits for it.
const LEAD_BLOCKS: u64 = 256;

/// How fast blocks are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// None, except by [`HoneycombNode::produce`].
    Paused,
    /// One each interval.
    Every(Duration),
    /// As fast as the slowest node that is fed takes them; none while none is connected.
    AsReceiversTake,
}

/// A running honeycomb node. Dropping it ends everything it does.
pub struct HoneycombNode {
    chain: Arc<SharedChain>,
    pace: watch::Sender<Pace>,
    receivers: Arc<Mutex<BTreeMap<String, Receiver>>>,
    tasks: Mutex<JoinSet<()>>,
}

struct Receiver {
    sending: watch::Sender<Sending>,
    progress: watch::Receiver<Progress>,
    task: AbortHandle,
}

impl HoneycombNode {
    /// Starts a node that makes no block yet. Must be called inside a tokio runtime.
    pub fn start(chain: ReferenceChain) -> Self {
        let head = watch::Sender::new(chain.head());
        let chain = Arc::new(SharedChain {
            chain: RwLock::new(chain),
            head,
            taken: Notify::new(),
        });
        let pace = watch::Sender::new(Pace::Paused);
        let receivers = Arc::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(make_blocks(
            chain.clone(),
            pace.subscribe(),
            Arc::clone(&receivers),
        ));
        Self {
            chain,
            pace,
            receivers,
            tasks: Mutex::new(tasks),
        }
    }

    /// Changes how fast blocks are made.
    pub fn set_pace(&self, pace: Pace) {
        self.pace.send_replace(pace);
    }

    /// Makes blocks at once.
    pub fn produce(&self, blocks: u64) -> Result<Head, ChainError> {
        for _ in 0..blocks {
            self.chain.produce()?;
        }
        Ok(self.head())
    }

    /// Where the chain stands.
    pub fn head(&self) -> Head {
        *self.chain.head.borrow()
    }

    /// Follows where the chain stands.
    pub fn watch_head(&self) -> watch::Receiver<Head> {
        self.chain.head.subscribe()
    }

    /// Looks at the chain; no block is made meanwhile.
    pub fn read<T>(&self, read: impl FnOnce(&ReferenceChain) -> T) -> T {
        self.chain.read(read)
    }

    /// Starts to feed a honeygraph node, in place of one of the same name. Gives what to follow its progress
    /// by.
    pub fn add_receiver(&self, name: &str, settings: ReceiverSettings) -> watch::Receiver<Progress> {
        let (progress_sender, progress) = watch::channel(Progress::default());
        let (sending, sending_receiver) = watch::channel(Sending::On);
        let task = self
            .tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .spawn(receiver::run(
                self.chain.clone(),
                settings,
                sending_receiver,
                progress_sender,
            ));
        let receiver = Receiver {
            sending,
            progress: progress.clone(),
            task,
        };
        if let Some(replaced) = self.receivers().insert(name.to_owned(), receiver) {
            replaced.task.abort();
        }
        // It may have connected before it was in the list.
        self.chain.taken.notify_one();
        progress
    }

    /// Stops or goes on to feed a node; whether there is one of the name.
    pub fn set_sending(&self, name: &str, sending: Sending) -> bool {
        let receivers = self.receivers();
        let receiver = receivers.get(name);
        receiver.is_some_and(|receiver| {
            receiver.sending.send_replace(sending);
            self.chain.taken.notify_one();
            true
        })
    }

    /// No longer feeds a node; whether there was one of the name.
    pub fn remove_receiver(&self, name: &str) -> bool {
        let removed = self.receivers().remove(name);
        removed.is_some_and(|receiver| {
            receiver.task.abort();
            self.chain.taken.notify_one();
            true
        })
    }

    /// How far a node is.
    pub fn progress(&self, name: &str) -> Option<Progress> {
        let receivers = self.receivers();
        Some(receivers.get(name)?.progress.borrow().clone())
    }

    fn receivers(&self) -> MutexGuard<'_, BTreeMap<String, Receiver>> {
        self.receivers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SharedChain {
    fn produce(&self) -> Result<(), ChainError> {
        let mut chain = self.chain.write().unwrap_or_else(PoisonError::into_inner);
        chain.next_block()?;
        let head = chain.head();
        drop(chain);
        self.head.send_replace(head);
        Ok(())
    }

    /// Whether every node that is fed is close enough for one more block.
    fn receivers_take(&self, receivers: &Mutex<BTreeMap<String, Receiver>>) -> bool {
        let receivers = receivers.lock().unwrap_or_else(PoisonError::into_inner);
        let head = self.head.borrow().number;
        let mut connected = false;
        let near = receivers
            .values()
            .filter(|receiver| *receiver.sending.borrow() == Sending::On)
            .map(|receiver| receiver.progress.borrow())
            .filter(|progress| progress.connected)
            .inspect(|_| connected = true)
            .all(|progress| head.distance_from(progress.next_block) < LEAD_BLOCKS);
        connected && near
    }
}

async fn make_blocks(
    chain: Arc<SharedChain>,
    mut pace: watch::Receiver<Pace>,
    receivers: Arc<Mutex<BTreeMap<String, Receiver>>>,
) {
    loop {
        let current = *pace.borrow_and_update();
        let ended = match current {
            Pace::Paused => pace.changed().await.is_err(),
            Pace::Every(interval) => {
                let mut ticks = tokio::time::interval(interval.max(Duration::from_micros(1)));
                ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                loop {
                    tokio::select! {
                        changed = pace.changed() => break changed.is_err(),
                        _ = ticks.tick() => if !made(&chain) { break true },
                    }
                }
            }
            Pace::AsReceiversTake => loop {
                if chain.receivers_take(&receivers) {
                    if !made(&chain) {
                        break true;
                    }
                    tokio::task::yield_now().await;
                    match pace.has_changed() {
                        Ok(false) => {}
                        Ok(true) => break false,
                        Err(_) => break true,
                    }
                } else {
                    tokio::select! {
                        changed = pace.changed() => break changed.is_err(),
                        () = chain.taken.notified() => {}
                    }
                }
            },
        };
        if ended {
            return;
        }
    }
}

/// Makes a block; an error ends the making and is logged.
fn made(chain: &SharedChain) -> bool {
    match chain.produce() {
        Ok(()) => true,
        Err(error) => {
            tracing::error!(%error, "honeycomb makes no more blocks");
            false
        }
    }
}
