//! Delta documents by content id, from whoever has them.

use std::path::Path;
use std::time::Duration;

use honeygraph_chain::ContentId;
use honeygraph_chain::checkpoint::DeltaDocument;

use crate::peers::PeerUrl;
use crate::peers::client::{DocumentTarget, PeerClient};

/// Who may have a document.
#[derive(Debug, Clone)]
pub(super) enum Giver {
    Peer(PeerUrl),
    Gateway(PeerUrl),
}

/// What became of a delta document.
#[derive(Debug)]
pub(super) enum Delta {
    /// It is here.
    Document(Box<DeltaDocument>),
    /// The document with this id is no delta, or larger than one may be.
    Other,
    /// Nobody gave it.
    NotFound,
}

/// Longest wait for a delta from one giver; the next one goes on from what has come.
const DELTA_PATIENCE: Duration = Duration::from_mins(1);

/// Fetches a delta document. Nothing of it stays on disk.
pub(super) async fn fetch_delta(
    client: &PeerClient,
    givers: &[Giver],
    id: ContentId,
    target: &DocumentTarget,
    delta_bytes_max: u64,
) -> Delta {
    if let Some(directory) = target.path.parent()
        && let Err(error) = tokio::fs::create_dir_all(directory).await
    {
        tracing::warn!(directory = %directory.display(), %error, "no place for documents");
        return Delta::NotFound;
    }
    for giver in givers {
        let fetched = tokio::time::timeout(DELTA_PATIENCE, async {
            match giver {
                Giver::Peer(url) => client.document(url, id, target).await,
                Giver::Gateway(url) => client.ipfs_file(url, id, target).await,
            }
        });
        match fetched.await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::debug!(?giver, %id, %error, "no document");
                continue;
            }
            Err(_) => {
                tracing::debug!(?giver, %id, seconds = DELTA_PATIENCE.as_secs(), "no document in time");
                continue;
            }
        }
        let read = read_delta(&target.path, delta_bytes_max).await;
        if let Err(error) = tokio::fs::remove_file(&target.path).await {
            tracing::debug!(path = %target.path.display(), %error, "a fetched document stays");
        }
        return match read {
            Ok(bytes) => bytes
                .and_then(|bytes| DeltaDocument::parse(&bytes).ok())
                .map_or(Delta::Other, |document| Delta::Document(Box::new(document))),
            Err(error) => {
                tracing::warn!(%error, "a fetched document cannot be read");
                Delta::NotFound
            }
        };
    }
    Delta::NotFound
}

/// Reads a document that is to be held in memory; none if it is larger than a delta may be, as a full state may be.
pub(super) async fn read_delta(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    if tokio::fs::metadata(path).await.map_err(failed)?.len() > bytes_max {
        return Ok(None);
    }
    tokio::fs::read(path).await.map(Some).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use axum::Router;
    use axum::routing::get;
    use tempfile::TempDir;

    use super::*;
    use crate::peers::address_guard::AddressGuard;
    use crate::peers::client::ClientTimeouts;
    use crate::test_chain::chain;

    /// A peer with one document, and how often it was asked.
    async fn peer_with(document: Vec<u8>) -> (PeerUrl, Arc<AtomicU32>) {
        let asked = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&asked);
        let answer = move || async move {
            counted.fetch_add(1, Ordering::Relaxed);
            document
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().route("/api/checkpoints/{id}", get(answer));
        tokio::spawn(async move { axum::serve(listener, router).await });
        (url.parse().unwrap(), asked)
    }

    async fn fetch(document: &[u8], id: ContentId, delta_bytes_max: u64) -> (Delta, u32) {
        let (url, asked) = peer_with(document.to_vec()).await;
        let guard = AddressGuard::new([&url]);
        let client = PeerClient::new(&"tester".parse().unwrap(), guard, ClientTimeouts::default()).unwrap();
        let directory = TempDir::new().unwrap();
        let target = DocumentTarget {
            path: directory.path().join("documents/document.json"),
            max_bytes: 1 << 30,
        };
        let delta = fetch_delta(&client, &[Giver::Peer(url)], id, &target, delta_bytes_max).await;
        let left = directory.path().join("documents").read_dir().unwrap().count();
        assert_eq!(left, 0);
        (delta, asked.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn a_full_state_however_large_is_no_delta_and_nothing_stays_on_disk() {
        let checkpoints = &chain().checkpoints;
        let state = checkpoints[2].document.to_canonical();
        for limit in [100, 1 << 30] {
            let (delta, asked) = fetch(&state, checkpoints[2].cid, limit).await;
            assert!(matches!(delta, Delta::Other), "{delta:?}");
            assert_eq!(asked, 1);
        }
        let (delta, _) = fetch(
            &checkpoints[3].document.to_canonical(),
            checkpoints[3].cid,
            1 << 30,
        )
        .await;
        let Delta::Document(delta) = delta else {
            panic!("{delta:?}")
        };
        assert_eq!(delta.covered, checkpoints[3].block_num);
        let (delta, _) = fetch(b"something else", checkpoints[3].cid, 1 << 30).await;
        assert!(matches!(delta, Delta::NotFound), "{delta:?}");
    }
}
