# Tokens and header-cert-auth behind a proxy that ends TLS.

use lib 't/lib';
use TestMtls;
use TestToken;

# HAProxy ends TLS in front of nginx and sends the client certificate in a header, as a WAF or load balancer does.
my $haproxy = (grep { -x } map { "$_/haproxy" } split(/:/, $ENV{PATH}), "/usr/sbin")[0];

if (!$haproxy) {
    Test::More::plan(skip_all => "HAProxy is not installed");
    exit;
}

our $Http = init_http('trusted_ips = { "127.0.0.1" }');
our $Untrusted = init_http('trusted_ips = { "192.0.2.1" }');
our $Policy = token_policy(
    [ token => 'proof_of_possession_mtls: strict, proof_of_possession_mtls_from_header: {certificate_header_name: x-client-cert, certificate_header_format: base64_encoded, ca_certificates: [@ca-a], ssl_verify: true}' ],
) . expand_policy(<<'_EOC_');
- name: cert
  plugins:
  - name: header-cert-auth
    config: {ca_certificates: [@ca-a], certificate_header_name: x-client-cert, certificate_header_format: base64_encoded, skip_consumer_lookup: true}
_EOC_

our $Front = $Client . <<"_EOC_";
cat "\$PKI/server.crt" "\$PKI/server.key" >front.pem
cat >front.cfg <<END
defaults
    mode http
    timeout client 5s
    timeout server 5s
    timeout connect 5s
frontend front
    bind 127.0.0.1:\$FRONT_PORT ssl crt front.pem ca-file \$PKI/ca-a.crt verify optional ca-ignore-err all crt-ignore-err all
    http-request set-header X-Client-Cert %[ssl_c_der,base64]
    default_backend gateway
backend gateway
    server gateway 127.0.0.1:\$HTTP_PORT
END
$haproxy -f front.cfg -db >haproxy.log 2>&1 &
front=\$!
trap 'kill \$front' EXIT
for _ in \$(seq 100); do curl -sk -o body "https://127.0.0.1:\$FRONT_PORT/free" && break; sleep 0.05; done
through() {
    local path=\$1
    shift
    curl -sk --max-time 10 -o body -w '%{http_code} ' "\$@" "https://127.0.0.1:\$FRONT_PORT/\$path"
    echo "\$(cat body)"
}
bearer() { echo "Authorization: Bearer \$1"; }
_EOC_

$ENV{CLIENT} = "$TestToken::Dir/client";
open my $out, '>', $ENV{CLIENT} or die;
print $out $Front;
close $out;

run_blocks();

__DATA__

=== TEST 1: access() behind a proxy that ends TLS accepts a token with its certificate, and with no other
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client
. "$CLIENT"
a=$(token client-a ES256) b=$(token client-b ES256)
through to/token $(as client-a) -H "$(bearer "$a")"
through to/token $(as client-b) -H "$(bearer "$a")"
through to/token -H "$(bearer "$a")"
# HAProxy removes the client's own header.
through to/token -H "$(bearer "$a")" -H "X-Client-Cert: $(base64_of client-a)"
through to/token $(as client-b) -H "$(bearer "$b")"
through to/token $(as client-a)
--- client_out
200 in
401 {"message":"Unauthorized"}
401 {"message":"Unauthorized"}
401 {"message":"Unauthorized"}
401 {"message":"Unauthorized"}
401 {"message":"Unauthorized"}
--- error_log
[mtls] 401 token is bound to another certificate
[mtls] 401 token is bound to a certificate, and none was presented: the proxy sent a header without one
[mtls] 401 certificate not trusted: FAILED:unable to get local issuer certificate at depth 0, subject: "CN=client-b,O=Example"



=== TEST 2: access() behind a proxy that ends TLS enforces header-cert-auth
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client
. "$CLIENT"
for name in client-a client-b client-expired; do through to/cert $(as $name); done
through to/cert
through up/cert $(as client-a) -H "X_Client_Cert: x" | grep -i 'client.cert' | tr -d '\r'
--- client_out
200 in
401 {"message":"TLS certificate failed verification"}
401 {"message":"TLS certificate failed verification"}
401 {"message":"No required TLS certificate was sent"}
X-Client-Cert-Dn: CN=client-a,O=Example
--- error_log
[mtls] 401 no certificate: the proxy sent a header without one



=== TEST 3: access() behind an untrusted proxy refuses the header
--- user_files eval: $::Policy
--- http_config eval: $::Untrusted
--- config eval: $::Config
--- client
. "$CLIENT"
through to/cert $(as client-a)
through to/token $(as client-a) -H "$(bearer "$(token client-a ES256)")"
--- client_out
401 {"message":"No required TLS certificate was sent"}
401 {"message":"Unauthorized"}
--- error_log
[mtls] 401 no certificate: the header is from a peer that is not in trusted_ips
