//! The parts of an agent's `GET /status` that the operator reads. What an agent of another version does not say is
//! absent; what it says beyond is ignored.

use serde::Deserialize;

/// Answer of `GET /status` on the admin port.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// Changes at every start of the process.
    pub session_id: String,
    /// Version of the agent.
    #[serde(default)]
    pub version: String,
    /// The network it follows.
    pub network: String,
    /// What it calls itself among its peers.
    #[serde(default)]
    pub peer_id: String,
    /// Whether the part that commits runs.
    #[serde(default)]
    pub alive: bool,
    /// Where it stands.
    pub sync: SyncStatus,
}

/// Where an agent stands, as in `GET /api/sync/status`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncStatus {
    /// Highest stored canonical block.
    pub head: Option<u64>,
    /// Highest block whose state is applied.
    pub state_height: Option<u64>,
    /// Last irreversible block.
    pub lib: Option<u64>,
    /// Highest head that trusted sources report.
    pub network_head: Option<u64>,
    /// Network head minus state height, in blocks.
    pub lag: Option<u64>,
    /// What is missing.
    pub gaps: Option<GapStatus>,
    /// The peers it knows.
    #[serde(default)]
    pub peers: Vec<ListedPeer>,
    /// The newest checkpoint it holds.
    pub checkpoint: Option<CheckpointStatus>,
    /// How far it is proven.
    pub verification: Option<VerificationStatus>,
    /// What it is doing.
    pub mode: Option<SyncMode>,
    /// How far its Dgraph is; absent where it has none.
    pub dgraph: Option<DgraphStatus>,
}

/// What an agent misses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GapStatus {
    /// Number of gaps.
    #[serde(default)]
    pub count: u64,
    /// Blocks missing in all of them.
    #[serde(default)]
    pub total_missing: u64,
    /// Blocks of the largest of them.
    pub largest: Option<u64>,
}

/// A peer of an agent.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedPeer {
    /// What it calls itself.
    #[serde(default)]
    pub id: String,
    /// Its base URL.
    #[serde(default)]
    pub url: String,
    /// How the agent came to know it.
    pub source: Option<String>,
    /// Share of good answers of late, 0 to 1.
    pub reliability: Option<f64>,
    /// Its last answer, in Unix milliseconds.
    pub last_seen: Option<i64>,
    /// Whether it answers.
    #[serde(default)]
    pub is_alive: bool,
}

/// The newest checkpoint of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointStatus {
    /// Its block.
    pub block_num: u64,
    /// Hash of that block.
    pub block_hash: String,
    /// Content id of its document.
    pub state_hash: String,
    /// Digest of the state after the block.
    #[serde(default)]
    pub state_digest: String,
    /// What the voters say of it.
    #[serde(default)]
    pub agreement: Agreement,
}

/// What the voters say of an anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Agreement {
    /// More than half of the configured weight stands behind it.
    Agreed,
    /// The only configured voter stands behind it.
    Unanchored,
    /// Voters contradict it.
    Conflict,
    /// Not enough votes, or an answer that this version does not know.
    #[default]
    #[serde(other)]
    Undecided,
}

/// How far an agent is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerificationStatus {
    /// Highest block covered by a checkpoint whose document was recomputed.
    #[serde(default)]
    pub verified_height: Option<u64>,
}

/// What an agent is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SyncMode {
    /// Starting.
    Boot,
    /// Checking what is stored.
    Recover,
    /// Looking for sources.
    Discover,
    /// Asking the voters where the chain stands.
    Anchor,
    /// Fetching what is missing.
    Fill,
    /// At the head.
    Follow,
    /// No source has what is missing.
    Starved,
    /// Cut off from a majority of the voters.
    Partitioned,
    /// Commits stopped: something contradicts what is final.
    Halted,
    /// Replacing damaged blocks.
    Repair,
    /// A state that this version does not know.
    #[serde(other)]
    Unknown,
}

/// How far an agent's Dgraph is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DgraphStatus {
    /// Whether Dgraph answered the last call.
    #[serde(default)]
    pub connected: bool,
    /// The block up to which Dgraph has blocks and operations: the cursor that was read from it.
    pub applied_block: Option<u64>,
    /// State height minus `applied_block`.
    pub lag_blocks: Option<u64>,
    /// Present while Dgraph contradicts the log.
    pub mismatch: Option<DgraphMismatch>,
    /// What went wrong last.
    pub last_error: Option<String>,
}

/// A block of which Dgraph holds another one than the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DgraphMismatch {
    /// The block.
    pub block: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_agent_is_understood_as_far_as_it_goes() {
        let answer = r#"{"sessionId": "a", "network": "dlux", "unknown": [1], "sync": {"mode": "meditate",
            "head": 7, "peers": [{"isAlive": true, "colour": "blue"}, {}],
            "checkpoint": {"blockNum": 1, "blockHash": "Qm1", "stateHash": "Qm2", "agreement": "overwhelming"}}}"#;
        let status: AgentStatus = serde_json::from_str(answer).expect("understood");
        assert_eq!(status.sync.head, Some(7));
        assert_eq!(status.sync.mode, Some(SyncMode::Unknown));
        assert_eq!(status.sync.peers.iter().filter(|peer| peer.is_alive).count(), 1);
        let checkpoint = status.sync.checkpoint.expect("a checkpoint");
        assert_eq!(checkpoint.agreement, Agreement::Undecided);
    }

    #[test]
    fn what_is_no_status_is_refused() {
        for answer in [
            "",
            "{}",
            "[]",
            r#"{"sessionId": 1}"#,
            r#"{"sessionId": "a", "network": "x", "sync": {"head": -1}}"#,
        ] {
            assert!(serde_json::from_str::<AgentStatus>(answer).is_err(), "{answer}");
        }
    }
}
