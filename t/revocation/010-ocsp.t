# Revocation status by OCSP, with real responders.

use lib 't/lib';
use TestMtls;
use TestRevocation;

our $Policy = revocation_policy(
    [skip => 'revocation_check_mode: SKIP'],
    [ignore => 'revocation_check_mode: IGNORE_CA_ERROR'],
    [strict => 'revocation_check_mode: STRICT'],
);

our $Http = init_http('fetch_allow = { "127.0.0.0/8" }');

run_blocks();

__DATA__

=== TEST 1: access() obeys good and revoked in each mode
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
table good revoked delegated server server-revoked second second-revoked get get-revoked
fetches
grep -o '\[mtls\] 401 .*, issuer' "$ERROR_LOG" | sort | uniq -c | sed 's/^ *//'
_EOC_
--- client_out
good: 200 200 200
revoked: 200 401 401
delegated: 200 200 200
server: 200 200 200
server-revoked: 200 401 401
second: 200 200 200
second-revoked: 200 401 401
get: 200 200 200
get-revoked: 200 401 401
POST /good/good
POST /revoked/good
POST /delegated/delegated
POST /second/error
GET /second/error
POST /second/good
POST /second-revoked/error
GET /second-revoked/error
POST /second-revoked/good
POST /get/get-only
GET /get/get-only
POST /get-revoked/get-only
GET /get-revoked/get-only
2 [mtls] 401 FAILED:certificate revoked at depth 0, subject: "CN=get-revoked", issuer
2 [mtls] 401 FAILED:certificate revoked at depth 0, subject: "CN=revoked", issuer
2 [mtls] 401 FAILED:certificate revoked at depth 0, subject: "CN=second-revoked", issuer
2 [mtls] 401 FAILED:certificate revoked at depth 0, subject: "CN=server-revoked", issuer
--- no_error_log
[crit]
[alert]



=== TEST 2: access() without a definite answer refuses in STRICT and allows in IGNORE_CA_ERROR
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
table unknown undelegated expired wrong-signer another down slow garbage huge error nowhere odd
# Each once: a source that fails is probed every 5 seconds.
fetches | awk '!seen[$0]++'
echo
grep -o '\[mtls\] 401 .*, subject: "[^"]*"' "$ERROR_LOG"
echo
grep -o '\[mtls\] revocation status unknown: .*' "$ERROR_LOG" | sed 's/, c[a-z]*: .*//; s/127.0.0.1:[0-9]*/HOST/g; s/port [0-9]*/port PORT/; s/was [0-9]* s/was SECONDS s/; s/\(verify error\):* .*/\1/'
_EOC_
--- client_out
unknown: 200 200 401
undelegated: 200 200 401
expired: 200 200 401
wrong-signer: 200 200 401
another: 200 200 401
down: 200 200 401
slow: 200 200 401
garbage: 200 200 401
huge: 200 200 401
error: 200 200 401
nowhere: 200 200 401
odd: 200 200 401
POST /unknown/good
POST /undelegated/undelegated
POST /expired/expired
POST /wrong-signer/wrong-signer
POST /another/another
POST /slow/slow
POST /garbage/garbage
POST /huge/huge
GET /huge/huge
POST /error/error
GET /error/error

[mtls] 401 FAILED:unable to get certificate CRL at depth 0, subject: "CN=unknown"
[mtls] 401 FAILED:unable to get certificate CRL at depth 0, subject: "CN=undelegated"
[mtls] 401 FAILED:unable to get certificate CRL at depth 0, subject: "CN=expired"
[mtls] 401 FAILED:unable to get certificate CRL at depth 0, subject: "CN=wrong-signer"
[mtls] 401 FAILED:unable to get certificate CRL at depth 0, subject: "CN=another"
[mtls] 401 FAILED:unable to get certificate CRL at depth 0, subject: "CN=down"
[mtls] 401 FAILED:unable to get certificate CRL at depth 0, subject: "CN=slow"
[mtls] 401 FAILED:unable to get certificate CRL at depth 0, subject: "CN=garbage"
[mtls] 401 FAILED:unable to get certificate CRL at depth 0, subject: "CN=huge"
[mtls] 401 FAILED:unable to get certificate CRL at depth 0, subject: "CN=error"
[mtls] 401 FAILED:unable to get certificate CRL at depth 0, subject: "CN=nowhere"
[mtls] 401 FAILED:unable to get certificate CRL at depth 0, subject: "CN=odd"

[mtls] revocation status unknown: http://HOST/unknown/good: unusable response: OCSP response has the certificate status unknown
[mtls] revocation status unknown: http://HOST/undelegated/undelegated: unusable response: OCSP response is not signed by the issuer or a responder of the issuer: missing ocspsigning usage
[mtls] revocation status unknown: http://HOST/expired/expired: unusable response: OCSP response nextUpdate was SECONDS s ago
[mtls] revocation status unknown: http://HOST/wrong-signer/wrong-signer: unusable response: OCSP response is not signed by the issuer or a responder of the issuer: certificate verify error
[mtls] revocation status unknown: http://HOST/another/another: unusable response: OCSP response has no status of this certificate
[mtls] revocation status unknown: http://HOST/: shared_cache.get: http.request: http://HOST/: cannot connect to 127.0.0.1 port PORT: connection refused
[mtls] revocation status unknown: http://HOST/slow/slow: shared_cache.get: http.request: http://HOST/slow/slow: timeout
[mtls] revocation status unknown: http://HOST/garbage/garbage: unusable response: OCSP response is unreadable: too long
[mtls] revocation status unknown: http://HOST/huge/huge: shared_cache.get: http.request: http://HOST/huge/huge: body is over 65536 bytes
[mtls] revocation status unknown: http://HOST/error/error: shared_cache.get: status 500
--- no_error_log
[crit]
[alert]



