# The plugin client-cert-headers. The upstream returns the request header that it received.

use lib 't/lib';
use TestMtls;

our $Policy = <<'_EOC_';
_format_version: "3.0"
@{ca_certificates: ca-a ca-b}
consumers:
- {username: nobody, id: 10000000-0000-4000-8000-000000000001}
routes:
- name: rfc
  snis: [a.test]
  plugins:
  - name: mtls-auth
    config: &auth {ca_certificates: [@ca-a], skip_consumer_lookup: true}
  - name: client-cert-headers
    config: {dialects: [rfc9440], vary: true, cache_control: private}
- name: nginx
  snis: [a.test]
  plugins:
  - {name: mtls-auth, config: *auth}
  - name: client-cert-headers
    config:
      dialects:
      - name: nginx
        max_bytes: 600
        headers: {ssl_client_serial: X-Serial, ssl-client-issuer-dn: null, ssl_client_s_dn: ssl-subject}
- name: anonymous
  snis: [a.test]
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-a], anonymous: nobody}
  - name: client-cert-headers
    config: {dialects: [{name: nginx, headers: {ssl-client-cert: null}}]}
- name: presented
  snis: [a.test]
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-a], anonymous: nobody}
  - name: client-cert-headers
    config: {dialects: [{name: nginx, when: presented, headers: {ssl-client-cert: null}}]}
- name: unverified
  snis: [b.test]
  plugins:
  - name: tls-handshake-modifier
  - name: client-cert-headers
    config: {dialects: [{name: nginx, when: presented, headers: {ssl-client-cert: null}}, cloudflare]}
- name: first
  snis: [c.test]
  plugins:
  - {name: mtls-auth, config: *auth}
  - name: client-cert-headers
    config: {dialects: [cloudflare-forwarding]}
- name: every
  snis: [c.test, d.test]
  plugins:
  - {name: mtls-auth, config: *auth}
  - name: client-cert-headers
    config:
      dialects:
      - name: cloudflare-forwarding
        on: every_request
        settings:
        - {hostname: c.test, china_network: false, client_certificate_forwarding: true}
        - {hostname: d.test, china_network: false, client_certificate_forwarding: false}
- name: refusing
  snis: [c.test]
  plugins:
  - {name: mtls-auth, config: *auth}
  - name: client-cert-acl
    config: {allow: [{subject.CN: nobody}]}
  - name: client-cert-headers
    config: {dialects: [cloudflare-forwarding]}
- name: days
  snis: [a.test]
  plugins:
  - {name: mtls-auth, config: *auth}
  - name: client-cert-headers
    config: {dialects: [apache]}
- name: disabled
  snis: [a.test]
  plugins:
  - name: client-cert-headers
    enabled: false
    config: {dialects: [{name: traefik, headers: {X-Forwarded-Tls-Client-Cert: X-Pem}}]}
- name: n
  snis: [n.test]
_EOC_

our $Config = join "", map { <<"_EOC_" } qw( rfc nginx anonymous presented unverified first every refusing days disabled n );
    location /$_ { access_by_lua_block { require("resty.mtls").access("$_") } proxy_pass \$TEST_NGINX_UPSTREAM; }
_EOC_

our $Client = <<'_EOC_';
# sent HOST/PATH...: the names of the header lines that the upstream received, without curl's own
sent() { get "$@" | tr -d '\r' | sed -n '2,$s/^\([^:]*\):.*/\1/p' | grep -vE '^(Host|Connection|User-Agent|Accept)$' | sort | paste -sd ' '; }
# lines PATTERN HOST/PATH...: the lines that match the pattern
lines() { local pattern=$1; shift; get "$@" | tr -d '\r' | grep -E "$pattern"; }
_EOC_

our $Sized = <<'_EOC_';
_format_version: "3.0"
@{ca_certificates: ca-a}
consumers:
- {username: nobody, id: 10000000-0000-4000-8000-000000000001}
routes:
- name: a
  snis: [a.test]
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-a], skip_consumer_lookup: true}
  - name: client-cert-headers
    config: {dialects: [cloudflare-forwarding]}
- name: presented
  snis: [a.test]
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-a], anonymous: nobody}
  - name: client-cert-headers
    config: {dialects: [{name: rfc9440, when: presented, max_bytes: 512}]}
_EOC_

run_blocks();

__DATA__

=== TEST 1: access() sends the headers of a dialect, which decode to the client's certificate
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
sent a.test/rfc $(as client-int)
sent a.test/rfc $(as client-a)
lines ^Client-Cert: a.test/rfc $(as client-a) | sed 's/^Client-Cert: :\(.*\):$/\1/' | base64 -d | cmp - <(openssl x509 -in "$PKI/client-a.crt" -outform der) && echo same
get a.test/rfc -w '%{http_code}\n' -o body; cat body; echo
_EOC_
--- client_out
Client-Cert Client-Cert-Chain X-Client-Cert-Dn
Client-Cert X-Client-Cert-Dn
same
401
{"message":"No required TLS certificate was sent"}
--- error_log
[mtls] 401 no certificate: the client presented none



