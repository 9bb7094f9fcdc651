//! The commands but `test`.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use comfy_table::{Table, presets};
use honeygraph_test_cluster::{
    AuditLog, Cluster, Image, Level, Options, Removal, ToolSet, UP, Watched, check_kind_config,
    check_manifests, clusters, conditions, remove_all, write_manifests,
};

/// Starts the cluster that stays.
pub(crate) fn up(level: Level, audit: bool) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let cluster = Cluster::up(Options {
        level,
        audit: if audit { AuditLog::Mutating } else { AuditLog::Off },
    })?;
    println!(
        "A cluster of {level} runs, after {:.1} s.",
        began.elapsed().as_secs_f32()
    );
    println!("  use it     eval \"$(cargo cluster env)\"");
    if let Some(logs) = cluster.logs() {
        println!("  logs       {}", logs.display());
    }
    if let Some(log) = cluster.audit_log() {
        println!("  audit log  {}", log.display());
    }
    println!("  end it     cargo cluster down");
    Ok(ExitCode::SUCCESS)
}

/// Ends it, and what tests that were killed have left.
pub(crate) fn down(all: bool) -> anyhow::Result<ExitCode> {
    let removed = remove_all(if all { Removal::All } else { Removal::NotInUse })?;
    for name in &removed {
        println!("removed {name}");
    }
    for condition in conditions()? {
        if let Some(user) = condition.user {
            println!(
                "left {}, which process {user} uses; `cargo cluster down --all` removes it too",
                condition.name
            );
        }
    }
    if removed.is_empty() {
        println!("nothing to remove");
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows every cluster; fails if one is not whole.
pub(crate) fn status() -> anyhow::Result<ExitCode> {
    let conditions = conditions()?;
    if conditions.is_empty() {
        println!("no cluster; `cargo cluster up` starts one");
        return Ok(ExitCode::SUCCESS);
    }
    let mut whole = true;
    for condition in conditions {
        let dead = condition.parts.iter().filter(|part| !part.alive).count();
        let level = condition
            .level
            .map(|level| format!(" of {level}"))
            .unwrap_or_default();
        let state = match (condition.started, dead) {
            (true, 0) => "ready".to_owned(),
            (true, dead) => format!("{dead} of {} parts ended", condition.parts.len()),
            (false, _) => "not started to the end".to_owned(),
        };
        whole &= condition.started && dead == 0;
        println!(
            "{}{level}: {state}  {}",
            condition.name,
            condition.folder.display()
        );
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_header(["part", "process", "", "log"]);
        for part in condition.parts {
            let state = if part.alive { "runs" } else { "has ended" };
            table.add_row([
                part.part,
                part.pid.to_string(),
                state.to_owned(),
                part.log.display().to_string(),
            ]);
        }
        println!("{table}");
    }
    Ok(if whole {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Prints lines for a shell.
pub(crate) fn env() -> anyhow::Result<ExitCode> {
    let cluster = up_cluster()?;
    println!(
        "export KUBECONFIG={}",
        quoted(&cluster.kubeconfig().display().to_string())
    );
    if let Some(folder) = cluster.kubectl().program().parent() {
        println!("export PATH={}:\"$PATH\"", quoted(&folder.display().to_string()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds sets of programs.
pub(crate) fn tools(sets: &[ToolSet]) -> anyhow::Result<ExitCode> {
    let of_level_two = [ToolSet::Kubernetes, ToolSet::Coredns];
    for set in if sets.is_empty() { &of_level_two } else { sets } {
        println!("{}", set.build()?.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Loads a program as an image into the cluster that runs.
pub(crate) fn load(name: &str, program: &Path) -> anyhow::Result<ExitCode> {
    let file = program.file_name().and_then(|file| file.to_str());
    let inside = format!("/usr/local/bin/{}", file.context("the program has no name")?);
    let image = Image::new(name).program(program, &inside)?.entrypoint(&[&inside]);
    up_cluster()?.load(&image)?;
    println!("{name} is on every node; pods need imagePullPolicy: IfNotPresent or Never");
    Ok(ExitCode::SUCCESS)
}

/// Checks a configuration of kind.
pub(crate) fn check_kind(file: &Path) -> anyhow::Result<ExitCode> {
    check_kind_config(file)?;
    println!("kind accepts {}", file.display());
    Ok(ExitCode::SUCCESS)
}

/// Checks the install for kubectl, or writes it anew.
pub(crate) fn manifests(write: bool) -> anyhow::Result<ExitCode> {
    if write {
        write_manifests()?;
    }
    let objects = check_manifests()?;
    println!("manifests/ is what the chart makes: {objects} objects");
    Ok(ExitCode::SUCCESS)
}

/// Waits until a process has ended, and removes its clusters.
pub(crate) fn guard(process: u32) -> anyhow::Result<ExitCode> {
    let watched = Watched::process(process)?;
    let mut input = std::io::stdin();
    std::io::copy(&mut input, &mut std::io::sink()).context("standard input cannot be read")?;
    watched.remove_when_ended()?;
    Ok(ExitCode::SUCCESS)
}

/// The cluster of `up`.
fn up_cluster() -> anyhow::Result<Cluster> {
    Cluster::running()?.with_context(|| {
        format!(
            "no cluster is ready in {}: `cargo cluster up` starts one",
            clusters()
                .map(|folder| folder.join(UP).display().to_string())
                .unwrap_or_default()
        )
    })
}

/// A word that a POSIX shell takes as it is.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_for_a_shell_is_quoted() {
        assert_eq!(quoted("/home/o'neil/a b"), r"'/home/o'\''neil/a b'");
    }
}
