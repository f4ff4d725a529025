# openid-connect: the URLs of keys, jwks_endpoint and extra_jwks_uris.

use lib 't/lib';
use TestMtls;
use TestToken;

our $Http = init_http('');
my $keys = "$ENV{PROVIDER}/realms/a/jwks";
my $other = "$ENV{PROVIDER}/other/keys";
our $Policy = token_policy(
    [ discovery => '' ],
    [ endpoint => qq(jwks_endpoint: "$keys") ],
    [ other => qq(jwks_endpoint: "$other") ],
    [ extra => qq(jwks_endpoint: "$other", extra_jwks_uris: ["$other", "$keys"]) ],
    [ more => qq(jwks_endpoint: "$other", extra_jwks_uris: ["$keys"]) ],
    [ beside => qq(extra_jwks_uris: ["$other"]) ],
    [ elsewhere => qq(jwks_endpoint: "$keys"), "https://idp.invalid/realms/a" ],
    [ both => qq(jwks_endpoint: "$keys", auth_methods: [bearer, introspection], client_id: [gw], client_secret: ["s&cret"]) ],
);

$ENV{CLIENT} = "$TestToken::Dir/client";
open my $out, '>', $ENV{CLIENT} or die;
print $out $Client;
close $out;

run_blocks();

__DATA__

=== TEST 1: access() takes keys from jwks_endpoint, without the discovery document unless the introspection endpoint is needed
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client
. "$CLIENT"
token=$(forge good)
request endpoint "$token"
control counts; echo
request other "$token" | cut -c1-3
request endpoint "$(forge hmac)" | cut -c1-3
# The keys are those of the route, and iss is that of its issuer.
request elsewhere "$token" | cut -c1-3
control counts >counts
request both "$token"
control counts; echo
request both "$(token - opaque loose)"
control counts; echo
request endpoint "$token"
request discovery "$token"
--- client_out
200 in
{"jwks":1}
401
401
401
200 in
{}
200 in
{"discovery":1,"jwks":1,"introspection":1}
200 in
200 in
--- error_log
[mtls] 401 token signed by an unknown key
[mtls] 401 token of another issuer
--- no_error_log
[crit]



=== TEST 2: access() accepts tokens by the keys of extra_jwks_uris, beside those of the issuer or of jwks_endpoint
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client
. "$CLIENT"
token=$(forge good)
request extra "$token"
control counts; echo
request beside "$token"
control counts; echo
request extra "$(forge kid)" | cut -c1-3
--- client_out
200 in
{"jwks":1}
200 in
{"discovery":1,"jwks":1}
401
--- error_log
[mtls] 401 token signed by an unknown key: kid 'unknown', algorithm ES256



=== TEST 3: access() answers 503 before all of extra_jwks_uris were fetched, and keeps the keys when one fails later
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client
. "$CLIENT"
token=$(forge good)
control fault "what=error" >fault
request extra "$token"
request other "$token" | cut -c1-3
control fault "what=" >fault
request more "$token"
control fault "what=error" >fault
sleep 1.1
request more "$(forge kid)" | cut -c1-3
request more "$token"
--- client_out
503 {"message":"Service Unavailable"}
401
200 in
401
200 in
--- error_log
/realms/a/jwks: status 500
