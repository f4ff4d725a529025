# The log line for a client from which no certificate was requested has the reason.

use lib 't/lib';
use TestMtls;

our $Policy = <<'_EOC_';
_format_version: "3.0"
@{ca_certificates: ca-a}
routes:
- name: payments
  # The name is misspelled on purpose.
  snis: [paymnets.example.com, "*.partnres.example.com"]
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-a], skip_consumer_lookup: true}
- name: guests
  snis: [guests.example.com]
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-a], skip_consumer_lookup: true, anonymous: guest}
consumers:
- username: guest
_EOC_

our $Config = <<'_EOC_';
    location /t { access_by_lua_block { require("resty.mtls").access("payments") } content_by_lua_block { ngx.say("in") } }
    location /guests { access_by_lua_block { require("resty.mtls").access("guests") } content_by_lua_block { ngx.say("in") } }
_EOC_

run_blocks();

__DATA__

=== TEST 1: access() logs that no certificate was requested, the server name, and a similar name of the policy
--- policy eval: $::Policy
--- config eval: $::Config
--- client
code payments.example.com/t $(as client-a)
code a.partners.example.com/t
code other.test/t
tls sni= host=payments.example.com path=/t | facts status
grep -o '\[mtls\] .*, client:' "$ERROR_LOG" | sed 's/, client://'
--- client_out
401 application/json; charset=utf-8 {"message":"No required TLS certificate was sent"}
401 application/json; charset=utf-8 {"message":"No required TLS certificate was sent"}
401 application/json; charset=utf-8 {"message":"No required TLS certificate was sent"}
status=401
[mtls] 401 no certificate: none was requested: the client sent the server name 'payments.example.com', under which no route requests one, did you mean 'paymnets.example.com'?
[mtls] 401 no certificate: none was requested: the client sent the server name 'a.partners.example.com', under which no route requests one, did you mean '*.partnres.example.com'?
[mtls] 401 no certificate: none was requested: the client sent the server name 'other.test', under which no route requests one
[mtls] 401 no certificate: none was requested: the client sent no server name (SNI), and without one no route requests a certificate
--- no_error_log
[crit]
[alert]
presented none



=== TEST 2: access() logs that mtls.certificate() did not run
--- policy eval: $::Policy
--- http_config
    ssl_certificate_by_lua_block { local forgotten = true }
--- config eval: $::Config
--- client
code paymnets.example.com/t $(as client-a)
code guests.example.com/guests
grep -o '\[mtls\] .*, client:' "$ERROR_LOG" | sed 's/, client://' | sort -u
--- client_out
401 application/json; charset=utf-8 {"message":"No required TLS certificate was sent"}
200 text/plain in
[mtls] 401 no certificate: none was requested: mtls.certificate() did not run for this connection; call it in ssl_certificate_by_lua*, at http{} level and in servers that have one of their own
--- no_error_log
[crit]
[alert]
presented none



=== TEST 3: access() logs that mtls.client_hello() did not run, where the Host needs no certificate
--- user_files eval: ">>> policy.yaml\n" . TestMtls::expand_policy($::Policy)
--- http_config
    init_by_lua_block { require("resty.mtls").init { policy = "$TEST_NGINX_HTML_DIR/policy.yaml" } }
    ssl_certificate_by_lua_block { require("resty.mtls").certificate() }
--- config eval: $::Config
--- client
code other.test/t $(as client-a)
--- client_out
401 application/json; charset=utf-8 {"message":"No required TLS certificate was sent"}
--- error_log
[mtls] 401 no certificate: none was requested: ssl_client_hello_by_lua* did not run for this connection; put it at http{} level and call mtls.client_hello() in it



=== TEST 4: access() logs that a resumed session has no certificate
--- policy eval: $::Policy
--- config eval: $::Config
--- client
for version in 1.2 1.3; do
    openssl s_client -connect "127.0.0.1:$PORT" -servername paymnets.example.com "-tls${version/./_}" -sess_out session.pem -ign_eof \
        >first 2>&1 < <(printf 'GET /t HTTP/1.1\r\nHost: paymnets.example.com\r\nConnection: close\r\n\r\n')
    openssl s_client -connect "127.0.0.1:$PORT" -servername paymnets.example.com "-tls${version/./_}" -sess_in session.pem -ign_eof \
        >second 2>&1 < <(printf 'GET /t HTTP/1.1\r\nHost: paymnets.example.com\r\nConnection: close\r\n\r\n')
    grep -h '^HTTP\|^New,\|^Reused,' first second | tr -d '\r' | cut -d, -f1
done
grep -o '\[mtls\] .*, client:' "$ERROR_LOG" | sed 's/, client://'
--- client_out
New
HTTP/1.1 401 Unauthorized
Reused
HTTP/1.1 401 Unauthorized
New
HTTP/1.1 401 Unauthorized
Reused
HTTP/1.1 401 Unauthorized
[mtls] 401 no certificate: the client presented none
[mtls] 401 no certificate: the TLS session that the client resumed has none: the client presented none when it was made, or none was requested
[mtls] 401 no certificate: the client presented none
[mtls] 401 no certificate: the TLS session that the client resumed has none: the client presented none when it was made, or none was requested
--- no_error_log
[crit]
[alert]
