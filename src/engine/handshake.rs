//! The two phases of a TLS handshake, and why a connection has no client certificate.

use openssl::ssl::{NameType, SslRef};

use super::Engine;
use crate::connection::Connection;
use crate::openssl_ext::ssl as ext;
use crate::policy::Policy;
use crate::text::quoted;
use crate::Error;

const NO_CERTIFICATE_PHASE: &str =
    "mtls.certificate() did not run for this connection; call it in ssl_certificate_by_lua*, at \
     http{} level and in servers that have one of their own";

pub(super) const NO_CLIENT_HELLO_PHASE: &str =
    "ssl_client_hello_by_lua* did not run for this connection; put it at http{} level and call \
     mtls.client_hello() in it";

impl Engine {
    /// ClientHello phase: binds the session to the certificate request of `server_name`. It is the
    /// only phase that also runs when a session is resumed.
    pub fn client_hello(&self, ssl: &SslRef, server_name: Option<&[u8]>) -> Result<(), Error> {
        let request = self.policy()?.certificate_request(server_name).cloned();
        Connection::on_client_hello(ssl, server_name, request, self.session_cache.get())
    }

    /// Whether TLS 1.3 sessions with a client certificate are kept in the server's session cache,
    /// where it has one and they fit into it, instead of tickets.
    pub fn use_session_cache(&self, yes: bool) {
        self.session_cache.set(yes);
    }

    /// Certificate phase: requests a certificate if the server name has a certificate request.
    /// Returns whether it did.
    ///
    /// # Errors
    /// When the ClientHello phase did not run: then the session is not bound, and could be resumed
    /// under another server name.
    pub fn certificate(&self, ssl: &SslRef) -> Result<bool, Error> {
        match Connection::of(ssl) {
            Some(connection) => connection.request_certificate(ssl),
            None => Err(Error::Misuse(NO_CLIENT_HELLO_PHASE.to_owned())),
        }
    }

    /// Whether a new handshake of the client may change a refusal: the server name of this connection
    /// had another certificate request when the client connected than it has in the policy in force.
    pub fn is_outdated(&self, ssl: &SslRef) -> Result<bool, Error> {
        let policy = self.policy()?;
        Ok(Connection::of(ssl).is_some_and(|connection| {
            let current = policy.certificate_request(connection.server_name());
            connection.is_outdated(current.map(|request| &**request))
        }))
    }

    /// Why a connection has no client certificate, for the error log: the client presented none, or
    /// the handshake did not request one.
    pub(super) fn why_without_certificate(
        &self,
        policy: &Policy,
        connection: &Connection,
        ssl: &SslRef,
        now: i64,
    ) -> String {
        if connection.requested() {
            return "the client presented none".to_owned();
        }
        let why = if !connection.saw_client_hello() {
            NO_CLIENT_HELLO_PHASE.to_owned()
        } else if !connection.requests_certificate() {
            self.why_not_requested(policy, ssl.servername_raw(NameType::HOST_NAME), now)
        } else if ext::is_resumed(ssl) {
            return "the TLS session that the client resumed has none: the client presented none \
                    when it was made, or none was requested"
                .to_owned();
        } else {
            NO_CERTIFICATE_PHASE.to_owned()
        };
        format!("none was requested: {why}")
    }

    /// Why the server name of a connection has no certificate request.
    fn why_not_requested(&self, policy: &Policy, server_name: Option<&[u8]>, now: i64) -> String {
        let Some(name) = server_name else {
            return "the client sent no server name (SNI), and without one no route requests a \
                    certificate"
                .to_owned();
        };
        let shown = quoted(name);
        if policy.certificate_request(Some(name)).is_some() {
            return format!(
                "no route requested one under the server name '{shown}' when the client connected"
            );
        }
        let mut budget = self.suggestions.get();
        let suggestion = policy.suggest_server_name(name, now, &mut budget);
        self.suggestions.set(budget);
        format!(
            "the client sent the server name '{shown}', under which no route requests \
             one{suggestion}"
        )
    }
}
