# resty.mtls.internal.net.http: proxies, address families, and turns of other requests.

use lib 't/lib';
use TestMtls;
use TestNet;

run_blocks();

__DATA__

=== TEST 1: request() uses proxies
--- http_config eval: $::Http
--- config eval
$::Config . <<'_EOC_';
    location /redirect { return 302 http://other.test/; }
    location /t {
        content_by_lua_block {
            local t = require "t.fetch"
            local function proxied(label, url, opts)
                opts = opts or {}
                opts.http_proxy, opts.https_proxy, opts.timeout = t.proxy, t.proxy, 500
                t.say(label, url, opts)
            end

            proxied("name", "http://only.the.proxy.knows.test/a?b=c")
            proxied("port", "http://a.test:8080", { method = "POST", body = "x", content_type = "a/b" })
            for _, host in ipairs { "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "localhost", "x.localhost" } do
                proxied(host, "http://" .. host .. "/")
                proxied(host, "https://" .. host .. "/")
            end

            proxied("operator's", "http://127.0.0.1/", { origin = "operator" })
            proxied("CONNECT", "https://a.test:TLS/x")
            proxied("CONNECT, other name", "https://other.example:TLS/")
            proxied("CONNECT, unverified", "https://other.example:TLS/", { ssl_verify = false })
            proxied("CONNECT, forbidden", "https://forbidden.test/")
            proxied("CONNECT, early data", "https://early.test/")
            proxied("CONNECT, silent", "https://silent.test/")
            proxied("CONNECT, origin down", "https://a.test:1/")
            t.proxy = { host = "here.test", port = t.proxy.port }
            proxied("named proxy", "http://a.test/")
            t.proxy = { host = "absent.test", port = 1 }
            proxied("absent proxy", "http://a.test/")
            t.proxy = { host = "127.0.0.1", port = 1 }
            proxied("proxy down", "https://a.test/")
            t.say("only for the other scheme", "http://127.0.0.1:PORT/", { https_proxy = t.proxy, origin = "operator" })
        }
    }
_EOC_
--- user_files
>>> hosts
--- response_body
name -> GET http://only.the.proxy.knows.test/a?b=c HTTP/1.1|User-Agent: resty-mtls|Connection: close|Host: only.the.proxy.knows.test||
port -> POST http://a.test:8080/ HTTP/1.1|User-Agent: resty-mtls|Connection: close|Content-Length: 1|Content-Type: a/b|Host: a.test:8080||x
127.0.0.1 -> http.request: http://127.0.0.1/: 127.0.0.1 is a loopback, link-local or other special address that fetch_allow does not name
127.0.0.1 -> http.request: https://127.0.0.1/: 127.0.0.1 is a loopback, link-local or other special address that fetch_allow does not name
[::1] -> http.request: http://[::1]/: ::1 is a loopback, link-local or other special address that fetch_allow does not name
[::1] -> http.request: https://[::1]/: ::1 is a loopback, link-local or other special address that fetch_allow does not name
[::ffff:127.0.0.1] -> http.request: http://[::ffff:127.0.0.1]/: ::ffff:127.0.0.1 is a loopback, link-local or other special address that fetch_allow does not name
[::ffff:127.0.0.1] -> http.request: https://[::ffff:127.0.0.1]/: ::ffff:127.0.0.1 is a loopback, link-local or other special address that fetch_allow does not name
169.254.169.254 -> http.request: http://169.254.169.254/: 169.254.169.254 is a loopback, link-local or other special address that fetch_allow does not name
169.254.169.254 -> http.request: https://169.254.169.254/: 169.254.169.254 is a loopback, link-local or other special address that fetch_allow does not name
localhost -> http.request: http://localhost/: host resolves to 127.0.0.1, a loopback, link-local or other special address that fetch_allow does not name
localhost -> http.request: https://localhost/: host resolves to 127.0.0.1, a loopback, link-local or other special address that fetch_allow does not name
x.localhost -> http.request: http://x.localhost/: host resolves to 127.0.0.1, a loopback, link-local or other special address that fetch_allow does not name
x.localhost -> http.request: https://x.localhost/: host resolves to 127.0.0.1, a loopback, link-local or other special address that fetch_allow does not name
operator's -> GET http://127.0.0.1/ HTTP/1.1|User-Agent: resty-mtls|Connection: close|Host: 127.0.0.1||
CONNECT -> GET /x HTTP/1.1|User-Agent: resty-mtls|Connection: close|Host: a.test:TLS||
CONNECT, other name -> http.request: https://other.example:TLS/: TLS handshake: certificate host mismatch
CONNECT, unverified -> other.example:TLS at 127.0.0.1
CONNECT, forbidden -> http.request: https://forbidden.test/: proxy: answers CONNECT with status 403
CONNECT, early data -> http.request: https://early.test/: proxy: sends data before the TLS handshake
CONNECT, silent -> http.request: https://silent.test/: proxy: timeout
CONNECT, origin down -> http.request: https://a.test:1/: proxy: connection closed within the header
named proxy -> GET http://a.test/ HTTP/1.1|User-Agent: resty-mtls|Connection: close|Host: a.test||
absent proxy -> http.request: http://a.test/: proxy: host 'absent.test' cannot be resolved: no such name
proxy down -> http.request: https://a.test/: proxy: cannot connect to 127.0.0.1 port 1: connection refused
only for the other scheme -> 127.0.0.1:PORT at 127.0.0.1



=== TEST 2: request() connects over IPv6, and falls back from one address to the next
--- skip_eval: 6: $::NoIpv6
--- http_config eval: $::Http6
--- config eval
$::Config . <<'_EOC_';
    location /t {
        content_by_lua_block {
            local t = require "t.fetch"
            t.init { "127.0.0.1", "::1" }
            for _, place in ipairs { "[::1]:PORT", "six.test:PORT", "both.test:PORT", "both.test:SIX", "localhost:SIX", "here.test:SIX" } do
                t.say(place, "http://" .. place .. "/")
            end

            t.init { "::1" }
            t.say("both.test, one of which may be reached", "http://both.test:PORT/")
            t.say("proxy", "http://a.test/", { http_proxy = { host = "::1", port = $TEST_NGINX_SIX_PORT } })
        }
    }
_EOC_
--- user_files
>>> hosts
--- response_body
[::1]:PORT -> [::1]:PORT at ::1
six.test:PORT -> six.test:PORT at ::1
both.test:PORT -> both.test:PORT at 127.0.0.1
both.test:SIX -> both.test:SIX at ::1
localhost:SIX -> localhost:SIX at ::1
here.test:SIX -> http.request: http://here.test:SIX/: cannot connect to 127.0.0.1 port SIX: connection refused
both.test, one of which may be reached -> both.test:PORT at ::1
proxy -> a.test at ::1



=== TEST 3: request() yields while a fast server sends much
--- http_config eval: $::Http
--- config
    location /t {
        content_by_lua_block {
            local turns, running = 0, true
            local other = ngx.thread.spawn(function()
                while running do
                    ngx.sleep(0.001)
                    turns = turns + 1
                end
            end)
            local proxy = require("t.fetch").proxy
            local answer = assert(require("resty.mtls.internal.net.http").request { url = "http://much.test/", http_proxy = proxy,
                                                                        max_bytes = 33554432 })
            running = false
            ngx.thread.wait(other)
            -- request() promises one turn of other requests for every 128 KB.
            ngx.say(answer.body == ("x"):rep(33554432), " ", turns > 200 and "others had their turn" or turns)
        }
    }
--- user_files
>>> hosts
--- response_body
true others had their turn
--- timeout: 10
