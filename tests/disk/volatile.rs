//! What a disk holds, and what of it a loss of power leaves.
//!
//! The rules are those that the file systems in use keep at the least:
//! - of a file, what `fsync` or `fdatasync` covered stays. Each 512-byte sector written over since
//!   then stays or is lost on its own. What was appended stays up to some point: ext4, XFS and btrfs
//!   all record a new length only after the data below it. (RocksDB needs that: it refuses a manifest
//!   whose last record has a hole.)
//! - of the names, what an `fsync` of their directory covered stays. Later changes are lost from
//!   some point on: a journal keeps their order, as that of ext4, XFS and btrfs does;
//! - a synced file without a synced name is lost.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use etcdrs_tests::random::Random;

/// Number of a file or directory; never used twice.
pub(crate) type Ino = u64;

/// The root directory.
pub(crate) const ROOT: Ino = 1;
const PAGE_BYTES: usize = 4096;
const SECTOR_BYTES: usize = 512;

static ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];

type Page = [u8; PAGE_BYTES];

/// Names of a directory.
pub(crate) type Names = BTreeMap<OsString, Ino>;

/// Bytes of a file; pages of zeros are left out.
#[derive(Clone, Default)]
struct Content {
    pages: BTreeMap<u64, Arc<Page>>,
    length: u64,
}

/// A file: as it is, and as it was at the last sync.
#[derive(Default)]
struct File {
    current: Content,
    durable: Content,
    changed: BTreeSet<u64>,
}

#[derive(Default)]
struct Directory {
    current: Names,
    durable: Names,
}

enum Node {
    File(File),
    Directory(Directory),
}

/// One change of a directory: the name now means this, or nothing.
struct Edit {
    directory: Ino,
    name: OsString,
    target: Option<Ino>,
}

/// What an operation cannot be done for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There is no such name or file.
    Missing,
    /// The directory has names in it.
    NotEmpty,
    /// A file where a directory should be, or the other way round.
    Kind,
}

/// What there was to lose, and what was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Loss {
    /// Sectors written and not synced.
    pub(crate) sectors: u64,
    /// How many of them are gone.
    pub(crate) sectors_lost: u64,
    /// Changes of names that were not synced.
    pub(crate) names: u64,
    /// How many of them are gone.
    pub(crate) names_lost: u64,
}

/// A disk with one file system on it.
pub(crate) struct Disk {
    nodes: HashMap<Ino, Node>,
    journal: Vec<Vec<Edit>>,
    next: Ino,
}

impl Content {
    fn page(&self, at: u64) -> &Page {
        self.pages.get(&at).map_or(&ZEROS, |page| page)
    }

    fn set(&mut self, at: u64, page: Arc<Page>) {
        if *page == ZEROS {
            self.pages.remove(&at);
        } else {
            self.pages.insert(at, page);
        }
    }

    fn read(&self, offset: u64, bytes: usize) -> Vec<u8> {
        let end = self.length.min(offset.saturating_add(bytes as u64));
        let mut out = Vec::new();
        let mut at = offset;
        while at < end {
            let (page, from) = place(at);
            let n = (PAGE_BYTES - from).min((end - at) as usize);
            out.extend_from_slice(&self.page(page)[from..from + n]);
            at += n as u64;
        }
        out
    }
}

impl File {
    fn write(&mut self, offset: u64, mut bytes: &[u8]) {
        let mut at = offset;
        while !bytes.is_empty() {
            let (page, from) = place(at);
            let n = (PAGE_BYTES - from).min(bytes.len());
            let mut new = *self.current.page(page);
            new[from..from + n].copy_from_slice(&bytes[..n]);
            self.current.set(page, Arc::new(new));
            self.changed.insert(page);
            bytes = &bytes[n..];
            at += n as u64;
        }
        self.current.length = self.current.length.max(at);
    }

    fn set_length(&mut self, length: u64) {
        if length < self.current.length {
            let (page, from) = place(length);
            let mut last = *self.current.page(page);
            last[from..].fill(0);
            self.changed.extend(self.current.pages.split_off(&page).into_keys());
            self.changed.insert(page);
            self.current.set(page, Arc::new(last));
        }
        self.current.length = length;
    }