=== TEST 2: access() renames headers, omits those set to null and those over max_bytes
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
sent a.test/nginx $(as client-a)
lines '^(X-Serial|ssl-)' a.test/nginx $(as client-a) | sed 's/\(X-Serial: \).*/\1.../'
_EOC_
--- client_out
X-Client-Cert-Dn X-Serial ssl-client-cert-Too-Large ssl-client-verify ssl-subject
ssl-client-cert-Too-Large: 1
ssl-client-verify: SUCCESS
ssl-subject: CN=client-a,O=Example
X-Serial: ...
--- error_log
header ssl-client-cert left out:



=== TEST 3: access() sends the verdict, and nothing else of an untrusted certificate without "presented"
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
for path in a.test/anonymous a.test/presented b.test/unverified; do
    for name in client-a client-c client-expired; do
        echo "$path $name $(lines ^ssl-client $path $(as $name) | paste -sd ' ')"
    done
    echo "$path - $(lines ^ssl-client $path | paste -sd ' ')"
done
lines ^Cf- b.test/unverified $(as client-a)
lines ^Cf- b.test/unverified
_EOC_
--- client_out
a.test/anonymous client-a ssl-client-verify: FAILED:no consumer
a.test/anonymous client-c ssl-client-verify: FAILED:unable to get local issuer certificate
a.test/anonymous client-expired ssl-client-verify: FAILED:certificate has expired
a.test/anonymous - ssl-client-verify: NONE
a.test/presented client-a ssl-client-verify: FAILED:no consumer ssl-client-subject-dn: CN=client-a,O=Example ssl-client-issuer-dn: CN=Test CA-A,O=Example Lab,C=CZ
a.test/presented client-c ssl-client-verify: FAILED:unable to get local issuer certificate ssl-client-subject-dn: CN=client-c,O=Example ssl-client-issuer-dn: CN=Test CA-C,O=Example Lab,C=CZ
a.test/presented client-expired ssl-client-verify: FAILED:certificate has expired ssl-client-subject-dn: CN=client-a ssl-client-issuer-dn: CN=Test CA-A,O=Example Lab,C=CZ
a.test/presented - ssl-client-verify: NONE
b.test/unverified client-a ssl-client-verify: FAILED:not verified ssl-client-subject-dn: CN=client-a,O=Example ssl-client-issuer-dn: CN=Test CA-A,O=Example Lab,C=CZ
b.test/unverified client-c ssl-client-verify: FAILED:not verified ssl-client-subject-dn: CN=client-c,O=Example ssl-client-issuer-dn: CN=Test CA-C,O=Example Lab,C=CZ
b.test/unverified client-expired ssl-client-verify: FAILED:not verified ssl-client-subject-dn: CN=client-a ssl-client-issuer-dn: CN=Test CA-A,O=Example Lab,C=CZ
b.test/unverified - ssl-client-verify: NONE
Cf-Cert-Revoked: 0
Cf-Cert-Verified: FAILED
Cf-Cert-Presented: 1
Cf-Cert-Revoked: 0
Cf-Cert-Verified: NONE
Cf-Cert-Presented: 0



=== TEST 4: access() sends cloudflare-forwarding on the first request of a connection, over HTTP/1.1 and HTTP/2
--- policy eval: $::Policy
--- config eval: $::Config
--- tls_options: http2
--- client eval
$::Client . <<'_EOC_';
many() {
    curl -sk --max-time 20 --connect-to "::127.0.0.1:$PORT" $(as client-a) "$@" | tr -d '\r' |
        sed -n 's/.*GET \([^ ]*\).*/\1/p; s/^Cf-Client-Cert-\([^:]*\):.*/\1/p' | paste -sd ' '
}
many --http1.1 https://c.test/first/{1,2,3}
many --http2 https://c.test/first/{1,2,3}
# Several streams at once
curl -sk --http2 --parallel --max-time 20 --connect-to "::127.0.0.1:$PORT" $(as client-a) https://c.test/first/{1,2,3,4,5,6} 2> progress | grep -c ^Cf-Client-Cert-Sha256
# A refused request does not reach the upstream, so the next one is the first.
many --http1.1 https://c.test/refusing https://c.test/first/{1,2}
many --http1.1 https://c.test/every/{1,2}
many --http1.1 https://d.test/every/{1,2}
lines ^Cf-Client-Cert-Sha256 c.test/every $(as client-a) | grep -c ": $(openssl x509 -in "$PKI/client-a.crt" -outform der | sha256sum | cut -d' ' -f1)\$"
_EOC_
--- client_out
/first/1 Der-Base64 Sha256 /first/2 /first/3
/first/1 Der-Base64 Sha256 /first/2 /first/3
1
/first/1 Der-Base64 Sha256 /first/2
/every/1 Der-Base64 Sha256 /every/2 Der-Base64 Sha256
/every/1 /every/2
1
--- error_log
[mtls] 403 client-cert-acl:



