# Names are worth as much as the CA that issued them: the condition `ca` of client-cert-acl. UPNs as names.

use lib 't/lib';
use TestMtls;

our $Rules = <<'_EOC_';
_format_version: "3.0"
@{ca_certificates: ca-a ca-b}
plugins:
- name: mtls-auth
  config: {ca_certificates: [@ca-a, @ca-b], revocation_check_mode: SKIP, skip_consumer_lookup: true}
routes:
- name: any-ca
  snis: [a.test]
  plugins: [{name: client-cert-acl, config: {allow: [{san.uri: "spiffe://a.example/ns/payments/*"}]}}]
- name: one-ca
  snis: [a.test]
  plugins: [{name: client-cert-acl, config: {allow: [{name: payments, san.uri: "spiffe://a.example/ns/payments/*", ca: @ca-a}]}}]
- name: no-ca
  snis: [a.test]
  plugins: [{name: client-cert-acl, config: {deny: [{name: b, ca: [@ca-b]}]}}]
- name: not-ca
  snis: [a.test]
  plugins: [{name: client-cert-acl, config: {deny: [{not: {ca: @ca-b}}]}}]
- name: upn
  snis: [a.test]
  plugins: [{name: client-cert-acl, config: {allow: [{san.upn: "ANN@Example.com"}]}}]
- name: no-upn
  snis: [a.test]
  plugins: [{name: client-cert-acl, config: {deny: [{san.upn: "ANN@Example.com"}]}}]
_EOC_

our $Config = <<'_EOC_';
    location /to/ {
        access_by_lua_block { require("resty.mtls").access(ngx.var.uri:sub(5)) }
        content_by_lua_block {
            local client = require("resty.mtls").client()
            ngx.say(client.consumer and client.consumer.username or "in")
        }
    }
_EOC_

our $Client = <<'_EOC_';
try() {
    local route
    for route in $2; do
        echo "$1 $route: $(get "a.test/to/$route" $(as "$1") -o body -w '%{http_code}') $(grep -v message body)"
    done
}
_EOC_

run_blocks();

__DATA__

=== TEST 1: client-cert-acl ca holds for certificates whose verified chain has this CA
--- policy eval: $::Rules
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
try svid-a "any-ca one-ca no-ca not-ca"
try svid-a-of-b "any-ca one-ca no-ca not-ca"
grep -o "\[mtls\] 403 .*, subject" "$ERROR_LOG" | sed 's/, subject$//' | sort -u
_EOC_
--- client_out
svid-a any-ca: 200 in
svid-a one-ca: 200 in
svid-a no-ca: 200 in
svid-a not-ca: 403 
svid-a-of-b any-ca: 200 in
svid-a-of-b one-ca: 403 
svid-a-of-b no-ca: 403 
svid-a-of-b not-ca: 200 in
[mtls] 403 client-cert-acl: deny rule 'b' holds
[mtls] 403 client-cert-acl: deny rule 'deny[0]' holds
[mtls] 403 client-cert-acl: no allow rule holds (payments)
--- no_error_log
[alert]



=== TEST 2: client-cert-acl san.upn compares the userPrincipalName without ASCII case
--- policy eval: $::Rules
--- config eval: $::Config
--- client eval
$::Client . 'for client in client-upn rule-mail; do try $client "upn no-upn"; done'
--- client_out
client-upn upn: 200 in
client-upn no-upn: 403 
rule-mail upn: 403 
rule-mail no-upn: 200 in
--- no_error_log
[alert]



=== TEST 3: upn_as_subject_name maps a userPrincipalName to a consumer, after the other names
--- policy
_format_version: "3.0"
@{ca_certificates: ca-a}
consumers:
- username: Ann@Example.com
- username: other
routes:
- name: plain
  snis: [a.test]
  plugins: [{name: mtls-auth, config: {ca_certificates: [@ca-a], revocation_check_mode: SKIP, consumer_by: [username]}}]
- name: upn
  snis: [a.test]
  plugins: [{name: mtls-auth, config: {ca_certificates: [@ca-a], revocation_check_mode: SKIP, upn_as_subject_name: true}}]
--- config eval: $::Config
--- client eval
$::Client . 'try client-upn "plain upn"; try rule-mail "plain upn"'
--- client_out
client-upn plain: 401 
client-upn upn: 200 Ann@Example.com
rule-mail plain: 401 
rule-mail upn: 401 
--- no_error_log
[alert]
