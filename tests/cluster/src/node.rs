//! A node: containerd with pods' networks by CNI, and a kubelet. Several of them share this machine.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;
use serde_json::json;

use crate::addresses::{self, DNS_SERVICE};
use crate::certificates::User;
use crate::control_groups;
use crate::control_plane::{ControlPlane, PATIENCE, flag};
use crate::home::Folder;
use crate::image::{Image, PAUSE};
use crate::kubectl::kubeconfig;
use crate::parts::{Part, find_program, run};
use crate::record::{Record, Resource};

/// The regions of level two, and the names of its nodes: one node each.
pub const REGIONS: [&str; 3] = ["europe", "america", "asia"];

/// The control group that all nodes are in.
const CONTROL_GROUP: &str = "honeygraph-test-cluster";

/// Where Debian and where most others have the plugins of CNI.
const CNI_FOLDERS: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];

/// The namespace of Kubernetes in containerd.
const CONTAINERD_NAMESPACE: &str = "k8s.io";

/// One node.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    name: &'static str,
    index: u8,
    folder: Folder,
}

impl Node {
    /// The nodes of the cluster in `folder`, running or not.
    pub(crate) fn all(folder: &Folder) -> Vec<Self> {
        (0..)
            .zip(REGIONS)
            .map(|(index, name)| Self {
                name,
                index,
                folder: folder.clone(),
            })
            .collect()
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Something in the node's folder.
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join("nodes").join(self.name).join(name)
    }

    pub(crate) fn subfolder(&self, name: &str) -> anyhow::Result<PathBuf> {
        self.folder
            .subfolder(PathBuf::from("nodes").join(self.name).join(name))
    }

    fn write(&self, name: &str, content: &str) -> anyhow::Result<PathBuf> {
        self.subfolder("")?;
        self.folder
            .write(PathBuf::from("nodes").join(self.name).join(name), content)
    }

    fn socket(&self) -> PathBuf {
        self.path("containerd.sock")
    }

    /// Starts containerd and waits until it answers.
    pub(crate) fn start_containerd(&self, record: &mut Record) -> anyhow::Result<()> {
        let containerd = find_program("containerd").context("containerd is not installed")?;
        let networks = self.subfolder("cni")?;
        self.write("cni/10-pods.conflist", &self.network().to_string())?;
        let plugins = cni_folder().context("the plugins of CNI are not installed")?;
        let text = |path: PathBuf| serde_json::to_string(&path.display().to_string());
        // A JSON string is a TOML string.
        let configuration = format!(
            include_str!("../manifests/containerd.toml.in"),
            root = text(self.subfolder("containerd")?)?,
            state = text(self.subfolder("run")?)?,
            socket = text(self.socket())?,
            optional = text(self.subfolder("optional")?)?,
            pause = text(PathBuf::from(PAUSE))?,
            runc = text(self.subfolder("runc")?)?,
            plugins = text(plugins)?,
            networks = text(networks)?,
        );
        let file = self.write("containerd.toml", &configuration)?;
        let name = format!("containerd-{}", self.name);
        let arguments = [flag("config", file.display())];
        let part = Part::start(&self.folder, record, &name, &containerd, arguments)?;
        part.wait(PATIENCE, || {
            self.ctr(&["version"])
                .map(drop)
                .map_err(|error| error.to_string())
        })
    }

