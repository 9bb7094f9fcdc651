//! What each node went through, as a table at the end.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use honeygraph_chain::checkpoint::Anchor;
use indicatif::HumanCount;

use crate::fetched::Fetched;
use crate::observation::per_second;

/// What a node went through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Journey {
    /// Its name.
    pub name: String,
    /// What happened to it.
    pub story: String,
    /// How it healed, where something had to.
    pub healing: Option<Healing>,
}

/// How a node healed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Healing {
    /// Blocks of the chain that it lacked when it was brought back.
    pub missing: u64,
    /// Time until it had those.
    pub time: Duration,
    /// What it fetched from then to the end, the blocks made meanwhile included.
    pub fetched: Fetched,
}

/// The table of all nodes.
pub(crate) fn table(journeys: &[Journey]) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "node",
        "what happened",
        "missing",
        "healed in",
        "blocks/s",
        "fetched",
        "peers",
    ]);
    for journey in journeys {
        let mut row = vec![journey.name.clone(), journey.story.clone()];
        match &journey.healing {
            Some(healing) => row.extend([
                HumanCount(healing.missing).to_string(),
                format!("{:.1} s", healing.time.as_secs_f64()),
                HumanCount(per_second(healing.missing, healing.time)).to_string(),
                HumanCount(healing.fetched.blocks).to_string(),
                healing.fetched.peers.to_string(),
            ]),
            None => row.extend(std::iter::repeat_n(String::new(), 5)),
        }
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.trim_fmt()
}

/// What all nodes have in common.
pub(crate) fn agreement(nodes: usize, target: &Anchor, time: Duration) -> String {
    format!(
        "{nodes} nodes agree, and with the honeycombs; none has a gap ({:.0} s):\n  \
         head          {}\n  block hash    {}\n  state hash    {}\n  state digest  {}",
        time.as_secs_f64(),
        HumanCount(target.block_num.get()),
        target.block_hash,
        target.state_hash,
        target.state_digest,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_shows_how_a_node_healed() {
        let journeys = [
            Journey {
                name: "node-1".to_owned(),
                story: "fed by both honeycombs".to_owned(),
                healing: None,
            },
            Journey {
                name: "node-4".to_owned(),
                story: "lost 5 ranges".to_owned(),
                healing: Some(Healing {
                    missing: 1_500,
                    time: Duration::from_millis(2_500),
                    fetched: Fetched {
                        blocks: 2_400,
                        peers: 3,
                    },
                }),
            },
        ];
        let table = table(&journeys);
        let row = table.lines().find(|line| line.contains("node-4")).unwrap();
        let words: Vec<_> = row
            .split_whitespace()
            .filter(|word| !"│┆".contains(word))
            .collect();
        assert_eq!(
            words,
            [
                "node-4", "lost", "5", "ranges", "1,500", "2.5", "s", "600", "2,400", "3"
            ]
        );
    }
}
