//! The new blobs of a commit of the agent's own: few become loose objects, many become one pack. A loose object is a file
//! that is created, renamed and later removed, and with thousands of them that is most of the time of a commit.

use std::collections::HashSet;
use std::io::Write as _;

use flate2::{Compress, Compression, FlushCompress, Status};
use git2::{ObjectType, Odb, OdbLookupFlags, Oid, Repository};
use sha1::{Digest as _, Sha1};

/// The maximum number of blobs that become loose objects.
const FEW: usize = 32;
/// The type of blobs in a pack.
const BLOB: u8 = 3;
/// The head of a pack: its signature, version 2, and the number of objects.
const HEAD: [u8; 12] = [b'P', b'A', b'C', b'K', 0, 0, 0, 2, 0, 0, 0, 0];

/// Blobs that are not in the clone yet.
pub(super) struct NewBlobs<'a> {
    repo: &'a Repository,
    odb: Odb<'a>,
    ids: HashSet<Oid>,
    /// The contents, as long as there are few.
    few: Vec<Vec<u8>>,
    /// The pack without its checksum, once there are many.
    pack: Vec<u8>,
    /// One for all blobs: it has some hundred kilobytes.
    compress: Option<Compress>,
}

impl<'a> NewBlobs<'a> {
    pub fn new(repo: &'a Repository) -> Result<Self, git2::Error> {
        let odb = repo.odb()?;
        Ok(Self { repo, odb, ids: HashSet::new(), few: Vec::new(), pack: HEAD.into(), compress: None })
    }

    /// Adds a blob. It is in the clone after `write`.
    pub fn add(&mut self, content: &[u8]) -> Result<Oid, git2::Error> {
        let id = Oid::hash_object(ObjectType::Blob, content)?;
        // A pack that another thread has added meanwhile is not looked for: an object may be in two packs.
        if self.odb.exists_ext(id, OdbLookupFlags::NO_REFRESH) || !self.ids.insert(id) {
            return Ok(id);
        }
        if self.ids.len() <= FEW {
            self.few.push(content.to_vec());
            return Ok(id);
        }
        for content in std::mem::take(&mut self.few).iter().map(Vec::as_slice).chain([content]) {
            let compress = self.compress.get_or_insert_with(|| Compress::new(Compression::fast(), true));
            append(&mut self.pack, content, compress)?;
        }
        Ok(id)
    }

    /// Writes the blobs into the clone.
    pub fn write(mut self) -> Result<(), git2::Error> {
        for content in &self.few {
            self.repo.blob(content)?;
        }
        if self.pack.len() == HEAD.len() {
            return Ok(());
        }
        let count =
            u32::try_from(self.ids.len()).map_err(|error| git2::Error::from_str(&error.to_string()))?;
        self.pack[HEAD.len() - 4..HEAD.len()].copy_from_slice(&count.to_be_bytes());
        let checksum = Sha1::digest(&self.pack);
        let mut writer = self.odb.packwriter()?;
        for part in [&self.pack[..], &checksum[..]] {
            writer.write_all(part).map_err(|error| git2::Error::from_str(&error.to_string()))?;
        }
        writer.commit()?;
        drop(writer);
        self.odb.refresh()
    }
}

/// Appends a blob to a pack: its type and size, seven bits in each byte but the first, and its compressed content.
fn append(pack: &mut Vec<u8>, content: &[u8], compress: &mut Compress) -> Result<(), git2::Error> {
    let mut rest = content.len();
    let mut byte = (BLOB << 4) | low_bits(rest, 4);
    rest >>= 4;
    while rest > 0 {
        pack.push(byte | 0x80);
        byte = low_bits(rest, 7);
        rest >>= 7;
    }
    pack.push(byte);
    compress.reset();
    loop {
        // It writes only into the capacity that there is.
        pack.reserve(content.len() / 2 + 64);
        let done = usize::try_from(compress.total_in()).expect("content in memory");
        let status = compress.compress_vec(&content[done..], pack, FlushCompress::Finish);
        match status.map_err(|error| git2::Error::from_str(&error.to_string()))? {
            Status::StreamEnd => return Ok(()),
            Status::Ok | Status::BufError => {}
        }
    }
}

fn low_bits(number: usize, count: u32) -> u8 {
    let bits = number & ((1 << count) - 1);
    u8::try_from(bits).expect("at most seven bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds blobs, and returns the numbers of loose objects and packs that there are afterwards.
    fn written(contents: &[Vec<u8>]) -> (usize, usize) {
        let folder = tempfile::tempdir().expect("a directory");
        let repo = Repository::init_bare(folder.path()).expect("a repository");
        let known = repo.blob(b"known").expect("a blob");
        let mut blobs = NewBlobs::new(&repo).expect("blobs");
        assert_eq!(blobs.add(b"known").expect("an id"), known);
        let ids: Vec<Oid> = contents.iter().map(|content| blobs.add(content).expect("an id")).collect();
        blobs.write().expect("written");
        for (id, content) in ids.iter().zip(contents) {
            assert_eq!(repo.find_blob(*id).expect("a blob").content(), content);
        }
        // Another process sees them, too.
        let other = Repository::open_bare(folder.path()).expect("a repository");
        assert!(ids.iter().all(|id| other.find_blob(*id).is_ok()));
        let objects = folder.path().join("objects");
        let files = |folder: &std::path::Path| std::fs::read_dir(folder).map_or(0, Iterator::count);
        let loose = (0..=u8::MAX).map(|first| files(&objects.join(format!("{first:02x}")))).sum();
        (loose, files(&objects.join("pack")) / 2)
    }

    #[test]
    fn few_blobs_are_loose_objects_and_many_are_one_pack() {
        let contents = |count: usize| -> Vec<Vec<u8>> {
            (0..count).map(|number| format!("{number}").repeat(number).into_bytes()).collect()
        };
        assert_eq!(written(&[]), (1, 0));
        assert_eq!(written(&contents(FEW)), (1 + FEW, 0));
        assert_eq!(written(&contents(FEW + 1)), (1, 1));
        assert_eq!(written(&contents(1_000)), (1, 1));
        let twice: Vec<_> = contents(FEW).into_iter().chain(contents(FEW)).collect();
        assert_eq!(written(&twice), (1 + FEW, 0), "equal blobs are one");
        let large = vec![b'x'; 5_000_000];
        assert_eq!(written(&[contents(FEW), vec![large]].concat()), (1, 1));
    }
}
