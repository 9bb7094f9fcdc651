//! What level two takes of this machine's network, recorded before it is taken.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::addresses::{self, ALL, BRIDGE, NODE_NETWORK_BITS};
use crate::parts::run;
use crate::record::{Record, Resource};
use crate::removal::{has_rule, has_table, iptables};

/// The tables of kube-proxy in `nftables` mode.
pub(crate) const PROXY_TABLES: [(&str, &str); 2] = [("ip", "kube-proxy"), ("ip6", "kube-proxy")];

/// Kernel settings that the harness, kubelets and kube-proxy change.
const SETTINGS: [&str; 10] = [
    "net/ipv4/ip_forward",
    "net/netfilter/nf_conntrack_max",
    "net/netfilter/nf_conntrack_tcp_timeout_close_wait",
    "net/netfilter/nf_conntrack_tcp_timeout_established",
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
];

/// Gives this machine the addresses of the control plane and of `nodes` nodes, and lets it forward for pods.
pub(crate) fn prepare(record: &mut Record, nodes: u8) -> anyhow::Result<()> {
    refuse_a_taken_machine()?;
    for setting in SETTINGS {
        remember(record, &Path::new("/proc/sys").join(setting))?;
    }
    for (family, name) in PROXY_TABLES {
        record.write(&Resource::Table {
            family: family.to_owned(),
            name: name.to_owned(),
        })?;
    }
    record.write(&Resource::Device {
        name: BRIDGE.to_owned(),
    })?;
    ip(&["link", "add", BRIDGE, "type", "bridge"])?;
    let of_nodes = (0..nodes).map(addresses::node);
    for address in std::iter::once(addresses::CONTROL_PLANE).chain(of_nodes) {
        ip(&[
            "address",
            "add",
            &format!("{address}/{NODE_NETWORK_BITS}"),
            "dev",
            BRIDGE,
        ])?;
    }
    ip(&["link", "set", BRIDGE, "up"])?;
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("this machine cannot be told to forward")?;
    // Docker sets the policy of FORWARD to DROP.
    for direction in ["--source", "--destination"] {
        let rule = [direction, ALL, "--jump", "ACCEPT"].map(str::to_owned).to_vec();
        let chain = "FORWARD".to_owned();
        record.write(&Resource::Rule {
            chain: chain.clone(),
            rule: rule.clone(),
        })?;
        run(iptables("-I", &chain, &rule).arg("--wait"))?;
        anyhow::ensure!(
            has_rule(&chain, &rule),
            "iptables did not take a rule: {}",
            rule.join(" ")
        );
    }
    Ok(())
}

/// Where every kubelet listens for device plugins: its folder cannot be set.
const KUBELET_SOCKET: &str = "/var/lib/kubelet/device-plugins/kubelet.sock";

/// Another cluster on this machine, ours or not, would lose what this one gives back at its end.
fn refuse_a_taken_machine() -> anyhow::Result<()> {
    anyhow::ensure!(
        UnixStream::connect(KUBELET_SOCKET).is_err(),
        "a kubelet listens at {KUBELET_SOCKET}: this machine is a node of another cluster"
    );
    anyhow::ensure!(
        !Path::new("/sys/class/net").join(BRIDGE).exists(),
        "there is a device {BRIDGE} already: one cluster of level two fits on a machine. `cargo cluster status` shows \
         those of this user"
    );
    let routes = run(Command::new("ip").args(["-4", "route", "show", "table", "all", "root", ALL]))?;
    anyhow::ensure!(
        routes.trim().is_empty(),
        "addresses of {ALL} are in use on this machine, but the cluster needs them:\n{routes}"
    );
    for (family, name) in PROXY_TABLES {
        anyhow::ensure!(
            !has_table(family, name),
            "there is a table {family} {name} in nftables: another kube-proxy runs on this machine, or has left it"
        );
    }
    Ok(())
}

fn remember(record: &mut Record, file: &Path) -> anyhow::Result<()> {
    match fs::read_to_string(file) {
        Ok(before) => record.write(&Resource::Setting {
            file: PathBuf::from(file),
            before,
        }),
        // A kernel without it has nothing to change there.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| file.display().to_string()),
    }
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    run(Command::new("ip").args(arguments)).map(drop)
}