    fn sync(&mut self) {
        for page in std::mem::take(&mut self.changed) {
            match self.current.pages.get(&page) {
                Some(bytes) => self.durable.pages.insert(page, Arc::clone(bytes)),
                None => self.durable.pages.remove(&page),
            };
        }
        self.durable.length = self.current.length;
    }

    /// Loses what chance takes of what was not synced.
    fn cut(&mut self, random: &mut Random, loss: &mut Loss) {
        // All, none, or any of them: a queue of writes is rarely lost evenly.
        let (kept, of) = random.pick(&[(0, 1), (1, 1), (1, 2), (1, 8), (7, 8)]);
        let (old, new) = (self.durable.length, self.current.length);
        let length = match random.below(3) {
            0 => old,
            1 => new,
            // Somewhere between, at the end of a sector.
            _ => old
                .max(old.min(new) + random.below(old.abs_diff(new) + 1))
                .next_multiple_of(SECTOR_BYTES as u64)
                .min(old.max(new)),
        };
        for page_at in std::mem::take(&mut self.changed) {
            let (new, mut left) = (*self.current.page(page_at), *self.durable.page(page_at));
            for at in (0..PAGE_BYTES).step_by(SECTOR_BYTES) {
                let sector = at..at + SECTOR_BYTES;
                if new[sector.clone()] == left[sector.clone()] {
                    continue;
                }
                loss.sectors += 1;
                let start = page_at * PAGE_BYTES as u64 + at as u64;
                let is_appended = start + SECTOR_BYTES as u64 > old;
                let stays = if is_appended { start < length } else { random.below(of) < kept };
                if stays {
                    left[sector.clone()].copy_from_slice(&new[sector]);
                } else {
                    loss.sectors_lost += 1;
                }
            }
            self.durable.set(page_at, Arc::new(left));
        }
        self.durable.length = length;
        // What lies behind the end reads as zeros should the file grow again.
        self.current = self.durable.clone();
        let length = self.current.length;
        self.current.length = u64::MAX;
        self.set_length(length);
        self.changed.clear();
        self.durable = self.current.clone();
    }
}

impl Disk {
    /// An empty disk.
    pub(crate) fn new() -> Self {
        let nodes = HashMap::from([(ROOT, Node::Directory(Directory::default()))]);
        Self { nodes, journal: Vec::new(), next: ROOT + 1 }
    }

    /// Length of a file, `None` for a directory.
    pub(crate) fn length(&self, ino: Ino) -> Result<Option<u64>, Refused> {
        match self.nodes.get(&ino).ok_or(Refused::Missing)? {
            Node::File(file) => Ok(Some(file.current.length)),
            Node::Directory(_) => Ok(None),
        }
    }

    /// The names of a directory.
    pub(crate) fn names(&self, ino: Ino) -> Result<&Names, Refused> {
        match self.nodes.get(&ino).ok_or(Refused::Missing)? {
            Node::Directory(directory) => Ok(&directory.current),
            Node::File(_) => Err(Refused::Kind),
        }
    }

    /// What a name means.
    pub(crate) fn lookup(&self, directory: Ino, name: &OsStr) -> Result<Ino, Refused> {
        self.names(directory)?.get(name).copied().ok_or(Refused::Missing)
    }

    /// Makes an empty file.
    pub(crate) fn create(&mut self, directory: Ino, name: &OsStr) -> Result<Ino, Refused> {
        self.add(directory, name, Node::File(File::default()))
    }

    /// Makes an empty directory.
    pub(crate) fn make_directory(&mut self, directory: Ino, name: &OsStr) -> Result<Ino, Refused> {
        self.add(directory, name, Node::Directory(Directory::default()))
    }

    fn add(&mut self, directory: Ino, name: &OsStr, node: Node) -> Result<Ino, Refused> {
        let ino = self.next;
        self.names(directory)?;
        self.next += 1;
        self.nodes.insert(ino, node);
        self.edit(vec![Edit { directory, name: name.to_owned(), target: Some(ino) }]);
        Ok(ino)
    }

    /// Gives a file another name.
    pub(crate) fn link(&mut self, ino: Ino, directory: Ino, name: &OsStr) -> Result<(), Refused> {
        self.file(ino)?;
        self.names(directory)?;
        self.edit(vec![Edit { directory, name: name.to_owned(), target: Some(ino) }]);
        Ok(())
    }

