# Envoy's x-forwarded-client-cert in all its modes. strip() runs in the rewrite phase, as in
# nginx-conf/mtls-server.conf, and access() must still read the inbound header.

use lib 't/lib';
use TestMtls;

our %Modes = (
    set => 'detail: [subject, uri, dns]',
    sanitize => 'mode: SANITIZE',
    forward => 'mode: FORWARD_ONLY',
    append => 'mode: APPEND_FORWARD, detail: []',
    always => 'mode: ALWAYS_FORWARD_ONLY',
    renamed => 'mode: ALWAYS_FORWARD_ONLY, headers: {xfcc: X-Other-Xfcc}',
    long => 'mode: APPEND_FORWARD, detail: [], max_bytes: 512',
);

our $Policy = <<'_EOC_' . join "", map { <<"_EOC2_" } sort keys %Modes;
_format_version: "3.0"
@{ca_certificates: ca-a}
consumers:
- {username: known, id: 10000000-0000-4000-8000-000000000002}
- {username: nobody, id: 10000000-0000-4000-8000-000000000001}
routes:
_EOC_
- name: $_
  snis: [a.test]
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [\@ca-a], anonymous: nobody, default_consumer: known}
  - name: client-cert-headers
    config: {dialects: [{name: xfcc, $Modes{$_}}]}
_EOC2_

our $Config = "    rewrite_by_lua_block { require(\"resty.mtls\").strip() }\n" . join "", map { <<"_EOC_" }
    location /$_ { access_by_lua_block { require("resty.mtls").access("$_") } proxy_pass \$TEST_NGINX_UPSTREAM; }
_EOC_
    sort keys %Modes;

our $Client = <<'_EOC_';
# xfcc PATH [curl options]: the XFCC lines that the upstream received, with shortened digests
xfcc() { get "a.test/$@" | tr -d '\r' | grep -iE '^x-(forwarded-client-cert|other-xfcc)' | sed 's/Hash=\([0-9a-f]\{4\}\)[0-9a-f]\{60\}/Hash=.../'; }
came='-HX-Forwarded-Client-Cert:Hash=came;URI=spiffe://elsewhere'
_EOC_

run_blocks();

__DATA__

=== TEST 1: access() uses SANITIZE_SET by default, omits values that readers parse differently, and adds the gateway's URI
--- policy eval: $::Policy
--- config eval
$::Config . <<'_EOC_';
    ssl_certificate $TEST_NGINX_PKI/server-uri.crt;
    ssl_certificate_key $TEST_NGINX_PKI/server-uri.key;
_EOC_
--- client eval
$::Client . <<'_EOC_';
xfcc set $(as client-a) $came
xfcc set $(as client-awkward) "-Hx_forwarded-client-cert: forged"
for name in comma forged-cn forged-o forged-uri places; do xfcc set $(as client-$name); done
xfcc set $(as client-c) $came
xfcc set $came
xfcc sanitize $(as client-a) $came
_EOC_
--- client_out
x-forwarded-client-cert: By=spiffe://example.org/gateway;Hash=...;Subject="CN=client-a,O=Example";URI=
x-forwarded-client-cert: By=spiffe://example.org/gateway;Hash=...;DNS=ann.example.com;DNS=alt.example.com
x-forwarded-client-cert: By=spiffe://example.org/gateway;Hash=...;URI=;DNS=comma.example.com
x-forwarded-client-cert: By=spiffe://example.org/gateway;Hash=...;URI=;DNS=a.example.com
x-forwarded-client-cert: By=spiffe://example.org/gateway;Hash=...;URI=;DNS=alice.example.com
x-forwarded-client-cert: By=spiffe://example.org/gateway;Hash=...;Subject="CN=alice,O=Example"
x-forwarded-client-cert: By=spiffe://example.org/gateway;Hash=...;Subject="emailAddress=a@example.com,serialNumber=7,CN=client-places,OU=Research,OU=Sales,O=Example,postalCode=118 00,street=Nerudova 1,L=Praha 1,ST=Praha,C=CZ,DC=example";URI=;DNS=places.example.com
--- error_log
[mtls] header x-forwarded-client-cert: Subject left out: the value of 'O' would be read as something else
[mtls] header x-forwarded-client-cert: Subject left out: the value of 'CN' would be read as something else
[mtls] header x-forwarded-client-cert: URI left out: a name would be read as something else



