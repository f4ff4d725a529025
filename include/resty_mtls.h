// C ABI of resty-mtls. Generated from src/ffi by `make header`; do not edit.
//
// Every function returns RMTLS_OK, a positive status that the caller must handle,
// or a negative fault. Handles belong to one thread.

#ifndef RESTY_MTLS_H
#define RESTY_MTLS_H

#include <stddef.h>
#include <stdint.h>

// Version of this ABI. It changes with every change of a signature or a struct.
#define RMTLS_ABI_VERSION 6

// Success.
#define RMTLS_OK 0

// There is nothing of that name, or no item with that index.
#define RMTLS_NOT_FOUND 1

// The buffer is too small. Its `len` is set to the bytes needed; nothing else was changed.
#define RMTLS_TOO_SMALL 2

// There is a value, but it must not be put into a header. The error buffer has the reason.
#define RMTLS_LEFT_OUT 3

// A pointer that must not be NULL is NULL.
#define RMTLS_NULL_ARGUMENT -1

// The input is not valid. The error buffer has the reason.
#define RMTLS_INVALID -2

// A bug in this library caused a panic, which was caught.
#define RMTLS_PANIC -3

// An OpenSSL operation failed unexpectedly.
#define RMTLS_OPENSSL -4

// The process runs on another OpenSSL than the one this library is linked to.
#define RMTLS_HOST -5

// A name in the arguments is none of those that exist. The error buffer has the names.
#define RMTLS_UNKNOWN_NAME -6

// The request is allowed.
#define RMTLS_DECISION_PASS 0

// 401: the route requires a certificate, and the client sent none.
#define RMTLS_DECISION_NO_CERTIFICATE 1

// 401: the certificate is not trusted.
#define RMTLS_DECISION_REFUSED 2

// 421: the TLS session was made with another certificate request than the one of this Host.
#define RMTLS_DECISION_MISDIRECTED 3

// 403: the client is authenticated, but not authorized for the route.
#define RMTLS_DECISION_FORBIDDEN 4

// Not decided yet: the revocation status is needed. Query the sources of
// `rmtls_engine_revocation_source`, pass their responses to `rmtls_engine_revocation_response`,
// then call `rmtls_engine_access` again.
#define RMTLS_DECISION_PENDING 5

// 425: the request was sent as TLS early data, which can be replayed.
#define RMTLS_DECISION_TOO_EARLY 6

// 503: this worker does not have the policy in force.
#define RMTLS_DECISION_UNAVAILABLE 7

// No identity.
#define RMTLS_IDENTITY_NONE 0

// The holder of a trusted certificate.
#define RMTLS_IDENTITY_HOLDER 1

// A consumer.
#define RMTLS_IDENTITY_CONSUMER 2

// The anonymous consumer, for clients that are not authenticated.
#define RMTLS_IDENTITY_ANONYMOUS 3

// The certificate is not forwarded with this request.
#define RMTLS_FORWARDS_NO 0

// The certificate is forwarded with this request.
#define RMTLS_FORWARDS_YES 1

// The certificate is forwarded if `rmtls_connection_is_first` returns `RMTLS_OK`.
#define RMTLS_FORWARDS_FIRST 2

// Id of a consumer.
#define RMTLS_CONSUMER_ID 1

// Username of a consumer.
#define RMTLS_CONSUMER_USERNAME 2

// `custom_id` of a consumer.
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

// There must be one element only.
#define RMTLS_XFCC_ELEMENT_ONLY 0

// The last element, from the nearest proxy.
#define RMTLS_XFCC_ELEMENT_LAST 1

// The first element, from the outermost proxy.
#define RMTLS_XFCC_ELEMENT_FIRST 2

// Set on every request of the client.
#define RMTLS_HEADER_LINE_ALWAYS 0

// Set on requests for which `rmtls_decision.forwards` is `RMTLS_FORWARDS_YES`, or
// `RMTLS_FORWARDS_FIRST` and first.
#define RMTLS_HEADER_LINE_FORWARDING 1

// Set to the value of `rmtls_engine_xfcc`.
#define RMTLS_HEADER_LINE_XFCC 2

// Never set, because it is longer than its limit. The value has the reason, here and below.
#define RMTLS_HEADER_LINE_TOO_LARGE 3

// Never set, because readers would parse another value.
#define RMTLS_HEADER_LINE_AMBIGUOUS 4

// Never set, because it has bytes that a header must not have.
#define RMTLS_HEADER_LINE_NOT_TEXT 5

// Never set, because the field of the certificate cannot be read.
#define RMTLS_HEADER_LINE_UNREADABLE 6

// A property of `rmtls_engine_cloudflare` that is true (`1`) or false (`0`).
#define RMTLS_HEADER_LINE_FLAG 7

// Verdict on a chain that was not verified.
#define RMTLS_VERDICT_NOT_VERIFIED -1

// Verdict on a valid chain for which the route finds no consumer.
#define RMTLS_VERDICT_NO_CONSUMER -2

// Most entries that `rmtls_engine_list_routes` and `rmtls_engine_list_server_names` list.
#define RMTLS_MAX_LISTED 1000

// A list was replaced by the content of its file.
#define RMTLS_LIST_IN_FORCE 0

// The file of a list cannot be read, and the list stays in force.
#define RMTLS_LIST_FAILED 1

// Handshakes started, session resumption included.
#define RMTLS_EVENT_CLIENT_HELLO 0

// Full handshakes in which a client certificate was requested.
#define RMTLS_EVENT_CERTIFICATE_REQUEST 1

// Full handshakes in which the client sent one, even if verification failed.
#define RMTLS_EVENT_CERTIFICATE_PRESENTED 2

// Connections with a full handshake and at least one decision.
#define RMTLS_EVENT_FULL_CONNECTION 3

// Connections with a resumed session and at least one decision.
#define RMTLS_EVENT_RESUMED_CONNECTION 4

// The last decision on a connection was used again.
#define RMTLS_EVENT_DECISION_HIT 5

// No earlier decision on the connection could be used.
#define RMTLS_EVENT_DECISION_MISS 6

// A client certificate was in the client cache.
#define RMTLS_EVENT_CLIENT_HIT 7

// A client certificate was not in the client cache.
#define RMTLS_EVENT_CLIENT_MISS 8

// The verdict on a chain was not cached on the connection, but in the worker.
#define RMTLS_EVENT_VERDICT_HIT 9

// The verdict on a chain was not cached: the chain was verified.
#define RMTLS_EVENT_VERDICT_MISS 10

// A revocation status was cached.
#define RMTLS_EVENT_STATUS_HIT 11

// A revocation status was not cached.
#define RMTLS_EVENT_STATUS_MISS 12

// A certificate was denied because an operator has blocked it.
#define RMTLS_EVENT_DENIED_BY_BLOCK 13

// A certificate was denied because a deny list names it.
#define RMTLS_EVENT_DENIED_BY_LIST 14

// A certificate was denied because no allow list names it.
#define RMTLS_EVENT_DENIED_UNLISTED 15

// A chain was verified whose leaf has clientAuth in its extendedKeyUsage, and no serverAuth.
#define RMTLS_EVENT_TRUSTED_FOR_CLIENTS 16

// The same with serverAuth, and no clientAuth.
#define RMTLS_EVENT_TRUSTED_FOR_SERVERS 17

// The same with both.
#define RMTLS_EVENT_TRUSTED_FOR_BOTH 18

// The same with neither.
#define RMTLS_EVENT_TRUSTED_FOR_OTHER 19

// The same without an extendedKeyUsage.
#define RMTLS_EVENT_TRUSTED_FOR_ANY 20

// A certificate was written to the certificate spool.
#define RMTLS_EVENT_SPOOL_WRITTEN 21

// A certificate was in the certificate spool already.
#define RMTLS_EVENT_SPOOL_PRESENT 22

// A certificate was not written, because the certificate spool has reached its bounds.
#define RMTLS_EVENT_SPOOL_FULL 23

// A certificate was not written, because too many waited to be written or it is too large.
#define RMTLS_EVENT_SPOOL_DROPPED 24

// A certificate could not be written to the certificate spool.
#define RMTLS_EVENT_SPOOL_FAILED 25

// Number of events.
#define RMTLS_EVENTS 26

// Responses of the route carry `Vary: Client-Cert`.
#define RMTLS_PLAN_VARY 1

// Responses of the route carry `Cache-Control: private`.
#define RMTLS_PLAN_PRIVATE 2

// The route forwards an inbound XFCC header: call `rmtls_engine_xfcc` for every request.
#define RMTLS_PLAN_XFCC 4

// The route reads the client certificate from a header: call `rmtls_engine_access_with_headers`.
#define RMTLS_PLAN_HEADER_CERTIFICATE 8

// The route requires an access token: call `rmtls_engine_check_token`.
#define RMTLS_PLAN_TOKEN 16

// With `RMTLS_PLAN_HEADER_CERTIFICATE`: without a certificate in the header, the one of the TLS
// connection is used.
#define RMTLS_PLAN_OR_TLS 32

// CORS preflights of the route are not authenticated.
#define RMTLS_PLAN_PASSES_PREFLIGHT 64

// The policy is still being compiled.
#define RMTLS_RELOAD_BUILDING 0

// The policy is in force now.
#define RMTLS_RELOAD_IN_FORCE 1

// The files have the same content as the policy in force.
#define RMTLS_RELOAD_SAME 2

// A reload that was started later is already in force.
#define RMTLS_RELOAD_SUPERSEDED 3

// The files changed while they were read: check again.
#define RMTLS_RELOAD_UNSETTLED 4

// The files have not changed.
#define RMTLS_WATCH_SAME 0

// The files have just changed and may still be changing: check again.
#define RMTLS_WATCH_UNSETTLED 1

// The files have changed.
#define RMTLS_WATCH_CHANGED 2

// An OCSP responder: POST the request to the URL.
#define RMTLS_REVOCATION_SOURCE_OCSP 1

// A CRL distribution point: GET the URL.
#define RMTLS_REVOCATION_SOURCE_CRL 2

// No source gave a valid response.
#define RMTLS_REVOCATION_STATUS_UNKNOWN 0

// The certificate is not revoked.
#define RMTLS_REVOCATION_STATUS_GOOD 1

// The certificate is revoked.
#define RMTLS_REVOCATION_STATUS_REVOKED 2

// A large CRL is being parsed on another thread: call `rmtls_engine_revocation_response` again
// with the same bytes some milliseconds later.
#define RMTLS_REVOCATION_STATUS_PARSING 3

// The sources have not responded yet, and requests that an unknown status lets in do not wait
// any longer; the others do.
#define RMTLS_REVOCATION_STATUS_PENDING 4

// The request is allowed.
#define RMTLS_TOKEN_PASS 0

// 401: the request has no token.
#define RMTLS_TOKEN_NO_TOKEN 1

// 401 with `error="invalid_token"`: the token is not valid.
#define RMTLS_TOKEN_REFUSED 2

// 403 with `error="insufficient_scope"`: the scope of the token is too small.
#define RMTLS_TOKEN_FORBIDDEN 3

// Not decided yet: pass the documents of the issuer to `rmtls_engine_set_issuer_documents`, then
// check again.
#define RMTLS_TOKEN_NEEDS_KEYS 4

// Not decided yet: introspect the token, pass the response to `rmtls_engine_set_introspection`,
// then check again.
#define RMTLS_TOKEN_NEEDS_INTROSPECTION 5

// Not decided yet: determine the revocation status of the certificate on the plan
// `rmtls_token_options.certificate_plan`, then check again.
#define RMTLS_TOKEN_PENDING 6

// The error code of a refusal is that of `RMTLS_TOKEN_*`.
#define RMTLS_CHALLENGE_TOKEN 0

