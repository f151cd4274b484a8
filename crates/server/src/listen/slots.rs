//! How many clients may be connected at once: as many as there are file descriptors for.

use tokio::sync::Semaphore;

/// Descriptors kept for files, peers and whatever else is no client (operations.md §2.13).
pub(crate) const RESERVED_DESCRIPTORS: u64 = 150;

/// Connections that one listener may have in a process that may have `limit` descriptors; `None` if
/// there is no room for any.
pub(crate) fn slots(limit: u64) -> Option<usize> {
    let left = limit.checked_sub(RESERVED_DESCRIPTORS).filter(|left| *left > 0)?;
    Some(usize::try_from(left).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn u_07_u_08_what_is_not_reserved_is_for_clients() {
        assert_eq!(slots(0), None);
        assert_eq!(slots(150), None);
        assert_eq!(slots(151), Some(1));
        assert_eq!(slots(1024), Some(874));
        assert_eq!(slots(u64::MAX), Some(Semaphore::MAX_PERMITS));
    }
}