=== TEST 2: access() forwards an inbound element under the exact name, where mode and peer allow it
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
for mode in forward append always renamed; do
    for as in client-a client-c ""; do
        echo "$mode $as"
        xfcc $mode ${as:+$(as $as)} $came -H 'X_Forwarded-Client-Cert: Hash=forged' -H 'X-Other-Xfcc: Hash=other'
    done
done
echo none came
xfcc append $(as client-a)
xfcc forward $(as client-a)
echo twice
xfcc append $(as client-a) $came $came
_EOC_
--- client_out
forward client-a
x-forwarded-client-cert: Hash=came;URI=spiffe://elsewhere
forward client-c
forward 
append client-a
x-forwarded-client-cert: Hash=came;URI=spiffe://elsewhere,Hash=...
append client-c
append 
always client-a
x-forwarded-client-cert: Hash=came;URI=spiffe://elsewhere
always client-c
x-forwarded-client-cert: Hash=came;URI=spiffe://elsewhere
always 
x-forwarded-client-cert: Hash=came;URI=spiffe://elsewhere
renamed client-a
X-Other-Xfcc: Hash=other
renamed client-c
X-Other-Xfcc: Hash=other
renamed 
X-Other-Xfcc: Hash=other
none came
x-forwarded-client-cert: Hash=...
twice
x-forwarded-client-cert: Hash=came;URI=spiffe://elsewhere,Hash=came;URI=spiffe://elsewhere,Hash=...



=== TEST 3: access() omits the header where the inbound element is unclosed or too long
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
xfcc append $(as client-a) -H 'X-Forwarded-Client-Cert: Hash=came;Subject="open'
# Readers that remove one layer of backslashes see a closed quote, others an open one.
xfcc append $(as client-a) -H 'X-Forwarded-Client-Cert: Hash=came;Subject="open\\\\"'
xfcc long $(as client-a) -H "X-Forwarded-Client-Cert: Hash=$(printf 'a%.0s' {1..512})"
echo done
_EOC_
--- client_out
x-forwarded-client-cert-Too-Large: 1
done
--- error_log
[mtls] header x-forwarded-client-cert left out: an element appended to the inbound value would be misread
[mtls] header x-forwarded-client-cert left out:



=== TEST 4: access() after a rewrite or an internal redirect appends to the inbound element only
--- policy eval: $::Policy
--- config eval
$::Config . <<'_EOC_';
    location /moved { rewrite_by_lua_block { require("resty.mtls").strip(); ngx.exec("/always") } }
    location /again { rewrite ^/again(.*)$ /append$1 break; access_by_lua_block { require("resty.mtls").access("append") } proxy_pass $TEST_NGINX_UPSTREAM; }
    location /twice { access_by_lua_block { require("resty.mtls").access("append"); ngx.exec("/append") } }
_EOC_
--- client eval
$::Client . <<'_EOC_';
for path in moved again twice; do xfcc $path $(as client-a) $came; done
for path in again twice; do xfcc $path $(as client-a); done
_EOC_
--- client_out
x-forwarded-client-cert: Hash=came;URI=spiffe://elsewhere
x-forwarded-client-cert: Hash=came;URI=spiffe://elsewhere,Hash=...
x-forwarded-client-cert: Hash=came;URI=spiffe://elsewhere,Hash=...
x-forwarded-client-cert: Hash=...
x-forwarded-client-cert: Hash=...



=== TEST 5: a second access() appends to what the client sent, not to the element of the first access()
--- policy eval: $::Policy
--- config
    location /t { access_by_lua_block { require("resty.mtls").access("long"); require("resty.mtls").access("long") } proxy_pass $TEST_NGINX_UPSTREAM; }
--- client
get a.test/t $(as client-a) -H 'X-Forwarded-Client-Cert: Hash=came' | tr -d '\r' | grep -i '^x-forwarded' | tr ',' '\n' | wc -l
get a.test/t $(as client-a) -H "X-Forwarded-Client-Cert: Hash=$(printf 'a%.0s' {1..512})" | tr -d '\r' | grep -i '^x-forwarded'
--- client_out
2
x-forwarded-client-cert-Too-Large: 1
--- error_log
[mtls] header x-forwarded-client-cert left out:
