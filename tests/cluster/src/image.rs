//! Images of programs of this machine, written as OCI archives: no Docker is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use oci_spec::image::{
    Arch, ConfigBuilder, Descriptor, DescriptorBuilder, ImageConfigurationBuilder, ImageIndexBuilder,
    ImageManifestBuilder, MediaType, OciLayoutBuilder, Os, RootFsBuilder, Sha256Digest,
};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use crate::parts::find_program;

/// The image of the container that holds a pod's namespaces: catatonit, made for that.
pub(crate) const PAUSE: &str = "honeygraph.test/pause:1";

/// The image of cluster DNS; `manifests/coredns.yaml` names it too.
pub(crate) const COREDNS: &str = "honeygraph.test/coredns:1";

/// An image with busybox: a shell, `nc`, `nslookup`, `wget` for scenarios.
pub const BUSYBOX: &str = "honeygraph.test/busybox:1";

/// The user without rights whom images name who need none.
const NOBODY: u32 = 65532;

/// The annotation that containerd takes an image's whole name from.
const NAME_ANNOTATION: &str = "io.containerd.image.name";

/// What every image has: names of users, and that `/etc/hosts` is asked before DNS.
const SMALL_FILES: [(&str, &str); 3] = [
    (
        "etc/passwd",
        "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n",
    ),
    ("etc/group", "root:x:0:\nnonroot:x:65532:\n"),
    (
        "etc/nsswitch.conf",
        "passwd: files\ngroup: files\nhosts: files dns\n",
    ),
];

/// An image to be: programs with the shared libraries they need.
#[derive(Clone, Debug)]
pub struct Image {
    name: String,
    /// Path in the image, without the first slash, and the file on this machine.
    files: BTreeMap<PathBuf, PathBuf>,
    /// Path in the image, without the first slash, and what it links to.
    links: BTreeMap<PathBuf, PathBuf>,
    entrypoint: Vec<String>,
    user: u32,
}

