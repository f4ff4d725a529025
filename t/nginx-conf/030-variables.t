# mtls-variables.conf, mtls-audit.conf and mtls-upstream-by-ou.conf, included unchanged.

use lib 't/lib';
use TestMtls;

our $Policy = <<'_EOC_';
_format_version: "3.0"
@{ca_certificates: ca-a}
consumers:
- username: sales
  id: 10000000-0000-4000-8000-000000000002
  mtls_auth_credentials: [{subject_name: first.example.com}]
  acls: [{group: staff}, {group: night}]
routes:
- name: orders
  snis: [a.test]
  plugins:
  - name: mtls-auth
    config: &auth {ca_certificates: [@ca-a], skip_consumer_lookup: true}
- name: open
  snis: [a.test]
  plugins:
  - name: tls-handshake-modifier
- name: people
  snis: [a.test]
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-a]}
  - name: acl
    config: {deny: [night]}
_EOC_

our $Http = <<"_EOC_";
    include $TestMtls::Root/nginx-conf/mtls-variables.conf;
    include $TestMtls::Root/nginx-conf/mtls-audit.conf;
    access_log \$TEST_NGINX_HTML_DIR/audit.log mtls_audit;
_EOC_

our $Config = <<'_EOC_';
    location /orders { access_by_lua_block { require("resty.mtls").access("orders") } content_by_lua_block { ngx.say("in") } }
    location /open { access_by_lua_block { require("resty.mtls").access("open") } content_by_lua_block { ngx.say("in") } }
    location /people { access_by_lua_block { require("resty.mtls").access("people") } content_by_lua_block { ngx.say("in") } }
    location /early { return 204; }
_EOC_

our $Client = <<'_EOC_';
# audit_fields KEY...: these fields of the line of the audit log, which nginx writes after its response. Empties the log.
audit_fields() { wait_until test -s audit.log; python3 -c 'import json, sys; line = json.loads(sys.stdin.read()); print(" | ".join(str(line[key]) for key in sys.argv[1:]))' "$@" <audit.log; : >audit.log; }
_EOC_

$ENV{DECK_SLOW_ISSUER} = "http://127.0.0.1:" . server_port();

our $SlowIssuer = policy("ca-a",
    route("token", "a.test", plugin("tls-handshake-modifier"),
          plugin("openid-connect", q(issuer: '${{ env "DECK_SLOW_ISSUER" }}', auth_methods: [bearer], audience_required: [x]))),
    route("a", "a.test", mtls_auth("ca-a")));

our $Header = policy("ca-a",
    route("tls", "a.test", mtls_auth("ca-a")),
    route("header", "", header_cert_auth("secure_source: false, skip_consumer_lookup: true")));

run_blocks();

__DATA__

=== TEST 1: mtls-audit.conf writes JSON lines with the client and the decision of each request
--- policy eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
for request in "orders $(as client-two)" "orders $(as client-c)" "orders" "open $(as client-c)" "open" "people $(as client-two)" "people $(as client-a)" "early $(as client-a)"; do
    get a.test/$request -o /dev/null
    audit_fields status route decision reason verify subject_dn consumer groups
done
get a.test/orders $(as client-awkward) -o /dev/null
audit_fields subject_dn serial not_after san | sed 's/| 20..-..-..T..:..:..Z |/| TIME |/'
get a.test/orders $(as client-ctrl) -o /dev/null
audit_fields decision verify subject_dn san
get n.test/orders -H 'Host: a.test' $(as client-a) -o /dev/null
audit_fields status decision verify
_EOC_
--- client_out
200 | orders | pass |  | SUCCESS | CN=client-two,OU=Sales,O=Example |  | client-two
401 | orders | refused | untrusted | FAILED:unable to get local issuer certificate | CN=client-c,O=Example |  | 
401 | orders | no_certificate | no_certificate | NONE |  |  | 
200 | open | pass |  | FAILED:not verified | CN=client-c,O=Example |  | 
200 | open | pass |  | NONE |  |  | 
403 | people | forbidden | forbidden | SUCCESS | CN=client-two,OU=Sales,O=Example | sales | staff, night
401 | people | refused | no_consumer | FAILED:no consumer | CN=client-a,O=Example |  | 
204 |  |  |  |  |  |  | 
CN=Smith\, \"Ann\" #1/x,OU=R&D\; Lab=7,O=\C5\BDlu\C5\A5\, Widgets \+ Sons,C=CZ | 9ABCDEF00112233445566778899AABBCCDDEEF | TIME | DNS:ann.example.com, DNS:alt.example.com, URI:spiffe://example.org/ns/prod/sa/ann, URI:urn:x:a;b%2Cc=d, email:ann@example.com, IP:192.0.2.7, IP:2001:db8::7, dirName:CN=ann\%2C%20directory
pass | SUCCESS | CN=x\0D\0AX-Admin: 1\0D\0A\00end | DNS:evil%0D%0AX-Admin:%201, URI:spiffe://evil%00%0D%0AX-Admin:%201
421 | misdirected | NONE
--- error_log
[mtls] 401



