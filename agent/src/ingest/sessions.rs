//! Which source has which session. One source has one: a newer session replaces the older, and begins only
//! when that one has ended, so that their events never mix.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedMutexGuard, mpsc};
use tokio_util::sync::CancellationToken;

use super::source::{SessionId, SourceCommand, SourceId};

/// Commands a session may leave unread before further ones are refused.
const COMMANDS: usize = 64;

#[derive(Default)]
pub(super) struct Sessions {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    last: u64,
    /// Bounded by the number of configured sources.
    slots: HashMap<SourceId, Slot>,
}

#[derive(Default)]
struct Slot {
    newest: Option<Newest>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

struct Newest {
    session: SessionId,
    ended: CancellationToken,
    commands: mpsc::Sender<SourceCommand>,
}

/// A session's place; giving it up lets the next one begin.
pub(super) struct Place {
    pub(super) session: SessionId,
    pub(super) commands: mpsc::Receiver<SourceCommand>,
    _turn: OwnedMutexGuard<()>,
}

/// Why a command did not reach a source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// It has no session.
    #[error("source `{0}` is not connected")]
    NotConnected(SourceId),
    /// It does not take its commands.
    #[error("source `{0}` is too busy for commands")]
    Busy(SourceId),
}

impl Sessions {
    /// Ends the source's older session, waits until it is gone, and takes its place. None when `ended` came
    /// first: an even newer session, or shutdown.
    pub(super) async fn enter(&self, source: &SourceId, ended: &CancellationToken) -> Option<Place> {
        let (sender, commands) = mpsc::channel(COMMANDS);
        let (session, turn) = {
            let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
            table.last = table.last.wrapping_add(1);
            let session = SessionId(table.last);
            let slot = table.slots.entry(source.clone()).or_default();
            let older = slot.newest.replace(Newest {
                session,
                ended: ended.clone(),
                commands: sender,
            });
            if let Some(older) = older {
                older.ended.cancel();
            }
            (session, Arc::clone(&slot.turn))
        };
        tokio::select! {
            biased;
            () = ended.cancelled() => None,
            turn = turn.lock_owned() => Some(Place { session, commands, _turn: turn }),
        }
    }

    /// Forgets a session, unless a newer one already took over.
    pub(super) fn leave(&self, source: &SourceId, session: SessionId) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = table.slots.get_mut(source)
            && slot
                .newest
                .as_ref()
                .is_some_and(|newest| newest.session == session)
        {
            slot.newest = None;
        }
    }

    pub(super) fn send(&self, source: &SourceId, command: SourceCommand) -> Result<(), CommandError> {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = table.slots.get(source).and_then(|slot| slot.newest.as_ref());
        match newest.map(|newest| newest.commands.try_send(command)) {
            Some(Ok(())) => Ok(()),
            Some(Err(mpsc::error::TrySendError::Full(_))) => Err(CommandError::Busy(source.clone())),
            Some(Err(mpsc::error::TrySendError::Closed(_))) | None => {
                Err(CommandError::NotConnected(source.clone()))
            }
        }
    }
}
