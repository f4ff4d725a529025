# No client can send a header that the gateway sets. The names are those that an upstream really receives, for certificates
# that make the gateway send all of its lines, each then sent by a client in several spellings.

use lib 't/lib';
use TestMtls;
use TestDialects;

our $Mine = $Policy . <<'_EOC_';
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

run_blocks();

__DATA__

=== TEST 1: every name that the upstream receives is removed from what clients send
--- policy eval: $::Mine
--- config eval: $::Open
--- client eval
"$::Dialects forge open.test,one.test,two.test,holder.test,odd.test,nginx.test,apache.test,haproxy.test,caddy.test"
. " a int awkward sans1000 45k dn20k serial200 san-delimiters places"
--- client_out
151 names, 36 of them -Too-Large
--- no_error_log
[crit]
[alert]



=== TEST 2: the names of Kong's headers that are too large, and those beside one that is renamed into another dialect
--- policy eval: $::Mine
--- config eval: $::Open
--- client
got() { get open.test/echo "$@" | tr -d '\r' | grep -i 'forged$'; }
got -H 'X-Client-Cert-San-Too-Large: forged' -H 'X_Client_Cert_Dn_Too_Large: forged' -H 'X-Client-Cert-Dn-Too-Large: forged'
# Tomcat's SSLValve falls back to the second of these.
got -H 'ssl_client_escaped_cert: forged' -H 'ssl_client_cert: forged' -H 'ssl_cipher: forged'
got -H 'X-Other-Too-Large: forged'
--- client_out
X-Other-Too-Large: forged
