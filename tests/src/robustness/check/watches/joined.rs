//! Answers to a watcher with their fragments joined (WA-22).

use crate::mvccpb::Event;
use crate::robustness::check::log::complete_responses;
use crate::robustness::history::{Nanos, Watch};

/// One answer.
#[derive(Default)]
pub(super) struct Joined {
    /// When the last fragment came.
    pub(super) at: Nanos,
    /// Of the header.
    pub(super) revision: i64,
    /// The flag.
    pub(super) created: bool,
    /// The flag.
    pub(super) canceled: bool,
    /// Why it was canceled, if by a compaction.
    pub(super) compact_revision: i64,
    /// In the order they came.
    pub(super) events: Vec<Event>,
}

/// Joins fragments. Fragments without their last are left out: the stream broke between them.
pub(super) fn join(watch: &Watch) -> Vec<Joined> {
    let mut all = Vec::new();
    let mut open = Joined::default();
    for received in &watch.responses[..complete_responses(watch)] {
        let response = &received.response;
        open.at = received.at;
        open.revision = response.header.as_ref().map_or(0, |header| header.revision);
        open.created |= response.created;
        open.canceled |= response.canceled;
        open.compact_revision = open.compact_revision.max(response.compact_revision);
        open.events.extend(response.events.iter().cloned());
        if !response.fragment {
            all.push(std::mem::take(&mut open));
        }
    }
    all
}
