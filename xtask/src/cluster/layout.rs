//! Names, addresses and command lines of the members.

use std::fmt::Write as _;
use std::net::TcpListener;

use anyhow::{Context as _, ensure};

/// Distance between the ports of two members.
const PORT_STEP: u16 = 10_000;
/// More do not fit below port 65536, and nobody wants larger clusters.
const MEMBERS_MAX: usize = 7;
/// Mixed into the ids of members, so that clusters with equal addresses do not meet by accident.
const TOKEN: &str = "tkn";

/// One member: what it is called and where it listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// `etcd-node-N`.
    pub(super) name: String,
    /// Address without port.
    pub(super) host: String,
    client_port: u16,
    peer_port: u16,
}

impl Place {
    /// Where clients are served.
    pub(super) fn client_url(&self) -> String {
        format!("http://{}:{}", self.host, self.client_port)
    }

    /// Where peers are served.
    pub(super) fn peer_url(&self) -> String {
        format!("http://{}:{}", self.host, self.peer_port)
    }
}

/// All members.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Layout {
    /// The members, by number.
    pub(super) places: Vec<Place>,
    /// Further flags, the same for all.
    pub(super) flags: Vec<String>,
}

impl Layout {
    /// `count` members on the loopback address, the first one's client port being `base`.
    pub(super) fn place_on_loopback(&mut self, count: usize, base: u16) -> anyhow::Result<()> {
        ensure!((1..=MEMBERS_MAX).contains(&count), "--members: from 1 to {MEMBERS_MAX}");
        let place = |n: usize| {
            let ports = u16::try_from(n).ok()?.checked_mul(PORT_STEP)?.checked_add(base)?;
            let (client_port, peer_port) = (ports, ports.checked_add(1)?);
            Some(Place { name: name(n), host: "127.0.0.1".into(), client_port, peer_port })
        };
        let places: Option<Vec<Place>> = (0..count).map(place).collect();
        self.places = places.with_context(|| {
            format!("--base-port {base}: the ports of {count} members would pass 65535")
        })?;
        Ok(())
    }

    /// The same members on addresses of their own, so that all can have the same ports.
    pub(super) fn with_hosts(&self, host: impl Fn(usize) -> String) -> Self {
        let mut layout = self.clone();
        for (n, place) in layout.places.iter_mut().enumerate() {
            place.host = host(n);
        }
        layout
    }

    /// Says which port is taken, before anything is started.
    pub(super) fn check_ports(&self) -> anyhow::Result<()> {
        for place in &self.places {
            for (port, of) in [(place.client_port, "clients"), (place.peer_port, "peers")] {
                let address = format!("{}:{port}", place.host);
                TcpListener::bind(&address).with_context(|| {
                    let name = &place.name;
                    format!("{address}, for the {of} of {name}, cannot be had; try --base-port")
                })?;
            }
        }
        Ok(())
    }

    /// All client URLs, as `--endpoints` takes them.
    pub(super) fn endpoints(&self) -> String {
        let urls: Vec<String> = self.places.iter().map(Place::client_url).collect();
        urls.join(",")
    }

    /// Arguments of member `n`, beside its data folder.
    pub(super) fn arguments(&self, n: usize) -> Vec<String> {
        let place = &self.places[n];
        let (client, peer) = (place.client_url(), place.peer_url());
        let cluster: Vec<String> =
            self.places.iter().map(|p| format!("{}={}", p.name, p.peer_url())).collect();
        let pairs = [
            ("--name", place.name.clone()),
            ("--listen-client-urls", client.clone()),
            ("--advertise-client-urls", client),
            ("--listen-peer-urls", peer.clone()),
            ("--initial-advertise-peer-urls", peer),
            ("--initial-cluster", cluster.join(",")),
            ("--initial-cluster-token", TOKEN.into()),
            ("--initial-cluster-state", "new".into()),
        ];
        let own = pairs.into_iter().flat_map(|(flag, value)| [flag.to_string(), value]);
        own.chain(self.flags.iter().cloned()).collect()
    }

    /// One line a member, as goreman, overmind and foreman take them.
    pub(super) fn procfile(&self, program: &str) -> String {
        let mut out = String::new();
        for (n, Place { name, .. }) in self.places.iter().enumerate() {
            let arguments = self.arguments(n).join(" ");
            let _ = writeln!(out, "{name}: {program} {arguments} --data-dir {name}.etcd");
        }
        out
    }
}

/// The name of member `n`.
pub(super) fn name(n: usize) -> String {
    format!("etcd-node-{n}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(count: usize, base: u16) -> anyhow::Result<Layout> {
        let mut layout = Layout::default();
        layout.place_on_loopback(count, base)?;
        Ok(layout)
    }

    #[test]
    fn ports_are_those_of_the_three_node_layout() {
        let layout = layout(3, 2379).unwrap();
        assert_eq!(
            layout.endpoints(),
            "http://127.0.0.1:2379,http://127.0.0.1:12379,http://127.0.0.1:22379"
        );
        assert_eq!(layout.places[2].peer_url(), "http://127.0.0.1:22380");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(layout(7, 2379).is_ok() && layout(8, 2379).is_err() && layout(0, 2379).is_err());
        let error = layout(3, 50_000).unwrap_err().to_string();
        assert!(error.contains("65535"), "{error}");
    }

    #[test]
    fn a_port_in_use_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = layout(1, port).unwrap().check_ports().unwrap_err().to_string();
        assert!(error.contains(&format!("127.0.0.1:{port}")) && error.contains("etcd-node-0"));
    }

    /// deploy/ tells the same story in three places.
    #[test]
    fn the_files_of_deploy_have_this_layout() {
        let layout = layout(3, 2379).unwrap();
        let deploy = |file| {
            let path =
                std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(file);
            std::fs::read_to_string(path).unwrap()
        };
        let procfile = deploy("Procfile");
        let lines: Vec<&str> = procfile.lines().filter(|l| !l.starts_with('#')).collect();
        assert_eq!(lines.join("\n") + "\n", layout.procfile("etcd"));
        let compose = deploy("compose.yaml");
        for place in &layout.places {
            let (name, client, peer) = (&place.name, place.client_port, place.peer_port);
            for needed in [
                format!("--name={name}\n"),
                format!("--listen-client-urls=http://0.0.0.0:{client}\n"),
                format!("--advertise-client-urls=http://{name}:{client}\n"),
                format!("--listen-peer-urls=http://0.0.0.0:{peer}\n"),
                format!("--initial-advertise-peer-urls=http://{name}:{peer}\n"),
                format!("{name}=http://{name}:{peer}"),
                format!("'127.0.0.1:{client}:{client}'"),
            ] {
                assert!(compose.contains(&needed), "{needed}");
            }
        }
        assert!(compose.contains(&format!("--initial-cluster-token={TOKEN}\n")));
    }
}
