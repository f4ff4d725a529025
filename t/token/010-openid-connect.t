# openid-connect: access tokens that are bound to a client certificate (RFC 8705).

use lib 't/lib';
use TestMtls;
use TestToken;

our $Http = init_http('trusted_ips = { "127.0.0.1" }');
our $Untrusted = init_http('');
our $Policy = token_policy(
    [ strict => 'proof_of_possession_mtls: strict, audience_required: ["https://api.test"]' ],
    [ optional => 'proof_of_possession_mtls: optional' ],
    [ any => '' ],
    [ scopes => 'scopes_required: ["read write"]' ],
    [ rs256 => 'algorithms: [RS256]' ],
    [ other => 'audience_required: ["https://else.test"]' ],
    [ leeway => 'leeway: 60' ],
    [ header => 'proof_of_possession_mtls: strict, proof_of_possession_mtls_from_header: {certificate_header_name: X-Client-Cert, ca_certificates: [@ca-a], ssl_verify: true}' ],
    [ introspection => 'auth_methods: [introspection], client_id: [gw], client_secret: ["s&cret"], proof_of_possession_mtls: strict' ],
    [ both => 'auth_methods: [bearer, introspection], client_id: [gw], client_secret: ["s&cret"], proof_of_possession_mtls: strict' ],
    [ badsecret => 'auth_methods: [introspection], client_id: [gw], client_secret: [wrong]' ],
    [ post => 'auth_methods: [introspection], client_id: [gwp], client_secret: [p+st], client_auth: [client_secret_post]' ],
    [ key => 'auth_methods: [introspection], client_id: [gwk], client_auth: [private_key_jwt], client_jwk: ['
        . do { open my $jwk, '<', "$TestToken::Dir/gateway.jwk" or die; scalar <$jwk> } . ']' ],
    [ claims => 'upstream_headers_claims: [sub, roles, odd, none], upstream_headers_names: [X-Sub, X-Roles, X-Odd, X-None]' ],
    [ hide => 'hide_credentials: true' ],
    [ moved => 'bearer_token_header_name: X-Token, auth_methods: [bearer, introspection], client_id: [gw], client_secret: ["s&cret"], proof_of_possession_mtls: optional' ],
    [ hidden => 'bearer_token_header_name: X-Token, hide_credentials: true' ],
    [ quiet => 'expose_error_code: false, unauthorized_error_message: "Go \"away\""' ],
);

# Forwards the certificate that the token is compared with.
our $Forward = token_policy([ forward => 'proof_of_possession_mtls: optional, audience_required: ["https://api.test"], '
    . 'proof_of_possession_mtls_from_header: {certificate_header_name: X-Proxied, ca_certificates: [@ca-a]}' ])
    . <<'_EOC_';
  - {name: tls-metadata-headers, config: {inject_client_cert_details: true}}
  - {name: client-cert-headers, config: {dialects: [{name: nginx, when: presented}, {name: rfc9440}]}}
_EOC_

our $ShowConfig = <<'_EOC_';
    location /see {
        access_by_lua_block { require("resty.mtls").access("forward") }
        content_by_lua_block {
            local client = require("resty.mtls").client()
            ngx.say(client and table.concat({ client.source, client.verified, client.subject_dn,
                                              client:header_value("nginx", "ssl_client_s_dn") }, " ") or "nobody")
        }
    }
_EOC_

# show_client [curl options]: the fields of client(); show_upstream [curl options]: the headers that the upstream
# received
our $ShowClient = <<'_EOC_';
proxied() { echo "X-Proxied: $(escaped "$1")"; }
show_client() { get a.test/see -H "Authorization: Bearer $token" "$@"; }
show_upstream() {
    get a.test/up/forward -H "Authorization: Bearer $token" "$@" |
        sed -n 's/\r$//; s/^\(X-Client-Cert-Subject-DN\|ssl-client-verify\|Client-Cert\|x-proxied\): /\1: /Ip' | LC_ALL=C sort | paste -sd '|'
}
_EOC_