// `invalid_dpop_proof` (RFC 9449 section 7.1).
#define RMTLS_CHALLENGE_DPOP_PROOF 1

// `use_dpop_nonce`, with a nonce of `rmtls_engine_dpop_nonce` (RFC 9449 section 9).
#define RMTLS_CHALLENGE_DPOP_NONCE 2

// None.
#define RMTLS_CHALLENGE_NONE 3

// The issuer identifier.
#define RMTLS_TOKEN_TEXT_ISSUER 1

// The introspection endpoint, configured or from the discovery document.
#define RMTLS_TOKEN_TEXT_INTROSPECTION_ENDPOINT 2

// The `client_id` of this gateway.
#define RMTLS_TOKEN_TEXT_CLIENT_ID 3

// The `client_secret` of this gateway.
#define RMTLS_TOKEN_TEXT_CLIENT_SECRET 4

// The message of a 401 response.
#define RMTLS_TOKEN_TEXT_UNAUTHORIZED 5

// The message of a 403 response.
#define RMTLS_TOKEN_TEXT_FORBIDDEN 6

// The introspection endpoint that the policy configures.
#define RMTLS_TOKEN_TEXT_CONFIGURED_ENDPOINT 7

// The URL of the discovery document; none where the plan does not need it.
#define RMTLS_TOKEN_TEXT_DISCOVERY_URL 8

// The issuers whose discovery document is accepted, one a line: `issuer` of `rmtls_discovery_read`.
#define RMTLS_TOKEN_TEXT_DOCUMENT_ISSUERS 9

// A digest of everything that decides where the documents of the issuer are fetched and whether
// they are accepted, in hexadecimal.
#define RMTLS_TOKEN_TEXT_DOCUMENTS_KEY 10

// The header with the token (`bearer_token_header_name`); none where it is `Authorization`.
#define RMTLS_TOKEN_TEXT_TOKEN_HEADER 11

// The URL of the keys, where it is not that of the discovery document (`jwks_endpoint`).
#define RMTLS_TOKEN_TEXT_JWKS_ENDPOINT 12

// URLs of further keys, one a line (`extra_jwks_uris`).
#define RMTLS_TOKEN_TEXT_EXTRA_JWKS_URIS 13

// The certificate of `tls_client_auth` with its intermediates, in PEM.
#define RMTLS_TOKEN_TEXT_CLIENT_CERTIFICATE 14

// Its private key, in PEM. Keep it out of logs and of memory that is shared or stored.
#define RMTLS_TOKEN_TEXT_CLIENT_KEY 15

// The gateway sends only its `client_id`.
#define RMTLS_CLIENT_AUTH_NONE 0

// `client_secret_basic`.
#define RMTLS_CLIENT_AUTH_BASIC 1

// `client_secret_post`.
#define RMTLS_CLIENT_AUTH_POST 2

// `private_key_jwt`: `rmtls_engine_client_assertion`.
#define RMTLS_CLIENT_AUTH_PRIVATE_KEY 3

// `tls_client_auth`: `RMTLS_TOKEN_TEXT_CLIENT_CERTIFICATE` and `RMTLS_TOKEN_TEXT_CLIENT_KEY`.
#define RMTLS_CLIENT_AUTH_TLS 4

// DPoP proofs are not checked.
#define RMTLS_DPOP_OFF 0

// The proof of a token that is bound to a key is checked.
#define RMTLS_DPOP_OPTIONAL 1

// Every token must be bound to a key.
#define RMTLS_DPOP_STRICT 2

// An answer that was read from the state directory.
typedef struct rmtls_answer rmtls_answer;

// A certificate; immutable.
typedef struct rmtls_certificate rmtls_certificate;

// The bytes of a CRL that is being fetched.
typedef struct rmtls_crl_body rmtls_crl_body;

// A policy engine: the policy in force in this worker, and its caches.
typedef struct rmtls_engine rmtls_engine;

// Header lines, in the order they are set.
typedef struct rmtls_header_lines rmtls_header_lines;

// A policy that is being compiled in a thread of the worker.
typedef struct rmtls_reload rmtls_reload;

// Server names and their certificate requests; immutable once built.
typedef struct rmtls_sni_map rmtls_sni_map;

// A trust store; immutable.
typedef struct rmtls_trust_store rmtls_trust_store;

// A buffer of the caller. The caller sets `data` and `cap`; the function sets `len` to the bytes
// written, or with `RMTLS_TOO_SMALL` to the bytes needed.
typedef struct rmtls_buf {
  // Memory that is writable for `cap` bytes.
  uint8_t *data;
  // Bytes available.
  size_t cap;
  // Bytes written or needed.
  size_t len;
} rmtls_buf;

// Decision of `rmtls_engine_access` about a request.
typedef struct rmtls_decision {
  // `RMTLS_DECISION_*`.
  int32_t decision;
  // Slot of an allowed client in the client cache; below a small bound, so that it can index a
  // table.
  uint32_t client;
  // Generation of the slot: it changes when the slot is reused. 0 when there is no client.
  uint32_t generation;
  // `X509_V_OK` (0), an `X509_V_ERR_*` number, or `RMTLS_VERDICT_NOT_VERIFIED`.
  int32_t verdict;
  // `RMTLS_IDENTITY_*`.
  int32_t identity;
  // Index of the consumer, for `RMTLS_IDENTITY_CONSUMER` and `RMTLS_IDENTITY_ANONYMOUS`.
  uint32_t consumer;
  // Index of the credential that matched the consumer, or `UINT32_MAX`.
  uint32_t credential;
  // Whether this request gets the `RMTLS_HEADER_LINE_FORWARDING` lines: `RMTLS_FORWARDS_*`.
  int32_t forwards;
  // Number of the connection when the client certificate is not trusted, else 0.
  uint32_t connection;
  // Id of the server certificate. Header lines are valid for one id only.
  uint32_t server_certificate;
  // 1 when the certificate, or its absence, was read from a header, else 0.
  int32_t from_header;
  // `RMTLS_DECISION_*` of the refusal if a plugin with `enforce: report` would refuse this
  // allowed request, else `RMTLS_DECISION_PASS`. `reason` then has its reason.
  int32_t would_refuse;
  // As `verdict`, of that refusal.
  int32_t would_refuse_verdict;
  // Number of what is kept for this client on this plan; below a small bound, so that the caller
  // can keep something of its own in an array.
  uint32_t record;
  // Changes when the number is used for another client, another plan or another identity, and
  // with every policy. 0 when there is no record.
  uint32_t record_generation;
  // 1 when the header lines were made for this request, else 0.
  int32_t lines_are_new;
  // 1 when `not_after` is set: once in an hour for each client and plan.
  int32_t reports_expiry;
  // notAfter of the client certificate, in seconds since 1970.
  int64_t not_after;
  // `rmtls_engine_changes` before the decision.
  uint64_t changes;
} rmtls_decision;

// Header lines, in the order in which they are set. Line number `i`, from 0, begins in `bytes` where
// the one before it ends. Its name ends at `ends[3 * i]`; its value follows after a NUL byte and
// ends at `ends[3 * i + 1]`; its name in lower case follows after a NUL byte, and after another one
// the line ends at `ends[3 * i + 2]`.
typedef struct rmtls_lines {
  // The names and values.
  const uint8_t *bytes;
  // Where they end.
  const uint32_t *ends;
  // nginx's hash of each name in lower case.
  const size_t *hashes;
  // Lines that are set on every request of the client.
  uint32_t always;
  // Lines after those that are set according to `rmtls_decision.forwards`.
  uint32_t forwarding;
  // Lines after those that are never set; their values are the reasons.
  uint32_t left_out;
  // `RMTLS_HEADER_LINE_*` of each of those.
  const int32_t *left_out_kinds;
  // 1 when the lines may be appended to the headers of a request in nginx's memory: nginx does
  // not read these names itself, they are different, and no byte needs an escape. Else 0.
  int32_t may_append;
  // What keeps the lines, for `rmtls_header_list_append`.
  const void *owner;
} rmtls_lines;

// When a block is in force.
typedef struct rmtls_block_times {
  // When it was made, in seconds since 1970.
  int64_t added;
  // First second at which it has no effect; 0 without an end.
  int64_t until;
} rmtls_block_times;

// How to fetch a CRL of the policy, and what is in use of it.
typedef struct rmtls_crl_url {
  // thisUpdate of the CRL in use, in seconds since 1970, or 0 without one.
  int64_t this_update;
  // nextUpdate of the CRL in use, or `INT64_MAX`.
  int64_t next_update;
  // Number of entries of the CRL in use.
  uint64_t entries;
  // Length of the CRL in use, in bytes.
  uint64_t bytes;
  // Seconds between two fetches, or 0: by the nextUpdate.
  uint32_t refresh;
  // Most bytes of the CRL.
  uint32_t max_bytes;
  // Timeout of one fetch in milliseconds.
  uint32_t http_timeout;
  // Whether the certificates of https servers are verified: 0 or 1.
  int32_t ssl_verify;
  // Port of the proxy for http URLs, or 0.
  uint32_t http_proxy_port;
  // Port of the proxy for https URLs, or 0.
  uint32_t https_proxy_port;
} rmtls_crl_url;

// A request header, laid out as `ngx_http_lua_ffi_table_elt_t`.
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

// One header line. Its bytes live as long as the `rmtls_header_lines`.
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

// The begin of `ngx_table_elt_t`. Since nginx 1.23 a pointer to the next header of the same name
// follows, `NULL` for the last.
typedef struct rmtls_nginx_header {
  // Hash of the name in lower case.
  size_t hash;
  // Bytes of the name.
  size_t name_len;
  // The name.
  const uint8_t *name;
  // Bytes of the value.
  size_t value_len;
  // The value.
  const uint8_t *value;
  // The name in lower case.
  const uint8_t *lower_case_name;
} rmtls_nginx_header;

// `ngx_list_part_t`.
typedef struct rmtls_nginx_list_part {
  // Memory for as many headers as the list has in each part, `header_size` bytes each.
  struct rmtls_nginx_header *headers;
  // How many of them are there.
  size_t count;
  // The part after this one, or `NULL`.
  struct rmtls_nginx_list_part *next;
} rmtls_nginx_list_part;

// `ngx_list_t`, of `ngx_table_elt_t`.
typedef struct rmtls_nginx_list {
  // The part to which headers are appended.
  struct rmtls_nginx_list_part *last;
  // The first part.
  struct rmtls_nginx_list_part part;
  // Bytes of a header.
  size_t header_size;
  // Headers in a part.
  size_t capacity;
  // The pool of the request.
  void *pool;
} rmtls_nginx_list;

// `ngx_palloc`: memory of a pool, aligned for a pointer, or `NULL`.
typedef void *(*rmtls_nginx_palloc_function)(void*, size_t);

// Which policy a worker serves.
typedef struct rmtls_worker_state {
  // Epoch of the policy that it serves.
  uint64_t epoch;
  // Time since which it has served it, in seconds since 1970.
  uint64_t since;
  // Process id.
  uint32_t process;
  // 1 when its last reload failed, else 0.
  int32_t failed;
} rmtls_worker_state;

// Which policy is in force on a node.
typedef struct rmtls_node_state {
  // Its number among all policies that have been in force; 0 before the first.
  uint64_t epoch;
  // Time since which it has been in force, in seconds since 1970.
  uint64_t since;
} rmtls_node_state;

