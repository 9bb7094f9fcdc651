//! How a picture of the network reads, line by line.

use console::{Style, pad_str, style};
use honeygraph_agent::wire::shapes::SyncMode;
use honeygraph_chain::interval::IntervalSet;
use honeygraph_chain::{BlockNumber, BlockRange};
use indicatif::HumanCount;

use crate::gap_bar::{Cell, cells};
use crate::observation::{Condition, NodePicture, Picture, mode_name};

/// Columns of a node's line beside its bar, and one that stays free.
const OTHER_COLUMNS: u16 = 93;

/// Columns of the lag of a node's Dgraph.
const DGRAPH_COLUMNS: u16 = 14;

/// How wide a bar is in a terminal of this many columns, where nodes have a Dgraph or not.
pub(crate) fn bar_width(columns: u16, has_dgraph: bool) -> u16 {
    let others = OTHER_COLUMNS + if has_dgraph { DGRAPH_COLUMNS } else { 0 };
    columns.saturating_sub(others).clamp(8, 48)
}

/// What a column for Dgraph adds to a line.
fn dgraph_column(has_dgraph: bool, text: &str) -> String {
    if has_dgraph {
        format!("  {text:>12}")
    } else {
        String::new()
    }
}

/// The names of the columns of [`node_line`].
pub(crate) fn header(bar: u16, has_dgraph: bool) -> String {
    format!(
        "  {:<8} {:<8} {:>10}  {:>10}  {} {:>8} {:>8}  {:<5} {:>10}  {:>10}{}",
        "node",
        "mode",
        "head",
        "state",
        pad_str("blocks", usize::from(bar), console::Alignment::Left, None),
        "missing",
        "blocks/s",
        "peers",
        "LIB",
        "proven to",
        dgraph_column(has_dgraph, "Dgraph lacks"),
    )
}

/// A node in a table whose columns have the [`header`].
pub(crate) fn node_line(node: &NodePicture, chain: BlockRange, bar: u16, has_dgraph: bool) -> String {
    match &node.condition {
        Condition::Silent => format!("  {:<8} {}", node.name, style("starting").yellow()),
        Condition::Offline { reason, missing } => format!(
            "  {:<8} {} {:>10}  {:>10}  {} {}",
            node.name,
            style(format!("{reason:<8}")).red(),
            "-",
            "-",
            coloured_bar(missing, chain, bar),
            missing_text(missing.block_count()),
        ),
        Condition::Online(standing) => {
            let status = &standing.status;
            let (alive, known) = standing.peers();
            format!(
                "  {:<8} {} {:>10}  {:>10}  {} {} {:>8}  {:<5} {:>10}  {:>10}{}",
                node.name,
                mode_style(status.mode).apply_to(format!("{:<8}", mode_name(status.mode))),
                height(status.head),
                height(status.state_height),
                coloured_bar(&standing.missing, chain, bar),
                missing_text(standing.missing_blocks()),
                HumanCount(node.rate).to_string(),
                format!("{alive}/{known}"),
                height(status.lib),
                height(standing.proven_to()),
                dgraph_column(has_dgraph, &count(standing.dgraph_lag())),
            )
        }
    }
}

/// The whole network on one line, without colours.
pub(crate) fn plain_line(seconds: u64, picture: &Picture) -> String {
    let nodes = picture.nodes.iter();
    let parts: Vec<_> = nodes
        .map(|node| format!(" | {} {}", node.name, in_short(node)))
        .collect();
    let head = height(Some(picture.chain.end()));
    format!("{seconds:>5} s  block {head}{}", parts.concat())
}

fn in_short(node: &NodePicture) -> String {
    match &node.condition {
        Condition::Offline { reason, .. } => (*reason).to_owned(),
        Condition::Silent => "starting".to_owned(),
        Condition::Online(standing) => {
            let mode = mode_name(standing.status.mode);
            let missing = HumanCount(standing.missing_blocks());
            let itself = match standing.status.mode {
                _ if missing.0 == 0 => mode.to_owned(),
                Some(SyncMode::Follow) => format!("{mode}, {missing} behind"),
                _ => format!("{mode}, {missing} missing, {}/s", HumanCount(node.rate)),
            };
            match standing.dgraph_lag() {
                Some(lag) if lag > 0 => format!("{itself}, Dgraph lacks {}", HumanCount(lag)),
                _ => itself,
            }
        }
    }
}

fn height(number: Option<BlockNumber>) -> String {
    count(number.map(BlockNumber::get))
}

fn count(count: Option<u64>) -> String {
    count.map_or_else(|| "-".to_owned(), |count| HumanCount(count).to_string())
}

fn coloured_bar(missing: &IntervalSet, chain: BlockRange, width: u16) -> String {
    let cells = cells(chain, missing, width);
    let runs = cells.chunk_by(|left, right| left == right);
    runs.map(|run| {
        let text: String = run.iter().copied().map(Cell::sign).collect();
        let colour = match run.first() {
            Some(Cell::Whole) => Style::new().green(),
            Some(Cell::Most | Cell::Few) => Style::new().yellow(),
            Some(Cell::None) | None => Style::new().red(),
        };
        colour.apply_to(text).to_string()
    })
    .collect()
}

