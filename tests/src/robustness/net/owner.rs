//! Which process is at the other end of a connection on this machine.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::net::TcpStream;

use crate::robustness::member::Public;

/// The member whose process dialled, if it was one.
pub(super) fn of(accepted: &TcpStream, members: &[Arc<Public>]) -> Option<usize> {
    let dialler = accepted.peer_addr().ok()?.port();
    let listener = accepted.local_addr().ok()?.port();
    let inode = inode_of(dialler, listener)?;
    members.iter().position(|member| {
        let pid = member.pid.load(Ordering::SeqCst);
        pid != 0 && has_socket(pid, &inode)
    })
}

/// The socket with these local and remote ports, by the kernel's table of connections.
fn inode_of(local: u16, remote: u16) -> Option<String> {
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let (local, remote) = (format!(":{local:04X}"), format!(":{remote:04X}"));
    table.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let found = words.get(1)?.ends_with(&local) && words.get(2)?.ends_with(&remote);
        found.then(|| words.get(9).map(|inode| (*inode).to_owned()))?
    })
}

fn has_socket(pid: u32, inode: &str) -> bool {
    let wanted = format!("socket:[{inode}]");
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    files
        .filter_map(|file| std::fs::read_link(file.path()).ok())
        .any(|link| link.as_os_str() == wanted.as_str())
}
