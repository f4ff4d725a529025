// C ABI of resty-mtls. Generated from src/ffi by `make header`; do not edit.
//
// Every function answers RMTLS_OK, a positive status that the caller must handle,
// or a negative fault. Handles belong to one thread.

#ifndef RESTY_MTLS_H
#define RESTY_MTLS_H

#include <stddef.h>
#include <stdint.h>

// Version of this ABI. Any change of a signature or a struct changes it.
#define RMTLS_ABI_VERSION 3

// Success.
#define RMTLS_OK 0

// Nothing of that name, or no more of them.
#define RMTLS_NOT_FOUND 1

// The buffer is too small; its `len` says how many bytes are needed. Nothing else happened.
#define RMTLS_TOO_SMALL 2

// There is a value, but a header must not carry it; the buffer says why.
#define RMTLS_LEFT_OUT 3

// A pointer that must not be NULL is NULL.
#define RMTLS_NULL_ARGUMENT -1

// The input is not what the function takes; the error buffer says why.
#define RMTLS_INVALID -2

// A bug of this library, caught.
#define RMTLS_PANIC -3

// OpenSSL refused an operation that should have worked.
#define RMTLS_OPENSSL -4

// The process runs on another OpenSSL than this library is bound to.
#define RMTLS_HOST -5

// The request may go on.
#define RMTLS_DECISION_PASS 0

// 401: the route wants a certificate and none came.
#define RMTLS_DECISION_NO_CERTIFICATE 1

// 401: the certificate is not trusted.
#define RMTLS_DECISION_REFUSED 2

// 421: the connection was made under another policy than this Host's.
#define RMTLS_DECISION_MISDIRECTED 3

// 403: the client is known, and may not use the route.
#define RMTLS_DECISION_FORBIDDEN 4

// Not decided yet: ask the sources of `rmtls_engine_revocation_source` whether the certificate is revoked,
// hand what they answer to `rmtls_engine_revocation_response`, then call `rmtls_engine_access` again.
#define RMTLS_DECISION_PENDING 5

// 425: the request came as TLS early data, which whoever recorded it can send once more.
#define RMTLS_DECISION_TOO_EARLY 6

// 503: this worker does not have what a decision needs.
#define RMTLS_DECISION_UNAVAILABLE 7

// Nobody in particular.
#define RMTLS_IDENTITY_NONE 0

// The holder of a trusted certificate.
#define RMTLS_IDENTITY_HOLDER 1

// A consumer.
#define RMTLS_IDENTITY_CONSUMER 2

// The consumer that stands in for clients that are not trusted.
#define RMTLS_IDENTITY_ANONYMOUS 3

// The request does not carry them.
#define RMTLS_FORWARDS_NO 0

// It does.
#define RMTLS_FORWARDS_YES 1

// It does if `rmtls_connection_is_first` says so.
#define RMTLS_FORWARDS_FIRST 2

// Id of a consumer.
#define RMTLS_CONSUMER_ID 1

// Its username.
#define RMTLS_CONSUMER_USERNAME 2

// Its custom_id.
#define RMTLS_CONSUMER_CUSTOM_ID 3

// Subject as RFC 2253 text.
#define RMTLS_FIELD_SUBJECT_DN 1

// Issuer as RFC 2253 text.
#define RMTLS_FIELD_ISSUER_DN 2

// Serial number, upper-case hexadecimal.
#define RMTLS_FIELD_SERIAL 3

// SHA-1 of the DER, lower-case hexadecimal.
#define RMTLS_FIELD_SHA1 4

// SHA-256 of the DER, lower-case hexadecimal.
#define RMTLS_FIELD_SHA256 5

// The leaf in PEM.
#define RMTLS_FIELD_PEM 6

// Leaf and intermediates in PEM, leaf first.
#define RMTLS_FIELD_CHAIN_PEM 7

// SHA-256 of the DER as in `cnf.x5t#S256` of a token: base64url without padding.
#define RMTLS_FIELD_X5T_S256 8

// Bytes that Lua may keep for clients, connections and tokens by plan, in each VM.
#define RMTLS_MAX_LUA_BYTES 25165824

// Set on every request of the client.
#define RMTLS_HEADER_LINE_ALWAYS 0

// Set on requests whose `rmtls_decision.forwards` is 1.
#define RMTLS_HEADER_LINE_FORWARDING 1

// Set as `rmtls_engine_xfcc` says.
#define RMTLS_HEADER_LINE_XFCC 2

// Never set: longer than its limit. The value says why, here and below.
#define RMTLS_HEADER_LINE_TOO_LARGE 3

// Never set: readers would read something else.
#define RMTLS_HEADER_LINE_AMBIGUOUS 4

// Never set: not what a header may hold.
#define RMTLS_HEADER_LINE_NOT_TEXT 5

// Never set: the certificate cannot be read that far.
#define RMTLS_HEADER_LINE_UNREADABLE 6

// A property of `rmtls_engine_cloudflare` that is true (`1`) or false (`0`).
#define RMTLS_HEADER_LINE_FLAG 7

// For a verdict: nothing was verified.
#define RMTLS_VERDICT_NOT_VERIFIED -1

// For a verdict: the chain is good, but the route takes the client for nobody.
#define RMTLS_VERDICT_NO_CONSUMER -2

// Starts of handshakes, also of those that resume a session.
#define RMTLS_EVENT_CLIENT_HELLO 0

// Full handshakes in which a client certificate was asked for.
#define RMTLS_EVENT_CERTIFICATE_REQUEST 1

// Full handshakes in which the client sent one, whatever it is worth.
#define RMTLS_EVENT_CERTIFICATE_PRESENTED 2

// Connections of full handshakes on which a request was decided about.
#define RMTLS_EVENT_FULL_CONNECTION 3

// The same, of handshakes that resumed a session.
#define RMTLS_EVENT_RESUMED_CONNECTION 4

// The last decision on a connection still held.
#define RMTLS_EVENT_DECISION_HIT 5

// It did not, or there was none.
#define RMTLS_EVENT_DECISION_MISS 6

// The worker had read a client certificate before.
#define RMTLS_EVENT_CLIENT_HIT 7

// It had not.
#define RMTLS_EVENT_CLIENT_MISS 8

// A connection did not know the verdict on its chain, the worker did.
#define RMTLS_EVENT_VERDICT_HIT 9

// Nor did the worker: the chain was verified.
#define RMTLS_EVENT_VERDICT_MISS 10

// A revocation status was known.
#define RMTLS_EVENT_STATUS_HIT 11

// It was not.
#define RMTLS_EVENT_STATUS_MISS 12

// Number of events.
#define RMTLS_EVENTS 13

// Responses of the route carry `Vary: Client-Cert`.
#define RMTLS_TRAIT_VARY 1

// Responses of the route carry `Cache-Control: private`.
#define RMTLS_TRAIT_PRIVATE 2

// The route forwards an XFCC header that came: ask `rmtls_engine_xfcc` on every request.
#define RMTLS_TRAIT_XFCC 4

// The route reads the certificate from a header: `rmtls_engine_access_with_headers`.
#define RMTLS_TRAIT_HEADER_CERTIFICATE 8

// The route wants an access token: `rmtls_engine_check_token`.
#define RMTLS_TRAIT_TOKEN 16

// With `RMTLS_TRAIT_HEADER_CERTIFICATE`: where no header brings a certificate, that of the connection counts.
#define RMTLS_TRAIT_OR_TLS 32

// Not compiled yet.
#define RMTLS_RELOAD_BUILDING 0

// In force.
#define RMTLS_RELOAD_IN_FORCE 1