=== TEST 2: mtls-variables.conf gives every variable a value, in headers, logs and maps
--- policy eval: $::Policy
--- http_config eval
$::Http . <<'_EOC_';
    map $mtls_subject_cn $upper { client-two two; default other; }
_EOC_
--- config
    location /people {
        access_by_lua_block { require("resty.mtls").access("orders") }
        add_header X-All "$mtls_verify|$mtls_subject_dn|$mtls_issuer_dn|$mtls_subject_cn|$mtls_subject_o|$mtls_subject_ou|$mtls_san|$mtls_source|$mtls_groups|$mtls_consumer_id|$mtls_route_name|$mtls_decision|$upper";
        add_header X-Same $mtls_serial/$ssl_client_serial/$mtls_fingerprint_sha1/$ssl_client_fingerprint;
        add_header X-Cert $mtls_cert/$ssl_client_escaped_cert;
        add_header X-Chain $mtls_chain/$ssl_client_escaped_cert;
        add_header X-Long $mtls_fingerprint_sha256/$mtls_not_before/$mtls_not_after;
        content_by_lua_block { ngx.say("in") }
    }
--- client eval
$::Client . <<'_EOC_';
get a.test/people $(as client-two) -D head -o /dev/null
get a.test/people $(as client-units) -D units -o /dev/null
tr -d '\r' < head | sed -n 's/^X-All: //p'
tr -d '\r' < units | sed -n 's/^X-All: //p'
tr -d '\r' < head | sed -nE 's/^X-(Same|Cert|Chain): //p' | awk -F/ '{ for (i = 1; i < NF; i += 2) print ($i == $(i + 1) && length($i) > 3) }'
tr -d '\r' < head | grep -cE '^X-Long: [0-9a-f]{64}/20[0-9T:-]{17}Z/20[0-9T:-]{17}Z$'
_EOC_
--- client_out
SUCCESS|CN=client-two,OU=Sales,O=Example|CN=Test CA-A,O=Example Lab,C=CZ|client-two|Example|Sales|DNS:first.example.com, DNS:second.example.com|tls|client-two||orders|pass|two
SUCCESS|CN=client-units,OU=Research\, Basic,OU=Sales|CN=Test CA-A,O=Example Lab,C=CZ|client-units||Sales, Research\, Basic||tls|client-units||orders|pass|other
1
1
1
1
1



=== TEST 3: mtls-upstream-by-ou.conf chooses the upstream by the unit of a verified certificate only
--- policy eval: $::Policy
--- http_config eval
$::Http . <<"_EOC_";
    include $TestMtls::Root/nginx-conf/mtls-upstream-by-ou.conf;
    upstream sales_backend { server unix:\$TEST_NGINX_HTML_DIR/sales.sock; }
    upstream research_backend { server unix:\$TEST_NGINX_HTML_DIR/research.sock; }
    upstream default_backend { server unix:\$TEST_NGINX_HTML_DIR/default.sock; }
    server { listen unix:\$TEST_NGINX_HTML_DIR/sales.sock; return 200 "sales\\n"; }
    server { listen unix:\$TEST_NGINX_HTML_DIR/default.sock; return 200 "default\\n"; }
