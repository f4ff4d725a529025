# mtls-auth maps certificates to consumers, and the upstream receives the consumer in headers.

use lib 't/lib';
use TestMtls;

# Some names match several ways: client-a is a subject_name with and without a CA, a username and a custom_id.
our $Policy = <<'_EOC_';
_format_version: "3.0"
@{ca_certificates: ca-a ca-b ca-c}
consumers:
- username: with-ca
  custom_id: W-1
  id: 10000000-0000-4000-8000-000000000001
  mtls_auth_credentials:
  - {id: 20000000-0000-4000-8000-000000000001, subject_name: client-a, ca_certificate: {id: @ca-a}}
  - {id: 20000000-0000-4000-8000-000000000002, subject_name: client-int, ca_certificate: @ca-a}
  - {id: 20000000-0000-4000-8000-000000000003, subject_name: client-c, ca_certificate: @ca-a}
- username: without-ca
  id: 10000000-0000-4000-8000-000000000002
  mtls_auth_credentials:
  - {id: 20000000-0000-4000-8000-000000000004, subject_name: client-a}
  - {id: 20000000-0000-4000-8000-000000000005, subject_name: client-b}
  - {id: 20000000-0000-4000-8000-000000000006, subject_name: first.example.com}
- username: client-a
  id: 10000000-0000-4000-8000-000000000003
- username: client-c
  id: 10000000-0000-4000-8000-000000000004
- custom_id: client-c
  id: 10000000-0000-4000-8000-000000000005
- username: second-with-ca
  id: 10000000-0000-4000-8000-000000000006
  mtls_auth_credentials:
  - id: 20000000-0000-4000-8000-000000000007
    subject_name: second.example.com
    ca_certificate: @{ca-a}
- username: carol.example.com
  id: 10000000-0000-4000-8000-000000000007
- username: carol-dir
  id: 10000000-0000-4000-8000-000000000008
- username: Example Lab
  id: 10000000-0000-4000-8000-000000000009
- username: "carol\x40example.com"
  id: 10000000-0000-4000-8000-00000000000a
- username: carol
  id: 10000000-0000-4000-8000-00000000000b
- username: fallback
  id: 10000000-0000-4000-8000-00000000000c
- username: guest
  custom_id: G-1
  id: 10000000-0000-4000-8000-00000000000d
  acls:
  - group: visitors
routes:
- name: plain
  snis: [a.test]
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-a, @ca-b, @ca-c], revocation_check_mode: SKIP}
- name: custom
  snis: [a.test]
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-a, @ca-b, @ca-c], revocation_check_mode: SKIP, consumer_by: [custom_id]}
- name: manual
  snis: [a.test]
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-a, @ca-b, @ca-c], revocation_check_mode: SKIP, consumer_by: []}
- name: default
  snis: [a.test]
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-a], revocation_check_mode: SKIP, consumer_by: [], default_consumer: fallback, anonymous: guest}
- name: anonymous
  snis: [a.test]
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-a], revocation_check_mode: SKIP, consumer_by: [], anonymous: 10000000-0000-4000-8000-00000000000D}
- name: holder
  snis: [a.test]
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-a], revocation_check_mode: SKIP, skip_consumer_lookup: true}
_EOC_

our $Config = <<'_EOC_';
    location /client/ {
        access_by_lua_block { require("resty.mtls").access(ngx.var.uri:sub(9)) }
        content_by_lua_block {
            local client = require("resty.mtls").client()
            local consumer = client and client.consumer or {}
            ngx.say(client and client.verified, " ", consumer.id, " ", consumer.username, " ", consumer.custom_id, " [",
                    client and table.concat(client.groups, ","), "]")
        }
    }
    location /to/ {
        access_by_lua_block { require("resty.mtls").access(ngx.var.uri:sub(5)) }
        proxy_pass $TEST_NGINX_UPSTREAM;
    }
_EOC_

# identity_headers ROUTE [curl options]: the identity headers that the upstream received, or status and body of a
# refusal
our $Client = <<'_EOC_';
identity_headers() {
    local route=$1
    shift
    get "a.test/to/$route" "$@" -o echo -w '%{http_code}\n' > status
    [ "$(cat status)" = 200 ] || { echo "$(cat status) $(cat echo)"; return; }
    received
}
received() {
    tr -d '\r' < echo | sed -n 's/^\(X-Con[^:]*\|X-Cred[^:]*\|X-Anon[^:]*\|X-Client[^:]*\): /\1=/p' | sort |
        sed 's/^X-//; s/[12]0000000-0000-4000-8000-0000000000/#/' | paste -sd' '
}
_EOC_

run_blocks();

__DATA__

