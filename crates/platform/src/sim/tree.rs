//! Names of the simulated file system: what look-ups show, and what would survive.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path};

use crate::fs::{DirEntry, parent};
use crate::random::{Random, SeededRandom};
use crate::sim::CrashMode;
use crate::sim::node::{FileNode, Node};

/// Number of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ino(usize);

const ROOT: Ino = Ino(0);

type Names = BTreeMap<(Ino, OsString), Ino>;

/// One change of names: created (`Some`) or removed (`None`), several at once for a rename.
#[derive(Clone, Debug)]
struct NameChange(Vec<(Ino, OsString, Option<Ino>)>);

/// All nodes and names. Nodes are never freed: a simulated disk lives for one test.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    names: Names,
    durable_names: Names,
    pending: Vec<NameChange>,
}

impl Tree {
    pub(super) fn new() -> Self {
        Self {
            nodes: vec![Node::Dir],
            names: Names::new(),
            durable_names: Names::new(),
            pending: Vec::new(),
        }
    }

    pub(super) fn node(&self, ino: Ino) -> &Node {
        &self.nodes[ino.0]
    }

    pub(super) fn node_mut(&mut self, ino: Ino) -> &mut Node {
        &mut self.nodes[ino.0]
    }

    /// Bytes of all files that have a name.
    pub(super) fn bytes_used(&self) -> u64 {
        self.names
            .values()
            .map(|&ino| match self.node(ino) {
                Node::Dir => 0,
                Node::File(file) => file.content().len() as u64,
            })
            .sum()
    }

    pub(super) fn lookup(&self, path: &Path) -> io::Result<Ino> {
        let mut at = ROOT;
        for component in path.components() {
            match component {
                Component::RootDir | Component::CurDir => {}
                Component::Normal(name) => {
                    if let Node::File(_) = self.node(at) {
                        return Err(io::ErrorKind::NotADirectory.into());
                    }
                    let found = self.names.get(&(at, name.to_owned()));
                    at = *found.ok_or(io::ErrorKind::NotFound)?;
                }
                Component::ParentDir | Component::Prefix(_) => {
                    return Err(io::ErrorKind::InvalidInput.into());
                }
            }
        }
        Ok(at)
    }

    /// The directory of `path` and the name in it.
    fn place(&self, path: &Path) -> io::Result<(Ino, OsString)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let dir = self.lookup(parent(path))?;
        match self.node(dir) {
            Node::Dir => Ok((dir, name.to_owned())),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn change(&mut self, change: NameChange) {
        apply(&mut self.names, &change);
        self.pending.push(change);
    }

    fn create(&mut self, dir: Ino, name: OsString, node: Node) -> Ino {
        let ino = Ino(self.nodes.len());
        self.nodes.push(node);
        self.change(NameChange(vec![(dir, name, Some(ino))]));
        ino
    }

    pub(super) fn create_file(&mut self, path: &Path) -> io::Result<Ino> {
        let (dir, name) = self.place(path)?;
        Ok(self.create(dir, name, Node::File(FileNode::default())))
    }

    pub(super) fn create_dir_all(&mut self, path: &Path) -> io::Result<()> {
        let mut at = ROOT;
        for component in path.components() {
            if let Component::Normal(name) = component {
                at = match self.names.get(&(at, name.to_owned())) {
                    Some(&ino) => ino,
                    None => self.create(at, name.to_owned(), Node::Dir),
                };
                if let Node::File(_) = self.node(at) {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
            }
        }
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let ino = self.lookup(from)?;
        let (from_dir, from_name) = self.place(from)?;
        let (to_dir, to_name) = self.place(to)?;
        if let Some(&replaced) = self.names.get(&(to_dir, to_name.clone())) {
            match (self.node(ino), self.node(replaced)) {
                (Node::File(_), Node::File(_)) => {}
                (Node::Dir, Node::Dir) if !self.has_children(replaced) => {}
                (Node::Dir, Node::Dir) => return Err(io::ErrorKind::DirectoryNotEmpty.into()),
                (Node::Dir, Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                (Node::File(_), Node::Dir) => return Err(io::ErrorKind::IsADirectory.into()),
            }
        }
        self.change(NameChange(vec![(from_dir, from_name, None), (to_dir, to_name, Some(ino))]));
        Ok(())
    }

    fn has_children(&self, dir: Ino) -> bool {
        self.names.range((dir, OsString::new())..).next().is_some_and(|((at, _), _)| *at == dir)
    }

    /// Removes the name; what lies below a removed directory becomes unreachable with it.
    pub(super) fn unlink(&mut self, path: &Path) -> io::Result<()> {
        let (dir, name) = self.place(path)?;
        self.change(NameChange(vec![(dir, name, None)]));
        Ok(())
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let dir = self.lookup(path)?;
        if let Node::File(_) = self.node(dir) {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let below =
            self.names.range((dir, OsString::new())..).take_while(|((at, _), _)| *at == dir);
        Ok(below
            .map(|((_, name), &ino)| DirEntry {
                name: OsStr::to_owned(name),
                is_dir: matches!(self.node(ino), Node::Dir),
            })
            .collect())
    }

    /// Makes the changes of names in `path` durable, with those that came before them in the
    /// directories that they touch: a rename out of another directory cannot overtake the
    /// creation there.
    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let mut dirs = BTreeSet::from([self.lookup(path)?]);
        let mut covered = vec![false; self.pending.len()];
        for (change, covered) in self.pending.iter().zip(&mut covered).rev() {
            if change.0.iter().any(|(dir, ..)| dirs.contains(dir)) {
                *covered = true;
                dirs.extend(change.0.iter().map(|(dir, ..)| *dir));
            }
        }
        let mut covered = covered.into_iter();
        self.pending.retain(|change| {
            let is_covered = covered.next().unwrap_or(false);
            if is_covered {
                apply(&mut self.durable_names, change);
            }
            !is_covered
        });
        Ok(())
    }

    /// The tree as a power loss leaves it.
    pub(super) fn after_crash(&self, mode: CrashMode, random: &SeededRandom) -> Self {
        let n_kept = match mode {
            CrashMode::LoseAll => 0,
            CrashMode::KeepAll => self.pending.len(),
            CrashMode::Random => {
                usize::try_from(random.below(self.pending.len() as u64 + 1)).unwrap_or(0)
            }
        };
        let mut names = self.durable_names.clone();
        self.pending[..n_kept].iter().for_each(|change| apply(&mut names, change));
        let nodes = self
            .nodes
            .iter()
            .map(|node| match node {
                Node::Dir => Node::Dir,
                Node::File(file) => Node::File(file.after_crash(mode, random)),
            })
            .collect();
        Self { nodes, durable_names: names.clone(), names, pending: Vec::new() }
    }
}

fn apply(names: &mut Names, change: &NameChange) {
    for (dir, name, ino) in &change.0 {
        match ino {
            Some(ino) => names.insert((*dir, name.clone()), *ino),
            None => names.remove(&(*dir, name.clone())),
        };
    }
}
