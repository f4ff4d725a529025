# header-cert-auth: the client certificate that a trusted proxy sends in a request header.

use lib 't/lib';
use TestMtls;

sub reads_header ($$) {
    my ($format, $fields) = @_;

    return "{name: header-cert-auth, config: {ca_certificates: [\@ca-a], certificate_header_format: $format, $fields}}";
}

our %Plugins = (
    url => reads_header(url_encoded => "certificate_header_name: X-Client-Cert, skip_consumer_lookup: true"),
    base64 => reads_header(base64_encoded => "certificate_header_name: X-Der, skip_consumer_lookup: true"),
    rfc9440 => reads_header(rfc9440 => "certificate_header_name: Client-Cert, skip_consumer_lookup: true"),
    open => reads_header(auto => "certificate_header_name: X-Client-Cert, secure_source: false, skip_consumer_lookup: true"),
    anonymous => reads_header(url_encoded => "certificate_header_name: X-Client-Cert, anonymous: nobody"),
    known => reads_header(url_encoded => "certificate_header_name: X-Client-Cert") . ", {name: acl, config: {allow: [staff]}}",
);

our $Policy = <<'_EOC_' . join("", map { "  - {name: $_, plugins: [$Plugins{$_}]}\n" } qw( url base64 rfc9440 open anonymous known )) . <<'_EOC_';
_format_version: "3.0"
@{ca_certificates: ca-a ca-b}
services:
- name: s
  routes:
_EOC_
  - {name: plain}
consumers:
- {username: nobody}
- {username: ann, header_cert_auth_credentials: [{subject_name: client-a}], acls: [{group: staff}]}
plugins:
- {name: client-cert-headers, config: {dialects: [{name: nginx}]}}
_EOC_

our $Config = <<'_EOC_';
    location ~ ^/see/(?<route>\w+) {
        access_by_lua_block { require("resty.mtls").access(ngx.var.route) }
        content_by_lua_block {
            local client = require("resty.mtls").client()
            ngx.say(client and client.source .. " " .. client.verified .. " " .. client.subject_dn or "nobody")
        }
    }
    location ~ ^/to/(?<route>\w+) {
        access_by_lua_block { require("resty.mtls").access(ngx.var.route) }
        proxy_pass $TEST_NGINX_UPSTREAM;
    }
_EOC_

our $Init = <<'_EOC_';
    init_by_lua_block {
        require("resty.mtls").init {
            policy = "$TEST_NGINX_HTML_DIR/policy.yaml", trusted_ips = { "127.0.0.1" },
        }
    }
_EOC_

our $UntrustedPeer = $Init;
$UntrustedPeer =~ s/"127\.0\.0\.1"/"10.0.0.0\/8"/;

our $Redirect = policy("ca-a",
    route("tls", "a.test", mtls_auth("ca-a")),
    route("header", "", header_cert_auth("secure_source: false, skip_consumer_lookup: true")));

# The upstream gets the certificate of the connection in the header that the other route reads.
our $Subrequest = policy("ca-a",
    route("tls", "a.test", mtls_auth("ca-a", "skip_consumer_lookup: true"),
          plugin("tls-metadata-headers", "inject_client_cert_details: true")),
    route("header", "", header_cert_auth("skip_consumer_lookup: true")));

run_blocks();

__DATA__

=== TEST 1: access() accepts the certificate and chain in the header of a trusted peer, over plain HTTP and TLS
--- policy eval: $::Policy
--- config eval: $::Config
--- http_config eval: $::Init
--- client
header see/url "X-Client-Cert: $(escaped client-a)"
header see/url "X-Client-Cert: $(escaped client-int)"
header see/base64 "X-Der: $(base64_of client-a)"
header see/rfc9440 "Client-Cert: :$(base64_of client-a):"
header see/rfc9440 "Client-Cert: :$(base64_of client-int):" -H "Client-Cert-Chain: :$(base64_of ca-a-int):"
header see/open "X-Client-Cert: :$(base64_of client-a):"
code a.test/see/url -H "X-Client-Cert: $(escaped client-a)"
--- client_out
200 header SUCCESS CN=client-a,O=Example
200 header SUCCESS CN=client-int,O=Example
200 header SUCCESS CN=client-a,O=Example
200 header SUCCESS CN=client-a,O=Example
200 header SUCCESS CN=client-int,O=Example
200 header SUCCESS CN=client-a,O=Example
200 text/plain header SUCCESS CN=client-a,O=Example