=== TEST 5: access() sends the lines of the full handshake on a resumed session, the chain included
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
for version in 1.2 1.3; do
    full=$(tls tls=$version sni=a.test path=/rfc as=client-int sess_out=session)
    again=$(tls tls=$version sni=a.test path=/rfc as=client-int sess_in=session)
    echo "$version $(echo "$full" | facts reused status) $(echo "$again" | facts reused status)"
    [ "${full#* body=}" = "${again#* body=}" ] && echo same
    echo "${again#* body=}" | grep -c Client-Cert-Chain
done
_EOC_
--- client_out
1.2 reused=0 status=200 reused=1 status=200
same
1
1.3 reused=0 status=200 reused=1 status=200
same
1



=== TEST 6: access() marks responses of routes that forward certificates with Vary and as private
--- policy eval: $::Policy
--- config eval
$::Config . <<'_EOC_';
    location /rfc/cached {
        access_by_lua_block { require("resty.mtls").access("rfc") }
        proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/said;
    }
    location /said { add_header Vary Accept; add_header Cache-Control max-age=60; return 200 "said"; }
_EOC_
--- client eval
$::Client . <<'_EOC_';
for path in rfc rfc/cached nginx; do
    echo $path
    get a.test/$path $(as client-a) -D - -o /dev/null | tr -d '\r' | grep -iE '^(vary|cache-control):' | sort
done
_EOC_
--- client_out
rfc
Cache-Control: private
Vary: Client-Cert
rfc/cached
Cache-Control: max-age=60
Cache-Control: private
Vary: Accept
Vary: Client-Cert
nginx



=== TEST 7: access() sends a new number of days when the day is over, though it caches the lines
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
left=$(( ($(date -d "$(openssl x509 -in "$PKI/client-a.crt" -noout -enddate | cut -d= -f2)" +%s) - $(date +%s)) / 86400 ))
lines ^SSL_CLIENT_V_REMAIN a.test/days $(as client-a) | grep -c ": $left\$"
_EOC_
--- client_out
1



=== TEST 8: access() removes inbound copies of every header of every route, in every spelling
--- policy eval: $::Policy
--- config eval: $::Config
--- tls_options: http2
--- client eval
$::Client . <<'_EOC_';
forged=()
for name in Client-Cert client-cert-chain CLIENT_CERT Client_Cert-Chain Client.Cert ssl-client-verify SSL_CLIENT_VERIFY \
    ssl-client-serial ssl_client_anything ssl-client-subject-dn ssl-subject SSL_SUBJECT X-Serial x_serial ssl-client-cert-too-large \
    Cf-Cert-Verified cf_cert_verified Cf-Cert-Other Cf-Client-Cert-Der-Base64 CF_CLIENT_CERT_SHA256 SSL_CLIENT_S_DN SSL-CLIENT-SAN-DNS-0 \
    SSL_CLIENT_VERIFY X-Pem x_pem X-Forwarded-Tls-Client-Cert-Info X-Client-Cert-Dn X-Consumer-Id; do
    forged+=(-H "$name: forged" -H "$name: twice")
done
for http in --http1.1 --http2; do
    for path in rfc nginx anonymous presented days disabled n; do
        for as in "" "$(as client-a)"; do
            host=a.test; [ $path = n ] && host=n.test
            echo "$http $path ${as:+certificate }$(curl -sk $http --max-time 20 --connect-to "::127.0.0.1:$PORT" $as "${forged[@]}" https://$host/$path | grep -cE 'forged|twice')"
        done
    done
done
_EOC_
--- client_out
--http1.1 rfc 0
--http1.1 rfc certificate 0
--http1.1 nginx 0
--http1.1 nginx certificate 0
--http1.1 anonymous 0
--http1.1 anonymous certificate 0
--http1.1 presented 0
--http1.1 presented certificate 0
--http1.1 days 0
--http1.1 days certificate 0
--http1.1 disabled 0
--http1.1 disabled certificate 0
--http1.1 n 0
--http1.1 n certificate 0
--http2 rfc 0
--http2 rfc certificate 0
--http2 nginx 0
--http2 nginx certificate 0
--http2 anonymous 0
--http2 anonymous certificate 0
--http2 presented 0
--http2 presented certificate 0
--http2 days 0
--http2 days certificate 0
--http2 disabled 0
--http2 disabled certificate 0
--http2 n 0
--http2 n certificate 0
--- no_error_log
[crit]
[alert]



