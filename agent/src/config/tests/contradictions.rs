//! Settings that must fit each other.

use super::*;

#[test]
fn settings_that_contradict_each_other_are_named() {
    for contradiction in [
        (
            "--checkpoint-delta-offset=100",
            "CHECKPOINT_DELTA_OFFSET=100",
            "CHECKPOINT_DELTA_INTERVAL",
        ),
        (
            "--checkpoint-state-offset=28800",
            "CHECKPOINT_STATE_OFFSET=28800",
            "CHECKPOINT_STATE_INTERVAL",
        ),
        (
            "--checkpoint-delta-interval=7000",
            "CHECKPOINT_STATE_INTERVAL=28800",
            "CHECKPOINT_DELTA_INTERVAL",
        ),
        (
            "--checkpoint-delta-offset=2",
            "CHECKPOINT_STATE_OFFSET=18601",
            "CHECKPOINT_DELTA_OFFSET",
        ),
        (
            "--trusted-checkpoint=150:QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH",
            "TRUSTED_CHECKPOINT=150:Qm",
            "CHECKPOINT_DELTA_INTERVAL",
        ),
        (
            "--init-chain --trusted-checkpoint=150:QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH",
            "TRUSTED_CHECKPOINT",
            "INIT_CHAIN",
        ),
        ("--init-chain", "INIT_CHAIN=true", "GENESIS_FILE"),
        ("--history-blocks=500", "MAX_REORG_DEPTH=1000", "HISTORY_BLOCKS"),
        (
            "--history-blocks=50 --max-reorg-depth=10",
            "CHECKPOINT_DELTA_INTERVAL=100",
            "HISTORY_BLOCKS",
        ),
        (
            "--metrics-listen=127.0.0.1:3030",
            "METRICS_LISTEN=127.0.0.1:3030",
            "PUBLIC_LISTEN",
        ),
        (
            "--admin-listen=0.0.0.0:3031",
            "ADMIN_LISTEN=0.0.0.0:3031",
            "ADMIN_TOKEN_FILE",
        ),
        ("--voters=hive-a", "VOTERS=hive-a", "HONEYCOMB_SOURCES"),
        (
            "--honeycomb-certificates=a",
            "HONEYCOMB_CERTIFICATES=a",
            "INGEST_TLS_CLIENT_CA_FILE",
        ),
        (
            "--ingest-tls-client-ca-file=ca",
            "INGEST_TLS_CLIENT_CA_FILE=ca",
            "HONEYCOMB_CERTIFICATES",
        ),
        (
            "--honeycomb-certificates=a --ingest-tls-client-ca-file=ca",
            "INGEST_TLS_CLIENT_CA_FILE=ca",
            "INGEST_TLS_CERTIFICATE_FILE",
        ),
        (
            "--ingest-tls-certificate-file=cert",
            "INGEST_TLS_CERTIFICATE_FILE=cert",
            "INGEST_TLS_KEY_FILE",
        ),
        (
            "--ingest-tls-key-file=key",
            "INGEST_TLS_KEY_FILE=key",
            "INGEST_TLS_CERTIFICATE_FILE",
        ),
        (
            "--honeycomb-sources=a=KEY,a=KEY-2",
            "HONEYCOMB_SOURCES=a",
            "twice",
        ),
        (
            "--honeycomb-sources=a=KEY,b=KEY",
            "HONEYCOMB_SOURCES=b",
            "token of `a`",
        ),
        ("--honeycomb-sources=a=KEY --voters=a,a=2", "VOTERS=a", "once"),
    ] {
        assert_names_both(contradiction);
    }
}

#[test]
fn sync_settings_that_contradict_each_other_are_named() {
    for contradiction in [
        (
            "--sync-range-blocks-min=300",
            "SYNC_RANGE_BLOCKS_MIN=300",
            "SYNC_RANGE_BLOCKS",
        ),
        (
            "--sync-range-blocks-max=200",
            "SYNC_RANGE_BLOCKS=256",
            "SYNC_RANGE_BLOCKS_MAX",
        ),
        (
            "--sync-buffer-blocks=511",
            "SYNC_RANGE_BLOCKS_MAX=512",
            "SYNC_BUFFER_BLOCKS",
        ),
        (
            "--sync-in-flight-per-peer=9",
            "SYNC_IN_FLIGHT_PER_PEER=9",
            "SYNC_IN_FLIGHT_PER_PEER_MAX",
        ),
        (
            "--sync-in-flight-max=7",
            "SYNC_IN_FLIGHT_PER_PEER_MAX=8",
            "SYNC_IN_FLIGHT_MAX",
        ),
        (
            "--sync-backoff-max-ms=499",
            "SYNC_BACKOFF_MS=500",
            "SYNC_BACKOFF_MAX_MS",
        ),
        (
            "--sync-timeout-max-ms=1999",
            "SYNC_TIMEOUT_MIN_MS=2000",
            "SYNC_TIMEOUT_MAX_MS",
        ),
        (
            "--sync-ban-ms=43200001",
            "SYNC_BAN_MS=43200001",
            "SYNC_BAN_MAX_MS",
        ),
    ] {
        assert_names_both(contradiction);
    }
}

#[test]
fn listeners_on_any_free_port_do_not_overlap() {
    config(&[
        "--public-listen=127.0.0.1:0",
        "--ingest-listen=127.0.0.1:0",
        "--metrics-listen=127.0.0.1:0",
    ]);
    config(&["--public-listen=127.0.0.1:80", "--ingest-listen=127.0.0.2:80"]);
}

#[test]
fn everyone_configured_votes_unless_voters_are_named() {
    let sources = [
        &format!("--honeycomb-sources=a={KEY},b={KEY}-2"),
        "--peers=http://p.example:3030,http://p.example:3030/",
    ];
    let voters = |more: &[&str]| {
        let voters = config(&[&sources[..], more].concat()).network.voters;
        voters
            .iter()
            .map(|voter| (voter.name.to_string(), voter.weight.get()))
            .collect::<Vec<_>>()
    };
    let peer = "http://p.example:3030".to_owned();
    assert_eq!(
        voters(&[]),
        [("a".to_owned(), 1), ("b".to_owned(), 1), (peer.clone(), 1)]
    );
    assert_eq!(
        voters(&["--voters=http://p.example:3030=3, a, loopback=2"]),
        [(peer, 3), ("a".to_owned(), 1), ("loopback".to_owned(), 2)]
    );
}
