# SPIFFE trust domains: an SVID is verified by the CAs of its own trust domain only.

use lib 't/lib';
use TestMtls;

our $Policy = <<'_EOC_';
_format_version: "3.0"
@{ca_certificates: ca-a ca-b}
trust_domains:
- {name: a.example, ca_certificates: [@ca-a]}
- {name: b.example, ca_certificates: [@ca-b]}
routes:
- name: a
  snis: [a.test]
  plugins: [{name: mtls-auth, config: {trust_domains: [a.example], revocation_check_mode: SKIP, skip_consumer_lookup: true}}]
- name: both
  snis: [a.test]
  plugins: [{name: mtls-auth, config: {trust_domains: [a.example, b.example], revocation_check_mode: SKIP, skip_consumer_lookup: true}}]
- name: and-cas
  snis: [a.test]
  plugins: [{name: mtls-auth, config: {trust_domains: [a.example], ca_certificates: [@ca-a, @ca-b], revocation_check_mode: SKIP, skip_consumer_lookup: true}}]
- name: rules
  snis: [a.test]
  plugins:
  - {name: mtls-auth, config: {trust_domains: [a.example, b.example], revocation_check_mode: SKIP, skip_consumer_lookup: true}}
  - {name: client-cert-acl, config: {allow: [{name: payments, spiffe_id: ["spiffe://a.example/ns/payments/*", "spiffe://b.example/ns/other"]}]}}
- name: no-b
  snis: [a.test]
  plugins:
  - {name: mtls-auth, config: {trust_domains: [a.example, b.example], revocation_check_mode: SKIP, skip_consumer_lookup: true}}
  - {name: client-cert-acl, config: {deny: [{name: b, trust_domain: b.example}]}}
- name: xfcc
  snis: [a.test]
  plugins:
  - {name: mtls-auth, config: {trust_domains: [a.example], revocation_check_mode: SKIP, skip_consumer_lookup: true}}
  - {name: client-cert-headers, config: {dialects: [xfcc]}}
_EOC_