    /// Takes a name away; open files stay.
    pub(crate) fn remove(&mut self, directory: Ino, name: &OsStr) -> Result<(), Refused> {
        let ino = self.lookup(directory, name)?;
        if self.names(ino).is_ok_and(|names| !names.is_empty()) {
            return Err(Refused::NotEmpty);
        }
        self.edit(vec![Edit { directory, name: name.to_owned(), target: None }]);
        Ok(())
    }

    /// Moves a name; what was at the new place is replaced.
    pub(crate) fn rename(&mut self, from: (Ino, &OsStr), to: (Ino, &OsStr)) -> Result<(), Refused> {
        let ino = self.lookup(from.0, from.1)?;
        self.names(to.0)?;
        self.edit(vec![
            Edit { directory: from.0, name: from.1.to_owned(), target: None },
            Edit { directory: to.0, name: to.1.to_owned(), target: Some(ino) },
        ]);
        Ok(())
    }

    fn edit(&mut self, edits: Vec<Edit>) {
        for edit in &edits {
            if let Some(Node::Directory(directory)) = self.nodes.get_mut(&edit.directory) {
                apply(&mut directory.current, edit);
            }
        }
        self.journal.push(edits);
    }

    fn file(&mut self, ino: Ino) -> Result<&mut File, Refused> {
        match self.nodes.get_mut(&ino).ok_or(Refused::Missing)? {
            Node::File(file) => Ok(file),
            Node::Directory(_) => Err(Refused::Kind),
        }
    }

    /// Reads up to `bytes` bytes.
    pub(crate) fn read(&mut self, ino: Ino, at: u64, bytes: usize) -> Result<Vec<u8>, Refused> {
        Ok(self.file(ino)?.current.read(at, bytes))
    }

    /// Writes.
    pub(crate) fn write(&mut self, ino: Ino, at: u64, bytes: &[u8]) -> Result<(), Refused> {
        self.file(ino)?.write(at, bytes);
        Ok(())
    }

    /// Cuts a file, or lengthens it with zeros.
    pub(crate) fn set_length(&mut self, ino: Ino, length: u64) -> Result<(), Refused> {
        self.file(ino)?.set_length(length);
        Ok(())
    }

    /// Makes a file's content durable, or a directory's names.
    pub(crate) fn sync(&mut self, ino: Ino) -> Result<(), Refused> {
        match self.nodes.get_mut(&ino).ok_or(Refused::Missing)? {
            Node::File(file) => file.sync(),
            Node::Directory(_) => {
                let touches = |edits: &Vec<Edit>| edits.iter().any(|edit| edit.directory == ino);
                if let Some(last) = self.journal.iter().rposition(touches) {
                    self.commit(last + 1);
                }
            }
        }
        Ok(())
    }

    /// Makes the oldest changes of names durable.
    fn commit(&mut self, count: usize) {
        for edit in self.journal.drain(..count).flatten() {
            if let Some(Node::Directory(directory)) = self.nodes.get_mut(&edit.directory) {
                apply(&mut directory.durable, &edit);
            }
        }
    }

    /// Loses power: what is left is what the next start finds.
    pub(crate) fn cut(&mut self, random: &mut Random) -> Loss {
        let mut loss = Loss { names: self.journal.len() as u64, ..Loss::default() };
        let kept = match random.below(3) {
            0 => 0,
            1 => loss.names,
            _ => random.below(loss.names + 1),
        };
        loss.names_lost = loss.names - kept;
        self.commit(kept as usize);
        self.journal.clear();
        // In the order of numbers, so that a seed means the same loss.
        let mut inos: Vec<Ino> = self.nodes.keys().copied().collect();
        inos.sort_unstable();
        for ino in inos {
            match self.nodes.get_mut(&ino) {
                Some(Node::File(file)) => file.cut(random, &mut loss),
                Some(Node::Directory(directory)) => directory.current = directory.durable.clone(),
                None => {}
            }
        }
        self.forget_unnamed();
        loss
    }

