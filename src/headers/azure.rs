//! Azure App Service: `X-ARR-ClientCert`, the DER in base64.
//!
//! Source: Microsoft Learn, "Set up TLS mutual authentication in Azure App Service".
//! Readers: ASP.NET Core's certificate forwarding (its default), YARP, App Service's own samples.
//! Azure forwards the certificate unverified, and its readers verify it; this dialect does the same
//! with `when: presented`. Without it there is no header unless the route verified the certificate.
//! No certificate: no header.

use super::common::der_base64;
use super::header::Header;

/// The headers.
pub const HEADERS: &[Header] = &[Header::new("certificate", "X-ARR-ClientCert", der_base64)];
