//! The tools that need no running node.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use honeygraph_chain::{BlockNumber, ContentId, conformance};

use super::progress::Progress;
use super::{OfflineArguments, complain, say};
use crate::replica::{Replica, ReplicaSettings};
use crate::store::check::{CheckPart, CheckReport, repair};
use crate::store::transfer::{
    ExportOptions, ImportOptions, Overwrite, TransferError, TransferPart, TransferProgress, read_header,
};
use crate::store::{Recovery, Store, StoreError, StoreSettings, Writer, check as store_check, transfer};

/// Whether damage is mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repair {
    /// It is reported only.
    No,
    /// What can be mended is.
    Yes,
}

pub(super) fn conformance(file: &Path) -> anyhow::Result<ExitCode> {
    let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
    let report = conformance::check(&bytes);
    say(&report);
    Ok(code(report.is_success()))
}

pub(super) fn check(arguments: &OfflineArguments, mend: Repair) -> anyhow::Result<ExitCode> {
    let (store, mut writer, recovery) = open(arguments)?;
    let mut sound = true;
    if let Recovery::LostCommits { found, acknowledged } = recovery {
        say(format_args!(
            "journal: {} of {acknowledged} commits are lost; the node fetches what is missing again",
            acknowledged - found
        ));
        sound = false;
    }
    let mut report = run_check(&store);
    if mend == Repair::Yes && !report.is_sound() {
        let repaired = repair(&mut writer, &report)?;
        say(format_args!(
            "repaired: {} blocks removed, {} other rows removed or written again",
            repaired.blocks, repaired.rows
        ));
        report = run_check(&store);
    }
    let counts = report.counts();
    say(format_args!(
        "{} blocks, {} checkpoints ({} computed again from blocks), {} leaves, {} documents, {} undo rows, \
         {} fork blocks, {} other rows: {} problems",
        counts.blocks,
        counts.checkpoints,
        counts.proven_checkpoints,
        counts.leaves,
        counts.documents,
        counts.undo_rows,
        counts.fork_blocks,
        counts.other_rows,
        report.problem_count()
    ));
    Ok(code(sound && report.is_sound()))
}

fn run_check(store: &Store) -> CheckReport {
    let mut progress = Progress::new();
    let report = store_check::check(store, &mut |now| {
        let part = match now.part {
            CheckPart::Blocks => "blocks",
            CheckPart::State => "leaves",
            CheckPart::Records => "documents",
        };
        progress.show(part, now.done, now.total);
    });
    progress.finish();
    for problem in report.problems() {
        say(problem);
    }
    let more = report.problem_count() - report.problems().len() as u64;
    if more > 0 {
        say(format_args!("and {more} more"));
    }
    report
}

pub(super) fn export(
    arguments: &OfflineArguments,
    file: &Path,
    (from, to): (Option<BlockNumber>, Option<BlockNumber>),
    overwrite: Overwrite,
) -> anyhow::Result<ExitCode> {
    let (store, _writer, _) = open(arguments)?;
    let mut progress = Progress::new();
    let options = ExportOptions { from, to, overwrite };
    let exported = transfer::export(&store.view(), file, &options, &mut |now| show(&mut progress, now));
    progress.finish();
    let exported = exported?;
    let header = &exported.header;
    let start = match &header.start {
        Some(start) => format!("starts a node at block {}", start.height),
        None => "no state to start from, fills gaps only".to_owned(),
    };
    let range = header
        .range
        .map_or_else(String::new, |range| format!(" of {range}"));
    say(format_args!(
        "{}: {} blocks{range}, {start}, {} bytes",
        file.display(),
        header.blocks,
        exported.bytes
    ));
    Ok(ExitCode::SUCCESS)
}

pub(super) fn import(
    arguments: &OfflineArguments,
    file: &Path,
    trusted_checkpoint: Option<(BlockNumber, ContentId)>,
    document_bytes_max: u64,
) -> anyhow::Result<ExitCode> {
    let header = read_header(file)?;
    let network = arguments.network.to_string();
    if header.network != network {
        let error = TransferError::OtherNetwork {
            found: header.network,
            wanted: network,
        };
        return Err(error.into());
    }
    let (store, writer, _) = Store::open(&arguments.data_dir, &StoreSettings::default())?;
    if trusted_checkpoint.is_none() && store.view().position()?.is_none() {
        complain(
            "note: the state is taken on the word of the file; --trusted-checkpoint makes it prove a checkpoint \
             that you know from elsewhere",
        );
    }
    let settings = ReplicaSettings {
        schedule: header.schedule,
        trusted_checkpoint,
        ..ReplicaSettings::new(&network)
    };
    let mut replica = Replica::new(writer, settings)?;
    let mut progress = Progress::new();
    let options = ImportOptions {
        network,
        trusted_checkpoint,
        document_bytes_max,
    };
    let imported = transfer::import(&mut replica, file, &options, &mut |now| show(&mut progress, now));
    progress.finish();
    let imported = imported?;
    if let Some(block) = imported.started_at {
        say(format_args!("started from the state of block {block}"));
    }
    if imported.left_out > 0 {
        say(format_args!(
            "{} blocks were left out: what they hang on is neither stored nor in the file",
            imported.left_out
        ));
    }
    say(format_args!(
        "{} new blocks, state of block {}",
        imported.new_blocks, imported.state_height
    ));
    Ok(ExitCode::SUCCESS)
}

fn show(progress: &mut Progress, now: TransferProgress) {
    let part = match now.part {
        TransferPart::Documents => "bytes of documents",
        TransferPart::Write => "blocks written",
        TransferPart::Verify => "blocks verified",
        TransferPart::Apply => "blocks applied",
    };
    progress.show(part, now.done, now.total);
}

/// Opens a store that is there.
pub(super) fn open(arguments: &OfflineArguments) -> anyhow::Result<(Store, Writer, Recovery)> {
    let directory = &arguments.data_dir;
    anyhow::ensure!(
        directory.join("log").is_dir(),
        "there is no store in {}; check DATA_DIR",
        directory.display()
    );
    let opened = Store::open(directory, &StoreSettings::default()).map_err(|error| match error {
        StoreError::Database(_) | StoreError::Damaged { .. } => anyhow::anyhow!(
            "the store in {} cannot be opened: {error}; move the folder away and start the node again, or \
             `import` a file from another node",
            directory.display()
        ),
        other => other.into(),
    })?;
    let wanted = arguments.network.to_string();
    if let Ok(Some(position)) = opened.0.view().position()
        && position.network != wanted
    {
        let error = StoreError::OtherNetwork {
            found: position.network,
            wanted,
        };
        return Err(error.into());
    }
    Ok(opened)
}

fn code(fine: bool) -> ExitCode {
    if fine {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
