//! What the value of one setting may be.

use super::*;

#[test]
fn values_out_of_range_or_of_the_wrong_kind_are_named() {
    for (flag, expected) in [
        ("--sync-interval=soon", "SYNC_INTERVAL=soon: "),
        ("--sync-interval=-1", "SYNC_INTERVAL=-1: "),
        ("--max-reorg-depth=0", "MAX_REORG_DEPTH=0: "),
        (
            "--max-reorg-depth=99999999999999999999",
            "MAX_REORG_DEPTH=99999999999999999999: ",
        ),
        ("--honeycomb-sources=a", "HONEYCOMB_SOURCES: "),
        ("--sync-hedge-percent=101", "SYNC_HEDGE_PERCENT=101: "),
        ("--public-listen=localhost", "PUBLIC_LISTEN=localhost: "),
        (
            "--peers=http://a.example,ftp://b.example",
            "PEERS=http://a.example,ftp://b.example: ",
        ),
        ("--peers=http://user:pw@a.example", "PEERS="),
        (&format!("--peers=http://a.example/{}", "a".repeat(512)), "PEERS="),
        ("--advertise-url=a.example", "ADVERTISE_URL=a.example: "),
        (
            "--verification=maybe",
            "VERIFICATION=maybe: not allowed; allowed: strict, quorum",
        ),
        ("--log=verbose=loud", "LOG=verbose=loud: "),
        ("--network=spk cc", "NETWORK=spk cc: "),
        ("--genesis-id=Qm", "GENESIS_ID=Qm: "),
        ("--trusted-checkpoint=101", "TRUSTED_CHECKPOINT=101: "),
        ("--voters=a=0", "VOTERS=a=0: "),
        (
            "--trusted-proxies=10.0.0.0/8,proxy",
            "TRUSTED_PROXIES=10.0.0.0/8,proxy: ",
        ),
        ("--honeycomb-certificates=a b", "HONEYCOMB_CERTIFICATES=a b: "),
        (
            "--honeycomb-certificates=loopback",
            "HONEYCOMB_CERTIFICATES=loopback: ",
        ),
        ("--sync-enabled=perhaps", "SYNC_ENABLED=perhaps: "),
        ("--sync-timeout-min-ms=0", "SYNC_TIMEOUT_MIN_MS=0: "),
        ("--sync-timeout-max-ms=2s", "SYNC_TIMEOUT_MAX_MS=2s: "),
        (
            "--sync-timeout-bytes-per-second=0",
            "SYNC_TIMEOUT_BYTES_PER_SECOND=0: ",
        ),
        ("--sync-circuit-faults=0", "SYNC_CIRCUIT_FAULTS=0: "),
        ("--sync-circuit-open-ms=-1", "SYNC_CIRCUIT_OPEN_MS=-1: "),
        ("--sync-ban-ms=0", "SYNC_BAN_MS=0: "),
        ("--sync-ban-max-ms=99999999999", "SYNC_BAN_MAX_MS=99999999999: "),
    ] {
        let line = line(&[flag]);
        assert!(line.starts_with(expected), "{line}");
    }
    assert!(line(&["--peers=http://a.example,b"]).ends_with("(entry 2 is not)"));
}

#[test]
fn a_long_value_is_cut_and_control_characters_are_escaped() {
    let line = line(&[&format!("--network=a\n{}", "x".repeat(1_000))]);
    assert!(
        line.len() < 300 && line.contains("a\\nxxx") && line.contains("..."),
        "{line}"
    );
}

#[test]
fn empty_means_unset_where_unset_is_possible() {
    for argument in command()
        .get_arguments()
        .filter(|argument| argument.is_hide_default_value_set())
    {
        parse(&[&format!("--{}=", argument.get_long().unwrap())]).unwrap();
    }
    assert_eq!(
        line(&["--sync-interval="]),
        "SYNC_INTERVAL=: not allowed; allowed: 100 to 86400000 milliseconds"
    );
}

#[test]
fn switches_need_no_value() {
    let config = config(&["--init-chain", "--genesis-file=g.json", "--sync-enabled=off"]);
    assert_eq!(
        config.network.start,
        Start::NewChain {
            genesis_file: "g.json".into()
        }
    );
    assert!(!config.sync.enabled);
}

#[test]
fn how_peers_are_treated_can_be_set() {
    let sync = config(&[
        "--sync-timeout-min-ms=3000",
        "--sync-timeout-max-ms=90000",
        "--sync-timeout-bytes-per-second=20000",
        "--sync-circuit-faults=2",
        "--sync-circuit-open-ms=7000",
        "--sync-ban-ms=60000",
        "--sync-ban-max-ms=2592000000",
    ])
    .sync;
    let seconds = std::time::Duration::from_secs;
    assert_eq!(
        (sync.timeout.shortest, sync.timeout.longest),
        (seconds(3), seconds(90))
    );
    assert_eq!(sync.timeout.slowest_bytes_per_second, 20_000);
    assert_eq!(
        (sync.circuit.opens_after_faults, sync.circuit.open_for),
        (2, seconds(7))
    );
    assert_eq!(
        (sync.ban.first, sync.ban.longest),
        (seconds(60), BanSettings::LIMIT)
    );
}

#[test]
fn no_secret_is_ever_shown() {
    let flags = [
        format!("--api-key={KEY}"),
        format!("--admin-token={KEY}"),
        format!("--honeycomb-sources=a={KEY}"),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    assert!(!format!("{:?}", parse(&flags).unwrap()).contains(KEY));
    assert!(!format!("{:?}", config(&flags)).contains(KEY));
    for flag in [
        "--api-key=hunter2",
        "--admin-token=hunter2",
        "--honeycomb-sources=a=hunter2",
    ] {
        let line = line(&[flag]);
        assert!(!line.contains("hunter2") && line.contains("16 to 512"), "{line}");
    }
}

#[test]
fn wrong_use_of_flags_is_one_line() {
    assert_eq!(
        line(&["--sync-intervall=1"]),
        "unexpected argument '--sync-intervall' found; see --help"
    );
    let twice = line(&["--sync-interval=1000", "--sync-interval=1000"]);
    assert_eq!(twice, "SYNC_INTERVAL: given twice");
    assert_eq!(line(&["--sync-interval"]), "SYNC_INTERVAL=: a value is missing");
}

#[test]
fn every_setting_refuses_a_bad_value_in_one_line_that_names_it() {
    for argument in command().get_arguments() {
        let variable = argument.get_env().unwrap().to_str().unwrap();
        let line = line(&[&format!("--{}=\u{1}", argument.get_long().unwrap())]);
        assert!(line.starts_with(variable), "{line}");
        assert!(line.contains("allowed: "), "{line}");
        assert!(!line.contains('\n') && !line.contains('\u{1}'), "{line}");
        let separator = if argument.is_hide_env_values_set() {
            ": "
        } else {
            "="
        };
        assert!(line[variable.len()..].starts_with(separator), "{line}");
    }
}