impl Image {
    /// An image of this name, which must hold registry, path and tag: `honeygraph.test/agent:1`.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            files: BTreeMap::new(),
            links: BTreeMap::new(),
            entrypoint: Vec::new(),
            user: NOBODY,
        }
    }

    /// The same under another name.
    #[must_use]
    pub fn renamed(self, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..self
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds a program of this machine at a path of the image, and the libraries it needs where it looks for them.
    pub fn program(mut self, program: &Path, inside: &str) -> anyhow::Result<Self> {
        anyhow::ensure!(program.is_file(), "{} is no program", program.display());
        self.files.insert(relative(Path::new(inside)), program.to_owned());
        for library in libraries(program)? {
            self.files.insert(relative(&library), library);
        }
        Ok(self)
    }

    /// Adds another name of a path of the image.
    #[must_use]
    pub fn link(mut self, inside: &str, target: &str) -> Self {
        self.links
            .insert(relative(Path::new(inside)), PathBuf::from(target));
        self
    }

    /// What runs when a pod names no command.
    #[must_use]
    pub fn entrypoint(mut self, words: &[&str]) -> Self {
        self.entrypoint = words.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Who it runs as when a pod names nobody: user and group of this id. The default is 65532, without rights.
    #[must_use]
    pub fn user(mut self, id: u32) -> Self {
        self.user = id;
        self
    }

    /// Writes it as an OCI archive, which `ctr images import`, skopeo and `kind load image-archive` read.
    pub fn write(&self, archive: &Path) -> anyhow::Result<()> {
        self.write_archive(archive)
            .with_context(|| format!("image {} cannot be written to {}", self.name, archive.display()))
    }

    fn write_archive(&self, archive: &Path) -> anyhow::Result<()> {
        // One layer: a file beside the archive until its digest is known.
        let layer_path = archive.with_extension("layer");
        let mut layer_file = File::create_new(&layer_path)?;
        std::fs::remove_file(&layer_path)?;
        self.write_layer(&mut layer_file)?;
        let size = layer_file.stream_position()?;
        layer_file.rewind()?;
        let digest = digest_of(&mut layer_file)?;
        layer_file.rewind()?;
        let layer = Descriptor::new(MediaType::ImageLayer, size, digest.parse::<Sha256Digest>()?);

        let configuration = ImageConfigurationBuilder::default()
            .architecture(Arch::default())
            .os(Os::Linux)
            .config(
                ConfigBuilder::default()
                    .entrypoint(self.entrypoint.clone())
                    .user(format!("{user}:{user}", user = self.user))
                    .env(["PATH=/usr/local/bin:/usr/bin:/bin".to_owned()])
                    .build()?,
            )
            .rootfs(
                RootFsBuilder::default()
                    .typ("layers")
                    .diff_ids([format!("sha256:{digest}")])
                    .build()?,
            )
            .build()?
            .to_string()?;
        let manifest = ImageManifestBuilder::default()
            .schema_version(2_u32)
            .media_type(MediaType::ImageManifest)
            .config(describe(MediaType::ImageConfig, configuration.as_bytes())?)
            .layers([layer])
            .build()?
            .to_string()?;
        let described = describe(MediaType::ImageManifest, manifest.as_bytes())?;
        let named = DescriptorBuilder::default()
            .media_type(described.media_type().clone())
            .size(described.size())
            .digest(described.digest().clone())
            .annotations([(NAME_ANNOTATION.to_owned(), self.name.clone())])
            .build()?;
        let index = ImageIndexBuilder::default()
            .schema_version(2_u32)
            .media_type(MediaType::ImageIndex)
            .manifests([named])
            .build()?
            .to_string()?;
        let layout = OciLayoutBuilder::default()
            .image_layout_version("1.0.0")
            .build()?
            .to_string()?;

        let mut tar = Builder::new(BufWriter::new(File::create(archive)?));
        append(&mut tar, Path::new("oci-layout"), 0o644, layout.as_bytes())?;
        append(&mut tar, Path::new("index.json"), 0o644, index.as_bytes())?;
        for text in [&manifest, &configuration] {
            append(
                &mut tar,
                &blob(&hex::encode(Sha256::digest(text)))?,
                0o644,
                text.as_bytes(),
            )?;
        }
        let mut header = header(EntryType::Regular, 0o644, size);
        tar.append_data(&mut header, blob(&digest)?, layer_file)?;
        tar.into_inner()?.flush()?;
        Ok(())
    }

    fn write_layer(&self, file: &mut File) -> anyhow::Result<()> {
        let mut tar = Builder::new(BufWriter::new(file));
        let all = SMALL_FILES.iter().map(|(path, _)| Path::new(path));
        let all = all.chain(self.files.keys().map(PathBuf::as_path));
        let all = all.chain(self.links.keys().map(PathBuf::as_path));
        let folders: BTreeSet<_> = all
            .flat_map(Path::ancestors)
            .skip_while(|path| path.as_os_str().is_empty())
            .collect();
        let folders = folders
            .into_iter()
            .filter(|path| !path.as_os_str().is_empty() && !self.has(path))
            .map(|path| (path, 0o755));
        for (folder, mode) in folders.chain([(Path::new("tmp"), 0o1777)]) {
            let mut header = header(EntryType::Directory, mode, 0);
            tar.append_data(&mut header, folder, io::empty())?;
        }
        for (path, content) in SMALL_FILES {
            append(&mut tar, Path::new(path), 0o644, content.as_bytes())?;
        }
        for (inside, source) in &self.files {
            let content = File::open(source).with_context(|| source.display().to_string())?;
            let mut header = header(EntryType::Regular, 0o755, content.metadata()?.len());
            tar.append_data(&mut header, inside, content)?;
        }
        for (inside, target) in &self.links {
            let mut header = header(EntryType::Symlink, 0o777, 0);
            tar.append_link(&mut header, inside, target)?;
        }
        tar.into_inner()?.flush()?;
        Ok(())
    }

    /// Whether a path of the image is a file or a link.
    fn has(&self, path: &Path) -> bool {
        self.files.contains_key(path)
            || self.links.contains_key(path)
            || SMALL_FILES.iter().any(|(file, _)| Path::new(file) == path)
    }
}

/// The image of the container that holds a pod's namespaces.
pub(crate) fn pause() -> anyhow::Result<Image> {
    let program = find_program("catatonit").context("catatonit is not installed")?;
    Ok(Image::new(PAUSE)
        .program(&program, "/usr/bin/catatonit")?
        .entrypoint(&["/usr/bin/catatonit", "-P"]))
}

/// The image of cluster DNS. It binds port 53 and so runs as root.
pub(crate) fn coredns(program: &Path) -> anyhow::Result<Image> {
    Ok(Image::new(COREDNS)
        .program(program, "/usr/bin/coredns")?
        .entrypoint(&["/usr/bin/coredns"])
        .user(0))
}

/// The image with busybox.
pub(crate) fn busybox() -> anyhow::Result<Image> {
    let program = find_program("busybox").context("busybox is not installed")?;
    let image = Image::new(BUSYBOX)
        .program(&program, "/bin/busybox")?
        .entrypoint(&["/bin/sh"]);
    let names = [
        "sh", "cat", "echo", "hostname", "id", "nc", "nslookup", "sleep", "wget",
    ];
    Ok(names.iter().fold(image, |image, name| {
        image.link(&format!("/bin/{name}"), "/bin/busybox")
    }))
}

/// The shared libraries that a program needs, the dynamic loader among them; none if it is linked statically.
fn libraries(program: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let output = Command::new("ldd")
        .arg(program)
        .env("LC_ALL", "C")
        .output()
        .context("ldd cannot be started")?;
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if said.contains("not a dynamic executable") || said.contains("statically linked") {
        return Ok(Vec::new());
    }
    anyhow::ensure!(
        output.status.success(),
        "ldd {}: {}",
        program.display(),
        said.trim()
    );
    libraries_of(&said).with_context(|| program.display().to_string())
}

/// The libraries in what ldd says: `libc.so.6 => /lib/libc.so.6 (0x...)` or, of the loader, `/lib64/ld.so.2 (0x...)`.
fn libraries_of(said: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for line in said.lines() {
        anyhow::ensure!(!line.contains("not found"), "{} on this machine", line.trim());
        let path = line.split_once("=>").map_or(line, |(_, path)| path).trim();
        let path = path.split_once(" (").map_or(path, |(path, _)| path);
        if path.starts_with('/') {
            found.push(PathBuf::from(path));
        }
    }
    Ok(found)
}

fn relative(path: &Path) -> PathBuf {
    path.strip_prefix("/").unwrap_or(path).to_owned()
}

fn describe(media_type: MediaType, content: &[u8]) -> anyhow::Result<Descriptor> {
    let digest = hex::encode(Sha256::digest(content));
    let size = u64::try_from(content.len())?;
    Ok(Descriptor::new(media_type, size, digest.parse::<Sha256Digest>()?))
}

fn digest_of(file: &mut File) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer)?;
        let Some(read) = buffer.get(..count).filter(|read| !read.is_empty()) else {
            return Ok(hex::encode(hash.finalize()));
        };
        hash.update(read);
    }
}