// Status of the policy in force.
typedef struct rmtls_policy_status {
  // Number of this policy among all that have been in force on the node.
  uint64_t epoch;
  // Time since which this worker has served it, in seconds since 1970.
  uint64_t since;
  // Routes of the policy.
  uint64_t routes;
  // Server names with a certificate request, wildcards and `*` included.
  uint64_t server_names;
  // Different certificate requests among them.
  uint64_t certificate_requests;
  // Warnings of the policy.
  uint64_t warnings;
  // SHA-256 of the compiled policy.
  uint8_t digest[32];
} rmtls_policy_status;

// What is remembered about a request. The caller changes all but the first five.
typedef struct rmtls_request_state {
  // The request, in nginx's memory, or `NULL` if the state is in memory of the caller.
  const void *request;
  // The number of the caller, from `rmtls_request_state_owner`.
  uint32_t owner;
  // 1 when another caller has had a table for this request alone, else 0.
  int32_t is_lost;
  // Number of the caller's table for what it decided about, or 0.
  uint32_t record;
  // Number of the caller's table for this request alone, or 0.
  uint32_t extra;
  // The configuration of the location in which the request was decided.
  const void *location;
  // The name of the route for which it was decided.
  const uint8_t *route;
  // Bytes of the name.
  size_t route_len;
  // 1 when the request was decided, else 0: then the fields above and below have no meaning.
  int32_t is_decided;
  // 1 when it is allowed, else 0.
  int32_t is_allowed;
  // Status of the refusal, or 0.
  int32_t status;
  // 1 when the request lacks the upstream headers of the decision, which were listed, or set and
  // removed since; else 0.
  int32_t lacks_headers;
  // 1 when it is a CORS preflight that was not authenticated, else 0.
  int32_t is_preflight;
  // The last decision about the request.
  struct rmtls_decision decision;
} rmtls_request_state;

// `ngx_pool_cleanup_t`.
typedef struct rmtls_nginx_cleanup {
  // The function that is called with `data` when the pool is destroyed.
  const void *handler;
  // What `handler` is called with.
  void *data;
  // The cleanup after this one.
  struct rmtls_nginx_cleanup *next;
} rmtls_nginx_cleanup;

// How to fetch from the revocation sources of a plan.
typedef struct rmtls_fetch_options {
  // Milliseconds for the fetches from all sources together.
  uint32_t http_timeout;
  // Milliseconds for which a request waits for a first status where an unknown one lets it in.
  uint32_t status_wait;
  // Whether an unknown status refuses the request: 0 or 1.
  int32_t strict;
  // Most seconds for which a response may be cached.
  int64_t ttl;
  // Whether the certificates of https servers are verified: 0 or 1.
  int32_t ssl_verify;
  // Port of the proxy for http URLs, or 0.
  uint32_t http_proxy_port;
  // Port of the proxy for https URLs, or 0.
  uint32_t https_proxy_port;
  // Most bytes of a CRL.
  uint32_t max_crl_bytes;
} rmtls_fetch_options;

// A revocation status, and the answer of a source that it is from.
typedef struct rmtls_revocation_answer {
  // `RMTLS_REVOCATION_STATUS_GOOD`, `RMTLS_REVOCATION_STATUS_REVOKED` or
  // `RMTLS_REVOCATION_STATUS_PARSING`.
  int32_t state;
  // Whether the reason of a revocation is certificateHold: 0 or 1.
  int32_t hold;
  // The first second at which the source must be asked again.
  int64_t until;
  // thisUpdate of the answer, in seconds since 1970; negative if the status is not that of this
  // answer, because a newer one revokes the certificate.
  int64_t this_update;
  // nextUpdate of the answer, or INT64_MAX.
  int64_t next_update;
  // Number of entries of the CRL.
  uint64_t crl_entries;
  // nextUpdate of the CRL, in seconds since 1970, or `INT64_MAX`.
  int64_t crl_next_update;
} rmtls_revocation_answer;

// The age and size of a CRL.
typedef struct rmtls_crl_summary {
  // thisUpdate, in seconds since 1970.
  int64_t this_update;
  // nextUpdate, in seconds since 1970, or `INT64_MAX`.
  int64_t next_update;
  // Number of entries.
  uint64_t entries;
  // Length in bytes.
  uint64_t bytes;
} rmtls_crl_summary;

// What the DPoP proof of a request is compared with.
typedef struct rmtls_dpop_request {
  // All `DPoP` headers of the request.
  const struct rmtls_request_header *proofs;
  // Their number.
  size_t proofs_len;
  // The method.
  const uint8_t *method;
  // Bytes of the method.
  size_t method_len;
  // The URI as the client knows it.
  const uint8_t *uri;
  // Bytes of the URI.
  size_t uri_len;
  // 32 bytes: the key of nonces on this node.
  const uint8_t *nonce_key;
} rmtls_dpop_request;

// Decision of `rmtls_engine_check_token`.
typedef struct rmtls_token_decision {
  // `RMTLS_TOKEN_*`.
  int32_t decision;
  // Slot of the claims of an allowed token in the token cache; below a small bound, so that it
  // can index a table.
  uint32_t token;
  // Generation of the slot: it changes when the slot is reused. 0 when there is none.
  uint32_t generation;
  // Key of the token while it is being introspected.
  uint8_t id[32];
  // `RMTLS_CHALLENGE_*` of a refusal.
  int32_t challenge;
  // Digest of the DPoP proof of an allowed request. Refuse the request if the proof was used
  // before.
  uint8_t proof_id[32];
  // Until when its use must be remembered, in seconds since the epoch; 0 without a proof.
  int64_t proof_expires;
  // `RMTLS_IDENTITY_CONSUMER` or `RMTLS_IDENTITY_ANONYMOUS` of an allowed request, if the token
  // or its absence decides about it, else `RMTLS_IDENTITY_NONE`. For `rmtls_engine_apply_token`.
  int32_t identity;
  // Index of the consumer.
  uint32_t consumer;
} rmtls_token_decision;

// How the tokens of a plan are checked.
typedef struct rmtls_token_options {
  // Whether the keys of the issuer are needed: 0 or 1.
  int32_t needs_keys;
  // `RMTLS_CLIENT_AUTH_*`.
  int32_t client_auth;
  // Whether the token is removed from the upstream request: 0 or 1.
  int32_t hide_credentials;
  // Whether a refusal has the reason in `WWW-Authenticate`: 0 or 1.
  int32_t expose_error_code;
  // Whether the certificate of the issuer's server is verified: 0 or 1.
  int32_t ssl_verify;
  // Timeout of one fetch in milliseconds.
  uint32_t timeout;
  // Seconds after which the documents of the issuer may be fetched again.
  uint32_t rediscovery_lifetime;
  // Most seconds for which an introspection response is cached.
  uint32_t cache_ttl;
  // Plan that authenticates the certificate of a token, or `UINT32_MAX`.
  uint32_t certificate_plan;
  // Whether the certificate binding of tokens is checked (RFC 8705): 0 or 1.
  int32_t proof_of_possession;
  // `RMTLS_DPOP_*`.
  int32_t dpop;
  // Whether the certificate of the introspection endpoint's server is verified: 0 or 1. Only
  // `tls_client_auth` has a setting of its own.
  int32_t introspection_ssl_verify;
  // Whether requests without a valid token are those of an anonymous consumer: 0 or 1.
  int32_t anonymous;
} rmtls_token_options;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The version of this ABI; compare it with `RMTLS_ABI_VERSION` of the header in use.
int32_t rmtls_abi_version(void);

// Checks that the process runs on the OpenSSL this library is linked to. Call it once after
// loading, before any other function. With `RMTLS_HOST`, `err` has the reason in one line.
//
// # Safety
// `err` is NULL or valid, with `err->data` writable for `err->cap` bytes.
int32_t rmtls_host_check(struct rmtls_buf *err);

// Access phase: decides about a request. `ssl` is NULL for plain HTTP; `host` is the Host of the
// request without port; `now` is in seconds since 1970. On a refusal `reason` has the reason for
// the error log, truncated to fit. Do not send it to the client.
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

// Writes the header lines of a request that was just allowed, on a plan with `RMTLS_PLAN_TOKEN` by
// `rmtls_engine_apply_token`; `RMTLS_NOT_FOUND` if it has none. They live until the next call of
// `rmtls_engine_access`, `rmtls_engine_access_with_headers`, `rmtls_engine_apply_token`,
// `rmtls_engine_claim_headers`, `rmtls_engine_keep_with_record`, or of a function that puts a
// policy in force.
//
// # Safety
// `engine` is NULL or live; `decision` is NULL or valid; `out` is NULL or valid for writing.
int32_t rmtls_engine_lines(const struct rmtls_engine *engine,
                           const struct rmtls_decision *decision,
                           struct rmtls_lines *out);

// Writes group number `index` of the client of this decision; `RMTLS_NOT_FOUND` after the last.
//
// # Safety
// `engine` is NULL or live; `decision` is NULL or valid; `out` is NULL or valid, with its data.
int32_t rmtls_engine_group(const struct rmtls_engine *engine,
                           uint32_t plan,
                           const struct rmtls_decision *decision,
                           size_t index,
                           struct rmtls_buf *out);

// Writes a number that another policy, a block, a list or a revocation changes, and that never has
// the same value again: while it stays, a decision about a request holds.
//
// # Safety
// `engine` is NULL or live; `out` is NULL or valid for writing.
int32_t rmtls_engine_changes(const struct rmtls_engine *engine, uint64_t *out);

// Counts `bytes` that the caller keeps in its array under `rmtls_decision.record`. They have a
// bound together with what is kept here, and the caller must drop them when
// `rmtls_engine_dropped_record` returns that number.
//
// # Safety
// `engine` is NULL or live.
int32_t rmtls_engine_keep_with_record(const struct rmtls_engine *engine,
                                      uint32_t record,
                                      uint32_t record_generation,
                                      size_t bytes);

// Writes the number of a record that was dropped, each once; `RMTLS_NOT_FOUND` after the last.
//
// # Safety
// `engine` is NULL or live; `out` is NULL or valid for writing.
int32_t rmtls_engine_dropped_record(const struct rmtls_engine *engine, uint32_t *out);

// Writes one of the `RMTLS_CONSUMER_*` fields of consumer number `consumer`; `RMTLS_NOT_FOUND` if
// the field is not set.
//
// # Safety
// `engine` is NULL or live; `out` is NULL or valid, with its data.
int32_t rmtls_engine_consumer(const struct rmtls_engine *engine,
                              uint32_t consumer,
                              uint32_t field,
                              struct rmtls_buf *out);

// Returns the certificate that the client presented on `ssl`, even if verification failed;
// `RMTLS_NOT_FOUND` if it presented none.
//
// # Safety
// `engine` is NULL or live; `ssl` is NULL or a live `SSL` after its handshake; `out` is NULL or
// valid for writing.
int32_t rmtls_engine_tls_client(const struct rmtls_engine *engine,
                                void *ssl,
                                struct rmtls_certificate **out);

// Returns the certificate of an allowed client, with the part of its verified chain that the
// client sent. `client` and `generation` are those of the decision. `RMTLS_NOT_FOUND` if the
// client is no longer cached.
//
// # Safety
// `engine` is NULL or live; `out` is NULL or valid for writing.
int32_t rmtls_engine_cached_client(const struct rmtls_engine *engine,
                                   uint32_t client,
                                   uint32_t generation,
                                   struct rmtls_certificate **out);

// Writes the subject of the trust anchor of a certificate that a plan trusts, as RFC 2253 text, and
// the id of its entry of `ca_certificates`, empty for a CA of a bundle. `RMTLS_NOT_FOUND` if the
// plan does not trust it. `now` is in seconds since 1970.
//
// # Safety
// `engine` is NULL or live; `certificate` is NULL or live; `subject` and `id` are NULL or valid,
// with their data.
int32_t rmtls_engine_anchor(const struct rmtls_engine *engine,
                            const struct rmtls_certificate *certificate,
                            uint32_t plan,
                            int64_t now,
                            struct rmtls_buf *subject,
                            struct rmtls_buf *id);

