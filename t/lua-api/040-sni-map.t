# resty.mtls.sni_map and resty.mtls.trust_store without a policy document.

use lib 't/lib';
use TestMtls;

our $Http = <<'_EOC_';
    init_by_lua_block {
        local function read(name)
            local file = assert(io.open("$TEST_NGINX_PKI/" .. name))
            local text = file:read("*a")
            file:close()
            return text
        end

        local store_a = assert(require("resty.mtls.trust_store").new(read("ca-a.crt")))
        local store_b = assert(require("resty.mtls.trust_store").new(read("ca-b.crt")))
        local map = assert(require("resty.mtls.sni_map").new())
        assert(map:add("a.test", { trust_stores = { store_a }, send_ca_names = true, value = 7 }))
        assert(map:add("*.w.test", { trust_stores = { store_b } }))
        assert(map:add("open.w.test", { request_certificate = false, value = 9 }))
        map:build()
        package.loaded["t.pieces"] = { map = map, store = store_a }
    }
    ssl_client_hello_by_lua_block { assert(require("t.pieces").map:client_hello()) }
    ssl_certificate_by_lua_block { require("t.pieces").map:certificate() }
_EOC_

run_blocks();

__DATA__

=== TEST 1: sni_map requests certificates, binds sessions and verifies clients without a policy document
--- http_config eval: $::Http
--- config
    location /t {
        content_by_lua_block {
            local pieces = require "t.pieces"
            local certificate, err = require("resty.mtls.certificate").from_connection()
            local verified, why
            if certificate then
                verified, why = certificate:verify(pieces.store)
            end

            ngx.say(pieces.map:is_bound(ngx.var.host), " ", certificate and certificate.subject_dn, " ", err, " ",
                    verified, " ", why)
        }
    }
--- client
for version in 1.2 1.3; do
    tls tls=$version sni=a.test path=/t as=client-a sess_out=s | facts certreq ca_names body
    tls tls=$version sni=a.test path=/t sess_in=s | facts reused body
    tls tls=$version sni=x.w.test path=/t sess_in=s as=client-b | facts reused certreq ca_names body
    tls tls=$version sni=open.w.test path=/t sess_in=s as=client-a | facts reused certreq body
    tls tls=$version sni=open.w.test host=a.test path=/t as=client-a | facts body
    tls tls=$version sni=x.w.test host=open.w.test path=/t as=client-a | facts body
done
curl -s http://127.0.0.1:$HTTP_PORT/t
--- client_out
certreq=1 ca_names=1:Test CA-A body=true CN=client-a,O=Example nil true nil
reused=1 body=true CN=client-a,O=Example nil true nil
reused=0 certreq=1 ca_names=0 body=true CN=client-b,O=Example nil false FAILED:unable to get local issuer certificate
reused=0 certreq=0 body=true nil nil nil nil
body=false nil nil nil nil
body=false CN=client-a,O=Example nil true nil
certreq=1 ca_names=1:Test CA-A body=true CN=client-a,O=Example nil true nil
reused=1 body=true CN=client-a,O=Example nil true nil
reused=0 certreq=1 ca_names=0 body=true CN=client-b,O=Example nil false FAILED:unable to get local issuer certificate
reused=0 certreq=0 body=true nil nil nil nil
body=false nil nil nil nil
body=false CN=client-a,O=Example nil true nil
false nil nil nil nil



=== TEST 2: get() matches exact names, one label of a wildcard, and `*`
--- config
    location /t {
        content_by_lua_block {
            local map = require("resty.mtls.sni_map").new()
            for name, value in pairs { ["a.test"] = 1, ["*.a.test"] = 2, ["b.a.test"] = 3, ["*"] = 4 } do
                assert(map:add(name, { value = value }))
            end

            map:build()
            for _, name in ipairs { "a.test", "A.Test.", "x.a.test", "b.a.test", "x.y.a.test", "test", "", "a.test\0",
                                    ("x"):rep(256), "é.a.test" } do
                ngx.say(#name < 40 and name:gsub("%z", "\\0") or #name, " ", map:get(name))
            end

            ngx.say("none ", map:get(nil))
            local none = require("resty.mtls.sni_map").new():build()
            ngx.say("empty ", none:get("a.test"))
        }
    }
--- response_body
a.test 1
A.Test. 1
x.a.test 2
b.a.test 3
x.y.a.test 4
test 4
 4
a.test\0 4
256 4
é.a.test 2
none 4
empty nil



=== TEST 3: add() refuses an invalid server name, with the reason
--- config
    location /t {
        content_by_lua_block {
            local map = require("resty.mtls.sni_map").new()
            for _, name in ipairs { "", "a..test", "*.*.test", "x.*.test", "a*.test", "a test", "a.test\0",
                                    ("x"):rep(64) .. ".test", ("x."):rep(127) .. "xx" } do
                local ok, err = map:add(name)
                ngx.say(ok, " ", err)
            end

            assert(map:add("a.test"))
            ngx.say(map:add("A.TEST"))
            ngx.say(pcall(map.add, map, "b.test", { vlue = 1 }))
            ngx.say(pcall(map.add, map, 1))
        }
    }
--- response_body eval
"nil sni_map.add: server name '': is empty, expected a name such as 'api.example.com'
nil sni_map.add: server name 'a..test': has an empty label
nil sni_map.add: server name '*.*.test': '*' stands for one whole label at the left end, expected for example '*.example.com'
nil sni_map.add: server name 'x.*.test': '*' stands for one whole label at the left end, expected for example '*.example.com'
nil sni_map.add: server name 'a*.test': '*' stands for one whole label at the left end, expected for example '*.example.com'
nil sni_map.add: server name 'a test': has ' ', expected letters, digits, '-', '_' and '.' only
nil sni_map.add: server name 'a.test\\0': has '\\0', expected letters, digits, '-', '_' and '.' only
nil sni_map.add: server name '" . "x" x 64 . "...': has a label of over 63 bytes
nil sni_map.add: server name '" . "x." x 32 . "...': is over 255 bytes
nilsni_map.add: server name 'a.test' is added twice
falseoption 'vlue' is unknown
falsename must be a string
"



=== TEST 4: trust_store.new() accepts CA certificates only
--- config
    location /t {
        content_by_lua_block {
            local function read(name)
                local file = assert(io.open("$TEST_NGINX_PKI/" .. name))
                local text = file:read("*a")
                file:close()
                return text
            end

            local trust_store = require "resty.mtls.trust_store"
            ngx.say(type(trust_store.new(read("ca-a.crt") .. read("ca-b.crt"))))
            ngx.say(trust_store.new(read("client-a.crt")))
            ngx.say(trust_store.new("no PEM"))
            local _, err = trust_store.new("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
            -- The rest of the text comes from OpenSSL.
            ngx.say((err:gsub("certificate: .*", "certificate: ...")))
            ngx.say(pcall(trust_store.new, 1))
            ngx.say(pcall(trust_store.new, "", { depth = 1 }))
        }
    }
--- response_body
table
niltrust_store.new: certificate 'CN=client-a,O=Example' is not a CA: expected the basic constraint CA:TRUE, and keyCertSign if it has a key usage
niltrust_store.new: no certificate found, expected one PEM block '-----BEGIN CERTIFICATE-----'
trust_store.new: not a readable X.509 certificate: ...
falsepem must be a string
falseoption 'depth' is unknown



=== TEST 5: trust_store.new() refuses options that are out of range
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
