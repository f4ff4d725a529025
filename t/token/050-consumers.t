# openid-connect: the consumer of a token, and the anonymous one of requests without a valid token.

use lib 't/lib';
use TestMtls;
use TestToken;

our $Http = init_http('trusted_ips = { "127.0.0.2" }') . "    include $TestMtls::Root/nginx-conf/mtls-variables.conf;\n";

# The same with a clock that jumps by a day and more.
our $Shifted = $Http =~ s/init_by_lua_block \{/$&
        local time, now = ngx.time, ngx.now
        offset = 0
        ngx.time = function() return time() + offset end
        ngx.now = function() return now() + offset end
        /r;

# Each route is [ name, fields of openid-connect, other plugins ].
sub routes {
    return CORE::join "", map {
        my ($name, $fields, @others) = @$_;
        my @plugins = ("{name: openid-connect, config: {issuer: \"$ENV{PROVIDER}/realms/a\", auth_methods: [bearer], "
            . "rediscovery_lifetime: 1, hide_credentials: false, $fields}}", @others);

        ("- name: $name\n  snis: [a.test]\n  plugins:\n", map { "  - $_\n" } @plugins);
    } @_;
}

my $mtls = '{name: mtls-auth, config: {ca_certificates: [@ca-a], revocation_check_mode: SKIP}}';
my $staff = '{name: acl, config: {allow: [staff]}}';

our $Policy = ">>> policy.yaml\n" . expand_policy(<<'_EOC_' . routes(
_format_version: "3.0"
@{ca_certificates: ca-a ca-b}
consumers:
- {username: ann, custom_id: c-ann, id: 10000000-0000-4000-8000-000000000001, acls: [{group: staff}, {group: "x,y"}]}
- {username: bob, id: 10000000-0000-4000-8000-000000000002}
- {custom_id: "4711", id: 10000000-0000-4000-8000-000000000003}
- username: machine
  id: 10000000-0000-4000-8000-000000000004
  acls: [{group: machines}]
  mtls_auth_credentials: [{subject_name: client-a, id: 20000000-0000-4000-8000-000000000001}]
- {username: guest, id: 10000000-0000-4000-8000-000000000005, acls: [{group: guests}]}
plugins:
- name: tls-handshake-modifier
routes:
_EOC_
    [ plain => 'consumer_claims: [sub]' ],
    [ nested => 'consumer_claim: [org, id], consumer_by: [custom_id]' ],
    [ several => 'consumer_claims: [uid, sub], consumer_by: [id, username]' ],
    [ caseless => 'consumer_claims: [sub], by_username_ignore_case: true' ],
    [ bound => 'consumer_claims: [sub], proof_of_possession_mtls: strict' ],
    [ acl => 'consumer_claims: [sub]', $staff ],
    [ optional => 'consumer_claims: [sub], consumer_optional: true', $staff ],
    [ denied => 'consumer_claims: [sub], consumer_optional: true', '{name: acl, config: {deny: [staff]}}' ],
    [ both => 'consumer_claims: [sub]', $mtls, $staff ],
    [ either => 'consumer_claims: [sub], consumer_optional: true', $mtls, '{name: acl, config: {allow: [machines]}}' ],
    [ anonymous => 'consumer_claims: [sub], scopes_required: [read], anonymous: guest' ],
    [ guests => 'consumer_claims: [sub], anonymous: guest', '{name: acl, config: {allow: [guests]}}' ],
    [ noguests => 'consumer_claims: [sub], anonymous: guest', $staff ],
    [ tokenless => 'anonymous: guest', $mtls ],
));

our $Routes = $Config . <<'_EOC_';
    location = /reload {
        content_by_lua_block { ngx.say(require("resty.mtls").reload("$TEST_NGINX_HTML_DIR/policy.yaml")) }
    }
    location = /a-day-later {
        content_by_lua_block {
            offset = 90000
            ngx.say("later")
        }
    }
    location ~ ^/see/(?<route>[\w-]+) {
        access_by_lua_block { require("resty.mtls").access(ngx.var.route) }
        add_header X-Used "$mtls_verify$mtls_consumer$mtls_groups$mtls_decision$mtls_subject_cn";
        content_by_lua_block {
            local client = require("resty.mtls").client()
            local consumer = client and client.consumer or {}
            ngx.say(client and client.verified or "nobody", " ", client and client.source or "-", " ",
                    consumer.username or "-", " ", consumer.custom_id or "-", " ",
                    client and table.concat(client.groups, "+") or "", " | ",
                    ngx.var.mtls_verify, " ", ngx.var.mtls_consumer, " ", ngx.var.mtls_groups, " ",
                    ngx.var.mtls_decision, " ", ngx.var.mtls_subject_cn)
        }
    }
_EOC_

# of CLAIMS [NAME]: a token with these claims, bound to a certificate
# see ROUTE TOKEN [curl options]
# upstream ROUTE TOKEN [curl options]: the headers about the consumer, and the credentials
our $Consumers = $Client . <<'_EOC_';
of() {
    curl -sG "$PROVIDER/control/forge" -d kind=claims ${2:+-d "x5t=$(x5t "$2")"} --data-urlencode "claims=$1"
}
see() { get "a.test/see/$1" ${2:+-H "Authorization: Bearer $2"} "${@:3}"; }
upstream() {
    get "a.test/up/$1" ${2:+-H "Authorization: Bearer $2"} -H "X-Consumer-Username: root" -H "X-Consumer-Groups: root" \
            -H "X-Anonymous-Consumer: no" -H "X-Credential-Identifier: 1" "${@:3}" |
        sed -n 's/\r$//; s/^Authorization: Bearer .*/Authorization: Bearer/; s/^\(x-.*\|Authorization\): /\1: /Ip' |
        LC_ALL=C sort | paste -sd '|'
}
ann=$(of '{"sub":"ann"}') bob=$(of '{"sub":"bob"}') none=$(of '{"sub":"nobody"}')
_EOC_

$ENV{CLIENT} = "$TestToken::Dir/client";
open my $out, '>', $ENV{CLIENT} or die;
print $out $Consumers;
close $out;

run_blocks();

__DATA__

=== TEST 1: access() maps claims to consumers, and refuses tokens of none with 403
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Routes
--- client
. "$CLIENT"
echo "# sub"
see plain "$ann"; see plain "$bob"; see plain "$ann" $(as client-a)
request plain "$none"; request plain "$(of '{"sub":["ann"]}')" | cut -c1-3
request plain "$(of '{"sub":"Ann"}')" | cut -c1-3; request plain "$(of '{"sub":""}')" | cut -c1-3; request plain ""
echo "# paths and custom_id"
see nested "$(of '{"org":{"id":"c-ann"}}')"; see nested "$(of '{"org":{"id":4711}}')"
request nested "$(of '{"org":{"id":"ann"}}')" | cut -c1-3; request nested "$(of '{"org":"c-ann"}')" | cut -c1-3
echo "# several claims, and ids"
see several "$(of '{"uid":"10000000-0000-4000-8000-000000000002","sub":"ann"}')"
see several "$(of '{"uid":"ann","sub":"bob"}')"; see several "$(of '{"uid":"c-ann","sub":"bob"}')"
echo "# case"
see caseless "$(of '{"sub":"ANN"}')"; request caseless "$(of '{"sub":"C-ANN"}')" | cut -c1-3
echo "# a stolen token"
see bound "$(of '{"sub":"ann"}' client-a)" $(as client-a)
request bound "$(of '{"sub":"ann"}' client-a)" $(as client-b) | cut -c1-3
request bound "$(of '{"sub":"nobody"}' client-a)" $(as client-a) | cut -c1-3
--- client_out
# sub
NONE - ann c-ann staff+x,y | NONE ann staff, x\,y pass 
NONE - bob -  | NONE bob  pass 
FAILED:not verified tls ann c-ann staff+x,y | FAILED:not verified ann staff, x\,y pass client-a
403 {"message":"Forbidden"} Bearer
403
403
403
401 {"message":"Unauthorized"} Bearer
# paths and custom_id
NONE - ann c-ann staff+x,y | NONE ann staff, x\,y pass 
NONE - - 4711  | NONE 4711  pass 
403
403
# several claims, and ids
NONE - bob -  | NONE bob  pass 
NONE - ann c-ann staff+x,y | NONE ann staff, x\,y pass 
NONE - bob -  | NONE bob  pass 
# case
NONE - ann c-ann staff+x,y | NONE ann staff, x\,y pass 
403
# a stolen token
FAILED:not verified tls ann c-ann staff+x,y | FAILED:not verified ann staff, x\,y pass client-a
401
403
--- error_log
[mtls] 403 token of no consumer: 'sub' is 'nobody',
[mtls] 403 token of no consumer: no text 'sub',
[mtls] 403 token of no consumer: 'org.id' is 'ann',
--- no_error_log
[crit]



=== TEST 2: acl judges the consumer of the token, else that of the certificate
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Routes
--- client
. "$CLIENT"
a=$(as client-a)
echo "# without mtls-auth"
for route in acl optional denied; do
    echo "$route: $(request $route "$ann") $(request $route "$bob") $(request $route "$none" | cut -c1-44)"
done
echo "# with mtls-auth, both must let the client in"
see both "$ann" $a; request both "$bob" $a; request both "$none" $a; request both "" $a
request both "$ann"
echo "# the certificate decides where the token has no consumer"
see either "$none" $a; request either "$ann" $a; request either "" $a | cut -c1-3
echo "# many tokens of one client"
for _ in 1 2 3; do see plain "$ann" $a; see plain "$bob" $a; see either "$none" $a; done | sort | uniq -c | sed 's/ *//'
--- client_out
# without mtls-auth
acl: 200 in 403 {"message":"You cannot consume this service"} 403 {"message":"Forbidden"} Bearer
optional: 200 in 403 {"message":"You cannot consume this service"} 403 {"message":"You cannot consume this serv
denied: 403 {"message":"You cannot consume this service"} 200 in 200 in
# with mtls-auth, both must let the client in
SUCCESS tls ann c-ann staff+x,y | SUCCESS ann staff, x\,y pass client-a
403 {"message":"You cannot consume this service"}
403 {"message":"Forbidden"} Bearer
401 {"message":"Unauthorized"} Bearer
401 {"message":"No required TLS certificate was sent"}
# the certificate decides where the token has no consumer
SUCCESS tls machine - machines | SUCCESS machine machines pass client-a
403 {"message":"You cannot consume this service"}
401
# many tokens of one client
3 FAILED:not verified tls ann c-ann staff+x,y | FAILED:not verified ann staff, x\,y pass client-a
3 FAILED:not verified tls bob -  | FAILED:not verified bob  pass client-a
3 SUCCESS tls machine - machines | SUCCESS machine machines pass client-a
--- error_log
[mtls] 403 acl: groups () of the token's consumer,
[mtls] 403 acl: groups (staff, x,y) of the token's consumer,
[mtls] 403 acl: groups (),
--- no_error_log
[crit]



=== TEST 3: the upstream gets the headers of the consumer of the token, and none that the client sent
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Routes
--- client
. "$CLIENT"
a=$(as client-a)
upstream acl "$ann"; upstream plain "$bob"; upstream both "$ann" $a; upstream either "$none" $a
# One connection, and tokens of several consumers
of_token() { echo -sk --http1.1 --connect-to "::127.0.0.1:$PORT" https://a.test/up/plain $a --oauth2-bearer "$1"; }
curl $(of_token "$ann") --next $(of_token "$bob") --next $(of_token "$ann") -w '%{num_connects}\n' |
    sed -n 's/\r$//; s/^X-Consumer-Username: //Ip; /^[0-9]$/p' | paste -sd ' '
--- client_out
Authorization: Bearer|X-Consumer-Custom-ID: c-ann|X-Consumer-Groups: staff, x%2Cy|X-Consumer-ID: 10000000-0000-4000-8000-000000000001|X-Consumer-Username: ann
Authorization: Bearer|X-Consumer-ID: 10000000-0000-4000-8000-000000000002|X-Consumer-Username: bob
Authorization: Bearer|X-Consumer-Custom-ID: c-ann|X-Consumer-Groups: staff, x%2Cy|X-Consumer-ID: 10000000-0000-4000-8000-000000000001|X-Consumer-Username: ann
Authorization: Bearer|X-Consumer-Groups: machines|X-Consumer-ID: 10000000-0000-4000-8000-000000000004|X-Consumer-Username: machine|X-Credential-Identifier: 20000000-0000-4000-8000-000000000001
ann bob ann 0
--- no_error_log
[error]



=== TEST 4: a request without a valid token passes as the anonymous consumer, without its credentials
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Routes
--- client
. "$CLIENT"
a=$(as client-a)
expired=$(forge expired)
echo "# as the consumer of the token, or else as guest"
upstream anonymous "$ann"; upstream anonymous "$expired"; upstream anonymous ""; upstream anonymous "" -H "Authorization: Basic eDp5"
echo "# a valid token that does not suffice is refused"
request anonymous "$none"; request anonymous "$(of '{"sub":"ann","scope":"write"}')" | cut -c1-3
echo "# acl judges the anonymous consumer"
for route in guests noguests; do
    echo "$route: $(request $route "") $(request $route "$expired") $(request $route "$ann")"
done
see guests ""; see guests "$expired" $a
echo "# the certificate of mtls-auth is still required, and its consumer stays"
request tokenless ""; upstream tokenless "" $a; upstream tokenless "$expired" $a; upstream tokenless "$ann" $a
--- client_out
# as the consumer of the token, or else as guest
Authorization: Bearer|X-Consumer-Custom-ID: c-ann|X-Consumer-ID: 10000000-0000-4000-8000-000000000001|X-Consumer-Username: ann
X-Anonymous-Consumer: true|X-Consumer-ID: 10000000-0000-4000-8000-000000000005|X-Consumer-Username: guest
X-Anonymous-Consumer: true|X-Consumer-ID: 10000000-0000-4000-8000-000000000005|X-Consumer-Username: guest
X-Anonymous-Consumer: true|X-Consumer-ID: 10000000-0000-4000-8000-000000000005|X-Consumer-Username: guest
# a valid token that does not suffice is refused
403 {"message":"Forbidden"} Bearer
403
# acl judges the anonymous consumer
guests: 200 in 200 in 403 {"message":"You cannot consume this service"}
noguests: 403 {"message":"You cannot consume this service"} 403 {"message":"You cannot consume this service"} 200 in
nobody - - -  | NONE   pass 
FAILED:not verified tls - -  | FAILED:not verified   pass client-a
# the certificate of mtls-auth is still required, and its consumer stays
401 {"message":"No required TLS certificate was sent"}
X-Consumer-ID: 10000000-0000-4000-8000-000000000004|X-Consumer-Username: machine|X-Credential-Identifier: 20000000-0000-4000-8000-000000000001
X-Consumer-ID: 10000000-0000-4000-8000-000000000004|X-Consumer-Username: machine|X-Credential-Identifier: 20000000-0000-4000-8000-000000000001
Authorization: Bearer|X-Consumer-ID: 10000000-0000-4000-8000-000000000004|X-Consumer-Username: machine|X-Credential-Identifier: 20000000-0000-4000-8000-000000000001
--- error_log
[mtls] 403 acl: groups (guests) (anonymous),
--- no_error_log
[crit]



=== TEST 5: after a reload, a token that is in the cache has the headers and consumer of the policy in force
--- user_files eval: $::Policy
--- http_config eval: $::Http =~ s/trusted_ips/watch = false, trusted_ips/r
--- config eval: $::Routes
--- client
. "$CLIENT"
upstream plain "$ann"
policy=$TEST_NGINX_HTML_DIR/policy.yaml
# Every consumer has another number, and the claim another header.
sed -i 's/^- {username: bob, .*/- {username: first, id: 10000000-0000-4000-8000-000000000009}\n&/; /^- {username: ann/{h;d}; /^plugins:/{H;x;s/^\(.*\)\n/\1\n/}
        s/consumer_claims: \[sub\]}}/consumer_claims: [sub], upstream_headers_claims: [sub], upstream_headers_names: [X-Sub]}}/' "$policy"
