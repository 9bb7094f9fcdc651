//! `kubectl honeygraph logs`: the logs of all agents of a node, each line with the agent's name.

use crate::paint::{Paint, Tone};

/// Longest line that is shown in one piece.
pub(crate) const MAX_LINE_BYTES: usize = 64 << 10;

/// A line of an agent's log, as it is shown.
pub fn line(agent: &str, width: usize, text: &str, paint: Paint) -> String {
    let shown: String = text
        .trim_end_matches(['\r', '\n'])
        .chars()
        .map(|character| {
            if character.is_control() && character != '\t' {
                ' '
            } else {
                character
            }
        })
        .collect();
    let prefix = paint.text(Tone::Faint, &format!("{agent:width$}  "));
    format!("{prefix}{shown}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stand_under_each_other_and_steer_nothing() {
        let shown = line("eu-agent-0", 12, "{\"a\":\t1}\u{1b}[2J\r\n", Paint::PLAIN);
        assert_eq!(shown, "eu-agent-0    {\"a\":\t1} [2J");
    }
}