=== TEST 3: access() connects to no loopback address without fetch_allow
--- user_files eval: $::Policy
--- http_config eval: init_http('')
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
table good revoked server-revoked crl-revoked
fetches
_EOC_
--- client_out
good: 200 200 401
revoked: 200 200 401
server-revoked: 200 200 401
crl-revoked: 200 200 401
--- error_log
127.0.0.1 is a loopback, link-local or other special address that fetch_allow does not name



=== TEST 4: access() takes the issuer from the policy for a client that sends only its leaf
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
table leaf-only leaf-only-revoked
fetches
_EOC_
--- client_out
leaf-only: 200 200 200
leaf-only-revoked: 200 401 401
POST /leaf-only/good
POST /leaf-only-revoked/good
--- no_error_log
[crit]
[alert]



=== TEST 5: access() shares one fetch between workers
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- worker_processes: 2
--- client eval
$::Client . <<'_EOC_'
# Ten requests at once while the responder is slow, then more until both workers have answered.
for _ in 1 2 3 4 5 6 7 8 9 10; do request strict shared -o "body.$_" >> codes & done
wait
fold -w3 codes | sort | uniq -c | sed 's/^ *//'
for _ in {1..100}; do
    get a.test/worker/strict $(certificate_of shared) >> workers
    [ "$(sort -u workers | wc -l)" = 2 ] && break
done
sort -u workers | wc -l
grep -vc '^[0-9]*$' workers
fetches
_EOC_
--- client_out
10 200
2
0
POST /shared/good



=== TEST 6: access() retries a failed responder later, not at once
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
for _ in 1 2 3 4; do request strict error; echo; done
fetches
has_fetches() { [ "$(fetches | wc -l)" -ge "$1" ]; }
wait_until has_fetches 4
request strict error; echo
fetches
_EOC_
--- client_out
401
401
401
401
POST /error/error
GET /error/error
401
POST /error/error
GET /error/error
POST /error/error
GET /error/error
--- error_log
FAILED:unable to get certificate CRL at depth 0
--- no_error_log
[crit]



=== TEST 7: access() on a live connection uses an answer until cert_cache_ttl, and then fetches another
--- user_files eval
TestRevocation::revocation_policy([strict => 'revocation_check_mode: STRICT, cert_cache_ttl: 3'])
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
one_connection $REV/good.crt $REV/good.key strict strict 4 strict strict
fetches
_EOC_
--- client_out
strict 200 in
strict 200 in
strict 200 in
strict 200 in
POST /good/good
POST /good/good



=== TEST 8: access() fetches the next answer before the current one expires
--- user_files eval
TestRevocation::revocation_policy([strict => 'revocation_check_mode: STRICT, cert_cache_ttl: 10'])
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
request strict good; echo
sleep 8.5
request strict good; echo
for _ in $(seq 50); do [ "$(fetches | wc -l)" = 2 ] && break; sleep 0.1; done
fetches
sleep 2.5
request strict good; echo
fetches
_EOC_
--- client_out
200
200
POST /good/good
POST /good/good
200
POST /good/good
POST /good/good



=== TEST 9: access() keeps the cached status of a client that sends one more certificate
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
request ignore revoked; echo
cat "$REV/revoked.crt" "$PKI/client-b.crt" >junk.crt
get a.test/to/ignore --cert junk.crt --key "$REV/revoked.key" -o body -w '%{http_code}\n'
fetches
_EOC_
--- client_out
401
401
POST /revoked/good
--- error_log
[mtls] 401 FAILED:certificate revoked at depth 0, subject: "CN=revoked"



=== TEST 10: access() that waited for an answer decides by its own route after a reload
--- user_files eval
TestRevocation::revocation_policy([strict => 'revocation_check_mode: STRICT']) . ">>> other.yaml\n" . TestMtls::expand_policy(<<'_EOC_')
_format_version: "3.0"
@{ca_certificates: ca-b}
routes:
- name: open
- name: strict
  snis: [a.test]
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-b], skip_consumer_lookup: true}
_EOC_
--- http_config eval: $::Http
--- config eval
$::Config . <<'_EOC_'
    location /reload {
        content_by_lua_block { ngx.say(require("resty.mtls").reload("$TEST_NGINX_HTML_DIR/other.yaml")) }
    }
_EOC_
--- client eval
$::Client . <<'_EOC_'
request strict slow >first &
for _ in $(seq 50); do [ "$(fetches | wc -l)" = 1 ] && break; sleep 0.1; done
curl -s "http://127.0.0.1:$HTTP_PORT/reload"
wait
cat first; echo
_EOC_
--- client_out
true
401
--- error_log
[mtls] 401 FAILED:unable to get local issuer certificate at depth 0
