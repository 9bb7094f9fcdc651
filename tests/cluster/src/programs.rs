//! The programs of this checkout, as images: what runs in the cluster is what was just built.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use sha2::{Digest, Sha256};

use crate::image::Image;
use crate::parts::run;

/// A program of this workspace that runs in pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The node agent.
    Agent,
    /// The operator.
    Operator,
    /// The stand-in for a honeycomb.
    Honeycomb,
}

impl Program {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Agent, Self::Operator, Self::Honeycomb];

    /// Name of its package and of its program.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Agent => "honeygraph-agent",
            Self::Operator => "honeygraph-operator",
            Self::Honeycomb => "honeygraph-honeycomb",
        }
    }

    /// Its image: the tag says what is in it, so that another build is another image.
    pub fn image(self, folder: &Path) -> anyhow::Result<Image> {
        let program = folder.join(self.name());
        let bytes = fs::read(&program).with_context(|| program.display().to_string())?;
        let digest = hex::encode(Sha256::digest(bytes));
        let tag = digest.get(..12).unwrap_or(&digest);
        let inside = format!("/usr/local/bin/{}", self.name());
        let image = Image::new(&format!("honeygraph.test/{}:{tag}", self.name()));
        Ok(image.program(&program, &inside)?.entrypoint(&[&inside]))
    }
}

/// Builds the programs as this one was built, and gives the folder with them, without what only a debugger reads.
pub fn build_programs() -> anyhow::Result<PathBuf> {
    let built = std::env::current_exe().context("this program is not known")?;
    let built = built.parent().context("this program is in no folder")?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--locked", "--quiet", "--bins"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
    for program in Program::ALL {
        cargo.args(["--package", program.name()]);
    }
    if built.ends_with("release") {
        cargo.arg("--release");
    }
    run(&mut cargo)?;
    let stripped = built.join("cluster-programs");
    fs::create_dir_all(&stripped).with_context(|| stripped.display().to_string())?;
    for program in Program::ALL {
        // Of binutils, which every linker needs.
        run(Command::new("strip")
            .arg("--strip-debug")
            .arg("-o")
            .arg(stripped.join(program.name()))
            .arg(built.join(program.name())))?;
    }
    Ok(stripped)
}
