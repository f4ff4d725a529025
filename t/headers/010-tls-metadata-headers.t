# The upstream returns the request header that it received. Beside the module's headers, nginx sends its own variables
# under X-Ngx-* names.

use lib 't/lib';
use TestMtls;

our $Policy = <<'_EOC_';
_format_version: "3.0"
@{ca_certificates: ca-a}
routes:
- name: a
  snis: [a.test]
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-a], skip_consumer_lookup: true}
  - name: tls-metadata-headers
    config: {inject_client_cert_details: true}
- name: seen
  snis: [b.test]
  plugins:
  - name: tls-handshake-modifier
  - name: tls-metadata-headers
    config: {inject_client_cert_details: true}
- name: named
  snis: [c.test]
  plugins:
  - name: tls-handshake-modifier
  - name: tls-metadata-headers
    config:
      inject_client_cert_details: true
      client_cert_header_name: Ssl-Cert
      client_serial_header_name: Ssl-Serial
      client_cert_issuer_dn_header_name: Ssl-Issuer
      client_cert_subject_dn_header_name: Ssl-Subject
      client_cert_fingerprint_header_name: Ssl-Fingerprint
      client_cert_chain_header_name: null
- name: silent
  snis: [d.test]
  plugins:
  - name: tls-handshake-modifier
  - name: tls-metadata-headers
    config: {inject_client_cert_details: false}
- name: n
  snis: [n.test]
_EOC_

our $Config = <<'_EOC_';
    proxy_set_header X-Ngx-Cert $ssl_client_escaped_cert;
    proxy_set_header X-Ngx-Serial $ssl_client_serial;
    proxy_set_header X-Ngx-Issuer-DN $ssl_client_i_dn;
    proxy_set_header X-Ngx-Subject-DN $ssl_client_s_dn;
    proxy_set_header X-Ngx-Fingerprint $ssl_client_fingerprint;
    location /a { access_by_lua_block { require("resty.mtls").access("a") } proxy_pass $TEST_NGINX_UPSTREAM; }
    location /seen { access_by_lua_block { require("resty.mtls").access("seen") } proxy_pass $TEST_NGINX_UPSTREAM; }
    location /named { access_by_lua_block { require("resty.mtls").access("named") } proxy_pass $TEST_NGINX_UPSTREAM; }
    location /silent { access_by_lua_block { require("resty.mtls").access("silent") } proxy_pass $TEST_NGINX_UPSTREAM; }
    location /n { access_by_lua_block { require("resty.mtls").access("n") } proxy_pass $TEST_NGINX_UPSTREAM; }
_EOC_

# value NAME: the value of that header in the file `echo`; compare: compares the module's headers with nginx's
our $Client = <<'_EOC_';
value() { sed -n "s/^$1: \(.*\)\r$/\1/p" echo; }
compare() {
    local ours ngx
    for pair in Cert:Cert Cert-Serial:Serial Cert-Issuer-DN:Issuer-DN Cert-Subject-DN:Subject-DN Cert-Fingerprint:Fingerprint; do
        ours=$(value "X-Client-${pair%:*}") ngx=$(value "X-Ngx-${pair#*:}")
        [ -n "$ours" ] && [ "$ours" = "$ngx" ] && echo "${pair%:*} same" || echo "${pair%:*} differs: $ours / $ngx"
    done
}
decode() { python3 -c 'import sys, urllib.parse; sys.stdout.write(urllib.parse.unquote(sys.stdin.read().rstrip("\n")))'; }
_EOC_

run_blocks();

__DATA__

=== TEST 1: access() sends headers that are equal to nginx's own variables
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
for name in a int awkward empty; do
    echo "$name"
    get a.test/a $(as client-$name) -o echo
    compare
done
_EOC_
--- client_out
a
Cert same
Cert-Serial same
Cert-Issuer-DN same
Cert-Subject-DN same
Cert-Fingerprint same
int
Cert same
Cert-Serial same
Cert-Issuer-DN same
Cert-Subject-DN same
Cert-Fingerprint same
awkward
Cert same
Cert-Serial same
Cert-Issuer-DN same
Cert-Subject-DN same
Cert-Fingerprint same
empty
Cert same
Cert-Serial same
Cert-Issuer-DN same
Cert-Subject-DN differs:  / 
Cert-Fingerprint same