get a.test/reload
upstream plain "$ann"; see plain "$ann"
--- client_out
Authorization: Bearer|X-Consumer-Custom-ID: c-ann|X-Consumer-ID: 10000000-0000-4000-8000-000000000001|X-Consumer-Username: ann
true
Authorization: Bearer|X-Consumer-Custom-ID: c-ann|X-Consumer-ID: 10000000-0000-4000-8000-000000000001|X-Consumer-Username: ann|X-Sub: ann
NONE - ann c-ann staff+x,y | NONE ann staff, x\,y pass 
--- no_error_log
[crit]



=== TEST 6: a request without a token passes as the anonymous consumer also while the issuer's documents are too old
--- user_files eval: $::Policy
--- http_config eval: $::Shifted
--- config eval: $::Routes
--- client
. "$CLIENT"
request plain "$ann"; request anonymous "" | cut -c1-6
control "fault" what=down >fault
sleep 1.1; get a.test/a-day-later
request plain ""; request plain "$ann" | cut -c1-3
upstream anonymous ""; upstream tokenless "" $(as client-a)
--- client_out
200 in
200 in
later
401 {"message":"Unauthorized"} Bearer
503
X-Anonymous-Consumer: true|X-Consumer-ID: 10000000-0000-4000-8000-000000000005|X-Consumer-Username: guest
X-Consumer-ID: 10000000-0000-4000-8000-000000000004|X-Consumer-Username: machine|X-Credential-Identifier: 20000000-0000-4000-8000-000000000001
--- error_log
[mtls] 503
--- no_error_log
[crit]
