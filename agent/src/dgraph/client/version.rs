//! Which Dgraph is new enough.

use std::fmt;

/// Oldest Dgraph that is talked to: earlier ones have injections into DQL (CVE-2026-63637 and others), and
/// let anyone who reaches Zero's port take nodes out of the cluster (GHSA-qj98-gp63-54xj).
pub const MINIMUM_VERSION: DgraphVersion = DgraphVersion {
    major: 25,
    minor: 4,
    patch: 0,
};

/// A release of Dgraph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DgraphVersion {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
    /// Third number.
    pub patch: u32,
}

impl DgraphVersion {
    /// Reads what an alpha calls itself, as `v25.4.0`. A preview of a release is not yet that release, and a
    /// name that is no version cannot be compared: both give `None`.
    pub fn from_tag(tag: &str) -> Option<Self> {
        let text = tag.strip_prefix('v').unwrap_or(tag);
        let (numbers, suffix) = text.split_once('-').unwrap_or((text, ""));
        if ["preview", "rc", "alpha", "beta"]
            .iter()
            .any(|early| suffix.starts_with(early))
        {
            return None;
        }
        let mut numbers = numbers.split('.').map(str::parse);
        let version = Self {
            major: numbers.next()?.ok()?,
            minor: numbers.next()?.ok()?,
            patch: numbers.next()?.ok()?,
        };
        numbers.next().is_none().then_some(version)
    }
}

impl fmt::Display for DgraphVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_and_compared() {
        let version = |tag| DgraphVersion::from_tag(tag).unwrap();
        assert_eq!(version("v25.4.0"), MINIMUM_VERSION);
        assert_eq!(version("25.4.0-12-g64804bd285"), MINIMUM_VERSION);
        for new in ["v25.4.1", "v25.10.0", "v26.0.0"] {
            assert!(version(new) > MINIMUM_VERSION, "{new}");
        }
        for old in ["v25.3.8", "v24.99.99", "v21.03.0"] {
            assert!(version(old) < MINIMUM_VERSION, "{old}");
        }
    }

    #[test]
    fn what_is_no_release_is_none() {
        for tag in [
            "",
            "local",
            "v25.4",
            "v25.4.0.1",
            "v25.4.x",
            "v25.4.0-preview1",
            "v25.4.0-rc1",
            "v25.4.-1",
        ] {
            assert_eq!(DgraphVersion::from_tag(tag), None, "{tag}");
        }
    }
}
