//! Time of calls of the C ABI, without Lua: an access decision in three cases, the check for
//! reserved headers, and a look-up in the SNI map. Needs t/pki/out (t/pki/make).
//!
//! The access calls use an open TLS connection between a client and a server of this process, on
//! which the client has sent a chain of two certificates.

// criterion_group! of criterion 0.7 generates a function without documentation.
#![allow(missing_docs)]

use std::ffi::c_void;
use std::fs;
use std::os::unix::net::UnixStream;
use std::ptr;
use std::thread;

use criterion::{criterion_group, criterion_main, BatchSize, Criterion};
use foreign_types::ForeignTypeRef;
use openssl::ssl::{
    ClientHelloResponse, SslAcceptor, SslConnector, SslFiletype, SslMethod, SslStream,
    SslVerifyMode, SslVersion,
};
use resty_mtls::ffi::access::*;
use resty_mtls::ffi::engine::*;
use resty_mtls::ffi::handshake::*;
use resty_mtls::ffi::policy::*;
use resty_mtls::ffi::request_header::*;
use resty_mtls::ffi::reserved_headers::*;
use resty_mtls::ffi::sni_map::*;
use resty_mtls::ffi::{rmtls_buf, RMTLS_OK};

const SERVER_NAME: &str = "a.test";

fn pki(file: &str) -> String {
    format!("{}/t/pki/out/{file}", env!("CARGO_MANIFEST_DIR"))
}

/// Makes a call, and panics with its error text if it fails.
fn checked(call: impl FnOnce(*mut rmtls_buf) -> i32) {
    let mut text = [0; 4096];
    let mut err = rmtls_buf {
        data: text.as_mut_ptr(),
        cap: text.len(),
        len: 0,
    };
    let status = call(&mut err);
    assert_eq!(
        status,
        RMTLS_OK,
        "{}",
        String::from_utf8_lossy(&text[..err.len])
    );
}

struct Engine(*mut rmtls_engine);

impl Engine {
    fn new() -> Engine {
        let ca = fs::read_to_string(pki("ca-a.crt")).expect("run t/pki/make first");
        let policy = format!(
            r#"
_format_version: "3.0"
ca_certificates:
- id: 00000000-0000-4000-8000-000000000001
  cert: "{}"
routes:
- name: bench
  snis: [{SERVER_NAME}]
  plugins:
  - name: mtls-auth
    config: {{ca_certificates: [00000000-0000-4000-8000-000000000001], skip_consumer_lookup: true}}
  - name: tls-metadata-headers
    config: {{inject_client_cert_details: true}}
"#,
            ca.replace('\n', "\\n")
        );
        let mut engine = ptr::null_mut();
        // SAFETY: every pointer is to a live local.
        checked(|err| unsafe {
            assert_eq!(rmtls_engine_new(&mut engine), RMTLS_OK);
            let (text, label) = (policy.as_bytes(), SERVER_NAME.as_bytes());
            rmtls_engine_load(
                engine,
                text.as_ptr(),
                text.len(),
                label.as_ptr(),
                label.len(),
                err,
            )
        });
        Engine(engine)
    }

    fn plan(&self) -> u32 {
        let mut plan = 0;
        // SAFETY: every pointer is live.
        let status = unsafe { rmtls_engine_plan(self.0, b"bench".as_ptr(), 5, &mut plan) };
        assert_eq!(status, RMTLS_OK);
        plan
    }

    fn client_hello(&self, ssl: *mut c_void) {
        // SAFETY: every pointer is live.
        checked(|err| unsafe {
            rmtls_engine_client_hello(self.0, ssl, SERVER_NAME.as_ptr(), SERVER_NAME.len(), err)
        });
    }

    fn request_certificate(&self, ssl: *mut c_void) {
        // SAFETY: every pointer is live.
        checked(|err| unsafe { rmtls_engine_request_certificate(self.0, ssl, err) });
    }

    fn access(&self, ssl: *mut c_void, plan: u32) -> i32 {
        let mut decision = rmtls_decision::default();
        // SAFETY: every pointer is live or NULL.
        let status = unsafe {
            rmtls_engine_access(
                self.0,
                ssl,
                plan,
                SERVER_NAME.as_ptr(),
                SERVER_NAME.len(),
                now(),
                &mut decision,
                ptr::null_mut(),
            )
        };
        assert_eq!((status, decision.decision), (RMTLS_OK, RMTLS_DECISION_PASS));
        decision.verdict
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // SAFETY: made by `new`, freed once.
        unsafe { rmtls_engine_free(self.0) }
    }
}

fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("clock").as_secs() as i64
}

