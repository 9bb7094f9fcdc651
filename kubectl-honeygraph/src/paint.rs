//! Colours and tables.

use comfy_table::{Cell as TableCell, CellAlignment, Color, Table, presets};
use console::Style;

use crate::text::harmless;

/// Spaces between columns.
const GUTTER: u16 = 2;

/// How something is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tone {
    /// As it should be.
    Good,
    /// To be looked at.
    Warning,
    /// Wrong.
    Bad,
    /// Beside the point.
    Faint,
    /// Nothing in particular.
    #[default]
    Plain,
}

/// Whether there are colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint {
    colours: bool,
}

impl Paint {
    /// No colours: for files, pipes and tests.
    pub const PLAIN: Self = Self { colours: false };

    /// With colours.
    pub const COLOURED: Self = Self { colours: true };

    /// As standard output takes them: none where it is no terminal, or with `NO_COLOR`.
    pub fn of_stdout() -> Self {
        Self {
            colours: console::colors_enabled(),
        }
    }

    /// Text in the colour of its tone.
    pub fn text(self, tone: Tone, text: &str) -> String {
        let style = match tone {
            Tone::Good => Style::new().green(),
            Tone::Warning => Style::new().yellow(),
            Tone::Bad => Style::new().red(),
            Tone::Faint => Style::new().dim(),
            Tone::Plain => return text.to_owned(),
        };
        style.force_styling(self.colours).apply_to(text).to_string()
    }

    /// A title.
    pub fn title(self, text: &str) -> String {
        Style::new()
            .bold()
            .force_styling(self.colours)
            .apply_to(text)
            .to_string()
    }

    /// A table as `kubectl get` writes it. `right` are the columns whose cells stand at the right.
    pub fn table<const COLUMNS: usize>(
        self,
        header: [&str; COLUMNS],
        right: &[&str],
        rows: impl IntoIterator<Item = [Cell; COLUMNS]>,
    ) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        if self.colours {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table.set_header(header);
        for row in rows {
            table.add_row(row.into_iter().map(|cell| cell.into_table_cell(self)));
        }
        for (column, name) in table.column_iter_mut().zip(header) {
            column.set_padding((0, GUTTER));
            if right.contains(&name) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table.trim_fmt()
    }
}

/// A cell of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell in the colour of its tone.
    pub fn toned(tone: Tone, text: impl AsRef<str>) -> Self {
        Self {
            text: harmless(text.as_ref()),
            tone,
        }
    }

    fn into_table_cell(self, paint: Paint) -> TableCell {
        let cell = TableCell::new(self.text);
        if !paint.colours {
            return cell;
        }
        match self.tone {
            Tone::Good => cell.fg(Color::DarkGreen),
            Tone::Warning => cell.fg(Color::DarkYellow),
            Tone::Bad => cell.fg(Color::DarkRed),
            Tone::Faint => cell.fg(Color::DarkGrey),
            Tone::Plain => cell,
        }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(Tone::Plain, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(paint: Paint) -> String {
        paint.table(
            ["NAME", "LAG"],
            &["LAG"],
            [
                ["a".into(), Cell::toned(Tone::Bad, "1,204")],
                ["long\u{1b}[2J".into(), "0".into()],
            ],
        )
    }

    #[test]
    fn columns_stand_under_each_other_and_nothing_steers_the_terminal() {
        assert_eq!(
            table(Paint::PLAIN),
            "NAME        LAG\na         1,204\nlong [2J      0"
        );
    }

    #[test]
    fn colours_change_no_column() {
        let coloured = table(Paint::COLOURED);
        assert!(coloured.contains('\u{1b}'));
        let bare = console::strip_ansi_codes(&coloured);
        let lines: Vec<_> = bare.lines().map(str::trim_end).collect();
        assert_eq!(lines.join("\n"), table(Paint::PLAIN));
    }
}
