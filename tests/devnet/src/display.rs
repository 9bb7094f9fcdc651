//! What one sees: live lines in a terminal, a line a second elsewhere, or the result alone.

use std::io::Write;
use std::time::{Duration, Instant};

use console::{Term, style, truncate_str};
use indicatif::{HumanCount, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::lines::{bar_width, header, node_line, plain_line};
use crate::observation::Picture;

/// Redraws a second in a terminal.
const REDRAWS: u8 = 10;

/// Time between two lines elsewhere.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// Columns where the terminal does not say how many it has.
const DEFAULT_COLUMNS: u16 = 120;

/// Where the story is shown.
pub(crate) struct Display {
    started: Instant,
    screen: Screen,
}

enum Screen {
    Live(Live),
    Plain { next_line: Instant },
    Quiet,
}

struct Live {
    all: MultiProgress,
    title: ProgressBar,
    header: ProgressBar,
    nodes: Vec<ProgressBar>,
    phase: String,
    last: Vec<String>,
}

impl Display {
    /// The display that suits standard output.
    pub(crate) fn new(quiet: bool, nodes: usize) -> Self {
        let started = Instant::now();
        let screen = if quiet {
            Screen::Quiet
        } else if Term::stdout().is_term() {
            Screen::Live(Live::new(nodes))
        } else {
            Screen::Plain { next_line: started }
        };
        Self { started, screen }
    }

    /// A new part of the story begins.
    pub(crate) fn phase(&mut self, title: &str) {
        let seconds = self.started.elapsed().as_secs();
        match &mut self.screen {
            Screen::Live(live) => {
                live.print(&format!("{}", style(title).bold()));
                title.clone_into(&mut live.phase);
            }
            Screen::Plain { .. } => print_line(&format!("{seconds:>5} s  == {title}")),
            Screen::Quiet => {}
        }
    }

    /// Something happened.
    pub(crate) fn note(&self, text: &str) {
        let seconds = self.started.elapsed().as_secs();
        match &self.screen {
            Screen::Live(live) => live.print(&format!("  {text}")),
            Screen::Plain { .. } => print_line(&format!("{seconds:>5} s  {text}")),
            Screen::Quiet => {}
        }
    }

    /// The network as it is now.
    pub(crate) fn show(&mut self, picture: &Picture) {
        let elapsed = self.started.elapsed();
        match &mut self.screen {
            Screen::Live(live) => live.show(picture, elapsed),
            Screen::Plain { next_line } => {
                let now = Instant::now();
                if now >= *next_line {
                    *next_line = now + LINE_INTERVAL;
                    print_line(&plain_line(elapsed.as_secs(), picture));
                }
            }
            Screen::Quiet => {}
        }
    }

    /// The result, whatever is shown otherwise. Live lines stand still above it.
    pub(crate) fn result(&mut self, text: &str) {
        self.close();
        if let Screen::Live(live) = &mut self.screen {
            live.last.drain(..).for_each(|line| print_line(&line));
        }
        print_line(text);
    }

    /// Takes the live lines away.
    pub(crate) fn close(&mut self) {
        if let Screen::Live(live) = &self.screen {
            // A terminal that is gone needs no cleaning.
            let _ = live.all.clear();
        }
    }

    /// Time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Live {
    fn new(nodes: usize) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stdout_with_hz(REDRAWS));
        let style =
            ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
        let line = || all.add(ProgressBar::new_spinner().with_style(style.clone()));
        Self {
            title: line(),
            header: line(),
            nodes: (0..nodes).map(|_| line()).collect(),
            phase: String::new(),
            last: Vec::new(),
            all,
        }
    }

    fn print(&self, text: &str) {
        // A terminal that is gone shows nothing.
        let _ = self.all.println(text);
    }

    fn show(&mut self, picture: &Picture, elapsed: Duration) {
        let columns = Term::stdout()
            .size_checked()
            .map_or(DEFAULT_COLUMNS, |(_, columns)| columns);
        let bar = bar_width(columns, picture.has_dgraph);
        let fit = |line: &str| truncate_str(line, usize::from(columns.saturating_sub(1)), "…").into_owned();
        let title = format!(
            "{} {}  block {}  {} s",
            style("▶").cyan(),
            style(&self.phase).bold(),
            HumanCount(picture.chain.end().get()),
            elapsed.as_secs()
        );
        self.last.clear();
        let header = header(bar, picture.has_dgraph);
        self.last.push(fit(&style(header).dim().to_string()));
        self.last.extend(
            picture
                .nodes
                .iter()
                .map(|node| fit(&node_line(node, picture.chain, bar, picture.has_dgraph))),
        );
        self.title.set_message(fit(&title));
        let lines = [&self.header].into_iter().chain(&self.nodes);
        for (line, text) in lines.zip(&self.last) {
            line.set_message(text.clone());
        }
    }
}

/// Prints a line; a reader that has gone away is no reason to stop.
pub(crate) fn print_line(text: &str) {
    let mut output = std::io::stdout().lock();
    let _ = writeln!(output, "{text}");
    let _ = output.flush();
}