// Writes the SPIFFE ID of a certificate that a plan trusts, and the name of the trust domain that
// verified it. `RMTLS_NOT_FOUND` if none did.
//
// # Safety
// `engine` is NULL or live; `certificate` is NULL or live; `id` and `trust_domain` are NULL or
// valid, with their data.
int32_t rmtls_engine_spiffe_id(const struct rmtls_engine *engine,
                               const struct rmtls_certificate *certificate,
                               uint32_t plan,
                               struct rmtls_buf *id,
                               struct rmtls_buf *trust_domain);

// Blocks the certificates of a selector (`sha256 HEX`, `spki_sha256 HEX` or `serial HEX ISSUER`)
// on all workers of this nginx, from the next request on. `added`, `until` and `now` are in seconds since
// 1970; an `until` of 0 is no end.
//
// # Safety
// `engine` is NULL or live; `selector` and `reason` are readable for their lengths; `err` is NULL
// or valid, with its data.
int32_t rmtls_engine_block(const struct rmtls_engine *engine,
                           const uint8_t *selector,
                           size_t selector_len,
                           const uint8_t *reason,
                           size_t reason_len,
                           int64_t added,
                           int64_t until,
                           int64_t now,
                           struct rmtls_buf *err);

// Removes a block; `RMTLS_NOT_FOUND` when there is none of this selector.
//
// # Safety
// `engine` is NULL or live; `selector` is readable for its length; `err` is NULL or valid, with
// its data.
int32_t rmtls_engine_unblock(const struct rmtls_engine *engine,
                             const uint8_t *selector,
                             size_t selector_len,
                             int64_t now,
                             struct rmtls_buf *err);

// Reads the first block in force in slot `*slot` or behind it, and sets `*slot` to the one behind
// that block. `RMTLS_NOT_FOUND` when there is none.
//
// # Safety
// `engine` is NULL or live; the others are NULL or valid, with their data.
int32_t rmtls_engine_next_block(const struct rmtls_engine *engine,
                                int64_t now,
                                uint32_t *slot,
                                struct rmtls_block_times *times,
                                struct rmtls_buf *selector,
                                struct rmtls_buf *reason);

// Writes the blocks to the state directory, if there is one.
//
// # Safety
// `engine` is NULL or live; `err` is NULL or valid, with its data.
int32_t rmtls_engine_save_blocks(const struct rmtls_engine *engine,
                                 int64_t now,
                                 struct rmtls_buf *err);

// Writes the URL of bundle number `index` of the policy in force. `RMTLS_NOT_FOUND` after the last.
//
// # Safety
// `engine` is NULL or live; `url` is NULL or valid, with its data.
int32_t rmtls_engine_bundle_url(const struct rmtls_engine *engine,
                                size_t index,
                                struct rmtls_buf *url);

// Checks a fetched bundle and keeps it in the state directory, where the policy reads it. With
// `RMTLS_OK`, `refresh` becomes the seconds after which it is to be fetched again.
// `RMTLS_NOT_FOUND` if the policy in force has no such URL. Otherwise `err` has the reason.
//
// # Safety
// `engine` is NULL or live; `url` and `data` are readable for `url_len` and `data_len` bytes;
// `refresh` is NULL or valid for writing; `err` is NULL or valid, with its data.
int32_t rmtls_engine_store_bundle(const struct rmtls_engine *engine,
                                  const uint8_t *url,
                                  size_t url_len,
                                  const uint8_t *data,
                                  size_t data_len,
                                  uint32_t *refresh,
                                  struct rmtls_buf *err);

// Writes the id, the subject and the notAfter of CA certificate number `index` of the policy in
// force; the id is empty for an entry without one. The notAfter is in seconds since 1970.
// `RMTLS_NOT_FOUND` after the last.
//
// # Safety
// `engine` is NULL or live; `id`, `subject` and `not_after` are NULL or valid, the former with
// their data.
int32_t rmtls_engine_ca_certificate(const struct rmtls_engine *engine,
                                    size_t index,
                                    struct rmtls_buf *id,
                                    struct rmtls_buf *subject,
                                    int64_t *not_after);

// Writes a warning about a CA certificate that has expired since the policy in force was compiled,
// or will within 30 days, once for each change; `RMTLS_NOT_FOUND` when there is no other. `now` is
// in seconds since 1970.
//
// # Safety
// `engine` is NULL or live; `out` is NULL or valid, with its data.
int32_t rmtls_engine_ending_ca(const struct rmtls_engine *engine,
                               int64_t now,
                               struct rmtls_buf *out);

// Reads PEM text, leaf first.
//
// # Safety
// `pem` is readable for `pem_len` bytes; `out` is NULL or valid for writing; `err` is NULL or
// valid, with its data.
int32_t rmtls_certificate_from_pem(const uint8_t *pem,
                                   size_t pem_len,
                                   struct rmtls_certificate **out,
                                   struct rmtls_buf *err);

// Returns the certificate that the client presented on `ssl`, also on a resumed session;
// `RMTLS_NOT_FOUND` if it presented none.
//
// # Safety
// `ssl` is NULL or a live `SSL` after its handshake; `out` is NULL or valid for writing.
int32_t rmtls_certificate_from_ssl(void *ssl, struct rmtls_certificate **out);

// Frees a certificate.
//
// # Safety
// `certificate` is NULL or from this library, and is not used again.
void rmtls_certificate_free(struct rmtls_certificate *certificate);

// Writes one of the `RMTLS_FIELD_*` of a certificate.
//
// # Safety
// `certificate` is NULL or live; `out` is NULL or valid, with its data.
int32_t rmtls_certificate_get(const struct rmtls_certificate *certificate,
                              uint32_t field,
                              struct rmtls_buf *out);

// Writes notBefore and notAfter, in seconds since 1970.
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

// Writes certificates whose chain a worker has verified for the first time, with at most 16 KB of what
// the client sent with them, to the directory at `path` as `SHA256.pem`: at most `max_certificates`
// files that have at most `max_bytes` bytes together. Call it before workers are forked. It fails when
// the directory does not exist or other users may use it.
//
// # Safety
// `engine` is NULL or live; `path` is readable for `path_len` bytes; `err` is NULL or valid, with its
// data.
int32_t rmtls_engine_set_certificate_spool(const struct rmtls_engine *engine,
                                           const uint8_t *path,
                                           size_t path_len,
                                           uint64_t max_certificates,
                                           uint64_t max_bytes,
                                           struct rmtls_buf *err);

// Writes the number of certificates in that directory, and their bytes together, as this worker found
// them when it last wrote one; `RMTLS_NOT_FOUND` without a directory.
//
// # Safety
// `engine` is NULL or live; `certificates` and `bytes` are NULL or valid for writing.
int32_t rmtls_engine_certificate_spool_usage(const struct rmtls_engine *engine,
                                             uint64_t *certificates,
                                             uint64_t *bytes);

// Counts what has happened to certificates as `RMTLS_EVENT_SPOOL_*`, and writes a warning about that
// directory, once for each reason; `RMTLS_NOT_FOUND` when there is no other.
//
// # Safety
// `engine` is NULL or live; `out` is NULL or valid, with its data.
int32_t rmtls_engine_certificate_spool_warning(const struct rmtls_engine *engine,
                                               struct rmtls_buf *out);

// Writes URL and key of CRL number `index` of those that the policy in force fetches, and how.
// The key is 64 hexadecimal digits of a digest of everything that it depends on. `RMTLS_NOT_FOUND`
// after the last.
//
// # Safety
// `engine` is NULL or live; `out` is NULL or valid for writing; `url` and `key` are NULL or valid,
// with their data.
int32_t rmtls_engine_crl_url(const struct rmtls_engine *engine,
                             size_t index,
                             struct rmtls_crl_url *out,
                             struct rmtls_buf *url,
                             struct rmtls_buf *key);

// Writes the hosts of the proxies for CRL number `index`, empty when none is configured.
//
// # Safety
// `engine` is NULL or live; `http_proxy` and `https_proxy` are NULL or valid, with their data.
int32_t rmtls_engine_crl_url_proxies(const struct rmtls_engine *engine,
                                     size_t index,
                                     struct rmtls_buf *http_proxy,
                                     struct rmtls_buf *https_proxy);

// Makes an empty body of at most `max` bytes.
//
// # Safety
// `out` is NULL or valid for writing. Free it with `rmtls_crl_body_free`.
int32_t rmtls_crl_body_new(size_t max, struct rmtls_crl_body **out);

// Appends bytes. `RMTLS_INVALID` when the body would be over its limit.
//
// # Safety
// `body` is NULL or live; `data` is readable for `data_len` bytes.
int32_t rmtls_crl_body_append(const struct rmtls_crl_body *body,
                              const uint8_t *data,
                              size_t data_len);

// Frees a body.
//
// # Safety
// `body` is NULL or from this library, and is not used again.
void rmtls_crl_body_free(struct rmtls_crl_body *body);

// Loads CRL number `index` of the policy with this `rmtls_engine_epoch` and puts it in use on this
// worker: from `body`, which is empty afterwards and is written to the file `path` if the CRL is
// good and the path is not empty; without a body from the file. With neither, it asks how far the
// load is that began before. `is_loaded` becomes 0 while it goes on, on a thread beside the event
// loop; with `wait` it ends before the function returns. `RMTLS_OK` with a text in `err`: the CRL
// is in use and was not written to the file. `RMTLS_NOT_FOUND`: another policy is in force, or no
// load has begun.
//
// # Safety
// `engine` is NULL or live; `body` is NULL or live; `path` is readable for `path_len` bytes;
// `is_loaded` is NULL or valid for writing; `err` is NULL or valid, with its data.
int32_t rmtls_engine_load_crl_url(const struct rmtls_engine *engine,
                                  uint32_t epoch,
                                  size_t index,
                                  const struct rmtls_crl_body *body,
                                  const uint8_t *path,
                                  size_t path_len,
                                  int32_t wait,
                                  int32_t *is_loaded,
                                  struct rmtls_buf *err);

// Makes an engine without a policy.
//
// # Safety
// `out` is NULL or valid for writing.
int32_t rmtls_engine_new(struct rmtls_engine **out);

// Frees a handle. The engine itself stays alive while it is the current one of the thread.
//
// # Safety
// `engine` is NULL or from `rmtls_engine_new` or `rmtls_engine_current` and is not used
// again.
void rmtls_engine_free(struct rmtls_engine *engine);

// Makes this engine the current one of the thread.
//
// # Safety
// `engine` is NULL or live.
int32_t rmtls_engine_install(const struct rmtls_engine *engine);

// Returns a new handle of the current engine of the thread; `RMTLS_NOT_FOUND` if there is none.
//
// # Safety
// `out` is NULL or valid for writing.
int32_t rmtls_engine_current(struct rmtls_engine **out);

// Returns `RMTLS_OK` if this engine is the current one of the thread, else `RMTLS_NOT_FOUND`.
//
// # Safety
// `engine` is NULL or live.
int32_t rmtls_engine_is_current(const struct rmtls_engine *engine);

// Returns the number of policies that have been in force on this thread, or 0 for NULL. Plan
// numbers are valid until it changes.
//
// # Safety
// `engine` is NULL or live.
uint32_t rmtls_engine_epoch(const struct rmtls_engine *engine);

