# certificate(): the server names under which it requests a client certificate, and the CA names that it sends.

use lib 't/lib';
use TestMtls;

my @many = map { sprintf "many-%03d", $_ } 0 .. 149;

our $Many = <<"_EOC_";
_format_version: "3.0"
\@{ca_certificates: @many}
routes:
- name: a
  snis: [a.test]
  plugins:
  - name: mtls-auth
    config:
      send_ca_dn: true
      ca_certificates: [${\ join ", ", map { "\@$_" } @many}]
_EOC_

run_blocks();

__DATA__

=== TEST 1: certificate() requests a certificate only under the names that a route protects
--- policy eval
policy("ca-a",
    route("a", "a.test", mtls_auth("ca-a")),
    route("n", "n.test"))
--- config
    location /t { return 200 ok; }
--- client
for version in 1.2 1.3; do
    for name in a.test A.TEST a.test. b.test n.test x.a.test ""; do
        echo "$version '$name' $(tls tls=$version sni=$name host=localhost path=/t | facts certreq ca_names status)"
    done
done
--- client_out
1.2 'a.test' certreq=1 ca_names=0 status=200
1.2 'A.TEST' certreq=1 ca_names=0 status=200
1.2 'a.test.' certreq=1 ca_names=0 status=200
1.2 'b.test' certreq=0 ca_names=0 status=200
1.2 'n.test' certreq=0 ca_names=0 status=200
1.2 'x.a.test' certreq=0 ca_names=0 status=200
1.2 '' certreq=0 ca_names=0 status=200
1.3 'a.test' certreq=1 ca_names=0 status=200
1.3 'A.TEST' certreq=1 ca_names=0 status=200
1.3 'a.test.' certreq=1 ca_names=0 status=200
1.3 'b.test' certreq=0 ca_names=0 status=200
1.3 'n.test' certreq=0 ca_names=0 status=200
1.3 'x.a.test' certreq=0 ca_names=0 status=200
1.3 '' certreq=0 ca_names=0 status=200



=== TEST 2: certificate() sends the CA names of every route that a server name reaches
A route without snis is reached under every name, and the only one under unknown names and without a name.
--- policy eval
policy("ca-a ca-b ca-c",
    route("a", "a.test", mtls_auth("ca-a", "send_ca_dn: true")),
    route("a-again", "a.test", mtls_auth("ca-b ca-a", "send_ca_dn: true")),
    route("wild", '"*.w.test"', mtls_auth("ca-b", "send_ca_dn: true")),
    route("everywhere", "", mtls_auth("ca-c", "send_ca_dn: true")))
--- config
    location /t { return 200 ok; }
--- client
for name in a.test x.w.test n.test x.y.w.test w.test ""; do
    echo "'$name' $(tls sni=$name host=localhost path=/t | facts certreq ca_names)"
done
--- client_out
'a.test' certreq=1 ca_names=3:Test CA-A+Test CA-B+Test CA-C
'x.w.test' certreq=1 ca_names=2:Test CA-B+Test CA-C
'n.test' certreq=1 ca_names=1:Test CA-C
'x.y.w.test' certreq=1 ca_names=1:Test CA-C
'w.test' certreq=1 ca_names=1:Test CA-C
'' certreq=1 ca_names=1:Test CA-C



=== TEST 3: certificate() merges the CA names of all plugins for a server name, without duplicates
--- policy eval
policy("ca-a ca-b ca-c",
    route("one", 'a.test "*.w.test"', mtls_auth("ca-a", "send_ca_dn: true")),
    route("two", "a.test", mtls_auth("ca-b ca-a", "send_ca_dn: true")),
    route("three", "x.w.test", mtls_auth("ca-c", "send_ca_dn: true")))
--- config
    location /t { return 200 ok; }
--- client
for version in 1.2 1.3; do
    for name in a.test x.w.test y.w.test; do
        echo "$version $name $(tls tls=$version sni=$name path=/t | facts certreq ca_names)"
    done
done
--- client_out
1.2 a.test certreq=1 ca_names=2:Test CA-A+Test CA-B
1.2 x.w.test certreq=1 ca_names=2:Test CA-A+Test CA-C
1.2 y.w.test certreq=1 ca_names=1:Test CA-A
1.3 a.test certreq=1 ca_names=2:Test CA-A+Test CA-B
1.3 x.w.test certreq=1 ca_names=2:Test CA-A+Test CA-C
1.3 y.w.test certreq=1 ca_names=1:Test CA-A



=== TEST 4: certificate() sends no CA names when one plugin for the server name has no send_ca_dn
The list would hide CA-B, which the other plugin takes.
--- policy
_format_version: "3.0"
@{ca_certificates: ca-a ca-b}
routes:
- name: one
  snis: [a.test]
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-a], send_ca_dn: true}
- name: two
  snis: [a.test]
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-b]}
--- config
    location /t { return 200 ok; }
--- client
tls sni=a.test path=/t | facts certreq ca_names
--- client_out
certreq=1 ca_names=0



=== TEST 5: certificate() replaces the CA names of ssl_client_certificate
--- policy
_format_version: "3.0"
@{ca_certificates: ca-a ca-b}
routes:
- name: a
  snis: [a.test]
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-a], send_ca_dn: true}
- name: b
  snis: [b.test]
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-b]}
--- vhosts: b.test
--- config
    ssl_client_certificate $TEST_NGINX_PKI/ca-c.crt;
    location /t { return 200 ok; }
