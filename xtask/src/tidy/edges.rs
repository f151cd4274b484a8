//! Which crate may use which: the table of design.md §3.
//!
//! A new edge is a design decision. It is made here, in the commit that says why.

use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;

/// Layer and allowed dependencies of each package of ours. `*` is everything below its layer.
const ALLOWED: &[(&str, u8, &[&str])] = &[
    ("etcdrs-proto", 0, &[]),
    ("etcdrs-types", 0, &[]),
    ("etcdrs-platform", 1, &["types"]),
    // Peers, clients and tools speak TLS alike; rafthttp-transport is handed its connections.
    ("etcdrs-tls", 1, &["platform", "types"]),
    ("etcdrs-wal", 2, &["platform", "types", "proto"]),
    ("etcdrs-snap", 2, &["platform", "types", "proto"]),
    ("etcdrs-backend", 2, &["platform", "types"]),
    ("etcdrs-mvcc", 3, &["backend", "types", "proto"]),
    ("etcdrs-lease", 3, &["backend", "types", "proto"]),
    ("etcdrs-auth", 3, &["backend", "types", "proto"]),
    ("etcdrs-membership", 3, &["backend", "types", "proto"]),
    ("etcdrs-v2store", 3, &["types", "proto"]),
    ("etcdrs-apply", 4, &["*"]),
    ("etcdrs-raft-glue", 4, &["*", "apply"]),
    ("etcdrs-rafthttp-transport", 4, &["platform", "types", "proto"]),
    ("etcdrs-client", 4, &["platform", "types", "proto", "tls"]),
    ("etcdrs-server", 5, &["*"]),
    // Offline commands open data directories, hence the storage crates; never the server.
    (
        "etcdrs-ctl",
        5,
        &[
            "client",
            "platform",
            "tls",
            "types",
            "proto",
            "wal",
            "snap",
            "backend",
            "mvcc",
            "membership",
        ],
    ),
    ("etcdrs-benchmark", 5, &["client", "platform", "types", "proto"]),
    ("etcdrs-tests", 6, &["*"]),
    ("xtask", 6, &[]),
];

/// Outside libraries that only some crates may use directly.
const CONFINED: &[(&str, &[&str])] = &[
    (
        "tokio",
        &[
            "tls",
            "raft-glue",
            "rafthttp-transport",
            "client",
            "server",
            "ctl",
            "benchmark",
            "tests",
        ],
    ),
    ("anyhow", &["server", "ctl", "benchmark", "tests", "xtask"]),
    ("openraft", &["raft-glue"]),
    ("rocksdb", &["backend"]),
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// Absent for a normal dependency, else `dev` or `build`.
    kind: Option<String>,
}

/// Checks the manifests of the workspace; returns one line per problem.
pub(super) fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let output = std::process::Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root)
        .output()
        .context("running cargo metadata")?;
    anyhow::ensure!(
        output.status.success(),
        "cargo metadata failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Metadata = serde_json::from_slice(&output.stdout)?;
    Ok(metadata.packages.iter().flat_map(problems_of).collect())
}

fn problems_of(package: &Package) -> Vec<String> {
    let Some(&(_, layer, allowed)) = ALLOWED.iter().find(|(name, ..)| *name == package.name) else {
        return vec![format!("{}: not in the table of xtask/src/tidy/edges.rs", package.name)];
    };
    let mut problems = Vec::new();
    for dependency in &package.dependencies {
        let dev = dependency.kind.as_deref() == Some("dev");
        if let Some(&(name, below, _)) = ALLOWED.iter().find(|(n, ..)| *n == dependency.name) {
            let listed = allowed.contains(&short(name)) || allowed.contains(&"*") && below < layer;
            // A test may lean on anything that does not stand above the crate; a crate may lean on
            // itself to switch on its own test features.
            let fine = listed || dev && below <= layer;
            if !fine {
                problems.push(format!("{}: must not use {name}", package.name));
            }
        }
        let confined = CONFINED.iter().find(|(name, _)| *name == dependency.name);
        if let Some((name, users)) = confined
            && !dev
            && !users.contains(&short(&package.name))
        {
            problems.push(format!("{}: must not use {name} directly", package.name));
        }
    }
    problems
}

fn short(name: &str) -> &str {
    name.strip_prefix("etcdrs-").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(name: &str, dependencies: &[(&str, Option<&str>)]) -> Vec<String> {
        let dependencies = dependencies
            .iter()
            .map(|(name, kind)| Dependency { name: (*name).into(), kind: kind.map(String::from) })
            .collect();
        problems_of(&Package { name: name.into(), dependencies })
    }

    #[test]
    fn edges_of_the_table_are_accepted() {
        assert!(problems("etcdrs-mvcc", &[("etcdrs-backend", None), ("bytes", None)]).is_empty());
        assert!(problems("etcdrs-apply", &[("etcdrs-lease", None)]).is_empty());
        assert!(problems("etcdrs-raft-glue", &[("etcdrs-apply", None)]).is_empty());
    }

    #[test]
    fn siblings_upper_layers_and_strangers_are_refused() {
        assert_eq!(problems("etcdrs-mvcc", &[("etcdrs-lease", None)]).len(), 1);
        assert_eq!(problems("etcdrs-apply", &[("etcdrs-raft-glue", None)]).len(), 1);
        assert_eq!(problems("etcdrs-ctl", &[("etcdrs-server", None)]).len(), 1);
        assert_eq!(problems("etcdrs-new", &[]).len(), 1);
    }

    #[test]
    fn tests_may_use_neighbours_but_nothing_above() {
        assert!(problems("etcdrs-mvcc", &[("etcdrs-lease", Some("dev"))]).is_empty());
        assert_eq!(problems("etcdrs-mvcc", &[("etcdrs-server", Some("dev"))]).len(), 1);
    }

    #[test]
    fn confined_libraries_stay_in_their_crates() {
        assert_eq!(problems("etcdrs-apply", &[("tokio", None)]).len(), 1);
        assert_eq!(problems("etcdrs-mvcc", &[("rocksdb", None)]).len(), 1);
        assert!(problems("etcdrs-apply", &[("tokio", Some("dev"))]).is_empty());
        assert!(problems("etcdrs-backend", &[("rocksdb", None)]).is_empty());
    }
}
