# One case for each bug that got past the other files.

use lib 't/lib';
use TestMtls;

our $Policy = <<'_EOC_';
_format_version: "3.0"
@{ca_certificates: ca-a ca-b}
routes:
- name: a
  snis: [a.test]
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-a], skip_consumer_lookup: true}
- name: ask
  snis: [b.test]
  plugins:
  - {name: tls-handshake-modifier}
- name: disabled
  snis: [c.test]
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-a], skip_consumer_lookup: true}
  - name: tls-metadata-headers
    enabled: false
    config: {inject_client_cert_details: true, client_cert_header_name: X-Mine}
_EOC_

# A CRL of CA-A that revokes its intermediate, and says nothing about the clients below that.
my $pki = $TestMtls::Pki;
my $made = system("bash", "-ec", <<"_EOC_");
cd "$pki"
serial=\$(openssl x509 -in ca-a-int.crt -noout -serial | cut -d= -f2)
printf 'R\\t401231235959Z\\t200101000000Z\\t%s\\tunknown\\t/CN=x\\n' "\$serial" >int-revoked.index
printf '[ca]\\ndefault_ca = d\\n[d]\\ndatabase = int-revoked.index\\ndefault_md = sha256\\ndefault_crl_days = 30\\n' >int-revoked.cnf
openssl ca -config int-revoked.cnf -gencrl -keyfile ca-a.key -cert ca-a.crt -out int-revoked.crl 2>/dev/null
_EOC_
$made == 0 or bail_out("no CRL");

our $Crl = <<"_EOC_";
_format_version: "3.0"
\@{ca_certificates: ca-a}
routes:
- name: a
  snis: [a.test]
  plugins:
  - name: mtls-auth
    config:
      ca_certificates: [\@ca-a]
      skip_consumer_lookup: true
      crls: [$pki/int-revoked.crl]
_EOC_

$ENV{DECK_SLOW_ISSUER} = "http://127.0.0.1:" . server_port();

our $Slow = <<'_EOC_';
_format_version: "3.0"
@{ca_certificates: ca-a}
routes:
- name: token
  snis: [a.test]
  plugins:
  - name: tls-handshake-modifier
  - name: openid-connect
    config: {issuer: '${{ env "DECK_SLOW_ISSUER" }}', auth_methods: [bearer], audience_required: [x]}
- name: a
  snis: [a.test]
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-a], skip_consumer_lookup: true}
_EOC_

our $Strangers = <<'_EOC_';
_format_version: "3.0"
@{ca_certificates: ca-a}
routes:
- name: token
  snis: [a.test]
  plugins:
  - name: openid-connect
    config:
      issuer: "http://127.0.0.1:1"
      auth_methods: [bearer]
      audience_required: [x]
      proof_of_possession_mtls: strict
      proof_of_possession_mtls_from_header:
        certificate_header_name: X-Proxied
        certificate_header_format: base64_encoded
        secure_source: false
        ca_certificates: [@ca-a]
- name: a
  snis: [a.test]
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-a], skip_consumer_lookup: true}
_EOC_

our $Told = <<'_EOC_';
_format_version: "3.0"
@{ca_certificates: ca-a}
consumers:
- {username: nobody, id: 10000000-0000-4000-8000-000000000001}
routes:
- name: a
  snis: [a.test]
  plugins:
  - name: mtls-auth
    config: &auth {ca_certificates: [@ca-a], skip_consumer_lookup: true}
  - name: client-cert-headers
    config: {dialects: [cloudflare-forwarding, {name: xfcc, mode: APPEND_FORWARD, detail: [], max_bytes: 512}, {name: apache, headers: {SSL_CLIENT_SAN_DNS_: X-San-}}]}
- name: presented
  snis: [a.test]
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-a], anonymous: nobody}
  - name: client-cert-headers
    config: {dialects: [{name: rfc9440, when: presented, max_bytes: 512}]}
_EOC_

our $Header = <<'_EOC_';
_format_version: "3.0"
@{ca_certificates: ca-a ca-b}
routes:
- name: tls
  snis: [a.test]
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-a], skip_consumer_lookup: true}
  - name: tls-metadata-headers
    config: {inject_client_cert_details: true}
