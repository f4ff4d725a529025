# acl checks groups, and client-cert-acl checks fields of the certificate.

use lib 't/lib';
use TestMtls;

our $Policy = <<'_EOC_';
_format_version: "3.0"
@{ca_certificates: ca-a}
consumers:
- username: client-a
  acls: [{group: dev}, {group: ops}]
  groups: [{name: gold}]
- username: client-int
  acls: [{group: dev}, {group: banned}]
- username: first.example.com
- username: guest
  acls: [{group: visitors}]
plugins:
- name: mtls-auth
  config: {ca_certificates: [@ca-a], revocation_check_mode: SKIP}
routes:
- name: none
  snis: [a.test]
- name: allow
  snis: [a.test]
  plugins: [{name: acl, config: {allow: [dev]}}]
- name: deny
  snis: [a.test]
  plugins: [{name: acl, config: {deny: [banned]}}]
- name: both
  snis: [a.test]
  plugins: [{name: acl, config: {allow: [dev], deny: [banned]}}]
- name: hidden
  snis: [a.test]
  plugins: [{name: acl, config: {allow: [dev], hide_groups_header: true}}]
- name: consumer-groups
  snis: [a.test]
  plugins: [{name: acl, config: {allow: [gold], include_consumer_groups: true}}]
- name: gold
  snis: [a.test]
  plugins: [{name: acl, config: {allow: [gold]}}]
- name: visitors
  snis: [a.test]
  plugins:
  - {name: acl, config: {allow: [visitors]}}
  - {name: mtls-auth, config: {ca_certificates: [@ca-a], revocation_check_mode: SKIP, consumer_by: [], anonymous: guest}}
- name: no-visitors
  snis: [a.test]
  plugins:
  - {name: acl, config: {deny: [visitors]}}
  - {name: mtls-auth, config: {ca_certificates: [@ca-a], revocation_check_mode: SKIP, consumer_by: [], anonymous: guest}}
- name: by-cn
  snis: [a.test]
  plugins:
  - {name: acl, config: {allow: [client-a]}}
  - {name: mtls-auth, config: {ca_certificates: [@ca-a], revocation_check_mode: SKIP, skip_consumer_lookup: true}}
- name: by-dn
  snis: [a.test]
  plugins:
  - {name: acl, config: {allow: ["CN=client-a,O=Example"]}}
  - {name: mtls-auth, config: {ca_certificates: [@ca-a], revocation_check_mode: SKIP, skip_consumer_lookup: true, authenticated_group_by: DN}}
- name: by-nothing
  snis: [a.test]
  plugins:
  - {name: acl, config: {allow: [client-a]}}
  - {name: mtls-auth, config: {ca_certificates: [@ca-a], revocation_check_mode: SKIP, skip_consumer_lookup: true, authenticated_group_by: null}}
_EOC_

our $Config = <<'_EOC_';
    location /groups/ {
        access_by_lua_block { require("resty.mtls").access(ngx.var.uri:sub(9)) }
        content_by_lua_block { ngx.say(table.concat(require("resty.mtls").client().groups, ",")) }
    }
    location /to/ {
        access_by_lua_block { require("resty.mtls").access(ngx.var.uri:sub(5)) }
        proxy_pass $TEST_NGINX_UPSTREAM;
    }
_EOC_

# groups ROUTE [curl options]: the groups that the upstream received
our $Client = <<'_EOC_';
groups() {
    local route=$1
    shift
    get "a.test/to/$route" -H 'X-Consumer-Groups: root' -H 'X-Authenticated-Groups: root' "$@" \
        -o echo -w '%{http_code} %{content_type}\n' > status
    case $(cat status) in
        200*) echo $(tr -d '\r' < echo | grep -i '^x-[a-z]*-groups' || echo none) ;;
        *) echo "$(cat status) $(cat echo)" ;;
    esac
}
log() { grep -o '\[mtls\] 40[13] .*, issuer' "$ERROR_LOG" | sed 's/, issuer//'; }
_EOC_

# The fields of the certificate that openssl prints, without their labels
sub digest ($) {
    my ($command) = @_;

    my $text = `$command`;
    $text =~ /([0-9A-F]{2}(?::[0-9A-F]{2}){31}|[0-9a-f]{64})/
        or bail_out("no digest: $command");

    return $1;
}

my $certificate = "openssl x509 -in $TestMtls::Pki/client-a.crt -noout";
my $pinned = digest "$certificate -fingerprint -sha256";
my $key = digest "$certificate -pubkey | openssl pkey -pubin -outform DER | openssl dgst -sha256";

