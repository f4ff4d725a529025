//! Requests to revocation sources for `explain --online`, as `revocation_fetch.lua` of the gateway
//! sends them: OCSP by POST, then by GET, then with a nonce; CRLs by GET.

use std::fmt::Write;
use std::io::Read;
use std::time::{Duration, Instant};

use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;
use percent_encoding::{utf8_percent_encode, NON_ALPHANUMERIC};
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Error};

use super::address_guard::AddressGuard;
use crate::engine::{FetchSettings, RevocationSource};
use crate::gzip;
use crate::trust::ocsp;

/// Longest OCSP response, in bytes.
const MAX_OCSP: usize = 65536;
/// Longest URL of a GET request to a responder (RFC 5019 section 5).
const MAX_GET: usize = 255;
/// Redirects that are followed, of a GET.
const MAX_REDIRECTS: u32 = 3;
/// Longest header of a response, in bytes.
const MAX_HEADER: usize = 16384;
/// The start of an OCSPResponse that is an error, and the errors after which a request with a nonce
/// is tried: malformedRequest, internalError, sigRequired, unauthorized.
const OCSP_ERROR: [u8; 4] = [0x30, 3, 10, 1];
const WANTS_NONCE: [u8; 4] = [1, 2, 5, 6];

/// Fetches the bytes of a source.
///
/// # Errors
/// Why it has not answered.
pub(super) fn fetch(
    guard: &AddressGuard,
    source: &RevocationSource,
    settings: &FetchSettings,
) -> Result<Vec<u8>, String> {
    let url = match source {
        RevocationSource::Ocsp { url, .. } | RevocationSource::Crl { url } => url,
    };
    let is_https = url
        .get(..6)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"));
    if is_https {
        return Err("not asked, because https is not spoken here".to_owned());
    }
    let client = Client {
        guard,
        deadline: Instant::now() + Duration::from_millis(settings.http_timeout.into()),
        exempt: settings.of_policy.then(|| url.parse().ok()).flatten(),
    };
    let answer = match source {
        RevocationSource::Ocsp { url, request } => client.ocsp(url, request),
        RevocationSource::Crl { url } => client.get(url, settings.max_crl_bytes),
    };
    answer.map_err(|mut why| {
        if settings.has_proxy {
            why += " (asked without the http_proxy of the plugin)";
        }
        why
    })
}

struct Client<'g> {
    guard: &'g AddressGuard,
    deadline: Instant,
    /// A URL of the policy, whose host may have any address.
    exempt: Option<Uri>,
}

impl Client<'_> {
    fn ocsp(&self, url: &str, request: &[u8]) -> Result<Vec<u8>, String> {
        let answer = match self.post(url, request) {
            Ok(answer) => answer,
            Err(why) => self.get_ocsp(url, request).unwrap_or(Err(why))?,
        };
        if let Some((error, head)) = answer.split_last() {
            if head == OCSP_ERROR && WANTS_NONCE.contains(error) {
                let with_nonce = ocsp::with_nonce(request).map_err(|why| why.to_string())?;
                return Ok(self.post(url, &with_nonce).unwrap_or(answer));
            }
        }
        Ok(answer)
    }

    fn post(&self, url: &str, request: &[u8]) -> Result<Vec<u8>, String> {
        let request = self
            .agent(0)?
            .post(url)
            .header("Content-Type", "application/ocsp-request")
            .header("Accept", "application/ocsp-response")
            .header("Accept-Encoding", "gzip")
            .send(request);
        read(request, MAX_OCSP)
    }

    /// Sends the OCSP request in the URL (RFC 6960 appendix A.1). `None` if that would be too long.
    fn get_ocsp(&self, url: &str, request: &[u8]) -> Option<Result<Vec<u8>, String>> {
        let mut url = url.strip_suffix('/').unwrap_or(url).to_owned();
        let request = STANDARD.encode(request);
        write!(url, "/{}", utf8_percent_encode(&request, NON_ALPHANUMERIC)).ok()?;
        (url.len() <= MAX_GET).then(|| self.get(&url, MAX_OCSP))
    }

    fn get(&self, url: &str, max: usize) -> Result<Vec<u8>, String> {
        let request = self.agent(MAX_REDIRECTS)?.get(url);
        read(request.header("Accept-Encoding", "gzip").call(), max)
    }

    fn agent(&self, max_redirects: u32) -> Result<Agent, String> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err("timeout".to_owned());
        }
        let config = Config::builder()
            .timeout_global(Some(left))
            .max_redirects(max_redirects)
            .max_response_header_size(MAX_HEADER)
            .http_status_as_error(false)
            // ureq would reuse the connection of a redirect that the server is about to close.
            .max_idle_connections(0)
            // Not those of the environment.
            .proxy(None)
            .user_agent("resty-mtls")
            .build();
        let resolver = GuardedResolver {
            guard: self.guard.clone(),
            exempt: self.exempt.clone(),
        };
        Ok(Agent::with_parts(config, DefaultConnector::new(), resolver))
    }
}

/// Reads the body of a response with status 200.
fn read(
    response: Result<ureq::http::Response<ureq::Body>, Error>,
    max: usize,
) -> Result<Vec<u8>, String> {
    let mut response = response.map_err(error_text)?;
    if response.status() != 200 {
        return Err(format!("status {}", response.status().as_u16()));
    }
    let coding = response.headers().get("Content-Encoding");
    let coding = coding.map_or(&b"identity"[..], |coding| coding.as_bytes());
    let is_gzip = [&b"gzip"[..], b"x-gzip"]
        .iter()
        .any(|name| coding.eq_ignore_ascii_case(name));
    let mut body = Vec::new();
    let mut reader = response.body_mut().as_reader().take(max as u64 + 1);
    let read = reader.read_to_end(&mut body);
    read.map_err(|error| error_text(Error::from(error)))?;
    if body.len() > max {
        return Err(format!("body is over {max} bytes"));
    }
    match is_gzip {
        true => gzip::decode(&body, max),
        false => Ok(body),
    }
}

fn error_text(error: Error) -> String {
    match error {
        Error::Timeout(_) => "timeout".to_owned(),
        Error::TlsRequired => "redirects to https, which is not spoken here".to_owned(),
        Error::TooManyRedirects => format!("redirects more than {MAX_REDIRECTS} times"),
        Error::HostNotFound => "host cannot be resolved".to_owned(),
        Error::Other(error) => error.to_string(),
        Error::Io(error) => error.to_string(),
        error => error.to_string(),
    }
}

/// Resolves names, also those of redirects, to addresses that may be reached.
#[derive(Debug)]
struct GuardedResolver {
    guard: AddressGuard,
    exempt: Option<Uri>,
}

impl Resolver for GuardedResolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let found = DefaultResolver::default().resolve(uri, config, timeout)?;
        let is_exempt = self
            .exempt
            .as_ref()
            .is_some_and(|exempt| exempt.authority() == uri.authority());
        if is_exempt {
            return Ok(found);
        }
        let mut permitted = self.empty();
        for address in found.iter() {
            if self.guard.permits(address.ip()) {
                permitted.push(*address);
            }
        }
        if !permitted.is_empty() {
            return Ok(permitted);
        }
        let address = found.iter().next().map(|address| address.ip().to_string());
        let message = format!(
            "{} is a loopback, link-local or other special address that --fetch-allow does not name",
            address.unwrap_or_default()
        );
        Err(Error::Other(message.into()))
    }
}