- name: header
  plugins:
  - name: header-cert-auth
    config:
      ca_certificates: [@ca-a]
      certificate_header_name: X-Client-Cert
      certificate_header_format: url_encoded
      secure_source: false
      skip_consumer_lookup: true
_EOC_

# The numbers of its plans are those of the other routes.
open my $swapped, '>', "$pki/swapped.yaml"
    or bail_out("$pki/swapped.yaml: $!");
print $swapped expand_policy($Header =~ s/(- name: tls\n.*)(- name: header\n.*)/$2$1/sr);
close $swapped;

run_blocks();

__DATA__

=== TEST 1: client() of a certificate with 5,000 names does not hold the worker up
--- policy eval: $::Policy
--- config
    location /t {
        access_by_lua_block { require("resty.mtls").access("ask") }
        content_by_lua_block {
            local client = require("resty.mtls").client()
            ngx.say(client.subject_dn, " ", tostring(client.san))
        }
    }
--- client
get b.test/t $(as client-sans5000) --max-time 2
--- client_out
CN=client-a nil



=== TEST 2: access() does not keep certificates that nobody trusts
--- policy eval: $::Policy
--- config
    location /t {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block { ngx.say("in") }
    }
--- client
worker=$(pgrep -P "$(cat "$PID_FILE")" | head -n 1)
rss() { awk '/^VmRSS/ { print $2 }' "/proc/$worker/status"; }
openssl ecparam -name prime256v1 -genkey -noout -out key
sans=$(printf 'DNS:h%04d,' {1..3000})
for serial in $(seq 40); do
    openssl req -x509 -key key -subj /CN=x -set_serial "$serial" -addext "subjectAltName=${sans%,}" -out "crt$serial"
done
for serial in 1 2 3 4; do get a.test/t --cert "crt$serial" --key key >/dev/null; done
before=$(rss)
for serial in $(seq 5 40); do get a.test/t --cert "crt$serial" --key key -o /dev/null -w '%{http_code}\n'; done | sort | uniq -c
after=$(rss)
[ $((after - before)) -lt $((4096 + SLACK)) ] && echo flat || echo "grew from $before to $after KB"
--- client_out
     36 401
flat
--- no_error_log
[alert]



=== TEST 3: init() after the start is refused
--- policy eval: $::Policy
--- config
    location /t {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block {
            ngx.say(select(2, pcall(require("resty.mtls").init, { policy = {} })))
        }
    }
--- client
get a.test/t $(as client-a)
--- client_out_like
\A.*mtls\.init: call it in init_by_lua\*, and mtls\.reload later\n\z



=== TEST 4: access() removes the headers of a plugin that is switched off
--- policy eval: $::Policy
--- config
    location /t {
        access_by_lua_block { require("resty.mtls").access("disabled") }
        proxy_pass $TEST_NGINX_UPSTREAM;
    }
--- client
get c.test/t $(as client-a) -H 'X-Mine: forged' -H 'X-Client-Cert-Subject-DN: forged' | grep -ci forged
--- client_out
0



=== TEST 5: strip() removes forged headers where satisfy lets a request in without access()
--- policy eval: $::Policy
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



=== TEST 6: access() refuses a header that it cannot remove
--- policy eval: $::Policy
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



=== TEST 7: from_connection() in the certificate phase does not hide the certificate from access()
--- policy eval: $::Policy
--- http_config
    ssl_certificate_by_lua_block {
        require("resty.mtls").certificate()
        require("resty.mtls.certificate").from_connection()
    }
--- config
    location /t {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block { ngx.say(require("resty.mtls").client().verified) }
    }
--- client
get a.test/t $(as client-a)
--- client_out
SUCCESS



=== TEST 8: client() after a second access() says what that one found
--- policy eval: $::Policy
--- config
    location /t {
        access_by_lua_block {
            require("resty.mtls").access("a")
            require("resty.mtls").access("ask")
        }
        content_by_lua_block { ngx.say(require("resty.mtls").client().verified) }
    }
--- client
get a.test/t $(as client-a)
--- client_out
FAILED:not verified



