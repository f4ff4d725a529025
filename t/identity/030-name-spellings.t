# client-cert-acl, acl and consumer mapping compare names whose spelling differs from that of the policy.

use lib 't/lib';
use TestMtls;

my @Rules = (
    ['deny-uri' => '{deny: [{name: workloads, san.uri: "spiffe://example.org/ns/banned/*"}]}'],
    ['deny-one-uri' => '{deny: [{san.uri: "spiffe://example.org/ns/banned/x"}]}'],
    ['allow-not-uri' => '{allow: [{not: {san.uri: "spiffe://example.org/ns/banned/*"}}]}'],
    ['allow-uri' => '{allow: [{san.uri: "spiffe://example.org/ns/prod/*"}]}'],
    ['allow-all-uri' => '{allow: [{san.uri: "spiffe://example.org/ns/*"}]}'],
    ['deny-not-uri' => '{deny: [{not: {san.uri: "spiffe://example.org/ns/prod/*"}}]}'],
    ['deny-dns' => '{deny: [{name: hosts, san.dns: "*.contractor.example.com"}]}'],
    ['allow-dns' => '{allow: [{san.dns: ["*.contractor.example.com", a.contractor.example.com]}]}'],
    ['allow-not-not-dns' => '{allow: [{not: {not: {any: [{san.dns: a.contractor.example.com}, {not: {san.dns: b.example.com}}]}}}]}'],
    ['deny-email' => '{deny: [{san.email: "Ann@Example.com"}]}'],
    ['allow-email' => '{allow: [{san.email: "Ann@Example.com"}]}'],
    ['deny-unit' => '{deny: [{name: units, subject.OU: Sales}]}'],
    ['allow-unit' => '{allow: [{subject.OU: Sales}]}'],
    ['allow-not-unit' => '{allow: [{not: {subject.OU: Sales}}]}'],
);

our $Rules = <<'_EOC_' . join "", map { "- name: $_->[0]\n  snis: [a.test]\n  plugins: [{name: client-cert-acl, config: $_->[1]}]\n" } @Rules;
_format_version: "3.0"
@{ca_certificates: ca-a}
plugins:
- name: mtls-auth
  config: {ca_certificates: [@ca-a], revocation_check_mode: SKIP, skip_consumer_lookup: true}
routes:
_EOC_

our $Groups = <<'_EOC_';
_format_version: "3.0"
@{ca_certificates: ca-a}
consumers:
- username: a.contractor.example.com
  acls: [{group: banned}]
- username: partner
  mtls_auth_credentials: [{subject_name: "spiffe://example.org/ns/banned/x"}]
  groups: [banned]
- username: b.example.com
- username: guest
routes:
- name: cn
  snis: [a.test]
  plugins:
  - {name: acl, config: {deny: [evil]}}
  - {name: mtls-auth, config: {ca_certificates: [@ca-a], revocation_check_mode: SKIP, skip_consumer_lookup: true}}
- name: allow-cn
  snis: [a.test]
  plugins:
  - {name: acl, config: {allow: [evil, other]}}
  - {name: mtls-auth, config: {ca_certificates: [@ca-a], revocation_check_mode: SKIP, skip_consumer_lookup: true}}
- name: dn
  snis: [a.test]
  plugins:
  - {name: acl, config: {deny: ["CN=evil,O=Example"]}}
  - {name: mtls-auth, config: {ca_certificates: [@ca-a], revocation_check_mode: SKIP, skip_consumer_lookup: true, authenticated_group_by: DN}}
- name: default
  snis: [a.test]
  plugins:
  - {name: acl, config: {deny: [banned]}}
  - {name: mtls-auth, config: {ca_certificates: [@ca-a], revocation_check_mode: SKIP, default_consumer: guest}}
- name: default-groups
  snis: [a.test]
  plugins:
  - {name: acl, config: {deny: [banned], include_consumer_groups: true}}
  - {name: mtls-auth, config: {ca_certificates: [@ca-a], revocation_check_mode: SKIP, default_consumer: guest}}
- name: mapping
  snis: [a.test]
  plugins:
  - {name: mtls-auth, config: {ca_certificates: [@ca-a], revocation_check_mode: SKIP}}
_EOC_

our $Config = <<'_EOC_';
    location /to/ {
        access_by_lua_block { require("resty.mtls").access(ngx.var.uri:sub(5)) }
        content_by_lua_block { ngx.say("in") }
    }
_EOC_

