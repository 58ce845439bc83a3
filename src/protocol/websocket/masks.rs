//! The masks of a client's frames (RFC 6455, section 5.3). Each frame has a new mask, which cannot be predicted from
//! the previous ones: it is a hash of a random seed, which is passed in, and a counter.

/// A generator of masks.
#[derive(Debug)]
pub(super) struct Masks {
    seed: [u8; 16],
    count: u64,
}

impl Masks {
    /// A generator with this random seed, which must be kept secret.
    pub(super) const fn new(seed: [u8; 16]) -> Self {
        Self { seed, count: 0 }
    }

    /// Returns the mask of the next frame.
    pub(super) fn mask(&mut self) -> [u8; 4] {
        self.next()
    }

    /// Returns the key of a handshake (RFC 6455, section 4.1).
    pub(super) fn key(&mut self) -> [u8; 16] {
        self.next()
    }

    fn next<const LENGTH: usize>(&mut self) -> [u8; LENGTH] {
        let mut hash = sha1_smol::Sha1::new();
        hash.update(&self.seed);
        hash.update(&self.count.to_be_bytes());
        self.count += 1;
        let digest = hash.digest().bytes();
        let mut bytes = [0; LENGTH];
        bytes.copy_from_slice(&digest[..LENGTH]);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_frame_has_a_mask_of_its_own() {
        let mut masks = Masks::new([1; 16]);
        let key = masks.key();
        let mut found: BTreeSet<[u8; 4]> = (0..1000).map(|_| masks.mask()).collect();
        assert_eq!(found.len(), 1000);
        assert!(!found.contains(&key[..4]), "the bytes of the key are not used again");
        let mut others = Masks::new([2; 16]);
        assert!((0..1000).all(|_| found.insert(others.mask())), "another seed gives other masks");
    }
}
