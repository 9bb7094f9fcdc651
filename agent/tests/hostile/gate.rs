//! A door in front of a node: closed until the test opens it.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Passes connections on to a node once it is open, and ends them at once before. Dropping it ends it.
pub(crate) struct Gate {
    address: SocketAddr,
    open: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Gate {
    /// A closed gate in front of a node.
    pub(crate) async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (open, is_open) = watch::channel(false);
        let task = tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                if *is_open.borrow() {
                    tokio::spawn(async move {
                        let mut to = TcpStream::connect(target).await?;
                        tokio::io::copy_bidirectional(&mut from, &mut to).await
                    });
                }
            }
        });
        Self { address, open, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}