// Its files hold what is in force already.
#define RMTLS_RELOAD_SAME 2

// A reload that was started later is in force already.
#define RMTLS_RELOAD_SUPERSEDED 3

// Its files were changed while they were read: look again.
#define RMTLS_RELOAD_UNSETTLED 4

// The files are as they were.
#define RMTLS_WATCH_SAME 0

// They have just changed, and may be changing still: look again.
#define RMTLS_WATCH_UNSETTLED 1

// They have changed.
#define RMTLS_WATCH_CHANGED 2

// An OCSP responder: POST the request to the URL.
#define RMTLS_REVOCATION_SOURCE_OCSP 1

// A CRL distribution point: GET the URL.
#define RMTLS_REVOCATION_SOURCE_CRL 2

// No source gave an answer.
#define RMTLS_REVOCATION_STATUS_UNKNOWN 0

// Not revoked.
#define RMTLS_REVOCATION_STATUS_GOOD 1

// Revoked.
#define RMTLS_REVOCATION_STATUS_REVOKED 2

// The request may go on.
#define RMTLS_TOKEN_PASS 0

// 401: no token came.
#define RMTLS_TOKEN_NO_TOKEN 1

// 401 with `error="invalid_token"`: the token is not good.
#define RMTLS_TOKEN_REFUSED 2

// 403 with `error="insufficient_scope"`: the token allows too little.
#define RMTLS_TOKEN_FORBIDDEN 3

// Not decided yet: hand the documents of the issuer to `rmtls_engine_set_issuer_documents`, then decide again.
#define RMTLS_TOKEN_NEEDS_KEYS 4

// Not decided yet: ask the issuer, hand its answer to `rmtls_engine_set_introspection`, then decide
// again.
#define RMTLS_TOKEN_NEEDS_INTROSPECTION 5

// Not decided yet: settle the revocation status of the certificate on the plan that
// `rmtls_token_options.certificate_plan` names, then decide again.
#define RMTLS_TOKEN_PENDING 6

// The issuer.
#define RMTLS_TOKEN_TEXT_ISSUER 1

// Where tokens are introspected, if that is known.
#define RMTLS_TOKEN_TEXT_INTROSPECTION_ENDPOINT 2

// This gateway's `client_id`.
#define RMTLS_TOKEN_TEXT_CLIENT_ID 3

// Its `client_secret`.
#define RMTLS_TOKEN_TEXT_CLIENT_SECRET 4

// What a client without a good token is told.
#define RMTLS_TOKEN_TEXT_UNAUTHORIZED 5

// What a client is told whose token allows too little.
#define RMTLS_TOKEN_TEXT_FORBIDDEN 6

// Where tokens are introspected, if the policy itself says so.
#define RMTLS_TOKEN_TEXT_CONFIGURED_ENDPOINT 7

// The client sends its id alone.
#define RMTLS_CLIENT_AUTH_NONE 0

// `client_secret_basic`.
#define RMTLS_CLIENT_AUTH_BASIC 1

// `client_secret_post`.
#define RMTLS_CLIENT_AUTH_POST 2

// `private_key_jwt`: `rmtls_engine_client_assertion`.
#define RMTLS_CLIENT_AUTH_PRIVATE_KEY 3

// A certificate; immutable.
typedef struct rmtls_certificate rmtls_certificate;

// A policy at work.
typedef struct rmtls_engine rmtls_engine;

// Header lines, in the order they are set.
typedef struct rmtls_header_lines rmtls_header_lines;

// A policy that is being compiled in a thread of the worker.
typedef struct rmtls_reload rmtls_reload;

// Server names and what their handshakes ask for; immutable once built.
typedef struct rmtls_sni_map rmtls_sni_map;

// A trust store; immutable.
typedef struct rmtls_trust_store rmtls_trust_store;

// Memory of the caller. `data` and `cap` are the caller's; `len` is set to the bytes written, or
// with `RMTLS_TOO_SMALL` to the bytes needed.
typedef struct rmtls_buf {
  // Writable for `cap` bytes.
  uint8_t *data;
  // Bytes available.
  size_t cap;
  // Bytes written or needed.
  size_t len;
} rmtls_buf;

// What `rmtls_engine_access` decided.
typedef struct rmtls_decision {
  // `RMTLS_DECISION_PASS` and its siblings.
  int32_t decision;
  // Place of a client that passed; below a small bound, so it can index a table.
  uint32_t client;
  // Tells this content of the place from earlier ones; 0 when there is no client.
  uint32_t generation;
  // `X509_V_OK` (0), an `X509_V_ERR_*` number, or -1 when nothing was verified.
  int32_t verdict;
  // `RMTLS_IDENTITY_*`.
  int32_t identity;
  // Position of the consumer, for the last two of those.
  uint32_t consumer;
  // Position of the credential that named the consumer, or `UINT32_MAX`.
  uint32_t credential;
  // Whether this very request carries the lines of `RMTLS_HEADER_LINE_FORWARDING`: `RMTLS_FORWARDS_*`.
  int32_t forwards;
  // Number of the connection when the client's certificate is not trusted, else 0.
  uint32_t connection;
  // Lines made for another number here are not to be used again.
  uint32_t server_certificate;
  // 1 when the certificate, or what stands in its place, is from a header, else 0.
  int32_t from_header;
} rmtls_decision;

// One inbound header, laid out as `ngx_http_lua_ffi_table_elt_t`.
typedef struct rmtls_request_header {
  // Bytes of the name.
  int32_t name_len;
  // The name.
  const uint8_t *name;
  // Bytes of the value.
  int32_t value_len;
  // The value.
  const uint8_t *value;
} rmtls_request_header;

// One of them. The bytes are those of the lines, and live as long.
typedef struct rmtls_header_line {
  // `RMTLS_HEADER_LINE_*`.
  int32_t kind;
  // The name.
  const uint8_t *name;
  // Bytes of the name.
  size_t name_len;
  // The value.
  const uint8_t *value;
  // Bytes of the value.
  size_t value_len;
} rmtls_header_line;

// How a worker stands to the policy in force on its node.
typedef struct rmtls_worker_state {
  // The epoch of the policy that it serves.
  uint64_t epoch;
  // Since when, in seconds since 1970.
  uint64_t since;
  // Process.
  uint32_t process;
  // 1 when its last reload failed, else 0.
  int32_t failed;
} rmtls_worker_state;

// Which policy is in force on a node.
typedef struct rmtls_node_state {
  // Number of it among all that have been in force; 0 before the first.
  uint64_t epoch;
  // Since when, in seconds since 1970.
  uint64_t since;
} rmtls_node_state;

// State of an engine.
typedef struct rmtls_policy_status {
  // The epoch of the policy that this worker serves: the number of it among all that have been in force
  // on this node.
  uint64_t epoch;
  // Since when this worker has served it, in seconds since 1970.
  uint64_t since;
  // Routes of the policy.
  uint64_t routes;
  // Server names that ask for a certificate, wildcards and `*` included.
  uint64_t server_names;
  // Different asks among them.
  uint64_t certificate_requests;
  // Warnings of the policy.
  uint64_t warnings;
  // SHA-256 of the compiled policy.
  uint8_t digest[32];
} rmtls_policy_status;

// How the sources of a plan are to be fetched.
typedef struct rmtls_fetch_options {
  // Milliseconds for one fetch.
  uint32_t http_timeout;
  // Seconds for which an answer is kept at most.
  int64_t ttl;
  // Whether https servers must show a trusted certificate: 0 or 1.
  int32_t ssl_verify;
  // Port of the proxy for http URLs, or 0.
  uint32_t http_proxy_port;
  // Port of the proxy for https URLs, or 0.
  uint32_t https_proxy_port;
} rmtls_fetch_options;

