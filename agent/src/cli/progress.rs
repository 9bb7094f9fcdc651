//! Progress on standard error: a bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::complain;

/// Time between two plain lines about one part.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

const BAR: &str = "{msg:22} [{bar:40}] {human_pos}/{human_len} {per_sec} {eta}";
const COUNT: &str = "{msg:22} {spinner} {human_pos} {per_sec}";

/// Shows how far something is.
pub(super) struct Progress {
    terminal: bool,
    bar: ProgressBar,
    part: Option<String>,
    last: (u64, u64),
    last_line: Instant,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            bar: ProgressBar::hidden(),
            part: None,
            last: (0, 0),
            last_line: Instant::now(),
        }
    }

    /// `done` of `total` of a part; 0 where the total is not known.
    pub(super) fn show(&mut self, part: &str, done: u64, total: u64) {
        if self.part.as_deref() != Some(part) {
            self.finish();
            self.part = Some(part.to_owned());
            self.last_line = Instant::now();
            if self.terminal {
                self.bar =
                    ProgressBar::with_draw_target((total > 0).then_some(total), ProgressDrawTarget::stderr());
                let template = if total > 0 { BAR } else { COUNT };
                if let Ok(style) = ProgressStyle::with_template(template) {
                    self.bar.set_style(style);
                }
                self.bar.set_message(part.to_owned());
            }
        }
        self.last = (done, total);
        if self.terminal {
            if total > 0 {
                self.bar.set_length(total);
            }
            self.bar.set_position(done);
        } else if self.last_line.elapsed() >= LINE_INTERVAL {
            self.last_line = Instant::now();
            self.line();
        }
    }

    /// A line on standard output, above the bar.
    pub(super) fn above(&self, line: impl std::fmt::Display) {
        self.bar.suspend(|| super::say(line));
    }

    /// Ends the part that is shown.
    pub(super) fn finish(&mut self) {
        if self.part.is_none() {
            return;
        }
        if self.terminal {
            self.bar.finish();
        } else {
            self.line();
        }
        self.part = None;
    }

    fn line(&self) {
        let part = self.part.as_deref().unwrap_or_default();
        match self.last {
            (done, 0) => complain(format_args!("{part}: {done}")),
            (done, total) => complain(format_args!("{part}: {done} of {total}")),
        }
    }
}