_EOC_
--- config
    location /orders { access_by_lua_block { require("resty.mtls").access("orders") } proxy_pass http://$mtls_upstream; }
    location /open { access_by_lua_block { require("resty.mtls").access("open") } proxy_pass http://$mtls_upstream; }
--- client
get a.test/orders $(as client-two)
get a.test/orders $(as client-a)
get a.test/orders $(as client-units)
get a.test/open $(as client-sales-b)
get a.test/open $(as client-two)
get a.test/orders $(as client-sales-b) -o /dev/null -w '%{http_code}\n'
--- client_out
sales
default
default
default
default
401
--- error_log
[mtls] 401



=== TEST 4: access() works without mtls-variables.conf
--- policy eval: $::Policy
--- config eval: $::Config
--- client
get a.test/orders $(as client-a)
--- client_out
in



=== TEST 5: mtls-variables.conf puts no line feed of a certificate into a header
--- policy eval: policy("ca-a", route("a", "a.test", mtls_auth("ca-a")))
--- http_config eval: "    include $TestMtls::Root/nginx-conf/mtls-variables.conf;\n"
--- config
    location /t {
        access_by_lua_block { require("resty.mtls").access("a") }
        proxy_set_header X-Groups $mtls_groups;
        add_header X-Groups $mtls_groups;
        add_header X-All "$mtls_verify$mtls_subject_dn$mtls_issuer_dn$mtls_serial$mtls_subject_cn$mtls_subject_o$mtls_subject_ou$mtls_san$mtls_source$mtls_consumer$mtls_consumer_id$mtls_route_name$mtls_decision";
        proxy_pass $TEST_NGINX_UPSTREAM;
    }
--- client
get a.test/t $(as client-ctrl) -i | tr -d '\r' | grep -ciE '^x-admin|^x-groups'
get a.test/t $(as client-a) | grep -c '^X-Groups: client-a'
--- client_out
0
1



=== TEST 6: mtls-variables.conf describes the client of its own request after access() waited for a fetch
--- policy eval: $::SlowIssuer
--- http_config eval
"    include $TestMtls::Root/nginx-conf/mtls-variables.conf;
    log_format client '\$mtls_route_name \$mtls_decision \$mtls_verify \$mtls_subject_dn';
    access_log \$TEST_NGINX_HTML_DIR/client.log client;
"
--- config
    location /.well-known/openid-configuration { access_log off; content_by_lua_block {
            io.open("$TEST_NGINX_HTML_DIR/is-waiting", "w"):close()
            repeat ngx.sleep(0.01) until io.open("$TEST_NGINX_HTML_DIR/go-on")
            ngx.exit(500)
        }
    }
    location /token { access_by_lua_block { require("resty.mtls").access("token") } content_by_lua_block { ngx.say("in") } }
    location /a { access_by_lua_block { require("resty.mtls").access("a") } content_by_lua_block { ngx.say("in") } }
--- client
get a.test/token $(as client-b) -H 'Authorization: Bearer eyJhbGciOiJFUzI1NiJ9.e30.AAAA' -o /dev/null -w '%{http_code}\n' > first &
wait_until test -e is-waiting
get a.test/a $(as client-a)
touch go-on
wait
cat first
wait_until has_lines client.log 2
cat client.log
--- client_out
in
503
a pass SUCCESS CN=client-a,O=Example
token issuer_unavailable FAILED:not verified CN=client-b,O=Example
--- error_log
[mtls] 503



=== TEST 7: mtls-variables.conf sets $mtls_verify to FAILED where the certificate header holds no certificate
--- policy eval: $::Header
--- http_config eval
"    include $TestMtls::Root/nginx-conf/mtls-variables.conf;
    log_format verify '\$mtls_decision \$mtls_verify';
    access_log \$TEST_NGINX_HTML_DIR/verify.log verify;
"
--- config
    location /t { access_by_lua_block { require("resty.mtls").access("header") } content_by_lua_block { ngx.say("in") } }
--- client
get a.test/t -H 'X-Client-Cert: junk' -o /dev/null
get a.test/t -o /dev/null
wait_until has_lines verify.log 2
cat verify.log
--- client_out
refused FAILED:unspecified certificate verification error
no_certificate NONE
--- error_log
[mtls] 401
