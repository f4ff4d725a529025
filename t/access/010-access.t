# access(): which clients a protected route allows, and the status and body of each refusal.

use lib 't/lib';
use TestMtls;

our $Policy = policy("ca-a ca-a-int",
    route("a", "a.test", mtls_auth("ca-a")),
    route("whole-chain", "b.test", mtls_auth("ca-a-int")),
    route("partial-chain", "c.test", mtls_auth("ca-a-int", "allow_partial_chain: true, skip_consumer_lookup: true")),
    route("n", "n.test"));

our $Config = <<'_EOC_';
    location /a { access_by_lua_block { require("resty.mtls").access("a") } content_by_lua_block { ngx.say("in") } }
    location /whole { access_by_lua_block { require("resty.mtls").access("whole-chain") } content_by_lua_block { ngx.say("in") } }
    location /partial { access_by_lua_block { require("resty.mtls").access("partial-chain") } content_by_lua_block { ngx.say("in") } }
    location /n { access_by_lua_block { require("resty.mtls").access("n") } content_by_lua_block { ngx.say("in") } }
    location /global { access_by_lua_block { require("resty.mtls").access() } content_by_lua_block { ngx.say("in") } }
_EOC_

run_blocks();

__DATA__

=== TEST 1: access() allows a client with a trusted certificate
--- policy eval: $::Policy
--- config eval: $::Config
--- client
code a.test/a $(as client-a)
code a.test/a $(as client-int)
code a.test/a $(as client-awkward)
code a.test/a $(as client-empty)
--- client_out
200 text/plain in
200 text/plain in
200 text/plain in
200 text/plain in



=== TEST 2: access() answers 401 to a client without a certificate
--- policy eval: $::Policy
--- config eval: $::Config
--- client
code a.test/a
curl -s -o body -w '%{http_code} %{content_type} ' http://127.0.0.1:$HTTP_PORT/a -H 'Host: a.test'; cat body; echo
--- client_out
401 application/json; charset=utf-8 {"message":"No required TLS certificate was sent"}
401 application/json; charset=utf-8 {"message":"No required TLS certificate was sent"}
--- error_log
[mtls] 401 no certificate: the client presented none
[mtls] 401 no certificate: the connection is not TLS



=== TEST 3: access() answers 401 to a client whose certificate does not verify
--- policy eval: $::Policy
--- config eval: $::Config
--- client
for name in b self forged expired future server-eku deep; do
    echo "$name $(code a.test/a $(as client-$name))"
done
# OpenSSL 3.6 adds a text to "certificate is not yet valid".
grep -o '\[mtls\] 401 .* at depth .*, serial' "$ERROR_LOG" | sed 's/, serial//; s/ or the system clock is incorrect//'
--- client_out
b 401 application/json; charset=utf-8 {"message":"TLS certificate failed verification"}
self 401 application/json; charset=utf-8 {"message":"TLS certificate failed verification"}
forged 401 application/json; charset=utf-8 {"message":"TLS certificate failed verification"}
expired 401 application/json; charset=utf-8 {"message":"TLS certificate failed verification"}
future 401 application/json; charset=utf-8 {"message":"TLS certificate failed verification"}
server-eku 401 application/json; charset=utf-8 {"message":"TLS certificate failed verification"}
deep 401 application/json; charset=utf-8 {"message":"TLS certificate failed verification"}
[mtls] 401 FAILED:unable to get local issuer certificate at depth 0, subject: "CN=client-b,O=Example", issuer: "CN=Test CA-B,O=Example Lab,C=CZ"
[mtls] 401 FAILED:self-signed certificate at depth 0, subject: "CN=client-a", issuer: "CN=client-a"
[mtls] 401 FAILED:certificate signature failure at depth 0, subject: "CN=client-a", issuer: "CN=Test CA-A,O=Example Lab,C=CZ"
[mtls] 401 FAILED:certificate has expired at depth 0, subject: "CN=client-a", issuer: "CN=Test CA-A,O=Example Lab,C=CZ"
[mtls] 401 FAILED:certificate is not yet valid at depth 0, subject: "CN=client-a", issuer: "CN=Test CA-A,O=Example Lab,C=CZ"
[mtls] 401 FAILED:unsuitable certificate purpose at depth 0: its extendedKeyUsage has serverAuth and no clientAuth, subject: "CN=client-a", issuer: "CN=Test CA-A,O=Example Lab,C=CZ"
[mtls] 401 FAILED:certificate chain too long at depth 11, subject: "CN=client-deep", issuer: "CN=Deep 18"
--- no_error_log
[crit]
[alert]



=== TEST 4: access() takes an intermediate as the anchor only with allow_partial_chain
--- policy eval: $::Policy
--- config eval: $::Config
--- client
code b.test/whole $(as client-int)
code c.test/partial $(as client-int)
code c.test/partial $(as client-a)
--- client_out
401 application/json; charset=utf-8 {"message":"TLS certificate failed verification"}
200 text/plain in
401 application/json; charset=utf-8 {"message":"TLS certificate failed verification"}
--- error_log
unable to get issuer certificate



