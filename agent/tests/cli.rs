//! The command line as a user runs it: exit codes, one clear line, and the offline tools one after another.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use honeygraph_agent::replica::{FetchedBlock, Replica, ReplicaSettings, StartDocuments};
use honeygraph_agent::store::{Store, StoreSettings};
use honeygraph_chain::ContentId;
use honeygraph_chain::checkpoint::PreviousRoot;
use honeygraph_honeycomb::reference_chain::{ChainSettings, ReferenceChain};

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../chain/tests/data/honeycomb.json");

fn agent(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_honeygraph-agent"))
        .args(arguments)
        .env_clear()
        .output()
        .unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The one line on standard error.
fn line(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text.trim_end().to_owned()
}

/// A store with the first blocks of a chain.
fn store(directory: &Path, blocks: usize) {
    let settings = ReplicaSettings::new("spkcc");
    let mut chain = ReferenceChain::from_vectors(ChainSettings::default()).unwrap();
    std::fs::create_dir_all(directory).unwrap();
    let state = directory.join("genesis.json");
    std::fs::write(&state, chain.genesis_document()).unwrap();
    let (_, writer, _) = Store::open(directory, &StoreSettings::default()).unwrap();
    let mut replica = Replica::new(writer, settings).unwrap();
    let documents = StartDocuments {
        state_id: ContentId::of(chain.genesis_document()),
        state,
        prev_root: PreviousRoot::None,
        deltas: Vec::new(),
        anchor: None,
    };
    replica.start_from(&documents).unwrap();
    let blocks: Vec<_> = (0..blocks)
        .map(|_| FetchedBlock {
            block: chain.next_block().unwrap().block.clone(),
            timestamp_ms: 1,
        })
        .collect();
    replica.extend(&"a".parse().unwrap(), &blocks).unwrap();
}

#[test]
fn usage_errors_are_one_line_and_64() {
    for (arguments, expected) in [
        (
            &["--nonsense"][..],
            "unexpected argument '--nonsense' found; see --help",
        ),
        (&[], "requires a subcommand"),
        (&["export"], "required arguments were not provided"),
        (
            &["export", "x", "--from", "9", "--to", "8"],
            "--from=9: not allowed; allowed: up to --to=8",
        ),
        (&["export", "x", "--from=-1"], "`-1` is not a block number"),
        (
            &["run", "--network", "a b"],
            "NETWORK=a b: not allowed; allowed: ",
        ),
        (
            &["check", "--network", "a b"],
            "NETWORK=a b: not allowed; allowed: ",
        ),
        (
            &["run", "--checkpoint-delta-interval", "0"],
            "CHECKPOINT_DELTA_INTERVAL=0: not allowed",
        ),
        (
            &["import", "x", "--trusted-checkpoint", "7"],
            "TRUSTED_CHECKPOINT=7: not allowed",
        ),
        (
            &["import", "x", "--document-bytes-max", "7"],
            "DOCUMENT_BYTES_MAX=7: not allowed; allowed: 1048576 to 68719476736 bytes",
        ),
    ] {
        let output = agent(arguments);
        assert_eq!(code(&output), 64, "{arguments:?}");
        assert!(
            line(&output).contains(expected),
            "{arguments:?}: {}",
            line(&output)
        );
    }
}

#[test]
fn help_and_version_are_no_errors() {
    for arguments in [
        &["--help"][..],
        &["run", "--help"],
        &["import", "--help"],
        &["--version"],
    ] {
        let output = agent(arguments);
        assert_eq!((code(&output), output.stderr.len()), (0, 0), "{arguments:?}");
        assert!(!output.stdout.is_empty());
    }
    assert_eq!(
        out(&agent(&["--version"])),
        format!("honeygraph-agent {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn conformance_says_what_passed_and_fails_where_one_does() {
    let output = agent(&["conformance", VECTORS]);
    assert_eq!(code(&output), 0);
    assert!(out(&output).trim_end().ends_with(" passed, 0 failed"));

    let directory = tempfile::tempdir().unwrap();
    let broken = directory.path().join("broken.json");
    let mut vectors: serde_json::Value = serde_json::from_slice(&std::fs::read(VECTORS).unwrap()).unwrap();
    vectors["cids"][0]["cid"] = vectors["cids"][1]["cid"].clone();
    std::fs::write(&broken, vectors.to_string()).unwrap();
    let output = agent(&["conformance", broken.to_str().unwrap()]);
    assert_eq!(code(&output), 1);
    assert!(out(&output).contains("FAILED cids[0]") && out(&output).contains(", 1 failed"));

    let output = agent(&["conformance", "/nowhere/file.json"]);
    assert_eq!(code(&output), 1);
    assert!(line(&output).starts_with("error: /nowhere/file.json: "));
}

#[test]
fn a_store_is_checked_handed_on_damaged_and_reported() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (one, two, file) = (path("one"), path("two"), path("chain.honeygraph"));

    let output = agent(&["check", "--data-dir", &two]);
    assert_eq!(code(&output), 1);
    assert!(line(&output).contains("there is no store in "));
    assert!(!Path::new(&two).exists());

    store(Path::new(&one), 450);
    let output = agent(&["check", "--data-dir", &one, "--network", "dlux"]);
    assert_eq!(code(&output), 1);
    assert!(line(&output).contains("belongs to network `spkcc`, not `dlux`"));
    let output = agent(&["check", "--data-dir", &one]);
    assert_eq!(code(&output), 0, "{output:?}");
    assert!(out(&output).starts_with("450 blocks, ") && out(&output).trim_end().ends_with(": 0 problems"));

    let export = ["export", &file, "--data-dir", &one];
    assert_eq!(code(&agent(&export)), 0);
    let output = agent(&export);
    assert_eq!(code(&output), 1);
    assert!(line(&output).ends_with("exists; choose another name or use --force"));
    assert_eq!(code(&agent(&[&export[..], &["--force"]].concat())), 0);

    // An environment that the node is given as well: what may be unset may be empty.
    let output = Command::new(env!("CARGO_BIN_EXE_honeygraph-agent"))
        .args(["import", &file, "--data-dir", &two])
        .env_clear()
        .env("TRUSTED_CHECKPOINT", "")
        .output()
        .unwrap();
    assert_eq!(code(&output), 0, "{output:?}");
    assert!(out(&output).contains("450 new blocks"), "{}", out(&output));
    assert_eq!(code(&agent(&["check", "--data-dir", &two])), 0);

    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let output = agent(&["import", &file, "--data-dir", &path("three")]);
    assert_eq!(code(&output), 1);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.lines().last().unwrap().contains("Nothing was taken"),
        "{text}"
    );

    // A flipped byte in the journal: a report or an error, never a panic.
    let mut folders = vec![Path::new(&two).join("log")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap().path();
            if entry.is_dir() {
                folders.push(entry);
            } else {
                files.push(entry);
            }
        }
    }
    let journal = files
        .iter()
        .find(|file| file.extension().is_some_and(|extension| extension == "jnl"))
        .unwrap();
    let mut bytes = std::fs::read(journal).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[used / 2] ^= 1;
    std::fs::write(journal, bytes).unwrap();
    let output = agent(&["check", "--data-dir", &two]);
    assert_eq!(code(&output), 1, "{output:?}");
    assert!(
        !String::from_utf8_lossy(&output.stderr).contains("panicked"),
        "{output:?}"
    );
}