=== TEST 1: access() maps by credentials with a CA, credentials without one, usernames and custom_ids, in that order
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
for name in a int b c two; do echo "$name: $(identity_headers plain $(as client-$name))"; done
_EOC_
--- client_out
a: Consumer-Custom-ID=W-1 Consumer-ID=#01 Consumer-Username=with-ca Credential-Identifier=#01
int: Consumer-Custom-ID=W-1 Consumer-ID=#01 Consumer-Username=with-ca Credential-Identifier=#02
b: Consumer-ID=#02 Consumer-Username=without-ca Credential-Identifier=#05
c: Consumer-ID=#04 Consumer-Username=client-c
two: Consumer-ID=#06 Consumer-Username=second-with-ca Credential-Identifier=#07



=== TEST 2: access() maps by SANs where the certificate has any, and compares DNS names without case
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
identity_headers plain $(as client-carol)
identity_headers plain $(as client-san)
_EOC_
--- client_out
Consumer-ID=#07 Consumer-Username=carol.example.com
401 {"message":"TLS certificate failed verification"}
--- error_log
[mtls] 401 no consumer, subject: "CN=client-a", issuer: "CN=Test CA-A,O=Example Lab,C=CZ", serial:



=== TEST 3: access() maps by the fields of consumer_by
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
for route in plain custom manual; do echo "$route: $(identity_headers $route $(as client-c))"; done
_EOC_
--- client_out
plain: Consumer-ID=#04 Consumer-Username=client-c
custom: Consumer-Custom-ID=client-c Consumer-ID=#05
manual: 401 {"message":"TLS certificate failed verification"}
--- error_log
[mtls] 401 no consumer, subject: "CN=client-c,O=Example", issuer: "CN=Test CA-C,O=Example Lab,C=CZ", serial:



=== TEST 4: access() maps other trusted certificates to default_consumer, and all other clients to anonymous
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
for route in default anonymous; do
    for name in a carol b expired forged; do echo "$route $name: $(identity_headers $route $(as client-$name))"; done
    echo "$route none: $(identity_headers $route)"
    curl -s -o echo "http://127.0.0.1:$HTTP_PORT/to/$route"
    echo "$route plain HTTP: $(received)"
done
_EOC_
--- client_out
default a: Consumer-Custom-ID=W-1 Consumer-ID=#01 Consumer-Username=with-ca Credential-Identifier=#01
default carol: Consumer-ID=#0c Consumer-Username=fallback
default b: Anonymous-Consumer=true Consumer-Custom-ID=G-1 Consumer-ID=#0d Consumer-Username=guest
default expired: Anonymous-Consumer=true Consumer-Custom-ID=G-1 Consumer-ID=#0d Consumer-Username=guest
default forged: Anonymous-Consumer=true Consumer-Custom-ID=G-1 Consumer-ID=#0d Consumer-Username=guest
default none: Anonymous-Consumer=true Consumer-Custom-ID=G-1 Consumer-ID=#0d Consumer-Username=guest
default plain HTTP: Anonymous-Consumer=true Consumer-Custom-ID=G-1 Consumer-ID=#0d Consumer-Username=guest
anonymous a: Consumer-Custom-ID=W-1 Consumer-ID=#01 Consumer-Username=with-ca Credential-Identifier=#01
anonymous carol: Anonymous-Consumer=true Consumer-Custom-ID=G-1 Consumer-ID=#0d Consumer-Username=guest
anonymous b: Anonymous-Consumer=true Consumer-Custom-ID=G-1 Consumer-ID=#0d Consumer-Username=guest
anonymous expired: Anonymous-Consumer=true Consumer-Custom-ID=G-1 Consumer-ID=#0d Consumer-Username=guest
anonymous forged: Anonymous-Consumer=true Consumer-Custom-ID=G-1 Consumer-ID=#0d Consumer-Username=guest
anonymous none: Anonymous-Consumer=true Consumer-Custom-ID=G-1 Consumer-ID=#0d Consumer-Username=guest
anonymous plain HTTP: Anonymous-Consumer=true Consumer-Custom-ID=G-1 Consumer-ID=#0d Consumer-Username=guest



=== TEST 5: access() removes inbound identity headers in every spelling
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
forged=(-H 'X-Consumer-ID: root' -H 'x_consumer_username: root' -H 'X-CONSUMER-CUSTOM-ID: root'
        -H 'X-Credential-Identifier: root' -H 'X-Anonymous-Consumer: false' -H 'x-consumer-groups: root'
        -H 'X-Authenticated-Groups: root' -H 'X-Client-Cert-Dn: root' -H 'X-Client-Cert-San: root')
forged_headers() { tr -d '\r' < echo | grep -i 'root\|false'; }
for route in plain holder anonymous; do
    echo "$route: $(identity_headers $route "${forged[@]}" $(as client-a))"; forged_headers
