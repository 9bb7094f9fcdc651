//! A stand-in for a honeycomb as a program of its own, for tests in which nodes run elsewhere: in pods.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use honeygraph_honeycomb::gateway;
use honeygraph_honeycomb::honeycomb_node::{HoneycombNode, Pace};
use honeygraph_honeycomb::messages::Identity;
use honeygraph_honeycomb::receiver::ReceiverSettings;
use honeygraph_honeycomb::reference_chain::{ChainSettings, ReferenceChain};
use tracing_subscriber::EnvFilter;

/// Makes a chain on the published state of a real network, pushes its blocks to honeygraph nodes, and serves its
/// documents as an IPFS gateway does. It prints the checkpoint that nodes can start from: `BLOCK:CONTENT_ID`.
#[derive(Debug, Parser)]
#[command(name = "honeygraph-honeycomb", version)]
struct Arguments {
    /// Its name, which nodes know it by
    #[arg(long)]
    name: String,
    /// Its token at the nodes
    #[arg(long, env = "HONEYCOMB_TOKEN", hide_env_values = true)]
    token: String,
    /// Prefix of the network that it says it belongs to
    #[arg(long, default_value = "dlux")]
    network: String,
    /// Where its documents are served
    #[arg(long, default_value = "127.0.0.1:8080")]
    gateway: SocketAddr,
    /// Milliseconds between two blocks
    #[arg(long, default_value_t = 3_000)]
    block_interval_ms: u64,
    /// Blocks that are made before any is pushed
    #[arg(long, default_value_t = 300)]
    blocks_before: u64,
    /// Blocks that are kept to be sent again, with their documents: some 20 KB each
    #[arg(long, default_value_t = 8_192)]
    kept_blocks: usize,
    /// Nodes that it pushes to: `ws://host:4000/`
    #[arg(required = true)]
    nodes: Vec<String>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")))
        .with_writer(std::io::stderr)
        .init();
    let chain = ReferenceChain::from_vectors(ChainSettings {
        kept_blocks: arguments.kept_blocks,
        ..ChainSettings::default()
    })?;
    let (genesis_block, genesis_id) = (chain.genesis_block(), chain.genesis_id());
    let node = Arc::new(HoneycombNode::start(chain));
    node.produce(arguments.blocks_before)?;
    println!("{}:{genesis_id}", genesis_block.get());
    node.set_pace(Pace::Every(Duration::from_millis(arguments.block_interval_ms)));
    for url in &arguments.nodes {
        let settings = ReceiverSettings {
            identity: Identity {
                source: arguments.name.clone(),
                token: arguments.network.to_uppercase(),
            },
            bearer_token: Some(arguments.token.clone()),
            ..ReceiverSettings::new(url)
        };
        node.add_receiver(url, settings);
    }
    tokio::select! {
        served = gateway::serve(arguments.gateway, node) => served?,
        () = terminated() => {}
    }
    Ok(())
}

/// Returns when the process is asked to end.
async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
