//! Words and numbers as people read them.

use indicatif::HumanCount;
use k8s_openapi::jiff::Timestamp;

/// Longest text of others that is shown.
const MAX_CHARACTERS: usize = 500;

/// Text of others without what would steer a terminal, and not endless.
pub(crate) fn harmless(text: &str) -> String {
    let shown: String = text
        .chars()
        .take(MAX_CHARACTERS)
        .map(|character| if character.is_control() { ' ' } else { character })
        .collect();
    match text.chars().nth(MAX_CHARACTERS) {
        Some(_) => format!("{shown}…"),
        None => shown,
    }
}

/// A number with its thousands apart.
pub(crate) fn count(number: u64) -> String {
    HumanCount(number).to_string()
}

/// The same, or a dash where it is not known.
pub(crate) fn count_or_dash(number: Option<u64>) -> String {
    number.map_or_else(|| "-".to_owned(), count)
}

/// `1 block`, `2 blocks`.
pub(crate) fn counted(number: u64, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {thing}{plural}", count(number))
}

/// Time between two moments as `kubectl get` writes it: `42s`, `12m`, `3h`, `2d`.
pub(crate) fn age(since: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(since).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_does_not_steer_the_terminal() {
        assert_eq!(harmless("a\u{1b}[31mb\n"), "a [31mb ");
        assert_eq!(harmless(&"ü".repeat(1_000)).chars().count(), MAX_CHARACTERS + 1);
    }

    #[test]
    fn ages_are_those_of_kubectl() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        for (seconds, written) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (7_200, "2h"),
            (200_000, "2d"),
        ] {
            assert_eq!(age(at(1_000), at(1_000 + seconds)), written);
        }
        assert_eq!(age(at(1_000), at(0)), "0s", "a clock that is behind");
    }
}