=== TEST 2: access() answers 401 to a trusted peer without the header, or with one that means no certificate
--- policy eval: $::Policy
--- config eval: $::Config
--- http_config eval: $::Init
--- client
header see/url "X-Other: 1"
header see/url "X-Client-Cert;"
header see/url "X-Client-Cert: (null)"
# The certificate of the TLS connection is the proxy's own.
code a.test/see/url $(as client-a)
--- client_out
401 {"message":"No required TLS certificate was sent"}
401 {"message":"No required TLS certificate was sent"}
401 {"message":"No required TLS certificate was sent"}
401 application/json; charset=utf-8 {"message":"No required TLS certificate was sent"}
--- error_log
[mtls] 401 no certificate: the request has no header with one
[mtls] 401 no certificate: the proxy sent a header without one



=== TEST 3: access() answers 401 to a header with an untrusted certificate or with none
--- policy eval: $::Policy
--- config eval: $::Config
--- http_config eval: $::Init
--- client
for name in client-b client-self client-expired; do
    header see/url "X-Client-Cert: $(escaped $name)"
done
for value in junk "$(escaped client-a)%20x" "$(escaped client-a | sed 's/%20/+/g')" "$(base64_of client-a)"; do
    header see/url "X-Client-Cert: $value"
done
header see/url "X-Client-Cert: $(escaped client-a)" -H "X-Client-Cert: $(escaped client-a)"
header see/rfc9440 "Client-Cert: $(base64_of client-a)"
head -c 70000 /dev/zero | tr '\0' A >long
header see/url "X-Client-Cert: $(cat long)"
grep -o '\[mtls\] 401 [^,]*' "$ERROR_LOG"
--- client_out
401 {"message":"TLS certificate failed verification"}
401 {"message":"TLS certificate failed verification"}
401 {"message":"TLS certificate failed verification"}
401 {"message":"TLS certificate failed verification"}
401 {"message":"TLS certificate failed verification"}
401 {"message":"TLS certificate failed verification"}
401 {"message":"TLS certificate failed verification"}
401 {"message":"TLS certificate failed verification"}
401 {"message":"TLS certificate failed verification"}
401 {"message":"TLS certificate failed verification"}
[mtls] 401 FAILED:unable to get local issuer certificate at depth 0
[mtls] 401 FAILED:self-signed certificate at depth 0
[mtls] 401 FAILED:certificate has expired at depth 0
[mtls] 401 certificate header refused: not PEM
[mtls] 401 certificate header refused: not PEM
[mtls] 401 certificate header refused: not PEM
[mtls] 401 certificate header refused: not PEM
[mtls] 401 certificate header refused: 2 header lines
[mtls] 401 certificate header refused: not a byte sequence
[mtls] 401 certificate header refused: 70000 bytes are over the limit of 65536
--- no_error_log
[crit]
[alert]



=== TEST 4: access() ignores the header of a peer that is not in trusted_ips
--- policy eval: $::Policy
--- config eval: $::Config
--- http_config eval: $::UntrustedPeer
--- client
header see/url "X-Client-Cert: $(escaped client-a)"
header see/anonymous "X-Client-Cert: $(escaped client-a)"
header see/open "X-Client-Cert: $(escaped client-a)"
header to/plain "X-Client-Cert: $(escaped client-a)" -H "x_client_cert: a" | grep -ci x.client
--- client_out
401 {"message":"No required TLS certificate was sent"}
200 nobody
200 header SUCCESS CN=client-a,O=Example
0
--- error_log
[mtls] 401 no certificate: the header is from a peer that is not in trusted_ips
--- no_error_log
and that list is empty



=== TEST 5: access() trusts no peer without trusted_ips
--- policy eval: $::Policy
--- config eval: "$::Config location /reload { content_by_lua_block { ngx.say(tostring(require('resty.mtls').reload())) } }"
--- client
header see/url "X-Client-Cert: $(escaped client-a)"
# Warnings appear at the start, and again with each policy.
count_warnings() { grep -c "\[warn\].*policy.yaml:[0-9:]* warning: services\[0\].routes\[$1\].plugins\[0\].config.$2" "$ERROR_LOG"; }
count_warnings 0 "certificate_header_name: the header is accepted only from 'trusted_ips' of mtls.init, and that list is empty: every"
count_warnings 3 "secure_source: is false: any client of this gateway may present any certificate, without its key; expected true"
header reload "X-Any: 1"
count_warnings 0 certificate_header_name
grep -c "trusted_ips' of mtls.init, and that list is empty" "$ERROR_LOG"
--- client_out
401 {"message":"No required TLS certificate was sent"}
1
1
200 true
2
2
--- error_log
[mtls] 401 no certificate: the header is from a peer that is not in trusted_ips



