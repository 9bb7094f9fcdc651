//! What a level needs of this machine.

use crate::level::Level;
use crate::node::cni_folder;
use crate::parts::find_program;
use crate::tools;

/// Programs that level two needs beside those built here.
const NODE_PROGRAMS: [&str; 9] = [
    "busybox",
    "catatonit",
    "containerd",
    "ctr",
    "ip",
    "iptables",
    "ldd",
    "nft",
    "runc",
];

/// What this machine lacks for a level, as one would tell a colleague; none if it lacks nothing.
pub fn missing(level: Level) -> Option<String> {
    let mut missing = Vec::new();
    let mut programs = Vec::new();
    let has_own = tools::assets().is_some();
    if find_program("go").is_none() && (level == Level::Two || !has_own) {
        missing.push("Go is not installed (https://go.dev/doc/install)".to_owned());
    }
    if find_program("etcd").is_none() && !has_own {
        programs.push("etcd");
    }
    if level == Level::Two {
        if !rustix::process::geteuid().is_root() {
            missing.push("it needs root".to_owned());
        }
        programs.extend(NODE_PROGRAMS.iter().filter(|name| find_program(name).is_none()));
        if cni_folder().is_none() {
            programs.push("the plugins of CNI");
        }
    }
    if !programs.is_empty() {
        missing.push(format!(
            "{} not installed (tests/cluster/install.sh installs all)",
            programs.join(", ")
        ));
    }
    (!missing.is_empty()).then(|| missing.join("; "))
}