/// A program whose standard error takes no line.
fn with_full_standard_error(arguments: &[&str]) -> Command {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_honeygraph-agent"));
    command
        .args(arguments)
        .env_clear()
        .stdout(Stdio::null())
        .stderr(full);
    command
}

/// A program on a machine without certificate authorities.
fn without_authorities(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_honeygraph-agent"));
    command
        .args(arguments)
        .env_clear()
        .envs([("SSL_CERT_FILE", "/dev/null"), ("SSL_CERT_DIR", "/nowhere")])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_standard_error_stops_nothing() {
    let status = with_full_standard_error(&["conformance", "/nowhere/file.json"]).status();
    assert_eq!(status.unwrap().code(), Some(1));

    // A node writes lines while it starts.
    starts_and_answers(with_full_standard_error);
}

#[test]
#[cfg(target_os = "linux")]
fn a_node_needs_no_certificate_authorities() {
    starts_and_answers(without_authorities);
}

/// A node that has nothing yet says so, and stays.
fn starts_and_answers(program: impl Fn(&[&str]) -> Command) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let metrics = free.local_addr().unwrap().to_string();
    drop(free);
    let any = "127.0.0.1:0";
    let mut node = program(&[
        "run",
        "--data-dir",
        path,
        "--log",
        "debug",
        "--public-listen",
        any,
        "--ingest-listen",
        any,
        "--admin-listen",
        any,
        "--metrics-listen",
        &metrics,
    ])
    .spawn()
    .unwrap();
    let give_up = Instant::now() + Duration::from_secs(30);
    let answers = loop {
        if TcpStream::connect(&metrics).is_ok() {
            break true;
        }
        if node.try_wait().unwrap().is_some() || Instant::now() > give_up {
            break false;
        }
        std::thread::yield_now();
    };
    // One that panicked would be gone or without a part of it.
    let alive = agent(&["health", "--metrics-listen", &metrics]);
    node.kill().unwrap();
    node.wait().unwrap();
    assert!(answers);
    assert!(line(&alive).contains("/readyz answers 503"), "{alive:?}");
}

#[test]
fn a_genesis_document_that_is_not_there_or_another_is_refused_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (data, missing, file) = (path("data"), path("missing.json"), path("genesis.json"));
    std::fs::write(&file, "{}").unwrap();
    let other = ContentId::of(b"other").to_string();
    let run = |genesis: &[&str]| {
        let output = agent(&[&["run", "--data-dir", &data], genesis].concat());
        assert_eq!(code(&output), 64, "{output:?}");
        line(&output)
    };
    let text = run(&["--genesis-file", &missing]);
    assert!(text.starts_with(&format!("GENESIS_FILE={missing}: ")), "{text}");
    let text = run(&["--genesis-file", directory.path().to_str().unwrap()]);
    assert!(text.starts_with("GENESIS_FILE="), "{text}");
    let text = run(&["--genesis-file", &file, "--genesis-id", &other]);
    assert!(
        text.starts_with(&format!("GENESIS_ID={other}: "))
            && text.contains(&ContentId::of(b"{}").to_string()),
        "{text}"
    );
    assert!(!Path::new(&data).exists());

    // A store that was started already needs it no more: it has to be there, and is not read.
    store(Path::new(&data), 0);
    let text = run(&["--genesis-file", &missing]);
    assert!(text.starts_with(&format!("GENESIS_FILE={missing}: ")), "{text}");
    let text = run(&["--genesis-file", directory.path().to_str().unwrap()]);
    assert!(text.starts_with("GENESIS_FILE="), "{text}");
    let genesis = ["--genesis-file", &file, "--genesis-id", &other];
    let mut run = vec!["run", "--data-dir", &data, "--network", "other"];
    for listener in ["public", "ingest", "admin", "metrics"].map(|name| format!("--{name}-listen")) {
        run.extend([String::leak(listener), "127.0.0.1:0"]);
    }
    let output = agent(&[&run[..], &genesis].concat());
    assert_eq!(code(&output), 1, "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("belongs to network `spkcc`"), "{text}");
}
