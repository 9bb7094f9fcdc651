//! The screen of `doctor`.

use super::{DoctorReport, Verdict};
use crate::paint::{Paint, Tone};
use crate::text::counted;

/// Every check on a line, with a hint below what is not as it should be.
pub fn screen(report: &DoctorReport, paint: Paint) -> String {
    let mut lines = Vec::new();
    for section in &report.sections {
        lines.push(paint.title(&section.title));
        for check in &section.checks {
            let (tone, word) = match check.verdict {
                Verdict::Ok => (Tone::Good, "ok     "),
                Verdict::Warning => (Tone::Warning, "warning"),
                Verdict::Failed => (Tone::Bad, "failed "),
            };
            lines.push(format!("  {}  {}", paint.text(tone, word), check.what));
            if let Some(hint) = &check.hint {
                lines.push(format!("           -> {hint}"));
            }
        }
        lines.push(String::new());
    }
    let (failed, warnings) = (report.count(Verdict::Failed), report.count(Verdict::Warning));
    let (tone, sum) = match (failed, warnings) {
        (0, 0) => (Tone::Good, "Everything is as it should be.".to_owned()),
        (0, _) => (
            Tone::Warning,
            format!("Nothing failed; {}.", counted(warnings as u64, "warning")),
        ),
        _ => (
            Tone::Bad,
            format!(
                "{} failed; {}.",
                counted(failed as u64, "check"),
                counted(warnings as u64, "warning")
            ),
        ),
    };
    lines.push(paint.text(tone, &sum));
    lines.join("\n")
}