=== TEST 2: access() sends the exact bytes of names and numbers with special characters
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
get a.test/a $(as client-awkward) -o echo
value X-Client-Cert-Serial
value X-Client-Cert-Issuer-DN
value X-Client-Cert-Subject-DN
value X-Client-Cert-Dn
value X-Client-Cert-San
[ "$(value X-Client-Cert-Fingerprint)" = "$(openssl x509 -in "$PKI/client-awkward.crt" -outform DER | sha1sum | cut -d ' ' -f 1)" ] &&
    echo fingerprint
value X-Client-Cert | decode | cmp - "$PKI/client-awkward.crt" && echo certificate
value X-Client-Cert-Chain | decode | cmp - "$PKI/client-awkward.crt" && echo chain
_EOC_
--- client_out
9ABCDEF00112233445566778899AABBCCDDEEF
CN=Test CA-A,O=Example Lab,C=CZ
CN=Smith\, \"Ann\" #1/x,OU=R&D\; Lab=7,O=\C5\BDlu\C5\A5\, Widgets \+ Sons,C=CZ
CN=Smith\, \"Ann\" #1/x,OU=R&D\; Lab=7,O=\C5\BDlu\C5\A5\, Widgets \+ Sons,C=CZ
DNS:ann.example.com, DNS:alt.example.com, URI:spiffe://example.org/ns/prod/sa/ann, URI:urn:x:a;b%2Cc=d, email:ann@example.com, IP:192.0.2.7, IP:2001:db8::7, dirName:CN=ann\%2C%20directory
fingerprint
certificate
chain



=== TEST 3: access() sends the whole chain, leaf first, on a resumed session too
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
tls tls=1.2 sni=a.test path=/a as=client-int sess_out=session12 >/dev/null
tls tls=1.3 sni=a.test path=/a as=client-int sess_out=session13 >/dev/null
for version in 1.2 1.3; do
    tls tls=$version sni=a.test path=/a as=client-int sess_in=session${version/./} > out
    facts reused status < out
    cp out echo
    sed -n 's/^X-Client-Cert-Chain: \(.*\)\r$/\1/p' out | decode | cmp - "$PKI/client-int.chain" && echo chain
    compare
done
_EOC_
--- client_out
reused=1 status=200
chain
Cert same
Cert-Serial same
Cert-Issuer-DN same
Cert-Subject-DN same
Cert-Fingerprint same
reused=1 status=200
chain
Cert same
Cert-Serial same
Cert-Issuer-DN same
Cert-Subject-DN same
Cert-Fingerprint same



=== TEST 4: access() sends the headers under the configured names, and no chain header for null
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
get c.test/named $(as client-int) -o echo
grep -oiE '^(ssl|x-client)[^:]*' echo | sort
[ "$(value Ssl-Cert)" = "$(value X-Ngx-Cert)" ] && echo same
value Ssl-Serial
value Ssl-Subject
_EOC_
--- client_out_like
\ASsl-Cert
Ssl-Fingerprint
Ssl-Issuer
Ssl-Serial
Ssl-Subject
same
[0-9A-F]{4}
CN=client-int,O=Example
\z



=== TEST 5: access() sends the headers of an unverified certificate on a route without mtls-auth
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
get b.test/seen $(as client-self) -o echo
compare
get d.test/silent $(as client-a) | grep -ci '^x-client'
get n.test/n $(as client-a) | grep -ci '^x-client'
get b.test/seen | grep -ci '^x-client'
_EOC_
--- client_out
Cert same
Cert-Serial same
Cert-Issuer-DN same
Cert-Subject-DN same
Cert-Fingerprint same
0
0
0