// What `rmtls_engine_check_token` decided.
typedef struct rmtls_token_decision {
  // `RMTLS_TOKEN_*`.
  int32_t decision;
  // Place of the claims of a token that passed; below a small bound, so it can index a table.
  uint32_t token;
  // Tells this content of the place from earlier ones; 0 when there is none.
  uint32_t generation;
  // What the token is known by while its issuer is asked.
  uint8_t id[32];
} rmtls_token_decision;

// How the tokens of a plan are looked at.
typedef struct rmtls_token_options {
  // Whether the keys of the issuer are needed: 0 or 1.
  int32_t needs_keys;
  // `RMTLS_CLIENT_AUTH_*`.
  int32_t client_auth;
  // Whether the upstream does not get the token: 0 or 1.
  int32_t hide_credentials;
  // Whether a refusal says why: 0 or 1.
  int32_t expose_error_code;
  // Whether the issuer's server must show a trusted certificate: 0 or 1.
  int32_t ssl_verify;
  // Milliseconds for one fetch.
  uint32_t timeout;
  // Seconds after which the documents of the issuer may be fetched again.
  uint32_t rediscovery_lifetime;
  // Seconds for which the answer about a token is remembered at most.
  uint32_t cache_ttl;
  // Plan that judges the certificate of a token, or `UINT32_MAX`.
  uint32_t certificate_plan;
  // Whether certificates matter: 0 or 1.
  int32_t proof_of_possession;
} rmtls_token_options;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The version of this ABI; compare it with `RMTLS_ABI_VERSION` of the header in use.
int32_t rmtls_abi_version(void);

// Checks that the process runs on the OpenSSL this library is bound to. Call it once after
// loading, before anything else. With `RMTLS_HOST`, `err` says in one line what is wrong.
//
// # Safety
// `err` is NULL or valid, with `err->data` writable for `err->cap` bytes.
int32_t rmtls_host_check(struct rmtls_buf *err);

// Access phase: decides about a request. `ssl` NULL is plain HTTP; `host` is the request's Host
// without port; `now` is in seconds since the epoch. On a refusal `reason` says why, cut to fit,
// for the error log only.
//
// # Safety
// `engine` is NULL or live; `ssl` is NULL or a live `SSL` after its handshake; `host` is readable
// for `host_len` bytes; `out` is NULL or valid for writing; `reason` is NULL or valid, with its
// data.
int32_t rmtls_engine_access(const struct rmtls_engine *engine,
                            void *ssl,
                            uint32_t plan,
                            const uint8_t *host,
                            size_t host_len,
                            int64_t now,
                            struct rmtls_decision *out,
                            struct rmtls_buf *reason);

// Writes group number `index` of the client after this answer; `RMTLS_NOT_FOUND` after the last.
//
// # Safety
// `engine` is NULL or live; `answer` is NULL or valid; `out` is NULL or valid, with its data.
int32_t rmtls_engine_group(const struct rmtls_engine *engine,
                           uint32_t plan,
                           const struct rmtls_decision *answer,
                           size_t index,
                           struct rmtls_buf *out);

// Tells when the certificate of the client after this answer expires, in seconds since the epoch;
// `RMTLS_NOT_FOUND` for a client that is not remembered.
//
// # Safety
// `engine` is NULL or live; `answer` is NULL or valid; `out` is NULL or valid for writing.
int32_t rmtls_engine_not_after(const struct rmtls_engine *engine,
                               const struct rmtls_decision *answer,
                               int64_t *out);

// Writes one of the `RMTLS_CONSUMER_*` of the consumer at a position; `RMTLS_NOT_FOUND` if it has
// none.
//
// # Safety
// `engine` is NULL or live; `out` is NULL or valid, with its data.
int32_t rmtls_engine_consumer(const struct rmtls_engine *engine,
                              uint32_t consumer,
                              uint32_t field,
                              struct rmtls_buf *out);

// Gives the certificate the client presented on `ssl`, whatever it is worth; `RMTLS_NOT_FOUND` if
// it presented none.
//
// # Safety
// `engine` is NULL or live; `ssl` is NULL or a live `SSL` after its handshake; `out` is NULL or
// valid for writing.
int32_t rmtls_engine_tls_client(const struct rmtls_engine *engine,
                                void *ssl,
                                struct rmtls_certificate **out);

// Gives the certificate of a client that passed, with what it sent of its verified chain, by
// `client` and `generation` of the answer; `RMTLS_NOT_FOUND` if it is not remembered any more.
//
// # Safety
// `engine` is NULL or live; `out` is NULL or valid for writing.
int32_t rmtls_engine_cached_client(const struct rmtls_engine *engine,
                                   uint32_t client,
                                   uint32_t generation,
                                   struct rmtls_certificate **out);

// Reads PEM text, leaf first.
//
// # Safety
// `pem` is readable for `pem_len` bytes; `out` is NULL or valid for writing; `err` is NULL or
// valid, with its data.
int32_t rmtls_certificate_from_pem(const uint8_t *pem,
                                   size_t pem_len,
                                   struct rmtls_certificate **out,
                                   struct rmtls_buf *err);

// Takes what the client presented on `ssl`, on a resumed connection too; `RMTLS_NOT_FOUND` if it
// presented nothing.
//
// # Safety
// `ssl` is NULL or a live `SSL` after its handshake; `out` is NULL or valid for writing.
int32_t rmtls_certificate_from_ssl(void *ssl, struct rmtls_certificate **out);

// Frees a certificate.
//
// # Safety
// `certificate` is NULL or came from this library and is not used again.
void rmtls_certificate_free(struct rmtls_certificate *certificate);

// Writes one of the `RMTLS_FIELD_*`.
//
// # Safety
// `certificate` is NULL or live; `out` is NULL or valid, with its data.
int32_t rmtls_certificate_get(const struct rmtls_certificate *certificate,
                              uint32_t field,
                              struct rmtls_buf *out);

// Tells the validity, in seconds since the epoch, both ends included.
//
// # Safety
// `certificate` is NULL or live; `not_before` and `not_after` are NULL or valid for writing.
int32_t rmtls_certificate_validity(const struct rmtls_certificate *certificate,
                                   int64_t *not_before,
                                   int64_t *not_after);

// Writes attribute number `index` of the subject: its short name or OID, and its value in UTF-8
// with NULs kept. `RMTLS_NOT_FOUND` after the last; `RMTLS_INVALID` if there are over 1,000.
//
// # Safety
// `certificate` is NULL or live; `name` and `value` are NULL or valid, with their data.
int32_t rmtls_certificate_subject(const struct rmtls_certificate *certificate,
                                  size_t index,
                                  struct rmtls_buf *name,
                                  struct rmtls_buf *value);

// Writes subject alternative name number `index`: its type (`DNS`, `email`, `URI`, `IP`,
// `dirName`) and its value. `RMTLS_NOT_FOUND` after the last; `RMTLS_INVALID` if there are over
// 1,000.
//
// # Safety
// `certificate` is NULL or live; `kind` and `value` are NULL or valid, with their data.
int32_t rmtls_certificate_san(const struct rmtls_certificate *certificate,
                              size_t index,
                              struct rmtls_buf *kind,
                              struct rmtls_buf *value);

// Makes an engine without a policy.
//
// # Safety
// `out` is NULL or valid for writing.
int32_t rmtls_engine_new(struct rmtls_engine **out);

