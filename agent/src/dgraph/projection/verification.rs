//! One comparison of everything that stands in Dgraph with the log, because somebody asked for it.

use super::runner::{AdvanceError, Projection};
use super::store::StepOutcome;
use super::target::Target;
use super::verify::{Compared, Difference, Piece, Places};

/// Differences that are kept one by one; beyond these they are counted.
pub const DIFFERENCES_MAX: usize = 1_000;

/// Whether what differs is put right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mend {
    /// It is reported only.
    No,
    /// It is written as the log has it.
    Yes,
}

/// What was compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ComparedRows {
    /// Blocks of the log, with their checkpoints.
    pub blocks: u64,
    /// Blocks and checkpoints that stand in Dgraph, forks included.
    pub stored: u64,
    /// Nodes of the log's state.
    pub state: u64,
    /// Nodes of the state that stand in Dgraph.
    pub stored_state: u64,
}

/// A comparison under way.
#[derive(Debug)]
pub struct Verification {
    mend: Mend,
    piece: Piece,
    places: Places,
    rows: ComparedRows,
    /// Rows of the part that is compared now.
    part_rows: u64,
    found: u64,
    mended: u64,
    differences: Vec<Difference>,
}

/// What came of one step of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verified {
    /// There is more to compare.
    More,
    /// Everything was compared.
    Done,
    /// It cannot go on before something else is done.
    NotNow(String),
}

impl Verification {
    /// One that begins.
    pub fn new(mend: Mend) -> Self {
        Self {
            mend,
            piece: Piece::default(),
            places: Places::default(),
            rows: ComparedRows::default(),
            part_rows: 0,
            found: 0,
            mended: 0,
            differences: Vec::new(),
        }
    }

    /// What is compared now, and how many rows of it were.
    pub const fn part(&self) -> (&'static str, u64) {
        let name = match self.piece {
            Piece::Blocks => "blocks of the log",
            Piece::StoredBlocks => "blocks in Dgraph",
            Piece::StoredCheckpoints => "checkpoints in Dgraph",
            Piece::StoredState => "state in Dgraph",
            Piece::State => "state of the log",
        };
        (name, self.part_rows)
    }

    /// Whether the part that is compared now has a row a block.
    pub const fn counts_blocks(&self) -> bool {
        matches!(self.piece, Piece::Blocks | Piece::StoredBlocks)
    }

    /// What was compared so far.
    pub const fn rows(&self) -> ComparedRows {
        self.rows
    }

    /// Things that differ.
    pub const fn found(&self) -> u64 {
        self.found
    }

    /// Of these, how many were put right.
    pub const fn mended(&self) -> u64 {
        self.mended
    }

    /// The first of them.
    pub fn differences(&self) -> &[Difference] {
        &self.differences
    }

    fn count(&mut self, rows: u64) {
        self.part_rows += rows;
        match self.piece {
            Piece::Blocks => self.rows.blocks += rows,
            Piece::StoredBlocks | Piece::StoredCheckpoints => self.rows.stored += rows,
            Piece::StoredState => self.rows.stored_state += rows,
            Piece::State => self.rows.state += rows,
        }
    }

    fn note(&mut self, differences: Vec<Difference>) {
        self.found += differences.len() as u64;
        let room = DIFFERENCES_MAX.saturating_sub(self.differences.len());
        self.differences.extend(differences.into_iter().take(room));
    }
}

impl<T: Target> Projection<T> {
    /// Compares the next piece.
    ///
    /// What was read while somebody wrote counts as not read: only what differs under one cursor is a difference.
    pub async fn verify_step(&self, verification: &mut Verification) -> Result<Verified, AdvanceError> {
        let cursor = self.target.cursor().await?;
        let mut places = verification.places.clone();
        let compared = self.compare(&cursor, verification.piece, &mut places).await?;
        let (repair, rows, ends) = match compared {
            Compared::Piece { repair, rows, ends } => (repair, rows, ends),
            Compared::NotNow(why) => return Ok(Verified::NotNow(why)),
        };
        if !repair.differences.is_empty() {
            match verification.mend {
                Mend::No if self.target.cursor().await? != cursor => return Ok(Verified::More),
                Mend::No => {}
                Mend::Yes => match self.target.write(&cursor, &cursor, repair.facts).await? {
                    StepOutcome::Won => verification.mended += repair.differences.len() as u64,
                    StepOutcome::Lost(_) => return Ok(Verified::More),
                },
            }
        }
        verification.note(repair.differences);
        verification.count(rows);
        verification.places = places;
        if !ends {
            return Ok(Verified::More);
        }
        match verification.piece.next() {
            Some(piece) => {
                verification.part_rows = 0;
                verification.piece = piece;
                Ok(Verified::More)
            }
            None => Ok(Verified::Done),
        }
    }
}
