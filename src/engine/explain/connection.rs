//! A TLS connection in memory, with a server side that runs the phases of the gateway.
//!
//! A certificate is explained without its private key, so the handshake is made with another one,
//! if the server requests any, and the certificate in the session of the server side is replaced
//! after it. The engine then finds it as it finds that of a resumed session.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use openssl::asn1::Asn1Time;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{
    ClientHelloResponse, ErrorCode, Ssl, SslContext, SslContextBuilder, SslMethod, SslRef,
    SslSession, SslStream, SslVerifyMode, SslVersion,
};
use openssl::x509::{X509NameBuilder, X509};

use super::super::Engine;
use crate::certificate::der::{element, DerReader, SEQUENCE};
use crate::certificate::{encoded_chain, Certificate};
use crate::connection::Connection;
use crate::openssl_ext::ssl as ext;
use crate::Error;

/// Longest server name of a ClientHello (`SSL_set_tlsext_host_name`).
const MAX_SERVER_NAME: usize = 255;

/// Most turns of a handshake, each of which moves what one side has written to the other.
const MAX_TURNS: usize = 20;

/// Tag of the peer's certificate in an encoded session (`ssl_asn1.c`: `[3] peer`).
const PEER: u8 = 0xa3;

/// One end of a pipe in each direction.
struct End {
    input: Rc<RefCell<VecDeque<u8>>>,
    output: Rc<RefCell<VecDeque<u8>>>,
}

impl Read for End {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.input.borrow_mut().read(buffer)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            len => Ok(len),
        }
    }
}

impl Write for End {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The server side of a connection, whose handshake is over.
pub(super) struct ServerSide(SslStream<End>);

impl ServerSide {
    pub(super) fn ssl(&self) -> &SslRef {
        self.0.ssl()
    }
}

/// A key with a certificate of its own, with which both sides make the handshake.
struct Identity {
    key: PKey<Private>,
    certificate: X509,
}

fn make_identity() -> Result<Identity, Error> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    let key = PKey::from_ec_key(EcKey::generate(&group)?)?;
    let mut name = X509NameBuilder::new()?;
    name.append_entry_by_text("CN", "resty-mtls explain")?;
    let name = name.build();
    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    builder.set_subject_name(&name)?;
    builder.set_issuer_name(&name)?;
    let (from, until) = (Asn1Time::from_unix(0)?, Asn1Time::days_from_now(1)?);
    builder.set_not_before(&from)?;
    builder.set_not_after(&until)?;
    builder.set_pubkey(&key)?;
    builder.sign(&key, MessageDigest::sha256())?;
    Ok(Identity {
        key,
        certificate: builder.build(),
    })
}

fn context(method: SslMethod, has_certificate: bool) -> Result<SslContextBuilder, Error> {
    static IDENTITY: OnceLock<Result<Identity, Error>> = OnceLock::new();
    let mut context = SslContext::builder(method)?;
    context.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    if has_certificate {
        let identity = IDENTITY.get_or_init(make_identity).as_ref();
        let identity = identity.map_err(Error::clone)?;
        context.set_certificate(&identity.certificate)?;
        context.set_private_key(&identity.key)?;
    }
    Ok(context)
}

/// Makes a connection of a client that sends `server_name`, and `certificate` if the server requests
/// one.
///
/// # Errors
/// For a server name that no client can send, and when a step of OpenSSL fails.
pub(super) fn connect(
    engine: &Engine,
    server_name: Option<&[u8]>,
    certificate: Option<&Certificate>,
) -> Result<ServerSide, Error> {
    let mut client = context(SslMethod::tls_client(), certificate.is_some())?;
    client.set_verify(SslVerifyMode::NONE);
    let mut client = Ssl::new(&client.build())?;
    if let Some(name) = server_name {
        let valid = (1..=MAX_SERVER_NAME).contains(&name.len()) && !name.contains(&0);
        let text = std::str::from_utf8(name).ok().filter(|_| valid);
        client.set_hostname(text.ok_or_else(|| {
            let message = format!("expected a server name of 1 to {MAX_SERVER_NAME} bytes");
            Error::Misuse(message)
        })?)?;
    }
    let mut server = context(SslMethod::tls_server(), true)?;
    let phases_ran = Arc::new(AtomicBool::new(false));
    let may_continue = phases_ran.clone();
    // The phases run outside of the callback, while the handshake waits as it does in nginx.
    server.set_client_hello_callback(move |_, _| {
        Ok(match may_continue.load(Ordering::Relaxed) {
            true => ClientHelloResponse::SUCCESS,
            false => ClientHelloResponse::RETRY,
        })
    });
    let server = Ssl::new(&server.build())?;

    let (one, other) = (Rc::default(), Rc::default());
    let end = |input: &Rc<_>, output: &Rc<_>| End {
        input: Rc::clone(input),
        output: Rc::clone(output),
    };
    let mut client = SslStream::new(client, end(&one, &other))?;
    let mut server = SslStream::new(server, end(&other, &one))?;
    let (mut client_done, mut server_done) = (false, false);
    for _ in 0..MAX_TURNS {
        client_done = client_done || is_done(client.connect())?;
        if !server_done {
            server_done = match server.accept() {
                Err(error) if error.code() == ErrorCode::WANT_CLIENT_HELLO_CB => {
                    engine.client_hello(server.ssl(), server_name)?;
                    engine.certificate(server.ssl())?;
                    phases_ran.store(true, Ordering::Relaxed);
                    false
                }
                result => is_done(result)?,
            };
        }
        if client_done && server_done {
            let server = ServerSide(server);
            if let Some(certificate) = certificate {
                replace_certificate(&server, certificate)?;
            }
            return Ok(server);
        }
    }
    Err(Error::OpenSsl("the handshake does not end".to_owned()))
}

fn is_done(result: Result<(), openssl::ssl::Error>) -> Result<bool, Error> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.code(), ErrorCode::WANT_READ | ErrorCode::WANT_WRITE) => {
            Ok(false)
        }
        Err(error) => Err(Error::OpenSsl(format!("TLS handshake: {error}"))),
    }
}

/// Replaces the certificate that the client sent in the handshake, if it sent any.
fn replace_certificate(server: &ServerSide, certificate: &Certificate) -> Result<(), Error> {
    let ssl = server.ssl();
    let requested = Connection::of(ssl).is_some_and(Connection::requested);
    let (Some(session), true) = (ssl.session(), requested) else {
        return Ok(());
    };
    let session = with_peer(&session.to_der()?, &certificate.der()?);
    let session = session.ok_or_else(|| Error::OpenSsl("an unknown form of session".to_owned()))?;
    ext::replace_session(ssl, &*SslSession::from_der(&session)?)?;
    let chain = encoded_chain::encode(certificate.intermediates().iter())?;
    ext::set_session_data(ssl, &chain)
}

/// An encoded session with another certificate of the peer.
fn with_peer(session: &[u8], leaf: &[u8]) -> Option<Vec<u8>> {
    let mut fields = DerReader(session).inside(SEQUENCE)?;
    let mut content = Vec::new();
    while let Some(&tag) = fields.0.first() {
        let (whole, _) = fields.next(tag)?;
        match tag {
            PEER => content.extend(element(PEER, &[leaf])),
            _ => content.extend_from_slice(whole),
        }
    }
    Some(element(SEQUENCE, &[&content]))
}