// Frees a handle; the engine lives on while it is the current one.
//
// # Safety
// `engine` is NULL or came from `rmtls_engine_new` or `rmtls_engine_current` and is not used
// again.
void rmtls_engine_free(struct rmtls_engine *engine);

// Makes this engine the current one of the thread.
//
// # Safety
// `engine` is NULL or live.
int32_t rmtls_engine_install(const struct rmtls_engine *engine);

// Gives a new handle of the current engine; `RMTLS_NOT_FOUND` if there is none.
//
// # Safety
// `out` is NULL or valid for writing.
int32_t rmtls_engine_current(struct rmtls_engine **out);

// `RMTLS_OK` if this engine is the current one, else `RMTLS_NOT_FOUND`.
//
// # Safety
// `engine` is NULL or live.
int32_t rmtls_engine_is_current(const struct rmtls_engine *engine);

// Number of the policies this thread has had in force: plan numbers hold as long as it stays. 0 for
// NULL.
//
// # Safety
// `engine` is NULL or live.
uint32_t rmtls_engine_epoch(const struct rmtls_engine *engine);

// ClientHello phase: binds the session of `ssl` to what the raw server name asks for. `name`
// NULL: the client sent none.
//
// # Safety
// `engine` is NULL or live; `ssl` is NULL or a live `SSL` inside its ClientHello callback; `name`
// is NULL or readable for `name_len` bytes; `err` is NULL or valid, with its data.
int32_t rmtls_engine_client_hello(const struct rmtls_engine *engine,
                                  void *ssl,
                                  const uint8_t *name,
                                  size_t name_len,
                                  struct rmtls_buf *err);

// Certificate phase: asks for a client certificate if the ClientHello phase decided so;
// `RMTLS_NOT_FOUND` if it did not.
//
// # Safety
// `engine` is NULL or live; `ssl` is NULL or a live `SSL` inside its certificate callback; `err`
// is NULL or valid, with its data.
int32_t rmtls_engine_request_certificate(const struct rmtls_engine *engine,
                                         void *ssl,
                                         struct rmtls_buf *err);

// As `rmtls_engine_access`, for a plan with `RMTLS_TRAIT_HEADER_CERTIFICATE`: `came` are the headers that the
// route may read, `trusted` is 1 when `trusted_ips` names the peer of the TCP connection.
//
// # Safety
// As `rmtls_engine_access`; `came` is readable for `headers_len` elements whose names and values are
// readable.
int32_t rmtls_engine_access_with_headers(const struct rmtls_engine *engine,
                                         void *ssl,
                                         uint32_t plan,
                                         const uint8_t *host,
                                         size_t host_len,
                                         const struct rmtls_request_header *came,
                                         size_t headers_len,
                                         int32_t trusted,
                                         int64_t now,
                                         struct rmtls_decision *out,
                                         struct rmtls_buf *reason);

// Gives the certificate that a request presents on a plan, whatever it is worth: from the header
// that the plan reads, else the one of the connection; with `or_tls` 1 that one also when the
// header is not there. `RMTLS_NOT_FOUND` if there is none.
//
// # Safety
// `engine` is NULL or live; `ssl` is NULL or a live `SSL` after its handshake; `came` is readable
// for `headers_len` elements whose names and values are readable; `out` is NULL or valid for writing.
int32_t rmtls_engine_unverified_certificate(const struct rmtls_engine *engine,
                                            void *ssl,
                                            uint32_t plan,
                                            const struct rmtls_request_header *came,
                                            size_t headers_len,
                                            int32_t trusted,
                                            int32_t or_tls,
                                            struct rmtls_certificate **out);

// Reads a certificate from the header of a proxy: `lines` are the values of the header, `chain`
// those of the header of its chain, if the format has one; the names are not looked at. `format`
// is one of `base64_encoded`, `url_encoded`, `rfc9440`, `xfcc`, `traefik`, `aws_alb`, `auto`.
// `RMTLS_NOT_FOUND` when the header says that there is no certificate.
//
// # Safety
// `format` is readable for its length; `lines` and `chain` are readable for their lengths, with
// names and values; `out` is NULL or valid for writing; `err` is NULL or valid, with its data.
int32_t rmtls_certificate_from_header(const uint8_t *format,
                                      size_t format_len,
                                      const struct rmtls_request_header *lines,
                                      size_t lines_len,
                                      const struct rmtls_request_header *chain,
                                      size_t chain_len,
                                      struct rmtls_certificate **out,
                                      struct rmtls_buf *err);

// Gives the lines that `plan` sets after this answer of `rmtls_engine_access`; `RMTLS_NOT_FOUND`
// for a client that is not remembered any more. `now` is in seconds since the epoch.
//
// # Safety
// `engine` is NULL or live; `ssl` is NULL or a live `SSL` after its handshake, the one of the
// answer; `answer` is NULL or valid; `out` is NULL or valid for writing.
int32_t rmtls_engine_header_lines(const struct rmtls_engine *engine,
                                  void *ssl,
                                  uint32_t plan,
                                  const struct rmtls_decision *answer,
                                  int64_t now,
                                  struct rmtls_header_lines **out);

// Gives the lines of a dialect for a certificate. `verdict` is `X509_V_OK` (0), an `X509_V_ERR_*`
// number, or one of `RMTLS_VERDICT_*`; the certificate is told either way.
// `RMTLS_INVALID` for an unknown dialect, with `err` naming the known ones.
//
// # Safety
// `certificate` is NULL or live; `dialect` is readable for `dialect_len` bytes; `out` is NULL or
// valid for writing; `err` is NULL or valid, with its data.
int32_t rmtls_certificate_header_lines(const struct rmtls_certificate *certificate,
                                       const uint8_t *dialect,
                                       size_t dialect_len,
                                       int32_t verdict,
                                       int64_t now,
                                       struct rmtls_header_lines **out,
                                       struct rmtls_buf *err);

// Gives the 21 properties of Cloudflare's `tlsClientAuth` for `client`, or with NULL for the client
// of `ssl`, names and values; `RMTLS_NOT_FOUND` if it presented no certificate. `verdict` as `rmtls_decision` has it for
// this plan, or `RMTLS_VERDICT_NO_CONSUMER`.
//
// # Safety
// `engine` is NULL or live; `ssl` is NULL or a live `SSL` after its handshake; `client` is NULL or
// live; `out` is NULL or valid for writing.
int32_t rmtls_engine_cloudflare(const struct rmtls_engine *engine,
                                void *ssl,
                                const struct rmtls_certificate *client,
                                uint32_t plan,
                                int32_t verdict,
                                int64_t now,
                                struct rmtls_header_lines **out);

// Shows line number `index`; `RMTLS_NOT_FOUND` after the last.
//
// # Safety
// `lines` is NULL or live; `out` is NULL or valid for writing, and what it shows is not read after
// `lines` is freed.
int32_t rmtls_header_lines_get(const struct rmtls_header_lines *lines,
                               size_t index,
                               struct rmtls_header_line *out);

// Tells the first second at which the lines must be made again; 0 when they hold for one request
// only.
//
// # Safety
// `lines` is NULL or live; `until` is NULL or valid for writing.
int32_t rmtls_header_lines_until(const struct rmtls_header_lines *lines, int64_t *until);

// Frees lines.
//
// # Safety
// `lines` is NULL or came from a function above and is not used again.
void rmtls_header_lines_free(struct rmtls_header_lines *lines);

