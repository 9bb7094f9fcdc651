//! A wire between a node and an alpha that can be cut at a chosen moment.

use std::net::SocketAddr;
use std::sync::Arc;

use honeygraph_agent::dgraph::client::EndpointUrl;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What becomes of what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passing {
    /// It arrives.
    All,
    /// Of the next large piece that the node sends, which can only be a step, half arrives.
    HalfOfAStep,
    /// Half of a step has arrived; nothing more does.
    Cut,
    /// The next large piece arrives, and is not answered.
    StepWithoutAnswer,
    /// What the node sends arrives, no answer does.
    NoAnswers,
}

/// Bytes that only a step has at once.
const STEP_BYTES: usize = 3_000;

/// The wire. Dropping it ends it.
pub(super) struct Wire {
    address: SocketAddr,
    passing: Arc<watch::Sender<Passing>>,
    task: JoinHandle<()>,
}

impl Wire {
    /// A wire to an alpha.
    pub(super) async fn start(alpha: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let passing = Arc::new(watch::Sender::new(Passing::All));
        let seen = Arc::clone(&passing);
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                // An alpha that is away takes no connection: the node's ends too.
                if let Ok(far) = TcpStream::connect(&alpha).await {
                    let (near_read, near_write) = near.into_split();
                    let (far_read, far_write) = far.into_split();
                    tokio::spawn(requests(near_read, far_write, Arc::clone(&seen)));
                    tokio::spawn(answers(far_read, near_write, seen.subscribe()));
                }
            }
        });
        Self {
            address,
            passing,
            task,
        }
    }

    pub(super) fn url(&self) -> EndpointUrl {
        format!("http://{}", self.address).parse().unwrap()
    }

    pub(super) fn set(&self, passing: Passing) {
        self.passing.send_replace(passing);
    }

    /// Waits until half of a step was sent.
    pub(super) async fn is_cut(&self) {
        let mut passing = self.passing.subscribe();
        passing.wait_for(|now| *now == Passing::Cut).await.unwrap();
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, passing: Arc<watch::Sender<Passing>>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let now = *passing.borrow();
        if now == Passing::StepWithoutAnswer && count >= STEP_BYTES {
            passing.send_replace(Passing::NoAnswers);
        }
        let arrives = match now {
            Passing::HalfOfAStep if count >= STEP_BYTES => count / 2,
            Passing::Cut => 0,
            _ => count,
        };
        if to.write_all(&buffer[..arrives]).await.is_err() {
            break;
        }
        if arrives > 0 && arrives < count {
            let _ = to.flush().await;
            passing.send_replace(Passing::Cut);
        }
    }
}

async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut passing: watch::Receiver<Passing>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let withheld = [Passing::Cut, Passing::NoAnswers];
        if passing.wait_for(|now| !withheld.contains(now)).await.is_err() {
            break;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
}
