# enforce: report of the plugins that refuse: the request passes without an identity, and the refusal is logged and
# counted.

use lib 't/lib';
use TestMtls;
use TestToken;

our $Crl = make_crl("report", "ca-a", "client-carol");

sub trusting { mtls_auth("ca-a", CORE::join ", ", "crls: [$Crl]", @_) }

my $report = "enforce: report";
my $token = plugin("openid-connect", "issuer: \"$ENV{PROVIDER}/realms/a\", auth_methods: [bearer], audience_required: "
    . "[\"https://api.test\"], rediscovery_lifetime: 1, timeout: 2000, proof_of_possession_mtls: strict, hide_credentials: false");
my $token_report = $token =~ s/\}$/, $report}/r;
my $rule = 'deny: [{name: no-a, "subject.CN": client-a}]';

our $Policy = policy("ca-a ca-b",
    route("enforced", "a.test", trusting()),
    route("auth", "a.test", trusting($report)),
    route("header", "h.test", header_cert_auth($report)),
    route("acl", "a.test", trusting($report), plugin("acl", "deny: [banned]")),
    route("acl-report", "a.test", trusting(), plugin("acl", "allow: [staff], $report")),
    route("acl-alone", "o.test", plugin("acl", "allow: [staff], $report")),
    route("all-report", "a.test", trusting($report), plugin("acl", "allow: [staff], $report")),
    route("rules", "a.test", trusting($report), plugin("client-cert-acl", $rule)),
    route("rules-report", "a.test", trusting(), plugin("client-cert-acl", "$rule, $report")),
    route("lists", "a.test", trusting($report), plugin("client-cert-lists", "deny: [denied.list]")),
    route("lists-report", "a.test", trusting(), plugin("client-cert-lists", "deny: [denied.list], $report")),
    route("token", "a.test", plugin("tls-handshake-modifier"), $token),
    route("token-report", "a.test", plugin("tls-handshake-modifier"), $token_report),
    route("auth-report-token", "a.test", trusting($report), $token),
    route("auth-token-report", "a.test", trusting(), $token_report),
    route("both-report", "a.test", trusting($report), $token_report),
    route("anonymous", "a.test", trusting("anonymous: nobody"), plugin("acl", "allow: [staff], $report")),
    route("other", "m.test", mtls_auth("ca-b")),
    route("plain", "n.test"),
) . <<'_EOC_';
consumers:
- {username: ann, mtls_auth_credentials: [{subject_name: client-a}], header_cert_auth_credentials: [{subject_name: client-a}]}
- {username: bob, acls: [{group: staff}], mtls_auth_credentials: [{subject_name: client-int}]}
- {username: carol, mtls_auth_credentials: [{subject_name: client-carol}]}
- {username: nobody}
plugins:
- {name: client-cert-headers, config: {dialects: [{name: nginx, when: presented}]}}
_EOC_

sub files {
    my $sha256 = `openssl x509 -in $TestMtls::Pki/client-a.crt -outform DER | sha256sum | cut -d' ' -f1`;

    return ">>> policy.yaml\n" . expand_policy($_[0]) . ">>> denied.list\nsha256 $sha256";
}

our $Http = "    include $TestMtls::Root/nginx-conf/mtls-variables.conf;\n"
    . init_http('trusted_ips = { "127.0.0.1" }, watch = false');