my @Rules = (
    [organisation => '{allow: [{name: ours, subject.O: Example}]}'],
    [department => '{allow: [{subject.OU: [Sales, Marketing]}]}'],
    [issuer => '{allow: [{issuer.CN: Test CA-A Intermediate}]}'],
    [workload => '{allow: [{san.uri: "spiffe://example.org/ns/prod/*"}]}'],
    ['other-trust-domain' => '{allow: [{name: td, san.uri: "spiffe://example.com/*"}]}'],
    [dns => '{allow: [{san.dns: "*.example.com"}]}'],
    [exact => '{allow: [{san.dns: carol.example.com}]}'],
    [email => '{allow: [{san.email: "Carol\x40example.com"}]}'],
    [purpose => '{allow: [{eku: clientAuth}]}'],
    ['other-purpose' => '{allow: [{eku: serverAuth}]}'],
    [pinned => '{allow: [{sha256: "' . $pinned . '"}]}'],
    [key => '{allow: [{spki_sha256: ' . $key . '}]}'],
    [denied => '{allow: [{subject.O: Example}], deny: [{name: no sales, subject.OU: Sales}]}'],
    ['not' => '{allow: [{not: {subject.OU: Sales}}]}'],
    [any => '{allow: [{any: [{subject.CN: client-a}, {san.dns: second.example.com}]}]}'],
    [all => '{allow: [{all: [{subject.O: Example}, {not: {any: [{subject.CN: carol}, {subject.CN: client-a}]}}]}]}'],
    [together => '{allow: [{subject.O: Example, subject.OU: Sales}]}'],
);

our $Rules = <<'_EOC_' . join "", map { "- name: $_->[0]\n  snis: [a.test]\n  plugins: [{name: client-cert-acl, config: $_->[1]}]\n" } @Rules;
_format_version: "3.0"
@{ca_certificates: ca-a}
plugins:
- name: mtls-auth
  config: {ca_certificates: [@ca-a], revocation_check_mode: SKIP, skip_consumer_lookup: true}
routes:
_EOC_

run_blocks();

__DATA__

=== TEST 1: acl allows members of the groups and sends the groups to the upstream
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
for route in none allow deny both hidden consumer-groups gold; do
    for name in a int two; do echo "$route $name: $(groups $route $(as client-$name))"; done
done
log
_EOC_
--- client_out
none a: none
none int: none
none two: none
allow a: X-Consumer-Groups: dev, ops
allow int: X-Consumer-Groups: dev, banned
allow two: 403 application/json; charset=utf-8 {"message":"You cannot consume this service"}
deny a: X-Consumer-Groups: dev, ops
deny int: 403 application/json; charset=utf-8 {"message":"You cannot consume this service"}
deny two: none
both a: X-Consumer-Groups: dev, ops
both int: 403 application/json; charset=utf-8 {"message":"You cannot consume this service"}
both two: 403 application/json; charset=utf-8 {"message":"You cannot consume this service"}
hidden a: none
hidden int: none
hidden two: 403 application/json; charset=utf-8 {"message":"You cannot consume this service"}
consumer-groups a: X-Consumer-Groups: dev, ops, gold
consumer-groups int: 403 application/json; charset=utf-8 {"message":"You cannot consume this service"}
consumer-groups two: 403 application/json; charset=utf-8 {"message":"You cannot consume this service"}
gold a: 403 application/json; charset=utf-8 {"message":"You cannot consume this service"}
gold int: 403 application/json; charset=utf-8 {"message":"You cannot consume this service"}
gold two: 403 application/json; charset=utf-8 {"message":"You cannot consume this service"}
[mtls] 403 acl: groups (), subject: "CN=client-two,OU=Sales,O=Example"
[mtls] 403 acl: groups (dev, banned), subject: "CN=client-int,O=Example"
[mtls] 403 acl: groups (dev, banned), subject: "CN=client-int,O=Example"
[mtls] 403 acl: groups (), subject: "CN=client-two,OU=Sales,O=Example"
[mtls] 403 acl: groups (), subject: "CN=client-two,OU=Sales,O=Example"
[mtls] 403 acl: groups (dev, banned), subject: "CN=client-int,O=Example"
[mtls] 403 acl: groups (), subject: "CN=client-two,OU=Sales,O=Example"
[mtls] 403 acl: groups (dev, ops), subject: "CN=client-a,O=Example"
[mtls] 403 acl: groups (dev, banned), subject: "CN=client-int,O=Example"
[mtls] 403 acl: groups (), subject: "CN=client-two,OU=Sales,O=Example"
--- no_error_log
[crit]
[alert]