// Writes the normal form of a selector (`sha256 HEX`, `spki_sha256 HEX` or `serial HEX ISSUER`): its kind, a
// space, and 64 hexadecimal digits. It is equal for selectors of the same certificates.
//
// # Safety
// `selector` is readable for its length; `out` and `err` are NULL or valid, with their data.
int32_t rmtls_selector_normal_form(const uint8_t *selector,
                                   size_t selector_len,
                                   struct rmtls_buf *out,
                                   struct rmtls_buf *err);

// Writes the 64 hexadecimal digits of the HMAC-SHA-256 of `data` under `key`, which is not empty.
//
// # Safety
// `key` and `data` are readable for their lengths; `out` and `err` are NULL or valid, with their data.
int32_t rmtls_hmac_sha256(const uint8_t *key,
                          size_t key_len,
                          const uint8_t *data,
                          size_t data_len,
                          struct rmtls_buf *out,
                          struct rmtls_buf *err);

// Decodes `data`, which is gzip of at most `max` decoded bytes. `RMTLS_INVALID` for anything
// else; then `err` has the reason.
//
// # Safety
// `data` is readable for `data_len` bytes; `out` and `err` are NULL or valid, with their data.
int32_t rmtls_gzip_decode(const uint8_t *data,
                          size_t data_len,
                          size_t max,
                          struct rmtls_buf *out,
                          struct rmtls_buf *err);

// ClientHello phase: binds the TLS session of `ssl` to the certificate request of this server
// name. `name` is the raw SNI, or NULL when the client sent none.
//
// # Safety
// `engine` is NULL or live; `ssl` is NULL or a live `SSL` inside its ClientHello callback; `name`
// is NULL or readable for `name_len` bytes; `err` is NULL or valid, with its data.
int32_t rmtls_engine_client_hello(const struct rmtls_engine *engine,
                                  void *ssl,
                                  const uint8_t *name,
                                  size_t name_len,
                                  struct rmtls_buf *err);

// From now on, TLS 1.3 sessions with a client certificate are kept in the session cache of the
// server instead of tickets, where it has a shared one and they fit into it; with `yes` = 0 they
// are not.
//
// # Safety
// `engine` is NULL or live.
int32_t rmtls_engine_use_session_cache(const struct rmtls_engine *engine, int32_t yes);

// Certificate phase: requests a client certificate if the ClientHello phase decided so, else
// returns `RMTLS_NOT_FOUND`.
//
// # Safety
// `engine` is NULL or live; `ssl` is NULL or a live `SSL` inside its certificate callback; `err`
// is NULL or valid, with its data.
int32_t rmtls_engine_request_certificate(const struct rmtls_engine *engine,
                                         void *ssl,
                                         struct rmtls_buf *err);

// Whether the policy in force has another certificate request for the server name of `ssl` than
// the one under which the client connected: `outdated` becomes 1 or 0. With 1, a new handshake may
// change a refusal, so the connection should end with it.
//
// # Safety
// `engine` is NULL or live; `ssl` is NULL or a live `SSL` after its handshake; `outdated` is NULL
// or valid for writing.
int32_t rmtls_engine_is_outdated(const struct rmtls_engine *engine, void *ssl, int32_t *outdated);

// From now on `rmtls_connection_is_open` tells whether the connection of `ssl` is open: `number`
// becomes its number. `RMTLS_NOT_FOUND` when it was called for this connection before.
//
// # Safety
// `ssl` is NULL or a live `SSL`; `number` is NULL or valid for writing.
int32_t rmtls_connection_watch(void *ssl, uint32_t *number);

// `RMTLS_OK` if the connection with this number of `rmtls_connection_watch` is open, else
// `RMTLS_NOT_FOUND`. To be called in the same thread.
int32_t rmtls_connection_is_open(uint32_t number);

// As `rmtls_engine_access`, for a plan with `RMTLS_PLAN_HEADER_CERTIFICATE`. `headers` are the
// request headers that the route may read. `trusted` is 1 when the peer of the TCP connection is
// in `trusted_ips`.
//
// # Safety
// As `rmtls_engine_access`; `headers` is readable for `headers_len` elements whose names and
// values are readable.
int32_t rmtls_engine_access_with_headers(const struct rmtls_engine *engine,
                                         void *ssl,
                                         uint32_t plan,
                                         const uint8_t *host,
                                         size_t host_len,
                                         const struct rmtls_request_header *headers,
                                         size_t headers_len,
                                         int32_t trusted,
                                         int64_t now,
                                         struct rmtls_decision *out,
                                         struct rmtls_buf *reason);

// Returns the certificate that a request presents on a plan, even if verification failed: from
// the header that the plan reads, else from the TLS connection. With `or_tls` 1 the connection is
// also used when the header is missing. `RMTLS_NOT_FOUND` if there is none.
//
// # Safety
// `engine` is NULL or live; `ssl` is NULL or a live `SSL` after its handshake; `headers` is
// readable for `headers_len` elements whose names and values are readable; `out` is NULL or valid
// for writing.
int32_t rmtls_engine_unverified_certificate(const struct rmtls_engine *engine,
                                            void *ssl,
                                            uint32_t plan,
                                            const struct rmtls_request_header *headers,
                                            size_t headers_len,
                                            int32_t trusted,
                                            int32_t or_tls,
                                            struct rmtls_certificate **out);

// Reads a certificate from the header of a proxy. `lines` are the values of the header, `chain`
// those of its chain header if the format has one; the names are ignored. `format` is one of
// `base64_encoded`, `url_encoded`, `rfc9440`, `xfcc`, `traefik`, `aws_alb`, `auto`, and
// `RMTLS_UNKNOWN_NAME` is returned for any other. `xfcc_element` is one of
// `RMTLS_XFCC_ELEMENT_*`, for the format `xfcc`. `RMTLS_NOT_FOUND` when the header states that
// there is no certificate.
//
// # Safety
// `format` is readable for its length; `lines` and `chain` are readable for their lengths, with
// names and values; `out` is NULL or valid for writing; `err` is NULL or valid, with its data.
int32_t rmtls_certificate_from_header(const uint8_t *format,
                                      size_t format_len,
                                      int32_t xfcc_element,
                                      const struct rmtls_request_header *lines,
                                      size_t lines_len,
                                      const struct rmtls_request_header *chain,
                                      size_t chain_len,
                                      struct rmtls_certificate **out,
                                      struct rmtls_buf *err);

// Returns the header lines of a dialect for a certificate. `verdict` is `X509_V_OK` (0), an
// `X509_V_ERR_*` number, or one of `RMTLS_VERDICT_*`; the lines describe the certificate even if
// verification failed. `RMTLS_INVALID` for an unknown dialect; then `err` lists the known ones.
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

// Returns the 21 properties of Cloudflare's `tlsClientAuth` as names and values, for `client`, or
// with NULL for the client of `ssl`; `RMTLS_NOT_FOUND` if it presented no certificate. `verdict`
// is that of `rmtls_decision` for this plan, or `RMTLS_VERDICT_NO_CONSUMER`.
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

// Writes line number `index`; `RMTLS_NOT_FOUND` after the last.
//
// # Safety
// `lines` is NULL or live; `out` is NULL or valid for writing, and what it shows is not read after
// `lines` is freed.
int32_t rmtls_header_lines_get(const struct rmtls_header_lines *lines,
                               size_t index,
                               struct rmtls_header_line *out);

// Writes the first second at which the lines must be made again; 0 when they are valid for one
// request only.
//
// # Safety
// `lines` is NULL or live; `until` is NULL or valid for writing.
int32_t rmtls_header_lines_until(const struct rmtls_header_lines *lines, int64_t *until);

// Frees lines.
//
// # Safety
// `lines` is NULL or from a function above, and is not used again.
void rmtls_header_lines_free(struct rmtls_header_lines *lines);

// Writes the value that a dialect has for this key, for `client`, or with NULL for the client of
// `ssl`, even if verification failed. The value is empty when the dialect sets none. `verdict` is
// that of `rmtls_decision` for this plan, or `RMTLS_VERDICT_NO_CONSUMER`. `RMTLS_NOT_FOUND` for
// an unknown key or without a certificate, `RMTLS_INVALID` for an unknown dialect,
// `RMTLS_LEFT_OUT` for a value that must not be put into a header; then `err` has the reason.
//
// # Safety
// `engine` is NULL or live; `ssl` is NULL or a live `SSL` after its handshake; `client` is NULL
// or live; `dialect` and `key` are readable for their lengths; `out` and `err` are NULL or valid,
// with their data.
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

// Returns `RMTLS_OK` for the first request of a connection with which this function is called,
// else `RMTLS_NOT_FOUND`. `request` is the number of the request on its connection, from 1.
//
// # Safety
// `ssl` is NULL or a live `SSL` after its handshake.
int32_t rmtls_connection_is_first(void *ssl, uint64_t request);

// Writes name and value of the XFCC header for a request on a route with `RMTLS_PLAN_XFCC`.
// `headers` are request headers, of which only XFCC headers are read. Call it before the lines of
// the decision end to live. `RMTLS_NOT_FOUND` when the header is not to be set. `kind` becomes `RMTLS_HEADER_LINE_ALWAYS`, or the kind that has the reason why
// it must not be set.
//
// # Safety
// `engine` is NULL or live; `decision` is NULL or valid; `headers` is readable for `headers_len`
// elements whose names and values are readable; `kind` is NULL or valid for writing; `name` and `value` are NULL or valid, with their data.
int32_t rmtls_engine_xfcc(const struct rmtls_engine *engine,
                          uint32_t plan,
                          const struct rmtls_decision *decision,
                          const struct rmtls_request_header *headers,
                          size_t headers_len,
                          int32_t *kind,
                          struct rmtls_buf *name,
                          struct rmtls_buf *value);

// Appends the first `count` of these lines, whose `may_append` is 1, to the headers of `request`,
// which has none of their names, and a state of `rmtls_request_state_begin`. The headers point to
// the lines, which are kept as long as the state; `palloc` gets memory for another part of the list
// where the last one has no room. On an error nothing is changed: `RMTLS_INVALID` if there is no
// state, no room or no memory.
//
// # Safety
// `list` is NULL or the list of `request`, which is live, with its last part; `lines` is NULL or
// valid, with at least `count` lines; `palloc` is NULL or nginx's function. What reads the headers
// does not write into them.
int32_t rmtls_header_list_append(struct rmtls_nginx_list *list,
                                 const struct rmtls_lines *lines,
                                 uint32_t count,
                                 rmtls_nginx_palloc_function palloc,
                                 const void *request);

// Writes routes of the policy in force, with their plugins, as a JSON object: `total`, `matching`,
// `from`, `items` (`name`, or the id; `plugins`; `report_only`, those of them with `enforce:
// report`), `without_route` and `without_route_report_only`. `from` of those whose names contain
// the text `filter` are left out, and at most `limit` are listed.
//
// # Safety
// `engine` is NULL or live; `filter` is readable for `filter_len` bytes; `out` is NULL or valid,
// with its data.
int32_t rmtls_engine_list_routes(const struct rmtls_engine *engine,
                                 size_t from,
                                 size_t limit,
                                 const uint8_t *filter,
                                 size_t filter_len,
                                 struct rmtls_buf *out);

// As `rmtls_engine_list_routes`, with the server names under which a client certificate is
// requested. `items` have `name`, `ca_names`, `ca_names_bytes`, `ca_names_sent` and `resumption`.
//
// # Safety
// As `rmtls_engine_list_routes`.
int32_t rmtls_engine_list_server_names(const struct rmtls_engine *engine,
                                       size_t from,
                                       size_t limit,
                                       const uint8_t *filter,
                                       size_t filter_len,
                                       struct rmtls_buf *out);

// Starts to read the lists whose files have changed, on a thread beside the worker. Call it from
// time to time, and `rmtls_engine_list_event` afterwards.
//
// # Safety
// `engine` is NULL or live; `err` is NULL or valid, with its data.
int32_t rmtls_engine_watch_lists(const struct rmtls_engine *engine, struct rmtls_buf *err);