our $Config = <<'_EOC_';
    underscores_in_headers on;
    # A directive has to use the variables.
    add_header X-Decision "$mtls_decision $mtls_reason";
    location ~ ^/see/(?<route>[\w-]+) {
        access_by_lua_block {
            local mtls = require("resty.mtls")
            mtls.access(ngx.var.route)
            mtls.access(ngx.var.route)
        }
        content_by_lua_block {
            local client = require("resty.mtls").client()
            local var = ngx.var
            ngx.say(var.mtls_decision, " ", var.mtls_reason, " ", client and client.verified or "none", " ",
                    client and client.consumer and client.consumer.username or "-", " ", #(client and client.groups or {}))
        }
    }
    location ~ ^/up/(?<route>[\w-]+) {
        access_by_lua_block { require("resty.mtls").access(ngx.var.route) }
        proxy_pass $TEST_NGINX_UPSTREAM;
    }
    location ~ ^/decide/(?<route>[\w-]+) {
        content_by_lua_block {
            local result = require("resty.mtls").decide(ngx.var.route)
            ngx.say(result.allowed, " ", result.decision, " ", result.reason, " ", result.status, " ", result.verdict, " ",
                    result.consumer and result.consumer.username)
        }
    }
    location /policy { content_by_lua_block { ngx.say(require("resty.mtls").reload("$TEST_NGINX_HTML_DIR/" .. ngx.var.arg_name)) } }
    location /block { content_by_lua_block { ngx.say(require("resty.mtls").block { sha256 = ngx.var.arg_sha256 }) } }
    location /metrics { content_by_lua_block { ngx.print(require("resty.mtls").metrics()) } }
_EOC_

our $Show = <<'_EOC_';
see() { local route=$1; shift; echo "$route: $(get a.test/see/$route -w '%{http_code}' "$@" | paste -sd ' ')"; }
up() {
    local route=$1
    shift
    echo "$route:" $(get a.test/up/$route "$@" | tr -d '\r' |
        grep -iE '^(ssl-client-(verify|cert)|x-consumer-username|x-anonymous|x-authenticated|authorization)' |
        sed 's/\(.\{40\}\).*/\1/' | LC_ALL=C sort | paste -sd '|')
}
_EOC_

$ENV{CLIENT} = "$TestToken::Dir/client";
open my $out, '>', $ENV{CLIENT} or die;
print $out $Client;
close $out;

run_blocks();

__DATA__

=== TEST 1: mtls-auth in report mode lets every refusal pass without an identity, and nothing else
--- user_files eval: main::files($::Policy)
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Show . <<'_EOC_'
for client in a int carol expired b; do
    see enforced $(as client-$client)
    see auth $(as client-$client)
done
see auth
echo "421: $(get n.test/see/enforced -H 'Host: a.test' -o /dev/null -w '%{http_code}' $(as client-a)) $(get n.test/see/auth -H 'Host: a.test' $(as client-a))"
get m.test/see/auth -H 'Host: a.test' $(as client-a)
up auth $(as client-a)
echo "misdirected: $(get m.test/up/auth -H 'Host: a.test' $(as client-a) | grep -ciE '^(x-consumer|ssl-client-cert)')" \
    $(get m.test/up/auth -H 'Host: a.test' $(as client-a) | tr -d '\r' | grep -i '^ssl-client-verify')
up auth $(as client-b) -H 'X-Consumer-Username: ann' -H 'ssl-client-verify: SUCCESS'
up auth -H 'X-Consumer-Username: ann'
curl -s "http://127.0.0.1:$HTTP_PORT/see/auth"
curl -s -H "X-Client-Cert: $(escaped client-b)" "http://127.0.0.1:$HTTP_PORT/see/header"
curl -s -H "X-Client-Cert: $(escaped client-a)" "http://127.0.0.1:$HTTP_PORT/see/header"
curl -s -H "X-Client-Cert: junk" "http://127.0.0.1:$HTTP_PORT/see/header"
curl -s -H "X-Client-Cert: $(escaped client-a)" -H 'Early-Data: 1' -o /dev/null -w '%{http_code}\n' "http://127.0.0.1:$HTTP_PORT/see/header"
for client in a b; do get a.test/decide/auth $(as client-$client); done
get n.test/metrics | grep would_refuse_total
get n.test/metrics | grep 'requests_total{route="auth"'
_EOC_
--- client_out
enforced: pass  SUCCESS ann 0 200
auth: pass  SUCCESS ann 0 200
enforced: pass  SUCCESS bob 1 200
auth: pass  SUCCESS bob 1 200
enforced: {"message":"TLS certificate failed verification"}401
auth: would_refuse revoked FAILED:certificate revoked - 0 200
enforced: {"message":"TLS certificate failed verification"}401
auth: would_refuse expired FAILED:certificate has expired - 0 200
enforced: {"message":"TLS certificate failed verification"}401
auth: would_refuse untrusted FAILED:unable to get local issuer certificate - 0 200
auth: would_refuse no_certificate none - 0 200
421: 421 would_refuse misdirected none - 0
would_refuse misdirected FAILED:not verified - 0
auth: X-Consumer-Username: ann|ssl-client-cert: -----BEGIN%20CERTIFICAT|ssl-client-verify: SUCCESS
misdirected: 0 ssl-client-verify: NONE
auth: ssl-client-cert: -----BEGIN%20CERTIFICAT|ssl-client-verify: FAILED:unable to get
auth: ssl-client-verify: NONE
would_refuse no_certificate none - 0
would_refuse untrusted FAILED:unable to get local issuer certificate - 0
pass  SUCCESS ann 0
would_refuse unreadable none - 0
425
true pass nil nil SUCCESS ann
true would_refuse untrusted nil FAILED:unable to get local issuer certificate nil
# HELP resty_mtls_would_refuse_total Requests that passed although a plugin with 'enforce: report' would refuse them, by its status.
# TYPE resty_mtls_would_refuse_total counter
resty_mtls_would_refuse_total{route="auth",status="401"} 8
resty_mtls_would_refuse_total{route="auth",status="421"} 4
resty_mtls_would_refuse_total{route="header",status="401"} 2
resty_mtls_requests_total{route="auth",decision="pass"} 16
--- error_log eval
[
    "[mtls] would refuse: 401 no certificate: the client presented none",
    "[mtls] would refuse: 401 FAILED:unable to get local issuer certificate at depth 0, subject: \"CN=client-b",
    "[mtls] would refuse: 421 misdirected request: ",
    "warning: routes[1].plugins[0].config.enforce: is report: requests that mtls-auth would refuse pass;",
]




=== TEST 2: the report of one plugin does not open another that enforces
--- user_files eval: main::files($::Policy)
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Show . <<'_EOC_'
for route in acl rules lists acl-report rules-report lists-report all-report anonymous; do
    for client in a int b; do see $route $(as client-$client); done
    see $route
done
see acl-alone $(as client-a)
for route in acl-report rules-report lists-report all-report; do up $route $(as client-a); done
get n.test/see/acl-report -H 'Host: a.test' -o /dev/null -w '%{http_code}\n' $(as client-a)
get n.test/see/acl -H 'Host: a.test' -o /dev/null -w '%{http_code}\n' $(as client-a)
sha256=$(openssl x509 -in "$PKI/client-int.crt" -outform DER | sha256sum | cut -d' ' -f1)
get "n.test/block?sha256=$sha256"
see auth $(as client-int)
_EOC_
--- client_out
acl: pass  SUCCESS ann 0 200
acl: pass  SUCCESS bob 1 200
acl: {"message":"TLS certificate failed verification"}401
acl: {"message":"No required TLS certificate was sent"}401
rules: {"message":"You cannot consume this service"}403
rules: pass  SUCCESS bob 1 200
rules: {"message":"TLS certificate failed verification"}401
rules: {"message":"No required TLS certificate was sent"}401
lists: {"message":"TLS certificate failed verification"}401
lists: pass  SUCCESS bob 1 200
lists: {"message":"TLS certificate failed verification"}401
lists: {"message":"No required TLS certificate was sent"}401
acl-report: would_refuse forbidden SUCCESS ann 0 200
acl-report: pass  SUCCESS bob 1 200
acl-report: {"message":"TLS certificate failed verification"}401
acl-report: {"message":"No required TLS certificate was sent"}401
rules-report: would_refuse forbidden SUCCESS ann 0 200
rules-report: pass  SUCCESS bob 1 200
rules-report: {"message":"TLS certificate failed verification"}401
rules-report: {"message":"No required TLS certificate was sent"}401
lists-report: would_refuse revoked SUCCESS ann 0 200
lists-report: pass  SUCCESS bob 1 200
lists-report: {"message":"TLS certificate failed verification"}401
lists-report: {"message":"No required TLS certificate was sent"}401
all-report: would_refuse forbidden SUCCESS ann 0 200
all-report: pass  SUCCESS bob 1 200
all-report: would_refuse untrusted FAILED:unable to get local issuer certificate - 0 200
all-report: would_refuse no_certificate none - 0 200
anonymous: would_refuse forbidden SUCCESS ann 0 200
anonymous: pass  SUCCESS bob 1 200
anonymous: would_refuse forbidden FAILED:unable to get local issuer certificate - 0 200
anonymous: would_refuse forbidden none - 0 200
acl-alone: would_refuse no_certificate FAILED:not verified - 0 200
acl-report: X-Consumer-Username: ann|ssl-client-cert: -----BEGIN%20CERTIFICAT|ssl-client-verify: SUCCESS
rules-report: X-Consumer-Username: ann|ssl-client-cert: -----BEGIN%20CERTIFICAT|ssl-client-verify: SUCCESS
lists-report: X-Consumer-Username: ann|ssl-client-cert: -----BEGIN%20CERTIFICAT|ssl-client-verify: SUCCESS
all-report: X-Consumer-Username: ann|ssl-client-cert: -----BEGIN%20CERTIFICAT|ssl-client-verify: SUCCESS
421
421
true
auth: {"message":"TLS certificate failed verification"}401
--- error_log eval
[
    "[mtls] would refuse: 403 acl: groups ()",
    "[mtls] would refuse: 403 client-cert-acl: deny rule 'no-a' holds, subject: \"CN=client-a",
    "[mtls] would refuse: 401 client-cert-lists: denied by 'denied.list', line 1, subject: \"CN=client-a",
    "[mtls] would refuse: 401 acl: no plugin authenticates the clients of this route",
]



=== TEST 3: openid-connect in report mode, beside mtls-auth
--- user_files eval: main::files($::Policy)
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Show . <<'_EOC_'
. "$CLIENT"
good=$(token client-a ES256)
for route in token token-report auth-report-token auth-token-report both-report; do
    see $route $(as client-a) -H "Authorization: Bearer $good"
    see $route $(as client-a)
    see $route $(as client-int) -H "Authorization: Bearer $good"
    see $route -H "Authorization: Bearer $good"
    see $route $(as client-b) -H "Authorization: Bearer junk"
done
up token-report $(as client-a) -H "Authorization: Bearer $good"
up token-report $(as client-a) -H "Authorization: Bearer junk"
up auth-token-report $(as client-a) -H "Authorization: Bearer junk"
# With the certificate that the token is bound to, which is no evidence under this Host
echo "misdirected: $(get m.test/up/token-report -H 'Host: a.test' $(as client-a) -H "Authorization: Bearer $good" | grep -ciE '^(authorization|ssl-client-cert)')"
for route in token token-report both-report auth-report-token; do
    echo "$route: $(get n.test/see/$route -H 'Host: a.test' -w '%{http_code}' $(as client-a) -H "Authorization: Bearer $good" | paste -sd ' ')"
done
_EOC_
--- client_out
token: pass  FAILED:not verified - 0 200
token: {"message":"Unauthorized"}401
token: {"message":"Unauthorized"}401
token: {"message":"Unauthorized"}401
token: {"message":"Unauthorized"}401
token-report: pass  FAILED:not verified - 0 200
token-report: would_refuse no_token FAILED:not verified - 0 200
token-report: would_refuse token_refused FAILED:not verified - 0 200
token-report: would_refuse token_refused none - 0 200
token-report: would_refuse token_refused FAILED:not verified - 0 200
auth-report-token: pass  SUCCESS ann 0 200
auth-report-token: {"message":"Unauthorized"}401
auth-report-token: {"message":"Unauthorized"}401
auth-report-token: {"message":"Unauthorized"}401
auth-report-token: {"message":"Unauthorized"}401
auth-token-report: pass  SUCCESS ann 0 200
auth-token-report: would_refuse no_token SUCCESS ann 0 200
auth-token-report: would_refuse token_refused SUCCESS bob 1 200
auth-token-report: {"message":"No required TLS certificate was sent"}401
auth-token-report: {"message":"TLS certificate failed verification"}401
both-report: pass  SUCCESS ann 0 200
both-report: would_refuse no_token SUCCESS ann 0 200
both-report: would_refuse token_refused SUCCESS bob 1 200
both-report: would_refuse no_certificate none - 0 200
both-report: would_refuse untrusted FAILED:unable to get local issuer certificate - 0 200
token-report: Authorization: Bearer eyJhbGciOiJFUzI1Ni|ssl-client-cert: -----BEGIN%20CERTIFICAT|ssl-client-verify: FAILED:not verified
token-report: ssl-client-verify: NONE
auth-token-report: X-Consumer-Username: ann|ssl-client-cert: -----BEGIN%20CERTIFICAT|ssl-client-verify: SUCCESS
misdirected: 0
token: {"message":"Misdirected Request"}421
token-report: would_refuse misdirected none - 0 200
both-report: would_refuse misdirected none - 0 200
auth-report-token: {"message":"Misdirected Request"}421
--- error_log eval
[
    "[mtls] would refuse: 401 no bearer token",
    "[mtls] would refuse: 401 token is bound to another certificate",
]



=== TEST 4: a change to enforce counts from the next request of a connection on
--- user_files eval: main::files($::Policy) . ">>> strict.yaml\n" . expand_policy($::Policy =~ s/, enforce: report//gr)
--- http_config eval: $::Http
--- config eval: $::Config
--- client
cat >persistent.py <<'END'
import http.client, os, socket, ssl
pki = os.environ["PKI"]
context = ssl.create_default_context(cafile=pki + "/server-ca.crt")
# The default of Python 3.13 refuses CAs without an AKI.
context.verify_flags &= ~ssl.VERIFY_X509_STRICT
context.check_hostname = False
context.load_cert_chain(pki + "/client-a.crt", pki + "/client-a.key")
client = http.client.HTTPConnection("a.test")
client.sock = context.wrap_socket(socket.create_connection(("127.0.0.1", int(os.environ["PORT"]))), server_hostname="a.test")
def get(path):
    client.request("GET", path)
    response = client.getresponse()
    return "%s %s" % (response.status, response.read().decode().strip())
for path in ["/see/rules-report", "/see/rules-report", "/policy?name=strict.yaml", "/see/rules-report", "/policy?name=policy.yaml", "/see/rules-report"]:
    print(get(path))
END
python3 persistent.py
--- client_out
200 would_refuse forbidden SUCCESS ann 0
200 would_refuse forbidden SUCCESS ann 0
200 true
403 {"message":"You cannot consume this service"}
200 true
200 would_refuse forbidden SUCCESS ann 0
--- error_log
[mtls] 403 client-cert-acl: deny rule 'no-a' holds