=== TEST 2: acl checks anonymous clients by the groups of the anonymous consumer
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
for route in visitors no-visitors; do
    for name in a expired; do echo "$route $name: $(groups $route $(as client-$name))"; done
    echo "$route nobody: $(groups $route)"
done
_EOC_
--- client_out
visitors a: X-Authenticated-Groups: visitors
visitors expired: X-Authenticated-Groups: visitors
visitors nobody: X-Authenticated-Groups: visitors
no-visitors a: 403 application/json; charset=utf-8 {"message":"You cannot consume this service"}
no-visitors expired: 403 application/json; charset=utf-8 {"message":"You cannot consume this service"}
no-visitors nobody: 403 application/json; charset=utf-8 {"message":"You cannot consume this service"}
--- error_log
[mtls] 403 acl: groups (visitors) (anonymous)



=== TEST 3: acl checks certificates without a consumer by authenticated_group_by
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
for route in by-cn by-dn by-nothing; do
    for name in a two; do echo "$route $name: $(groups $route $(as client-$name))"; done
done
echo "no certificate: $(groups by-cn)"
get a.test/groups/by-dn $(as client-a)
get a.test/groups/allow $(as client-a)
get a.test/groups/consumer-groups $(as client-a)
_EOC_
--- client_out
by-cn a: X-Authenticated-Groups: client-a
by-cn two: 403 application/json; charset=utf-8 {"message":"You cannot consume this service"}
by-dn a: X-Authenticated-Groups: CN=client-a,O=Example
by-dn two: 403 application/json; charset=utf-8 {"message":"You cannot consume this service"}
by-nothing a: 403 application/json; charset=utf-8 {"message":"You cannot consume this service"}
by-nothing two: 403 application/json; charset=utf-8 {"message":"You cannot consume this service"}
no certificate: 401 application/json; charset=utf-8 {"message":"No required TLS certificate was sent"}
CN=client-a,O=Example
dev,ops
dev,ops,gold
--- error_log
[mtls] 403 acl: groups (client-two), subject: "CN=client-two,OU=Sales,O=Example"
[mtls] 403 acl: groups (CN=client-two,OU=Sales,O=Example), subject: "CN=client-two,OU=Sales,O=Example"
[mtls] 403 acl: groups (), subject: "CN=client-a,O=Example"



=== TEST 4: client-cert-acl checks fields of the certificate, and logs the name of the rule
--- policy eval: $::Rules
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
for route in organisation department issuer workload other-trust-domain dns exact email purpose other-purpose pinned key denied not any all together; do
    passed=
    for name in a int carol two empty; do
        case $(groups $route $(as client-$name)) in
            none) passed="$passed $name" ;;
            '403 application/json; charset=utf-8 {"message":"You cannot consume this service"}') ;;
            *) passed="$passed ?" ;;
        esac
    done
    echo "$route:$passed"
done
log | sed 's/, subject.*//' | sort | uniq -c | sed 's/^ *//'
_EOC_
--- client_out
organisation: a int carol two
department: two
issuer: int
workload: carol
other-trust-domain:
dns: carol two empty
exact: carol
email: carol
purpose: a int carol two empty
other-purpose:
pinned: a
key: a
denied: a int carol
not: a int carol empty
any: a two
all: int two
together: two
1 [mtls] 403 client-cert-acl: deny rule 'no sales' holds
47 [mtls] 403 client-cert-acl: no allow rule holds (allow[0])
1 [mtls] 403 client-cert-acl: no allow rule holds (ours)
5 [mtls] 403 client-cert-acl: no allow rule holds (td)
--- no_error_log
[crit]
[alert]



=== TEST 5: client-cert-acl refuses anonymous clients
--- policy
_format_version: "3.0"
@{ca_certificates: ca-a}
consumers:
- username: guest
plugins:
- name: mtls-auth
  config: {ca_certificates: [@ca-a], revocation_check_mode: SKIP, consumer_by: [], anonymous: guest}
- name: client-cert-acl
  config: {deny: [{subject.O: Evil}]}
routes:
- name: all
  snis: [a.test]
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
groups all $(as client-a)
curl -s "http://127.0.0.1:$HTTP_PORT/to/all"; echo
_EOC_
--- client_out
403 application/json; charset=utf-8 {"message":"You cannot consume this service"}
{"message":"You cannot consume this service"}
--- error_log
[mtls] 403 client-cert-acl: no trusted certificate (anonymous)
