//! Members in network namespaces of their own, joined by a bridge: real packets, really dropped.
//!
//! A cut of one direction gives the sender a wrong hardware address for the receiver, so that its
//! packets reach nobody and it is not told. That needs root and `ip`, and no packet filter, which
//! many kernels lack.

use std::process::Command;

use anyhow::{Context, Result, bail};

/// A bridge with a namespace for each member.
#[derive(Debug)]
pub struct Namespaces {
    name: String,
    subnet: String,
    members: usize,
}

/// An address that no interface has.
const NOBODY: &str = "02:00:00:00:00:fe";

impl Namespaces {
    /// Makes them.
    ///
    /// # Errors
    ///
    /// When this process may not, or the machine cannot.
    pub fn create(members: usize) -> Result<Self> {
        remove_stale();
        let pid = std::process::id();
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("rb{pid}x{number}");
        let subnet = format!("10.{}.{}", 128 + (pid >> 6) % 64, (pid % 64) * 4 + number % 4);
        // From here on dropping it removes what was made.
        let made = Self { name, subnet, members };
        let bridge = &made.name;
        ip(&format!("link add {bridge} type bridge"))?;
        ip(&format!("addr add {}/24 dev {bridge}", made.outside()))?;
        ip(&format!("link set {bridge} up"))?;
        for member in 0..members {
            let (inside, cable) = (made.namespace(member), format!("{bridge}c{member}"));
            ip(&format!("netns add {inside}"))?;
            ip(&format!("link add {cable} type veth peer name eth0 netns {inside}"))?;
            ip(&format!("link set {cable} master {bridge} up"))?;
            ip(&format!("-n {inside} addr add {}/24 dev eth0", made.address(member)))?;
            ip(&format!("-n {inside} link set eth0 up"))?;
            ip(&format!("-n {inside} link set lo up"))?;
        }
        Ok(made)
    }

    /// Where a member listens; the end after the last member is where clients are.
    pub fn address(&self, end: usize) -> String {
        if end == self.members {
            return self.outside();
        }
        format!("{}.{}", self.subnet, end + 10)
    }

    fn outside(&self) -> String {
        format!("{}.1", self.subnet)
    }

    fn namespace(&self, member: usize) -> String {
        format!("{}m{member}", self.name)
    }

    /// What stands before a member's command line.
    pub fn prefix(&self, member: usize) -> Vec<String> {
        let namespace = self.namespace(member);
        ["ip", "netns", "exec", &namespace].map(str::to_owned).to_vec()
    }

    /// Cuts one direction, or mends it.
    pub fn cut(&self, from: usize, to: usize, cut: bool) -> Result<()> {
        let at = if from == self.members {
            format!("neigh replace {} dev {}", self.address(to), self.name)
        } else {
            let namespace = self.namespace(from);
            format!("-n {namespace} neigh replace {} dev eth0", self.address(to))
        };
        if cut {
            return ip(&format!("{at} lladdr {NOBODY} nud permanent"));
        }
        // The true address is asked for again with the next packet.
        ip(&at.replacen("replace", "del", 1))
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for member in 0..self.members {
            // A namespace lives on while a connection in it waits for its end; its cable shall not.
            let _ = ip(&format!("link del {}c{member}", self.name));
            let _ = ip(&format!("netns del {}", self.namespace(member)));
        }
        let _ = ip(&format!("link del {}", self.name));
    }
}

fn ip(words: &str) -> Result<()> {
    let output = Command::new("ip").args(words.split(' ')).output().context("execute ip")?;
    if !output.status.success() {
        bail!("ip {words}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Removes what processes left that were killed.
fn remove_stale() {
    let owner_is_gone = |name: &str| {
        let pid = name.strip_prefix("rb").and_then(|rest| rest.split('x').next());
        pid.and_then(|pid| pid.parse::<u32>().ok())
            .is_some_and(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists())
    };
    let names = |words: &str| {
        let output = Command::new("ip").args(words.split(' ')).output();
        let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
        let text = text.unwrap_or_default();
        text.lines()
            .filter_map(|line| line.split([' ', ':', '@']).find(|word| word.starts_with("rb")))
            .map(str::to_owned)
            .filter(|name| owner_is_gone(name))
            .collect::<Vec<_>>()
    };
    for namespace in names("netns list") {
        let _ = ip(&format!("netns del {namespace}"));
    }
    for kind in ["veth", "bridge"] {
        for link in names(&format!("-o link show type {kind}")) {
            let _ = ip(&format!("link del {link}"));
        }
    }
}
