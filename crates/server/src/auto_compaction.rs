//! The leader compacts by itself, as `--auto-compaction-retention` says (CP-06).

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use etcdrs_proto::etcdserverpb as pb;
use prost::Message as _;
use tonic::Code;

use crate::api::{Api, compact};
use crate::config::Retention;

/// Compactions of a period are at most this far apart.
const INTERVAL_MAX: Duration = Duration::from_secs(3600);
/// Looks in one such interval.
const LOOKS: u32 = 10;
/// How often it is looked how many revisions there are.
const REVISIONS_LOOK: Duration = Duration::from_secs(5 * 60);

/// Decides when to compact at what. Every member keeps one, so that a new leader knows the past.
#[derive(Debug)]
enum Schedule {
    Period {
        period: Duration,
        /// Revisions of the last looks, of one period.
        past: VecDeque<i64>,
        /// Since the last compaction, or since the start.
        waited: Duration,
        /// Whether a first period is over.
        began: bool,
        compacted: i64,
    },
    Revisions {
        keep: i64,
        compacted: i64,
    },
}

impl Schedule {
    /// A schedule that begins at `revision`.
    fn new(retention: Retention, revision: i64) -> Option<Self> {
        match retention {
            Retention::Everything => None,
            Retention::Period(period) => Some(Self::Period {
                period,
                past: VecDeque::from([revision]),
                waited: Duration::ZERO,
                began: false,
                compacted: 0,
            }),
            Retention::Revisions(keep) => Some(Self::Revisions { keep, compacted: 0 }),
        }
    }

    /// How often to look.
    fn pause(&self) -> Duration {
        match self {
            Self::Period { period, .. } => (*period).min(INTERVAL_MAX) / LOOKS,
            Self::Revisions { .. } => REVISIONS_LOOK,
        }
    }

    /// One look, [`Self::pause`] after the one before: the revision to compact at, on the leader.
    fn look(&mut self, revision: i64, leads: bool) -> Option<i64> {
        let pause = self.pause();
        match self {
            Self::Period { period, past, waited, began, compacted } => {
                *waited += pause;
                let looks = usize::try_from(period.as_nanos() / pause.as_nanos().max(1));
                past.push_back(revision);
                if past.len() - 1 > looks.unwrap_or(usize::MAX) {
                    past.pop_front();
                }
                let oldest = *past.front().unwrap_or(&revision);
                let due = if *began { (*period).min(INTERVAL_MAX) } else { *period };
                (leads && *waited >= due && oldest != *compacted).then_some(oldest)
            }
            Self::Revisions { keep, compacted } => {
                let at = revision - *keep;
                (leads && at > 0 && at != *compacted).then_some(at)
            }
        }
    }

    /// It was compacted at `revision`.
    fn done(&mut self, revision: i64) {
        match self {
            Self::Period { waited, began, compacted, .. } => {
                (*waited, *began, *compacted) = (Duration::ZERO, true, revision);
            }
            Self::Revisions { compacted, .. } => *compacted = revision,
        }
    }

    fn mode(&self) -> &'static str {
        match self {
            Self::Period { .. } => "periodic",
            Self::Revisions { .. } => "revision",
        }
    }
}

/// Compacts for as long as the server runs, whenever this member leads.
pub(crate) async fn run(api: Api, retention: Retention) {
    let revision = api.state.reader.current_revision();
    let Some(mut schedule) = Schedule::new(retention, revision) else { return };
    loop {
        tokio::time::sleep(schedule.pause()).await;
        let leads = api.raft.status().is_leader;
        let Some(revision) = schedule.look(api.state.reader.current_revision(), leads) else {
            continue;
        };
        let mode = schedule.mode();
        tracing::info!(revision, "starting auto {mode} compaction");
        let request = pb::CompactionRequest { revision, physical: false };
        let request = Bytes::from(request.encode_to_vec());
        match compact(&api, request).await {
            Ok(_) => {}
            // Somebody else was quicker.
            Err(status) if status.code() == Code::OutOfRange => {}
            Err(error) => {
                tracing::warn!(revision, %error, "failed auto {mode} compaction");
                continue;
            }
        }
        schedule.done(revision);
        tracing::info!(revision, "completed auto {mode} compaction");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn period(seconds: u64) -> Schedule {
        let period = Retention::Period(Duration::from_secs(seconds));
        Schedule::new(period, 1).expect("it is on")
    }

    /// Looks every six minutes, while there is one revision more each minute; when it was compacted
    /// at what.
    fn walk(
        schedule: &mut Schedule,
        minutes: std::ops::RangeInclusive<i64>,
        leads: bool,
    ) -> Vec<(i64, i64)> {
        let mut done = Vec::new();
        for minute in minutes.step_by(6) {
            if let Some(revision) = schedule.look(minute + 1, leads) {
                schedule.done(revision);
                done.push((minute, revision));
            }
        }
        done
    }

    #[test]
    fn cp_06_row_062_a_long_period_is_kept_and_looked_at_each_hour() {
        let mut schedule = period(2 * 3600);
        assert_eq!(schedule.pause(), Duration::from_secs(360));
        let done = walk(&mut schedule, 6..=300, true);
        assert_eq!(done, [(120, 1), (180, 61), (240, 121), (300, 181)]);
    }

    #[test]
    fn cp_06_row_062_a_short_period_is_kept_and_looked_at_each_period() {
        let done = walk(&mut period(3600), 6..=180, true);
        assert_eq!(done, [(60, 1), (120, 61), (180, 121)]);
        // Nothing new, nothing to do.
        let mut schedule = period(10);
        assert_eq!(schedule.pause(), Duration::from_secs(1));
        let mut done = Vec::new();
        for _ in 0..100 {
            if let Some(revision) = schedule.look(7, true) {
                schedule.done(revision);
                done.push(revision);
            }
        }
        assert_eq!(done, [1, 7]);
    }

    #[test]
    fn r_20_a_follower_knows_the_past_and_compacts_nothing() {
        let mut schedule = period(3600);
        assert_eq!(walk(&mut schedule, 6..=180, false), []);
        assert_eq!(walk(&mut schedule, 186..=186, true), [(186, 127)], "now it leads");
    }

    #[test]
    fn a_failed_compaction_is_tried_again_at_the_next_look() {
        let mut schedule = period(3600);
        assert_eq!(walk(&mut schedule, 6..=54, true), []);
        assert_eq!(schedule.look(61, true), Some(1));
        assert_eq!(schedule.look(67, true), Some(7));
        schedule.done(7);
        assert_eq!(schedule.look(73, true), None);
    }

    #[test]
    fn cp_06_row_062_revisions_are_kept_by_their_number() {
        let mut schedule = Schedule::new(Retention::Revisions(1000), 1).expect("it is on");
        assert_eq!(schedule.pause(), Duration::from_secs(300));
        assert_eq!(schedule.look(900, true), None);
        assert_eq!(schedule.look(1500, false), None);
        assert_eq!(schedule.look(1500, true), Some(500));
        schedule.done(500);
        assert_eq!(schedule.look(1500, true), None, "nothing is new");
        assert_eq!(schedule.look(1501, true), Some(501));
    }
}