=== TEST 9: trust_store.new() refuses options out of their range
--- config
    location /t {
        content_by_lua_block {
            local trust_store = require "resty.mtls.trust_store"
            ngx.say(select(2, trust_store.new("", { auth_level = 9 })))
            ngx.say(select(2, trust_store.new("", { verify_depth = -5 })))
        }
    }
--- response_body
trust_store.new: auth_level is 9, expected 0 to 5
trust_store.new: verify_depth is -5, expected 0 to 100



=== TEST 10: certificate() leaves nginx's own verdict at FAILED, whoever presents what
--- policy eval: $::Policy
--- config
    location /t { return 200 "$ssl_client_verify\n"; }
--- client
for name in client-a client-int client-b client-self; do get a.test/t $(as $name); done
--- client_out
FAILED:unable to get local issuer certificate
FAILED:unable to get local issuer certificate
FAILED:unable to get local issuer certificate
FAILED:self-signed certificate



=== TEST 11: access() refuses clients of a revoked CA though no CRL speaks for themselves
--- policy eval: $::Crl
--- config
    location /t {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block { ngx.say("in") }
    }
--- client
get a.test/t $(as client-a)
code a.test/t $(as client-int)
--- client_out
in
401 application/json; charset=utf-8 {"message":"TLS certificate failed verification"}
--- error_log
[mtls] 401 FAILED:certificate revoked at depth 1, subject: "CN=client-int,O=Example"



=== TEST 12: no variable carries a line feed of the certificate into a header
--- policy eval: $::Told
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



=== TEST 13: a numbered header under another name is not gone on with by the client
--- policy eval: $::Told
--- config
    location /t { access_by_lua_block { require("resty.mtls").access("a") } proxy_pass $TEST_NGINX_UPSTREAM; }
--- client
get a.test/t $(as client-two) -H 'X-San-2: evil' -H 'X-San-16: evil' -H 'x_san_00: evil' | tr -d '\r' | grep -iE '^x.san'
--- client_out
X-San-0: first.example.com
X-San-1: second.example.com



=== TEST 14: a request with hundreds of forged names is refused, not cleaned name by name
--- policy eval: $::Told
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



=== TEST 15: what depends on an untrusted certificate is made and logged once a connection
--- policy eval: $::Told
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



=== TEST 16: an access() before nginx sends the request elsewhere does not use up the first request
--- policy eval: $::Told
--- config
    location /t { access_by_lua_block { require("resty.mtls").access("a") } try_files /nonexistent @up; }
    location @up { access_by_lua_block { require("resty.mtls").access("a"); require("resty.mtls").access("a") } proxy_pass $TEST_NGINX_UPSTREAM; }
--- client
curl -sk --http1.1 --connect-to "::127.0.0.1:$PORT" $(as client-a) https://a.test/t https://a.test/t | tr -d '\r' | grep -oE '^(Cf-Client-Cert-Sha256|GET)' | paste -sd ' '
--- client_out
GET Cf-Client-Cert-Sha256 GET



=== TEST 17: a second access() does not take the first one's XFCC element for the client's
--- policy eval: $::Told
--- config
    location /t { access_by_lua_block { require("resty.mtls").access("a"); require("resty.mtls").access("a") } proxy_pass $TEST_NGINX_UPSTREAM; }
--- client
get a.test/t $(as client-a) -H 'X-Forwarded-Client-Cert: Hash=came' | tr -d '\r' | grep -i '^x-forwarded' | tr ',' '\n' | wc -l
get a.test/t $(as client-a) -H "X-Forwarded-Client-Cert: Hash=$(printf 'a%.0s' {1..512})" | tr -d '\r' | grep -i '^x-forwarded'
--- client_out
2
x-forwarded-client-cert-Too-Large: 1
--- error_log
[mtls] header x-forwarded-client-cert left out:



=== TEST 18: access() with an unknown route has removed forged headers before it fails
--- policy eval: $::Told
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



=== TEST 19: reload() leaves no garbage that a worker grows by
--- policy eval: $::Policy
--- config
    location /reload {
        content_by_lua_block {
            for _ = 1, 100 do
                assert(require("resty.mtls").reload())
            end
        }
    }
