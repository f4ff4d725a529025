# resty.mtls.certificate, without a policy document.

use lib 't/lib';
use TestMtls;

our $Read = <<'_EOC_';
    init_by_lua_block {
        function package.loaded.read(name)
            local file = assert(io.open("$TEST_NGINX_PKI/" .. name))
            local text = file:read("*a")
            file:close()
            return text
        end
    }
_EOC_

run_blocks();

__DATA__

=== TEST 1: from_pem() reads leaf and chain, and verify() verifies them at a given time
--- http_config eval: $::Read
--- config
    location /t {
        content_by_lua_block {
            local read = require "read"
            local certificate = require "resty.mtls.certificate"
            local trust_store = require "resty.mtls.trust_store"

            local root = assert(trust_store.new(read("ca-a.crt")))
            local int = assert(trust_store.new(read("ca-a-int.crt")))
            local partial = assert(trust_store.new(read("ca-a-int.crt"), { allow_partial_chain = true }))
            local shallow = assert(trust_store.new(read("ca-a.crt"), { verify_depth = 0 }))
            local deep = assert(trust_store.new(read("ca-a.crt"), { verify_depth = 19 }))

            local chain = assert(certificate.from_pem(read("client-int.chain")))
            local leaf = assert(certificate.from_pem(read("client-int.crt")))
            ngx.say("chain root ", chain:verify(root))
            ngx.say("leaf root ", leaf:verify(root))
            ngx.say("chain int ", chain:verify(int))
            ngx.say("chain partial ", chain:verify(partial))
            ngx.say("chain depth 0 ", chain:verify(shallow))
            local ok, reason = chain:verify(root, chain.not_before - 1)
            -- OpenSSL 3.6 adds a text.
            ngx.say("before ", ok, (reason:gsub(" or the system clock is incorrect", "")))
            ngx.say("first second ", chain:verify(root, chain.not_before))
            -- For OpenSSL a certificate is expired at notAfter itself.
            ngx.say("last second ", chain:verify(root, chain.not_after))
            ngx.say("after ", chain:verify(root, chain.not_after + 1))

            local twenty = assert(certificate.from_pem(read("client-deep.chain")))
            ngx.say("twenty ", twenty:verify(root))
            ngx.say("twenty deep ", twenty:verify(deep))
            ngx.say(chain.pem == read("client-int.crt"), chain.chain_pem == read("client-int.chain"))
        }
    }
--- response_body
chain root true
leaf root falseFAILED:unable to get local issuer certificate20
chain int falseFAILED:unable to get issuer certificate2
chain partial true
chain depth 0 falseFAILED:certificate chain too long22
before falseFAILED:certificate is not yet valid
first second true
last second falseFAILED:certificate has expired10
after falseFAILED:certificate has expired10
twenty falseFAILED:certificate chain too long22
twenty deep true
truetrue



=== TEST 2: from_pem() refuses text that is no certificate
--- http_config eval: $::Read
--- config
    location /t {
        content_by_lua_block {
            local read = require "read"
            local certificate = require "resty.mtls.certificate"
            for _, pem in ipairs { "", "x", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
                                   read("client-a.key"), (read("client-a.crt"):gsub("\n", "\n!", 2)) } do
                local got, err = certificate.from_pem(pem)
                -- The rest of the text comes from OpenSSL.
                ngx.say(got, " ", (err:gsub("certificate: .*", "certificate: ...")))
            end

            ngx.say(pcall(certificate.from_pem, nil))
        }
    }
--- response_body
nil certificate.from_pem: no certificate found, expected one PEM block '-----BEGIN CERTIFICATE-----'
nil certificate.from_pem: no certificate found, expected one PEM block '-----BEGIN CERTIFICATE-----'
nil certificate.from_pem: not a readable X.509 certificate: ...
nil certificate.from_pem: no certificate found, expected one PEM block '-----BEGIN CERTIFICATE-----'
nil certificate.from_pem: not a readable X.509 certificate: ...
falsepem must be a string



=== TEST 3: headers() returns the lines of a dialect, and those that it left out
--- http_config eval: $::Read
--- config
    location /t {
        content_by_lua_block {
            local read = require "read"
            local certificate = require "resty.mtls.certificate"

            local function show(name)
                local headers, left_out = certificate.from_pem(read(name)):headers("kong")
                local names = {}
                for header, value in pairs(headers) do
                    names[#names + 1] = header .. (#value < 70 and ": " .. value or " (" .. #value .. ")")
                end

                for header, reason in pairs(left_out or {}) do
                    names[#names + 1] = header .. " - " .. reason
                end

                table.sort(names)
                ngx.say(table.concat(names, "\n"))
            end

            show("client-awkward.crt")
            show("client-45k.crt")
            ngx.say(pcall(certificate.headers, certificate.from_pem(read("client-a.crt")), "klingon"))
        }
    }
--- response_body_like chop
\AX-Client-Cert \(\d+\)
X-Client-Cert-Chain \(\d+\)
X-Client-Cert-Fingerprint: [0-9a-f]{40}
X-Client-Cert-Issuer-DN: CN=Test CA-A,O=Example Lab,C=CZ
X-Client-Cert-Serial: 9ABCDEF00112233445566778899AABBCCDDEEF
X-Client-Cert-Subject-DN \(78\)
X-Client-Cert - \d+ bytes are over the limit of 16384
X-Client-Cert-Chain - \d+ bytes are over the limit of 16384
X-Client-Cert-Chain-Too-Large: 1
X-Client-Cert-Fingerprint: [0-9a-f]{40}
X-Client-Cert-Issuer-DN: CN=Test CA-A,O=Example Lab,C=CZ
X-Client-Cert-Serial: [0-9A-F]{4}
X-Client-Cert-Subject-DN: CN=client-a
X-Client-Cert-Too-Large: 1
falseunknown dialect 'klingon', expected one of rfc9440, cloudflare, .*, kong
\z



=== TEST 4: from_connection() is nil without a certificate and over plain HTTP
--- http_config
    ssl_verify_client optional_no_ca;
--- config
    location /t {
        content_by_lua_block {
            local certificate, err = require("resty.mtls.certificate").from_connection()
            ngx.say(certificate and certificate.subject_dn, " ", err)
        }
    }
--- client
curl -s http://127.0.0.1:$HTTP_PORT/t
get a.test/t
get a.test/t $(as client-a)
--- client_out
nil nil
nil nil
CN=client-a,O=Example nil



=== TEST 5: from_header() reads every format, and refuses anything else
--- config
    location /t {
        content_by_lua_block {
            local certificate = require "resty.mtls.certificate"
            local pem = assert(io.open("$TEST_NGINX_PKI/client-a.crt")):read("*a")
            local expected = assert(certificate.from_pem(pem))
            local base64 = pem:gsub("%-%-%-%-%-[^-]*%-%-%-%-%-", ""):gsub("\n", "")
            local escaped = ngx.escape_uri(pem)
            for format, value in pairs {
                base64_encoded = base64,
                url_encoded = escaped,
                rfc9440 = ":" .. base64 .. ":",
                traefik = base64 .. "," .. base64,
                aws_alb = escaped:gsub("%%2B", "+"),
                auto = ":" .. base64 .. ":",
                xfcc = 'Hash=' .. expected.fingerprint_sha256 .. ';Cert="' .. escaped .. '"',
            } do
                local found = assert(certificate.from_header(format, value))
                assert(found.x5t_s256 == expected.x5t_s256, format)
                assert(certificate.from_header(format, { value }).pem == expected.pem, format)
                ngx.say(certificate.from_header(format, { value, value }))
            end
            local chain = certificate.from_header("rfc9440", ":" .. base64 .. ":", { ":" .. base64 .. ":" })
            ngx.say(chain.chain_pem == pem .. pem)
            ngx.say(certificate.from_header("auto", nil), certificate.from_header("auto", ""), certificate.from_header("auto", {}))
            ngx.say(certificate.from_header("url_encoded", base64))
            ngx.say((select(2, pcall(certificate.from_header, "pem", pem))))
            local hash = "Hash=" .. expected.fingerprint_sha256
            local element = hash .. ";Cert=\"" .. ngx.escape_uri(pem) .. "\""
            ngx.say(certificate.from_header("xfcc", hash .. "," .. element))
            ngx.say(certificate.from_header("xfcc", hash .. "," .. element, nil, { xfcc_element = "last" }).subject_dn)
            ngx.say(certificate.from_header("xfcc", element .. "," .. hash, nil, { xfcc_element = "first" }).subject_dn)
            ngx.say((select(2, pcall(certificate.from_header, "xfcc", element, nil, { xfcc_element = "both" }))))
            ngx.say((select(2, pcall(certificate.from_header, "xfcc", element, nil, { element = "last" }))))
            ngx.say((select(2, pcall(certificate.from_header, "auto", 7))))
        }
    }
--- response_body
nilcertificate.from_header: certificate header refused: 2 header lines, expected one
nilcertificate.from_header: certificate header refused: 2 header lines, expected one
nilcertificate.from_header: certificate header refused: 2 header lines, expected one
nilcertificate.from_header: certificate header refused: 2 header lines, expected one
nilcertificate.from_header: certificate header refused: 2 header lines, expected one
nilcertificate.from_header: certificate header refused: 2 header lines, expected one
nilcertificate.from_header: certificate header refused: 2 header lines, expected one
true
nilnilnil
nilcertificate.from_header: certificate header refused: not PEM, expected '-----BEGIN CERTIFICATE-----'
certificate.from_header: unknown format 'pem', expected one of base64_encoded, url_encoded, rfc9440, xfcc, traefik, aws_alb, auto
nilcertificate.from_header: certificate header refused: several elements, expected one (forward_client_cert_details SANITIZE_SET)
CN=client-a,O=Example
CN=client-a,O=Example
certificate.from_header: xfcc_element must be only, last or first
certificate.from_header: option 'element' is unknown
value must be a string or a table of strings



=== TEST 6: from_connection() in the certificate phase leaves the certificate to access()
--- policy eval: policy("ca-a", route("a", "a.test", mtls_auth("ca-a")))
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