=== TEST 6: access() removes inbound copies in every spelling, with and without a certificate
--- policy eval: $::Policy
--- http_config
    underscores_in_headers on;
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
forge=()
for name in X-Client-Cert x-client-cert X_Client_Cert x_CLIENT-cert_Serial X-Client-Cert-Serial X_CLIENT_CERT_ISSUER_DN \
    X-Client-Cert-Issuer-DN X-Client_Cert-Subject_DN X-Client-Cert-Subject-DN X-Client-Cert-Fingerprint \
    X_Client_Cert_Fingerprint X-Client-Cert-Chain X_Client_Cert_Chain X-Client-Cert-Dn x_client_cert_dn \
    X-Client-Cert-San X_Client_Cert_San Ssl-Cert ssl_cert Ssl_Subject ssl-serial; do
    forge+=(-H "$name: forged" -H "$name: forged again" -H "$name;")
done
forge+=(-H 'X-Client-Certs: mine' -H 'X_Other: mine')
for request in "a.test/a $(as client-a)" "b.test/seen $(as client-self)" "b.test/seen" "c.test/named" "n.test/n" "d.test/silent"; do
    get $request "${forge[@]}" -o echo
    # shellcheck disable=SC2086
    set -- $request
    echo "$1 $# forged: $(grep -ci forged echo) empty: $(grep -ciE '^(x.client|ssl).*: *.?$' echo) mine: $(grep -c mine echo)"
done
_EOC_
--- client_out
a.test/a 5 forged: 0 empty: 0 mine: 2
b.test/seen 5 forged: 0 empty: 0 mine: 2
b.test/seen 1 forged: 0 empty: 0 mine: 2
c.test/named 1 forged: 0 empty: 0 mine: 2
n.test/n 1 forged: 0 empty: 0 mine: 2
d.test/silent 1 forged: 0 empty: 0 mine: 2



=== TEST 7: access() over HTTP/2 removes inbound copies and sends the same headers
--- policy eval: $::Policy
--- http_config
    underscores_in_headers on;
--- config eval: $::Config
--- tls_options: http2
--- client eval
$::Client . <<'_EOC_';
for request in "a.test/a $(as client-int)" "b.test/seen"; do
    get $request --http2 -o echo -w '%{http_version}\n' -H 'X-Client-Cert: forged' -H 'X_Client_Cert: forged' \
        -H 'x_client-cert_dn: forged' -H 'X-Client-Cert-Serial: forged' -H 'X-Client-Cert-Serial: forged'
    grep -ci forged echo
done
get a.test/a $(as client-int) --http2 -o echo
compare
_EOC_
--- client_out
2
0
2
0
Cert same
Cert-Serial same
Cert-Issuer-DN same
Cert-Subject-DN same
Cert-Fingerprint same



=== TEST 8: access() sends X-Client-Cert-Dn and -San only after mtls-auth accepted the certificate
--- policy eval: $::Policy
--- config eval: $::Config
--- client
get a.test/a $(as client-a) | grep -iE '^x-client-cert-(dn|san)' | tr -d '\r'
get a.test/a $(as client-sans1000) | grep -iE '^x-client-cert-san' | tr -d '\r'
get b.test/seen $(as client-a) | grep -ciE '^x-client-cert-(dn|san)'
--- client_out
X-Client-Cert-Dn: CN=client-a,O=Example
X-Client-Cert-San-Too-Large: 1
0
--- no_error_log
[crit]
[alert]



=== TEST 9: access() sends the same headers on every request of a connection
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
curl -sk --http1.1 --connect-to "::127.0.0.1:$PORT" $(as client-int) https://a.test/a https://a.test/a https://a.test/a > out
grep -oE '^X-Client-Cert[^:]*' out | sort | uniq -c | awk '{ print $1, $2 }'
grep '^X-Client-Cert' out | sort -u | wc -l
_EOC_
--- client_out
3 X-Client-Cert
3 X-Client-Cert-Chain
3 X-Client-Cert-Dn
3 X-Client-Cert-Fingerprint
3 X-Client-Cert-Issuer-DN
3 X-Client-Cert-Serial
3 X-Client-Cert-Subject-DN
7
