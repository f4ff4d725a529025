//! What a route wants of access tokens (`openid-connect`), and where a certificate comes in a header.

use std::fmt;

use openssl::sha::sha256;

use crate::inbound::{AllowedPeers, Format};
use crate::text::hex;
use crate::token::{Algorithm, ClaimRequirements, SigningKey};

/// Behind the name of a certificate header: its chain (RFC 9440 has `Client-Cert-Chain`).
const CHAIN: &str = "-Chain";

/// A header that carries a client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// Its name.
    pub name: Box<str>,
    /// The name of the chain's header, if the format has one.
    pub chain: Option<Box<str>>,
    /// How it carries the certificate.
    pub format: Format,
    /// Who may send it.
    pub source: AllowedPeers,
}

impl Inbound {
    pub(super) fn new(name: &str, format: Format, source: AllowedPeers) -> Inbound {
        let chain = format.has_chain_header();
        Inbound {
            name: name.into(),
            chain: chain.then(|| format!("{name}{CHAIN}").into()),
            format,
            source,
        }
    }

    /// The names that it takes.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        [Some(&*self.name), self.chain.as_deref()]
            .into_iter()
            .flatten()
    }
}

/// How tokens may be shown to be good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuthMethods {
    /// By their own signature.
    pub bearer: bool,
    /// By asking the issuer.
    pub introspection: bool,
}

/// Kong's `proof_of_possession_mtls`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Possession {
    /// Whether a token is bound to a certificate does not matter.
    Off,
    /// A token that is bound to a certificate needs it.
    Optional,
    /// Every token must be bound to the certificate of the request.
    Strict,
}

/// How this gateway shows who it is to the issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum ClientAuth {
    /// By its id alone.
    None = 0,
    /// `client_secret_basic`.
    Basic = 1,
    /// `client_secret_post`.
    Post = 2,
    /// `private_key_jwt`.
    PrivateKey = 3,
}

/// A text that no log may show.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Box<str>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Digests of policies are taken from this: what differs must look different.
        let digest = sha256(self.0.as_bytes());
        write!(f, "Secret({})", hex(&digest))
    }
}

/// This gateway as a client of the issuer.
#[derive(Clone, Debug)]
pub struct Client {
    /// `client_id`.
    pub id: Box<str>,
    /// `client_secret`; may be empty.
    pub secret: Secret,
    /// How they are sent.
    pub auth: ClientAuth,
    /// `client_jwk`, for `private_key_jwt`.
    pub key: Option<SigningKey>,
}

/// `openid-connect` as it applies to a route.
#[derive(Debug)]
pub struct Bearer {
    /// The issuer, without the well-known suffix.
    pub issuer: Box<str>,
    /// What its documents are remembered by: SHA-256 over the issuer and `ssl_verify`.
    pub provider: [u8; 32],
    /// How tokens may be shown to be good.
    pub methods: AuthMethods,
    /// The signatures that count.
    pub algorithms: Vec<Algorithm>,
    /// Values of `iss` that count instead of the issuer's own.
    pub issuers: Vec<Box<str>>,
    /// What the claims must say.
    pub expected: ClaimRequirements,
    /// Whether tokens are bound to certificates.
    pub possession: Possession,
    /// Where the certificate comes from before the TLS connection is looked at.
    pub inbound: Option<Inbound>,
    /// Where tokens are introspected, instead of where the issuer says.
    pub introspection_endpoint: Option<Box<str>>,
    /// Who asks there.
    pub client: Option<Client>,
    /// Tells apart routes that must not share what is answered there: another issuer, endpoint,
    /// client or time for which it holds.
    pub introspection: [u8; 32],
    /// Claims for the upstream, with the headers that carry them.
    pub headers: Vec<(Box<str>, Box<str>)>,
    /// Whether the upstream does not get the token.
    pub hide_credentials: bool,
    /// Whether a refusal says why in `WWW-Authenticate`.
    pub expose_error_code: bool,
    /// What a client without a good token is told.
    pub unauthorized: Box<str>,
    /// What a client is told whose token allows too little.
    pub forbidden: Box<str>,
    /// Milliseconds for a fetch.
    pub timeout: u32,
    /// Seconds after which the issuer's documents may be fetched again for an unknown key.
    pub rediscovery_lifetime: u32,
    /// Longest time for which the answer about a token is remembered, in seconds.
    pub cache_ttl: u32,
    /// Whether the certificate of the issuer's server is verified.
    pub ssl_verify: bool,
}