    fn forget_unnamed(&mut self) {
        let mut named = BTreeSet::from([ROOT]);
        let mut open = vec![ROOT];
        while let Some(directory) = open.pop() {
            let Ok(names) = self.names(directory) else { continue };
            open.extend(names.values().copied().filter(|ino| named.insert(*ino)));
        }
        self.nodes.retain(|ino, _| named.contains(ino));
    }
}

fn apply(names: &mut Names, edit: &Edit) {
    match edit.target {
        Some(ino) => names.insert(edit.name.clone(), ino),
        None => names.remove(&edit.name),
    };
}

fn place(offset: u64) -> (u64, usize) {
    (offset / PAGE_BYTES as u64, (offset % PAGE_BYTES as u64) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(disk: &mut Disk, name: &str) -> Ino {
        disk.create(ROOT, name.as_ref()).unwrap()
    }

    #[test]
    fn what_was_synced_stays_and_the_rest_is_left_to_chance() {
        let (mut kept_name, mut lost_name, mut torn) = (0, 0, 0);
        for seed in 0..100 {
            let mut random = Random::new(seed);
            let mut disk = Disk::new();
            let old = file(&mut disk, "old");
            disk.write(old, 100, &[1; 9000]).unwrap();
            disk.sync(old).unwrap();
            disk.sync(ROOT).unwrap();
            disk.write(old, 3000, &[2; 9000]).unwrap();
            let new = file(&mut disk, "new");
            disk.sync(new).unwrap();
            disk.cut(&mut random);
            let bytes = disk.read(old, 0, 20_000).unwrap();
            assert!((9100..=12_000).contains(&bytes.len()));
            assert!(bytes[..100].iter().all(|byte| *byte == 0));
            assert!(bytes[100..3000].iter().all(|byte| *byte == 1));
            // A sector of the second write is there whole or not at all.
            for sector in bytes[3072..8704].chunks(SECTOR_BYTES) {
                assert!(sector.iter().all(|byte| *byte == sector[0]) && sector[0] != 0);
            }
            assert!(bytes[9216.min(bytes.len())..].iter().all(|byte| *byte == 2), "no holes");
            let second = bytes[3072..8704].iter().filter(|byte| **byte == 2).count();
            torn += usize::from(second > 0 && second < 8704 - 3072);
            match disk.lookup(ROOT, "new".as_ref()) {
                Ok(_) => kept_name += 1,
                Err(_) => lost_name += 1,
            }
        }
        assert!(kept_name > 10 && lost_name > 10 && torn > 10, "{kept_name} {lost_name} {torn}");
    }

    #[test]
    fn a_cut_file_reads_as_zeros_where_it_grows_again() {
        let mut disk = Disk::new();
        let ino = file(&mut disk, "f");
        disk.write(ino, 0, &[7; 10_000]).unwrap();
        disk.sync(ino).unwrap();
        disk.set_length(ino, 5000).unwrap();
        disk.set_length(ino, 10_000).unwrap();
        assert_eq!(disk.read(ino, 4999, 3).unwrap(), [7, 0, 0]);
        disk.sync(ino).unwrap();
        disk.sync(ROOT).unwrap();
        disk.cut(&mut Random::new(1));
        assert_eq!(disk.read(ino, 4999, 10_000).unwrap()[..3], [7, 0, 0]);
        assert_eq!(disk.length(ino), Ok(Some(10_000)));
    }

    #[test]
    fn a_rename_is_whole_and_an_unlinked_name_may_come_back() {
        let mut seen = BTreeSet::new();
        for seed in 0..50 {
            let mut disk = Disk::new();
            let directory = disk.make_directory(ROOT, "d".as_ref()).unwrap();
            let a = disk.create(directory, "a".as_ref()).unwrap();
            disk.sync(directory).unwrap();
            disk.rename((directory, "a".as_ref()), (ROOT, "b".as_ref())).unwrap();
            disk.remove(ROOT, "b".as_ref()).unwrap();
            disk.cut(&mut Random::new(seed));
            let at = |parent, name: &str| disk.lookup(parent, name.as_ref()) == Ok(a);
            seen.insert((at(directory, "a"), at(ROOT, "b")));
        }
        assert_eq!(seen, BTreeSet::from([(true, false), (false, true), (false, false)]));
    }
}