# Issuers whose discovery document is not at their own URL
our $Elsewhere = token_policy(map { my ($name, $issuer, $fields) = @$_; [ $name => $fields // '', "$ENV{PROVIDER}$issuer" ] }
    [ rfc8414 => '/.well-known/oauth-authorization-server/realms/a' ],
    [ tenant => '/tenants/.well-known/openid-configuration?p=x', qq(issuers_allowed: ["$ENV{PROVIDER}/realms/a/t-1/v2.0"]) ],
    [ common => '/tenants/.well-known/openid-configuration?p=x' ],
    [ template => '/tenants/.well-known/openid-configuration?p=x', qq(issuers_allowed: ["$ENV{PROVIDER}/realms/a/{tenantid}/v2.0"]) ],
    [ internal => '/internal/.well-known/openid-configuration/', qq(issuers_allowed: ["$ENV{PROVIDER}/realms/a"]) ],
    [ strict => '/internal/.well-known/openid-configuration/' ],
);

# The example of the README, unchanged. Its CA is an entity.
our $ReadmeExample = ">>> policy.yaml\n" . expand_policy(<<'_EOC_') . <<'_EOC_';
_format_version: "3.0"
@{ca_certificates: ca-a}
_EOC_
plugins:
  - name: openid-connect
    config:
      issuer: ${{ env "DECK_ISSUER" }}
      client_id:
      - ${{ env "DECK_CLIENT_ID" }}
      client_secret:
      - ${{ env "DECK_CLIENT_SECRET" }}
      auth_methods:
      - bearer
      proof_of_possession_mtls: strict
      proof_of_possession_auth_methods_validation: true
      proof_of_possession_mtls_from_header:
        certificate_header_name: x-client-cert
        certificate_header_format: base64_encoded
        ca_certificates:
        - ${{ env "DECK_CA_CERT_ID" }}
        ssl_verify: true
_EOC_

$ENV{DECK_ISSUER} = "$ENV{PROVIDER}/realms/a/.well-known/openid-configuration";
$ENV{DECK_CLIENT_ID} = "gw";
$ENV{DECK_CLIENT_SECRET} = "s&cret";
$ENV{DECK_CA_CERT_ID} = TestMtls::ca_id("ca-a");

$ENV{CLIENT} = "$TestToken::Dir/client";
open my $out, '>', $ENV{CLIENT} or die;
print $out $Client;
close $out;

run_blocks();

__DATA__

=== TEST 1: access() accepts a token of every algorithm with its certificate, and with no other certificate
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client
. "$CLIENT"
for alg in RS256 PS256 ES256 EdDSA; do
    token=$(token client-a $alg)
    echo "$alg $(request strict "$token" $(as client-a)) $(request strict "$token" $(as client-b)) $(request strict "$token")"
done
--- client_out eval
my $why = 'Bearer error="invalid_token", error_description="The access token must be bound to the client certificate of the request"';
my $no = qq(401 {"message":"Unauthorized"} $why);
CORE::join "", map { "$_ 200 in $no $no\n" } qw( RS256 PS256 ES256 EdDSA )
--- error_log
[mtls] 401 token is bound to another certificate
[mtls] 401 token is bound to a certificate, and none was presented: the client presented none
--- no_error_log
[crit]



=== TEST 2: access() verifies a signature once for many requests, and fetches keys once
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client
. "$CLIENT"
token=$(token client-a ES256)
for _ in 1 2 3; do request strict "$token" $(as client-a); done
request optional "$token" $(as client-a)
request strict "$token" $(as client-b) | cut -c1-3
control counts; echo
--- client_out
200 in
200 in
200 in
200 in
401
{"discovery":1,"jwks":1}
--- error_log
[mtls] 401 token is bound to another certificate



=== TEST 3: access() in strict mode needs a bound token, and in optional mode refuses a token bound to another certificate
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client
. "$CLIENT"
loose=$(token - ES256 loose)
bound=$(token client-a ES256)
for route in strict optional any; do
    echo "$route: $(request $route "$loose" | cut -c1-3) $(request $route "$loose" $(as client-a) | cut -c1-3)" \
        "$(request $route "$bound" $(as client-a) | cut -c1-3) $(request $route "$bound" $(as client-b) | cut -c1-3)" \
        "$(request $route "$bound" | cut -c1-3) $(request $route "$(forge malformed)" $(as client-a) | cut -c1-3)"
done
--- client_out
strict: 401 401 200 401 401 401
optional: 200 200 200 401 401 401
any: 200 200 200 200 200 401
--- error_log
[mtls] 401 token without cnf.x5t#S256
[mtls] 401 token with a malformed cnf.x5t#S256



=== TEST 4: access() refuses invalid tokens
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client
. "$CLIENT"
for kind in good expired future forever issuer slash audience audiences none hmac crit typ confused encrypted jwk kid; do
    echo "$kind $(request strict "$(forge $kind client-a)" $(as client-a) | sed 's/{.*error_description=//')"
done
token=$(forge good client-a)
echo "tampered $(request strict "${token%??????}AAAAAA" $(as client-a) | cut -c1-3)"
echo "payload $(request strict "${token%%.*}.$(echo '{"sub":"root"}' | base64 -w0 | tr -d =).${token##*.}" $(as client-a) | cut -c1-3)"
echo "opaque $(request strict opaque $(as client-a) | cut -c1-3)"
echo "leeway $(request leeway "$(forge expired)" | cut -c1-3)"
grep -o '\[mtls\] 401 [^,]*' "$ERROR_LOG" | sed 's/expired at .*/expired at/; s/before .*/before/; s/column.*/column/'
--- client_out
good 200 in
expired 401 "The access token expired"
future 401 "The access token is not valid yet"
forever 401 "The access token is not of the right issuer or lacks a claim"
issuer 401 "The access token is not of the right issuer or lacks a claim"
slash 401 "The access token is not of the right issuer or lacks a claim"
audience 401 "The access token is for another audience"
audiences 200 in
none 401 "The access token is not signed as it must be"
hmac 401 "The access token is not signed as it must be"
crit 401 "The access token is not signed as it must be"
typ 401 "The access token is not signed as it must be"
confused 401 "The access token is not signed as it must be"
encrypted 401 "The access token is not signed as it must be"
jwk 200 in
kid 401 "The access token is not signed as it must be"
tampered 401
payload 401
opaque 401
leeway 200
[mtls] 401 token expired at
[mtls] 401 token not valid before
[mtls] 401 token without a usable claim 'exp'
[mtls] 401 token of another issuer
[mtls] 401 token of another issuer
[mtls] 401 token for another audience
[mtls] 401 token not acceptable: algorithm 'none' is never accepted
[mtls] 401 token not acceptable: algorithm 'HS256' is never accepted
[mtls] 401 token not acceptable: critical header parameters ('crit')
[mtls] 401 token not acceptable: of type 'dpop+jwt'
[mtls] 401 token signed by an unknown key: kid 'ec-1'
[mtls] 401 token not acceptable: encrypted (JWE)
[mtls] 401 token signed by an unknown key: kid 'unknown'
[mtls] 401 token signature is wrong
[mtls] 401 token signature is wrong
[mtls] 401 token malformed: not a JWT
--- no_error_log
[crit]



=== TEST 5: access() reads exactly one token from exactly one Authorization header
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client
. "$CLIENT"
token=$(forge good)
request any ""
request any "" -H "Authorization: Basic YTpi"
request any "" -H "Authorization: bearer  $token"
request any "" -H "Authorization: Bearer"
request any "" -H "Authorization: Bearer $token $token" | cut -c1-3
request any "" -H "Authorization: Bearer $token, Bearer $token" | cut -c1-3
request any "" -H "Authorization: Bearer$token" | cut -c1-3
request any "" -H "Authorization: Bearer $(head -c 40000 /dev/zero | tr '\0' a)" | cut -c1-3
printf 'GET /to/any HTTP/1.1\r\nHost: a.test\r\nAuthorization: Bearer x\r\nAuthorization: Bearer %s\r\nConnection: close\r\n\r\n' "$token" |
    timeout 5 openssl s_client -quiet -connect "127.0.0.1:$PORT" -servername a.test 2>/dev/null | head -1 | cut -c10 # by nginx itself, or by us
request quiet x
--- client_out
401 {"message":"Unauthorized"} Bearer
401 {"message":"Unauthorized"} Bearer
200 in
401 {"message":"Unauthorized"} Bearer error="invalid_token", error_description="The access token is malformed"
401
401
401
401
4
401 {"message":"Go \u0022away\u0022"} Bearer
--- error_log
[mtls] 401 no bearer token
[mtls] 401 token malformed: 40000 bytes are over the limit of 32768
--- no_error_log
[crit]



=== TEST 6: access() answers 403 to a token without a required scope, and 401 to one signed with another algorithm
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client
. "$CLIENT"
request scopes "$(forge good)"
request scopes "$(forge scope)"
request other "$(forge good)" | cut -c1-3
request rs256 "$(forge good)" | cut -c1-3
request rs256 "$(forge good - key=rsa)"
# The same token on a route that accepts its algorithm, and then on one that does not
token=$(forge good)
for route in rs256 any rs256; do request $route "$token" | cut -c1-3; done
--- client_out
200 in
403 {"message":"Forbidden"} Bearer error="insufficient_scope", error_description="The access token lacks a required scope, group or role"
401
401
200 in
401
200
401
--- error_log
[mtls] 403 token lacks a required scope
[mtls] 401 token not acceptable: algorithm ES256 is not among those of the policy



=== TEST 7: access() compares the verified certificate in the header of a trusted peer, else that of TLS
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client
. "$CLIENT"
a=$(forge good client-a) b=$(forge good client-b) expired=$(forge good client-expired)
cert() { echo "X-Client-Cert: $(escaped "$1")"; }
request header "$a" -H "$(cert client-a)" | cut -c1-3
request header "$a" -H "$(cert client-int)" | cut -c1-3
# The certificate of the header is compared, and not that of the connection.
request header "$a" -H "$(cert client-int)" $(as client-a) | cut -c1-3
request header "$a" -H "X-Client-Cert;" $(as client-a) | cut -c1-3
request header "$a" -H "X-Client-Cert: junk" $(as client-a) | cut -c1-3
# The token is bound to a certificate that does not verify.
request header "$b" -H "$(cert client-b)" | cut -c1-3
request header "$expired" -H "$(cert client-expired)" | cut -c1-3
# Without the header the certificate of the connection is compared, verified by the same CAs.
request header "$a" $(as client-a) | cut -c1-3
request header "$b" $(as client-b) | cut -c1-3
request header "$a" | cut -c1-3
# This route reads no certificate header.
request strict "$a" -H "$(cert client-a)" | cut -c1-3
--- client_out
200
401
401
401
401
401
401
200
401
401
401
--- error_log
[mtls] 401 certificate not trusted: FAILED:unable to get local issuer certificate at depth 0, subject: "CN=client-b,O=Example"
[mtls] 401 certificate not trusted: FAILED:certificate has expired at depth 0
[mtls] 401 certificate not trusted: certificate header refused: not PEM
[mtls] 401 token is bound to a certificate, and none was presented: the proxy sent a header without one



=== TEST 8: access() ignores the certificate in the header of an untrusted peer
--- user_files eval: $::Policy
--- http_config eval: $::Untrusted
--- config eval: $::Config
--- client
. "$CLIENT"
a=$(forge good client-a)
request header "$a" -H "X-Client-Cert: $(escaped client-a)" | cut -c1-3
request header "$a" -H "X-Client-Cert: $(escaped client-int)" $(as client-a) | cut -c1-3
--- client_out
401
200
--- error_log
[mtls] 401 token is bound to a certificate, and none was presented: the header is from a peer that is not in trusted_ips



=== TEST 9: access() never uses the token or certificate of one request for another request of the connection
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- tls_options: http2
--- client
. "$CLIENT"
good=$(forge good client-a) loose=$(forge good) other=$(forge good client-int)
for token in "$good" "$loose" "$good" "" "$other"; do
    printf 'insecure\nhttp2\nurl = "https://127.0.0.1:%s/to/strict"\ncert = "%s"\nkey = "%s"\nwrite-out = "%%{http_code}\\n"\noutput = "body"\n' \
        "$PORT" "$PKI/client-a.crt" "$PKI/client-a.key"
    [ -z "$token" ] || printf 'header = "Authorization: Bearer %s"\n' "$token"
    echo next
done >requests
sed -i '$d' requests
curl -sv -K requests 2>log
grep -ciE '^\* re-?using existing .*connection' log
--- client_out
200
401
200
401
401
4
--- error_log
[mtls] 401 token is bound to another certificate
[mtls] 401 no bearer token



=== TEST 10: access() introspects opaque tokens
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client
. "$CLIENT"
token=$(token client-a opaque)
for route in introspection both; do
    request $route "$token" $(as client-a)
    request $route "$token" $(as client-a)
    request $route "$token" $(as client-b) | cut -c1-3
    request $route "$(token - opaque loose)" $(as client-a) | cut -c1-3
done
request introspection nonsense
control counts; echo
request strict "$token" $(as client-a) | cut -c1-3
curl -s -u gw:s%26cret "$PROVIDER/realms/a/token/revocation" -d token="$token" -o /dev/null
request badsecret nonsense-too
request both "$(token client-a ES256)" $(as client-a)
for route in post key; do request $route "$(token - opaque loose)"; done
--- client_out
200 in
200 in
401
401
200 in
200 in
401
401
401 {"message":"Unauthorized"} Bearer error="invalid_token", error_description="The access token is not active"
{"discovery":1,"introspection":4}
401
503 {"message":"Service Unavailable"}
200 in
200 in
200 in
--- error_log
[mtls] 401 token is not active
[mtls] 401 token without cnf.x5t#S256
token/introspection: status 401
--- no_error_log
[crit]



=== TEST 11: access() sends the claims that the policy names to the upstream, and removes inbound copies
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- client
. "$CLIENT"
token=$(forge headers)
show_upstream() { get "a.test/up/$1" -H "Authorization: Bearer $token" -H "x_sub: root" -H "X-None: root" -H "X-Odd: root" | grep -i '^x-\|^x_\|^auth' |
    sed 's/\(Bearer\) .*/\1/' | tr -d '\r'; }
show_upstream claims
show_upstream claims
show_upstream hide
show_upstream any
--- config eval
"    underscores_in_headers on;
    $::Config"
--- client_out
Authorization: Bearer
X-Sub: ann
X-Roles: ["a","b"]
Authorization: Bearer
X-Sub: ann
X-Roles: ["a","b"]
Authorization: Bearer
--- error_log
[mtls] header X-Odd left out: the claim 'odd' is not printable ASCII



=== TEST 12: access() follows a rotation of keys, and fetches once for an unknown key
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client
. "$CLIENT"
old=$(forge good)
request any "$old"
sleep 1.1
control rotate keep=1 >ok
new=$(forge good)
request any "$new"
request any "$old"
sleep 1.1
control rotate >ok
request any "$(forge good)"
# The first key is no longer published.
request any "$new" | cut -c1-3
control counts; echo
# Unknown keys cause one fetch in a second.
start=$SECONDS
for kid in 1 2 3 4 5 6 7 8 9; do request any "$(forge kid - "kid=$kid")" | cut -c1-3; done | uniq
count=$(control counts | grep -o 'jwks":[0-9]*' | cut -d: -f2)
[ "${count:-0}" -le $((SECONDS - start + 1)) ] && echo few || echo "$count"
# Unknown keys in expired tokens and in tokens of other issuers cause none.
sleep 1.1
request any "$(forge expired - kid=z | sed 's/^[^.]*/eyJhbGciOiJFUzI1NiIsImtpZCI6IngifQ/')" | cut -c1-3
request any "$(forge issuer | sed 's/^[^.]*/eyJhbGciOiJFUzI1NiIsImtpZCI6IngifQ/')" | cut -c1-3
control counts; echo
--- client_out
200 in
200 in
200 in
200 in
401
{"discovery":3,"jwks":3}
401
few
401
401
{}
--- error_log
[mtls] 401 token signed by an unknown key: kid
--- timeout: 30



=== TEST 13: access() answers 503 while the issuer is down, and continues with the keys that it has
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client
. "$CLIENT"
token=$(forge good) other=$(forge good - key=rsa)
control fault what=down >ok
request any "$token"
request any "$token"
control fault >ok
sleep 5.2
request any "$token"
control fault what=down >ok
request any "$token"
request any "$other"
request any "$(forge kid)" | cut -c1-3
request any "$token"
--- client_out
503 {"message":"Service Unavailable"}
503 {"message":"Service Unavailable"}
200 in
200 in
200 in
401
200 in
--- error_log
[mtls] 503
not tried again so soon after
--- no_error_log
[crit]
--- timeout: 40



=== TEST 14: access() refuses inconsistent issuer documents, and serves other requests meanwhile
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client
. "$CLIENT"
token=$(forge good)
for what in issuer scheme linklocal loopback garbage keys endless slow error; do
    control fault "what=$what" >ok
    start=$(date +%s%N)
    request any "$token" >answer &
    sleep 0.3
    get a.test/free -o body -w '%{time_total} ' >free
    wait $!
    spent=$(( ($(date +%s%N) - start) / 1000000 ))
    echo "$what $(cat answer) $(awk '{ print ($1 < 0.5 ? "free" : "late " $1) }' free) $([ $spent -lt 4000 ] && echo bounded || echo $spent)"
    sleep 5.1
done
grep -o '\[mtls\] 503 .*' "$ERROR_LOG" | sed 's/, client:.*//; s/\(shared_cache\.get\|http\.request\): //g; s,http://127.0.0.1:[0-9]*,ISSUER,g'
--- client_out
issuer 503 {"message":"Service Unavailable"} free bounded
scheme 503 {"message":"Service Unavailable"} free bounded
linklocal 503 {"message":"Service Unavailable"} free bounded
loopback 503 {"message":"Service Unavailable"} free bounded
garbage 503 {"message":"Service Unavailable"} free bounded
keys 503 {"message":"Service Unavailable"} free bounded
endless 503 {"message":"Service Unavailable"} free bounded
slow 503 {"message":"Service Unavailable"} free bounded
error 503 {"message":"Service Unavailable"} free bounded
[mtls] 503 ISSUER/realms/a/.well-known/openid-configuration: discovery document: is that of the issuer 'http://127.0.0.1/realms/b', expected 'ISSUER/realms/a'
[mtls] 503 ISSUER/realms/a/.well-known/openid-configuration: discovery document: 'jwks_uri' is 'file:///etc/passwd', expected an https URL
[mtls] 503 http://169.254.169.254/latest/meta-data: 169.254.169.254 is a loopback, link-local or other special address that fetch_allow does not name
[mtls] 503 ISSUER/jwks: 127.0.0.1 is a loopback, link-local or other special address that fetch_allow does not name
[mtls] 503 ISSUER/realms/a/.well-known/openid-configuration: discovery document: expected value at line 1 column 1
[mtls] 503 ISSUER/realms/a/jwks: 10000 keys are over the limit of 1000
[mtls] 503 ISSUER/realms/a/jwks: body is over 1048576 bytes
[mtls] 503 ISSUER/realms/a/jwks: timeout
[mtls] 503 ISSUER/realms/a/jwks: status 500
--- error_log
[mtls] 503
--- timeout: 90



=== TEST 15: access() keeps valid keys when the issuer publishes invalid ones, in new workers too
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client
. "$CLIENT"
request any "$(forge good)"
sleep 1.1
control fault what=keys >ok
request any "$(forge kid)" | cut -c1-3
request any "$(forge good)"
kill -HUP "$(cat "$PID_FILE")"
sleep 1
request any "$(forge good)"
--- client_out
200 in
401
200 in
200 in
--- error_log
10000 keys are over the limit of 1000
--- no_error_log
[crit]
--- timeout: 30



=== TEST 16: check() compares the certificate with a token that the caller verified
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config
    location /t {
        content_by_lua_block {
            local token = require "resty.mtls.token"
            local certificate = require "resty.mtls.certificate"
            local function read(name)
                return assert(certificate.from_pem(assert(io.open("$TEST_NGINX_PKI/" .. name .. ".crt")):read("*a")))
            end
            local a, b = read("client-a"), read("client-b")
            local claims = { sub = "x", cnf = { ["x5t#S256"] = a.x5t_s256 } }
            local json = require("cjson").encode(claims)
            local jwt = "eyJhbGciOiJFUzI1NiJ9." .. ngx.encode_base64(json, true):gsub("+", "-"):gsub("/", "_") .. ".AAAA"
            for _, value in ipairs { claims, json, jwt } do
                ngx.say(token.check(value, a))
                ngx.say(token.check(value, b))
                ngx.say(token.check(value, nil))
            end
            ngx.say(token.check({}, a))
            ngx.say(token.check({}, a, { mode = "optional" }))
            ngx.say(token.check({ cnf = { ["x5t#S256"] = "AAAA" } }, a, { mode = "optional" }))
            ngx.say(token.check("x.y.z", a))
            for _, args in ipairs { { 7 }, { {}, 7 }, { {}, a, { mode = "lax" } }, { {}, a, { strict = true } } } do
                ngx.say((select(2, pcall(token.check, unpack(args)))))
            end
        }
    }
--- request
GET /t
--- response_body
true
niltoken.check: token is bound to another certificate
niltoken.check: token is bound to a certificate, and none was presented: none given
true
niltoken.check: token is bound to another certificate
niltoken.check: token is bound to a certificate, and none was presented: none given
true
niltoken.check: token is bound to another certificate
niltoken.check: token is bound to a certificate, and none was presented: none given
niltoken.check: token without cnf.x5t#S256
true
niltoken.check: token with a malformed cnf.x5t#S256
niltoken.check: token malformed: the header is not base64url
token.check: token must be a table or a string, got number
token.check: certificate must be a resty.mtls.certificate or nil
token.check: mode must be 'strict' or 'optional', got lax
token.check: unknown option 'strict', expected mode



=== TEST 17: access() enforces the example of the README
--- user_files eval: $::ReadmeExample
--- http_config eval: $::Http
--- config
    location /t {
        access_by_lua_block { require("resty.mtls").access() }
        content_by_lua_block { ngx.say("in") }
    }
--- client
. "$CLIENT"
token=$(token client-a ES256)
plain() { header t "Authorization: Bearer $token" "$@" -D head; sed -n 's/^WWW-Authenticate: \(.*\)\r$/\1/Ip' head; }
plain -H "X-Client-Cert: $(base64_of client-a)"
plain -H "X-Client-Cert: $(base64_of client-int)"
plain
header t "X-Client-Cert: $(base64_of client-a)"
--- client_out
200 in
401 {"message":"Unauthorized"}
Bearer error="invalid_token", error_description="The access token must be bound to the client certificate of the request"
401 {"message":"Unauthorized"}
Bearer error="invalid_token", error_description="The access token must be bound to the client certificate of the request"
401 {"message":"Unauthorized"}
--- error_log
[mtls] 401 token is bound to another certificate
[mtls] 401 token is bound to a certificate, and none was presented: the request has no header with one
[mtls] 401 no bearer token
--- no_error_log
[crit]



=== TEST 18: access() decides again about a token under a new policy and after an internal redirect
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval
"    location = /again {
        access_by_lua_block { require('resty.mtls').access('hide') }
        content_by_lua_block { ngx.exec('/up/hide') }
    }
    location = /reload {
        content_by_lua_block {
            ngx.say(require('resty.mtls').reload('\$TEST_NGINX_HTML_DIR/policy.yaml'))
        }
    }
    $::Config"
--- client
. "$CLIENT"
token=$(forge good client-a)
get a.test/again -H "Authorization: Bearer $token" -o body -w '%{http_code}\n'
grep -ci '^authorization' body
get a.test/again -o body -w '%{http_code}\n'
request strict "$token" $(as client-a)
get a.test/reload
request strict "$token" $(as client-a)
request strict "$token" $(as client-b) | cut -c1-3
--- client_out
200
0
401
200 in
true
200 in
401
--- error_log
[mtls] 401 no bearer token
[mtls] 401 token is bound to another certificate



=== TEST 19: access() answers 503 when the introspection endpoint gives no usable answer
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client
. "$CLIENT"
bound=$(token client-a opaque)
request introspection "$bound" $(as client-a)
for what in introspection endless-answer down; do
    unknown=$(token - opaque loose)
    control fault "what=$what" >ok
    request introspection "$unknown" $(as client-a)
    # A token with a cached answer is still accepted.
    request introspection "$bound" $(as client-a)
    control fault >ok
done
--- client_out
200 in
503 {"message":"Service Unavailable"}
200 in
503 {"message":"Service Unavailable"}
200 in
503 {"message":"Service Unavailable"}
200 in
--- error_log
introspection response: no boolean 'active'
body is over 262144 bytes
--- no_error_log
[crit]
--- timeout: 30



=== TEST 20: access() refuses tokens and certificate headers of 90,000 bytes and more
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client
. "$CLIENT"
long() { head -c "$1" /dev/zero | tr '\0' e; }
{ printf 'Authorization: Bearer '; long 90000; } >token
{ printf 'X-Client-Cert: '; long 90000; } >certificate
get a.test/to/any -H @token -o body -w '%{http_code}\n'
get a.test/to/header -H @certificate -H "Authorization: Bearer $(forge good client-a)" -o body -w '%{http_code}\n'
# A megabyte is over the limit of nginx, and more than curl sends.
for name in "Authorization: Bearer " "X-Client-Cert: "; do
    { printf 'GET /to/any HTTP/1.1\r\nHost: a.test\r\n%s' "$name"; long 1000000; printf '\r\n\r\n'; } >request
    { timeout 5 cat request >&3; head -1 <&3 | cut -c10-12; } 3<>"/dev/tcp/127.0.0.1/$HTTP_PORT" 2>/dev/null
done
request any "$(forge good)"
--- client_out
401
401
400
400
200 in
--- error_log
[mtls] 401 token malformed: 90000 bytes are over the limit of 32768
[mtls] 401 certificate not trusted: certificate header refused: 90000 bytes are over the limit of 65536
--- no_error_log
[crit]



=== TEST 21: client() and forwarded headers describe the certificate that the token is compared with, as not verified
--- user_files eval: $::Forward
--- http_config eval: $::Http
--- config eval: $::Config . $::ShowConfig
--- client eval
'. "$CLIENT"' . "\n$::ShowClient" . <<'_EOC_';
token=$(token client-a ES256)
# The connection is the proxy's, with the proxy's certificate.
show_client $(as client-b) -H "$(proxied client-a)"
show_upstream $(as client-b) -H "$(proxied client-a)"
header see "Authorization: Bearer $token" -H "$(proxied client-a)"
# The same certificate from the connection, and then from the header
show_client $(as client-a)
show_upstream $(as client-a)
show_client $(as client-a) -H "$(proxied client-a)"
echo "refused: $(show_client $(as client-a) -H "$(proxied client-b)")"
token=$(token - ES256 loose)
echo loose
show_client $(as client-b) -H "$(proxied client-a)"
# This certificate does not verify.
show_client $(as client-a) -H "$(proxied client-self)"
show_upstream $(as client-a) -H "$(proxied client-self)"
for nothing in "X-Proxied;" "X-Proxied: (null)" "X-Proxied: junk"; do
    show_client $(as client-b) -H "$nothing"
    show_upstream $(as client-b) -H "$nothing"
done
show_client $(as client-b)
show_client
show_upstream
# In turn on one connection
show_client $(as client-b) -H "$(proxied client-a)" https://a.test/see \
    --next -sk --http1.1 --connect-to "::127.0.0.1:$PORT" -H "Authorization: Bearer $token" $(as client-b)
_EOC_
--- client_out
header FAILED:not verified CN=client-a,O=Example CN=client-a,O=Example
X-Client-Cert-Subject-DN: CN=client-a,O=Example|ssl-client-verify: FAILED:not verified
200 header FAILED:not verified CN=client-a,O=Example CN=client-a,O=Example
tls FAILED:not verified CN=client-a,O=Example CN=client-a,O=Example
X-Client-Cert-Subject-DN: CN=client-a,O=Example|ssl-client-verify: FAILED:not verified
header FAILED:not verified CN=client-a,O=Example CN=client-a,O=Example
refused: {"message":"Unauthorized"}
loose
header FAILED:not verified CN=client-a,O=Example CN=client-a,O=Example
header FAILED:not verified CN=client-a CN=client-a
X-Client-Cert-Subject-DN: CN=client-a|ssl-client-verify: FAILED:not verified
nobody
ssl-client-verify: NONE
nobody
ssl-client-verify: NONE
nobody
ssl-client-verify: FAILED:unspecified certificate verification error
tls FAILED:not verified CN=client-b,O=Example CN=client-b,O=Example
nobody
ssl-client-verify: NONE
header FAILED:not verified CN=client-a,O=Example CN=client-a,O=Example
tls FAILED:not verified CN=client-b,O=Example CN=client-b,O=Example
--- error_log
[mtls] 401 token is bound to another certificate
--- no_error_log
[crit]
[alert]



=== TEST 22: client() and forwarded headers describe the certificate of the connection without a trusted peer
--- user_files eval: $::Forward
--- http_config eval: $::Untrusted
--- config eval: $::Config . $::ShowConfig
--- client eval
'. "$CLIENT"' . "\n$::ShowClient" . <<'_EOC_';
token=$(token - ES256 loose)
show_client $(as client-b) -H "$(proxied client-a)"
show_upstream $(as client-b) -H "$(proxied client-a)"
show_client -H "$(proxied client-a)"
_EOC_
--- client_out
tls FAILED:not verified CN=client-b,O=Example CN=client-b,O=Example
X-Client-Cert-Subject-DN: CN=client-b,O=Example|ssl-client-verify: FAILED:not verified
nobody



=== TEST 23: access() refuses tokens that are no access tokens, by introspection and by signature
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client
. "$CLIENT"
control fault what=refresh >ok
request post some-token
request post some-token
request any "$(forge good)"
request any "$(forge id)"
--- client_out
401 {"message":"Unauthorized"} Bearer error="invalid_token", error_description="The token is not an access token"
401 {"message":"Unauthorized"} Bearer error="invalid_token", error_description="The token is not an access token"
200 in
401 {"message":"Unauthorized"} Bearer error="invalid_token", error_description="The token is not an access token"
--- error_log
[mtls] 401 token is not an access token: its 'token_type' is 'refresh_token'
[mtls] 401 token is not an access token: its 'typ' is 'ID'
--- no_error_log
[crit]



=== TEST 24: access() caches for a short time that a token is not active
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client
. "$CLIENT"
request post nonsense | cut -c1-3
sleep 1.5
request post nonsense | cut -c1-3
sleep 1.5
request post nonsense
# Another token, and another client of the issuer
request post nonsense-too | cut -c1-3
request key nonsense | cut -c1-3
request post "$(token - opaque loose)"
control counts; echo
sleep 2.5
request post nonsense | cut -c1-3
control counts; echo
--- client_out
401
401
401 {"message":"Unauthorized"} Bearer error="invalid_token", error_description="The access token is not active"
401
401
200 in
{"discovery":1,"introspection":4}
401
{"introspection":1}
--- error_log
[mtls] 401 token is not active
--- timeout: 20



=== TEST 25: access() refuses in every mode tokens with another confirmation method, and logout tokens
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client
. "$CLIENT"
for kind in dpop by-key logout good; do
    for route in strict optional any; do request $route "$(forge $kind)" $(as client-a) | cut -c1-3; done | paste -sd ' '
done
# The right certificate does not replace the other confirmation method.
for route in strict optional any; do request $route "$(forge dpop client-a)" $(as client-a) | cut -c1-3; done | paste -sd ' '
request any "$(forge dpop)"
control fault what=dpop >ok
request post some-token
grep -ao '\[mtls\] 401 [^"]*here\|\[mtls\] 401 [^"]*logout' "$ERROR_LOG" | sort | uniq -c
--- client_out
401 401 401
401 401 401
401 401 401
401 200 200
401 401 401
401 {"message":"Unauthorized"} Bearer error="invalid_token", error_description="The access token must be bound to the client certificate of the request"
401 {"message":"Unauthorized"} Bearer error="invalid_token", error_description="The access token must be bound to the client certificate of the request"
      8 [mtls] 401 token bound by cnf.jkt, which is not checked here
      3 [mtls] 401 token bound by cnf.jwk, which is not checked here
      3 [mtls] 401 token is not an access token: its 'events' is a logout
--- no_error_log
[crit]



=== TEST 26: access() caches the certificate of a header when a token is bound to it
--- user_files eval: $::Forward
--- http_config eval: $::Http
--- config eval
$::Config . $::ShowConfig . <<'_EOC_';
    location /metrics { content_by_lua_block { ngx.print(require("resty.mtls").metrics()) } }
_EOC_
--- client eval
'. "$CLIENT"' . "\n$::ShowClient" . <<'_EOC_';
token=$(token client-a ES256)
show_client -H "$(proxied client-a)"
openssl ecparam -name prime256v1 -genkey -noout -out key
openssl req -x509 -key key -subj /CN=x -set_serial 0x7172737475767778 -outform DER -out untrusted
python3 - <<'END'
import base64, collections, http.client, os, urllib.parse
der = open("untrusted", "rb").read()
proxy = http.client.HTTPConnection("127.0.0.1", int(os.environ["HTTP_PORT"]))
answers = collections.Counter()
for i in range(100):
    text = base64.encodebytes(der.replace(b"qrstuvwx", b"q%07d" % i)).decode()
    pem = f"-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n"
    proxy.request("GET", "/see", headers={"Host": "a.test", "Authorization": "Bearer x", "X-Proxied": urllib.parse.quote(pem)})
    answer = proxy.getresponse()
    answer.read()
    answers[answer.status] += 1
print(dict(answers))
END
show_client $(as client-a)
get a.test/metrics | grep 'cache="client"'
_EOC_
--- client_out
header FAILED:not verified CN=client-a,O=Example CN=client-a,O=Example
{401: 100}
tls FAILED:not verified CN=client-a,O=Example CN=client-a,O=Example
resty_mtls_cache_lookups_total{cache="client",result="hit"} 1
resty_mtls_cache_lookups_total{cache="client",result="miss"} 0
--- no_error_log
[crit]



=== TEST 27: access() sends cloudflare-forwarding by the origin of the certificate of each request
--- user_files eval: (my $files = $::Forward) =~ s/\{name: nginx, when: presented\}/{name: cloudflare-forwarding, when: presented}/; $files
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
'. "$CLIENT"' . "\n$::ShowClient" . <<'_EOC_';
token=$(token client-a ES256)
count() { get a.test/up/forward -H "Authorization: Bearer $token" "$@" | grep -ci '^cf-client-cert-sha256:'; }
again=(https://a.test/up/forward https://a.test/up/forward)
echo "connection: $(count $(as client-a)) of 1, $(count $(as client-a) "${again[@]}") of 3"
echo "header: $(count -H "$(proxied client-a)" "${again[@]}") of 3"
_EOC_
--- client_out
connection: 1 of 1, 1 of 3
header: 3 of 3
--- no_error_log
[crit]



=== TEST 28: access() refuses a token issued in the future, beyond the tolerance for clocks
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client
. "$CLIENT"
request any "$(forge issued-later)"
request any "$(forge issued-soon)"
--- client_out
401 {"message":"Unauthorized"} Bearer error="invalid_token", error_description="The access token is not valid yet"
200 in
--- error_log
[mtls] 401 token issued in the future, at
--- no_error_log
[crit]



=== TEST 29: access() refuses an empty cnf in every mode, and takes a cnf of null as none
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client
. "$CLIENT"
for kind in to-nothing to-null; do
    for route in strict optional any; do request $route "$(forge $kind)" | cut -c1-3; done | paste -sd ' '
done
control fault what=to-nothing >ok
request post some-token
grep -ao '\[mtls\] 401 token [^,"]*' "$ERROR_LOG" | sort | uniq -c
--- client_out
401 401 401
401 200 200
401 {"message":"Unauthorized"} Bearer error="invalid_token", error_description="The access token must be bound to the client certificate of the request"
      4 [mtls] 401 token with a malformed cnf.x5t#S256
      1 [mtls] 401 token without cnf.x5t#S256
--- no_error_log
[crit]



=== TEST 30: a JWK Set of 1,000 keys and 1 MB, sent with gzip, and an introspection response with status 201 are used
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client
. "$CLIENT"
control fault "what=many" >ok
request strict "$(token client-a ES256)" $(as client-a)
control counts; echo
request introspection "$(token client-a opaque)" $(as client-a)
control fault >ok
--- client_out
200 in
{"discovery":1,"jwks":1}
200 in
--- no_error_log
[mtls] 503
[error]



=== TEST 31: access() accepts tokens whose parameters and claims are null or have no effect, and names of RFC 9864
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client
. "$CLIENT"
for kind in ping nulls space deflated; do
    echo "$kind $(request both "$(forge $kind client-a)" $(as client-a) | cut -c1-6)"
done
echo "rfc9864 $(request strict "$(forge rfc9864 client-a key=ed)" $(as client-a) | cut -c1-6)"
echo "another algorithm $(request rs256 "$(forge rfc9864 client-a key=ed)" $(as client-a) | cut -c1-4)"
control counts; echo
--- client_out
ping 200 in
nulls 200 in
space 200 in
deflated 401 {"
rfc9864 200 in
another algorithm 401 
{"discovery":1,"jwks":1}
--- error_log
[mtls] 401 token not acceptable: a header with 'enc', 'zip' other than NONE, or 'b64' other than true
[mtls] 401 token not acceptable: algorithm Ed25519 is not among those of the policy



=== TEST 32: access() takes the document of another issuer only on routes that allow this issuer, and a URL with /.well-known/ as it is
--- user_files eval: $::Elsewhere
--- http_config eval: $::Http
--- config eval: $::Config
--- client
. "$CLIENT"
token=$(forge good)
for route in rfc8414 internal strict internal; do echo "$route $(request $route "$token" | cut -c1-6)"; done
for tenant in t-1 t-2 %7Btenantid%7D; do
    token=$(forge tenant - tenant=$tenant)
    for route in tenant template; do echo "$route $tenant $(request $route "$token" | cut -c1-6)"; done
done
echo "common $(request common "$(forge tenant - tenant=t-1)" | cut -c1-6)"
grep -o '\[mtls\] 503 .*' "$ERROR_LOG" | sed 's/, client:.*//; s/\(shared_cache\.get\|http\.request\): //g; s,http://127.0.0.1:[0-9]*,ISSUER,g'
--- client_out
rfc8414 200 in
internal 200 in
strict 503 {"
internal 200 in
tenant t-1 200 in
template t-1 401 {"
tenant t-2 401 {"
template t-2 401 {"
tenant %7Btenantid%7D 401 {"
template %7Btenantid%7D 200 in
common 503 {"
[mtls] 503 ISSUER/internal/.well-known/openid-configuration/: discovery document: is that of the issuer 'ISSUER/realms/a', expected 'ISSUER/internal'
[mtls] 503 ISSUER/tenants/.well-known/openid-configuration: discovery document: is that of the issuer 'ISSUER/realms/a/{tenantid}/v2.0', expected 'ISSUER/tenants'
--- error_log
issuers_allowed[0]: contains '{tenantid}', which no token has: each tenant needs an entry with its id



=== TEST 33: flush() makes access() introspect again, and fetch the issuer's documents again
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval
$::Config . <<'_EOC_'
    location = /flush { content_by_lua_block { require("resty.mtls").flush() } }
_EOC_
--- client
. "$CLIENT"
token=$(token - opaque loose)
for _ in 1 2; do request post "$token"; done
control counts; echo
get a.test/flush
for _ in 1 2; do request post "$token"; done
control counts; echo
--- client_out
200 in
200 in
{"discovery":1,"introspection":1}
200 in
200 in
{"discovery":1,"introspection":1}
--- no_error_log
[crit]



=== TEST 34: access() reads the token from bearer_token_header_name alone, with or without a scheme, and forwards it in Authorization
--- user_files eval: $::Policy
--- http_config eval: $::Http . "underscores_in_headers on;"
--- config eval: $::Config
--- client
. "$CLIENT"
upstream() { get "a.test/up/$1" "${@:2}" | sed -n 's/\r$//; s/^\(authorization\|x[-_]token\): /\1: /Ip' | sed "s/$good/GOOD/g; s/$bad/BAD/g" | LC_ALL=C sort -f | paste -sd '|'; }
good=$(forge good) bad=$(forge hmac) bound=$(forge good client-a)
request moved "$good"
request moved "" -H "X-Token: $good"
request moved "" -H "X-Token: Bearer $good"
request moved "$good" -H "X-Token: $bad" | cut -c1-3
request moved "" -H "X-Token: Bearer" | cut -c1-3
request moved "" -H "X-Token: Basic $good" | cut -c1-3
request moved "" -H "X-Token: $good" -H "X-Token: $good" | cut -c1-3
request moved "" -H "X-Token: $good" -H "x_token: $bad" | cut -c1-3
request moved "" -H "x_token: $good"
request moved "" -H "X-Token: $bound" | cut -c1-3
request moved "" -H "X-Token: $bound" $(as client-a)
request any "" -H "X-Token: $good" | cut -c1-3
request moved "" -H "X-Token: $(token - opaque loose)"
upstream moved -H "X-Token: $good" -H "Authorization: Bearer $bad"
echo "[$(upstream hidden -H "x_token: $good" -H "Authorization: Bearer $bad")]"
--- client_out
401 {"message":"Unauthorized"} Bearer
200 in
200 in
401
401
401
401
401
200 in
401
200 in
401
200 in
Authorization: Bearer GOOD|X-Token: GOOD
[]
--- error_log
[mtls] 401 token malformed: 2 X-Token headers, expected one
[mtls] 401 no bearer token



=== TEST 35: access() lets no credentials pass that were not validated where lua-nginx-module changes no header
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config
    location /lua { error_page 400 = @moved; content_by_lua_block { ngx.exit(400) } }
    location /nginx { error_page 400 = @moved; return 400; }
    location @moved { access_by_lua_block { require("resty.mtls").access("moved") } proxy_pass $TEST_NGINX_UPSTREAM; }
--- client
. "$CLIENT"
good=$(forge good) bad=$(forge hmac)
for path in lua nginx; do
    get a.test/$path -H "X-Token: $good" -H "Authorization: Bearer $bad" | tr -d '\r' > got
    sed "s/$good/GOOD/g; s/$bad/BAD/g" got | grep -oE '^(Authorization|X-Token): .*|^GET|400 Bad Request</title>'
done
--- client_out
400 Bad Request</title>
GET
X-Token: GOOD
Authorization: Bearer GOOD
--- error_log
[mtls] 400 the response has status 400 already, so no header can be set for the upstream