// Returns `RMTLS_OK` while a list is being read without which this worker refuses requests, else
// `RMTLS_NOT_FOUND`.
//
// # Safety
// `engine` is NULL or live.
int32_t rmtls_engine_is_awaiting_lists(const struct rmtls_engine *engine);

// Writes what happened to a list (`RMTLS_LIST_*`) and its text for the log. `RMTLS_NOT_FOUND` when
// nothing has happened since.
//
// # Safety
// `engine` is NULL or live; `kind` is NULL or valid for writing; `text` is NULL or valid, with its
// data.
int32_t rmtls_engine_list_event(const struct rmtls_engine *engine,
                                int32_t *kind,
                                struct rmtls_buf *text);

// Writes a warning about entries of lists that have ended, or will within a day, since the policy in
// force was compiled or the list was read, once for each change; `RMTLS_NOT_FOUND` when there is no
// other. `now` is in seconds since 1970.
//
// # Safety
// `engine` is NULL or live; `out` is NULL or valid, with its data.
int32_t rmtls_engine_ending_list(const struct rmtls_engine *engine,
                                 int64_t now,
                                 struct rmtls_buf *out);

// Writes the name of list number `index`, why its file cannot be read as it is now, or no text if it
// can, its number of entries, and when the file was modified that it was read from, in seconds since
// 1970, or 0 if that is not known. `RMTLS_NOT_FOUND` behind the last list.
//
// # Safety
// `engine` is NULL or live; the others are NULL or valid, with their data.
int32_t rmtls_engine_list_state(const struct rmtls_engine *engine,
                                uint32_t index,
                                struct rmtls_buf *name,
                                struct rmtls_buf *error,
                                uint64_t *entries,
                                int64_t *modified);

// Writes how often each `RMTLS_EVENT_*` occurred on this thread since the last call. The constant
// is the index in `out`.
//
// # Safety
// `out` is NULL or writable for `RMTLS_EVENTS` elements.
int32_t rmtls_metrics_read_and_reset(uint64_t *out);

// Makes the engine share the node state of this process. Call it before the policy is loaded and
// before workers are forked. An nginx that was started for an upgrade (USR2) shares the node
// state of the old one. Without shared memory it fails, and each worker is on its own.
//
// # Safety
// `engine` is NULL or live; `err` is NULL or valid, with its data.
int32_t rmtls_engine_join_node(const struct rmtls_engine *engine, struct rmtls_buf *err);

// Saves the documents in force in the directory at `path`, for the next start. `source`
// identifies the policy there. It fails when the directory does not exist or other users may read
// it.
//
// # Safety
// `engine` is NULL or live; `path` and `source` are readable for their lengths; `err` is NULL or
// valid, with its data.
int32_t rmtls_engine_set_state_directory(const struct rmtls_engine *engine,
                                         const uint8_t *path,
                                         size_t path_len,
                                         const uint8_t *source,
                                         size_t source_len,
                                         struct rmtls_buf *err);

// Loads the documents that were last in force from the state directory. `RMTLS_NOT_FOUND` when
// there are none.
//
// # Safety
// `engine` is NULL or live; `err` is NULL or valid, with its data.
int32_t rmtls_engine_load_last_good(const struct rmtls_engine *engine, struct rmtls_buf *err);

// Returns `RMTLS_OK` when the node has another policy in force than this worker, else
// `RMTLS_NOT_FOUND`.
//
// # Safety
// `engine` is NULL or live.
int32_t rmtls_engine_is_behind(const struct rmtls_engine *engine);

// Marks this worker as unable to get the policy in force. Until it has it, `rmtls_engine_access`
// decides `RMTLS_DECISION_UNAVAILABLE`.
//
// # Safety
// `engine` is NULL or live.
int32_t rmtls_engine_set_unavailable(const struct rmtls_engine *engine);

// Records in the node state which policy worker number `worker` serves.
//
// # Safety
// `engine` is NULL or live.
int32_t rmtls_engine_report_worker(const struct rmtls_engine *engine, uint32_t worker);

// Writes the recorded state of a worker; `RMTLS_NOT_FOUND` when it recorded none or has ended.
//
// # Safety
// `engine` is NULL or live; `out` is NULL or valid for writing.
int32_t rmtls_engine_worker_state(const struct rmtls_engine *engine,
                                  uint32_t worker,
                                  struct rmtls_worker_state *out);

// Writes the state of the node; `RMTLS_NOT_FOUND` for an engine without a node.
//
// # Safety
// `engine` is NULL or live; `out` is NULL or valid for writing.
int32_t rmtls_engine_node_state(const struct rmtls_engine *engine, struct rmtls_node_state *out);

// Compiles a policy document (YAML or JSON text) and puts it in force. On failure the previous
// policy stays in force, and `err` has one line for each error. `label` is used in the errors in
// place of a file name.
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

// Writes the warning for a caller that trusts no peer to send certificates in headers, while the
// policy in force reads such headers; `RMTLS_NOT_FOUND` if it reads none.
//
// # Safety
// `engine` is NULL or live; `out` is NULL or valid, with `out->data` writable for `out->cap`
// bytes.
int32_t rmtls_engine_untrusted_source_warning(const struct rmtls_engine *engine,
                                              struct rmtls_buf *out);

// Writes the status of the policy in force.
//
// # Safety
// `engine` is NULL or live; `out` is NULL or valid for writing.
int32_t rmtls_engine_policy_status(const struct rmtls_engine *engine,
                                   struct rmtls_policy_status *out);

// Finds the plan of a route. `name` NULL stands for requests without a route of their own, to
// which only global plugins apply. Plan numbers are valid until the next load.
//
// # Safety
// `engine` is NULL or live; `name` is NULL or readable for `name_len` bytes; `out` is NULL or
// valid for writing.
int32_t rmtls_engine_plan(const struct rmtls_engine *engine,
                          const uint8_t *name,
                          size_t name_len,
                          uint32_t *out);

// Writes the sum of the `RMTLS_PLAN_*` of a plan.
//
// # Safety
// `engine` is NULL or live; `out` is NULL or valid for writing.
int32_t rmtls_engine_plan_flags(const struct rmtls_engine *engine, uint32_t plan, uint32_t *out);

// Writes the error text for a route name that `rmtls_engine_plan` did not find, with a similar
// name if there is one. `now` is in seconds since 1970; it limits how many names are compared in
// a second.
//
// # Safety
// `engine` is NULL or live; `name` is readable for `name_len` bytes; `out` is NULL or valid, with
// its data.
int32_t rmtls_engine_unknown_route(const struct rmtls_engine *engine,
                                   const uint8_t *name,
                                   size_t name_len,
                                   int64_t now,
                                   struct rmtls_buf *out);

// Writes the name of route number `index`, or its id if it has no name. The text is empty for a
// route with the same plan as requests without a route. `RMTLS_NOT_FOUND` after the last.
//
// # Safety
// `engine` is NULL or live; `out` is NULL or valid, with its data.
int32_t rmtls_engine_route(const struct rmtls_engine *engine, size_t index, struct rmtls_buf *out);

// Checks which files of the policy the workers of a user cannot read, and whether they cannot
// write to the state directory. Writes line number `index` about these; `RMTLS_NOT_FOUND` after
// the last, and when there is no such user or group. `group` NULL stands for the group with the
// name of the user. Call it before threads are started.
//
// # Safety
// `engine` is NULL or live; `user` is readable for `user_len` bytes; `group` is NULL or readable
// for `group_len` bytes; `out` is NULL or valid, with its data. No other thread looks up users or
// groups.
int32_t rmtls_engine_missing_permission(const struct rmtls_engine *engine,
                                        const uint8_t *user,
                                        size_t user_len,
                                        const uint8_t *group,
                                        size_t group_len,
                                        size_t index,
                                        struct rmtls_buf *out);

// Starts to compile a policy document (YAML or JSON text) in a thread of this process, which
// blocks all signals. `label` is used in the errors in place of a file name. Call it after the
// last `fork`.
//
// # Safety
// `engine` is NULL or live; `document` and `label` are readable for their lengths; `out` is NULL
// or valid for writing; `err` is NULL or valid, with its data.
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

// As `rmtls_reload_new`, from the source of the policy in force, and only if its files have
// changed. `RMTLS_NOT_FOUND` when the source is not a file.
//
// # Safety
// As `rmtls_reload_new`.
int32_t rmtls_reload_new_changed(const struct rmtls_engine *engine,
                                 struct rmtls_reload **out,
                                 struct rmtls_buf *err);

// As `rmtls_reload_new`, from the documents that are in force on the node, whatever the content
// of the files.
//
// # Safety
// As `rmtls_reload_new`.
int32_t rmtls_reload_new_from_node(const struct rmtls_engine *engine,
                                   struct rmtls_reload **out,
                                   struct rmtls_buf *err);

// Puts the policy in force once it is compiled. Waits for it up to `wait_ms` milliseconds; 0 does
// not wait. `state` becomes one of `RMTLS_RELOAD_*`; with `RMTLS_RELOAD_IN_FORCE`, `message`
// describes the changes for the log. On failure `message` has one line for each error, truncated
// to fit, and the previous policy stays in force. Each outcome is returned once.
//
// # Safety
// `reload` is NULL or live; `state` is NULL or valid for writing; `message` is NULL or valid, with
// its data.
int32_t rmtls_reload_poll(const struct rmtls_reload *reload,
                          uint32_t wait_ms,
                          int32_t *state,
                          struct rmtls_buf *message);

// Frees a reload, and cancels one that is in progress.
//
// # Safety
// `reload` is NULL or came from `rmtls_reload_new` or a sibling and is not used again.
void rmtls_reload_free(struct rmtls_reload *reload);

// Writes the errors of the last load or reload, one line for each, truncated to fit;
// `RMTLS_NOT_FOUND` when it succeeded.
//
// # Safety
// `engine` is NULL or live; `out` is NULL or valid, with its data.
int32_t rmtls_engine_last_error(const struct rmtls_engine *engine, struct rmtls_buf *out);

// Sets the interval at which the files of the policy are checked for changes; 0 milliseconds
// disables it.
//
// # Safety
// `engine` is NULL or live.
int32_t rmtls_engine_watch(const struct rmtls_engine *engine, uint32_t every_ms);

// Makes the caller the only watcher in this process. It checks every `every_ms` milliseconds,
// with `token`; with 0 it checks only the node. `RMTLS_NOT_FOUND` when there is a watcher
// already.
//
// # Safety
// `engine` is NULL or live; `every_ms` and `token` are NULL or valid for writing.
int32_t rmtls_engine_watch_start(const struct rmtls_engine *engine,
                                 uint32_t *every_ms,
                                 uint32_t *token);

// Checks the files of the policy for changes: `change` becomes one of `RMTLS_WATCH_*`.
// `RMTLS_NOT_FOUND` when the caller may stop, because there is another watcher or another current
// engine.
//
// # Safety
// `engine` is NULL or live; `change` is NULL or valid for writing.
int32_t rmtls_engine_watch_check(const struct rmtls_engine *engine,
                                 uint32_t token,
                                 int32_t *change);

// Keeps header lines that were set on a request until nginx frees it, for
// `rmtls_request_state_line_name`. `RMTLS_INVALID` if the request has no state.
//
// # Safety
// `lines` is NULL or valid lines of `rmtls_engine_lines` or `rmtls_engine_claim_headers`.
int32_t rmtls_request_state_keep_lines(const void *request, const struct rmtls_lines *lines);