// Writes the value of a dialect that has this key, for `client`, or with NULL for the client of
// `ssl`, whatever the certificate is worth; empty when there is nothing to say. `verdict` as `rmtls_decision` has it for
// this plan, or `RMTLS_VERDICT_NO_CONSUMER`. `RMTLS_NOT_FOUND` for an unknown key or without a certificate, `RMTLS_INVALID` for an
// unknown dialect, `RMTLS_LEFT_OUT` for a value that no header may carry; then `err` says why.
//
// # Safety
// `engine` is NULL or live; `ssl` is NULL or a live `SSL` after its handshake; `client` is NULL or
// live; `dialect` and `key` are readable for their lengths; `out` and `err` are NULL or valid, with their data.
int32_t rmtls_engine_header_value(const struct rmtls_engine *engine,
                                  void *ssl,
                                  const struct rmtls_certificate *client,
                                  uint32_t plan,
                                  int32_t verdict,
                                  const uint8_t *dialect,
                                  size_t dialect_len,
                                  const uint8_t *key,
                                  size_t key_len,
                                  int64_t now,
                                  struct rmtls_buf *out,
                                  struct rmtls_buf *err);

// `RMTLS_OK` when the request with this number, from 1 on its connection, is the first for which
// this is asked; `RMTLS_NOT_FOUND` when another was.
//
// # Safety
// `ssl` is NULL or a live `SSL` after its handshake.
int32_t rmtls_connection_is_first(void *ssl, uint64_t request);

// Writes name and value of the XFCC header for a request on a route with `RMTLS_TRAIT_XFCC`:
// `came` are headers that came, those of other names do not matter, `own` is the value of the
// `RMTLS_HEADER_LINE_XFCC` line, or NULL when there is none. `RMTLS_NOT_FOUND` when the header is not to
// be set. `kind` becomes `RMTLS_HEADER_LINE_ALWAYS`, or one of those that say why it must not be set.
//
// # Safety
// `engine` is NULL or live; `answer` is NULL or valid; `came` is readable for `headers_len` elements
// whose names and values are readable; `own` is NULL or readable for `own_len` bytes; `kind` is NULL or
// valid for writing; `name` and `value` are NULL or valid, with their data.
int32_t rmtls_engine_xfcc(const struct rmtls_engine *engine,
                          uint32_t plan,
                          const struct rmtls_decision *answer,
                          const struct rmtls_request_header *came,
                          size_t headers_len,
                          const uint8_t *own,
                          size_t own_len,
                          int32_t *kind,
                          struct rmtls_buf *name,
                          struct rmtls_buf *value);

// Writes how often each `RMTLS_EVENT_*` happened on this thread since the last call, at its number
// in `out`.
//
// # Safety
// `out` is NULL or writable for `RMTLS_EVENTS` elements.
int32_t rmtls_metrics_read_and_reset(uint64_t *out);

// Makes the engine one of those that share the node of this process, before its policy is loaded and
// before workers are forked. An nginx that another one started, to be upgraded (USR2), shares that one's.
// Fails without memory for it; then each worker is by itself.
//
// # Safety
// `engine` is NULL or live; `err` is NULL or valid, with its data.
int32_t rmtls_engine_join_node(const struct rmtls_engine *engine,
                               struct rmtls_buf *err);

// Keeps the documents in force in the directory at `path`, for the next start. `source` names the policy
// there. Fails when the directory does not exist or another user may read it.
//
// # Safety
// `engine` is NULL or live; `path` and `source` are readable for their lengths; `err` is NULL or valid,
// with its data.
int32_t rmtls_engine_set_state_directory(const struct rmtls_engine *engine,
                                         const uint8_t *path,
                                         size_t path_len,
                                         const uint8_t *source,
                                         size_t source_len,
                                         struct rmtls_buf *err);

// Loads the documents that were in force last, from the state directory. `RMTLS_NOT_FOUND` without one.
//
// # Safety
// `engine` is NULL or live; `err` is NULL or valid, with its data.
int32_t rmtls_engine_load_last_good(const struct rmtls_engine *engine,
                                    struct rmtls_buf *err);

// `RMTLS_OK` when another policy is in force on the node than the one that this worker has, else
// `RMTLS_NOT_FOUND`.
//
// # Safety
// `engine` is NULL or live.
int32_t rmtls_engine_is_behind(const struct rmtls_engine *engine);

// Says that this worker cannot get the policy in force: until it has it, `rmtls_engine_access` decides
// `RMTLS_DECISION_UNAVAILABLE`.
//
// # Safety
// `engine` is NULL or live.
int32_t rmtls_engine_set_unavailable(const struct rmtls_engine *engine);

// Reports to the node which policy the worker of this number serves.
//
// # Safety
// `engine` is NULL or live.
int32_t rmtls_engine_report_worker(const struct rmtls_engine *engine, uint32_t worker);

// Gives what a worker reported; `RMTLS_NOT_FOUND` when it did not, or has ended.
//
// # Safety
// `engine` is NULL or live; `out` is NULL or valid for writing.
int32_t rmtls_engine_worker_state(const struct rmtls_engine *engine,
                                  uint32_t worker,
                                  struct rmtls_worker_state *out);

// Gives the policy in force on the node; `RMTLS_NOT_FOUND` for an engine that shares none.
//
// # Safety
// `engine` is NULL or live; `out` is NULL or valid for writing.
int32_t rmtls_engine_node_state(const struct rmtls_engine *engine, struct rmtls_node_state *out);

// Compiles a policy document (YAML or JSON text) and puts it in force. On failure the policy
// before it stays in force and `err` has one line an error.
//
// `label` stands where a file name would in the errors.
//
// # Safety
// `engine` is NULL or live; `document` and `label` are readable for their lengths; `err` is NULL
// or valid, with `err->data` writable for `err->cap` bytes.
int32_t rmtls_engine_load(const struct rmtls_engine *engine,
                          const uint8_t *document,
                          size_t document_len,
                          const uint8_t *label,
                          size_t label_len,
                          struct rmtls_buf *err);

// As `rmtls_engine_load`, from the file at `path`.
//
// # Safety
// As `rmtls_engine_load`, with `path` readable for `path_len` bytes.
int32_t rmtls_engine_load_file(const struct rmtls_engine *engine,
                               const uint8_t *path,
                               size_t path_len,
                               struct rmtls_buf *err);

// Writes warning number `index` of the policy in force; `RMTLS_NOT_FOUND` after the last.
//
// # Safety
// `engine` is NULL or live; `out` is NULL or valid, with `out->data` writable for `out->cap`
// bytes.
int32_t rmtls_engine_warning(const struct rmtls_engine *engine,
                             size_t index,
                             struct rmtls_buf *out);

// Writes what there is to warn of about the policy in force if the caller trusts no peer to send
// certificates in headers; `RMTLS_NOT_FOUND` if it reads none that only a trusted peer may send.
//
// # Safety
// `engine` is NULL or live; `out` is NULL or valid, with `out->data` writable for `out->cap`
// bytes.
int32_t rmtls_engine_untrusted_source_warning(const struct rmtls_engine *engine,
                                              struct rmtls_buf *out);

// Tells the state of the engine.
//
// # Safety
// `engine` is NULL or live; `out` is NULL or valid for writing.
int32_t rmtls_engine_policy_status(const struct rmtls_engine *engine,
                                   struct rmtls_policy_status *out);

// Finds the plan of a route; `name` NULL is the plan of requests without a route of their own
// (global plugins only). Plan numbers hold until the next load.
//
// # Safety
// `engine` is NULL or live; `name` is NULL or readable for `name_len` bytes; `out` is NULL or
// valid for writing.
int32_t rmtls_engine_plan(const struct rmtls_engine *engine,
                          const uint8_t *name,
                          size_t name_len,
                          uint32_t *out);

