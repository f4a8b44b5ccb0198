//! Hashes under a key.

use std::fmt;

use aws_lc_rs::hmac;

/// HMAC-SHA256 under a stored key: for identifiers that must be stable and tell nothing.
pub struct KeyedHash(hmac::Key);

impl KeyedHash {
    /// With this key.
    pub fn new(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// The 32 bytes for a list of parts; each is preceded by its length, so that `ab|c` and `a|bc` differ.
    pub fn of(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut bytes = [0; 32];
        bytes.copy_from_slice(context.sign().as_ref());
        bytes
    }
}

impl fmt::Debug for KeyedHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyedHash(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyed_hash_tells_its_parts_apart() {
        let hash = KeyedHash::new(b"key");
        assert_ne!(hash.of(&[b"ab", b"c"]), hash.of(&[b"a", b"bc"]));
        assert_ne!(hash.of(&[b"a"]), KeyedHash::new(b"other").of(&[b"a"]));
    }
}
