//! JWS algorithms (RFC 7518 section 3, RFC 8037, RFC 9864), and the key types that each accepts.

use openssl::bn::BigNum;
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{HasPublic, PKeyRef, Private};
use openssl::rsa::Padding;
use openssl::sign::{RsaPssSaltlen, Signer, Verifier};

/// The type of a key, with its curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// RSA of 2048 bits or more.
    Rsa,
    /// EC on P-256.
    P256,
    /// EC on P-384.
    P384,
    /// EC on P-521.
    P521,
    /// Ed25519.
    Ed25519,
    /// Ed448.
    Ed448,
}

/// An accepted algorithm. None of them is symmetric, because a holder of the public key must not be
/// able to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RS384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RS512,
    /// RSASSA-PSS with SHA-256.
    PS256,
    /// RSASSA-PSS with SHA-384.
    PS384,
    /// RSASSA-PSS with SHA-512.
    PS512,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// ECDSA on P-521 with SHA-512.
    ES512,
    /// Ed25519 or Ed448, by the key (RFC 8037).
    EdDSA,
    /// EdDSA with Ed25519 (RFC 9864).
    Ed25519,
    /// EdDSA with Ed448 (RFC 9864).
    Ed448,
}

impl Algorithm {
    /// All algorithms.
    pub const ALL: [Algorithm; 12] = [
        Algorithm::RS256,
        Algorithm::RS384,
        Algorithm::RS512,
        Algorithm::PS256,
        Algorithm::PS384,
        Algorithm::PS512,
        Algorithm::ES256,
        Algorithm::ES384,
        Algorithm::ES512,
        Algorithm::EdDSA,
        Algorithm::Ed25519,
        Algorithm::Ed448,
    ];

