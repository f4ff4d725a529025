# client(): the certificate and the identity of the current request.

use lib 't/lib';
use TestMtls;

our $Policy = policy("ca-a",
    route("a", "a.test", mtls_auth("ca-a")),
    route("seen", "b.test", plugin("tls-handshake-modifier")));

our @Routes = (
    route("tls", "a.test", mtls_auth("ca-a"), plugin("tls-metadata-headers", "inject_client_cert_details: true")),
    route("header", "", header_cert_auth("secure_source: false, skip_consumer_lookup: true")));
our $Header = policy("ca-a", @Routes);

# The routes have each other's numbers.
our $Swapped = ">>> swapped.yaml\n" . expand_policy(policy("ca-a", reverse @Routes));

run_blocks();

__DATA__

=== TEST 1: client() returns the fields of the certificate
--- policy eval: $::Policy
--- config
    location /t {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block {
            local client = require("resty.mtls").client()
            ngx.say(client.verified)
            ngx.say(client.source)
            ngx.say(client.subject_dn)
            ngx.say(client.issuer_dn)
            ngx.say(client.serial)
            ngx.say(client.fingerprint_sha1 == ngx.var.ssl_client_fingerprint, " ", #client.fingerprint_sha256)
            ngx.say(client.not_after - client.not_before)
            for _, key in ipairs { "C", "O", "OU", "CN" } do
                ngx.say(key, ": ", table.concat(client.subject[key], "|"))
            end
            for _, key in ipairs { "dns", "uri", "email", "ip" } do
                ngx.say(key, ": ", table.concat(client.san[key], "|"))
            end
            ngx.say(client.pem == client.chain_pem)
            ngx.say(client.pem == ngx.unescape_uri(ngx.var.ssl_client_escaped_cert))
            ngx.say(client.consumer)
            ngx.say(#client.groups)
        }
    }
--- client
get a.test/t $(as client-awkward)
--- client_out
SUCCESS
tls
CN=Smith\, \"Ann\" #1/x,OU=R&D\; Lab=7,O=\C5\BDlu\C5\A5\, Widgets \+ Sons,C=CZ
CN=Test CA-A,O=Example Lab,C=CZ
9ABCDEF00112233445566778899AABBCCDDEEF
true 64
315446400
C: CZ
O: Žluť, Widgets + Sons
OU: R&D; Lab=7
CN: Smith, "Ann" #1/x
dns: ann.example.com|alt.example.com
uri: spiffe://example.org/ns/prod/sa/ann|urn:x:a;b,c=d
email: ann@example.com
ip: 192.0.2.7|2001:db8::7
true
true
nil
1



=== TEST 2: client() returns the chain, on a resumed session too
--- policy eval: $::Policy
--- config
    location /t {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block {
            local file = io.open("$TEST_NGINX_PKI/client-int.chain")
            local chain = file:read("*a")
            ngx.say(require("resty.mtls").client().chain_pem == chain)
        }
    }
--- client
for version in 1.2 1.3; do
    tls tls=$version sni=a.test path=/t as=client-int sess_out=session | facts reused body
    tls tls=$version sni=a.test path=/t as=client-int sess_in=session | facts reused body
done
--- client_out
reused=0 body=true
reused=1 body=true
reused=0 body=true
reused=1 body=true



=== TEST 3: client() is nil without a certificate and over plain HTTP
--- policy eval: $::Policy
--- config
    location /t {
        access_by_lua_block { require("resty.mtls").access("seen") }
        content_by_lua_block { ngx.say(type(require("resty.mtls").client())) }
    }
--- client
get b.test/t
get b.test/t $(as client-a)
curl -s http://127.0.0.1:$HTTP_PORT/t
--- client_out
nil
table
nil



=== TEST 4: client() distinguishes a verified certificate from an unverified one
--- policy eval: $::Policy
--- config
    location /a {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block { ngx.say(require("resty.mtls").client().verified) }
    }
    location /seen {
        access_by_lua_block { require("resty.mtls").access("seen") }
        content_by_lua_block { ngx.say(require("resty.mtls").client().verified) }
    }
    location /log {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block { ngx.say("not reached") }
        log_by_lua_block {
            local client = require("resty.mtls").client()
            ngx.log(ngx.NOTICE, "verified: ", client.verified, ", consumer: ", client.consumer)
        }
    }
--- client
get a.test/a $(as client-a)
get b.test/seen $(as client-a)
get a.test/log $(as client-expired); echo
--- client_out
SUCCESS
FAILED:not verified
{"message":"TLS certificate failed verification"}
--- error_log
verified: FAILED:certificate has expired, consumer: nil



=== TEST 5: client() of a certificate with 5,000 names returns within two seconds
--- policy eval: $::Policy
--- config
    location /t {
        access_by_lua_block { require("resty.mtls").access("seen") }
        content_by_lua_block {
            local client = require("resty.mtls").client()
            ngx.say(client.subject_dn, " ", tostring(client.san))
        }
    }
--- client
get b.test/t $(as client-sans5000) --max-time 2
--- client_out
CN=client-a nil



=== TEST 6: client() after a second access() describes the result of the second
--- policy eval: $::Policy
--- config
    location /t {
        access_by_lua_block {
            require("resty.mtls").access("a")
            require("resty.mtls").access("seen")
        }
        content_by_lua_block { ngx.say(require("resty.mtls").client().verified) }
    }
--- client
get a.test/t $(as client-a)
--- client_out
FAILED:not verified



=== TEST 7: client() after a reload does not apply the new policy to the old decision
--- policy eval: $::Header
--- user_files eval: $::Swapped
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
