# header_value() and cloudflare() of client(): values in the form of a header dialect.

use lib 't/lib';
use TestMtls;

our $Policy = <<'_EOC_';
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
- name: anonymous
  snis: [a.test]
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-a], anonymous: nobody}
_EOC_

run_blocks();

__DATA__

=== TEST 1: header_value() returns the value that a dialect would send
--- policy eval: $::Policy
--- config
    location /t {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block {
            local client = require("resty.mtls").client()
            for _, key in ipairs { "certSubjectDNLegacy", "certSubjectDN", "certVerified", "certIssuerSerial" } do
                ngx.say(client:header_value("cloudflare", key))
            end

            ngx.say(client:header_value("nginx", "ssl_client_s_dn") == ngx.var.ssl_client_s_dn)
            ngx.say(client:header_value("nginx", "ssl_client_escaped_cert") == ngx.var.ssl_client_escaped_cert)
            ngx.say(client:header_value("rfc9440", "client_cert_chain"))
            ngx.say(pcall(client.header_value, client, "cloudflare", "certSubject"))
            ngx.say((select(2, pcall(client.header_value, client, "cloudflair", "certSubjectDN")):sub(1, 67)))
            ngx.say(pcall(client.header_value, client, "cloudflare"))
        }
    }
--- client
get a.test/t $(as client-a) | sed "s/$(openssl x509 -in "$PKI/ca-a.crt" -noout -serial | cut -d= -f2)/SERIAL/"
--- client_out
/O=Example/CN=client-a
CN=client-a,O=Example
SUCCESS
SERIAL
true
true
nil
falseheader_value: the dialect 'cloudflare' has no value 'certSubject'
unknown dialect 'cloudflair', expected one of rfc9440, cloudflare, 
falseheader_value: dialect and key must be strings



=== TEST 2: header_value() returns nil and the reason for a value that is over the limit of a header
--- policy eval: $::Policy
--- config
    location /t {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block {
            local client = require("resty.mtls").client()
            ngx.say(client:header_value("rfc9440", "client_cert"))
            ngx.say(client:header_value("nginx", "ssl_client_verify"))
        }
    }
--- client
get a.test/t $(as client-45k) | sed 's/[0-9]\{5,\} bytes/N bytes/'
--- client_out
nilclient_cert left out: N bytes are over the limit of 10240
SUCCESS



=== TEST 3: cloudflare() returns the 21 properties, for trusted and untrusted certificates
--- policy eval: $::Policy
--- config
    location /t {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block { require("show")(require("resty.mtls").client():cloudflare()) }
    }
    location /anonymous {
        access_by_lua_block { require("resty.mtls").access("anonymous") }
        content_by_lua_block { require("show")(require("resty.mtls").client():cloudflare()) }
    }
--- http_config
    lua_package_path "$TEST_NGINX_HTML_DIR/?.lua;$TEST_NGINX_ROOT/lua/?.lua;;";
    lua_package_cpath "$TEST_NGINX_ROOT/target/release/?.so;;";
--- user_files
>>> show.lua
return function(properties)
    local names = {}
    for name, value in pairs(properties) do
        if value ~= "" and not name:find("RFC9440$") then
            names[#names + 1] = name .. " " .. type(value):sub(1, 1) .. " " .. tostring(value)
        else
            names[#names + 1] = name
        end
    end

    table.sort(names)
    ngx.say(#names, "\n", table.concat(names, "\n"))
end
--- client
get a.test/t $(as client-a) | grep -vE 'Fingerprint|Serial|SKI|Not'
get a.test/anonymous $(as client-a) | grep -E 'Verified|Presented'
get a.test/anonymous $(as client-c) | grep -E 'Verified|Presented'
--- client_out
21
certChainRFC9440
certChainRFC9440TooLarge b false
certIssuerDN s CN=Test CA-A,O=Example Lab,C=CZ
certIssuerDNLegacy s /C=CZ/O=Example Lab/CN=Test CA-A
certIssuerDNRFC2253 s CN=Test CA-A,O=Example Lab,C=CZ
certPresented s 1
certRFC9440
certRFC9440TooLarge b false
certRevoked s 0
certSubjectDN s CN=client-a,O=Example
certSubjectDNLegacy s /O=Example/CN=client-a
certSubjectDNRFC2253 s CN=client-a,O=Example
certVerified s SUCCESS
certPresented s 1
certVerified s FAILED:no consumer
certPresented s 1
certVerified s FAILED:unable to get local issuer certificate