=== TEST 9: access() removes inbound copies before error pages, internal redirects and subrequests
--- policy eval: $::Policy
--- config eval
$::Config . <<'_EOC_';
    recursive_error_pages on;
    error_page 401 403 421 502 = @page;
    location /broken { access_by_lua_block { require("resty.mtls").access("nginx") } proxy_pass http://unix:/nonexistent:; }
    location @page { proxy_pass $TEST_NGINX_UPSTREAM; }
    location /redirected { access_by_lua_block { require("resty.mtls").access("nginx"); ngx.exec("/inside") } }
    location /inside { internal; proxy_pass $TEST_NGINX_UPSTREAM; }
    location /sub {
        access_by_lua_block { require("resty.mtls").access("nginx") }
        content_by_lua_block { ngx.print(ngx.location.capture("/inside").body) }
    }
_EOC_
--- client eval
$::Client . <<'_EOC_';
forge='-HClient-Cert:x -Hssl_client_verify:forged -Hssl-client-verify:forged -HX-Serial:forged -HSSL_CLIENT_S_DN:forged'
for path in a.test/rfc c.test/refusing 'n.test/rfc -HHost:a.test'; do
    echo "$path $(get $path $(as client-c) $forge -o body -w '%{http_code}') $(grep -c forged body) $(get $path $(as client-a) $forge -o body -w '%{http_code}') $(grep -c forged body)"
done
for path in redirected sub broken; do
    get a.test/$path $(as client-a) $forge | tr -d '\r' | grep -iE 'forged|^ssl.client.verify'
done
_EOC_
--- client_out
a.test/rfc 401 0 200 0
c.test/refusing 401 0 403 0
n.test/rfc -HHost:a.test 421 0 421 0
ssl-client-verify: SUCCESS
ssl-client-verify: SUCCESS
ssl-client-verify: SUCCESS
--- no_error_log
[alert]



=== TEST 10: access() is not defeated by a trailer, nor by header names in Connection
--- policy eval: $::Policy
--- config eval
$::Config . <<'_EOC_';
    location /through {
        access_by_lua_block { require("resty.mtls").access("rfc") }
        proxy_http_version 1.1;
        proxy_set_header Connection $http_connection;
        proxy_pass $TEST_NGINX_UPSTREAM;
    }
_EOC_
--- client eval
$::Client . <<'_EOC_';
printf 'POST /rfc HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nTrailer: X-Client-Cert-Dn\r\nConnection: close\r\n\r\n1\r\nx\r\n0\r\nX-Client-Cert-Dn: forged\r\nssl-client-verify: forged\r\n\r\n' |
    openssl s_client -quiet -connect "127.0.0.1:$PORT" -servername a.test -cert "$PKI/client-a.crt" -key "$PKI/client-a.key" 2> /dev/null |
    tr -d '\r' | grep -iE 'forged|^X-Client-Cert-Dn'
for connection in 'keep-alive, Client-Cert' 'client_cert_chain' 'X-Other, keep-alive'; do
    get a.test/through $(as client-a) -H "Connection: $connection" | tr -d '\r' | grep -E '^(Connection|Client-Cert):' | cut -c1-40 | sed 's/^\(Client-Cert\): .*/\1/' | paste -sd ' '
done
_EOC_
--- client_out
X-Client-Cert-Dn: CN=client-a,O=Example
Client-Cert
Client-Cert
Connection: X-Other, keep-alive Client-Cert



=== TEST 11: headers of an untrusted certificate are made and logged once per connection
--- policy eval: $::Sized
--- config
    location /t { access_by_lua_block { require("resty.mtls").access("presented") } proxy_pass $TEST_NGINX_UPSTREAM; }
--- client
for name in client-c client-b; do
    curl -sk --http1.1 --connect-to "::127.0.0.1:$PORT" $(as $name) https://a.test/t https://a.test/t https://a.test/t | grep -c '^Client-Cert-Too-Large: 1'
done
grep -c 'header Client-Cert left out' "$ERROR_LOG"
--- client_out
3
3
2
--- error_log
header Client-Cert left out



=== TEST 12: access() before an internal redirect leaves the first request of a connection to the next access()
--- policy eval: $::Sized
--- config
    location /t { access_by_lua_block { require("resty.mtls").access("a") } try_files /nonexistent @up; }
    location @up { access_by_lua_block { require("resty.mtls").access("a"); require("resty.mtls").access("a") } proxy_pass $TEST_NGINX_UPSTREAM; }
--- client
curl -sk --http1.1 --connect-to "::127.0.0.1:$PORT" $(as client-a) https://a.test/t https://a.test/t | tr -d '\r' | grep -oE '^(Cf-Client-Cert-Sha256|GET)' | paste -sd ' '
--- client_out
GET Cf-Client-Cert-Sha256 GET
