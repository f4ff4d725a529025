# openid-connect: access tokens that are bound to a key, with DPoP proofs (RFC 9449).

use lib 't/lib';
use TestMtls;
use TestToken;

our $Http = init_http('trusted_ips = { "127.0.0.2" }');
our $Policy = token_policy(
    [ strict => 'proof_of_possession_dpop: strict' ],
    [ optional => 'proof_of_possession_dpop: optional' ],
    [ none => '' ],
    [ nonce => 'proof_of_possession_dpop: strict, dpop_use_nonce: true, expose_error_code: false' ],
    [ report => 'proof_of_possession_dpop: strict, dpop_use_nonce: true, enforce: report' ],
    [ short => 'proof_of_possession_dpop: strict, dpop_proof_lifetime: 30' ],
    [ both => 'proof_of_possession_dpop: strict, proof_of_possession_mtls: strict' ],
    [ introspection => 'auth_methods: [introspection], client_id: [gw], client_secret: ["s&cret"], proof_of_possession_dpop: strict' ],
    [ hide => 'proof_of_possession_dpop: strict, hide_credentials: true' ],
    [ show => 'proof_of_possession_dpop: strict' ],
);

# dpop_token KEY ALG [RESOURCE [curl options]]: a token of the provider that is bound to this key
# prove KEY TOKEN URI [QUERY]: a proof, in $proof
# with_proof ROUTE TOKEN PROOF [curl options]: status and challenge
our $Dpop = $Client . <<'_EOC_';
prove() { proof=$(curl -sG "$PROVIDER/control/prove" -d "key=$1" --data-urlencode "token=$2" --data-urlencode "htu=$3" ${4:+-d "$4"}); }
dpop_token() {
    local key=$1 alg=$2 resource=${3:-ES256}
    shift 2; [ $# = 0 ] || shift
    prove "$key" "" "$TOKENS/realms/a/token" "htm=POST&alg=$alg"
    curl -sk "$TOKENS/realms/a/token" -H "DPoP: $proof" -d grant_type=client_credentials -d client_id=dpop -d client_secret=app \
        -d "scope=read write" --data-urlencode "resource=https://api.test/$resource" "$@" |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["access_token"])'
}
with_proof() {
    local route=$1 token=$2 proof=$3
    shift 3
    get "a.test/to/$route" -H "Authorization: DPoP $token" ${proof:+-H "DPoP: $proof"} "$@" -D head -o body -w '%{http_code}'
    sed -n 's/^WWW-Authenticate: \(.*\)\r$/ \1/Ip' head | sed 's/ algs=".*"/ ALGS/' | tr -d '\n'; echo
}
_EOC_

$ENV{CLIENT} = "$TestToken::Dir/client";
open my $out, '>', $ENV{CLIENT} or die;
print $out $Dpop;
close $out;

run_blocks();

__DATA__

=== TEST 1: access() accepts a token of the provider with a proof of its key, of every algorithm, once
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client
. "$CLIENT"
for alg in ES256 RS256 PS256 EdDSA; do
    token=$(dpop_token $alg $alg)
    prove $alg "$token" https://a.test/to/strict "alg=$alg"
    echo "$alg $(with_proof strict "$token" "$proof") $(with_proof strict "$token" "$proof")"
    prove $alg "$token" https://a.test/to/optional "alg=$alg"
    echo "optional $(with_proof optional "$token" "$proof")"
done
get a.test/to/strict -D - -o body | grep -i www-auth | tr -d '\r'
--- client_out eval
my $no = 'DPoP error="invalid_dpop_proof", error_description="The DPoP proof was used before", ALGS';
CORE::join("", map { "$_ 200 401 $no\noptional 200\n" } qw( ES256 RS256 PS256 EdDSA ))
    . qq(WWW-Authenticate: DPoP algs="ES256 ES384 ES512 PS256 PS384 PS512 RS256 RS384 RS512 EdDSA Ed25519 Ed448"\n)
--- error_log
[mtls] 401 DPoP proof refused: it was used before
[mtls] 401 no bearer token