--- client
for version in 1.2 1.3; do
    for name in a.test b.test n.test; do
        echo "$version $name $(tls tls=$version sni=$name path=/t | facts certreq ca_names status)"
    done
done
--- client_out
1.2 a.test certreq=1 ca_names=1:Test CA-A status=200
1.2 b.test certreq=1 ca_names=0 status=200
1.2 n.test certreq=0 ca_names=0 status=200
1.3 a.test certreq=1 ca_names=1:Test CA-A status=200
1.3 b.test certreq=1 ca_names=0 status=200
1.3 n.test certreq=0 ca_names=0 status=200



=== TEST 6: certificate() sends 150 CA names on every handshake
--- policy eval: $::Many
--- config
    location /t { access_by_lua_block { require("resty.mtls").access() } content_by_lua_block { ngx.say("ok") } }
--- client
for i in 1 2 3; do
    tls tls=1.2 sni=a.test path=/t | facts certreq ca_names
    tls tls=1.3 sni=a.test path=/t | facts certreq ca_names
done
--- client_out
certreq=1 ca_names=150
certreq=1 ca_names=150
certreq=1 ca_names=150
certreq=1 ca_names=150
certreq=1 ca_names=150
certreq=1 ca_names=150



=== TEST 7: certificate() requests a certificate under every name for a global plugin, tls-handshake-modifier too
--- policy
_format_version: "3.0"
plugins:
- name: tls-handshake-modifier
  config: {tls_client_certificate: REQUEST}
--- config
    location /t { return 200 ok; }
--- client
for name in a.test n.test ""; do
    echo "'$name' $(tls sni=$name host=localhost path=/t | facts certreq ca_names)"
done
--- client_out
'a.test' certreq=1 ca_names=0
'n.test' certreq=1 ca_names=0
'' certreq=1 ca_names=0



=== TEST 8: certificate() requests a certificate for every route of a service with a plugin
--- policy
_format_version: "3.0"
@{ca_certificates: ca-a}
services:
- name: shop
  url: http://upstream.test
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-a], send_ca_dn: true}
  routes:
  - name: a
    snis: [a.test]
  - name: b
    snis: [b.test]
--- config
    location /t { return 200 ok; }
--- client
for name in a.test b.test n.test; do
    echo "$name $(tls sni=$name path=/t | facts certreq ca_names)"
done
--- client_out
a.test certreq=1 ca_names=1:Test CA-A
b.test certreq=1 ca_names=1:Test CA-A
n.test certreq=0 ca_names=0



=== TEST 9: certificate() works after Lua code that selects the server certificate
--- policy eval
policy("ca-a",
    route("a", "a.test", mtls_auth("ca-a", "send_ca_dn: true, skip_consumer_lookup: true")))
--- http_config
    ssl_certificate_by_lua_block {
        local ssl = require "ngx.ssl"

        local function read(name)
            local file = assert(io.open("$TEST_NGINX_PKI/" .. name))
            local text = file:read("*a")
            file:close()
            return text
        end

        local name = "server-" .. ssl.server_name():sub(1, 1)
        assert(ssl.clear_certs())
        assert(ssl.set_cert(assert(ssl.parse_pem_cert(read(name .. ".crt")))))
        assert(ssl.set_priv_key(assert(ssl.parse_pem_priv_key(read(name .. ".key")))))

        require("resty.mtls").certificate()
    }
--- config
    location /t {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block { ngx.say(require("resty.mtls").client().verified) }
    }
--- client
for name in a.test n.test; do
    openssl s_client -connect 127.0.0.1:$PORT -servername $name </dev/null 2>/dev/null |
        sed -n 's/ = /=/g; /^subject\|^Acceptable\|^No client certificate CA\|^C=/p'
done
get a.test/t $(as client-a)
--- client_out
subject=CN=a.test
Acceptable client certificate CA names
C=CZ, O=Example Lab, CN=Test CA-A
subject=CN=n.test
No client certificate CA names sent
SUCCESS



=== TEST 10: certificate() completes the handshake when the client sends no certificate, or one that is not trusted
--- policy
_format_version: "3.0"
@{ca_certificates: ca-a}
routes:
- name: a
  snis: [a.test]
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-a]}
--- config
    location /t { return 200 ok; }
--- client
tls tls=1.2 sni=a.test path=/t | facts certreq status body
tls tls=1.3 sni=a.test path=/t | facts certreq status body
tls tls=1.3 sni=a.test path=/t as=client-self | facts certreq status body
tls tls=1.3 sni=a.test path=/t as=client-expired | facts certreq status body
--- client_out
certreq=1 status=200 body=ok
certreq=1 status=200 body=ok
certreq=1 status=200 body=ok
certreq=1 status=200 body=ok



=== TEST 11: certificate() leaves $ssl_client_verify at FAILED for every client
--- policy eval: policy("ca-a", route("a", "a.test", mtls_auth("ca-a")))
--- config
    location /t { return 200 "$ssl_client_verify\n"; }
--- client
for name in client-a client-int client-b client-self; do get a.test/t $(as $name); done
--- client_out
FAILED:unable to get local issuer certificate
FAILED:unable to get local issuer certificate
FAILED:unable to get local issuer certificate
FAILED:self-signed certificate
