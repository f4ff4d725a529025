# No client can send a header that the gateway sets. The first test collects the names that an upstream receives for
# certificates that make the gateway send all its lines, and sends each name as a client in several spellings.

use lib 't/lib';
use TestMtls;
use TestDialects;

our $AllDialects = $Policy . <<'_EOC_';
- name: open
  snis: [open.test]
  plugins:
  - {name: mtls-auth, config: {ca_certificates: [@ca-a], anonymous: nobody}}
- name: holder
  snis: [holder.test]
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-a], skip_consumer_lookup: true, authenticated_group_by: DN, verify_depth: 20}
  - {name: acl, config: {deny: [nobody]}}
  - name: tls-metadata-headers
    config: {inject_client_cert_details: true, client_cert_header_name: ssl_client_escaped_cert}
- name: odd
  snis: [odd.test]
  plugins:
  - {name: mtls-auth, config: {ca_certificates: [@ca-a], default_consumer: nobody, verify_depth: 20}}
  - name: client-cert-headers
    config:
      dialects:
      - {name: xfcc, mode: APPEND_FORWARD, max_bytes: 512, headers: {xfcc: X_Xfcc_}}
      - {name: apache, headers: {SSL_CLIENT_SAN_DNS_: San-, SSL_CLIENT_CERT: X-Pem_}}
_EOC_

our $Open = $Config . <<'_EOC_';
    underscores_in_headers on;
    location /echo { access_by_lua_block { require("resty.mtls").access("open") } proxy_pass $TEST_NGINX_UPSTREAM; }
_EOC_

our $Disabled = policy("ca-a",
    route("a", "a.test", mtls_auth("ca-a")),
    route("disabled", "c.test", mtls_auth("ca-a"),
          "name: tls-metadata-headers\n    enabled: false\n"
          . "    config: {inject_client_cert_details: true, client_cert_header_name: X-Mine}"));

our $Upstream = policy("ca-a", route("a", "a.test", mtls_auth("ca-a"),
    plugin("client-cert-headers", "dialects: [cloudflare-forwarding, {name: apache, headers: {SSL_CLIENT_SAN_DNS_: X-San-}}]")));

run_blocks();

__DATA__

=== TEST 1: access() removes every header name that it sends itself
--- policy eval: $::AllDialects
--- config eval: $::Open
--- client eval
"$::Dialects forge open.test,one.test,two.test,holder.test,odd.test,nginx.test,apache.test,haproxy.test,caddy.test"
. " a int awkward sans1000 45k dn20k serial200 san-delimiters places"
--- client_out
151 names, 36 of them -Too-Large
--- no_error_log
[crit]
[alert]



=== TEST 2: access() removes the -Too-Large names of Kong's headers, and the names that belong to a renamed one
--- policy eval: $::AllDialects
--- config eval: $::Open
--- client
got() { get open.test/echo "$@" | tr -d '\r' | grep -i 'forged$'; }
got -H 'X-Client-Cert-San-Too-Large: forged' -H 'X_Client_Cert_Dn_Too_Large: forged' -H 'X-Client-Cert-Dn-Too-Large: forged'
# Tomcat's SSLValve reads ssl_client_cert if there is no ssl_client_escaped_cert.
got -H 'ssl_client_escaped_cert: forged' -H 'ssl_client_cert: forged' -H 'ssl_cipher: forged'
got -H 'X-Other-Too-Large: forged'
--- client_out
X-Other-Too-Large: forged



=== TEST 3: access() removes the headers of a plugin that is disabled
--- policy eval: $::Disabled
--- config
    location /t {
        access_by_lua_block { require("resty.mtls").access("disabled") }
        proxy_pass $TEST_NGINX_UPSTREAM;
    }
--- client
get c.test/t $(as client-a) -H 'X-Mine: forged' -H 'X-Client-Cert-Subject-DN: forged' | grep -ci forged
--- client_out
0



=== TEST 4: strip() removes reserved headers where satisfy skips access()
--- policy eval: $::Disabled
--- config
    include $TEST_NGINX_ROOT/nginx-conf/mtls-server.conf;
    location /t {
        satisfy any;
        allow 127.0.0.1;
        proxy_pass $TEST_NGINX_UPSTREAM;
    }
--- client
get a.test/t -H 'X-Client-Cert-Dn: forged' -H 'x-client-cert-san: forged' | grep -ci forged
--- client_out
0



=== TEST 5: access() refuses a reserved header under a name that it cannot remove
--- policy eval: $::Disabled
--- config
    ignore_invalid_headers off;
    location /t {
        access_by_lua_block { require("resty.mtls").access("a") }
        proxy_pass $TEST_NGINX_UPSTREAM;
    }
--- client
for name in 'X-Client-Cert(Dn' 'X-Client-Cert@Dn' 'X-Client.Cert.Dn' 'X_Client_Cert_Dn'; do
    get a.test/t $(as client-a) -H "$name: forged" -o body -w '%{http_code} '
    grep -ci forged body
done
--- client_out
400 0
400 0
200 0
200 0
--- error_log
[mtls] 400 a header that only the gateway may set has a name that cannot be removed



=== TEST 6: access() removes inbound headers that continue a numbered header
--- policy eval: $::Upstream
--- config
    location /t { access_by_lua_block { require("resty.mtls").access("a") } proxy_pass $TEST_NGINX_UPSTREAM; }
--- client
get a.test/t $(as client-two) -H 'X-San-2: evil' -H 'X-San-16: evil' -H 'x_san_00: evil' | tr -d '\r' | grep -iE '^x.san'
--- client_out
X-San-0: first.example.com
X-San-1: second.example.com



=== TEST 7: access() refuses a request with more than 64 different reserved headers
--- policy eval: $::Upstream
--- config
    location /t { access_by_lua_block { require("resty.mtls").access("a") } proxy_pass $TEST_NGINX_UPSTREAM; }
--- client
for i in {1..65}; do echo "SSL-Client-$i: x"; done > forged
head -64 forged > fewer
for i in {1..400}; do echo "SSL-Client: x"; echo "X-San-1: x"; done > same
for file in forged fewer same; do get a.test/t $(as client-a) -H @$file -o body -w '%{http_code}\n'; done
--- client_out
400
200
200
--- error_log
[mtls] 400 over 64 headers that only the gateway may set



=== TEST 8: access() with an unknown route removes reserved headers before it fails
--- policy eval: $::Upstream
--- config
    error_page 500 = @page;
    location /t { access_by_lua_block { require("resty.mtls").access("nope") } proxy_pass $TEST_NGINX_UPSTREAM; }
    location @page { proxy_pass $TEST_NGINX_UPSTREAM; }
--- client
get a.test/t $(as client-a) -H 'X-San-0: forged' | grep -c 'forged\|GET'
--- client_out
1
--- error_log
no route 'nope' in the policy
