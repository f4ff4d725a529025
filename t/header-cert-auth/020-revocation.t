# The revocation status of certificates in headers, and of those that tokens are bound to.

use lib 't/lib';
use TestMtls;
use TestToken ();
use TestRevocation;

our $Http = init_http('trusted_ips = { "127.0.0.1" }, fetch_allow = { "127.0.0.0/8" }');

my $fields = 'ca_certificates: [@ca-a, @ca-a-int], certificate_header_name: X-Client-Cert,'
    . ' certificate_header_format: url_encoded, http_timeout: 2500';

our $Policy = ">>> policy.yaml\n" . expand_policy(<<"_EOC_");
_format_version: "3.0"
\@{ca_certificates: ca-a ca-a-int}
routes:
- {name: skip, plugins: [{name: header-cert-auth, config: {$fields, skip_consumer_lookup: true, revocation_check_mode: SKIP}}]}
- {name: ignore, plugins: [{name: header-cert-auth, config: {$fields, skip_consumer_lookup: true}}]}
- {name: strict, plugins: [{name: header-cert-auth, config: {$fields, skip_consumer_lookup: true, revocation_check_mode: STRICT}}]}
- {name: token, plugins: [{name: openid-connect, config: {issuer: "$ENV{PROVIDER}/realms/a", auth_methods: [bearer], proof_of_possession_mtls: strict, proof_of_possession_mtls_from_header: {$fields, revocation_check_mode: STRICT}}}]}
- {name: loose, plugins: [{name: openid-connect, config: {issuer: "$ENV{PROVIDER}/realms/a", auth_methods: [bearer], proof_of_possession_mtls: strict, proof_of_possession_mtls_from_header: {$fields}}}]}
plugins:
- name: tls-handshake-modifier
_EOC_

$ENV{CLIENT} = "$TestToken::Dir/client";
open my $out, '>', $ENV{CLIENT} or die;
print $out $TestToken::Client;
close $out;

our $Cases = $Client . <<'_EOC_';
status() {
    printf 'X-Client-Cert: ' >line
    perl -0777 -pe 's/([^A-Za-z0-9._~-])/sprintf "%%%02X", ord $1/ge' "$REV/$2.crt" >>line
    local route=$1
    shift 2
    curl -s -o body -w '%{http_code}' -H @line "$@" "http://127.0.0.1:$HTTP_PORT/to/$route"
}
_EOC_

run_blocks();

__DATA__

=== TEST 1: access() checks the revocation status of a certificate in a header, and caches it
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Cases . <<'_EOC_'
for case in good revoked crl crl-revoked down nowhere; do
    echo "$case $(status skip $case) $(status ignore $case) $(status strict $case)"
done
: > "$REV/requests"
for _ in 1 2 3; do status strict good; echo; done
status ignore revoked; echo
fetches
_EOC_
--- client_out
good 200 200 200
revoked 200 401 401
crl 200 200 200
crl-revoked 200 401 401
down 200 200 401
nowhere 200 200 401
200
200
200
401
--- error_log
[mtls] 401 FAILED:certificate revoked at depth 0
[mtls] 401 FAILED:unable to get certificate CRL at depth 0
--- no_error_log
[crit]



=== TEST 2: access() checks the revocation status of the certificate that a token is bound to, after it compared the two
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Cases . <<'_EOC_'
. "$CLIENT"
bound() { echo "Authorization: Bearer $(control forge "kind=good&x5t=$(PKI=$REV x5t "$1")")"; }
token=$(bound good)
status token revoked -H "$token"; echo
fetches
for case in good revoked down nowhere; do
    token=$(bound $case)
    echo "$case $(status token $case -H "$token") $(status loose $case -H "$token")" \
        "$(request token "" $(certificate_of $case) -H "$token" | cut -c1-3) $(request loose "" $(certificate_of $case) -H "$token" | cut -c1-3)"
done
_EOC_
--- client_out
401
good 200 200 200 200
revoked 401 401 401 401
down 401 200 401 200
nowhere 401 200 401 200
--- error_log
[mtls] 401 token is bound to another certificate
[mtls] 401 certificate not trusted: FAILED:certificate revoked at depth 0
[mtls] 401 certificate not trusted: FAILED:unable to get certificate CRL at depth 0
--- no_error_log
[crit]
