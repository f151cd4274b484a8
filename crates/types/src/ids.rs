//! Newtypes for the numbers that must not be mixed up.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl From<$inner> for $name {
            fn from(value: $inner) -> Self {
                Self(value)
            }
        }
    };
}

id!(
    /// A member of a cluster. Never reused; printed as lower-case hex without padding.
    MemberId(u64)
);
id!(
    /// A cluster. Printed like a [`MemberId`].
    ClusterId(u64)
);
id!(
    /// A raft term.
    Term(u64)
);
id!(
    /// The index of an entry in the raft log. The first entry has index 1; 0 means "none".
    LogIndex(u64)
);
id!(
    /// A lease. Any 64-bit number but 0, which means "no lease".
    LeaseId(i64)
);

impl LeaseId {
    /// The value that stands for "no lease".
    pub const NONE: Self = Self(0);

    /// Whether this names a lease at all.
    #[must_use]
    pub const fn is_some(self) -> bool {
        self.0 != 0
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for LogIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_print_as_etcd_prints_them() {
        assert_eq!(MemberId(0x8e9e_05c5_2164_694d).to_string(), "8e9e05c52164694d");
        assert_eq!(MemberId(0x0e).to_string(), "e");
        assert_eq!(LeaseId(0x1a).to_string(), "000000000000001a");
        assert_eq!(LeaseId(-7).to_string(), "fffffffffffffff9");
    }
}