    /// Its name in a JOSE header.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::RS256 => "RS256",
            Algorithm::RS384 => "RS384",
            Algorithm::RS512 => "RS512",
            Algorithm::PS256 => "PS256",
            Algorithm::PS384 => "PS384",
            Algorithm::PS512 => "PS512",
            Algorithm::ES256 => "ES256",
            Algorithm::ES384 => "ES384",
            Algorithm::ES512 => "ES512",
            Algorithm::EdDSA => "EdDSA",
            Algorithm::Ed25519 => "Ed25519",
            Algorithm::Ed448 => "Ed448",
        }
    }

    /// The algorithm with exactly this name.
    pub fn from_name(name: &str) -> Option<Algorithm> {
        Algorithm::ALL
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
    }

    /// Whether it can be used with a key of this type.
    pub fn accepts(self, key_type: KeyType) -> bool {
        match self {
            Algorithm::RS256
            | Algorithm::RS384
            | Algorithm::RS512
            | Algorithm::PS256
            | Algorithm::PS384
            | Algorithm::PS512 => key_type == KeyType::Rsa,
            Algorithm::ES256 => key_type == KeyType::P256,
            Algorithm::ES384 => key_type == KeyType::P384,
            Algorithm::ES512 => key_type == KeyType::P521,
            Algorithm::EdDSA => matches!(key_type, KeyType::Ed25519 | KeyType::Ed448),
            Algorithm::Ed25519 => key_type == KeyType::Ed25519,
            Algorithm::Ed448 => key_type == KeyType::Ed448,
        }
    }

    /// Whether it has several algorithms with names of their own, and this is one of them.
    pub fn includes(self, other: Algorithm) -> bool {
        let is_eddsa = matches!(other, Algorithm::Ed25519 | Algorithm::Ed448);
        self == other || self == Algorithm::EdDSA && is_eddsa
    }

    fn digest(self) -> Option<MessageDigest> {
        match self {
            Algorithm::RS256 | Algorithm::PS256 | Algorithm::ES256 => Some(MessageDigest::sha256()),
            Algorithm::RS384 | Algorithm::PS384 | Algorithm::ES384 => Some(MessageDigest::sha384()),
            Algorithm::RS512 | Algorithm::PS512 | Algorithm::ES512 => Some(MessageDigest::sha512()),
            Algorithm::EdDSA | Algorithm::Ed25519 | Algorithm::Ed448 => None,
        }
    }

    /// Bytes of each half of an ECDSA signature.
    fn half(self) -> Option<usize> {
        match self {
            Algorithm::ES256 => Some(32),
            Algorithm::ES384 => Some(48),
            Algorithm::ES512 => Some(66),
            _ => None,
        }
    }

    /// Bytes of a signature under `key`: the modulus for RSA (RFC 8017 sections 8.1.2 and 8.2.2),
    /// both halves for ECDSA (RFC 7518 section 3.4), a fixed number for EdDSA (RFC 8032).
    fn signature_len<T: HasPublic>(self, key: &PKeyRef<T>) -> usize {
        match self.half() {
            Some(half) => 2 * half,
            None => key.size(),
        }
    }

    /// Whether `signature` is a signature of `signed` under `key`, which has an accepted type. A
    /// signature of another length is wrong: OpenSSL reads an RSASSA-PSS signature as a number and
    /// accepts one without its leading zeros, so that a token would have several encodings.
    pub(super) fn verify<T: HasPublic>(
        self,
        key: &PKeyRef<T>,
        signed: &[u8],
        signature: &[u8],
    ) -> bool {
        if signature.len() != self.signature_len(key) {
            return false;
        }
        let verified = self.try_verify(key, signed, signature);
        // A wrong signature leaves an error in OpenSSL's queue, which nginx would log.
        ErrorStack::get();
        verified.unwrap_or(false)
    }

    fn try_verify<T: HasPublic>(
        self,
        key: &PKeyRef<T>,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<bool, ErrorStack> {
        let Some(digest) = self.digest() else {
            return Verifier::new_without_digest(key)?.verify_oneshot(signature, signed);
        };
        let mut verifier = Verifier::new(digest, key)?;
        match self {
            Algorithm::PS256 | Algorithm::PS384 | Algorithm::PS512 => {
                verifier.set_rsa_padding(Padding::PKCS1_PSS)?;
                verifier.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH)?;
                verifier.set_rsa_mgf1_md(digest)?;
            }
            Algorithm::RS256 | Algorithm::RS384 | Algorithm::RS512 => {
                verifier.set_rsa_padding(Padding::PKCS1)?;
            }
            _ => {}
        }
        let Some(half) = self.half() else {
            return verifier.verify_oneshot(signature, signed);
        };
        let Some((r, s)) = signature.split_at_checked(half) else {
            return Ok(false);
        };
        let (r, s) = (BigNum::from_slice(r)?, BigNum::from_slice(s)?);
        let der = EcdsaSig::from_private_components(r, s)?.to_der()?;
        verifier.verify_oneshot(&der, signed)
    }

    /// Signs with a key of an accepted type.
    pub(super) fn sign(self, key: &PKeyRef<Private>, signed: &[u8]) -> Result<Vec<u8>, ErrorStack> {
        let Some(digest) = self.digest() else {
            return Signer::new_without_digest(key)?.sign_oneshot_to_vec(signed);
        };
        let mut signer = Signer::new(digest, key)?;
        if matches!(self, Algorithm::PS256 | Algorithm::PS384 | Algorithm::PS512) {
            signer.set_rsa_padding(Padding::PKCS1_PSS)?;
            signer.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH)?;
            signer.set_rsa_mgf1_md(digest)?;
        }
        let signature = signer.sign_oneshot_to_vec(signed)?;
        let Some(half) = self.half() else {
            return Ok(signature);
        };
        let signature = EcdsaSig::from_der(&signature)?;
        let half = half as i32;
        Ok([
            signature.r().to_vec_padded(half)?,
            signature.s().to_vec_padded(half)?,
        ]
        .concat())
    }
}
