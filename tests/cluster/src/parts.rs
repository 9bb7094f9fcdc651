//! The parts of a cluster that run: started with a log of their own, and waited for.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::home::Folder;
use crate::process::{MARK, ProcessIdentity};
use crate::record::{Record, Resource};

/// Time between two looks at a part that is not ready.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Lines of a log that an error shows.
const LOG_LINES: usize = 15;

/// Bytes at the end of a log that its last lines are looked for in.
const LOG_TAIL_BYTES: u64 = 16 << 10;

/// A running part.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    name: String,
    process: ProcessIdentity,
    log: PathBuf,
}

impl Part {
    /// Starts a program as a part: in a process group of its own, so that Ctrl-C is for the harness alone, with its
    /// output in the part's log, and recorded.
    pub(crate) fn start<I, S>(
        folder: &Folder,
        record: &mut Record,
        name: &str,
        program: &Path,
        arguments: I,
    ) -> anyhow::Result<Self>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let log = folder.log(name);
        let output = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| log.display().to_string())?;
        let child = Command::new(program)
            .args(arguments)
            .env_clear()
            .env("PATH", search_path())
            .env("HOME", folder.path())
            .env(MARK, folder.path())
            .stdin(Stdio::null())
            .stderr(output.try_clone()?)
            .stdout(output)
            .process_group(0)
            .spawn()
            .with_context(|| format!("{name} cannot be started: {}", program.display()))?;
        let Some(process) = ProcessIdentity::of(child.id()) else {
            anyhow::bail!(with_log(&format!("{name} has ended"), &log));
        };
        record.write(&Resource::Process {
            part: name.to_owned(),
            process,
        })?;
        Ok(Self {
            name: name.to_owned(),
            process,
            log,
        })
    }

    /// Waits until `probe` finds nothing wrong. `probe` says what it still misses.
    pub(crate) fn wait(
        &self,
        patience: Duration,
        mut probe: impl FnMut() -> Result<(), String>,
    ) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let missing = match probe() {
                Ok(()) => return Ok(()),
                Err(missing) => missing,
            };
            let trouble = if !self.process.is_alive() {
                format!("{} has ended", self.name)
            } else if began.elapsed() > patience {
                format!(
                    "{} is not ready after {} s: {missing}",
                    self.name,
                    patience.as_secs()
                )
            } else {
                std::thread::sleep(LOOK_AGAIN);
                continue;
            };
            anyhow::bail!(with_log(&trouble, &self.log));
        }
    }
}

/// Where programs are looked for: administration programs are not in every user's path.
pub(crate) fn search_path() -> String {
    const SYSTEM: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    match std::env::var("PATH") {
        Ok(path) => format!("{path}:{SYSTEM}"),
        Err(_) => SYSTEM.to_owned(),
    }
}

/// The program of this name in the [search path](search_path).
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    search_path()
        .split(':')
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.is_file())
}

/// Runs a program to its end and returns what it prints.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .env("PATH", search_path())
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{name} cannot be started"))?;
    anyhow::ensure!(
        output.status.success(),
        "{}: {}",
        shown(command),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A command as one would type it.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    std::iter::once(program)
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// What is wrong with a part, with the end of its log.
fn with_log(trouble: &str, log: &Path) -> String {
    format!("{trouble}\nThe end of {}:\n{}", log.display(), last_lines(log))
}

/// The last lines of a log.
fn last_lines(log: &Path) -> String {
    let mut tail = Vec::new();
    let read = File::open(log).and_then(|mut file| {
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
        file.take(LOG_TAIL_BYTES).read_to_end(&mut tail)
    });
    if let Err(error) = read {
        return format!("{}: {error}", log.display());
    }
    let text = String::from_utf8_lossy(&tail);
    let lines: Vec<_> = text.lines().collect();
    let first = lines.len().saturating_sub(LOG_LINES);
    lines.get(first..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(script: &str) -> (tempfile::TempDir, anyhow::Result<Part>) {
        let directory = tempfile::tempdir().unwrap();
        let folder = Folder::at(directory.path().join("one"));
        folder.create().unwrap();
        let mut record = Record::open(&folder).unwrap();
        let part = Part::start(&folder, &mut record, "part", Path::new("/bin/sh"), ["-c", script]);
        (directory, part)
    }

    #[test]
    fn a_part_that_ends_is_not_waited_for_and_its_log_is_shown() {
        let (_directory, part) = start("echo one; echo the reason >&2; exit 1");
        // It may have ended before it was even recorded.
        let error = part
            .and_then(|part| part.wait(Duration::from_mins(1), || Err("no answer".to_owned())))
            .unwrap_err();
        assert!(error.to_string().starts_with("part has ended\n"), "{error}");
        assert!(error.to_string().ends_with("one\nthe reason"), "{error}");
    }

    #[test]
    fn a_part_that_is_not_ready_in_time_is_named_with_what_it_misses() {
        let (directory, part) = start("exec sleep 1000");
        let part = part.unwrap();
        assert_eq!(
            crate::record::read(&Folder::at(directory.path().join("one")))
                .unwrap()
                .len(),
            1
        );
        let error = part
            .wait(Duration::ZERO, || Err("no answer".to_owned()))
            .unwrap_err();
        part.process.kill().unwrap();
        assert!(
            error
                .to_string()
                .starts_with("part is not ready after 0 s: no answer\n"),
            "{error}"
        );
    }

    #[test]
    fn an_error_of_a_program_shows_the_command_and_what_it_said() {
        let error = run(Command::new("/bin/sh").args(["-c", "echo no >&2; exit 1"])).unwrap_err();
        assert_eq!(error.to_string(), "sh -c echo no >&2; exit 1: no");
    }
}
