//! Which packs are merged. Pure. Packs are merged with others of similar size, so that an object is written again only a
//! few times however many packs follow, and a large pack is not written again for small ones.

/// A merge of this many packs of one tier results in a pack of the next tier. Larger numbers leave more packs, smaller
/// ones write each object more often.
const FACTOR: usize = 10;
/// The maximum size of a pack that is merged, in bytes. Ten of them take some seconds to compress, and the packs that
/// stay are few: 256 for two gigabytes.
const SIZE_LIMIT: u64 = 8 << 20;
/// The number of loose objects that are packed: a hundred commits of one status file.
pub const LOOSE_LIMIT: usize = 1000;

/// A pack of a clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pack {
    /// The name of its files without their extension.
    pub name: String,
    pub objects: usize,
    /// The size of the pack file, in bytes.
    pub size: u64,
}

/// Returns the packs to merge: those of a tier that is full, and all smaller ones. A pack of tier n has between 10ⁿ and
/// 10ⁿ⁺¹ objects.
pub fn due(packs: Vec<Pack>) -> Vec<Pack> {
    let tier = |pack: &Pack| pack.objects.max(1).ilog(FACTOR);
    let mut packs = packs;
    packs.retain(|pack| pack.size < SIZE_LIMIT);
    let count = |of: u32| packs.iter().filter(|pack| tier(pack) == of).count();
    let full = packs.iter().map(tier).filter(|tier| count(*tier) >= FACTOR).max();
    packs.retain(|pack| full.is_some_and(|full| tier(pack) <= full));
    packs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(objects: usize) -> Pack {
        Pack { name: String::new(), objects, size: 1000 * objects as u64 }
    }

    #[test]
    fn each_object_is_written_a_few_times_and_few_packs_remain() {
        let (mut packs, mut written, mut most) = (vec![pack(50_000)], 0, 0);
        for _ in 0..10_000 {
            packs.push(pack(5));
            let merged = due(packs.clone());
            packs.retain(|pack| !merged.contains(pack));
            if !merged.is_empty() {
                let objects = merged.iter().map(|pack| pack.objects).sum();
                written += objects;
                packs.push(pack(objects));
            }
            most = most.max(packs.len());
        }
        assert!(most <= 50, "{most} packs");
        assert!(written < 5 * 50_000, "{written} objects");
        assert!(packs.contains(&pack(50_000)), "the first pack is not written again");
    }

    #[test]
    fn large_packs_stay() {
        let large = Pack { size: SIZE_LIMIT, ..pack(1) };
        assert_eq!(due(vec![large.clone(); 100]), []);
        let mut mixed = vec![large; 100];
        mixed.extend(vec![pack(5); FACTOR]);
        assert_eq!(due(mixed), vec![pack(5); FACTOR]);
        assert_eq!(due(vec![pack(5); FACTOR - 1]), []);
    }
}