# passing NAMES ROUTE...: for each route, which of these clients it allows; with the status if that is neither 200 nor
# 403
our $Client = <<'_EOC_';
passing() {
    local names=$1 route name status passed
    shift
    for route; do
        passed=
        for name in $names; do
            status=$(get "a.test/to/$route" $(as "rule-$name") -o body -w '%{http_code}')
            case $status in
                200) passed="$passed $name" ;;
                403) ;;
                *) passed="$passed $name=$status" ;;
            esac
        done
        echo "$route:$passed"
    done
}
log() { grep -o "\[mtls\] 40[13] $1.*, subject" "$ERROR_LOG" | sed 's/, subject$//' | sort -u; }
_EOC_

run_blocks();

__DATA__

=== TEST 1: client-cert-acl compares URIs in normal form; one without a normal form is denied and never allowed
--- policy eval: $::Rules
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
passing "good banned dots query case escaped user climbs prod two wildcard dot" \
    deny-uri deny-one-uri allow-not-uri allow-uri allow-all-uri deny-not-uri
log "client-cert-acl: deny rule 'workloads'"
_EOC_
--- client_out
deny-uri: good prod wildcard dot
deny-one-uri: good prod wildcard dot
allow-not-uri: good prod wildcard dot
allow-uri: good prod two
allow-all-uri: good banned case escaped prod two
deny-not-uri: good prod two
[mtls] 403 client-cert-acl: deny rule 'workloads' holds
[mtls] 403 client-cert-acl: deny rule 'workloads' may hold: san.uri has a '.' or '..' segment
[mtls] 403 client-cert-acl: deny rule 'workloads' may hold: san.uri has a '?' or '#'
[mtls] 403 client-cert-acl: deny rule 'workloads' may hold: san.uri has user information
--- no_error_log
[crit]
[alert]



=== TEST 2: client-cert-acl compares DNS names and mail addresses in the same way
--- policy eval: $::Rules
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
passing "good wildcard dot nul mail quoted" \
    deny-dns allow-dns allow-not-not-dns deny-email allow-email
log "client-cert-acl: deny rule 'hosts'"
_EOC_
--- client_out
deny-dns: good mail quoted
allow-dns: dot
allow-not-not-dns: dot mail quoted
deny-email: wildcard dot nul
allow-email: good
[mtls] 403 client-cert-acl: deny rule 'hosts' holds
[mtls] 403 client-cert-acl: deny rule 'hosts' may hold: san.dns has a character that is not allowed in a host name
[mtls] 403 client-cert-acl: deny rule 'hosts' may hold: san.dns has a wildcard
--- no_error_log
[crit]
[alert]



=== TEST 3: client-cert-acl allows exact subject values, and denies those that can be read as the value
--- policy eval: $::Rules
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
passing "good banned unit-case unit-wide unit-bmp unit-nul unit-t61 unit-bits unit-several" \
    deny-unit allow-unit allow-not-unit
log "client-cert-acl: deny rule 'units'"
_EOC_
--- client_out
deny-unit: banned
allow-unit: good unit-bmp unit-several
allow-not-unit: banned
[mtls] 403 client-cert-acl: deny rule 'units' holds
[mtls] 403 client-cert-acl: deny rule 'units' may hold: subject.organizationalUnitName 'SALES ' may be read as the name of the rule
[mtls] 403 client-cert-acl: deny rule 'units' may hold: subject.organizationalUnitName 'Ｓales' may be read as the name of the rule
[mtls] 403 client-cert-acl: deny rule 'units' may hold: subject.organizationalUnitName has a control character
[mtls] 403 client-cert-acl: deny rule 'units' may hold: subject.organizationalUnitName has non-ASCII bytes in a string type without a defined character set
[mtls] 403 client-cert-acl: deny rule 'units' may hold: subject.organizationalUnitName is not text
--- no_error_log
[crit]
[alert]



=== TEST 4: acl denies names of certificates that can be read as a denied group or consumer
--- policy eval: $::Groups
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
passing "cn-other cn-evil cn-case cn-second cn-nul good unit-t61" cn allow-cn dn
passing "good dot wildcard banned case dots prod" default default-groups mapping
log acl
_EOC_
--- client_out
cn: cn-other good unit-t61
allow-cn: cn-other cn-evil cn-second
dn: cn-other cn-second good
default: good banned case prod
default-groups: good prod
mapping: good dot=401 wildcard=401 banned case=401 dots=401 prod=401
[mtls] 403 acl: a name may be read as that of a denied consumer
[mtls] 403 acl: a name that has no normal form may be that of a denied consumer
[mtls] 403 acl: groups ()
[mtls] 403 acl: groups (CN=evil,O=Example)
[mtls] 403 acl: groups (Evil )
[mtls] 403 acl: groups (banned)
[mtls] 403 acl: groups (evil)
[mtls] 403 acl: groups (good)
[mtls] 403 acl: groups (unit-t61)
[mtls] 403 acl: the subject may be read as a denied group
--- no_error_log
[crit]
[alert]