/// Where a blob is in an OCI layout.
fn blob(digest: &str) -> anyhow::Result<PathBuf> {
    anyhow::ensure!(!digest.is_empty(), "a digest is empty");
    Ok(Path::new("blobs/sha256").join(digest))
}

/// A header without time or owner: the same content makes the same image.
fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn append(tar: &mut Builder<impl Write>, path: &Path, mode: u32, content: &[u8]) -> anyhow::Result<()> {
    let mut header = header(EntryType::Regular, mode, u64::try_from(content.len())?);
    tar.append_data(&mut header, path, content)
        .with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(archive: impl Read) -> BTreeMap<String, Vec<u8>> {
        tar::Archive::new(archive)
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                (entry.path().unwrap().display().to_string(), content)
            })
            .collect()
    }

    #[test]
    fn an_archive_names_its_image_and_holds_the_program_with_its_libraries() {
        let directory = tempfile::tempdir().unwrap();
        let archive = directory.path().join("image.tar");
        let program = std::env::current_exe().unwrap();
        let image = Image::new("honeygraph.test/one:1")
            .program(&program, "/usr/bin/one")
            .unwrap()
            .link("/bin/two", "/usr/bin/one");
        image.write(&archive).unwrap();

        let outer = entries(File::open(&archive).unwrap());
        let index: serde_json::Value = serde_json::from_slice(&outer["index.json"]).unwrap();
        let described = &index["manifests"][0];
        assert_eq!(described["annotations"][NAME_ANNOTATION], "honeygraph.test/one:1");
        let read = |digest: &serde_json::Value| {
            let digest = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
            let content = &outer[&format!("blobs/sha256/{digest}")];
            assert_eq!(hex::encode(Sha256::digest(content)), digest);
            content
        };
        let manifest: serde_json::Value = serde_json::from_slice(read(&described["digest"])).unwrap();
        let configuration: serde_json::Value =
            serde_json::from_slice(read(&manifest["config"]["digest"])).unwrap();
        assert_eq!(configuration["config"]["User"], "65532:65532");
        let layer = read(&manifest["layers"][0]["digest"]);
        assert_eq!(
            configuration["rootfs"]["diff_ids"][0],
            manifest["layers"][0]["digest"]
        );

        let inner = entries(layer.as_slice());
        assert_eq!(inner["usr/bin/one"], std::fs::read(&program).unwrap());
        for path in ["bin/two", "etc/passwd", "tmp/", "usr/bin/"] {
            assert!(
                inner
                    .keys()
                    .any(|entry| entry.trim_end_matches('/') == path.trim_end_matches('/')),
                "{path}"
            );
        }
        for library in libraries(&program).unwrap() {
            assert_eq!(
                inner[&relative(&library).display().to_string()],
                std::fs::read(library).unwrap()
            );
        }
    }

    #[test]
    fn the_same_program_makes_the_same_image() {
        let directory = tempfile::tempdir().unwrap();
        let program = std::env::current_exe().unwrap();
        let write = |name: &str| {
            let archive = directory.path().join(name);
            let image = Image::new("honeygraph.test/one:1")
                .program(&program, "/one")
                .unwrap();
            image.write(&archive).unwrap();
            std::fs::read(archive).unwrap()
        };
        assert!(write("one.tar") == write("two.tar"));
    }

    #[test]
    fn what_ldd_says_is_understood() {
        let said = "\tlinux-vdso.so.1 (0x00007ffd)\n\
            \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        assert_eq!(
            libraries_of(said).unwrap(),
            [
                PathBuf::from("/lib/x86_64-linux-gnu/libc.so.6"),
                PathBuf::from("/lib64/ld-linux-x86-64.so.2"),
            ]
        );
        let error = libraries_of("\tlibone.so.1 => not found\n").unwrap_err();
        assert_eq!(error.to_string(), "libone.so.1 => not found on this machine");
    }

    #[test]
    fn cluster_dns_runs_the_image_that_is_loaded() {
        assert!(include_str!("../manifests/coredns.yaml").contains(&format!("image: {COREDNS}\n")));
    }
}
