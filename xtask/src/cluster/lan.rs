//! A network of namespaces: one for each member, and one for the switch between them and for
//! whoever wants to talk to them.
//!
//! The machine's own network is not touched, so no address can clash with one in use there. A cut
//! takes the switch's end of a cable down: packets are lost in both directions and nobody gets an
//! answer, as when a machine loses its network, and unlike a process that ends.

use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use super::layout::Layout;

/// Network of the members; it exists inside the namespaces only.
const NETWORK: &str = "10.23.79";
/// Last part of the first member's address. The switch has 1.
const FIRST: usize = 10;

/// The namespaces, gone when this is dropped.
pub(super) struct Lan {
    /// Part of every name, so that runs beside each other do not meet.
    id: u32,
    members: usize,
}

impl Lan {
    /// Makes the switch, and a namespace and a cable for each member.
    pub(super) fn new(layout: &Layout) -> anyhow::Result<Self> {
        let lan = Self { id: std::process::id(), members: layout.places.len() };
        lan.make()
            .context("--netns needs root, ip and a kernel with namespaces, veth and bridge")?;
        Ok(lan)
    }

    fn make(&self) -> anyhow::Result<()> {
        let switch = self.switch();
        ip(&format!("netns add {switch}"))?;
        // No spanning tree: a port that comes up forwards at once.
        ip(&format!("-n {switch} link add br0 type bridge stp_state 0 forward_delay 0"))?;
        ip(&format!("-n {switch} addr add {NETWORK}.1/24 dev br0"))?;
        ip(&format!("-n {switch} link set br0 up"))?;
        for n in 0..self.members {
            let member = self.namespace(n);
            let cable = cable(n);
            ip(&format!("netns add {member}"))?;
            ip(&format!("-n {switch} link add {cable} type veth peer name eth0 netns {member}"))?;
            ip(&format!("-n {switch} link set {cable} master br0 up"))?;
            ip(&format!("-n {member} addr add {}/24 dev eth0", address(n)))?;
            ip(&format!("-n {member} link set eth0 up"))?;
            ip(&format!("-n {member} link set lo up"))?;
        }
        Ok(())
    }

    /// The layout with the members' addresses in this network.
    pub(super) fn place(&self, layout: &Layout) -> Layout {
        layout.with_hosts(address)
    }

    /// Words before a command that is to run in the namespace of member `n`.
    pub(super) fn inside(&self, n: usize) -> [String; 4] {
        ["ip", "netns", "exec", &self.namespace(n)].map(String::from)
    }

    /// The namespace from which clients reach all members.
    pub(super) fn switch(&self) -> String {
        format!("etcd-rs-{}-lan", self.id)
    }

    fn namespace(&self, n: usize) -> String {
        format!("etcd-rs-{}-{n}", self.id)
    }

    /// Member `n` neither hears nor is heard.
    pub(super) fn cut(&self, n: usize) -> anyhow::Result<()> {
        ip(&format!("-n {} link set {} down", self.switch(), cable(n)))
    }

    /// Ends a cut.
    pub(super) fn heal(&self, n: usize) -> anyhow::Result<()> {
        ip(&format!("-n {} link set {} up", self.switch(), cable(n)))
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        // Cables and the bridge go with their namespaces. What was never made cannot be deleted.
        for namespace in (0..self.members).map(|n| self.namespace(n)).chain([self.switch()]) {
            let mut delete = Command::new("ip");
            delete.args(["netns", "del", &namespace]).stderr(Stdio::null());
            let _ = delete.status();
        }
    }
}

fn address(n: usize) -> String {
    format!("{NETWORK}.{}", FIRST + n)
}

/// The switch's end of the cable of member `n`.
fn cable(n: usize) -> String {
    format!("port{n}")
}

fn ip(arguments: &str) -> anyhow::Result<()> {
    let output = Command::new("ip").args(arguments.split_whitespace()).output();
    let output = output.context("running ip")?;
    if !output.status.success() {
        bail!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