done
echo "anonymous: $(identity_headers anonymous "${forged[@]}")"; forged_headers
curl -s -o echo "${forged[@]}" "http://127.0.0.1:$HTTP_PORT/to/anonymous"; received; forged_headers
_EOC_
--- client_out
plain: Consumer-Custom-ID=W-1 Consumer-ID=#01 Consumer-Username=with-ca Credential-Identifier=#01
holder: Client-Cert-Dn=CN=client-a,O=Example
anonymous: Consumer-Custom-ID=W-1 Consumer-ID=#01 Consumer-Username=with-ca Credential-Identifier=#01
anonymous: Anonymous-Consumer=true Consumer-Custom-ID=G-1 Consumer-ID=#0d Consumer-Username=guest
Anonymous-Consumer=true Consumer-Custom-ID=G-1 Consumer-ID=#0d Consumer-Username=guest



=== TEST 6: client() returns the consumer
--- policy eval: $::Policy
--- config eval: $::Config
--- client
for route in plain holder; do get a.test/client/$route $(as client-a); done
get a.test/client/default $(as client-carol)
get a.test/client/anonymous $(as client-carol)
get a.test/client/anonymous $(as client-expired)
get a.test/client/anonymous
curl -s "http://127.0.0.1:$HTTP_PORT/client/anonymous"
--- client_out
SUCCESS 10000000-0000-4000-8000-000000000001 with-ca W-1 []
SUCCESS nil nil nil [client-a]
SUCCESS 10000000-0000-4000-8000-00000000000c fallback nil []
FAILED:no consumer nil nil nil []
FAILED:certificate has expired nil nil nil []
nil nil nil nil [nil]
nil nil nil nil [nil]



=== TEST 7: access() compares the attributes of a directoryName that san_dirname_matcher names
--- policy
_format_version: "3.0"
@{ca_certificates: ca-a}
consumers:
- {username: carol-dir, id: 10000000-0000-4000-8000-000000000001}
- {username: Example Lab, id: 10000000-0000-4000-8000-000000000002}
- {username: "carol\x40example.com", id: 10000000-0000-4000-8000-000000000003}
- {username: carol, id: 10000000-0000-4000-8000-000000000004}
routes:
- name: all
  snis: [a.test]
  plugins:
  - {name: mtls-auth, config: {ca_certificates: [@ca-a], revocation_check_mode: SKIP}}
- name: short
  snis: [a.test]
  plugins:
  - {name: mtls-auth, config: {ca_certificates: [@ca-a], revocation_check_mode: SKIP, san_dirname_matcher: [CN]}}
- name: long
  snis: [a.test]
  plugins:
  - {name: mtls-auth, config: {ca_certificates: [@ca-a], revocation_check_mode: SKIP, san_dirname_matcher: [organizationName]}}
- name: dotted
  snis: [a.test]
  plugins:
  - {name: mtls-auth, config: {ca_certificates: [@ca-a], revocation_check_mode: SKIP, san_dirname_matcher: [2.5.4.3]}}
- name: other
  snis: [a.test]
  plugins:
  - {name: mtls-auth, config: {ca_certificates: [@ca-a], revocation_check_mode: SKIP, san_dirname_matcher: [OU]}}
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
for route in all short long dotted other; do echo "$route: $(identity_headers $route $(as client-carol))"; done
_EOC_
--- client_out
all: Consumer-ID=#02 Consumer-Username=Example Lab
short: Consumer-ID=#01 Consumer-Username=carol-dir
long: Consumer-ID=#02 Consumer-Username=Example Lab
dotted: Consumer-ID=#01 Consumer-Username=carol-dir
other: 401 {"message":"TLS certificate failed verification"}
--- no_error_log
[crit]
[alert]



=== TEST 8: access() gives a consumer without an id a stable one, and maps each request of a connection by its route
--- policy
_format_version: "3.0"
@{ca_certificates: ca-a}
consumers:
- username: client-a
- username: guest
routes:
- name: one
  snis: [a.test]
  plugins:
  - {name: mtls-auth, config: {ca_certificates: [@ca-a], revocation_check_mode: SKIP}}
- name: two
  snis: [a.test]
  plugins:
  - {name: mtls-auth, config: {ca_certificates: [@ca-a], revocation_check_mode: SKIP, consumer_by: [], anonymous: guest}}
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
url=https://a.test
curl -sk --http1.1 --connect-to "::127.0.0.1:$PORT" $(as client-a) "$url/to/one" "$url/to/two" "$url/to/one" "$url/to/two" > echo
tr -d '\r' < echo | sed -n 's/^X-Consumer-Username: //p'
tr -d '\r' < echo | sed -n 's/^X-Consumer-ID: //p' | sort | uniq -c | sed 's/^ *//; s/[0-9a-f]\{8\}-[0-9a-f]\{4\}-[45][0-9a-f]\{3\}-[89ab][0-9a-f]\{3\}-[0-9a-f]\{12\}/UUID/'
_EOC_
--- client_out
client-a
guest
client-a
guest
2 UUID
2 UUID
