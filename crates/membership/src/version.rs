//! Versions of servers and of the cluster (operations.md §2.16).

use std::fmt;
use std::str::FromStr;

/// A semantic version without what may follow the three numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Changes what a cluster can be.
    pub major: u64,
    /// Changes what a cluster can do.
    pub minor: u64,
    /// Changes nothing that members must agree on.
    pub patch: u64,
}

/// A text that is not a version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a version of the form 1.2.3")]
pub struct ParseVersionError(String);

impl Version {
    /// What a cluster has before its members told theirs.
    pub const CLUSTER_MIN: Self = Self { major: 3, minor: 0, patch: 0 };

    /// The version of a cluster whose oldest member has this one: without its patch.
    #[must_use]
    pub const fn cluster(self) -> Self {
        Self { patch: 0, ..self }
    }

    /// The next minor version.
    #[must_use]
    pub const fn next_minor(self) -> Self {
        Self { minor: self.minor + 1, patch: 0, ..self }
    }

    /// Whether a server of this version may be a member of a cluster of that one. An older server
    /// would not understand what the cluster has agreed on.
    #[must_use]
    pub fn may_serve(self, cluster: Self) -> bool {
        self.cluster() >= cluster.cluster()
    }
}

impl FromStr for Version {
    type Err = ParseVersionError;

    /// Reads `3.7.1`, `3.7.1-rc.0` and `3.7.1+meta`.
    fn from_str(text: &str) -> Result<Self, ParseVersionError> {
        let numbers = text.split(['-', '+']).next().unwrap_or_default();
        let mut parts = numbers.split('.').map(|part| part.parse::<u64>().ok());
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(Some(major)), Some(Some(minor)), Some(Some(patch)), None) => {
                Ok(Self { major, minor, patch })
            }
            _ => Err(ParseVersionError(text.to_owned())),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// The cluster version that the leader is to propose now: `None` if the present one stays.
///
/// `servers` are the versions of all members, `None` for one that could not be asked. It only
/// rises, and never into another major version.
///
/// ```
/// use etcdrs_membership::{Version, negotiate};
/// let at = |text: &str| text.parse::<Version>().unwrap();
/// let servers = [Some(at("3.7.1")), Some(at("3.6.14"))];
/// assert_eq!(negotiate(None, servers), Some(at("3.6.0")));
/// assert_eq!(negotiate(Some(at("3.6.0")), servers), None);
/// assert_eq!(negotiate(None, [Some(at("3.7.1")), None]), Some(Version::CLUSTER_MIN));
/// ```
pub fn negotiate(
    present: Option<Version>,
    servers: impl IntoIterator<Item = Option<Version>>,
) -> Option<Version> {
    let all: Option<Vec<Version>> = servers.into_iter().collect();
    let least = all.and_then(|all| all.into_iter().min()).map(Version::cluster);
    match (present, least) {
        (None, least) => Some(least.unwrap_or(Version::CLUSTER_MIN)),
        (Some(present), Some(least)) => {
            (present.major == least.major && present.cluster() < least).then_some(least)
        }
        (Some(_), None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn versions_read_and_write() {
        for (text, shown) in [("3.7.1", "3.7.1"), ("3.7.0-rc.1", "3.7.0"), ("3.6.14+git", "3.6.14")]
        {
            assert_eq!(at(text).to_string(), shown);
        }
        for bad in ["", "3", "3.7", "3.7.x", "3.7.1.2", "v3.7.1", "not_decided"] {
            assert!(bad.parse::<Version>().is_err(), "{bad}");
        }
        assert!(at("3.10.0") > at("3.9.9"));
    }

    #[test]
    fn the_cluster_version_only_rises() {
        let servers = |texts: &[&str]| texts.iter().map(|t| Some(at(t))).collect::<Vec<_>>();
        let raised = negotiate(Some(at("3.0.0")), servers(&["3.7.1", "3.7.0"]));
        assert_eq!(raised, Some(at("3.7.0")));
        assert_eq!(negotiate(Some(at("3.7.0")), servers(&["3.6.1", "3.7.1"])), None);
        assert_eq!(negotiate(Some(at("3.7.0")), servers(&["4.0.0"])), None);
        assert_eq!(negotiate(Some(at("3.6.0")), [Some(at("3.7.0")), None]), None);
        assert_eq!(negotiate(Some(at("3.6.0")), []), None);
    }

    #[test]
    fn an_older_server_may_not_serve() {
        assert!(at("3.7.1").may_serve(at("3.7.0")) && at("3.8.0").may_serve(at("3.7.0")));
        assert!(!at("3.6.9").may_serve(at("3.7.0")));
    }
}
