# Revocation status by CRLs that are fetched, and by those of the policy.

use lib 't/lib';
use TestMtls;
use TestRevocation;

our $Policy = revocation_policy(
    [skip => 'revocation_check_mode: SKIP'],
    [ignore => 'revocation_check_mode: IGNORE_CA_ERROR'],
    [strict => 'revocation_check_mode: STRICT'],
);

sub local_policy {
    my (@files) = @_;
    my $crls = "crls: [" . join(", ", map { "$Dir/$_" } @files) . "]";

    return revocation_policy(
        [skip => "revocation_check_mode: SKIP"],
        [ignore => "revocation_check_mode: IGNORE_CA_ERROR, $crls"],
        [strict => "revocation_check_mode: STRICT, $crls"],
    );
}

our $Both = local_policy("ca-a.crl", "ca-a-int.crl");
our $RootOnly = local_policy("ca-a.crl");
our $Expired = local_policy("expired.crl");
our $Http = init_http('fetch_allow = { "127.0.0.0/8" }');

# A CRL that lists the intermediate CA and covers no client below it.
our $Intermediate = policy("ca-a", route("a", "a.test",
    mtls_auth("ca-a", "skip_consumer_lookup: true, crls: [" . make_crl("int-revoked", "ca-a", "ca-a-int") . "]")));

run_blocks();

__DATA__

=== TEST 1: access() fetches CRLs in DER and in PEM
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
table crl crl-revoked pem pem-revoked crl-second-revoked
fetches
_EOC_
--- client_out
crl: 200 200 200
crl-revoked: 200 401 401
pem: 200 200 200
pem-revoked: 200 401 401
crl-second-revoked: 200 401 401
GET /crl/crl
GET /crl-revoked/crl
GET /pem/crl-pem
GET /pem-revoked/crl-pem
GET /crl-second-revoked/error
GET /crl-second-revoked/crl
--- error_log
FAILED:certificate revoked at depth 0, subject: "CN=crl-revoked"
FAILED:certificate revoked at depth 0, subject: "CN=pem-revoked"



=== TEST 2: access() ignores a CRL that is missing, invalid, expired or of another signer
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
table crl-expired crl-wrong-signer crl-error crl-garbage crl-huge
fetches
grep -o '\[mtls\] revocation status unknown: .*' "$ERROR_LOG" | sed 's/, c[a-z]*: .*//; s/127.0.0.1:[0-9]*/HOST/g; s/was [0-9]* s/was SECONDS s/'
_EOC_
--- client_out
crl-expired: 200 200 401
crl-wrong-signer: 200 200 401
crl-error: 200 200 401
crl-garbage: 200 200 401
crl-huge: 200 200 401
GET /crl-expired/crl-expired
GET /crl-wrong-signer/crl-wrong-signer
GET /crl-error/error
GET /crl-garbage/garbage
GET /crl-huge/huge
[mtls] revocation status unknown: http://HOST/crl-expired/crl-expired: unusable response: CRL of 'CN=Test CA-A,O=Example Lab,C=CZ': nextUpdate was SECONDS s ago
[mtls] revocation status unknown: http://HOST/crl-wrong-signer/crl-wrong-signer: unusable response: CRL of 'CN=Test CA-A,O=Example Lab,C=CZ': bad signature
[mtls] revocation status unknown: http://HOST/crl-error/error: shared_cache.get: status 500
[mtls] revocation status unknown: http://HOST/crl-garbage/garbage: unusable response: not a readable CRL: its DER is malformed or cut
[mtls] revocation status unknown: http://HOST/crl-huge/huge: shared_cache.get: http.request: http://HOST/crl-huge/huge: body is over 16777216 bytes
--- no_error_log
[crit]
[alert]



=== TEST 3: access() fetches the CRL only when OCSP gives no status
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
table fallback fallback-revoked fallback-unknown-revoked preferred
fetches
_EOC_
--- client_out
fallback: 200 200 200
fallback-revoked: 200 401 401
fallback-unknown-revoked: 200 401 401
preferred: 200 200 200
POST /fallback/error
GET /fallback/error
GET /fallback/crl
POST /fallback-revoked/error
GET /fallback-revoked/error
GET /fallback-revoked/crl
POST /fallback-unknown-revoked/good
GET /fallback-unknown-revoked/crl
POST /preferred/good
--- no_error_log
[crit]
[alert]



=== TEST 4: access() checks the whole chain by CRLs of the policy, without the network
--- user_files eval: $::Both
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
table local local-revoked local-int local-int-revoked crl-revoked
fetches
_EOC_
--- client_out
local: 200 200 200
local-revoked: 200 401 401
local-int: 200 200 200
local-int-revoked: 200 401 401
crl-revoked: 200 401 401
--- error_log
FAILED:certificate revoked at depth 0, subject: "CN=local-int-revoked"
--- no_error_log
[crit]



=== TEST 5: access() queries the sources that the certificate names where the CRLs of the policy do not cover it
--- user_files eval: $::RootOnly
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
table local local-int local-int-revoked leaf-only leaf-only-revoked
fetches
_EOC_
--- client_out
local: 200 200 200
local-int: 200 200 401
local-int-revoked: 200 200 401
leaf-only: 200 200 200
leaf-only-revoked: 200 401 401
POST /leaf-only/good
POST /leaf-only-revoked/good
--- no_error_log
[crit]
[alert]



=== TEST 6: access() takes an expired CRL as proof of revocation only
--- user_files eval: $::Expired
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
table local local-revoked local-online-revoked
fetches
_EOC_
--- client_out
local: 200 200 401
local-revoked: 200 401 401
local-online-revoked: 200 401 401
POST /local-online-revoked/good
--- error_log
FAILED:CRL has expired at depth 0, subject: "CN=local"



=== TEST 7: access() refuses the clients of a revoked CA, though no CRL covers the clients themselves
--- policy eval: $::Intermediate
--- config
    location /t {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block { ngx.say("in") }
    }
--- client
get a.test/t $(as client-a)
code a.test/t $(as client-int)
--- client_out
in
401 application/json; charset=utf-8 {"message":"TLS certificate failed verification"}
--- error_log
[mtls] 401 FAILED:certificate revoked at depth 1, subject: "CN=client-int,O=Example"