--- client
worker=$(pgrep -P "$(cat "$PID_FILE")" | head -n 1)
rss() { awk '/^RssAnon/ { print $2 }' "/proc/$worker/status"; }
for _ in 1 2; do get a.test/reload; done
before=$(rss)
for _ in 1 2 3 4 5; do get a.test/reload; done
after=$(rss)
[ $((after - before)) -le $((2048 + SLACK)) ] && echo flat || echo "grew from $before to $after KB"
--- client_out
flat
--- no_error_log
[error]
[alert]



=== TEST 20: access() that refuses a token after a fetch tells of its own client, not of one that came meanwhile
--- policy eval: $::Slow
--- http_config eval
"    include $TestMtls::Root/nginx-conf/mtls-variables.conf;
    log_format who '\$mtls_route_name \$mtls_decision \$mtls_verify \$mtls_subject_dn';
    access_log \$TEST_NGINX_HTML_DIR/who.log who;
"
--- config
    location /.well-known/openid-configuration { access_log off; content_by_lua_block { ngx.sleep(1); ngx.exit(500) } }
    location /token { access_by_lua_block { require("resty.mtls").access("token") } content_by_lua_block { ngx.say("in") } }
    location /a { access_by_lua_block { require("resty.mtls").access("a") } content_by_lua_block { ngx.say("in") } }
--- client
get a.test/token $(as client-b) -H 'Authorization: Bearer eyJhbGciOiJFUzI1NiJ9.e30.AAAA' -o /dev/null -w '%{http_code}\n' > first &
sleep 0.4
get a.test/a $(as client-a)
wait
cat first
sleep 0.1
cat who.log
--- client_out
in
503
a pass SUCCESS CN=client-a,O=Example
token issuer_unavailable FAILED:not verified CN=client-b,O=Example
--- error_log
[mtls] 503



=== TEST 21: access() of a known client is compiled and allocates nothing
--- policy eval: $::Policy
--- config
    location /t {
        content_by_lua_block {
            local access, clear_header = require("resty.mtls").access, ngx.req.clear_header
            local function work(n)
                for _ = 1, n do
                    access("a")
                    -- A new request has none of those.
                    clear_header("X-Client-Cert-Dn")
                end
            end

            work(1000)
            collectgarbage()
            collectgarbage("stop")
            local before = collectgarbage("count")
            work(2000)
            local grown = collectgarbage("count") - before
            collectgarbage("restart")
            -- What the interpreter calls gives it an object for each pointer.
            ngx.say(grown < 20 and "nothing" or grown .. " KB")
        }
    }
--- client
get a.test/t $(as client-a)
--- client_out
nothing



=== TEST 22: access() behind an internal redirect knows what came, however many requests came meanwhile
--- policy eval: $::Header
--- config
    location /up { access_by_lua_block { require("resty.mtls").access("tls") } content_by_lua_block { ngx.say("up") } }
    error_page 502 = @header;
    location /slow {
        access_by_lua_block { require("resty.mtls").access("tls") }
        content_by_lua_block { ngx.sleep(tonumber(ngx.var.arg_seconds)) ngx.exit(502) }
    }
    location @header {
        access_by_lua_block { require("resty.mtls").access("header") }
        content_by_lua_block { ngx.say("in: ", require("resty.mtls").client().subject_dn) }
    }
--- client
slow() { get "a.test/slow?seconds=$1" $(as client-a) -H "X-Client-Cert: $(escaped "$2")"; }
slow 0 client-a
slow 0 client-b
echo
slow 4 client-a > a &
slow 4 client-b > b &
sleep 0.5
get 'a.test/up?[1-1100]' $(as client-a) | sort | uniq -c | tr -d ' '
wait
cat a b
echo
--- client_out
in: CN=client-a,O=Example
{"message":"TLS certificate failed verification"}
1100up
in: CN=client-a,O=Example
{"message":"TLS certificate failed verification"}
--- error_log
[mtls] 401
--- no_error_log
[crit]



