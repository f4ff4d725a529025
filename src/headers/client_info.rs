//! What the dialects render: the client certificate of one request and its verification result.

use openssl::x509::X509Ref;

use super::{LeftOutReason, VerifyResult};
use crate::certificate::Certificate;

/// The input of every header of a dialect.
#[derive(Clone, Copy)]
pub struct ClientInfo<'a> {
    /// What the client presented. `None` with [`VerifyResult::NoCertificate`], and only then.
    pub certificate: Option<&'a Certificate>,
    /// The result of verifying it.
    pub verify_result: VerifyResult,
    /// The issuer of the leaf, from the verified chain or from the trust store.
    pub issuer: Option<&'a X509Ref>,
    /// Seconds since the epoch.
    pub now: i64,
    /// URI subject alternative names of this server's own certificate, for XFCC's `By`.
    pub server_uris: &'a [Vec<u8>],
}

impl<'a> ClientInfo<'a> {
    /// Reads a value from the certificate, if there is one. An empty value counts as none, because
    /// a header with an empty value carries no information.
    pub(super) fn read<E: Into<LeftOutReason>>(
        &self,
        read: impl FnOnce(&'a Certificate) -> Result<String, E>,
    ) -> Result<Option<String>, LeftOutReason> {
        match self.certificate {
            Some(certificate) => {
                let text = read(certificate).map_err(Into::into)?;
                Ok(Some(text).filter(|text| !text.is_empty()))
            }
            None => Ok(None),
        }
    }
}