// Writes the name of line number `index` of all that are kept for a request: those that were set
// on it, or may have been. `RMTLS_NOT_FOUND` after the last.
//
// # Safety
// `out` is NULL or valid, with its data.
int32_t rmtls_request_state_line_name(const void *request, size_t index, struct rmtls_buf *out);

// Writes a number for a caller that no other has, such as each Lua VM of a worker.
//
// # Safety
// `out` is NULL or valid for writing.
int32_t rmtls_request_state_owner(uint32_t *out);

// Writes the state of a live request, which lives as long as the request; `RMTLS_NOT_FOUND` if it
// has none.
//
// # Safety
// `out` is NULL or valid for writing.
int32_t rmtls_request_state_find(const void *request, struct rmtls_request_state **out);

// Begins the state of a request in the memory of a cleanup that was just added to its pool, and
// ends it when nginx runs the cleanup. `RMTLS_INVALID` if the request has a state.
//
// # Safety
// `cleanup` is NULL or a new cleanup of the pool of `request`, with memory for an
// `rmtls_request_state`; `out` is NULL or valid for writing. The request lives as long as the pool.
int32_t rmtls_request_state_begin(const void *request,
                                  uint32_t owner,
                                  struct rmtls_nginx_cleanup *cleanup,
                                  struct rmtls_request_state **out);

// Ends a state: of a request whose memory nginx frees, or one in memory of the caller.
//
// # Safety
// `state` is NULL or a valid `rmtls_request_state`.
void rmtls_request_state_end(void *state);

// Makes a state that of another caller, which has none of the tables of the one before.
//
// # Safety
// `state` is NULL or a valid `rmtls_request_state`.
int32_t rmtls_request_state_take_over(struct rmtls_request_state *state, uint32_t owner);

// Sets `record` of a state.
//
// # Safety
// `state` is NULL or a valid `rmtls_request_state`.
int32_t rmtls_request_state_set_record(struct rmtls_request_state *state, uint32_t table);

// Sets `extra` of a state to the number of a new table, which is kept as long as the state.
//
// # Safety
// `state` is NULL or a valid `rmtls_request_state`.
int32_t rmtls_request_state_new_extra(struct rmtls_request_state *state);

// Writes the number of a new table of the caller, which keeps it until the number is one of
// `rmtls_request_state_released_table`.
//
// # Safety
// `out` is NULL or valid for writing.
int32_t rmtls_request_state_new_table(uint32_t *out);

// Says that no other state will get this table: it is released when no state has it.
int32_t rmtls_request_state_retire_table(uint32_t table);

// Writes the number of a table that the caller must drop before it asks for a new one, each once;
// `RMTLS_NOT_FOUND` after the last.
//
// # Safety
// `out` is NULL or valid for writing.
int32_t rmtls_request_state_released_table(uint32_t *out);

// Writes how many states have a table of the caller, those with two counted twice.
//
// # Safety
// `out` is NULL or valid for writing.
int32_t rmtls_request_state_uses(uint64_t *out);

// Finds the request headers that only the gateway may set, and `Connection` headers that would
// make an upstream drop one of them. Writes at most `found_cap` of their indexes to `found`, and
// their number to `found_len`.
//
// # Safety
// `engine` is NULL or live; `headers` is readable for `headers_len` elements whose names and
// values are readable; `found` is writable for `found_cap` elements; `found_len` is NULL or valid
// for writing.
int32_t rmtls_engine_reserved_headers(const struct rmtls_engine *engine,
                                      const struct rmtls_request_header *headers,
                                      size_t headers_len,
                                      uint32_t *found,
                                      size_t found_cap,
                                      size_t *found_len);

// Writes the name of request header number `index` that a route reads before it is removed;
// `RMTLS_NOT_FOUND` after the last.
//
// # Safety
// `engine` is NULL or live; `out` is NULL or valid, with its data.
int32_t rmtls_engine_read_header_name(const struct rmtls_engine *engine,
                                      size_t index,
                                      struct rmtls_buf *out);

// Writes how to fetch from the revocation sources of a plan. The hosts of the proxies are empty
// when none is configured.
//
// # Safety
// `engine` is NULL or live; `out` is NULL or valid for writing; `http_proxy` and `https_proxy` are
// NULL or valid, with their data.
int32_t rmtls_engine_fetch_options(const struct rmtls_engine *engine,
                                   uint32_t plan,
                                   struct rmtls_fetch_options *out,
                                   struct rmtls_buf *http_proxy,
                                   struct rmtls_buf *https_proxy);

// Writes revocation source number `index` of a client certificate: its kind
// (`RMTLS_REVOCATION_SOURCE_*`), its URL and, for OCSP, the DER of the request. `RMTLS_NOT_FOUND`
// after the last. `epoch` is the `rmtls_engine_epoch` for which `plan` was looked up;
// `RMTLS_NOT_FOUND` when another policy is in force now.
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

// Checks the response of revocation source number `index`, which was fetched at `fetched`. With
// `RMTLS_OK` the status is cached and written to `answer`; or `answer->state` becomes
// `RMTLS_REVOCATION_STATUS_PARSING`, and nothing is cached yet. Otherwise the response is not
// valid, and `err` has the reason. `epoch` as for `rmtls_engine_revocation_source`.
//
// # Safety
// `engine` is NULL or live; `client` is NULL or live; `data` is readable for `data_len` bytes;
// `answer` is NULL or valid for writing; `err` is NULL or valid, with its data.
int32_t rmtls_engine_revocation_response(const struct rmtls_engine *engine,
                                         const struct rmtls_certificate *client,
                                         uint32_t plan,
                                         uint32_t epoch,
                                         size_t index,
                                         const uint8_t *data,
                                         size_t data_len,
                                         int64_t fetched,
                                         int64_t now,
                                         struct rmtls_revocation_answer *answer,
                                         struct rmtls_buf *err);

// Writes the OCSP request `request` with a nonce, for a responder that answers no other.
//
// # Safety
// `request` is readable for `request_len` bytes; `out` is NULL or valid, with its data.
int32_t rmtls_ocsp_with_nonce(const uint8_t *request, size_t request_len, struct rmtls_buf *out);

// Writes a new handle of a certificate whose status should be fetched again while the one that is
// known serves, its plan and the epoch; `RMTLS_NOT_FOUND` when there is no other.
//
// # Safety
// `engine` is NULL or live; `out` is NULL or valid for writing, and `*out` is then freed with
// `rmtls_certificate_free`; `plan` and `epoch` are NULL or valid for writing.
int32_t rmtls_engine_take_refresh(const struct rmtls_engine *engine,
                                  struct rmtls_certificate **out,
                                  uint32_t *plan,
                                  uint32_t *epoch);

// Keeps a signed answer, which begins with `head`, in the state directory under a key of hexadecimal
// digits, of which the first 16 identify its CA. `evidence` is 1 if it may prove a revocation: then
// it is removed after all others. A large answer is written later, on a thread beside the event loop;
// `rmtls_engine_answer_write_error` has an error about that. `RMTLS_NOT_FOUND` without a state
// directory.
//
// # Safety
// `engine` is NULL or live; `key`, `head` and `data` are readable for their lengths; `err` is NULL or
// valid, with its data.
int32_t rmtls_engine_write_answer(const struct rmtls_engine *engine,
                                  const uint8_t *key,
                                  size_t key_len,
                                  const uint8_t *head,
                                  size_t head_len,
                                  const uint8_t *data,
                                  size_t data_len,
                                  int32_t evidence,
                                  struct rmtls_buf *err);

// Writes why a large answer could not be written to the state directory, once for each time;
// `RMTLS_NOT_FOUND` when there is no error.
//
// # Safety
// `engine` is NULL or live; `out` is NULL or valid, with its data.
int32_t rmtls_engine_answer_write_error(const struct rmtls_engine *engine, struct rmtls_buf *out);

// Reads an answer that `rmtls_engine_write_answer` has kept; `RMTLS_NOT_FOUND` if there is none. With
// `RMTLS_OK`, `*out` is the answer, or NULL while a large one is being read on a thread beside the
// event loop: then call it again some milliseconds later.
//
// # Safety
// `engine` is NULL or live; `key` is readable for `key_len` bytes; `out` is NULL or valid for writing,
// and `*out` is then freed with `rmtls_answer_free`.
int32_t rmtls_engine_read_answer(const struct rmtls_engine *engine,
                                 const uint8_t *key,
                                 size_t key_len,
                                 struct rmtls_answer **out);

// Sets `data` to the bytes of an answer, which are valid until it is freed, and `data_len` to their
// number.
//
// # Safety
// `answer` is NULL or live; `data` and `data_len` are NULL or valid for writing.
int32_t rmtls_answer_bytes(const struct rmtls_answer *answer,
                           const uint8_t **data,
                           size_t *data_len);

// Frees an answer.
//
// # Safety
// `answer` is NULL or from this library, and is not used again.
void rmtls_answer_free(struct rmtls_answer *answer);

// Forgets the revocation statuses of this worker, except that certificates are revoked.
//
// # Safety
// `engine` is NULL or live.
int32_t rmtls_engine_forget_statuses(const struct rmtls_engine *engine);

// Caches a status for a client certificate that another worker received, or that no source gave a
// valid response. `state` is one of `RMTLS_REVOCATION_STATUS_*`, `until` the first second at
// which it must be queried again. `epoch` as for `rmtls_engine_revocation_source`.
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

// Writes 64 hexadecimal digits that identify the CA of a client certificate. `epoch` as for
// `rmtls_engine_revocation_source`.
//
// # Safety
// `engine` is NULL or live; `client` is NULL or live; `out` is NULL or valid, with its data.
int32_t rmtls_engine_revocation_issuer(const struct rmtls_engine *engine,
                                       const struct rmtls_certificate *client,
                                       uint32_t plan,
                                       uint32_t epoch,
                                       int64_t now,
                                       struct rmtls_buf *out);

// Writes the key under which workers share the status of a client certificate. `epoch` as for
// `rmtls_engine_revocation_source`.
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

// Writes the file or URL and the issuer of CRL number `index` of those of the policy in force that
// are in use, and its age and size. `RMTLS_NOT_FOUND` after the last.
//
// # Safety
// `engine` is NULL or live; `file`, `issuer` and `out` are NULL or valid, the former with their
// data.
int32_t rmtls_engine_crl_in_use(const struct rmtls_engine *engine,
                                size_t index,
                                struct rmtls_buf *file,
                                struct rmtls_buf *issuer,
                                struct rmtls_crl_summary *out);

// Writes a warning about a local CRL that has expired since the policy in force was compiled,
// once for each CRL; `RMTLS_NOT_FOUND` when there is no other. `now` is in seconds since 1970.
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

// Adds a server name: exact, `*.example.com` (one label) or `*`. `value` is any number of the
// caller. With `request` not 0, handshakes under this name request a client certificate, to be
// verified with one of `stores`; with `send_ca_names` not 0 the request names the CAs of those
// stores. The stores may be freed afterwards.
//
// # Safety
// `map` is NULL or live and not used by anybody else; `pattern` is readable for `pattern_len`
// bytes; `stores` is readable for `stores_len` live stores; `err` is NULL or valid, with its
// data.
int32_t rmtls_sni_map_add(struct rmtls_sni_map *map,
                          const uint8_t *pattern,
                          size_t pattern_len,
                          uint32_t value,
                          int32_t request,
                          const struct rmtls_trust_store *const *stores,
                          size_t stores_len,
                          int32_t send_ca_names,
                          struct rmtls_buf *err);

// Completes a map. No names can be added afterwards.
//
// # Safety
// `map` is NULL or live and not used by anybody else.
int32_t rmtls_sni_map_build(struct rmtls_sni_map *map);

