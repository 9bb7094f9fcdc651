//! Writing the whole state anew, piece by piece, as it stood at one block.

use std::time::{Duration, Instant};

use honeygraph_chain::{BlockNumber, Path, PathKey};

use super::cursor::{Cursor, StateCursor};
use super::facts::{clear_state, put_state};
use super::mark::Mark;
use super::region::Region;
use super::touched::{StateNode, nodes_after};
use super::weight::StateLimits;
use crate::dgraph::client::{Mutation, Uid};
use crate::store::{StoreError, View};

/// Nodes of the state that one step writes.
const NODES_A_STEP: usize = 2_000;

/// Where a node of the state stands in Dgraph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPath {
    /// Its uid.
    pub uid: Uid,
    /// Its path as text.
    pub path: String,
}

/// A node of the state that stands in Dgraph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredState {
    /// Its uid.
    pub uid: Uid,
    /// Its path as text.
    pub path: String,
    /// Its value.
    pub value: Option<String>,
}

/// A state on its way into Dgraph. It is taken from one view, so that every piece is of the same block; an
/// interrupted one is begun again.
#[derive(Debug)]
pub(super) struct Replacement {
    view: View,
    to: BlockNumber,
    place: Place,
    /// How far it is if the step that was tried last stands.
    tried: Option<Place>,
}

/// How far a replacement is.
#[derive(Debug, Clone)]
struct Place {
    after: Option<PathKey>,
    /// Up to which node what stands there was compared; none once all was.
    sweeping: Option<Uid>,
    written: u64,
}

impl Replacement {
    pub(super) const fn new(view: View, to: BlockNumber) -> Self {
        Self {
            view,
            to,
            place: Place {
                after: None,
                sweeping: Some(Uid(0)),
                written: 0,
            },
            tried: None,
        }
    }

    /// The state cursor that says that this replacement is as far as it is.
    pub(super) fn state_cursor(&self) -> StateCursor {
        self.state_cursor_at(&self.place)
    }

    fn state_cursor_at(&self, place: &Place) -> StateCursor {
        StateCursor::Replacing {
            to: self.to,
            after: place.after.clone(),
        }
    }

    /// Whether Dgraph is as far as this replacement, also where nobody knew whether the last step stands.
    pub(super) fn stands_at(&mut self, state: &StateCursor) -> bool {
        let tried = self.tried.take();
        if self.state_cursor() == *state {
            return true;
        }
        match tried {
            // One without a path looks like the beginning of another replacement.
            Some(tried) if tried.after.is_some() && self.state_cursor_at(&tried) == *state => {
                self.place = tried;
                true
            }
            _ => false,
        }
    }

    /// The step that was tried last stands.
    pub(super) fn done(&mut self) {
        if let Some(tried) = self.tried.take() {
            self.place = tried;
        }
    }

    /// Nodes that were written.
    pub(super) const fn written(&self) -> u64 {
        self.place.written
    }

    /// Where nodes that stand in Dgraph are to be read next; none once everything was compared.
    pub(super) const fn sweeping(&self) -> Option<Uid> {
        self.place.sweeping
    }

    /// Takes back what stands in Dgraph and not in the state. An empty page is the end.
    pub(super) fn sweep(&mut self, region: &Region, page: &[StoredPath]) -> Result<Mutation, StoreError> {
        let mut facts = Mutation::new();
        for stored in page {
            // What cannot be read is written again with the rest, where it is right.
            if !matches!(judge(&self.view, region, stored)?, Judged::Stands(..)) {
                clear_state(stored.uid, &mut facts);
            }
        }
        self.tried = Some(Place {
            sweeping: page.last().map(|last| last.uid),
            ..self.place.clone()
        });
        Ok(facts)
    }

    /// The next piece, and where Dgraph stands with it.
    pub(super) fn next_piece(
        &mut self,
        region: &Region,
        cursor: &Cursor,
    ) -> Result<(Mutation, Cursor), StoreError> {
        let (nodes, last) = nodes_after(
            &self.view,
            self.place.after.as_ref(),
            StateLimits::piece(NODES_A_STEP),
        )?;
        let tried = Place {
            after: last,
            sweeping: None,
            written: self.place.written + nodes.len() as u64,
        };
        let mut facts = Mutation::new();
        for node in nodes {
            put_state(region, &node, node.value(&self.view)?, self.to, &mut facts)?;
        }
        let state = if tried.after.is_none() {
            StateCursor::At(self.to)
        } else {
            self.state_cursor_at(&tried)
        };
        self.tried = Some(tried);
        let after = Cursor {
            state,
            ..cursor.clone()
        };
        Ok((facts, after))
    }
}

/// How long a replacement by somebody else may stand still before it counts as left: longer than a page takes with
/// the longest of its calls.
const LEFT: Duration = Duration::from_mins(3);

/// A replacement by somebody else: how far it is, the mark of its last step, and since when it stands there.
#[derive(Debug, Default)]
pub(super) struct Others(Option<(StateCursor, Option<Mark>, Instant)>);

impl Others {
    /// Whether it goes on, as far as can be told: every page of it leaves a mark.
    pub(super) fn go_on(&mut self, state: &StateCursor, mark: Option<Mark>, now: Instant) -> bool {
        match &self.0 {
            Some((seen, of, since)) if seen == state && *of == mark => {
                now.saturating_duration_since(*since) < LEFT
            }
            _ => {
                self.0 = Some((state.clone(), mark, now));
                true
            }
        }
    }
}