/// Server and client side of a TLS 1.3 connection on which the client has sent its chain.
fn connect(engine: &Engine) -> (SslStream<UnixStream>, SslStream<UnixStream>) {
    let (server, client) = UnixStream::pair().expect("socket pair");
    let client = thread::spawn(move || {
        let mut connector = SslConnector::builder(SslMethod::tls_client()).expect("connector");
        connector.set_verify(SslVerifyMode::NONE);
        connector
            .set_min_proto_version(Some(SslVersion::TLS1_3))
            .expect("TLS 1.3");
        connector
            .set_certificate_chain_file(pki("client-int.chain"))
            .expect("client chain");
        connector
            .set_private_key_file(pki("client-int.key"), SslFiletype::PEM)
            .expect("client key");
        connector
            .build()
            .connect(SERVER_NAME, client)
            .expect("client handshake")
    });

    let mut acceptor =
        SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).expect("acceptor");
    acceptor
        .set_certificate_chain_file(pki("server-a.crt"))
        .expect("server certificate");
    acceptor
        .set_private_key_file(pki("server-a.key"), SslFiletype::PEM)
        .expect("server key");
    let handle = engine.0 as usize;
    acceptor.set_client_hello_callback(move |ssl, _| {
        let engine = std::mem::ManuallyDrop::new(Engine(handle as *mut rmtls_engine));
        engine.client_hello(ssl.as_ptr().cast());
        engine.request_certificate(ssl.as_ptr().cast());
        Ok(ClientHelloResponse::SUCCESS)
    });
    let server = acceptor.build().accept(server).expect("server handshake");
    (server, client.join().expect("client"))
}

fn access(criterion: &mut Criterion) {
    let engine = Engine::new();
    let (server, _client) = connect(&engine);
    let ssl = server.ssl().as_ptr().cast();
    let plan = engine.plan();
    assert_eq!(engine.access(ssl, plan), 0, "X509_V_OK");

    criterion.bench_function("access/same connection", |b| {
        b.iter(|| engine.access(ssl, plan))
    });

    // The ClientHello phase discards the cached decision of the connection, as if the connection
    // were new. The caches of the worker keep client and verdict.
    criterion.bench_function("access/new connection, known chain", |b| {
        b.iter_batched(
            || engine.client_hello(ssl),
            |()| engine.access(ssl, plan),
            BatchSize::PerIteration,
        );
    });

    criterion.bench_function("access/first", |b| {
        b.iter_batched_ref(
            || {
                // The caches of a new engine are empty.
                let engine = Engine::new();
                engine.client_hello(ssl);
                engine
            },
            |engine| engine.access(ssl, plan),
            BatchSize::PerIteration,
        );
    });
}

fn reserved_headers(criterion: &mut Criterion) {
    let engine = Engine::new();
    let headers = [
        "Host",
        "User-Agent",
        "Accept",
        "Accept-Encoding",
        "Accept-Language",
        "Authorization",
        "X-Request-Id",
        "Traceparent",
    ]
    .map(|name| rmtls_request_header {
        name_len: name.len() as i32,
        name: name.as_ptr(),
        value_len: 0,
        value: ptr::null(),
    });
    let mut found = [0; 8];
    let mut found_len = 0;
    criterion.bench_function("reserved_headers/8 headers", |b| {
        b.iter(|| {
            // SAFETY: every pointer is to a live local.
            let status = unsafe {
                rmtls_engine_reserved_headers(
                    engine.0,
                    headers.as_ptr(),
                    headers.len(),
                    found.as_mut_ptr(),
                    found.len(),
                    &mut found_len,
                )
            };
            assert_eq!((status, found_len), (RMTLS_OK, 0));
        });
    });
}

fn sni_map(criterion: &mut Criterion) {
    let mut map = ptr::null_mut();
    let mut value = 0;
    // SAFETY: every pointer is to a live local.
    unsafe {
        assert_eq!(rmtls_sni_map_new(&mut map), RMTLS_OK);
        for i in 0..10_000 {
            let name = format!("host-{i}.example.com");
            let (text, len) = (name.as_ptr(), name.len());
            checked(|err| rmtls_sni_map_add(map, text, len, i, 0, ptr::null(), 0, 0, err));
        }
        assert_eq!(rmtls_sni_map_build(map), RMTLS_OK);
    }
    let name = b"host-4711.example.com";
    criterion.bench_function("sni_map_get/10,000 names", |b| {
        b.iter(|| {
            // SAFETY: every pointer is live.
            let status = unsafe { rmtls_sni_map_get(map, name.as_ptr(), name.len(), &mut value) };
            assert_eq!((status, value), (RMTLS_OK, 4711));
        });
    });
    // SAFETY: made above, freed once.
    unsafe { rmtls_sni_map_free(map) }
}

criterion_group!(benches, access, reserved_headers, sni_map);
criterion_main!(benches);
