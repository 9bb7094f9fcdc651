//! kube-proxy: one for all nodes, which share this machine's network.

use std::path::Path;

use serde_json::json;

use crate::addresses;
use crate::certificates::User;
use crate::control_plane::{ControlPlane, PATIENCE, flag};
use crate::home::Folder;
use crate::kubectl::kubeconfig;
use crate::network::PROXY_TABLES;
use crate::parts::Part;
use crate::record::Record;
use crate::removal::has_table;

/// Starts kube-proxy as the proxy of `node` and waits until it has its table.
pub(crate) fn start(
    folder: &Folder,
    record: &mut Record,
    program: &Path,
    control_plane: &ControlPlane<'_>,
    node: &str,
) -> anyhow::Result<()> {
    let user = User {
        name: "system:kube-proxy",
        group: None,
    };
    let client = control_plane.authority.client("kube-proxy", user)?;
    let authority = control_plane.authority.files().certificate;
    let server = folder.write(
        "kube-proxy.kubeconfig",
        kubeconfig(&control_plane.server, &authority, &client),
    )?;
    let configuration = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": { "kubeconfig": server },
        "clusterCIDR": addresses::PODS,
        "hostnameOverride": node,
        "healthzBindAddress": format!("{}:10256", addresses::CONTROL_PLANE),
        "metricsBindAddress": format!("{}:10249", addresses::CONTROL_PLANE),
        // The limits of this machine stay as they are.
        "conntrack": { "maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s" },
    });
    let configuration = folder.write("kube-proxy.json", configuration.to_string())?;
    let arguments = [flag("config", configuration.display())];
    let part = Part::start(folder, record, "kube-proxy", program, arguments)?;
    part.wait(PATIENCE, || {
        let [(family, name), _] = PROXY_TABLES;
        if has_table(family, name) {
            Ok(())
        } else {
            Err(format!("nftables has no table {family} {name}"))
        }
    })
}
