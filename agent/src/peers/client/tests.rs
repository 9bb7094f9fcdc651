mod answers;
mod batches;
mod documents;
mod guarding;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body as AxumBody;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use honeygraph_chain::{BlockNumber, BlockRange};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::peers::PeerUrl;

fn number(number: u64) -> BlockNumber {
    BlockNumber::try_from(number).unwrap()
}

fn range(first: u64, last: u64) -> BlockRange {
    BlockRange::new(number(first), number(last)).unwrap()
}

fn url_of(address: SocketAddr) -> PeerUrl {
    format!("http://{address}").parse().unwrap()
}

/// Serves on a free port of this machine until the test ends.
async fn serve(router: Router) -> PeerUrl {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = url_of(listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

/// Hands every connection to `talk`.
async fn serve_raw<F: Future<Output = ()> + Send + 'static>(
    talk: impl Fn(TcpStream) -> F + Send + 'static,
) -> PeerUrl {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = url_of(listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(talk(stream));
        }
    });
    url
}

fn timeouts() -> ClientTimeouts {
    ClientTimeouts {
        connect: Duration::from_secs(5),
        call: Duration::from_secs(20),
        document_stall: Duration::from_secs(20),
        document: Duration::from_secs(20),
    }
}

/// Limits that a peer which stalls runs into soon.
fn short_timeouts() -> ClientTimeouts {
    ClientTimeouts {
        call: Duration::from_millis(200),
        document_stall: Duration::from_millis(200),
        ..timeouts()
    }
}

fn client_with(configured: &PeerUrl, timeouts: ClientTimeouts) -> PeerClient {
    let guard = AddressGuard::new([configured]);
    PeerClient::new(&"tester".parse().unwrap(), guard, timeouts).unwrap()
}

fn client(configured: &PeerUrl) -> PeerClient {
    client_with(configured, timeouts())
}

/// A body of these pieces, then nothing more, ever.
fn stalling_body(pieces: Vec<Bytes>) -> AxumBody {
    AxumBody::from_stream(pieces_of(pieces).chain(stream::pending()))
}

fn pieces_of(pieces: Vec<Bytes>) -> impl Stream<Item = Result<Bytes, Infallible>> {
    stream::iter(pieces.into_iter().map(Ok))
}

/// Zeros (or spaces: any byte) without end.
fn endless_body(byte: u8) -> AxumBody {
    let piece = Bytes::from(vec![byte; 64 << 10]);
    AxumBody::from_stream(stream::repeat_with(move || Ok::<_, Infallible>(piece.clone())))
}