=== TEST 6: access() checks the address of the peer, not the one that a realip module read from a header
--- policy eval: $::Policy
--- config eval
"    set_real_ip_from 127.0.0.1;
    real_ip_header X-Real-IP;
    $::Config"
--- http_config eval: $::UntrustedPeer
--- client
header see/url "X-Client-Cert: $(escaped client-a)" -H "X-Real-IP: 10.1.2.3"
--- client_out
401 {"message":"No required TLS certificate was sent"}
--- error_log
[mtls] 401 no certificate: the header is from a peer that is not in trusted_ips



=== TEST 7: access() removes the header in every spelling on every route, from trusted peers too
--- policy eval: $::Policy
--- config eval
"    underscores_in_headers on;
    $::Config"
--- http_config eval: $::Init
--- client
header to/plain "X-Client-Cert: $(escaped client-a)" -H "X_Client_Cert: a" -H "x-client.cert: b" | grep -ci 'x.client.cert'
header to/url "X-Client-Cert: $(escaped client-a)" -H "X_Client_Cert: a" | grep -i 'client' | grep -v '^ssl-client-cert: -----BEGIN%20' | tr -d '\r'
# Other spellings of the name are not read.
header see/url "X_Client_Cert: $(escaped client-a)"
--- client_out
0
X-Client-Cert-Dn: CN=client-a,O=Example
ssl-client-verify: SUCCESS
ssl-client-subject-dn: CN=client-a,O=Example
ssl-client-issuer-dn: CN=Test CA-A,O=Example Lab,C=CZ
401 {"message":"No required TLS certificate was sent"}
--- error_log
[mtls] 401 no certificate: the request has no header with one



=== TEST 8: access() never uses the certificate of one request for another request of the connection
--- policy eval: $::Policy
--- config eval: $::Config
--- http_config eval: $::Init
--- client
url=http://127.0.0.1:$HTTP_PORT/see/url
for name in client-a client-int client-b; do
    printf 'insecure\nhttp2\nurl = "%s"\nheader = "X-Client-Cert: %s"\nnext\n' "$url" "$(escaped $name)"
done >requests
printf 'insecure\nhttp2\nurl = "%s"\n' "$url" >>requests
sed /http2/d requests >plain
sed "s,http://127.0.0.1:$HTTP_PORT,https://127.0.0.1:$PORT," requests >tls
for requests in plain tls; do
    curl -sv -K $requests 2>log
    echo; grep -ciE '^\* re-?using existing' log
done
--- client_out
header SUCCESS CN=client-a,O=Example
header SUCCESS CN=client-int,O=Example
{"message":"TLS certificate failed verification"}{"message":"No required TLS certificate was sent"}
3
header SUCCESS CN=client-a,O=Example
header SUCCESS CN=client-int,O=Example
{"message":"TLS certificate failed verification"}{"message":"No required TLS certificate was sent"}
3
--- tls_options: http2
--- error_log
[mtls] 401
--- no_error_log
[crit]



=== TEST 9: access() maps the certificate to a consumer by header_cert_auth_credentials
--- policy eval: $::Policy
--- config eval: $::Config
--- http_config eval: $::Init
--- client
header to/known "X-Client-Cert: $(escaped client-a)" | grep -i 'consumer-\(user\|groups\)' | tr -d '\r'
header to/known "X-Client-Cert: $(escaped client-int)"
header to/anonymous "X-Client-Cert: $(escaped client-b)" | grep -i 'consumer' | grep -vi 'id:' | tr -d '\r'
--- client_out
X-Consumer-Username: ann
X-Consumer-Groups: staff
401 {"message":"TLS certificate failed verification"}
X-Consumer-Username: nobody
X-Anonymous-Consumer: true
--- error_log
[mtls] 401 no consumer



=== TEST 10: access() reads the header after an internal redirect and a rewrite, and ignores one that was set in between
--- policy eval: $::Policy
--- config eval
"    location = /again {
        access_by_lua_block { require('resty.mtls').access('url') }
        content_by_lua_block { ngx.exec('/see/url') }
    }
    location = /first {
        content_by_lua_block { ngx.exec('/see/url') }
    }
    location = /set {
        access_by_lua_block { require('resty.mtls').access('url') }
        content_by_lua_block { ngx.req.set_header('X-Client-Cert', ngx.unescape_uri(ngx.var.arg_cert)); ngx.exec('/see/url') }
    }
    location /break/ { rewrite ^/break/(.*)\$ /\$1 break; access_by_lua_block { require('resty.mtls').access('url') } content_by_lua_block { ngx.say('in') } }
    rewrite ^/last/(.*)\$ /\$1 last;
    $::Config"