=== TEST 5: access() needs the intermediates from the client, or from the policy
--- policy eval
policy("ca-a ca-a-int",
    route("a", "a.test", mtls_auth("ca-a")),
    route("both", "b.test", mtls_auth("ca-a ca-a-int")))
--- config
    location /a { access_by_lua_block { require("resty.mtls").access("a") } content_by_lua_block { ngx.say("in") } }
    location /both { access_by_lua_block { require("resty.mtls").access("both") } content_by_lua_block { ngx.say("in") } }
--- client
bare="--cert $PKI/client-int.crt --key $PKI/client-int.key"
code a.test/a $bare
code b.test/both $bare
--- client_out
401 application/json; charset=utf-8 {"message":"TLS certificate failed verification"}
200 text/plain in
--- error_log
unable to get local issuer certificate



=== TEST 6: access() leaves unprotected routes open to every client
--- policy eval: $::Policy
--- config eval: $::Config
--- client
code n.test/n
code n.test/n $(as client-a)
code a.test/n
code a.test/n $(as client-self)
code n.test/global
curl -s http://127.0.0.1:$HTTP_PORT/n
curl -s http://127.0.0.1:$HTTP_PORT/global
--- client_out
200 text/plain in
200 text/plain in
200 text/plain in
200 text/plain in
200 text/plain in
in
in



=== TEST 7: access() answers 421 when the certificate request of the connection is not that of the Host
--- policy eval: $::Policy
--- config eval: $::Config
--- client
code n.test/a -H 'Host: a.test' $(as client-a)
code b.test/a -H 'Host: a.test' $(as client-a)
code a.test/whole -H 'Host: b.test' $(as client-int)
code a.test/a -H 'Host: A.TEST.:443' $(as client-a)
code a.test/n -H 'Host: n.test' $(as client-a)
--- client_out
421 application/json; charset=utf-8 {"message":"Misdirected Request"}
421 application/json; charset=utf-8 {"message":"Misdirected Request"}
421 application/json; charset=utf-8 {"message":"Misdirected Request"}
200 text/plain in
200 text/plain in
--- no_error_log
[crit]
[alert]



=== TEST 8: access() refuses a protected location under a Host without a policy
--- policy eval: $::Policy
--- config eval: $::Config
--- client
get n.test/a -o /dev/null -w '%{http_code}\n' $(as client-a)
get a.test/a -o /dev/null -w '%{http_code}\n' $(as client-a) -H 'Host: n.test'
get a.test/a -o /dev/null -w '%{http_code}\n' $(as client-a) -H 'Host: unknown.test'
--- client_out
401
421
421
--- error_log
[mtls]



=== TEST 9: access() gives every request of a connection the same verdict
--- policy eval: $::Policy
--- config eval: $::Config
--- client
tls sni=a.test host=a.test,a.test,a.test path=/a as=client-a | facts status body
tls sni=a.test host=a.test,a.test,a.test path=/a as=client-b | facts status body
tls sni=a.test host=a.test,a.test path=/a | facts status body
--- client_out
status=200,200,200 body=in
status=401,401,401 body={"message":"TLS certificate failed verification"}
status=401,401 body={"message":"No required TLS certificate was sent"}
--- error_log
[mtls]



=== TEST 10: access() refuses over HTTP/2 as over HTTP/1.1
--- policy eval: $::Policy
--- config eval: $::Config
--- tls_options: http2
--- client
code a.test/a --http2
code a.test/a --http2 $(as client-a)
code a.test/a --http2 $(as client-b)
get n.test/a --http2 -o /dev/null -w '%{http_version} %{http_code}\n' -H 'Host: a.test' $(as client-a)
--- client_out
401 application/json; charset=utf-8 {"message":"No required TLS certificate was sent"}
200 text/plain in
401 application/json; charset=utf-8 {"message":"TLS certificate failed verification"}
2 421
--- error_log
[mtls]



=== TEST 11: access() with a route that the policy does not have answers 500
--- policy eval: $::Policy
--- config
    location /t { access_by_lua_block { require("resty.mtls").access("paymnets") } content_by_lua_block { ngx.say("in") } }
--- client
get a.test/t $(as client-a) -o /dev/null -w '%{http_code}\n'
--- client_out
500
--- error_log
paymnets



=== TEST 12: access() raises for a route that is not a string
--- policy eval: $::Policy
--- config
    location /t {
        access_by_lua_block {
            for _, bad in ipairs { 1, true, {} } do
                local ok, err = pcall(require("resty.mtls").access, bad)
                ngx.log(ngx.NOTICE, "raised: ", not ok, " ", err)
            end
        }
        content_by_lua_block { ngx.say("in") }
    }
--- client
get n.test/t
grep -o 'raised: true' "$ERROR_LOG"
--- client_out
in
raised: true
raised: true
raised: true



=== TEST 13: access() sends neither its own name nor the reason in a refusal
--- policy eval: $::Policy
--- config eval: $::Config
--- client
get a.test/a $(as client-expired) -D headers -o body
grep -ciE 'expired|client-a|issuer|mtls' headers body
get n.test/a -H 'Host: a.test' $(as client-a) -D headers -o body
grep -ciE 'a.test|binding|mtls|policy' headers body
--- client_out
headers:0
body:0
headers:0
body:0
--- no_error_log
[crit]
[alert]