=== TEST 2: access() refuses proofs that do not fit the request
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client
. "$CLIENT"
token=$(dpop_token a ES256)
other=$(dpop_token b ES256)
uri=https://a.test/to/short
try() { echo "$1 $(with_proof short "$token" "$proof" | cut -c1-3)"; }
prove a "$token" $uri "later=-20"; try old
prove a "$token" $uri "later=-31"; try older
prove a "$token" $uri "later=50"; try later
prove a "$token" $uri "later=70"; try much-later
prove a "$token" $uri "htm=POST"; try method
prove a "$token" http://a.test/to/short; try scheme
prove a "$token" https://b.test/to/short; try host
prove a "$token" https://a.test/to/shor; try path
prove a "$token" https://A.test:443/to/%73hort?x; try normalised
prove b "$token" $uri; try key
prove a "$other" $uri; try ath
prove a "" $uri; try no-ath
prove a "$token" $uri "typ=JWT"; try typ
prove a "$token" $uri "private=1"; try private
proof=; try none
prove a "$token" $uri; try "two $(with_proof short "$token" "$proof" -H "DPoP: $proof" | cut -c1-3)"
echo "other token $(with_proof short "$other" "$proof" | cut -c1-3)"
grep -o '\[mtls\] 401 [^,]*' "$ERROR_LOG" | sed "s/iat' is [0-9]*/iat' is TIME/"
--- client_out
old 200
older 401
later 200
much-later 401
method 401
scheme 401
host 401
path 401
normalised 200
key 401
ath 401
no-ath 401
typ 401
private 401
none 401
two 401 200
other token 401
[mtls] 401 DPoP proof refused: its 'iat' is TIME
[mtls] 401 DPoP proof refused: its 'iat' is TIME
[mtls] 401 DPoP proof refused: 'htm' is 'POST'
[mtls] 401 DPoP proof refused: 'htu' is 'http://a.test/to/short'
[mtls] 401 DPoP proof refused: 'htu' is 'https://b.test/to/short'
[mtls] 401 DPoP proof refused: 'htu' is 'https://a.test/to/shor'
[mtls] 401 DPoP proof refused: its key is not the one that the token is bound to
[mtls] 401 DPoP proof refused: 'ath' is that of another token
[mtls] 401 DPoP proof refused: no text 'ath' in it
[mtls] 401 DPoP proof refused: of type 'JWT'
[mtls] 401 DPoP proof refused: 'jwk' has the private member 'd'
[mtls] 401 DPoP proof refused: the request has none
[mtls] 401 DPoP proof refused: 2 DPoP headers
[mtls] 401 DPoP proof refused: its key is not the one that the token is bound to
--- no_error_log
[crit]



=== TEST 3: access() refuses a bound token that is sent as Bearer, and an unbound one that is sent as DPoP
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client
. "$CLIENT"
bound=$(dpop_token a ES256)
loose=$(token - ES256 loose)
for route in strict optional none; do
    prove a "$bound" https://a.test/to/$route
    echo "$route: $(request $route "$bound" -H "DPoP: $proof" | cut -c1-3) $(request $route "$loose" | cut -c1-3)"
    prove a "$loose" https://a.test/to/$route
    with_proof $route "$loose" "$proof"
done
request optional "$bound" | sed 's/algs=".*"/ALGS/'
--- client_out
strict: 401 401
401 DPoP error="invalid_token", error_description="The access token must be bound to a key and sent with the scheme DPoP", ALGS
optional: 401 200
401 Bearer, DPoP error="invalid_token", error_description="The access token must be bound to a key and sent with the scheme DPoP", ALGS
none: 401 200
401 Bearer
401 {"message":"Unauthorized"} Bearer error="invalid_token", error_description="The access token must be bound to a key and sent with the scheme DPoP", DPoP ALGS
--- error_log
[mtls] 401 token is bound to a key by cnf.jkt, and was sent as Bearer, expected DPoP
[mtls] 401 token bound by cnf.jkt, which is not checked here



=== TEST 4: access() challenges for a nonce, and accepts proofs with it
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- worker_processes: 2
--- client
. "$CLIENT"
token=$(dpop_token a ES256)
prove a "$token" https://a.test/to/nonce
with_proof nonce "$token" "$proof"
nonce=$(sed -n 's/^DPoP-Nonce: \(.*\)\r$/\1/Ip' head)
for _ in 1 2 3 4 5 6; do
    prove a "$token" https://a.test/to/nonce "nonce=$nonce"
    with_proof nonce "$token" "$proof"
