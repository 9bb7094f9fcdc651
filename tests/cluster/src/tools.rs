//! The upstream programs: built from Go modules that `tools/` pins, once for every set of pins.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::Context;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::home;
use crate::parts::{find_program, run, search_path};

/// Names a folder of programs as kubebuilder's envtest unpacks them: etcd, kube-apiserver, kubectl.
pub const ASSETS_VARIABLE: &str = "KUBEBUILDER_ASSETS";

/// What else decides what is built: changed when the commands in this file change.
const RECIPE: &str = "1";

/// Programs that are pinned and built together, in a folder of `tools/` each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ToolSet {
    /// kube-apiserver, kube-controller-manager, kube-scheduler, kubelet, kube-proxy, kubectl.
    Kubernetes,
    /// Cluster DNS.
    Coredns,
    /// The package manager that installs the chart.
    Helm,
    /// Checks manifests against the schemas of Kubernetes.
    Kubeconform,
    /// Kubernetes in Docker; its own loader checks `kind-config.yaml`.
    Kind,
}

/// The parts of `go mod edit -json` that are read here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GoModule {
    tool: Vec<GoTool>,
    require: Vec<GoRequirement>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GoTool {
    path: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GoRequirement {
    path: String,
    version: String,
}

impl GoTool {
    /// The program's name: the last part of its package's path.
    fn program(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}

impl ToolSet {
    fn name(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Coredns => "coredns",
            Self::Helm => "helm",
            Self::Kubeconform => "kubeconform",
            Self::Kind => "kind",
        }
    }

    /// The folder of its `go.mod`.
    pub(crate) fn source(self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tools")
            .join(self.name())
    }

    /// Options of the linker: a program says which version it is where the linker was told.
    fn linker_options(self, module: &GoModule) -> String {
        let version = |path: &str| {
            let found = module.require.iter().find(|required| required.path == path);
            found.map_or("", |required| required.version.as_str())
        };
        match self {
            Self::Kubernetes => {
                let version = version("k8s.io/kubernetes");
                let mut numbers = version.trim_start_matches('v').split('.');
                let (major, minor) = (
                    numbers.next().unwrap_or_default(),
                    numbers.next().unwrap_or_default(),
                );
                let package = "k8s.io/component-base/version";
                format!(
                    "-s -w -X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
                )
            }
            Self::Helm => format!(
                "-s -w -X helm.sh/helm/v4/internal/version.version={}",
                version("helm.sh/helm/v4")
            ),
            Self::Coredns | Self::Kubeconform | Self::Kind => "-s -w".to_owned(),
        }
    }

    /// Builds what is not yet built and returns the folder of its programs. Says on standard error what it builds.
    pub fn build(self) -> anyhow::Result<PathBuf> {
        let source = self.source();
        let go = find_program("go").context("Go is not installed: https://go.dev/doc/install")?;
        let target = home::built_tools()?.join(format!("{}-{}", self.name(), key(&go, &source)?));
        fs::create_dir_all(&target).with_context(|| target.display().to_string())?;
        // Two tests at once build once. The lock goes with the file.
        let lock = File::create(target.join(".lock")).with_context(|| target.display().to_string())?;
        lock.lock().with_context(|| target.display().to_string())?;

        let description = run(Command::new(&go)
            .args(["mod", "edit", "-json"])
            .current_dir(&source))?;
        let module: GoModule =
            serde_json::from_str(&description).context("`go mod edit -json` is not understood")?;
        for tool in &module.tool {
            let program = target.join(tool.program());
            if !program.exists() {
                build(&go, &source, &tool.path, &self.linker_options(&module), &program)?;
            }
        }
        Ok(target)
    }
}

/// Builds one program; it has its name only when it is whole.
fn build(
    go: &Path,
    source: &Path,
    package: &str,
    linker_options: &str,
    program: &Path,
) -> anyhow::Result<()> {
    let began = Instant::now();
    eprint!("building {package} ...");
    let partial = program.with_extension("partial");
    let output = Command::new(go)
        .args([
            "build",
            "-trimpath",
            "-buildvcs=false",
            "-ldflags",
            linker_options,
            "-o",
        ])
        .arg(&partial)
        .arg(package)
        .current_dir(source)
        .env("CGO_ENABLED", "0")
        .env("GOWORK", "off")
        .env("PATH", search_path())
        .stdin(Stdio::null())
        .output()
        .context("go cannot be started")?;
    if !output.status.success() {
        eprintln!(" failed");
        anyhow::bail!(
            "{package} cannot be built:\n{}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    fs::rename(&partial, program).with_context(|| program.display().to_string())?;
    eprintln!(" {} s", began.elapsed().as_secs());
    Ok(())
}

/// Another key for other pins, another compiler or another recipe.
fn key(go: &Path, source: &Path) -> anyhow::Result<String> {
    let mut hash = Sha256::new();
    hash.update(RECIPE);
    hash.update(run(Command::new(go).arg("version").current_dir(source))?);
    for file in ["go.mod", "go.sum"] {
        let path = source.join(file);
        hash.update(fs::read(&path).with_context(|| path.display().to_string())?);
    }
    Ok(hex::encode(&hash.finalize()[..8]))
}

/// The programs of a control plane.
#[derive(Clone, Debug)]
pub(crate) struct ControlPlanePrograms {
    pub(crate) etcd: PathBuf,
    pub(crate) apiserver: PathBuf,
    /// None where [`ASSETS_VARIABLE`] names a folder without one.
    pub(crate) controller_manager: Option<PathBuf>,
    pub(crate) scheduler: Option<PathBuf>,
    pub(crate) kubectl: PathBuf,
}

impl ControlPlanePrograms {
    /// Those that [`ASSETS_VARIABLE`] names, or those built here.
    pub(crate) fn get() -> anyhow::Result<Self> {
        if let Some(assets) = assets() {
            let optional = |name| Some(assets.join(name)).filter(|path| path.is_file());
            let needed = |name| {
                optional(name)
                    .with_context(|| format!("{ASSETS_VARIABLE} is {}: no {name} in it", assets.display()))
            };
            return Ok(Self {
                etcd: needed("etcd")?,
                apiserver: needed("kube-apiserver")?,
                controller_manager: optional("kube-controller-manager"),
                scheduler: optional("kube-scheduler"),
                kubectl: needed("kubectl")?,
            });
        }
        let folder = ToolSet::Kubernetes.build()?;
        Ok(Self {
            etcd: find_program("etcd").context("etcd is not installed: tests/cluster/install.sh does it")?,
            apiserver: folder.join("kube-apiserver"),
            controller_manager: Some(folder.join("kube-controller-manager")),
            scheduler: Some(folder.join("kube-scheduler")),
            kubectl: folder.join("kubectl"),
        })
    }
}

/// The folder that [`ASSETS_VARIABLE`] names.
pub(crate) fn assets() -> Option<PathBuf> {
    std::env::var_os(ASSETS_VARIABLE)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

/// kubectl: the one in [`ASSETS_VARIABLE`], the one built here, or for a cluster given by its kubeconfig on a machine
/// without Go the one that is installed.
pub(crate) fn kubectl() -> anyhow::Result<PathBuf> {
    if let Some(kubectl) = assets()
        .map(|assets| assets.join("kubectl"))
        .filter(|path| path.is_file())
    {
        return Ok(kubectl);
    }
    match (find_program("go"), find_program("kubectl")) {
        (None, Some(installed)) => Ok(installed),
        _ => Ok(ToolSet::Kubernetes.build()?.join("kubectl")),
    }
}
