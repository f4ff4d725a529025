-- Declarations of libresty_mtls. Generated from src/ffi by `make header`; do not edit.

require("ffi").cdef [[
typedef struct rmtls_answer rmtls_answer;

typedef struct rmtls_certificate rmtls_certificate;

typedef struct rmtls_crl_body rmtls_crl_body;

typedef struct rmtls_engine rmtls_engine;

typedef struct rmtls_header_lines rmtls_header_lines;

typedef struct rmtls_reload rmtls_reload;

typedef struct rmtls_sni_map rmtls_sni_map;

typedef struct rmtls_trust_store rmtls_trust_store;

typedef struct rmtls_buf {
  uint8_t *data;
  size_t cap;
  size_t len;
} rmtls_buf;

typedef struct rmtls_decision {
  int32_t decision;
  uint32_t client;
  uint32_t generation;
  int32_t verdict;
  int32_t identity;
  uint32_t consumer;
  uint32_t credential;
  int32_t forwards;
  uint32_t connection;
  uint32_t server_certificate;
  int32_t from_header;
  int32_t would_refuse;
  int32_t would_refuse_verdict;
  uint32_t record;
  uint32_t record_generation;
  int32_t lines_are_new;
  int32_t reports_expiry;
  int64_t not_after;
  uint64_t changes;
} rmtls_decision;

typedef struct rmtls_lines {
  const uint8_t *bytes;
  const uint32_t *ends;
  const size_t *hashes;
  uint32_t always;
  uint32_t forwarding;
  uint32_t left_out;
  const int32_t *left_out_kinds;
  int32_t may_append;
  const void *owner;
} rmtls_lines;

typedef struct rmtls_block_times {
  int64_t added;
  int64_t until;
} rmtls_block_times;

typedef struct rmtls_crl_url {
  int64_t this_update;
  int64_t next_update;
  uint64_t entries;
  uint64_t bytes;
  uint32_t refresh;
  uint32_t max_bytes;
  uint32_t http_timeout;
  int32_t ssl_verify;
  uint32_t http_proxy_port;
  uint32_t https_proxy_port;
} rmtls_crl_url;

typedef struct rmtls_request_header {
  int32_t name_len;
  const uint8_t *name;
  int32_t value_len;
  const uint8_t *value;
} rmtls_request_header;

typedef struct rmtls_header_line {
  int32_t kind;
  const uint8_t *name;
  size_t name_len;
  const uint8_t *value;
  size_t value_len;
} rmtls_header_line;

typedef struct rmtls_nginx_header {
  size_t hash;
  size_t name_len;
  const uint8_t *name;
  size_t value_len;
  const uint8_t *value;
  const uint8_t *lower_case_name;
} rmtls_nginx_header;

typedef struct rmtls_nginx_list_part {
  struct rmtls_nginx_header *headers;
  size_t count;
  struct rmtls_nginx_list_part *next;
} rmtls_nginx_list_part;

typedef struct rmtls_nginx_list {
  struct rmtls_nginx_list_part *last;
  struct rmtls_nginx_list_part part;
  size_t header_size;
  size_t capacity;
  void *pool;
} rmtls_nginx_list;

typedef void *(*rmtls_nginx_palloc_function)(void*, size_t);

typedef struct rmtls_worker_state {
  uint64_t epoch;
  uint64_t since;
  uint32_t process;
  int32_t failed;
} rmtls_worker_state;

typedef struct rmtls_node_state {
  uint64_t epoch;
  uint64_t since;
} rmtls_node_state;

typedef struct rmtls_policy_status {
  uint64_t epoch;
  uint64_t since;
  uint64_t routes;
  uint64_t server_names;
  uint64_t certificate_requests;
  uint64_t warnings;
  uint8_t digest[32];
} rmtls_policy_status;

typedef struct rmtls_request_state {
  const void *request;
  uint32_t owner;
  int32_t is_lost;
  uint32_t record;
  uint32_t extra;
  const void *location;
  const uint8_t *route;
  size_t route_len;
  int32_t is_decided;
  int32_t is_allowed;
  int32_t status;
  int32_t lacks_headers;
  int32_t is_preflight;
  struct rmtls_decision decision;
} rmtls_request_state;

typedef struct rmtls_nginx_cleanup {
  const void *handler;
  void *data;
  struct rmtls_nginx_cleanup *next;
} rmtls_nginx_cleanup;

typedef struct rmtls_fetch_options {
  uint32_t http_timeout;
  uint32_t status_wait;
  int32_t strict;
  int64_t ttl;
  int32_t ssl_verify;
  uint32_t http_proxy_port;
  uint32_t https_proxy_port;
  uint32_t max_crl_bytes;
} rmtls_fetch_options;

typedef struct rmtls_revocation_answer {
  int32_t state;
  int32_t hold;
  int64_t until;
  int64_t this_update;
  int64_t next_update;
  uint64_t crl_entries;
  int64_t crl_next_update;
} rmtls_revocation_answer;

typedef struct rmtls_crl_summary {
  int64_t this_update;
  int64_t next_update;
  uint64_t entries;
  uint64_t bytes;
} rmtls_crl_summary;

typedef struct rmtls_dpop_request {
  const struct rmtls_request_header *proofs;
  size_t proofs_len;
  const uint8_t *method;
  size_t method_len;
  const uint8_t *uri;
  size_t uri_len;
  const uint8_t *nonce_key;
} rmtls_dpop_request;

typedef struct rmtls_token_decision {
  int32_t decision;
  uint32_t token;
  uint32_t generation;
  uint8_t id[32];
  int32_t challenge;
  uint8_t proof_id[32];
  int64_t proof_expires;
  int32_t identity;
  uint32_t consumer;
} rmtls_token_decision;

typedef struct rmtls_token_options {
  int32_t needs_keys;
  int32_t client_auth;
  int32_t hide_credentials;
  int32_t expose_error_code;
  int32_t ssl_verify;
  uint32_t timeout;
  uint32_t rediscovery_lifetime;
  uint32_t cache_ttl;
  uint32_t certificate_plan;
  int32_t proof_of_possession;
  int32_t dpop;
  int32_t introspection_ssl_verify;
  int32_t anonymous;
} rmtls_token_options;

int32_t rmtls_abi_version(void);

int32_t rmtls_host_check(struct rmtls_buf *err);

int32_t rmtls_engine_access(const struct rmtls_engine *engine,
                            void *ssl,
                            uint32_t plan,
                            const uint8_t *host,
                            size_t host_len,
                            int64_t now,
                            struct rmtls_decision *out,
                            struct rmtls_buf *reason);

int32_t rmtls_engine_lines(const struct rmtls_engine *engine,
                           const struct rmtls_decision *decision,
                           struct rmtls_lines *out);

int32_t rmtls_engine_group(const struct rmtls_engine *engine,
                           uint32_t plan,
                           const struct rmtls_decision *decision,
                           size_t index,
                           struct rmtls_buf *out);

int32_t rmtls_engine_changes(const struct rmtls_engine *engine, uint64_t *out);

int32_t rmtls_engine_keep_with_record(const struct rmtls_engine *engine,
                                      uint32_t record,
                                      uint32_t record_generation,
                                      size_t bytes);

int32_t rmtls_engine_dropped_record(const struct rmtls_engine *engine, uint32_t *out);

int32_t rmtls_engine_consumer(const struct rmtls_engine *engine,
                              uint32_t consumer,
                              uint32_t field,
                              struct rmtls_buf *out);

int32_t rmtls_engine_tls_client(const struct rmtls_engine *engine,
                                void *ssl,
                                struct rmtls_certificate **out);

int32_t rmtls_engine_cached_client(const struct rmtls_engine *engine,
                                   uint32_t client,
                                   uint32_t generation,
                                   struct rmtls_certificate **out);

int32_t rmtls_engine_anchor(const struct rmtls_engine *engine,
                            const struct rmtls_certificate *certificate,
                            uint32_t plan,
                            int64_t now,
                            struct rmtls_buf *subject,
                            struct rmtls_buf *id);

int32_t rmtls_engine_spiffe_id(const struct rmtls_engine *engine,
                               const struct rmtls_certificate *certificate,
                               uint32_t plan,
                               struct rmtls_buf *id,
                               struct rmtls_buf *trust_domain);

int32_t rmtls_engine_block(const struct rmtls_engine *engine,
                           const uint8_t *selector,
                           size_t selector_len,
                           const uint8_t *reason,
                           size_t reason_len,
                           int64_t added,
                           int64_t until,
                           int64_t now,
                           struct rmtls_buf *err);

int32_t rmtls_engine_unblock(const struct rmtls_engine *engine,
                             const uint8_t *selector,
                             size_t selector_len,
                             int64_t now,
                             struct rmtls_buf *err);

int32_t rmtls_engine_next_block(const struct rmtls_engine *engine,
                                int64_t now,
                                uint32_t *slot,
                                struct rmtls_block_times *times,
                                struct rmtls_buf *selector,
                                struct rmtls_buf *reason);

int32_t rmtls_engine_save_blocks(const struct rmtls_engine *engine,
                                 int64_t now,
                                 struct rmtls_buf *err);

int32_t rmtls_engine_bundle_url(const struct rmtls_engine *engine,
                                size_t index,
                                struct rmtls_buf *url);

int32_t rmtls_engine_store_bundle(const struct rmtls_engine *engine,
                                  const uint8_t *url,
                                  size_t url_len,
                                  const uint8_t *data,
                                  size_t data_len,
                                  uint32_t *refresh,
                                  struct rmtls_buf *err);

int32_t rmtls_engine_ca_certificate(const struct rmtls_engine *engine,
                                    size_t index,
                                    struct rmtls_buf *id,
                                    struct rmtls_buf *subject,
                                    int64_t *not_after);

int32_t rmtls_engine_ending_ca(const struct rmtls_engine *engine,
                               int64_t now,
                               struct rmtls_buf *out);

int32_t rmtls_certificate_from_pem(const uint8_t *pem,
                                   size_t pem_len,
                                   struct rmtls_certificate **out,
                                   struct rmtls_buf *err);

int32_t rmtls_certificate_from_ssl(void *ssl, struct rmtls_certificate **out);

void rmtls_certificate_free(struct rmtls_certificate *certificate);

int32_t rmtls_certificate_get(const struct rmtls_certificate *certificate,
                              uint32_t field,
                              struct rmtls_buf *out);

int32_t rmtls_certificate_validity(const struct rmtls_certificate *certificate,
                                   int64_t *not_before,
                                   int64_t *not_after);

int32_t rmtls_certificate_subject(const struct rmtls_certificate *certificate,
                                  size_t index,
                                  struct rmtls_buf *name,
                                  struct rmtls_buf *value);

int32_t rmtls_certificate_san(const struct rmtls_certificate *certificate,
                              size_t index,
                              struct rmtls_buf *kind,
                              struct rmtls_buf *value);

int32_t rmtls_engine_set_certificate_spool(const struct rmtls_engine *engine,
                                           const uint8_t *path,
                                           size_t path_len,
                                           uint64_t max_certificates,
                                           uint64_t max_bytes,
                                           struct rmtls_buf *err);

int32_t rmtls_engine_certificate_spool_usage(const struct rmtls_engine *engine,
                                             uint64_t *certificates,
                                             uint64_t *bytes);

int32_t rmtls_engine_certificate_spool_warning(const struct rmtls_engine *engine,
                                               struct rmtls_buf *out);

int32_t rmtls_engine_crl_url(const struct rmtls_engine *engine,
                             size_t index,
                             struct rmtls_crl_url *out,
                             struct rmtls_buf *url,
                             struct rmtls_buf *key);

int32_t rmtls_engine_crl_url_proxies(const struct rmtls_engine *engine,
                                     size_t index,
                                     struct rmtls_buf *http_proxy,
                                     struct rmtls_buf *https_proxy);

int32_t rmtls_crl_body_new(size_t max, struct rmtls_crl_body **out);

int32_t rmtls_crl_body_append(const struct rmtls_crl_body *body,
                              const uint8_t *data,
                              size_t data_len);

void rmtls_crl_body_free(struct rmtls_crl_body *body);

int32_t rmtls_engine_load_crl_url(const struct rmtls_engine *engine,
                                  uint32_t epoch,
                                  size_t index,
                                  const struct rmtls_crl_body *body,
                                  const uint8_t *path,
                                  size_t path_len,
                                  int32_t wait,
                                  int32_t *is_loaded,
                                  struct rmtls_buf *err);

int32_t rmtls_engine_new(struct rmtls_engine **out);

void rmtls_engine_free(struct rmtls_engine *engine);

int32_t rmtls_engine_install(const struct rmtls_engine *engine);

int32_t rmtls_engine_current(struct rmtls_engine **out);

int32_t rmtls_engine_is_current(const struct rmtls_engine *engine);

uint32_t rmtls_engine_epoch(const struct rmtls_engine *engine);

int32_t rmtls_selector_normal_form(const uint8_t *selector,
                                   size_t selector_len,
                                   struct rmtls_buf *out,
                                   struct rmtls_buf *err);

int32_t rmtls_hmac_sha256(const uint8_t *key,
                          size_t key_len,
                          const uint8_t *data,
                          size_t data_len,
                          struct rmtls_buf *out,
                          struct rmtls_buf *err);

int32_t rmtls_gzip_decode(const uint8_t *data,
                          size_t data_len,
                          size_t max,
                          struct rmtls_buf *out,
                          struct rmtls_buf *err);

int32_t rmtls_engine_client_hello(const struct rmtls_engine *engine,
                                  void *ssl,
                                  const uint8_t *name,
                                  size_t name_len,
                                  struct rmtls_buf *err);

int32_t rmtls_engine_use_session_cache(const struct rmtls_engine *engine, int32_t yes);

int32_t rmtls_engine_request_certificate(const struct rmtls_engine *engine,
                                         void *ssl,
                                         struct rmtls_buf *err);

int32_t rmtls_engine_is_outdated(const struct rmtls_engine *engine, void *ssl, int32_t *outdated);

int32_t rmtls_connection_watch(void *ssl, uint32_t *number);

int32_t rmtls_connection_is_open(uint32_t number);

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

int32_t rmtls_engine_unverified_certificate(const struct rmtls_engine *engine,
                                            void *ssl,
                                            uint32_t plan,
                                            const struct rmtls_request_header *headers,
                                            size_t headers_len,
                                            int32_t trusted,
                                            int32_t or_tls,
                                            struct rmtls_certificate **out);

int32_t rmtls_certificate_from_header(const uint8_t *format,
                                      size_t format_len,
                                      int32_t xfcc_element,
                                      const struct rmtls_request_header *lines,
                                      size_t lines_len,
                                      const struct rmtls_request_header *chain,
                                      size_t chain_len,
                                      struct rmtls_certificate **out,
                                      struct rmtls_buf *err);

int32_t rmtls_certificate_header_lines(const struct rmtls_certificate *certificate,
                                       const uint8_t *dialect,
                                       size_t dialect_len,
                                       int32_t verdict,
                                       int64_t now,
                                       struct rmtls_header_lines **out,
                                       struct rmtls_buf *err);

int32_t rmtls_engine_cloudflare(const struct rmtls_engine *engine,
                                void *ssl,
                                const struct rmtls_certificate *client,
                                uint32_t plan,
                                int32_t verdict,
                                int64_t now,
                                struct rmtls_header_lines **out);

int32_t rmtls_header_lines_get(const struct rmtls_header_lines *lines,
                               size_t index,
                               struct rmtls_header_line *out);

int32_t rmtls_header_lines_until(const struct rmtls_header_lines *lines, int64_t *until);

void rmtls_header_lines_free(struct rmtls_header_lines *lines);

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

int32_t rmtls_connection_is_first(void *ssl, uint64_t request);

int32_t rmtls_engine_xfcc(const struct rmtls_engine *engine,
                          uint32_t plan,
                          const struct rmtls_decision *decision,
                          const struct rmtls_request_header *headers,
                          size_t headers_len,
                          int32_t *kind,
                          struct rmtls_buf *name,
                          struct rmtls_buf *value);

int32_t rmtls_header_list_append(struct rmtls_nginx_list *list,
                                 const struct rmtls_lines *lines,
                                 uint32_t count,
                                 rmtls_nginx_palloc_function palloc,
                                 const void *request);

int32_t rmtls_engine_list_routes(const struct rmtls_engine *engine,
                                 size_t from,
                                 size_t limit,
                                 const uint8_t *filter,
                                 size_t filter_len,
                                 struct rmtls_buf *out);

int32_t rmtls_engine_list_server_names(const struct rmtls_engine *engine,
                                       size_t from,
                                       size_t limit,
                                       const uint8_t *filter,
                                       size_t filter_len,
                                       struct rmtls_buf *out);

int32_t rmtls_engine_watch_lists(const struct rmtls_engine *engine, struct rmtls_buf *err);

int32_t rmtls_engine_is_awaiting_lists(const struct rmtls_engine *engine);

int32_t rmtls_engine_list_event(const struct rmtls_engine *engine,
                                int32_t *kind,
                                struct rmtls_buf *text);

int32_t rmtls_engine_ending_list(const struct rmtls_engine *engine,
                                 int64_t now,
                                 struct rmtls_buf *out);

int32_t rmtls_engine_list_state(const struct rmtls_engine *engine,
                                uint32_t index,
                                struct rmtls_buf *name,
                                struct rmtls_buf *error,
                                uint64_t *entries,
                                int64_t *modified);

int32_t rmtls_metrics_read_and_reset(uint64_t *out);

int32_t rmtls_engine_join_node(const struct rmtls_engine *engine, struct rmtls_buf *err);

int32_t rmtls_engine_set_state_directory(const struct rmtls_engine *engine,
                                         const uint8_t *path,
                                         size_t path_len,
                                         const uint8_t *source,
                                         size_t source_len,
                                         struct rmtls_buf *err);

int32_t rmtls_engine_load_last_good(const struct rmtls_engine *engine, struct rmtls_buf *err);

int32_t rmtls_engine_is_behind(const struct rmtls_engine *engine);

int32_t rmtls_engine_set_unavailable(const struct rmtls_engine *engine);

int32_t rmtls_engine_report_worker(const struct rmtls_engine *engine, uint32_t worker);

int32_t rmtls_engine_worker_state(const struct rmtls_engine *engine,
                                  uint32_t worker,
                                  struct rmtls_worker_state *out);

int32_t rmtls_engine_node_state(const struct rmtls_engine *engine, struct rmtls_node_state *out);

int32_t rmtls_engine_load(const struct rmtls_engine *engine,
                          const uint8_t *document,
                          size_t document_len,
                          const uint8_t *label,
                          size_t label_len,
                          struct rmtls_buf *err);

int32_t rmtls_engine_load_file(const struct rmtls_engine *engine,
                               const uint8_t *path,
                               size_t path_len,
                               struct rmtls_buf *err);

int32_t rmtls_engine_warning(const struct rmtls_engine *engine,
                             size_t index,
                             struct rmtls_buf *out);

int32_t rmtls_engine_untrusted_source_warning(const struct rmtls_engine *engine,
                                              struct rmtls_buf *out);

int32_t rmtls_engine_policy_status(const struct rmtls_engine *engine,
                                   struct rmtls_policy_status *out);

int32_t rmtls_engine_plan(const struct rmtls_engine *engine,
                          const uint8_t *name,
                          size_t name_len,
                          uint32_t *out);

int32_t rmtls_engine_plan_flags(const struct rmtls_engine *engine, uint32_t plan, uint32_t *out);

int32_t rmtls_engine_unknown_route(const struct rmtls_engine *engine,
                                   const uint8_t *name,
                                   size_t name_len,
                                   int64_t now,
                                   struct rmtls_buf *out);

int32_t rmtls_engine_route(const struct rmtls_engine *engine, size_t index, struct rmtls_buf *out);

int32_t rmtls_engine_missing_permission(const struct rmtls_engine *engine,
                                        const uint8_t *user,
                                        size_t user_len,
                                        const uint8_t *group,
                                        size_t group_len,
                                        size_t index,
                                        struct rmtls_buf *out);

int32_t rmtls_reload_new(const struct rmtls_engine *engine,
                         const uint8_t *document,
                         size_t document_len,
                         const uint8_t *label,
                         size_t label_len,
                         struct rmtls_reload **out,
                         struct rmtls_buf *err);

int32_t rmtls_reload_new_file(const struct rmtls_engine *engine,
                              const uint8_t *path,
                              size_t path_len,
                              struct rmtls_reload **out,
                              struct rmtls_buf *err);

int32_t rmtls_reload_new_changed(const struct rmtls_engine *engine,
                                 struct rmtls_reload **out,
                                 struct rmtls_buf *err);

int32_t rmtls_reload_new_from_node(const struct rmtls_engine *engine,
                                   struct rmtls_reload **out,
                                   struct rmtls_buf *err);

int32_t rmtls_reload_poll(const struct rmtls_reload *reload,
                          uint32_t wait_ms,
                          int32_t *state,
                          struct rmtls_buf *message);

void rmtls_reload_free(struct rmtls_reload *reload);

int32_t rmtls_engine_last_error(const struct rmtls_engine *engine, struct rmtls_buf *out);

int32_t rmtls_engine_watch(const struct rmtls_engine *engine, uint32_t every_ms);

int32_t rmtls_engine_watch_start(const struct rmtls_engine *engine,
                                 uint32_t *every_ms,
                                 uint32_t *token);

int32_t rmtls_engine_watch_check(const struct rmtls_engine *engine,
                                 uint32_t token,
                                 int32_t *change);

int32_t rmtls_request_state_keep_lines(const void *request, const struct rmtls_lines *lines);

int32_t rmtls_request_state_line_name(const void *request, size_t index, struct rmtls_buf *out);

int32_t rmtls_request_state_owner(uint32_t *out);

int32_t rmtls_request_state_find(const void *request, struct rmtls_request_state **out);

int32_t rmtls_request_state_begin(const void *request,
                                  uint32_t owner,
                                  struct rmtls_nginx_cleanup *cleanup,
                                  struct rmtls_request_state **out);

void rmtls_request_state_end(void *state);

int32_t rmtls_request_state_take_over(struct rmtls_request_state *state, uint32_t owner);

int32_t rmtls_request_state_set_record(struct rmtls_request_state *state, uint32_t table);

int32_t rmtls_request_state_new_extra(struct rmtls_request_state *state);

int32_t rmtls_request_state_new_table(uint32_t *out);

int32_t rmtls_request_state_retire_table(uint32_t table);

int32_t rmtls_request_state_released_table(uint32_t *out);

int32_t rmtls_request_state_uses(uint64_t *out);

int32_t rmtls_engine_reserved_headers(const struct rmtls_engine *engine,
                                      const struct rmtls_request_header *headers,
                                      size_t headers_len,
                                      uint32_t *found,
                                      size_t found_cap,
                                      size_t *found_len);

int32_t rmtls_engine_read_header_name(const struct rmtls_engine *engine,
                                      size_t index,
                                      struct rmtls_buf *out);

int32_t rmtls_engine_fetch_options(const struct rmtls_engine *engine,
                                   uint32_t plan,
                                   struct rmtls_fetch_options *out,
                                   struct rmtls_buf *http_proxy,
                                   struct rmtls_buf *https_proxy);

int32_t rmtls_engine_revocation_source(const struct rmtls_engine *engine,
                                       const struct rmtls_certificate *client,
                                       uint32_t plan,
                                       uint32_t epoch,
                                       size_t index,
                                       int64_t now,
                                       int32_t *kind,
                                       struct rmtls_buf *url,
                                       struct rmtls_buf *request);

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

int32_t rmtls_ocsp_with_nonce(const uint8_t *request, size_t request_len, struct rmtls_buf *out);

int32_t rmtls_engine_take_refresh(const struct rmtls_engine *engine,
                                  struct rmtls_certificate **out,
                                  uint32_t *plan,
                                  uint32_t *epoch);

int32_t rmtls_engine_write_answer(const struct rmtls_engine *engine,
                                  const uint8_t *key,
                                  size_t key_len,
                                  const uint8_t *head,
                                  size_t head_len,
                                  const uint8_t *data,
                                  size_t data_len,
                                  int32_t evidence,
                                  struct rmtls_buf *err);

int32_t rmtls_engine_answer_write_error(const struct rmtls_engine *engine, struct rmtls_buf *out);

int32_t rmtls_engine_read_answer(const struct rmtls_engine *engine,
                                 const uint8_t *key,
                                 size_t key_len,
                                 struct rmtls_answer **out);

int32_t rmtls_answer_bytes(const struct rmtls_answer *answer,
                           const uint8_t **data,
                           size_t *data_len);

void rmtls_answer_free(struct rmtls_answer *answer);

int32_t rmtls_engine_forget_statuses(const struct rmtls_engine *engine);

int32_t rmtls_engine_set_revocation_status(const struct rmtls_engine *engine,
                                           const struct rmtls_certificate *client,
                                           uint32_t plan,
                                           uint32_t epoch,
                                           int32_t state,
                                           int64_t until,
                                           int64_t now);

int32_t rmtls_engine_revocation_issuer(const struct rmtls_engine *engine,
                                       const struct rmtls_certificate *client,
                                       uint32_t plan,
                                       uint32_t epoch,
                                       int64_t now,
                                       struct rmtls_buf *out);

int32_t rmtls_engine_revocation_status_key(const struct rmtls_engine *engine,
                                           const struct rmtls_certificate *client,
                                           uint32_t plan,
                                           uint32_t epoch,
                                           int64_t now,
                                           struct rmtls_buf *out);

int32_t rmtls_engine_crl_in_use(const struct rmtls_engine *engine,
                                size_t index,
                                struct rmtls_buf *file,
                                struct rmtls_buf *issuer,
                                struct rmtls_crl_summary *out);

int32_t rmtls_engine_expired_crl(const struct rmtls_engine *engine,
                                 int64_t now,
                                 struct rmtls_buf *out);

int32_t rmtls_sni_map_new(struct rmtls_sni_map **out);

void rmtls_sni_map_free(struct rmtls_sni_map *map);

int32_t rmtls_sni_map_add(struct rmtls_sni_map *map,
                          const uint8_t *pattern,
                          size_t pattern_len,
                          uint32_t value,
                          int32_t request,
                          const struct rmtls_trust_store *const *stores,
                          size_t stores_len,
                          int32_t send_ca_names,
                          struct rmtls_buf *err);

int32_t rmtls_sni_map_build(struct rmtls_sni_map *map);

int32_t rmtls_sni_map_get(const struct rmtls_sni_map *map,
                          const uint8_t *name,
                          size_t name_len,
                          uint32_t *value);

int32_t rmtls_sni_map_client_hello(const struct rmtls_sni_map *map,
                                   void *ssl,
                                   const uint8_t *name,
                                   size_t name_len,
                                   struct rmtls_buf *err);

int32_t rmtls_sni_map_request_certificate(void *ssl, struct rmtls_buf *err);

int32_t rmtls_sni_map_check_binding(const struct rmtls_sni_map *map,
                                    void *ssl,
                                    const uint8_t *name,
                                    size_t name_len,
                                    int32_t *bound);

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

int32_t rmtls_engine_forget_tokens(const struct rmtls_engine *engine);

int32_t rmtls_engine_set_issuer_documents(const struct rmtls_engine *engine,
                                          uint32_t plan,
                                          const uint8_t *discovery,
                                          size_t discovery_len,
                                          const uint8_t *keys,
                                          const uint32_t *key_sizes,
                                          size_t key_sets,
                                          struct rmtls_buf *err);

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

int32_t rmtls_dpop_new_nonce_key(uint8_t *key);

int32_t rmtls_engine_dpop_nonce(const struct rmtls_engine *engine,
                                uint32_t plan,
                                const uint8_t *nonce_key,
                                int64_t now,
                                struct rmtls_buf *out);

int32_t rmtls_engine_apply_token(const struct rmtls_engine *engine,
                                 void *ssl,
                                 uint32_t plan,
                                 int32_t identity,
                                 uint32_t consumer,
                                 int64_t now,
                                 struct rmtls_decision *decision,
                                 struct rmtls_buf *reason);

int32_t rmtls_engine_pass_without_token(const struct rmtls_engine *engine,
                                        void *ssl,
                                        uint32_t plan,
                                        int64_t now,
                                        struct rmtls_decision *decision,
                                        struct rmtls_buf *reason);

int32_t rmtls_engine_client_assertion(const struct rmtls_engine *engine,
                                      uint32_t plan,
                                      int64_t now,
                                      struct rmtls_buf *out);

int32_t rmtls_engine_claim_headers(const struct rmtls_engine *engine,
                                   uint32_t plan,
                                   uint32_t token,
                                   uint32_t generation,
                                   struct rmtls_lines *out,
                                   int32_t *are_new);

int32_t rmtls_discovery_read(const uint8_t *document,
                             size_t document_len,
                             const uint8_t *issuer,
                             size_t issuer_len,
                             struct rmtls_buf *jwks_uri,
                             struct rmtls_buf *introspection,
                             struct rmtls_buf *err);

int32_t rmtls_jwks_check(const uint8_t *document,
                         size_t document_len,
                         uint32_t *count,
                         struct rmtls_buf *err);

int32_t rmtls_token_check(const uint8_t *token,
                          size_t token_len,
                          int32_t is_jwt,
                          const struct rmtls_certificate *certificate,
                          int32_t strict,
                          struct rmtls_buf *err);

int32_t rmtls_engine_token_options(const struct rmtls_engine *engine,
                                   uint32_t plan,
                                   struct rmtls_token_options *out);

int32_t rmtls_engine_token_text(const struct rmtls_engine *engine,
                                uint32_t plan,
                                uint32_t field,
                                struct rmtls_buf *out);

int32_t rmtls_engine_needs_client_certificates(const struct rmtls_engine *engine);

int32_t rmtls_trust_store_new(const uint8_t *pem,
                              size_t pem_len,
                              int32_t allow_partial_chain,
                              int32_t verify_depth,
                              int32_t auth_level,
                              struct rmtls_trust_store **out,
                              struct rmtls_buf *err);

void rmtls_trust_store_free(struct rmtls_trust_store *store);

int32_t rmtls_trust_store_verify(const struct rmtls_trust_store *store,
                                 const struct rmtls_certificate *certificate,
                                 int64_t now,
                                 int32_t *code,
                                 struct rmtls_buf *verdict);

int32_t rmtls_verdict_text(int32_t code, struct rmtls_buf *out);
]]