done
with_proof nonce "$token" "$proof"
prove a "$token" https://a.test/to/nonce "nonce=${nonce}AA"
with_proof nonce "$token" "$proof" | cut -c1-35
# Where the plugin reports only, the response has a nonce too.
prove a "$token" https://a.test/to/report
with_proof report "$token" "$proof"
prove a "$token" https://a.test/to/report "nonce=$(sed -n 's/^DPoP-Nonce: \(.*\)\r$/\1/Ip' head)"
with_proof report "$token" "$proof"
grep -ci DPoP-Nonce head
--- client_out
401 DPoP error="use_dpop_nonce", error_description="The DPoP proof needs a nonce of this server", ALGS
200
200
200
200
200
200
401 DPoP ALGS
401 DPoP error="use_dpop_nonce", er
200
200
0
--- no_error_log
[crit]



=== TEST 5: access() checks opaque tokens by introspection, tokens with both bindings, and hides both headers
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client
. "$CLIENT"
token=$(dpop_token a ES256 opaque)
prove a "$token" https://a.test/to/introspection
echo "introspection $(with_proof introspection "$token" "$proof" | cut -c1-3) $(with_proof introspection "$token" "$proof" | cut -c1-3)"
token=$(dpop_token a ES256)
prove a "$token" https://a.test/to/both
echo "both $(with_proof both "$token" "$proof" $(as client-a) | cut -c1-3)"
for route in show hide; do
    prove a "$token" https://a.test/up/$route
    echo "$route $(get a.test/up/$route -H "Authorization: DPoP $token" -H "DPoP: $proof" | grep -ciE '^(authorization|dpop):')"
done
--- client_out
introspection 200 401
both 401
show 2
hide 0
--- error_log
[mtls] 401 token without cnf.x5t#S256



=== TEST 6: the scheme of the URI is that of a trusted proxy's X-Forwarded-Proto, and of nobody else's
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client
. "$CLIENT"
token=$(dpop_token a ES256)
for address in 127.0.0.2 127.0.0.1; do
    prove a "$token" https://a.test:444/to/strict
    curl -s --interface $address "http://127.0.0.1:$HTTP_PORT/to/strict" -H "Host: a.test:444" -H "X-Forwarded-Proto: https" \
        -H "Authorization: DPoP $token" -H "DPoP: $proof" -o body -w '%{http_code}\n'
done
--- client_out
200
401
--- error_log
'htu' is 'https://a.test:444/to/strict', expected 'http://a.test:444/to/strict'



=== TEST 7: access() answers 503 when a use of a proof cannot be stored, and accepts a proof once in spite of internal redirects
--- user_files eval: $::Policy
--- http_config eval: "$::Http    lua_shared_dict mtls_dpop 32k;\n"
--- config eval
$::Config . <<'_EOC_';
    location = /to/again {
        access_by_lua_block { require("resty.mtls").access("strict") }
        rewrite ^ /to/strict break;
        content_by_lua_block { ngx.exec("/to/strict") }
    }
    location = /fill {
        content_by_lua_block {
            local dict = ngx.shared.mtls_dpop
            for size = 3, 0, -1 do
                for i = 1, 10000 do
                    if not dict:safe_set(size .. "x" .. i, ("x"):rep(10 ^ size)) then break end
                end
            end
            ngx.say("full")
        }
    }
    location = /empty { content_by_lua_block { ngx.shared.mtls_dpop:flush_all() ngx.say("empty") } }
_EOC_
--- client
. "$CLIENT"
token=$(dpop_token a ES256)
prove a "$token" https://a.test/to/again
with_proof again "$token" "$proof"
get a.test/fill
prove a "$token" https://a.test/to/strict
with_proof strict "$token" "$proof"
get a.test/empty
with_proof strict "$token" "$proof"
--- client_out
200
full
503
empty
200
--- error_log
[mtls] 503 no room in the shared dictionary for another DPoP proof: no memory