/// What the state says about a node that stands in Dgraph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Judged {
    /// It stands in the state too, with this value.
    Stands(StateNode, String),
    /// Nothing of the state is kept there.
    Gone,
    /// Its path cannot be read back from the text: it has too many `/`, which may stand within names too.
    Unreadable,
}

/// Most `/` of a text that every way to read it is tried of, 2 to the power of it.
const SLASHES_MAX: usize = 12;

/// The path that a node of Dgraph is kept for: the one way to read its text that names its uid. None where no
/// way does: no writer has put it there. An error where there are too many ways.
fn key_of(region: &Region, stored: &StoredPath) -> Result<Option<PathKey>, Unreadable> {
    let parts: Vec<&str> = stored.path.split('/').collect();
    let slashes = parts.len() - 1;
    let usual = PathKey::from(&Path::from_slashed(&stored.path));
    if region.state(&usual) == stored.uid {
        return Ok(Some(usual));
    }
    if slashes > SLASHES_MAX {
        return Err(Unreadable);
    }
    // Bit by bit, whether a `/` stands within a name.
    let read = |within: usize| {
        let mut names: Vec<String> = Vec::with_capacity(parts.len());
        for (at, part) in parts.iter().enumerate() {
            match names.last_mut() {
                Some(name) if within >> (at - 1) & 1 == 1 => {
                    name.push('/');
                    name.push_str(part);
                }
                _ => names.push((*part).to_owned()),
            }
        }
        PathKey::from(&Path(names))
    };
    let mut ways = (0..1_usize << slashes).map(read);
    Ok(ways.find(|key| region.state(key) == stored.uid))
}

/// Too many ways to read a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unreadable;

/// Looks a node of Dgraph up in the state.
pub(super) fn judge(view: &View, region: &Region, stored: &StoredPath) -> Result<Judged, StoreError> {
    let key = match key_of(region, stored) {
        Ok(Some(key)) => key,
        Ok(None) => return Ok(Judged::Gone),
        Err(Unreadable) => return Ok(Judged::Unreadable),
    };
    for node in [StateNode::Leaf(key.clone()), StateNode::Object(key)] {
        if node.is_kept()
            && let Some(value) = node.value(view)?
        {
            return Ok(Judged::Stands(node, value));
        }
    }
    Ok(Judged::Gone)
}

#[cfg(test)]
mod tests {
    use super::super::region::UidKey;
    use super::*;
    use crate::store::{Store, StoreSettings};
    use honeygraph_chain::canonical_json::JsonValue;
    use honeygraph_chain::state::Leaf;

    fn key(names: &[&str]) -> PathKey {
        PathKey::from(&Path(names.iter().map(|&name| name.to_owned()).collect()))
    }

    #[test]
    fn a_replacement_by_others_goes_on_while_it_leaves_marks() {
        let mut others = Others::default();
        let began = Instant::now();
        let state = StateCursor::Replacing {
            to: BlockNumber::default(),
            after: None,
        };
        let mark = || Some(Mark::new(&"w".parse().unwrap()));
        let last = mark();
        assert!(others.go_on(&state, mark(), began));
        assert!(
            others.go_on(&state, last.clone(), began + LEFT),
            "it has swept a page"
        );
        assert!(others.go_on(&state, last.clone(), began + LEFT + LEFT / 2));
        assert!(!others.go_on(&state, last, began + LEFT * 2));
    }

    #[test]
    fn a_node_is_judged_by_the_path_that_its_uid_names() {
        let directory = tempfile::tempdir().unwrap();
        let (store, mut writer, _) = Store::open(directory.path(), &StoreSettings::default()).unwrap();
        let leaf = Leaf::try_from(JsonValue::Bool(true)).unwrap();
        let (usual, slashed) = (key(&["nfts", "a"]), key(&["nfts", "a/b//c"]));
        let mut transaction = writer.begin();
        for key in [&usual, &slashed] {
            transaction.set_leaf(key, Some(&leaf));
        }
        transaction.commit().unwrap();
        let region = Region::new(UidKey::random());
        let judged = |uid, path: &str| {
            let stored = StoredPath {
                uid,
                path: path.to_owned(),
            };
            judge(&store.view(), &region, &stored).unwrap()
        };
        let stands = |key| Judged::Stands(StateNode::Leaf(key), "true".to_owned());
        assert_eq!(judged(region.state(&usual), "nfts/a"), stands(usual.clone()));
        assert_eq!(
            judged(region.state(&slashed), "nfts/a/b//c"),
            stands(slashed.clone())
        );
        // Read as it is written mostly, it names another uid; nothing is kept for that path.
        let gone = key(&["nfts", "a", "b"]);
        assert_eq!(judged(region.state(&gone), "nfts/a/b"), Judged::Gone);
        // No writer puts a path on a uid that it does not name.
        let other = Uid(region.state(&usual).0 ^ 1);
        assert_eq!(judged(other, "nfts/a"), Judged::Gone);
        assert_eq!(judged(region.state(&usual), "nfts/other"), Judged::Gone);
        let long = "x/".repeat(SLASHES_MAX + 1);
        assert_eq!(judged(other, &long), Judged::Unreadable);
    }
}
