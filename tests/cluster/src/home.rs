//! Where clusters and built programs are on disk.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;

/// The name of the cluster that `cargo cluster up` starts.
pub const UP: &str = "up";

/// Names another folder for clusters.
const HOME_VARIABLE: &str = "HONEYGRAPH_CLUSTERS";

/// Longest name of a cluster's folder in bytes: a socket's whole path must be shorter than 108 bytes, and containerd
/// adds `/nodes/<region>/containerd.sock.ttrpc` to this.
const LONGEST_FOLDER: usize = 70;

/// The folder that all clusters of this user are in.
pub fn clusters() -> anyhow::Result<PathBuf> {
    if let Some(named) = std::env::var_os(HOME_VARIABLE).filter(|named| !named.is_empty()) {
        return std::path::absolute(&named).with_context(|| format!("{HOME_VARIABLE} is no folder"));
    }
    Ok(of_this_user("XDG_STATE_HOME", ".local/state")?.join("honeygraph/clusters"))
}

/// The folder of built programs. They outlive a checkout: the same pins need no second build.
pub(crate) fn built_tools() -> anyhow::Result<PathBuf> {
    Ok(of_this_user("XDG_CACHE_HOME", ".cache")?.join("honeygraph/cluster-tools"))
}

fn of_this_user(variable: &str, default: &str) -> anyhow::Result<PathBuf> {
    if let Some(folder) = std::env::var_os(variable).map(PathBuf::from)
        && folder.is_absolute()
    {
        return Ok(folder);
    }
    let home = std::env::home_dir().context("HOME is not set: name a home folder in it")?;
    Ok(home.join(default))
}

/// The folder of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    #[cfg(test)]
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// The folder of the cluster with this name, there or not.
    pub(crate) fn named(name: &str) -> anyhow::Result<Self> {
        Ok(Self {
            path: clusters()?.join(name),
        })
    }

    /// The folders of all clusters that are there.
    pub(crate) fn all() -> anyhow::Result<Vec<Self>> {
        let clusters = clusters()?;
        let entries = match fs::read_dir(&clusters) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).context(clusters.display().to_string()),
        };
        let mut folders = Vec::new();
        for entry in entries {
            folders.push(Self { path: entry?.path() });
        }
        folders.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(folders)
    }

    /// Makes it, empty and closed to other users.
    pub(crate) fn create(&self) -> anyhow::Result<()> {
        let length = self.path.as_os_str().len();
        anyhow::ensure!(
            length <= LONGEST_FOLDER,
            "{} is {length} bytes long, but sockets in it allow {LONGEST_FOLDER}: name a shorter folder in {HOME_VARIABLE}",
            self.path.display()
        );
        let parent = self.path.parent().context("a cluster's folder has a parent")?;
        let folder = |recursive: bool, path: &Path| {
            fs::DirBuilder::new()
                .mode(0o700)
                .recursive(recursive)
                .create(path)
        };
        folder(true, parent).with_context(|| parent.display().to_string())?;
        folder(false, &self.path).with_context(|| {
            format!(
                "{} cannot be made: of an earlier cluster there is something left, or it runs; `cargo cluster status` \
                 shows it, `cargo cluster down` removes it",
                self.path.display()
            )
        })?;
        self.subfolder("logs").map(drop)
    }

    /// What the cluster is called.
    pub(crate) fn name(&self) -> String {
        self.path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn exists(&self) -> bool {
        self.path.exists()
    }

    /// Something in it.
    pub(crate) fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// A folder in it, made if it is not there.
    pub(crate) fn subfolder(&self, name: impl AsRef<Path>) -> anyhow::Result<PathBuf> {
        let path = self.path.join(name);
        fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(path)
    }

    /// The log of a part.
    pub(crate) fn log(&self, part: &str) -> PathBuf {
        self.path.join("logs").join(format!("{part}.log"))
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.path.join("kubeconfig")
    }

    pub(crate) fn audit_log(&self) -> PathBuf {
        self.path.join("logs").join("audit.jsonl")
    }

    /// Writes a file that only its owner reads.
    pub(crate) fn write(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) -> anyhow::Result<PathBuf> {
        let path = self.path.join(name);
        write_private(&path, content.as_ref())?;
        Ok(path)
    }
}

/// Writes a file that only its owner reads.
fn write_private(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    use std::io::Write as _;
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(content))
        .with_context(|| path.display().to_string())
}