// Tells what a plan needs beyond lines: `RMTLS_TRAIT_*`, added up.
//
// # Safety
// `engine` is NULL or live; `out` is NULL or valid for writing.
int32_t rmtls_engine_traits(const struct rmtls_engine *engine, uint32_t plan, uint32_t *out);

// Writes why a request of the route `name` fails when `rmtls_engine_plan` finds no such route, with
// the name that may have been meant. `now` in seconds since the epoch: few names are compared within
// a second.
//
// # Safety
// `engine` is NULL or live; `name` is readable for `name_len` bytes; `out` is NULL or valid, with its
// data.
int32_t rmtls_engine_unknown_route(const struct rmtls_engine *engine,
                                   const uint8_t *name,
                                   size_t name_len,
                                   int64_t now,
                                   struct rmtls_buf *out);

// Writes the name of the route number `index`, or its id, and nothing for a route to whose requests
// no more applies than to those without a route; `RMTLS_NOT_FOUND` after the last.
//
// # Safety
// `engine` is NULL or live; `out` is NULL or valid, with its data.
int32_t rmtls_engine_route(const struct rmtls_engine *engine, size_t index, struct rmtls_buf *out);

// Writes, about file number `index` of those that the policy was read from and that workers of this
// user cannot read, what is in the way; `RMTLS_NOT_FOUND` after the last, and when there is no such
// user or group. `group` NULL is the one that is called as the user. Call it before there are threads.
//
// # Safety
// `engine` is NULL or live; `user` is readable for `user_len` bytes; `group` is NULL or readable for
// `group_len` bytes; `out` is NULL or valid, with its data. No other thread looks up users or groups.
int32_t rmtls_engine_unreadable_file(const struct rmtls_engine *engine,
                                     const uint8_t *user,
                                     size_t user_len,
                                     const uint8_t *group,
                                     size_t group_len,
                                     size_t index,
                                     struct rmtls_buf *out);

// Starts to compile a policy document (YAML or JSON text) in a thread of this process, which never
// takes a signal. `label` stands where a file name would in the errors. Call it after the last
// `fork`.
//
// # Safety
// `engine` is NULL or live; `document` and `label` are readable for their lengths; `out` is NULL or
// valid for writing; `err` is NULL or valid, with its data.
int32_t rmtls_reload_new(const struct rmtls_engine *engine,
                         const uint8_t *document,
                         size_t document_len,
                         const uint8_t *label,
                         size_t label_len,
                         struct rmtls_reload **out,
                         struct rmtls_buf *err);

// As `rmtls_reload_new`, from the file at `path`.
//
// # Safety
// As `rmtls_reload_new`, with `path` readable for `path_len` bytes.
int32_t rmtls_reload_new_file(const struct rmtls_engine *engine,
                              const uint8_t *path,
                              size_t path_len,
                              struct rmtls_reload **out,
                              struct rmtls_buf *err);

// As `rmtls_reload_new`, from where the policy in force came from, and only if its files hold
// something else by now. `RMTLS_NOT_FOUND` when it came from no file.
//
// # Safety
// As `rmtls_reload_new`.
int32_t rmtls_reload_new_changed(const struct rmtls_engine *engine,
                                 struct rmtls_reload **out,
                                 struct rmtls_buf *err);

// As `rmtls_reload_new`, from the documents that are in force on the node, whatever the files hold.
//
// # Safety
// As `rmtls_reload_new`.
int32_t rmtls_reload_new_from_node(const struct rmtls_engine *engine,
                                   struct rmtls_reload **out,
                                   struct rmtls_buf *err);

// Puts the policy in force once it is compiled. Waits for it up to `wait_ms` milliseconds, with 0
// not at all. `state` becomes one of `RMTLS_RELOAD_*`; `message` says what changed, for the log,
// when it is `RMTLS_RELOAD_IN_FORCE`. On failure `message` has one line an error, cut to fit, and
// the policy before stays in force. Each outcome is told once.
//
// # Safety
// `reload` is NULL or live; `state` is NULL or valid for writing; `message` is NULL or valid, with
// its data.
int32_t rmtls_reload_poll(const struct rmtls_reload *reload,
                          uint32_t wait_ms,
                          int32_t *state,
                          struct rmtls_buf *message);

// Frees a reload; one that is under way is called off.
//
// # Safety
// `reload` is NULL or came from `rmtls_reload_new` or a sibling and is not used again.
void rmtls_reload_free(struct rmtls_reload *reload);

// Writes the errors of the last load or reload, one line each, cut to fit; `RMTLS_NOT_FOUND` when it
// went well.
//
// # Safety
// `engine` is NULL or live; `out` is NULL or valid, with its data.
int32_t rmtls_engine_last_error(const struct rmtls_engine *engine,
                                struct rmtls_buf *out);

// Sets how often to look at the files of the policy; 0 milliseconds: never.
//
// # Safety
// `engine` is NULL or live.
int32_t rmtls_engine_watch(const struct rmtls_engine *engine, uint32_t every_ms);

// Makes the caller the one who looks in this process, every `every_ms` milliseconds, with `token`; 0 when
// only the node is to be looked at. `RMTLS_NOT_FOUND` when another one does already.
//
// # Safety
// `engine` is NULL or live; `every_ms` and `token` are NULL or valid for writing.
int32_t rmtls_engine_watch_start(const struct rmtls_engine *engine,
                                 uint32_t *every_ms,
                                 uint32_t *token);

// Looks at the files of the policy: `look` becomes one of `RMTLS_WATCH_*`. `RMTLS_NOT_FOUND` when
// the caller need not look any more: somebody else does, or another engine is the current one.
//
// # Safety
// `engine` is NULL or live; `look` is NULL or valid for writing.
int32_t rmtls_engine_watch_check(const struct rmtls_engine *engine, uint32_t token, int32_t *look);

// Finds the inbound headers that only the gateway may set, and a `Connection` that would make an
// upstream drop one of them: writes their indexes to `found`, at
// most `found_cap`, and their number to `found_len`.
//
// # Safety
// `engine` is NULL or live; `headers` is readable for `headers_len` elements whose names and
// values are readable; `found` is writable for `found_cap` elements; `found_len` is NULL or valid for
// writing.
int32_t rmtls_engine_reserved_headers(const struct rmtls_engine *engine,
                                      const struct rmtls_request_header *headers,
                                      size_t headers_len,
                                      uint32_t *found,
                                      size_t found_cap,
                                      size_t *found_len);

// Writes the name of inbound header number `index` that some route reads before it is removed;
// `RMTLS_NOT_FOUND` after the last.
//
// # Safety
// `engine` is NULL or live; `out` is NULL or valid, with its data.
int32_t rmtls_engine_read_header_name(const struct rmtls_engine *engine,
                                      size_t index,
                                      struct rmtls_buf *out);

// Tells how the sources of a plan are to be fetched; the proxies' hosts are empty when there is
// none.
//
// # Safety
// `engine` is NULL or live; `out` is NULL or valid for writing; `http_proxy` and `https_proxy` are
// NULL or valid, with their data.
int32_t rmtls_engine_fetch_options(const struct rmtls_engine *engine,
                                   uint32_t plan,
                                   struct rmtls_fetch_options *out,
                                   struct rmtls_buf *http_proxy,
                                   struct rmtls_buf *https_proxy);

