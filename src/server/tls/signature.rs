//! Verifies signatures of certificates and revocation lists.

use rustls::crypto::WebPkiSupportedAlgorithms;

use super::der::{Reader, SEQUENCE};

/// A public key and its algorithm.
#[derive(Clone, Copy, Debug)]
pub(super) struct PublicKey<'a> {
    pub(super) algorithm: &'a [u8],
    pub(super) bits: &'a [u8],
}

impl<'a> PublicKey<'a> {
    /// Parses a SubjectPublicKeyInfo without its header.
    pub(super) fn parse(info: &'a [u8]) -> Option<Self> {
        let mut fields = Reader(info);
        let algorithm = fields.take(SEQUENCE)?;
        let bits = fields.take_whole_bits()?;
        fields.0.is_empty().then_some(Self { algorithm, bits })
    }
}

/// What was signed, and its signature.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signed<'a> {
    /// The part that is signed.
    pub(super) contents: &'a [u8],
    /// The signature algorithm.
    pub(super) algorithm: &'a [u8],
    pub(super) signature: &'a [u8],
}

impl Signed<'_> {
    /// Whether it was signed with this key, which is a SubjectPublicKeyInfo without its header. `false` if the algorithm
    /// or the key is not supported.
    pub(super) fn is_signed_with(&self, key: &[u8], algorithms: &WebPkiSupportedAlgorithms) -> bool {
        let Some(key) = PublicKey::parse(key) else { return false };
        let mut fitting = algorithms.all.iter().filter(|algorithm| {
            algorithm.signature_alg_id().as_ref() == self.algorithm
                && algorithm.public_key_alg_id().as_ref() == key.algorithm
        });
        fitting.any(|algorithm| algorithm.verify_signature(key.bits, self.contents, self.signature).is_ok())
    }
}
