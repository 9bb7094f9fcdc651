use std::io;
use std::path::Path;

use clap::FromArgMatches as _;
use honeygraph_chain::peer::BanSettings;
use honeygraph_chain::planner::PlannerSettings;
use secrecy::ExposeSecret as _;

use super::*;
use crate::ingest::SourceId;

const KEY: &str = "correct-horse-battery-staple";

/// Parses flags alone: what the environment of the test run holds does not matter.
fn parse(flags: &[&str]) -> Result<RawConfig, clap::Error> {
    let command = command().mut_args(|argument| argument.env(None::<&'static str>));
    RawConfig::from_arg_matches(&command.try_get_matches_from(flags)?)
}

fn no_files(_: &Path) -> io::Result<String> {
    Err(io::Error::from(io::ErrorKind::NotFound))
}

fn config(flags: &[&str]) -> Config {
    validate(parse(flags).unwrap(), &no_files).unwrap()
}

/// The line for flags that are wrong, by themselves or together.
fn line(flags: &[&str]) -> String {
    line_with(flags, &no_files)
}

fn line_with(flags: &[&str], read: &dyn Fn(&Path) -> io::Result<String>) -> String {
    match parse(flags) {
        Ok(raw) => validate(raw, read).unwrap_err().to_string(),
        Err(error) => usage_line(&error, &command()),
    }
}

#[test]
fn every_setting_is_a_flag_and_a_variable_of_one_name() {
    let command = command();
    for argument in command.get_arguments() {
        let flag = argument.get_long().unwrap();
        let variable = argument.get_env().unwrap().to_str().unwrap();
        assert_eq!(flag.replace('-', "_").to_uppercase(), variable);
        assert!(argument.get_help_heading().is_some(), "{variable}");
        assert!(argument.get_help().is_some(), "{variable}");
        assert_eq!(argument.get_default_values().len(), 1, "{variable}");
    }
    assert!(command.get_arguments().count() > 60);
}

#[test]
fn numbers_carry_their_unit_where_people_read_them() {
    for argument in command().get_arguments() {
        let name = argument.get_env().unwrap().to_str().unwrap();
        let unit = argument.get_value_names().unwrap()[0].as_str();
        // The two names that users know from before carry none; their value name and help do.
        let expected = match unit {
            "MILLISECONDS" if name != "SYNC_INTERVAL" => name.ends_with("_MS"),
            "BYTES" => name.contains("_BYTES"),
            "PERCENT" => name.ends_with("_PERCENT"),
            _ => true,
        };
        assert!(expected, "{name} {unit}");
    }
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

#[test]
fn the_defaults_are_a_valid_configuration() {
    let config = config(&[]);
    assert!(config.sync.enabled);
    assert_eq!(config.sync.interval.as_millis(), 30_000);
    assert_eq!(config.network.name.as_str(), "spkcc");
    assert_eq!(
        config.network.schedule,
        honeygraph_chain::network::CheckpointSchedule::default()
    );
    assert_eq!(config.network.start, Start::Join);
    assert_eq!(config.network.max_reorg_depth, 1_000);
    assert_eq!(config.node.history, History::All);
    assert_eq!(config.node.state_documents.get(), 7);
    assert_eq!(config.network.voters.len(), 1);
    assert_eq!(
        config.network.voters[0].name,
        VoterName::Source(SourceId::loopback())
    );
    assert!(config.access.api_keys.is_empty());
}

#[test]
fn the_defaults_are_those_of_the_planner() {
    let (config, planner) = (config(&[]).sync, PlannerSettings::default());
    assert_eq!(
        (config.timeout, config.circuit, config.ban),
        (planner.timeout, planner.circuit, planner.ban)
    );
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
        ("--honeycomb-sources=a=KEY,a=KEY", "HONEYCOMB_SOURCES=a", "twice"),
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

/// The line for some flags starts with one setting and its value, and names what it contradicts.
fn assert_names_both((flags, setting, other): (&str, &str, &str)) {
    let flags = flags.replace("KEY", KEY);
    let line = line(&flags.split(' ').collect::<Vec<_>>());
    assert!(
        line.starts_with(setting) && line.contains(other),
        "{flags}: {line}"
    );
    assert!(!line.contains('\n'), "{line}");
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
        &format!("--honeycomb-sources=a={KEY},b={KEY}"),
        "--peers=http://p.example:3030,http://p.example:3030/",
    ];
    let voters = |more: &[&str]| {
        let voters = config(&[&sources[..], more].concat()).network.voters;
        voters
            .iter()
            .map(|voter| (voter.name.to_string(), voter.weight.get()))
            .collect::<Vec<_>>()
    };
    let peer = "http://p.example:3030/".to_owned();
    assert_eq!(
        voters(&[]),
        [("a".to_owned(), 1), ("b".to_owned(), 1), (peer.clone(), 1)]
    );
    assert_eq!(
        voters(&["--voters=http://p.example:3030=3, a, loopback=2"]),
        [(peer, 3), ("a".to_owned(), 1), ("loopback".to_owned(), 2)]
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
fn files_add_to_flags_and_skip_comments() {
    let read = |path: &Path| -> io::Result<String> {
        Ok(match path.to_str().unwrap() {
            "keys" => format!("# ours\n{KEY}-1\n\n  {KEY}-2\r\n"),
            "sources" => format!("b={KEY}\n"),
            _ => format!("{KEY}\n"),
        })
    };
    let flags = [
        "--api-keys-file=keys",
        &format!("--api-key={KEY}"),
        &format!("--honeycomb-sources=a={KEY}"),
        "--honeycomb-sources-file=sources",
        "--admin-token-file=token",
        "--admin-listen=0.0.0.0:3031",
    ];
    let config = validate(parse(&flags).unwrap(), &read).unwrap();
    assert_eq!(config.access.api_keys.len(), 3);
    assert!(config.access.api_keys[2].matches(format!("{KEY}-2").as_bytes()));
    assert!(config.access.admin_token.unwrap().matches(KEY.as_bytes()));
    assert_eq!(config.sources.honeycombs.len(), 2);
    assert!(config.sources.honeycombs[1].token.matches(KEY.as_bytes()));
}

#[test]
fn files_that_do_not_serve_are_named_without_their_content() {
    assert!(line(&["--api-keys-file=gone"]).starts_with("API_KEYS_FILE=gone: the file cannot be read: "));
    let weak = |_: &Path| Ok(format!("{KEY}\nhunter2\n"));
    let line = line_with(&["--api-keys-file=keys"], &weak);
    assert!(
        line.starts_with("API_KEYS_FILE=keys: line 2 ") && !line.contains("hunter2"),
        "{line}"
    );
    let empty = |_: &Path| Ok("# none\n".to_owned());
    for variable in ["API_KEYS_FILE", "ADMIN_TOKEN_FILE"] {
        let flag = format!("--{}=file", variable.replace('_', "-").to_lowercase());
        assert!(line_with(&[&flag], &empty).starts_with(variable));
    }
    let one = |_: &Path| Ok(KEY.to_owned());
    let two = line_with(
        &["--admin-token-file=file", &format!("--admin-token={KEY}")],
        &one,
    );
    assert!(
        two.starts_with("ADMIN_TOKEN_FILE=file: ") && !two.contains(KEY),
        "{two}"
    );
}

const TLS_FLAGS: [&str; 4] = [
    "--ingest-tls-certificate-file=certificate",
    "--ingest-tls-key-file=key",
    "--ingest-tls-client-ca-file=authorities",
    "--honeycomb-certificates=b,a,b",
];

#[test]
fn tls_files_are_read_and_certified_sources_vote() {
    let ours = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let read = |path: &Path| {
        Ok(match path.to_str().unwrap() {
            "key" => ours.signing_key.serialize_pem(),
            _ => ours.cert.pem(),
        })
    };
    let tokens = format!("--honeycomb-sources=b={KEY}");
    let flags = [&TLS_FLAGS[..], &[&tokens]].concat();
    let config = validate(parse(&flags).unwrap(), &read).unwrap();
    assert!(config.access.ingest_tls.is_some());
    let names = |names: &[SourceId]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names(&config.sources.certified), ["b", "a"]);
    let voters = config.network.voters.iter().map(|voter| voter.name.to_string());
    assert_eq!(voters.collect::<Vec<_>>(), ["a", "b"]);
    let without_authorities = validate(parse(&TLS_FLAGS[..2]).unwrap(), &read).unwrap();
    assert!(without_authorities.access.ingest_tls.is_some());
}

#[test]
fn tls_files_that_do_not_serve_are_named_without_their_content() {
    let ours = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (ours.cert.pem(), ours.signing_key.serialize_pem());
    let other_key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let broken = certificate.replace("MII", "AII");
    for (bad, content, expected) in [
        (
            "certificate",
            key.as_str(),
            "INGEST_TLS_CERTIFICATE_FILE=certificate: holds no",
        ),
        (
            "certificate",
            broken.as_str(),
            "INGEST_TLS_CERTIFICATE_FILE=certificate: ",
        ),
        (
            "certificate",
            "hunter2",
            "INGEST_TLS_CERTIFICATE_FILE=certificate: holds no",
        ),
        ("key", certificate.as_str(), "INGEST_TLS_KEY_FILE=key: holds no"),
        (
            "key",
            other_key.as_str(),
            "INGEST_TLS_KEY_FILE=key: is not the key of",
        ),
        (
            "authorities",
            "",
            "INGEST_TLS_CLIENT_CA_FILE=authorities: holds no",
        ),
        (
            "authorities",
            broken.as_str(),
            "INGEST_TLS_CLIENT_CA_FILE=authorities: ",
        ),
    ] {
        let read = |path: &Path| {
            Ok(match path.to_str().unwrap() {
                name if name == bad => content.to_owned(),
                "key" => key.clone(),
                _ => certificate.clone(),
            })
        };
        let line = line_with(&TLS_FLAGS, &read);
        assert!(line.starts_with(expected), "{bad}: {line}");
        assert!(!line.contains('\n') && !line.contains("hunter2"), "{line}");
    }
    let line = line_with(&TLS_FLAGS, &no_files);
    assert!(
        line.contains("_FILE=") && line.contains(": the file cannot be read: "),
        "{line}"
    );
}

#[test]
fn a_file_beyond_its_cap_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "x".repeat(1 << 20)).unwrap();
    assert_eq!(read_small_file(file.path()).unwrap().len(), 1 << 20);
    std::fs::write(file.path(), "x".repeat((1 << 20) + 1)).unwrap();
    assert!(read_small_file(file.path()).is_err());
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
fn the_documentation_lists_the_settings() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let page = markdown();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == page,
        "docs/configuration.md differs from the settings; run `UPDATE_DOCS=1 cargo test -p honeygraph-agent config`"
    );
}

#[test]
fn without_a_dgraph_the_node_is_embedded() {
    assert!(config(&[]).dgraph.is_none());
    assert!(config(&["--dgraph-mode=embedded"]).dgraph.is_none());
    assert!(config(&["--dgraph-mode=", "--dgraph-alpha="]).dgraph.is_none());
}

#[test]
fn a_dgraph_is_named_by_its_alphas() {
    let dgraph = config(&["--dgraph-alpha=alpha-1:9080, http://alpha-2,https://[::1]:9081,alpha-1:9080"])
        .dgraph
        .unwrap();
    let endpoints: Vec<String> = dgraph.client.endpoints.iter().map(ToString::to_string).collect();
    assert_eq!(
        endpoints,
        ["http://alpha-1:9080", "http://alpha-2:9080", "https://[::1]:9081"]
    );
    assert_eq!(dgraph.mode, DgraphMode::Independent);
    assert_eq!(dgraph.step_blocks.get(), 500);
    assert_eq!(dgraph.query, None);
    for mode in [DgraphMode::Independent, DgraphMode::Shared, DgraphMode::Hybrid] {
        let flags = [&format!("--dgraph-mode={mode}"), "--dgraph-alpha=alpha"];
        assert_eq!(config(&flags).dgraph.unwrap().mode, mode);
    }
}

#[test]
fn dgraph_settings_that_contradict_each_other_are_named() {
    let alpha = "--dgraph-alpha=alpha:9080";
    let key = format!("--api-key={KEY}");
    for (flags, setting, other) in [
        (
            &["--dgraph-mode=shared"][..],
            "DGRAPH_MODE=shared",
            "DGRAPH_ALPHA",
        ),
        (
            &["--dgraph-mode=embedded", alpha],
            "DGRAPH_MODE=embedded",
            "DGRAPH_ALPHA",
        ),
        (&["--dgraph-user=groot"], "DGRAPH_USER=groot", "DGRAPH_ALPHA"),
        (
            &["--dgraph-password-file=p"],
            "DGRAPH_PASSWORD_FILE=p",
            "DGRAPH_ALPHA",
        ),
        (&["--dgraph-namespace=0"], "DGRAPH_NAMESPACE=0", "DGRAPH_ALPHA"),
        (
            &["--dgraph-auth-token-file=t"],
            "DGRAPH_AUTH_TOKEN_FILE=t",
            "DGRAPH_ALPHA",
        ),
        (&["--dgraph-ca-file=c"], "DGRAPH_CA_FILE=c", "DGRAPH_ALPHA"),
        (
            &["--dgraph-certificate-file=c"],
            "DGRAPH_CERTIFICATE_FILE=c",
            "DGRAPH_ALPHA",
        ),
        (&["--dgraph-key-file=k"], "DGRAPH_KEY_FILE=k", "DGRAPH_ALPHA"),
        (
            &["--dgraph-query=read-only", &key],
            "DGRAPH_QUERY=read-only",
            "DGRAPH_ALPHA",
        ),
        (
            &[alpha, "--dgraph-user=groot"],
            "DGRAPH_USER=groot",
            "DGRAPH_PASSWORD_FILE",
        ),
        (
            &[alpha, "--dgraph-password-file=p"],
            "DGRAPH_PASSWORD_FILE=p",
            "DGRAPH_USER",
        ),
        (
            &[alpha, "--dgraph-namespace=3"],
            "DGRAPH_NAMESPACE=3",
            "DGRAPH_USER",
        ),
        (&[alpha, "--dgraph-ca-file=c"], "DGRAPH_CA_FILE=c", "https://"),
        (
            &[alpha, "--dgraph-certificate-file=c"],
            "DGRAPH_CERTIFICATE_FILE=c",
            "https://",
        ),
        (&[alpha, "--dgraph-key-file=k"], "DGRAPH_KEY_FILE=k", "https://"),
        (
            &["--dgraph-alpha=https://alpha", "--dgraph-certificate-file=c"],
            "DGRAPH_CERTIFICATE_FILE=c",
            "DGRAPH_KEY_FILE",
        ),
        (
            &["--dgraph-alpha=https://alpha", "--dgraph-key-file=k"],
            "DGRAPH_KEY_FILE=k",
            "DGRAPH_CERTIFICATE_FILE",
        ),
        (
            &[alpha, "--dgraph-query=read-only"],
            "DGRAPH_QUERY=read-only",
            "API_KEYS_FILE",
        ),
        (
            &[
                alpha,
                &key,
                "--dgraph-query=read-only",
                "--limit-request-timeout-ms=4000",
            ],
            "DGRAPH_QUERY_TIMEOUT_MS=5000",
            "LIMIT_REQUEST_TIMEOUT_MS",
        ),
    ] {
        assert_names_both((&flags.join(" "), setting, other));
    }
}

#[test]
fn what_dql_questions_may_cost_can_be_set() {
    let dgraph = config(&[
        "--dgraph-alpha=alpha",
        &format!("--api-key={KEY}"),
        "--dgraph-query=read-only",
        "--dgraph-query-body-bytes=2000",
        "--dgraph-query-answer-bytes=3000",
        "--dgraph-query-timeout-ms=700",
        "--dgraph-query-concurrent=2",
    ])
    .dgraph
    .unwrap();
    let limits = dgraph.query.unwrap();
    assert_eq!(
        (limits.body_bytes, limits.answer_bytes, limits.concurrent),
        (2_000, 3_000, 2)
    );
    assert_eq!(limits.timeout.as_millis(), 700);
}

#[test]
fn secrets_of_dgraph_are_read_from_files() {
    let signed = rcgen::generate_simple_self_signed(["alpha".to_owned()]).unwrap();
    let (certificate, key) = (signed.cert.pem(), signed.signing_key.serialize_pem());
    let files = |path: &Path| {
        Ok(match path.to_str().unwrap() {
            "password" => "correct horse\n".to_owned(),
            "token" => "correct-horse-token\r\n".to_owned(),
            "ca" | "certificate" => certificate.clone(),
            "key" => key.clone(),
            "empty" => "\n".to_owned(),
            "two" => "hunter2\nhunter3\n".to_owned(),
            "unsendable" => "hunter2\u{e9}\u{1}".to_owned(),
            other => panic!("{other}"),
        })
    };
    let flags = [
        "--dgraph-alpha=https://alpha",
        "--dgraph-user=groot",
        "--dgraph-password-file=password",
        "--dgraph-namespace=3",
        "--dgraph-auth-token-file=token",
        "--dgraph-ca-file=ca",
        "--dgraph-certificate-file=certificate",
        "--dgraph-key-file=key",
    ];
    let config = validate(parse(&flags).unwrap(), &files).unwrap();
    assert!(!format!("{config:?}").contains("correct"), "{config:?}");
    let client = config.dgraph.unwrap().client;
    let login = client.login.unwrap();
    assert_eq!((login.user.as_str(), login.namespace), ("groot", 3));
    assert_eq!(login.password.expose_secret(), "correct horse");
    assert_eq!(client.auth_token.unwrap().expose_secret(), "correct-horse-token");
    assert_eq!(client.tls.ca_pem.unwrap(), certificate.as_bytes());
    let identity = client.tls.identity.unwrap();
    assert_eq!(identity.certificate_pem, certificate.as_bytes());
    assert_eq!(identity.key_pem.expose_secret(), key.as_bytes());

    for (place, file) in [
        (2, "empty"),
        (2, "two"),
        (4, "empty"),
        (4, "two"),
        (4, "unsendable"),
        (5, "key"),
        (5, "empty"),
        (6, "password"),
        (7, "certificate"),
    ] {
        let mut flags = flags;
        let (name, _) = flags[place].split_once('=').unwrap();
        let flag = format!("{name}={file}");
        flags[place] = &flag;
        let line = line_with(&flags, &files);
        let variable = name.trim_start_matches('-').replace('-', "_").to_uppercase();
        assert!(line.starts_with(&format!("{variable}={file}: ")), "{line}");
        assert!(!line.contains("hunter") && !line.contains('\n'), "{line}");
    }
}

#[test]
fn credentials_in_the_address_of_an_alpha_are_not_repeated() {
    for alpha in [
        "groot:hunter2@alpha:9080",
        "https://groot:hunter2@alpha",
        "alpha,x:hunter2@a",
    ] {
        let line = line(&[&format!("--dgraph-alpha={alpha}")]);
        assert!(
            line.starts_with("DGRAPH_ALPHA: ") && !line.contains("hunter"),
            "{line}"
        );
    }
}