// Writes source number `index` for the status of the client with this certificate: its kind
// (`RMTLS_REVOCATION_SOURCE_*`), its URL and, for OCSP, the DER of the request. `RMTLS_NOT_FOUND` after the
// last.
//
// `plan` was looked up at `epoch` (`rmtls_engine_epoch`); `RMTLS_NOT_FOUND` when another policy
// is in force by now.
//
// # Safety
// `engine` is NULL or live; `client` is NULL or live; `kind` is NULL or
// valid for writing; `url` and `request` are NULL or valid, with their data.
int32_t rmtls_engine_revocation_source(const struct rmtls_engine *engine,
                                       const struct rmtls_certificate *client,
                                       uint32_t plan,
                                       uint32_t epoch,
                                       size_t index,
                                       int64_t now,
                                       int32_t *kind,
                                       struct rmtls_buf *url,
                                       struct rmtls_buf *request);

// Judges what source number `index` answered. With `RMTLS_OK` the status is definite and
// remembered: `state` becomes `RMTLS_REVOCATION_STATUS_GOOD` or `RMTLS_REVOCATION_STATUS_REVOKED`, `until` the first
// second at which it must be asked for again. Otherwise `err` says why it is no answer.
//
// `plan` was looked up at `epoch` (`rmtls_engine_epoch`); `RMTLS_NOT_FOUND` when another policy
// is in force by now.
//
// # Safety
// `engine` is NULL or live; `client` is NULL or live; `bytes` is readable
// for `bytes_len` bytes; `state` and `until` are NULL or valid for writing; `err` is NULL or
// valid, with its data.
int32_t rmtls_engine_revocation_response(const struct rmtls_engine *engine,
                                         const struct rmtls_certificate *client,
                                         uint32_t plan,
                                         uint32_t epoch,
                                         size_t index,
                                         const uint8_t *data,
                                         size_t data_len,
                                         int64_t now,
                                         int32_t *state,
                                         int64_t *until,
                                         struct rmtls_buf *err);

// Remembers a status for the client with this certificate that another worker learnt, or that no source gave an
// answer. `state` is one of `RMTLS_REVOCATION_STATUS_*`, `until` the first second at which it must be asked
// for again.
//
// `plan` was looked up at `epoch` (`rmtls_engine_epoch`); `RMTLS_NOT_FOUND` when another policy
// is in force by now.
//
// # Safety
// `engine` is NULL or live; `client` is NULL or live.
int32_t rmtls_engine_set_revocation_status(const struct rmtls_engine *engine,
                                           const struct rmtls_certificate *client,
                                           uint32_t plan,
                                           uint32_t epoch,
                                           int32_t state,
                                           int64_t until,
                                           int64_t now);

// Writes the name under which workers share the status of the client with this certificate.
//
// `plan` was looked up at `epoch` (`rmtls_engine_epoch`); `RMTLS_NOT_FOUND` when another policy
// is in force by now.
//
// # Safety
// `engine` is NULL or live; `client` is NULL or live; `out` is NULL or
// valid, with its data.
int32_t rmtls_engine_revocation_status_key(const struct rmtls_engine *engine,
                                           const struct rmtls_certificate *client,
                                           uint32_t plan,
                                           uint32_t epoch,
                                           int64_t now,
                                           struct rmtls_buf *out);

// Writes file and issuer of local CRL number `index` of the policy in force, and its nextUpdate in
// seconds since the epoch, `INT64_MAX` without one; `RMTLS_NOT_FOUND` after the last.
//
// # Safety
// `engine` is NULL or live; `file`, `issuer` and `next_update` are NULL or valid, the former with
// their data.
int32_t rmtls_engine_local_crl(const struct rmtls_engine *engine,
                               size_t index,
                               struct rmtls_buf *file,
                               struct rmtls_buf *issuer,
                               int64_t *next_update);

// Writes a warning of a local CRL that has expired since the policy in force was compiled, of each
// once; `RMTLS_NOT_FOUND` when there is no other. `now`: seconds since the epoch.
//
// # Safety
// `engine` is NULL or live; `out` is NULL or valid, with its data.
int32_t rmtls_engine_expired_crl(const struct rmtls_engine *engine,
                                 int64_t now,
                                 struct rmtls_buf *out);

// Makes an empty map, open for `rmtls_sni_map_add`.
//
// # Safety
// `out` is NULL or valid for writing.
int32_t rmtls_sni_map_new(struct rmtls_sni_map **out);

// Frees a map.
//
// # Safety
// `map` is NULL or came from `rmtls_sni_map_new` and is not used again.
void rmtls_sni_map_free(struct rmtls_sni_map *map);

// Adds a server name: exact, `*.example.com` (one label) or `*`. `value` is the caller's.
//
// With `ask` not 0 its handshakes ask for a client certificate that one of `stores` is going to
// judge, and with `send_ca_names` not 0 they name the CAs of those stores. The stores may be
// freed afterwards.
//
// # Safety
// `map` is NULL or live and not used by anybody else; `pattern` is readable for `pattern_len`
// bytes; `stores` is readable for `stores_len` live stores; `err` is NULL or valid, with its
// data.
int32_t rmtls_sni_map_add(struct rmtls_sni_map *map,
                          const uint8_t *pattern,
                          size_t pattern_len,
                          uint32_t value,
                          int32_t ask,
                          const struct rmtls_trust_store *const *stores,
                          size_t stores_len,
                          int32_t send_ca_names,
                          struct rmtls_buf *err);

// Ends the building of a map.
//
// # Safety
// `map` is NULL or live and not used by anybody else.
int32_t rmtls_sni_map_build(struct rmtls_sni_map *map);

// Looks a raw server name up (`name` NULL: none): exact, then wildcard, then `*`.
// `RMTLS_NOT_FOUND` if nothing fits.
//
// # Safety
// `map` is NULL or live; `name` is NULL or readable for `name_len` bytes; `value` is NULL or
// valid for writing.
int32_t rmtls_sni_map_get(const struct rmtls_sni_map *map,
                          const uint8_t *name,
                          size_t name_len,
                          uint32_t *value);

// ClientHello phase: binds the session of `ssl` to what the raw server name asks for.
//
// # Safety
// `map` is NULL or live; `ssl` is NULL or a live `SSL` inside its ClientHello callback; `name` is
// NULL or readable for `name_len` bytes; `err` is NULL or valid, with its data.
int32_t rmtls_sni_map_client_hello(const struct rmtls_sni_map *map,
                                   void *ssl,
                                   const uint8_t *name,
                                   size_t name_len,
                                   struct rmtls_buf *err);

// Certificate phase: asks for a client certificate if the ClientHello phase decided so;
// `RMTLS_NOT_FOUND` if it did not.
//
// # Safety
// `ssl` is NULL or a live `SSL` inside its certificate callback; `err` is NULL or valid, with its
// data.
int32_t rmtls_sni_map_request_certificate(void *ssl, struct rmtls_buf *err);

// Whether the session of `ssl` was made under what `name` (the request's Host) asks for: `bound`
// becomes 1 or 0. A request with 0 is to be answered with 421.
//
// # Safety
// `map` is NULL or live; `ssl` is NULL or a live `SSL` after its handshake; `name` is NULL or
// readable for `name_len` bytes; `bound` is NULL or valid for writing.
int32_t rmtls_sni_map_check_binding(const struct rmtls_sni_map *map,
                                    void *ssl,
                                    const uint8_t *name,
                                    size_t name_len,
                                    int32_t *bound);