--- http_config eval: $::Init
--- client
header again "X-Client-Cert: $(escaped client-a)"
header again "X-Other: 1"
header first "X-Client-Cert: $(escaped client-a)"
header break/x "X-Client-Cert: $(escaped client-a)"
header last/see/url "X-Client-Cert: $(escaped client-a)"
header "set?cert=$(escaped client-a)" "X-Client-Cert: $(escaped client-c)"
--- client_out
200 header SUCCESS CN=client-a,O=Example
401 {"message":"No required TLS certificate was sent"}
200 header SUCCESS CN=client-a,O=Example
200 in
200 header SUCCESS CN=client-a,O=Example
401 {"message":"TLS certificate failed verification"}
--- error_log
[mtls] 401 no certificate: the request has no header with one



=== TEST 11: strip() before access() leaves the header to access()
--- policy eval: $::Policy
--- config eval
"    rewrite_by_lua_block { require('resty.mtls').strip() }
    $::Config"
--- http_config eval: $::Init
--- client
header see/url "X-Client-Cert: $(escaped client-a)"
header to/url "X-Client-Cert: $(escaped client-a)" | grep -ci 'x-client-cert:'
--- client_out
200 header SUCCESS CN=client-a,O=Example
0



=== TEST 12: access() answers 425 to requests that the proxy received as early data (RFC 8470)
--- policy eval: $::Policy
--- config eval: $::Config
--- http_config eval: $::Init
--- client
header see/url "X-Client-Cert: $(escaped client-a)" -H 'Early-Data: 1'
header see/url "X-Client-Cert: $(escaped client-a)" -H 'Early-Data: 0' -H 'Early-Data: 1'
header see/url "X-Client-Cert: $(escaped client-a)"
header see/plain "X-Client-Cert: $(escaped client-a)" -H 'Early-Data: 1'
--- client_out
425 {"message":"Too Early"}
425 {"message":"Too Early"}
200 header SUCCESS CN=client-a,O=Example
200 nobody
--- error_log
[mtls] 425 too early: the proxy passed early data on



=== TEST 13: access() after an internal redirect reads the header that the client sent, after 1,100 other requests too
--- policy eval: $::Redirect
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



=== TEST 14: client() before access() leaves the header to access()
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



=== TEST 15: a subrequest reads the header that the client sent, not one that was set for its main request
--- policy eval: $::Subrequest
--- config
    location /header {
        internal;
        rewrite_by_lua_block { require("resty.mtls").access("header") }
        content_by_lua_block { ngx.say(require("resty.mtls").client().subject_dn) }
    }
    location /capture {
        rewrite_by_lua_block { require("resty.mtls").access(ngx.var.arg_route) }
        content_by_lua_block {
            local answer = ngx.location.capture("/header")
            ngx.print(answer.status, " ", answer.body)
        }
    }
    location /strip {
        rewrite_by_lua_block { require("resty.mtls").strip() }
        auth_request /header;
        content_by_lua_block { ngx.say("in") }
    }
    location /first {
        auth_request /header;
        access_by_lua_block { require("resty.mtls").access("tls") }
        content_by_lua_block { ngx.print(ngx.location.capture("/header").body) }
    }
--- http_config eval: $::Init
--- client
# show PATH HEADER...: the client that the subrequest lets in
show() {
    local path=$1
    shift
    get "a.test/$path" $(as client-a) -H "$1" | grep -oE 'CN=[a-z-]*|^in|message":"[^"]*|401 Authorization' | head -1
}
for path in capture?route=tls capture?route=header strip first; do
    echo "$path: $(show $path "X-Client-Cert: $(escaped client-a)"), $(show $path "X-Client-Cert: $(escaped client-c)"),"\
        "$(show $path "X-Other: 1")"
done
--- client_out
capture?route=tls: CN=client-a, message":"TLS certificate failed verification, message":"No required TLS certificate was sent
capture?route=header: CN=client-a, message":"TLS certificate failed verification, message":"No required TLS certificate was sent
strip: in, 401 Authorization, 401 Authorization
first: CN=client-a, 401 Authorization, 401 Authorization
--- error_log
[mtls] 401 no certificate: the request has no header with one
