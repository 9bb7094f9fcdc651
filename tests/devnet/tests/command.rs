//! The command itself, small.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// The devnet with these arguments; its temporary folders are made in `temporary`.
fn devnet(temporary: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_honeygraph-devnet"));
    command
        .args(arguments)
        .env("TMPDIR", temporary)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn assert_success(output: &Output) {
    assert!(
        output.status.success(),
        "{}\n{}\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
}

/// Whether nothing is left in a folder.
fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).unwrap().next().is_none()
}

/// Where a node says in its log that it listens.
fn listeners(logs: &Path, node: u16) -> Vec<SocketAddr> {
    let log = std::fs::read_to_string(logs.join(format!("node-{node}.log"))).unwrap();
    let words = log.split_whitespace();
    words
        .filter_map(|word| word.strip_prefix("address=")?.parse().ok())
        .collect()
}

/// A child that is killed when a test fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_broken_network_heals() {
    let temporary = tempfile::tempdir().unwrap();
    let arguments = ["--nodes", "3", "--blocks", "300", "--timeout", "60"];
    let output = devnet(temporary.path(), &arguments).output().unwrap();
    assert_success(&output);
    let shown = text(&output.stdout);
    for line in [
        "== 1/6 Start 3 nodes and two honeycombs",
        // What the vectors say of their last block.
        "all have the recorded head 28,559,601 and its state QmQdL9a2bhYSnpkvXg4xkJ8NUN8MmVTRmPitjUuL9fyoxi",
        "node-2 is killed; the chain grows by 150 blocks",
        "node-2 is stopped and lost 5 ranges",
        "node-3 is killed and loses everything",
        "node-3 comes back and is missing 710 blocks",
        "node-2 is whole again",
        "node-3 is whole again",
        "3 nodes agree, and with the honeycombs; none has a gap",
        "head          28,559,901",
    ] {
        assert!(shown.contains(line), "no `{line}` in\n{shown}");
    }
    assert!(is_empty(temporary.path()));
}

#[test]
fn an_interrupted_network_leaves_nothing() {
    let temporary = tempfile::tempdir().unwrap();
    let logs = tempfile::tempdir().unwrap();
    let log_directory = logs.path().to_str().unwrap();
    let arguments = [
        "--nodes",
        "3",
        "--blocks",
        "100000",
        "--log-directory",
        log_directory,
    ];
    let mut running = Running(devnet(temporary.path(), &arguments).spawn().unwrap());
    let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("== 2/6")));
    assert!(!is_empty(temporary.path()));
    let listeners: Vec<_> = (1..=3).flat_map(|node| listeners(logs.path(), node)).collect();
    assert_eq!(listeners.len(), 12, "four of each node");
    assert!(
        listeners
            .iter()
            .all(|address| TcpStream::connect(address).is_ok())
    );

    kill_process(Pid::from_child(&running.0), Signal::INT).unwrap();
    lines.by_ref().for_each(drop);
    assert_eq!(running.0.wait().unwrap().code(), Some(130));
    assert!(
        listeners
            .iter()
            .all(|address| TcpStream::connect(address).is_err())
    );
    assert!(is_empty(temporary.path()));
}

#[test]
fn a_port_in_use_is_one_clear_line() {
    let temporary = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    // The first honeycomb's list would be there.
    let output = devnet(temporary.path(), &["--port-base", &port.to_string()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let errors = text(&output.stderr);
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert!(
        errors.starts_with(&format!(
            "devnet: port {port} cannot be used; choose another --port-base"
        )),
        "{errors}"
    );
    assert!(is_empty(temporary.path()));
}

#[test]
fn a_folder_in_use_is_refused() {
    let temporary = tempfile::tempdir().unwrap();
    let used = tempfile::tempdir().unwrap();
    std::fs::write(used.path().join("something"), "of mine").unwrap();
    let directory = used.path().to_str().unwrap();
    let output = devnet(temporary.path(), &["--directory", directory])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("is not empty"));
    assert_eq!(std::fs::read(used.path().join("something")).unwrap(), b"of mine");
}