our $Config = <<'_EOC_';
    location /to/ {
        access_by_lua_block { require("resty.mtls").access(ngx.var.uri:sub(5)) }
        content_by_lua_block {
            local client = require("resty.mtls").client()
            local anchor = client.anchor
            ngx.say(client.spiffe_id, " of ", client.trust_domain, " by ", anchor.subject_dn, " ", anchor.id and #anchor.id)
            local xfcc = ngx.var.http_x_forwarded_client_cert
            if xfcc then
                ngx.say(xfcc:match("URI=[^;]*"))
            end
        }
    }
_EOC_

# try CLIENT ROUTES: the status for each route, or what the gateway knows of the client
our $Client = <<'_EOC_';
try() {
    local route status
    for route in $2; do
        status=$(get "a.test/to/$route" $(as "$1") -o body -w '%{http_code}')
        [ "$status" != 200 ] || status=$(cat body)
        echo "$1 $route: $status"
    done
}
reasons() { grep -o "\[mtls\] 40[13] .*, subject" "$ERROR_LOG" | sed 's/, subject$//' | sort -u; }
_EOC_

run_blocks();

__DATA__

=== TEST 1: an SVID is verified by the CAs of its own trust domain only, also where another CA of the route issued it
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
for client in svid-a svid-b svid-a-of-b svid-b-of-a svid-c svid-with-dns client-a client-b; do
    try "$client" "a both and-cas"
done
reasons
_EOC_
--- client_out
svid-a a: spiffe://a.example/ns/payments/sa/api of a.example by CN=Test CA-A,O=Example Lab,C=CZ 36
svid-a both: spiffe://a.example/ns/payments/sa/api of a.example by CN=Test CA-A,O=Example Lab,C=CZ 36
svid-a and-cas: spiffe://a.example/ns/payments/sa/api of a.example by CN=Test CA-A,O=Example Lab,C=CZ 36
svid-b a: 401
svid-b both: spiffe://b.example/ns/payments/sa/api of b.example by CN=Test CA-B,O=Example Lab,C=CZ 36
svid-b and-cas: 401
svid-a-of-b a: 401
svid-a-of-b both: 401
svid-a-of-b and-cas: 401
svid-b-of-a a: 401
svid-b-of-a both: 401
svid-b-of-a and-cas: 401
svid-c a: 401
svid-c both: 401
svid-c and-cas: 401
svid-with-dns a: spiffe://a.example/ns/payments/sa/api of a.example by CN=Test CA-A,O=Example Lab,C=CZ 36
svid-with-dns both: spiffe://a.example/ns/payments/sa/api of a.example by CN=Test CA-A,O=Example Lab,C=CZ 36
svid-with-dns and-cas: spiffe://a.example/ns/payments/sa/api of a.example by CN=Test CA-A,O=Example Lab,C=CZ 36
client-a a: 401
client-a both: 401
client-a and-cas: nil of nil by CN=Test CA-A,O=Example Lab,C=CZ 36
client-b a: 401
client-b both: 401
client-b and-cas: nil of nil by CN=Test CA-B,O=Example Lab,C=CZ 36
[mtls] 401 FAILED:unable to get local issuer certificate at depth 0
[mtls] 401 not an X.509-SVID: it has no SPIFFE ID
[mtls] 401 the trust domain 'b.example' is none of the route's
[mtls] 401 the trust domain 'c.example' is none of the route's
--- no_error_log
[alert]



=== TEST 2: a certificate with a SPIFFE ID that breaks a rule of X.509-SVID is refused, also where its CA is one of the route's
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
for client in two and-url no-path slash upper scheme dots escaped query port user ca key-cert-sign crl-sign; do
    try "svid-$client" "a and-cas"
done
reasons
_EOC_
--- client_out
svid-two a: 401
svid-two and-cas: 401
svid-and-url a: 401
svid-and-url and-cas: 401
svid-no-path a: 401
svid-no-path and-cas: 401
svid-slash a: 401
svid-slash and-cas: 401
svid-upper a: 401
svid-upper and-cas: 401
svid-scheme a: 401
svid-scheme and-cas: 401
svid-dots a: 401
svid-dots and-cas: 401
svid-escaped a: 401
svid-escaped and-cas: 401
svid-query a: 401
svid-query and-cas: 401
svid-port a: 401
svid-port and-cas: 401
svid-user a: 401
svid-user and-cas: 401
svid-ca a: 401
svid-ca and-cas: 401
svid-key-cert-sign a: 401
svid-key-cert-sign and-cas: 401
svid-crl-sign a: 401
svid-crl-sign and-cas: 401
[mtls] 401 not an X.509-SVID: it has several URI names, expected one
[mtls] 401 not an X.509-SVID: it may sign certificates or CRLs
[mtls] 401 not an X.509-SVID: the SPIFFE ID does not begin with 'spiffe://' in lower case
[mtls] 401 not an X.509-SVID: the SPIFFE ID has a '.' or '..' segment
[mtls] 401 not an X.509-SVID: the SPIFFE ID has a path with a character other than letters, digits, '-', '.' and '_'
[mtls] 401 not an X.509-SVID: the SPIFFE ID has a trust domain with a character other than a-z, 0-9, '-', '.' and '_'
[mtls] 401 not an X.509-SVID: the SPIFFE ID has an empty path segment
[mtls] 401 not an X.509-SVID: the SPIFFE ID has no path, so it is that of a trust domain and not of a workload
--- no_error_log
[alert]



=== TEST 3: client-cert-acl spiffe_id and trust_domain hold for verified SVIDs
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . 'for client in svid-a svid-b; do try "$client" "rules no-b"; done; reasons'
--- client_out
svid-a rules: spiffe://a.example/ns/payments/sa/api of a.example by CN=Test CA-A,O=Example Lab,C=CZ 36
svid-a no-b: spiffe://a.example/ns/payments/sa/api of a.example by CN=Test CA-A,O=Example Lab,C=CZ 36
svid-b rules: 403
svid-b no-b: 403
[mtls] 403 client-cert-acl: deny rule 'b' holds
[mtls] 403 client-cert-acl: no allow rule holds (payments)
--- no_error_log
[alert]



=== TEST 4: xfcc has the URI of the SVID
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . 'try svid-a xfcc'
--- client_out
svid-a xfcc: spiffe://a.example/ns/payments/sa/api of a.example by CN=Test CA-A,O=Example Lab,C=CZ 36
URI=spiffe://a.example/ns/payments/sa/api
--- no_error_log
[alert]



=== TEST 5: a bundle is a file in PEM or in the JSON of SPIFFE, and its change is put in force
--- policy
_format_version: "3.0"
trust_domains:
- {name: a.example, bundle: a.pem}
- {name: b.example, bundle: b.json}
routes:
- name: both
  snis: [a.test]
  plugins: [{name: mtls-auth, config: {trust_domains: [a.example, b.example], revocation_check_mode: SKIP, skip_consumer_lookup: true}}]
--- user_files eval
">>> a.pem\n" . TestMtls::pki_file("ca-a.crt") . "\n>>> b.json\n{\"keys\": []}\n"
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
become() { wait_until is "$1" "$2"; try "$1" both; }
is() { try "$1" both | grep -q "$2"; }
# bundle CA...: as SPIRE writes it, with a key for JWT-SVIDs
bundle() {
    local ca
    echo '{"keys": [{"use": "jwt-svid", "kty": "EC", "kid": "x", "crv": "P-256", "x": "AA", "y": "AA"}'
    for ca; do
        echo ", {\"use\": \"x509-svid\", \"kty\": \"EC\", \"crv\": \"P-256\", \"x\": \"AA\", \"y\": \"AA\","
        echo "  \"x5c\": [\"$(openssl x509 -in "$PKI/$ca.crt" -outform DER | base64 -w 0)\"]}"
    done
    echo '], "spiffe_sequence": 7, "spiffe_refresh_hint": 300}'
}
try svid-a both
try svid-b both
bundle ca-c ca-b > new && mv new b.json
become svid-b " by "
bundle ca-c > new && mv new b.json
become svid-b 401
cp "$PKI/ca-b.crt" a.pem
become svid-a 401
try svid-a-of-b both
echo '{"keys": [{"use": "x509-svid", "x5c": []}]}' > new && mv new b.json
wait_until grep -q "policy not reloaded" "$ERROR_LOG"
grep -o "policy not reloaded: .*x5c.*in base64" "$ERROR_LOG" | sed 's|/[^ ]*/policy|policy|'
try svid-a-of-b both
_EOC_
--- client_out
svid-a both: spiffe://a.example/ns/payments/sa/api of a.example by CN=Test CA-A,O=Example Lab,C=CZ nil
svid-b both: 401
svid-b both: spiffe://b.example/ns/payments/sa/api of b.example by CN=Test CA-B,O=Example Lab,C=CZ nil
svid-b both: 401
svid-a both: 401
svid-a-of-b both: spiffe://a.example/ns/payments/sa/api of a.example by CN=Test CA-B,O=Example Lab,C=CZ nil
policy not reloaded: policy.yaml:4:29: trust_domains[1].bundle: 'b.json': keys[0].x5c has 0 certificates, expected one in base64
svid-a-of-b both: spiffe://a.example/ns/payments/sa/api of a.example by CN=Test CA-B,O=Example Lab,C=CZ nil
--- no_error_log
[alert]



=== TEST 6: a bundle is fetched from a URL, refreshed by its hint, kept in state_dir, and serves while the URL fails
--- http_config
    lua_ssl_trusted_certificate $TEST_NGINX_PKI/server-ca.crt;
    lua_shared_dict mtls 1m;
    init_by_lua_block {
        require("resty.mtls").init {
            policy = "$TEST_NGINX_HTML_DIR/policy.yaml",
            state_dir = os.execute("mkdir -p -m 0700 $TEST_NGINX_HTML_DIR/state") and "$TEST_NGINX_HTML_DIR/state",
            fetch_allow = { "127.0.0.0/8" },
        }
    }
    init_worker_by_lua_block { require("resty.mtls").init_worker() }
--- policy eval
<<"_EOC_"
_format_version: "3.0"
trust_domains: [{name: b.example, bundle_url: "https://localhost:$ENV{TEST_NGINX_TLS_PORT}/bundle"}]
routes:
- name: both
  snis: [a.test]
  plugins: [{name: mtls-auth, config: {trust_domains: [b.example], revocation_check_mode: SKIP, skip_consumer_lookup: true}}]
_EOC_
--- config eval
$::Config . '    location = /bundle { alias $TEST_NGINX_HTML_DIR/bundle.json; }'
--- worker_processes: 2
--- client eval
$::Client . <<'_EOC_'
become() { wait_until is "$1" "$2"; try "$1" both; }
is() { try "$1" both | grep -q "$2"; }
bundle() {
    echo "{\"spiffe_sequence\": $1, \"spiffe_refresh_hint\": 1, \"keys\": [{\"use\": \"x509-svid\", \"kty\": \"EC\","
    echo "\"x5c\": [\"$(openssl x509 -in "$PKI/$2.crt" -outform DER | base64 -w 0)\"]}]}"
}
logged() { grep -o "bundle not updated.*" "$ERROR_LOG" | sed "s/:$PORT/:PORT/; s/, context.*//" | sort -u; }
wait_until_logged() { wait_until grep -q "bundle not updated.*$1" "$ERROR_LOG"; logged | grep "$1"; }
chown "$(ps -o user= -p "$(pgrep -P "$(cat "$PID_FILE")" | head -n 1)")" state
try svid-b both
bundle 5 ca-b > new && mv new bundle.json
become svid-b " by "
stat -c '%a %n' state/bundle-* | sed 's/-[0-9a-f]*.json/-HASH.json/'
bundle 6 ca-c > new && mv new bundle.json
become svid-b 401
bundle 7 ca-b > new && mv new bundle.json
wait_until grep -q '"spiffe_sequence": *7' state/bundle-*
# A worker that has not read bundle 6 yet would let the client in by bundle 5; each looks for changes once a second.
sleep 2
become svid-b " by "
# An older one, none, and no server
bundle 4 ca-c > new && mv new bundle.json
wait_until_logged "lower"
bundle 8 ca-c | sed 's/"spiffe_sequence": 8, //' > new && mv new bundle.json
wait_until_logged "no spiffe_sequence"
rm bundle.json
wait_until_logged "status"
try svid-b both
kill -HUP "$(cat "$PID_FILE")"
become svid-b " by "
_EOC_
--- client_out
svid-b both: 401
svid-b both: spiffe://b.example/ns/payments/sa/api of b.example by CN=Test CA-B,O=Example Lab,C=CZ nil
600 state/bundle-HASH.json
svid-b both: 401
svid-b both: spiffe://b.example/ns/payments/sa/api of b.example by CN=Test CA-B,O=Example Lab,C=CZ nil
bundle not updated, the last one serves: https://localhost:PORT/bundle: its spiffe_sequence 4 is lower than 7, that of the bundle in use
bundle not updated, the last one serves: https://localhost:PORT/bundle: it has no spiffe_sequence, and the bundle in use has 7
bundle not updated, the last one serves: https://localhost:PORT/bundle: status 404
svid-b both: spiffe://b.example/ns/payments/sa/api of b.example by CN=Test CA-B,O=Example Lab,C=CZ nil
svid-b both: spiffe://b.example/ns/payments/sa/api of b.example by CN=Test CA-B,O=Example Lab,C=CZ nil
--- no_error_log
[alert]
