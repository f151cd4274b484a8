//! Whether the core thread is on time: everything that is due runs on it, heartbeats as well.

use std::time::Duration;

use etcdrs_platform::Clock as _;

use crate::api::Api;

/// How often it is looked.
const TICK: Duration = Duration::from_millis(50);

/// Records how late a timer of the core thread fires, and says so when the heartbeats of a leader
/// were late: more than two intervals lay between two of them (R15).
pub(super) async fn measure(api: Api, heartbeat: Duration) {
    loop {
        let before = api.clock.now_ns();
        tokio::time::sleep(TICK).await;
        let late = api.clock.now_ns().saturating_sub(before + TICK.as_nanos() as u64);
        let late = Duration::from_nanos(late);
        api.metrics.loop_lag.observe(late.as_secs_f64());
        if late > heartbeat && api.raft.status().is_leader && has_followers(&api) {
            api.metrics.late_heartbeats.inc();
            tracing::warn!(
                heartbeat_interval = ?heartbeat,
                expected_duration = ?(2 * heartbeat),
                exceeded_duration = ?(late - heartbeat),
                "leader failed to send out heartbeat on time; took too long, leader is overloaded likely from slow disk"
            );
        }
    }
}

fn has_followers(api: &Api) -> bool {
    api.raft.membership().members().nth(1).is_some()
}