=== TEST 23: client() after a reload tells nothing by the plans of a policy that did not decide
--- policy eval: $::Header
--- config
    location /t {
        access_by_lua_block { require("resty.mtls").access(ngx.var.arg_route) }
        content_by_lua_block {
            local mtls = require("resty.mtls")
            local early = ngx.var.arg_early and mtls.client()
            assert(mtls.reload("$TEST_NGINX_HTML_DIR/swapped.yaml"))
            local client = mtls.client()
            ngx.say(client and client.source .. " " .. client.verified .. " " .. client.subject_dn or "nobody")
            if early then
                ngx.say((select(2, early:header_value("nginx", "ssl_client_s_dn"))))
                ngx.say((select(2, early:cloudflare())))
            end

            assert(mtls.reload())
        }
    }
--- client
cp "$PKI/swapped.yaml" .
header() { get "a.test/t?$1" $(as client-a) -H "X-Client-Cert: $(escaped "$2")"; }
header route=tls client-b
header route=header client-a
header 'route=header&early=1' client-a
--- client_out
tls SUCCESS CN=client-a,O=Example
nobody
header SUCCESS CN=client-a,O=Example
header_value: another policy than the one that decided is in force
cloudflare: another policy than the one that decided is in force



=== TEST 24: client() before access() leaves the header to access()
--- policy eval
<<'_EOC_'
_format_version: "3.0"
@{ca_certificates: ca-a}
plugins:
- name: header-cert-auth
  config:
    ca_certificates: [@ca-a]
    certificate_header_name: X-Client-Cert
    certificate_header_format: url_encoded
    secure_source: false
    skip_consumer_lookup: true
_EOC_
--- config
    location /t {
        access_by_lua_block {
            local mtls = require("resty.mtls")
            local client = mtls.client()
            ngx.ctx.before = client.verified .. " " .. client.subject_dn
            mtls.access()
        }
        content_by_lua_block { ngx.say(ngx.ctx.before, ", ", require("resty.mtls").client().verified) }
    }
--- client
get a.test/t -H "X-Client-Cert: $(escaped client-a)"
--- client_out
FAILED:not verified CN=client-a,O=Example, SUCCESS



=== TEST 25: $mtls_verify says that something came which is no certificate
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
sleep 0.1
cat verify.log
--- client_out
refused FAILED:unspecified certificate verification error
no_certificate NONE
--- error_log
[mtls] 401



=== TEST 26: certificates in headers that nobody vouches for push out no client
--- http_config
    lua_shared_dict mtls 10m;
--- policy eval: $::Strangers
--- config
    keepalive_requests 10000;
    location /a { access_by_lua_block { require("resty.mtls").access("a") } content_by_lua_block { ngx.say("in") } }
    location /token { access_by_lua_block { require("resty.mtls").access("token") } content_by_lua_block { ngx.say("in") } }
    location /metrics { content_by_lua_block { ngx.print(require("resty.mtls").metrics()) } }
--- client
openssl ecparam -name prime256v1 -genkey -noout -out key
openssl req -x509 -key key -subj /CN=x -set_serial 0x7172737475767778 -outform DER -out stranger
get a.test/a $(as client-a)
# One that parses as well with any serial
python3 - <<'END'
import base64, collections, http.client, os
der = open("stranger", "rb").read()
proxy = http.client.HTTPConnection("127.0.0.1", int(os.environ["HTTP_PORT"]))
answers = collections.Counter()
for i in range(1100):
    other = der.replace(b"qrstuvwx", b"q%07d" % i)
    assert other != der
    proxy.request("GET", "/token", headers={"Host": "a.test", "Authorization": "Bearer x", "X-Proxied": base64.b64encode(other)})
    answer = proxy.getresponse()
    answer.read()
    answers[answer.status] += 1
print(dict(answers))
END
get a.test/a $(as client-a)
get a.test/metrics | grep 'cache="client"'
--- client_out
in
{401: 1100}
in
resty_mtls_cache_lookups_total{cache="client",result="hit"} 1
resty_mtls_cache_lookups_total{cache="client",result="miss"} 1
--- no_error_log
[crit]
[alert]
--- timeout: 30