fn mode_style(mode: Option<SyncMode>) -> Style {
    match mode {
        Some(SyncMode::Follow) => Style::new().green(),
        Some(SyncMode::Fill | SyncMode::Repair) => Style::new().cyan(),
        Some(SyncMode::Starved | SyncMode::Partitioned | SyncMode::Halted) => Style::new().red(),
        _ => Style::new().yellow(),
    }
}

fn missing_text(missing: u64) -> String {
    let colour = match missing {
        0 => Style::new().green(),
        _ => Style::new().yellow(),
    };
    colour
        .apply_to(format!("{:>8}", HumanCount(missing).to_string()))
        .to_string()
}

#[cfg(test)]
mod tests {
    use honeygraph_agent::wire::shapes::{DgraphStatus, DgraphWriters, SyncStatus};

    use super::*;
    use crate::observation::Standing;

    fn range(start: u64, count: u64) -> BlockRange {
        BlockRange::starting_at(BlockNumber::try_from(start).unwrap(), count)
    }

    fn node(missing: Option<BlockRange>) -> NodePicture {
        let chain = range(28_559_102, 1_000);
        let mut set = IntervalSet::default();
        if let Some(missing) = missing {
            set.insert(missing);
        }
        NodePicture {
            name: "node-4".to_owned(),
            condition: Condition::Online(Box::new(Standing {
                status: SyncStatus {
                    head: Some(chain.end()),
                    state_height: Some(chain.end()),
                    mode: Some(SyncMode::Fill),
                    ..SyncStatus::default()
                },
                missing: set,
            })),
            rate: 1_250,
        }
    }

    fn line(node: &NodePicture) -> String {
        let line = node_line(node, range(28_559_102, 1_000), 10, false);
        console::strip_ansi_codes(&line).into_owned()
    }

    #[test]
    fn a_line_shows_the_holes() {
        assert_eq!(
            line(&node(Some(range(28_559_302, 150)))),
            "  node-4   fill     28,560,101  28,560,101  ██·▓██████      150    1,250  0/0            -           -"
        );
    }

    #[test]
    fn what_an_offline_node_lacks_is_shown() {
        let mut missing = IntervalSet::default();
        missing.insert(range(28_559_602, 500));
        let node = NodePicture {
            name: "node-3".to_owned(),
            condition: Condition::Offline {
                reason: "killed",
                missing,
            },
            rate: 0,
        };
        assert_eq!(
            line(&node),
            "  node-3   killed            -           -  █████·····      500"
        );
    }

    #[test]
    fn columns_stand_under_their_names() {
        let line = line(&node(None));
        let header = header(10, false);
        assert_eq!(
            console::measure_text_width(&line),
            console::measure_text_width(&header)
        );
        let place = |text: &str, part: &str| {
            text.find(part)
                .map(|at| console::measure_text_width(&text[..at + part.len()]))
        };
        assert_eq!(place(&line, "1,250"), place(&header, "blocks/s"));
        assert_eq!(
            console::measure_text_width(&header),
            usize::from(OTHER_COLUMNS) - 1 + 10
        );
    }

    #[test]
    fn the_network_fits_one_line() {
        let off = NodePicture {
            name: "node-3".to_owned(),
            condition: Condition::Offline {
                reason: "killed",
                missing: IntervalSet::default(),
            },
            rate: 0,
        };
        let picture = Picture {
            chain: range(28_559_102, 1_000),
            nodes: vec![node(None), off, node(Some(range(28_559_302, 150)))],
            has_dgraph: false,
        };
        assert_eq!(
            plain_line(7, &picture),
            "    7 s  block 28,560,101 | node-4 fill | node-3 killed | node-4 fill, 150 missing, 1,250/s"
        );
    }
    #[test]
    fn the_lag_of_dgraph_is_shown_where_there_is_one() {
        let mut node = node(None);
        if let Condition::Online(standing) = &mut node.condition {
            standing.status.dgraph = Some(DgraphStatus {
                mode: DgraphWriters::Shared,
                connected: true,
                from_block: None,
                applied_block: None,
                applied_hash: None,
                state_block: None,
                lag_blocks: Some(1_204),
                mismatch: None,
                last_error: None,
            });
        }
        assert_eq!(in_short(&node), "fill, Dgraph lacks 1,204");
        let line = node_line(&node, range(28_559_102, 1_000), 10, true);
        let line = console::strip_ansi_codes(&line).into_owned();
        assert!(line.ends_with("         1,204"), "{line:?}");
        let header = header(10, true);
        assert_eq!(
            console::measure_text_width(&line),
            console::measure_text_width(&header)
        );
        assert_eq!(
            console::measure_text_width(&header),
            usize::from(OTHER_COLUMNS + DGRAPH_COLUMNS) - 1 + 10
        );
    }
}
