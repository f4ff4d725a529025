# A resumed connection has the client and chain of the connection that made its session, and is verified again.

use lib 't/lib';
use TestMtls;

our $Policy = <<'_EOC_';
_format_version: "3.0"
@{ca_certificates: ca-a}
consumers:
- username: client-a
- username: client-int
- username: client-deep
routes:
- name: a
  snis: [a.test]
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-a], verify_depth: 30}
  - name: tls-metadata-headers
    config: {inject_client_cert_details: true, client_cert_chain_header_name: X-Chain}
_EOC_

our $Crl = make_crl("client-a-revoked", "ca-a", "client-a");

our $Config = <<'_EOC_';
    location /t {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block {
            local client = require("resty.mtls").client()
            local chain = ngx.req.get_headers()["X-Chain"] or ""
            local _, certificates = chain:gsub("BEGIN%%20CERTIFICATE", "")
            ngx.say(client.verified, " ", client.consumer.username, " of ",
                    select(2, client.chain_pem:gsub("BEGIN CERTIFICATE", "")), ":", ngx.md5(client.chain_pem):sub(1, 6),
                    " header ", #chain, ":", ngx.md5(chain):sub(1, 6))
        }
    }
    location /reload {
        content_by_lua_block { assert(require("resty.mtls").reload()) ngx.say("reloaded") }
    }
_EOC_

our $Tickets = "    ssl_session_tickets on;\n    ssl_ecdh_curve X25519:P-256;\n";
our $Cache = "    ssl_session_tickets off;\n    ssl_session_cache shared:sessions:1m;\n    ssl_ecdh_curve X25519:P-256;\n";

our $Client = <<'_EOC_';
# twice VERSION AS: two connections, the second with the session of the first; prints "same" for equal responses
twice() {
    local first second
    rm -f session
    first=$(tls tls=$1 sni=a.test path=/t as=$2 sess_out=session | facts status body)
    [ -e session ] || { echo "$1 $2 no session: $first"; return; }
    second=$(tls tls=$1 sni=a.test path=/t as=$2 sess_in=session | facts reused status body)
    [ "$second" = "reused=1 $first" ] && echo "$1 same: ${first%:*}" | sed 's/:[0-9a-f]* header [1-9][0-9]*/ with header/' ||
        echo "$1 $2 first $first then $second"
}
# new_session VERSION AS: makes a session; resume VERSION AS: offers it
new_session() { tls tls=$1 sni=a.test path=/t as=$2 sess_out=session-$1-$2 >/dev/null; }
offer() { [ ! -e "$1" ] || echo "sess_in=$1"; }
resume() { echo "$1 $2 $(tls tls=$1 sni=a.test path=/t as=$2 sess_in=session-$1-$2 | facts reused certreq status)"; }
_EOC_

our $Same = $Client . <<'_EOC_';
for version in 1.2 1.3; do twice $version client-a; twice $version client-int; done
_EOC_

our $SameOut = <<'_EOC_';
1.2 same: status=200 body=SUCCESS client-a of 1 with header
1.2 same: status=200 body=SUCCESS client-int of 2 with header
1.3 same: status=200 body=SUCCESS client-a of 1 with header
1.3 same: status=200 body=SUCCESS client-int of 2 with header
_EOC_

our $Revoke = $Client . <<"_EOC_" . <<'_EOC_';
crl=$Crl
_EOC_
for version in 1.2 1.3; do new_session $version client-a; new_session $version client-int; done
for version in 1.2 1.3; do resume $version client-a; resume $version client-int; done
sed -i "s|verify_depth: 30|&, crls: [$crl]|" policy.yaml
get a.test/reload
for version in 1.2 1.3; do resume $version client-a; resume $version client-int; done
_EOC_

our $RevokeOut = <<'_EOC_';
1.2 client-a reused=1 certreq=0 status=200
1.2 client-int reused=1 certreq=0 status=200
1.3 client-a reused=1 certreq=0 status=200
1.3 client-int reused=1 certreq=0 status=200
reloaded
1.2 client-a reused=1 certreq=0 status=401
1.2 client-int reused=1 certreq=0 status=200
1.3 client-a reused=1 certreq=0 status=401
1.3 client-int reused=1 certreq=0 status=200
_EOC_

our $Without = $Client . <<'_EOC_';
for version in 1.2 1.3; do new_session $version client-int; resume $version client-int; done
sed -i 's/verify_depth: 30/&, resumption: false/' policy.yaml
get a.test/reload
for version in 1.2 1.3; do
    resume $version client-int
    for as in client-a client-int client-b; do
        rm -f new
        tls tls=$version sni=a.test path=/t as=$as sess_out=new >/dev/null
        # Some releases of nginx send the id of a session that they do not cache.
        echo "$version $as $(tls tls=$version sni=a.test path=/t as=$as $(offer new) | facts reused status)"
    done
    rm -f new
    tls tls=$version sni=a.test path=/t sess_out=new >/dev/null
    echo "$version - $(tls tls=$version sni=a.test path=/t $(offer new) | facts reused status)"
done
# After a HelloRetryRequest too
rm -f new
tls tls=1.3 sni=a.test path=/t as=client-a groups=P-521:X25519 sess_out=new | facts retried status
tls tls=1.3 sni=a.test path=/t as=client-a groups=P-521:X25519 $(offer new) | facts retried reused status
_EOC_

our $WithoutOut = '';
for my $v ("1.2", "1.3") {
    $WithoutOut .= "$v client-int reused=1 certreq=0 status=200\n";
}
$WithoutOut .= "reloaded\n";
for my $v ("1.2", "1.3") {
    $WithoutOut .= <<"_EOC_";
$v client-int reused=0 certreq=1 status=200
$v client-a reused=0 status=200
$v client-int reused=0 status=200
$v client-b reused=0 status=401
$v - reused=0 status=401
_EOC_
}
$WithoutOut .= "retried=1 status=200\nretried=1 reused=0 status=200\n";

run_blocks();

__DATA__

=== TEST 1: access() gets the same client and chain from a ticket
--- policy eval: $::Policy
--- http_config eval: $::Tickets
--- config eval: $::Config
--- client eval: $::Same
--- client_out eval: $::SameOut



=== TEST 2: access() gets the same client and chain from a cached session
--- policy eval: $::Policy
--- http_config eval: $::Cache
--- config eval: $::Config
--- client eval: $::Same
--- client_out eval: $::SameOut



=== TEST 3: access() gets the same client and chain in another worker, on named servers
--- worker_processes: 2
--- policy eval: $::Policy
--- http_config eval: $::Cache
--- vhosts: a.test b.test
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
for _ in $(seq 10); do twice 1.2 client-int; twice 1.3 client-int; done | sort | uniq -c | sed 's/^ *//'
_EOC_
--- client_out
10 1.2 same: status=200 body=SUCCESS client-int of 2 with header
10 1.3 same: status=200 body=SUCCESS client-int of 2 with header



=== TEST 4: access() of a chain that is too long for a session: the session is not resumed
--- policy eval: $::Policy
--- http_config eval: $::Tickets
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
for version in 1.2 1.3; do
    for _ in 1 2; do
        tls tls=$version sni=a.test path=/t as=client-deep sess_out=deep | facts reused certreq status body | sed 's/:.*//'
        tls tls=$version sni=a.test path=/t as=client-deep sess_in=deep | facts reused certreq status body | sed 's/:.*//'
    done
done
_EOC_
--- client_out eval
"reused=0 certreq=1 status=200 body=SUCCESS client-deep of 20\n" x 8



=== TEST 5: access() refuses a client on its ticket after a CRL lists it
--- policy eval: $::Policy
--- http_config eval: $::Tickets
--- config eval: $::Config
--- client eval: $::Revoke
--- client_out eval: $::RevokeOut
--- error_log
[mtls] 401 FAILED:certificate revoked at depth 0, subject: "CN=client-a,O=Example"
--- no_error_log
[crit]
[alert]



=== TEST 6: access() refuses a client on its cached session after a CRL lists it
--- policy eval: $::Policy
--- http_config eval: $::Cache
--- config eval: $::Config
--- client eval: $::Revoke
--- client_out eval: $::RevokeOut
--- error_log
[mtls] 401 FAILED:certificate revoked at depth 0, subject: "CN=client-a,O=Example"
--- no_error_log
[crit]
[alert]



=== TEST 7: certificate() with resumption: false issues no ticket and accepts none from before
--- policy eval: $::Policy
--- http_config eval: $::Tickets
--- config eval: $::Config
--- client eval: $::Without
--- client_out eval: $::WithoutOut
--- no_error_log
[crit]
[alert]



=== TEST 8: certificate() with resumption: false caches no session and accepts none from before
--- policy eval: $::Policy
--- http_config eval: $::Cache
--- vhosts: a.test
--- config eval: $::Config
--- client eval: $::Without
--- client_out eval: $::WithoutOut
--- no_error_log
[crit]
[alert]



=== TEST 9: access() with resumption: false refuses resumed sessions of another server name
--- policy
_format_version: "3.0"
@{ca_certificates: ca-a}
routes:
- name: fresh
  snis: [a.test]
  plugins: [{name: mtls-auth, config: {ca_certificates: [@ca-a], skip_consumer_lookup: true, resumption: false}}]
- name: any
  snis: [b.test]
  plugins: [{name: mtls-auth, config: {ca_certificates: [@ca-a], skip_consumer_lookup: true}}]
--- config
    location /to/ {
        access_by_lua_block { require("resty.mtls").access(ngx.var.uri:sub(5)) }
        content_by_lua_block { ngx.say("in") }
    }
--- client
for path in any fresh; do
    tls sni=b.test path=/to/$path as=client-a sess_out=session | facts reused status body
    tls sni=b.test path=/to/$path as=client-a sess_in=session | facts reused status body
done
# The two names share neither sessions nor connections.
tls sni=a.test path=/to/fresh as=client-a sess_in=session | facts reused status body
tls sni=a.test host=a.test,b.test,a.test path=/to/fresh as=client-a | facts status
tls sni=b.test host=b.test,a.test,b.test path=/to/any as=client-a | facts status
--- client_out
reused=0 status=200 body=in
reused=1 status=200 body=in
reused=0 status=200 body=in
reused=1 status=421 body={"message":"Misdirected Request"}
reused=0 status=200 body=in
status=200,421,200
status=200,421,200
--- error_log
[mtls] 421 misdirected request: the route accepts no resumed TLS session, and this Host is none of its snis