    /// Pods are routed, not bridged: a bridge loses the replies of Services between pods of one node.
    fn network(&self) -> serde_json::Value {
        json!({
            "cniVersion": "0.4.0",
            "name": "pods",
            "plugins": [{
                "type": "ptp",
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{ "subnet": addresses::node_pods(self.index) }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                    "dataDir": self.path("cni-addresses"),
                },
            }],
        })
    }

    /// Starts the kubelet; the node is ready some time later.
    pub(crate) fn start_kubelet(
        &self,
        record: &mut Record,
        kubelet: &std::path::Path,
        control_plane: &ControlPlane<'_>,
    ) -> anyhow::Result<Part> {
        let group = format!("{CONTROL_GROUP}/{}", self.name);
        control_groups::create(&group)?;
        let user = User {
            name: &format!("system:node:{}", self.name),
            group: Some("system:nodes"),
        };
        let client = control_plane
            .authority
            .client(&format!("kubelet-{}", self.name), user)?;
        let authority = control_plane.authority.files().certificate;
        let server = kubeconfig(&control_plane.server, &authority, &client);
        let server = self.write("kubeconfig", &server)?;
        // Pods ask cluster DNS; what answers there asks nobody else.
        let resolver = self.write("resolv.conf", "")?;
        let address = addresses::node(self.index);
        let configuration = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "containerRuntimeEndpoint": format!("unix://{}", self.socket().display()),
            "address": address,
            "port": 10250,
            "healthzBindAddress": address,
            "authentication": { "anonymous": { "enabled": false }, "x509": { "clientCAFile": authority } },
            "clusterDNS": [DNS_SERVICE],
            "clusterDomain": "cluster.local",
            "resolvConf": resolver,
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": format!("/{group}"),
            "failCgroupV1": false,
            "failSwapOn": false,
            "enforceNodeAllocatable": [],
            // The disk is the developer's, and so is what lies on it.
            "evictionHard": { "memory.available": "50Mi", "nodefs.available": "1%", "nodefs.inodesFree": "1%",
                "imagefs.available": "1%" },
            "imageGCHighThresholdPercent": 100,
            // These would lie outside the cluster's folder, or in the machine's own tables.
            "podLogsDir": self.subfolder("pod-logs")?,
            "volumePluginDir": self.subfolder("volume-plugins")?,
            "makeIPTablesUtilChains": false,
        });
        let configuration = self.write("kubelet.json", &configuration.to_string())?;
        let region = self.name;
        let arguments = [
            flag("config", configuration.display()),
            flag("kubeconfig", server.display()),
            flag("root-dir", self.subfolder("kubelet")?.display()),
            flag("cert-dir", self.path("kubelet/pki").display()),
            flag("hostname-override", self.name),
            flag("node-ip", address),
            flag(
                "node-labels",
                format!("topology.kubernetes.io/region={region},topology.kubernetes.io/zone={region}-a"),
            ),
        ];
        Part::start(
            &self.folder,
            record,
            &format!("kubelet-{}", self.name),
            kubelet,
            arguments,
        )
    }

    /// Loads an image, of which there is an archive.
    pub(crate) fn load(&self, archive: &std::path::Path) -> anyhow::Result<()> {
        let archive = archive.display().to_string();
        self.ctr(&["--namespace", CONTAINERD_NAMESPACE, "images", "import", &archive])
            .map(drop)
            .with_context(|| format!("node {}", self.name))
    }

    fn ctr(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command =
            Command::new(find_program("ctr").context("ctr is not installed; it comes with containerd")?);
        command.arg("--address").arg(self.socket()).args(arguments);
        run(&mut command)
    }
}

/// Takes the control group that all nodes are in.
pub(crate) fn take_control_group(record: &mut Record) -> anyhow::Result<()> {
    record.write(&Resource::ControlGroup {
        name: CONTROL_GROUP.to_owned(),
    })?;
    control_groups::create(CONTROL_GROUP)
}

/// Loads an image into every node.
pub(crate) fn load_everywhere(folder: &Folder, image: &Image) -> anyhow::Result<()> {
    let images = folder.subfolder("images")?;
    let archive = images.join(format!("{}.tar", image.name().replace(['/', ':'], "_")));
    image.write(&archive)?;
    for node in Node::all(folder) {
        node.load(&archive)?;
    }
    std::fs::remove_file(&archive).with_context(|| archive.display().to_string())
}

/// The folder of the plugins of CNI.
pub(crate) fn cni_folder() -> Option<PathBuf> {
    CNI_FOLDERS.iter().map(PathBuf::from).find(|folder| {
        ["ptp", "host-local", "loopback"]
            .iter()
            .all(|plugin| folder.join(plugin).is_file())
    })
}