// Access phase, on a plan with `RMTLS_TRAIT_TOKEN` after `rmtls_engine_access` let the request
// pass: decides about its token. `authorization` are its `Authorization` headers, all of them;
// `came` and `trusted` as for `rmtls_engine_access_with_headers`; `latest` is 1 when the documents of the
// issuer were just fetched. On a refusal `reason` says why for the error log only, `description`
// for the client.
//
// # Safety
// `engine` is NULL or live; `ssl` is NULL or a live `SSL` after its handshake; `authorization` and
// `came` are readable for their lengths, with names and values; `out` is NULL or valid for writing;
// `description` and `reason` are NULL or valid, with their data.
int32_t rmtls_engine_check_token(const struct rmtls_engine *engine,
                                 void *ssl,
                                 uint32_t plan,
                                 const struct rmtls_request_header *authorization,
                                 size_t authorization_len,
                                 const struct rmtls_request_header *came,
                                 size_t headers_len,
                                 int32_t trusted,
                                 int32_t latest,
                                 int64_t now,
                                 struct rmtls_token_decision *out,
                                 struct rmtls_buf *description,
                                 struct rmtls_buf *reason);

// Takes the documents of the issuer of a plan: its discovery document, and its JWK Set, or NULL
// where `rmtls_token_options.needs_keys` is 0. When they are not taken, `err` says why, and those
// before stay.
//
// # Safety
// `engine` is NULL or live; `discovery` and `keys` are readable for their lengths, or `keys` is
// NULL; `err` is NULL or valid, with its data.
int32_t rmtls_engine_set_issuer_documents(const struct rmtls_engine *engine,
                                          uint32_t plan,
                                          const uint8_t *discovery,
                                          size_t discovery_len,
                                          const uint8_t *keys,
                                          size_t keys_len,
                                          struct rmtls_buf *err);

// Takes what the issuer answered about the token of a request. `RMTLS_OK` with
// `RMTLS_TOKEN_PASS`: decide again; with any other decision it is final, as from
// `rmtls_engine_check_token`. `RMTLS_INVALID` when it is no answer; then `reason` says why.
//
// # Safety
// `engine` is NULL or live; `authorization` is readable for its length, with names and values;
// `data` is readable for `data_len` bytes; `out` is NULL or valid for writing; `description` and
// `reason` are NULL or valid, with their data.
int32_t rmtls_engine_set_introspection(const struct rmtls_engine *engine,
                                       uint32_t plan,
                                       const struct rmtls_request_header *authorization,
                                       size_t authorization_len,
                                       const uint8_t *data,
                                       size_t data_len,
                                       int64_t now,
                                       struct rmtls_token_decision *out,
                                       struct rmtls_buf *description,
                                       struct rmtls_buf *reason);

// Tells how the tokens of a plan are looked at; `RMTLS_NOT_FOUND` if they are not.
//
// # Safety
// `engine` is NULL or live; `out` is NULL or valid for writing.
int32_t rmtls_engine_token_options(const struct rmtls_engine *engine,
                                   uint32_t plan,
                                   struct rmtls_token_options *out);

// Writes one of the texts `RMTLS_TOKEN_TEXT_ISSUER` to `RMTLS_TOKEN_TEXT_CONFIGURED_ENDPOINT` of a plan;
// `RMTLS_NOT_FOUND` if there is none.
//
// # Safety
// `engine` is NULL or live; `out` is NULL or valid, with its data.
int32_t rmtls_engine_token_text(const struct rmtls_engine *engine,
                                uint32_t plan,
                                uint32_t field,
                                struct rmtls_buf *out);

// Writes a JWT by which this gateway shows the issuer of a plan who it is, good for a minute;
// `RMTLS_NOT_FOUND` without a key.
//
// # Safety
// `engine` is NULL or live; `out` is NULL or valid, with its data.
int32_t rmtls_engine_client_assertion(const struct rmtls_engine *engine,
                                      uint32_t plan,
                                      int64_t now,
                                      struct rmtls_buf *out);

// Gives the header lines for the claims of a token that passed on a plan; `RMTLS_NOT_FOUND` for a
// token that is not remembered any more.
//
// # Safety
// `engine` is NULL or live; `out` is NULL or valid for writing.
int32_t rmtls_engine_claim_headers(const struct rmtls_engine *engine,
                                   uint32_t plan,
                                   uint32_t token,
                                   uint32_t generation,
                                   struct rmtls_header_lines **out);

// Reads the discovery document of an issuer: writes where its keys and its introspection are, empty
// where the document does not say. `RMTLS_INVALID` for that of another issuer and for URLs that
// leave https; then `err` says which.
//
// # Safety
// `document` and `issuer` are readable for their lengths; `jwks_uri` and `introspection` are NULL
// or valid, with their data; `err` is NULL or valid, with its data.
int32_t rmtls_discovery_read(const uint8_t *document,
                             size_t document_len,
                             const uint8_t *issuer,
                             size_t issuer_len,
                             struct rmtls_buf *jwks_uri,
                             struct rmtls_buf *introspection,
                             struct rmtls_buf *err);

// Checks a JWK Set: writes the number of keys in it that verify tokens. `RMTLS_INVALID` when there
// is none, or when it is not one; then `err` says why.
//
// # Safety
// `document` is readable for its length; `count` is NULL or valid for writing; `err` is NULL or
// valid, with its data.
int32_t rmtls_jwks_check(const uint8_t *document,
                         size_t document_len,
                         uint32_t *count,
                         struct rmtls_buf *err);

// Checks that a token which somebody else found good is bound to a certificate (RFC 8705 section
// 3): `token` is a compact JWT whose signature is not looked at, or with `is_jwt` 0 the JSON of
// its claims or of an introspection answer. With `strict` 0 a token that is bound to nothing
// passes. `certificate` NULL is no certificate. `RMTLS_INVALID` when it is not; then `err` says
// why, for the error log.
//
// # Safety
// `token` is readable for `token_len` bytes; `certificate` is NULL or live; `err` is NULL or valid,
// with its data.
int32_t rmtls_token_check(const uint8_t *token,
                          size_t token_len,
                          int32_t is_jwt,
                          const struct rmtls_certificate *certificate,
                          int32_t strict,
                          struct rmtls_buf *err);

// Builds a store from a PEM bundle of CA certificates. `allow_partial_chain` 0 or 1;
// `verify_depth` is the most intermediates allowed, `auth_level` OpenSSL's security level; -1
// for either means the default (10 and 2).
//
// # Safety
// `pem` is readable for `pem_len` bytes; `out` is NULL or valid for writing; `err` is NULL or
// valid, with its data.
int32_t rmtls_trust_store_new(const uint8_t *pem,
                              size_t pem_len,
                              int32_t allow_partial_chain,
                              int32_t verify_depth,
                              int32_t auth_level,
                              struct rmtls_trust_store **out,
                              struct rmtls_buf *err);

// Frees a store.
//
// # Safety
// `store` is NULL or came from `rmtls_trust_store_new` and is not used again.
void rmtls_trust_store_free(struct rmtls_trust_store *store);

// Verifies a certificate as a TLS client's at `now`, in seconds since the epoch. `code` becomes
// `X509_V_OK` (0) or an `X509_V_ERR_*` number, `verdict` `SUCCESS` or `FAILED:<reason>`, cut to
// fit. `RMTLS_OK` only says that there is a verdict.
//
// # Safety
// `store` and `certificate` are NULL or live; `code` is NULL or valid for writing; `verdict` is
// NULL or valid, with its data.
int32_t rmtls_trust_store_verify(const struct rmtls_trust_store *store,
                                 const struct rmtls_certificate *certificate,
                                 int64_t now,
                                 int32_t *code,
                                 struct rmtls_buf *verdict);

// Writes `SUCCESS` or `FAILED:<reason>` for an `X509_V_*` number.
//
// # Safety
// `out` is NULL or valid, with its data.
int32_t rmtls_verdict_text(int32_t code, struct rmtls_buf *out);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* RESTY_MTLS_H */