return {
    ABI_VERSION = 6,
    OK = 0,
    NOT_FOUND = 1,
    TOO_SMALL = 2,
    LEFT_OUT = 3,
    NULL_ARGUMENT = -1,
    INVALID = -2,
    PANIC = -3,
    OPENSSL = -4,
    HOST = -5,
    UNKNOWN_NAME = -6,
    DECISION_PASS = 0,
    DECISION_NO_CERTIFICATE = 1,
    DECISION_REFUSED = 2,
    DECISION_MISDIRECTED = 3,
    DECISION_FORBIDDEN = 4,
    DECISION_PENDING = 5,
    DECISION_TOO_EARLY = 6,
    DECISION_UNAVAILABLE = 7,
    IDENTITY_NONE = 0,
    IDENTITY_HOLDER = 1,
    IDENTITY_CONSUMER = 2,
    IDENTITY_ANONYMOUS = 3,
    FORWARDS_NO = 0,
    FORWARDS_YES = 1,
    FORWARDS_FIRST = 2,
    CONSUMER_ID = 1,
    CONSUMER_USERNAME = 2,
    CONSUMER_CUSTOM_ID = 3,
    FIELD_SUBJECT_DN = 1,
    FIELD_ISSUER_DN = 2,
    FIELD_SERIAL = 3,
    FIELD_SHA1 = 4,
    FIELD_SHA256 = 5,
    FIELD_PEM = 6,
    FIELD_CHAIN_PEM = 7,
    FIELD_X5T_S256 = 8,
    XFCC_ELEMENT_ONLY = 0,
    XFCC_ELEMENT_LAST = 1,
    XFCC_ELEMENT_FIRST = 2,
    HEADER_LINE_ALWAYS = 0,
    HEADER_LINE_FORWARDING = 1,
    HEADER_LINE_XFCC = 2,
    HEADER_LINE_TOO_LARGE = 3,
    HEADER_LINE_AMBIGUOUS = 4,
    HEADER_LINE_NOT_TEXT = 5,
    HEADER_LINE_UNREADABLE = 6,
    HEADER_LINE_FLAG = 7,
    VERDICT_NOT_VERIFIED = -1,
    VERDICT_NO_CONSUMER = -2,
    MAX_LISTED = 1000,
    LIST_IN_FORCE = 0,
    LIST_FAILED = 1,
    EVENT_CLIENT_HELLO = 0,
    EVENT_CERTIFICATE_REQUEST = 1,
    EVENT_CERTIFICATE_PRESENTED = 2,
    EVENT_FULL_CONNECTION = 3,
    EVENT_RESUMED_CONNECTION = 4,
    EVENT_DECISION_HIT = 5,
    EVENT_DECISION_MISS = 6,
    EVENT_CLIENT_HIT = 7,
    EVENT_CLIENT_MISS = 8,
    EVENT_VERDICT_HIT = 9,
    EVENT_VERDICT_MISS = 10,
    EVENT_STATUS_HIT = 11,
    EVENT_STATUS_MISS = 12,
    EVENT_DENIED_BY_BLOCK = 13,
    EVENT_DENIED_BY_LIST = 14,
    EVENT_DENIED_UNLISTED = 15,
    EVENT_TRUSTED_FOR_CLIENTS = 16,
    EVENT_TRUSTED_FOR_SERVERS = 17,
    EVENT_TRUSTED_FOR_BOTH = 18,
    EVENT_TRUSTED_FOR_OTHER = 19,
    EVENT_TRUSTED_FOR_ANY = 20,
    EVENT_SPOOL_WRITTEN = 21,
    EVENT_SPOOL_PRESENT = 22,
    EVENT_SPOOL_FULL = 23,
    EVENT_SPOOL_DROPPED = 24,
    EVENT_SPOOL_FAILED = 25,
    EVENTS = 26,
    PLAN_VARY = 1,
    PLAN_PRIVATE = 2,
    PLAN_XFCC = 4,
    PLAN_HEADER_CERTIFICATE = 8,
    PLAN_TOKEN = 16,
    PLAN_OR_TLS = 32,
    PLAN_PASSES_PREFLIGHT = 64,
    RELOAD_BUILDING = 0,
    RELOAD_IN_FORCE = 1,
    RELOAD_SAME = 2,
    RELOAD_SUPERSEDED = 3,
    RELOAD_UNSETTLED = 4,
    WATCH_SAME = 0,
    WATCH_UNSETTLED = 1,
    WATCH_CHANGED = 2,
    REVOCATION_SOURCE_OCSP = 1,
    REVOCATION_SOURCE_CRL = 2,
    REVOCATION_STATUS_UNKNOWN = 0,
    REVOCATION_STATUS_GOOD = 1,
    REVOCATION_STATUS_REVOKED = 2,
    REVOCATION_STATUS_PARSING = 3,
    REVOCATION_STATUS_PENDING = 4,
    TOKEN_PASS = 0,
    TOKEN_NO_TOKEN = 1,
    TOKEN_REFUSED = 2,
    TOKEN_FORBIDDEN = 3,
    TOKEN_NEEDS_KEYS = 4,
    TOKEN_NEEDS_INTROSPECTION = 5,
    TOKEN_PENDING = 6,
    CHALLENGE_TOKEN = 0,
    CHALLENGE_DPOP_PROOF = 1,
    CHALLENGE_DPOP_NONCE = 2,
    CHALLENGE_NONE = 3,
    TOKEN_TEXT_ISSUER = 1,
    TOKEN_TEXT_INTROSPECTION_ENDPOINT = 2,
    TOKEN_TEXT_CLIENT_ID = 3,
    TOKEN_TEXT_CLIENT_SECRET = 4,
    TOKEN_TEXT_UNAUTHORIZED = 5,
    TOKEN_TEXT_FORBIDDEN = 6,
    TOKEN_TEXT_CONFIGURED_ENDPOINT = 7,
    TOKEN_TEXT_DISCOVERY_URL = 8,
    TOKEN_TEXT_DOCUMENT_ISSUERS = 9,
    TOKEN_TEXT_DOCUMENTS_KEY = 10,
    TOKEN_TEXT_TOKEN_HEADER = 11,
    TOKEN_TEXT_JWKS_ENDPOINT = 12,
    TOKEN_TEXT_EXTRA_JWKS_URIS = 13,
    TOKEN_TEXT_CLIENT_CERTIFICATE = 14,
    TOKEN_TEXT_CLIENT_KEY = 15,
    CLIENT_AUTH_NONE = 0,
    CLIENT_AUTH_BASIC = 1,
    CLIENT_AUTH_POST = 2,
    CLIENT_AUTH_PRIVATE_KEY = 3,
    CLIENT_AUTH_TLS = 4,
    DPOP_OFF = 0,
    DPOP_OPTIONAL = 1,
    DPOP_STRICT = 2,
}