// Looks up a raw server name (NULL: none): exact, then wildcard, then `*`. `RMTLS_NOT_FOUND` if
// none matches.
//
// # Safety
// `map` is NULL or live; `name` is NULL or readable for `name_len` bytes; `value` is NULL or
// valid for writing.
int32_t rmtls_sni_map_get(const struct rmtls_sni_map *map,
                          const uint8_t *name,
                          size_t name_len,
                          uint32_t *value);

// ClientHello phase: binds the TLS session of `ssl` to the certificate request of the raw server
// name.
//
// # Safety
// `map` is NULL or live; `ssl` is NULL or a live `SSL` inside its ClientHello callback; `name` is
// NULL or readable for `name_len` bytes; `err` is NULL or valid, with its data.
int32_t rmtls_sni_map_client_hello(const struct rmtls_sni_map *map,
                                   void *ssl,
                                   const uint8_t *name,
                                   size_t name_len,
                                   struct rmtls_buf *err);

// Certificate phase: requests a client certificate if the ClientHello phase decided so, else
// returns `RMTLS_NOT_FOUND`.
//
// # Safety
// `ssl` is NULL or a live `SSL` inside its certificate callback; `err` is NULL or valid, with its
// data.
int32_t rmtls_sni_map_request_certificate(void *ssl, struct rmtls_buf *err);

// Checks whether the TLS session of `ssl` was made with the certificate request of `name` (the
// Host of the request): `bound` becomes 1 or 0. With 0, respond with 421.
//
// # Safety
// `map` is NULL or live; `ssl` is NULL or a live `SSL` after its handshake; `name` is NULL or
// readable for `name_len` bytes; `bound` is NULL or valid for writing.
int32_t rmtls_sni_map_check_binding(const struct rmtls_sni_map *map,
                                    void *ssl,
                                    const uint8_t *name,
                                    size_t name_len,
                                    int32_t *bound);

// Access phase, on a plan with `RMTLS_PLAN_TOKEN` after `rmtls_engine_access` allowed the
// request: decides about its token. `authorization` are all its `Authorization` headers, or those
// with the name `RMTLS_TOKEN_TEXT_TOKEN_HEADER` where the plan has one; `dpop` is NULL where
// `rmtls_token_options.dpop` is `RMTLS_DPOP_OFF`; `headers` and `trusted` are as for
// `rmtls_engine_access_with_headers`; `latest` is 1 when the documents of the issuer have just
// been fetched. On a refusal `reason` has the reason for the error log, and `description` the text
// for the client.
//
// # Safety
// `engine` is NULL or live; `ssl` is NULL or a live `SSL` after its handshake; `authorization`
// and `headers` are readable for their lengths, with names and values; `dpop` is NULL or valid,
// with all that it points to; `out` is NULL or valid for writing; `description` and `reason` are NULL or valid, with their data.
int32_t rmtls_engine_check_token(const struct rmtls_engine *engine,
                                 void *ssl,
                                 uint32_t plan,
                                 const struct rmtls_request_header *authorization,
                                 size_t authorization_len,
                                 const struct rmtls_dpop_request *dpop,
                                 const struct rmtls_request_header *headers,
                                 size_t headers_len,
                                 int32_t trusted,
                                 int32_t latest,
                                 int64_t now,
                                 struct rmtls_token_decision *out,
                                 struct rmtls_buf *description,
                                 struct rmtls_buf *reason);

// Forgets the documents of all issuers, and which tokens are valid or inactive, in this worker.
//
// # Safety
// `engine` is NULL or live.
int32_t rmtls_engine_forget_tokens(const struct rmtls_engine *engine);

// Sets the documents of the issuer of a plan: its discovery document, or NULL where the plan has
// no `RMTLS_TOKEN_TEXT_DISCOVERY_URL`, and its JWK Sets, none where
// `rmtls_token_options.needs_keys` is 0. `keys` has the sets one after another, and `key_sizes`
// their `key_sets` lengths. When they are not valid, `err` has the reason, and the previous ones
// stay.
//
// # Safety
// `engine` is NULL or live; `discovery` is NULL or readable for its length; `key_sizes` is readable
// for `key_sets` numbers and `keys` for their sum, or both are NULL; `err` is NULL or valid, with
// its data.
int32_t rmtls_engine_set_issuer_documents(const struct rmtls_engine *engine,
                                          uint32_t plan,
                                          const uint8_t *discovery,
                                          size_t discovery_len,
                                          const uint8_t *keys,
                                          const uint32_t *key_sizes,
                                          size_t key_sets,
                                          struct rmtls_buf *err);

// Sets the introspection response for the token of a request. With `RMTLS_OK` and
// `RMTLS_TOKEN_PASS`, check the token again; any other decision is final, as from
// `rmtls_engine_check_token`. With `RMTLS_INVALID` the response is not valid, and `reason` has
// the reason.
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

// Writes 32 random bytes: a key of nonces, which the workers of a node share.
//
// # Safety
// `key` is NULL or writable for 32 bytes.
int32_t rmtls_dpop_new_nonce_key(uint8_t *key);

// Writes a nonce for the DPoP proofs of a plan.
//
// # Safety
// `engine` is NULL or live; `nonce_key` is NULL or readable for 32 bytes; `out` is NULL or valid,
// with its data.
int32_t rmtls_engine_dpop_nonce(const struct rmtls_engine *engine,
                                uint32_t plan,
                                const uint8_t *nonce_key,
                                int64_t now,
                                struct rmtls_buf *out);

// Access phase, after `rmtls_engine_check_token` allowed the request: applies the identity in its
// decision to `decision`, which `rmtls_engine_access` has just allowed for the same plan, and
// checks `acl` where the token decides about the consumer. An allowed `decision` gets its header
// lines. On a refusal it has `RMTLS_DECISION_FORBIDDEN`, and `reason` the reason for the error log.
//
// # Safety
// `engine` is NULL or live; `ssl` is NULL or a live `SSL` after its handshake; `decision` is NULL or valid for reading and writing; `reason` is NULL
// or valid, with its data.
int32_t rmtls_engine_apply_token(const struct rmtls_engine *engine,
                                 void *ssl,
                                 uint32_t plan,
                                 int32_t identity,
                                 uint32_t consumer,
                                 int64_t now,
                                 struct rmtls_decision *decision,
                                 struct rmtls_buf *reason);

// Access phase, after `rmtls_engine_check_token` refused a request that `rmtls_engine_access` has
// just allowed for the same plan: lets it pass without its token where `openid-connect` has
// `enforce: report`, else returns `RMTLS_NOT_FOUND`, and the refusal stays. As
// `rmtls_engine_apply_token`, it checks `acl` and makes the header lines.
//
// # Safety
// As `rmtls_engine_apply_token`.
int32_t rmtls_engine_pass_without_token(const struct rmtls_engine *engine,
                                        void *ssl,
                                        uint32_t plan,
                                        int64_t now,
                                        struct rmtls_decision *decision,
                                        struct rmtls_buf *reason);

// Writes a JWT that authenticates this gateway to the issuer of a plan (RFC 7523), valid for a
// minute; `RMTLS_NOT_FOUND` without a key.
//
// # Safety
// `engine` is NULL or live; `out` is NULL or valid, with its data.
int32_t rmtls_engine_client_assertion(const struct rmtls_engine *engine,
                                      uint32_t plan,
                                      int64_t now,
                                      struct rmtls_buf *out);

// Writes the header lines for the claims of an allowed token, which live as long as those of
// `rmtls_decision`, and whether they were made by this call (1) or are kept (0). `RMTLS_NOT_FOUND`
// for a token that is no longer cached.
//
// # Safety
// `engine` is NULL or live; `out` and `are_new` are NULL or valid for writing.
int32_t rmtls_engine_claim_headers(const struct rmtls_engine *engine,
                                   uint32_t plan,
                                   uint32_t token,
                                   uint32_t generation,
                                   struct rmtls_lines *out,
                                   int32_t *are_new);

// Reads the discovery document of an issuer, and writes the URLs of its keys and of its
// introspection endpoint, empty where the document has none. `issuer` is the issuer, and on
// further lines others that are accepted. `RMTLS_INVALID` for the document of another issuer and
// for URLs that are not https; then `err` has the reason.
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

// Checks a JWK Set, and writes the number of its keys that can verify tokens. `RMTLS_INVALID`
// when there is none, or when it is not a JWK Set; then `err` has the reason.
//
// # Safety
// `document` is readable for its length; `count` is NULL or valid for writing; `err` is NULL or
// valid, with its data.
int32_t rmtls_jwks_check(const uint8_t *document,
                         size_t document_len,
                         uint32_t *count,
                         struct rmtls_buf *err);

// Checks that a token, which the caller has already validated, is bound to a certificate (RFC
// 8705 section 3). `token` is a compact JWT, whose signature is not verified, or with `is_jwt` 0
// the JSON of its claims or of an introspection response. With `strict` 0 a token without a
// binding is accepted. `certificate` NULL is no certificate. `RMTLS_INVALID` when the token is
// not bound to it; then `err` has the reason for the error log.
//
// # Safety
// `token` is readable for `token_len` bytes; `certificate` is NULL or live; `err` is NULL or
// valid, with its data.
int32_t rmtls_token_check(const uint8_t *token,
                          size_t token_len,
                          int32_t is_jwt,
                          const struct rmtls_certificate *certificate,
                          int32_t strict,
                          struct rmtls_buf *err);

// Writes how the tokens of a plan are checked; `RMTLS_NOT_FOUND` if they are not.
//
// # Safety
// `engine` is NULL or live; `out` is NULL or valid for writing.
int32_t rmtls_engine_token_options(const struct rmtls_engine *engine,
                                   uint32_t plan,
                                   struct rmtls_token_options *out);

// Writes one of the `RMTLS_TOKEN_TEXT_*` of a plan; `RMTLS_NOT_FOUND` if there is none.
//
// # Safety
// `engine` is NULL or live; `out` is NULL or valid, with its data.
int32_t rmtls_engine_token_text(const struct rmtls_engine *engine,
                                uint32_t plan,
                                uint32_t field,
                                struct rmtls_buf *out);

// `RMTLS_OK` if a plan of the policy in force needs `RMTLS_CLIENT_AUTH_TLS`, else
// `RMTLS_NOT_FOUND`.
//
// # Safety
// `engine` is NULL or live.
int32_t rmtls_engine_needs_client_certificates(const struct rmtls_engine *engine);

// Makes a store from a PEM bundle of CA certificates. `allow_partial_chain` is 0 or 1;
// `verify_depth` is the most intermediates allowed, `auth_level` the security level of OpenSSL;
// -1 for either selects the default (10 and 2).
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

// Verifies a certificate as that of a TLS client at `now`, in seconds since 1970. `code` becomes
// `X509_V_OK` (0) or an `X509_V_ERR_*` number, `verdict` `SUCCESS` or `FAILED:<reason>`,
// truncated to fit. `RMTLS_OK` only means that there is a verdict.
//
// # Safety
// `store` and `certificate` are NULL or live; `code` is NULL or valid for writing; `verdict` is
// NULL or valid, with its data.
int32_t rmtls_trust_store_verify(const struct rmtls_trust_store *store,
                                 const struct rmtls_certificate *certificate,
                                 int64_t now,
                                 int32_t *code,
                                 struct rmtls_buf *verdict);

// Writes `SUCCESS` or `FAILED:<reason>` for an `X509_V_*` number, `RMTLS_VERDICT_NOT_VERIFIED` or
// `RMTLS_VERDICT_NO_CONSUMER`.
//
// # Safety
// `out` is NULL or valid, with its data.
int32_t rmtls_verdict_text(int32_t code, struct rmtls_buf *out);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* RESTY_MTLS_H */
