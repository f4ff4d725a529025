# resty.mtls.internal.net.http: request() on the wire, over TLS, against hostile servers and URLs.

use lib 't/lib';
use TestMtls;

# A server that sends the entry of t.answers for the path: a string, or a list of strings and pauses (seconds). say()
# fetches from it and prints the result without the port.
our $Http = <<'_EOC_';
    lua_ssl_protocols TLSv1.2 TLSv1.3;
    lua_socket_log_errors off;
    init_by_lua_block {
        local http = require "resty.mtls.internal.net.http"
        http.init { allow = require("resty.mtls.internal.net.cidr").parse { "127.0.0.0/8" } }

        local t = { answers = {} }
        package.loaded["t.fetch"] = t
        t.base = "http://127.0.0.1:$TEST_NGINX_SERVER_PORT"
        t.tls = "https://127.0.0.1:$TEST_NGINX_TLS_PORT"

        function t.plain(text)
            return (tostring(text):gsub("$TEST_NGINX_SERVER_PORT", "PORT"):gsub("$TEST_NGINX_TLS_PORT", "TLS"))
        end

        function t.get(path, opts)
            opts = opts or {}
            opts.url = t.base .. path
            return http.request(opts)
        end

        function t.say(label, answer, err)
            ngx.say(label, " -> ", answer and answer.status .. " " .. #answer.body .. " " .. answer.body:sub(1, 40):gsub("%c.*", "")
                                   or t.plain(err))
        end
    }
_EOC_

our $Raw = <<'_EOC_';
    lua_ssl_trusted_certificate $TEST_NGINX_PKI/server-ca.crt;
    location /raw/ {
        lua_check_client_abort on;
        content_by_lua_block {
            local sock = assert(ngx.req.socket(true))
            local answer = require("t.fetch").answers[ngx.var.uri:sub(6)]
            for _, piece in ipairs(type(answer) == "table" and answer or { answer }) do
                if type(piece) == "number" then
                    ngx.sleep(piece)
                elseif not sock:send(piece) then
                    return
                end
            end
        }
    }
_EOC_

run_blocks();

__DATA__

=== TEST 1: request() sends what HTTP/1.1 requires
--- http_config eval: $::Http
--- config
    location /echo {
        content_by_lua_block {
            ngx.header["X-Two"] = { "a", "b" }
            ngx.req.read_body()
            ngx.print(ngx.req.raw_header(), ngx.req.get_body_data() or "")
        }
    }
    location /t {
        access_by_lua_block {
            local t = require "t.fetch"
            local answer = assert(t.get("/echo?a=b/..#fragment"))
            ngx.print(t.plain(answer.body))
            ngx.say(t.get("").status)
            answer = assert(t.get("/echo", { method = "POST", body = "x=1\0", content_type = "application/ocsp-request",
                                        accept = "application/ocsp-response", headers = { Authorization = "Basic eA==" } }))
            ngx.print(t.plain(answer.body):gsub("%z", "NUL"), "\n")
            ngx.say(answer.status, " ", answer.headers["content-type"], " ", answer.headers["x-two"], " ",
                    answer.headers["Content-Type"])
            ngx.exit(200)
        }
        content_by_lua_block { ngx.exit(500) }
    }
    location = / { return 204; }
--- response_body eval
"GET /echo?a=b/.. HTTP/1.1\r
User-Agent: resty-mtls\r
Connection: close\r
Host: 127.0.0.1:PORT\r
\r
204
POST /echo HTTP/1.1\r
User-Agent: resty-mtls\r
Connection: close\r
Accept: application/ocsp-response\r
Content-Length: 4\r
Content-Type: application/ocsp-request\r
Authorization: Basic eA==\r
Host: 127.0.0.1:PORT\r
\r
x=1NUL
200 text/plain a, b nil
"



=== TEST 2: request() reads responses of every valid form
--- http_config eval: $::Http
--- config eval
$::Raw . <<'_EOC_';
    location /t {
        content_by_lua_block {
            local t = require "t.fetch"
            local pieces = { }
            local chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nX-Y:\t z \r\n\r\n"
                            .. "3\r\nabc\r\n00A;x=\"y\"\r\n0123456789\r\n1 \r\n!\r\n0\r\nX-Trailer: t\r\n\r\n"
            local length = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, and more"
            local function drip(text)
                local list = {}
                for character in text:gmatch(".") do
                    list[#list + 1] = character
                    list[#list + 1] = 0.001
                end
                return list
            end

            for i, answer in ipairs {
                length,
                drip(length),
                chunked,
                drip(chunked),
                "HTTP/1.0 200 OK\r\n\r\nuntil the end",
                drip("HTTP/1.0 200 OK\r\n\r\nuntil the end"),
                "HTTP/1.1 200\r\nContent-Encoding: identity\r\n\r\n",
                "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n",
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" .. length,
                "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
                "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno",
                "HTTP/1.1 500 Erreur interne \233\r\nContent-Length: 2\r\n\r\nno",
                "HTTP/1.1 302 Found\r\nContent-Length: 2\r\n\r\nno",
                "HTTP/1.1 200 OK\r\nContent-Length: 65536\r\n\r\n" .. ("x"):rep(65536),
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000\r\n" .. ("x"):rep(65536) .. "\r\n0\r\n\r\n",
                "HTTP/1.1 200 OK\r\n\r\n" .. ("x"):rep(65536),
            } do
                t.answers[tostring(i)] = answer
                t.say(i, t.get("/raw/" .. i))
            end
        }
    }
_EOC_
--- response_body
1 -> 200 5 hello
2 -> 200 5 hello
3 -> 200 14 abc0123456789!
4 -> 200 14 abc0123456789!
5 -> 200 13 until the end
6 -> 200 13 until the end
7 -> 200 0 
8 -> 200 0 
9 -> 200 5 hello
10 -> 204 0 
11 -> 404 2 no
12 -> 500 2 no
13 -> 302 2 no
14 -> 200 65536 xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
15 -> 200 65536 xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
16 -> 200 65536 xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx



=== TEST 3: request() refuses responses of any other form
--- http_config eval: $::Http
--- config eval
$::Raw . <<'_EOC_';
    location /t {
        content_by_lua_block {
            local t = require "t.fetch"
            local ok = "HTTP/1.1 200 OK\r\n"
            local chunked = ok .. "Transfer-Encoding: chunked\r\n\r\n"
            for i, answer in ipairs {
                "",
                "HTTP/1.1 200 OK\r\nContent-Le",
                "\0\1\2garbage\27[31m\r\n\r\n",
                "HTTP/2 200 OK\r\n\r\n",
                "HTTP/1.1 99 x\r\n\r\n",
                "HTTP/1.1 2000 x\r\n\r\n",
                "HTTP/1.1 200 x\ny: z\r\n\r\n",
                "HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\n\r\n",
                ("HTTP/1.1 100 Continue\r\n\r\n"):rep(100),
                ok .. "no colon\r\n\r\n",
                ok .. "a: b\r\n folded\r\n\r\n",
                ok .. "a : b\r\n\r\n",
                ok .. ": b\r\n\r\n",
                ok .. "a: b\0c\r\n\r\n",
                ok .. "a: b\nc: d\r\n\r\n",
                ok .. "Content-Length: 5\r\n\r\nhell",
                ok .. "Content-Length: 5x\r\n\r\nhello",
                ok .. "Content-Length: -5\r\n\r\nhello",
                ok .. "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
                ok .. "Content-Length: 99999999999999999999999\r\n\r\nhello",
                ok .. "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                ok .. "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
                "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                ok .. "Content-Encoding: br\r\n\r\nhello",
                chunked .. "x\r\n\r\n",
                chunked .. "-1\r\n\r\n",
                chunked .. "5 5\r\nhello\r\n0\r\n\r\n",
                chunked .. "5\r\nhello!\r\n0\r\n\r\n",
                chunked .. "5\r\nhell",
                chunked .. "5\r\nhello\r",
                chunked .. "5\r\nhello\r\n",
                chunked .. "5\r\nhello\r\n0\r\n",
                chunked .. "5\nhello\n0\n\n",
                chunked .. "FFFFFFFFFFFFFFFFF\r\nhello\r\n",
                chunked .. "80000000\r\nhello\r\n",
            } do
                t.answers[tostring(i)] = answer
                t.say(i, t.get("/raw/" .. i))
            end
        }
    }
_EOC_
--- response_body
1 -> http.request: http://127.0.0.1:PORT/raw/1: connection closed within the header
2 -> http.request: http://127.0.0.1:PORT/raw/2: connection closed within the header
3 -> http.request: http://127.0.0.1:PORT/raw/3: response begins with '???garbage?[31m', expected HTTP/1.0 or HTTP/1.1 and a status
4 -> http.request: http://127.0.0.1:PORT/raw/4: response begins with 'HTTP/2 200 OK', expected HTTP/1.0 or HTTP/1.1 and a status
5 -> http.request: http://127.0.0.1:PORT/raw/5: response begins with 'HTTP/1.1 99 x', expected HTTP/1.0 or HTTP/1.1 and a status
6 -> http.request: http://127.0.0.1:PORT/raw/6: response begins with 'HTTP/1.1 2000 x', expected HTTP/1.0 or HTTP/1.1 and a status
7 -> http.request: http://127.0.0.1:PORT/raw/7: response begins with 'HTTP/1.1 200 x?y: z', expected HTTP/1.0 or HTTP/1.1 and a status
8 -> http.request: http://127.0.0.1:PORT/raw/8: response switches protocols
9 -> http.request: http://127.0.0.1:PORT/raw/9: more than 5 interim responses
10 -> http.request: http://127.0.0.1:PORT/raw/10: header line 'no colon' is malformed
11 -> http.request: http://127.0.0.1:PORT/raw/11: header line ' folded' is malformed
12 -> http.request: http://127.0.0.1:PORT/raw/12: header line 'a : b' is malformed
13 -> http.request: http://127.0.0.1:PORT/raw/13: header line ': b' is malformed
14 -> http.request: http://127.0.0.1:PORT/raw/14: header line 'a: b?c' is malformed
15 -> http.request: http://127.0.0.1:PORT/raw/15: header line 'a: b?c: d' is malformed
16 -> http.request: http://127.0.0.1:PORT/raw/16: connection closed within the body
17 -> http.request: http://127.0.0.1:PORT/raw/17: content-length '5x' is no number
18 -> http.request: http://127.0.0.1:PORT/raw/18: content-length '-5' is no number
19 -> http.request: http://127.0.0.1:PORT/raw/19: content-length '5, 5' is no number
20 -> http.request: http://127.0.0.1:PORT/raw/20: body is over 65536 bytes
21 -> http.request: http://127.0.0.1:PORT/raw/21: header has both content-length and transfer-encoding
22 -> http.request: http://127.0.0.1:PORT/raw/22: transfer-encoding 'gzip, chunked' in HTTP/1.1 is not supported, expected chunked in HTTP/1.1
23 -> http.request: http://127.0.0.1:PORT/raw/23: transfer-encoding 'chunked' in HTTP/1.0 is not supported, expected chunked in HTTP/1.1
24 -> http.request: http://127.0.0.1:PORT/raw/24: content-encoding 'br' was not requested
25 -> http.request: http://127.0.0.1:PORT/raw/25: chunk size 'x' is malformed
26 -> http.request: http://127.0.0.1:PORT/raw/26: chunk size '-1' is malformed
27 -> http.request: http://127.0.0.1:PORT/raw/27: chunk size '5 5' is malformed
28 -> http.request: http://127.0.0.1:PORT/raw/28: chunk is longer than its size
29 -> http.request: http://127.0.0.1:PORT/raw/29: connection closed within the body
30 -> http.request: http://127.0.0.1:PORT/raw/30: connection closed within the chunk
31 -> http.request: http://127.0.0.1:PORT/raw/31: connection closed within the chunk size
32 -> http.request: http://127.0.0.1:PORT/raw/32: connection closed within the trailer
33 -> http.request: http://127.0.0.1:PORT/raw/33: connection closed within the chunk size
34 -> http.request: http://127.0.0.1:PORT/raw/34: body is over 65536 bytes
35 -> http.request: http://127.0.0.1:PORT/raw/35: body is over 65536 bytes



=== TEST 4: request() reads no byte beyond its limits
--- http_config eval: $::Http
--- config eval
$::Raw . <<'_EOC_';
    location /t {
        content_by_lua_block {
            local t = require "t.fetch"
            local ok = "HTTP/1.1 200 OK\r\n"
            local chunked = ok .. "Transfer-Encoding: chunked\r\n\r\n"
            -- Each of these goes on for 100 MB unless the client ends it.
            local function endless(start, piece)
                local list = { start }
                for i = 2, math.ceil(100000000 / #piece) do
                    list[i] = piece
                end
                return list
            end

            for i, case in ipairs {
                { endless(ok .. "Content-Length: 100000000\r\n\r\n", ("x"):rep(65536)) },
                { endless(ok .. "\r\n", ("x"):rep(65536)) },
                { endless(chunked, "1000\r\n" .. ("x"):rep(4096) .. "\r\n") },
                { endless(chunked, ("1\r\nx\r\n"):rep(4096)) },
                { endless(chunked, ("1;" .. ("e"):rep(250) .. "\r\nx\r\n"):rep(256)) },
                { endless(chunked .. "1;", ("e"):rep(4096)) },
                { endless(chunked .. "0\r\n", ("X-Trailer: x\r\n"):rep(4096)) },
                { endless(chunked .. "0\r\nX-Trailer: ", ("e"):rep(4096)) },
                { endless(ok .. "X: ", ("y"):rep(4096)) },
                { endless(ok, ("X: y\r\n"):rep(1000)) },
                { endless("", ("H"):rep(4096)) },
                { ok .. "Content-Length: 1001\r\n\r\n" .. ("x"):rep(1001), 1000 },
                { chunked .. "3e9\r\n" .. ("x"):rep(1001) .. "\r\n0\r\n\r\n", 1000 },
                { ok .. "\r\n" .. ("x"):rep(1001), 1000 },
                { ok .. "Content-Length: 1000\r\n\r\n" .. ("x"):rep(1000), 1000 },
                { ok .. "X: " .. ("y"):rep(16384 - #ok - 3) .. "\r\n\r\nx" },
                { ok .. "X: " .. ("y"):rep(16385 - #ok - 3) .. "\r\n\r\nx" },
            } do
                t.answers[tostring(i)] = case[1]
                t.say(i, t.get("/raw/" .. i, { max_bytes = case[2] }))
                t.answers[tostring(i)] = nil
            end
        }
    }
_EOC_
--- response_body
1 -> http.request: http://127.0.0.1:PORT/raw/1: body is over 65536 bytes
2 -> http.request: http://127.0.0.1:PORT/raw/2: body is over 65536 bytes
3 -> http.request: http://127.0.0.1:PORT/raw/3: body is over 65536 bytes
4 -> http.request: http://127.0.0.1:PORT/raw/4: body has more chunk framing than is allowed for 65536 bytes
5 -> http.request: http://127.0.0.1:PORT/raw/5: body has more chunk framing than is allowed for 65536 bytes
6 -> http.request: http://127.0.0.1:PORT/raw/6: chunk size is over 256 bytes
7 -> http.request: http://127.0.0.1:PORT/raw/7: body has more chunk framing than is allowed for 65536 bytes
8 -> http.request: http://127.0.0.1:PORT/raw/8: trailer is over 16384 bytes
9 -> http.request: http://127.0.0.1:PORT/raw/9: header is over 16384 bytes
10 -> http.request: http://127.0.0.1:PORT/raw/10: header is over 16384 bytes
11 -> http.request: http://127.0.0.1:PORT/raw/11: header is over 16384 bytes
12 -> http.request: http://127.0.0.1:PORT/raw/12: body is over 1000 bytes
13 -> http.request: http://127.0.0.1:PORT/raw/13: body is over 1000 bytes
14 -> http.request: http://127.0.0.1:PORT/raw/14: body is over 1000 bytes
15 -> 200 1000 xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
16 -> 200 1 x
17 -> http.request: http://127.0.0.1:PORT/raw/17: header is over 16384 bytes
--- timeout: 20



=== TEST 5: request() ends at its deadline, whatever the server does
--- http_config eval: $::Http
--- config eval
$::Raw . <<'_EOC_';
    location /slow {
        content_by_lua_block {
            ngx.sleep(0.15)
            ngx.redirect("/slow")
        }
    }
    location /t {
        content_by_lua_block {
            local t = require "t.fetch"
            local function drip(start, piece)
                local list = { start }
                for _ = 1, 100 do
                    list[#list + 1] = 0.05
                    list[#list + 1] = piece
                end
                return list
            end

            local ok = "HTTP/1.1 200 OK\r\n"
            t.answers.silent = { 5 }
            t.answers.head = drip(ok, "X: y\r\n")
            t.answers.length = drip(ok .. "Content-Length: 10000\r\n\r\n", "x")
            t.answers.chunked = drip(ok .. "Transfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n")
            t.answers.close = drip(ok .. "\r\n", "x")
            for _, name in ipairs { "/raw/silent", "/raw/head", "/raw/length", "/raw/chunked", "/raw/close", "/slow" } do
                ngx.update_time()
                local start = ngx.now()
                local answer, err = t.get(name, { timeout = 400 })
                ngx.update_time()
                local took = ngx.now() - start
                t.say(name, answer, err)
                ngx.say(took > 0.35 and took < 1.5 and "in time" or took)
            end
        }
    }
_EOC_
--- response_body
/raw/silent -> http.request: http://127.0.0.1:PORT/raw/silent: timeout
in time
/raw/head -> http.request: http://127.0.0.1:PORT/raw/head: timeout
in time
/raw/length -> http.request: http://127.0.0.1:PORT/raw/length: timeout
in time
/raw/chunked -> http.request: http://127.0.0.1:PORT/raw/chunked: timeout
in time
/raw/close -> http.request: http://127.0.0.1:PORT/raw/close: timeout
in time
/slow -> http.request: http://127.0.0.1:PORT/slow: timeout
in time
--- timeout: 20



=== TEST 6: request() follows redirects of a GET within limits
--- http_config eval: $::Http
--- config eval
$::Raw . <<'_EOC_';
    location /to { content_by_lua_block { ngx.header.Location = ngx.unescape_uri(ngx.var.arg_u); ngx.exit(tonumber(ngx.var.arg_s or 302)) } }
    location /loop { return 302 /loop; }
    location /count { content_by_lua_block {
        local n = tonumber(ngx.var.arg_n)
        if n == 0 then ngx.print("end") else ngx.redirect("/count?n=" .. n - 1) end
    } }
    location /dir/ { content_by_lua_block { ngx.print(ngx.var.request_uri, " ", ngx.var.http_authorization, " ", ngx.var.host, " ", ngx.var.http_accept) } }
    location /t {
        content_by_lua_block {
            local t = require "t.fetch"
            local function to(where, status)
                return "/to?u=" .. ngx.escape_uri(where) .. (status and "&s=" .. status or "")
            end

            local function with_secret()
                return { headers = { Authorization = "secret" }, accept = "a/b" }
            end

            for _, status in ipairs { 301, 302, 303, 307, 308, 300, 304 } do
                t.say(status, t.get(to("/dir/x?y=/../z#f", status), with_secret()))
            end

            local localhost = t.base:gsub("127.0.0.1", "localhost")
            t.say("other origin", t.get(to(localhost .. "/dir/x"), with_secret()))
            t.say("relative", t.get(to("dir/./a/../b")))
            t.say("above the root", t.get(to("../../dir/x/..")))
            t.say("without scheme", t.get(to("//127.0.0.1:$TEST_NGINX_SERVER_PORT/dir/")))
            t.say("query", t.get(to("?u=/dir/")))
            t.say("loop", t.get("/loop"))
            t.say("3", t.get("/count?n=3"))
            t.say("4", t.get("/count?n=4"))
            t.say("4 of 5", t.get("/count?n=4", { max_redirects = 5 }))
            t.say("1 of 0", t.get("/count?n=1", { max_redirects = 0 }))
            t.say("POST", t.get("/loop", { method = "POST", body = "x" }))
            t.say("bad", t.get(to("http://a b/")))
            t.say("ftp", t.get(to("ftp://127.0.0.1/")))
            t.say("file", t.get(to("file:///etc/passwd")))
            t.say("link-local", t.get(to("http://169.254.169.254/latest/meta-data")))
            t.say("operator's to another origin", t.get(to("http://[::1]:$TEST_NGINX_SERVER_PORT/dir/"), { origin = "operator" }))
            t.say("to https", t.get(to(t.tls .. "/dir/"), { ssl_verify = false }))
            t.say("to http", require("resty.mtls.internal.net.http").request { url = t.tls .. to(t.base .. "/dir/"), ssl_verify = false })
        }
    }
_EOC_
--- response_body
301 -> 200 35 /dir/x?y=/../z secret 127.0.0.1 a/b
302 -> 200 35 /dir/x?y=/../z secret 127.0.0.1 a/b
303 -> 200 35 /dir/x?y=/../z secret 127.0.0.1 a/b
307 -> 200 35 /dir/x?y=/../z secret 127.0.0.1 a/b
308 -> 200 35 /dir/x?y=/../z secret 127.0.0.1 a/b
300 -> 300 0 
304 -> 304 0 
other origin -> 200 24 /dir/x nil localhost a/b
relative -> 200 24 /dir/b nil 127.0.0.1 nil
above the root -> 200 23 /dir/ nil 127.0.0.1 nil
without scheme -> 200 23 /dir/ nil 127.0.0.1 nil
query -> 200 23 /dir/ nil 127.0.0.1 nil
loop -> http.request: http://127.0.0.1:PORT/loop: redirects more than 3 times
3 -> 200 3 end
4 -> http.request: http://127.0.0.1:PORT/count: redirects more than 3 times
4 of 5 -> 200 3 end
1 of 0 -> http.request: http://127.0.0.1:PORT/count: redirects more than 0 times
POST -> http.request: http://127.0.0.1:PORT/loop: redirects a POST, which is not followed
bad -> http.request: http://127.0.0.1:PORT/to: redirects badly: URL has a byte that must be percent-encoded, number 9
ftp -> http.request: http://127.0.0.1:PORT/to: redirects badly: URL scheme 'ftp' is neither http nor https
file -> http.request: http://127.0.0.1:PORT/to: redirects badly: URL scheme 'file' is neither http nor https
link-local -> http.request: http://169.254.169.254/latest/meta-data: 169.254.169.254 is a loopback, link-local or other special address that fetch_allow does not name
operator's to another origin -> http.request: http://[::1]:PORT/dir/: ::1 is a loopback, link-local or other special address that fetch_allow does not name
to https -> 200 23 /dir/ nil 127.0.0.1 nil
to http -> http.request: https://127.0.0.1:TLS/to: redirects from https to http



=== TEST 7: request() raises on misuse
--- http_config eval: $::Http
--- config
    location /t {
        content_by_lua_block {
            local http = require "resty.mtls.internal.net.http"
            local function try(opts)
                ngx.say(select(2, pcall(http.request, opts)))
            end

            local u = "http://a.test/"
            try(nil)
            try("http://a.test/")
            try({})
            try({ url = u, urll = u })
            try({ url = 1 })
            try({ url = u, timeout = "1" })
            try({ url = u, timeout = 0 })
            try({ url = u, method = "PUT" })
            try({ url = u, body = "x" })
            try({ url = u, origin = "me" })
            try({ url = u, http_proxy = { host = "a.test" } })
            try({ url = u, https_proxy = { host = "http://a.test", port = 80 } })
            try({ url = u, https_proxy = { host = "a.test", port = 80.5 } })
            try({ url = u, https_proxy = { host = "a.test", port = 65536 } })
            try({ url = u, headers = { ["a\r\nb"] = "x" } })
            try({ url = u, headers = { Authorization = "secret\r\nX: y" } })
            try({ url = u, accept = "a\nb" })
            ngx.say(select(2, pcall(http.init, { nameservers = { "127.0.0.1", "dns.test" } })))
            ngx.say(select(2, pcall(http.init, { alow = {} })))
            ngx.say(select(2, pcall(http.init, { allow = { "127.0.0.1" } })))
        }
    }
--- response_body
http.request: expected a table of options, got nil
http.request: expected a table of options, got string
http.request: option url is missing
http.request: option 'urll' is unknown
http.request: option 'url' must be a string, got number
http.request: option 'timeout' must be a number, got string
http.request: timeout must be at least 1 ms
http.request: method must be GET or POST
http.request: only a POST has a body
http.request: origin must be certificate or operator
http.request: http_proxy must have a host (a name or an address) and a port from 1 to 65535
http.request: https_proxy must have a host (a name or an address) and a port from 1 to 65535
http.request: https_proxy must have a host (a name or an address) and a port from 1 to 65535
http.request: https_proxy must have a host (a name or an address) and a port from 1 to 65535
http.request: header 'a??b' must have a name of letters, digits and -
http.request: the value of header Authorization must be a string of one line
http.request: the value of header Accept must be a string of one line
http.init: nameservers[2] 'dns.test': expected an IP address, or one with a port such as 192.0.2.1:53 or [2001:db8::1]:53
http.init: option 'alow' is unknown
http.init: option 'allow' must be what resty.mtls.internal.net.cidr's parse() returns



=== TEST 8: request() verifies the server's certificate
--- http_config eval: $::Http
--- config eval
$::Raw . <<'_EOC_';
    location /name { content_by_lua_block { ngx.print(require("ngx.ssl").server_name()) } }
    location /trusting {
        content_by_lua_block {
            local t = require "t.fetch"
            local http = require "resty.mtls.internal.net.http"
            for _, host in ipairs { "localhost", "127.0.0.1" } do
                local url = "https://" .. host .. ":$TEST_NGINX_TLS_PORT/name"
                t.say(host, http.request { url = url })
                t.say(host .. ", unverified", http.request { url = url, ssl_verify = false })
            end

            -- nginx's own page, whose length names the server's kind and version
            local answer = http.request { url = (t.tls:gsub("https", "http")) .. "/" }
            ngx.say("TLS server -> ", answer.status, " ", answer.body:match("%b<>"))
        }
    }
    location /untrusting {
        lua_ssl_trusted_certificate $TEST_NGINX_PKI/ca-a.crt;
        content_by_lua_block {
            local t = require "t.fetch"
            t.say("untrusting", require("resty.mtls.internal.net.http").request { url = "https://localhost:$TEST_NGINX_TLS_PORT/name" })
        }
    }
    location /t {
        content_by_lua_block {
            ngx.print(ngx.location.capture("/trusting").body, ngx.location.capture("/untrusting").body)
        }
    }
_EOC_
--- response_body
localhost -> 200 9 localhost
localhost, unverified -> 200 9 localhost
127.0.0.1 -> http.request: https://127.0.0.1:TLS/name: TLS handshake: certificate host mismatch
127.0.0.1, unverified -> 200 9 127.0.0.1
TLS server -> 400 <html>
untrusting -> http.request: https://localhost:TLS/name: TLS handshake: 21: unable to verify the first certificate




=== TEST 9: request() works in timers, and returns an error in phases without cosockets
--- http_config eval: $::Http
--- config
    location /t {
        content_by_lua_block {
            local t = require "t.fetch"
            local done
            ngx.timer.at(0, function()
                done = t.get("/ok").body
            end)
            while not done do
                ngx.sleep(0.01)
            end

            ngx.say(done)
        }
        header_filter_by_lua_block {
            local _, err = pcall(require("t.fetch").get, "/ok")
            ngx.header["X-Filter"] = err:gsub("^.-: http", "http")
        }
    }
    location /ok { content_by_lua_block { ngx.print("ok") } }
--- response_body
ok
--- response_headers
X-Filter: http.request: cannot be called in the phase header_filter



=== TEST 10: request() returns which connection failed
--- http_config eval: $::Http
--- config
    location /t {
        content_by_lua_block {
            local t = require "t.fetch"
            t.say("plain server", require("resty.mtls.internal.net.http").request { url = (t.base:gsub("http", "https")) })
            t.say("refused", require("resty.mtls.internal.net.http").request { url = "http://127.0.0.1:1/x?secret" })
        }
    }
--- response_body
plain server -> http.request: https://127.0.0.1:PORT/: TLS handshake: handshake failed
refused -> http.request: http://127.0.0.1:1/x: cannot connect to 127.0.0.1 port 1: connection refused
--- no_error_log
[crit]
[alert]



=== TEST 11: request() reuses no connection that other code kept alive
--- http_config eval: $::Http
--- config
    location /requests { content_by_lua_block { ngx.header.Content_Length = 1; ngx.print(ngx.var.connection_requests) } }
    location /t {
        content_by_lua_block {
            for _ = 1, 2 do
                local sock = ngx.socket.tcp()
                assert(sock:connect("127.0.0.1", $TEST_NGINX_SERVER_PORT))
                assert(sock:send("GET /requests HTTP/1.1\r\nHost: x\r\n\r\n"))
                local read = sock:receiveuntil("\r\n\r\n")
                read()
                ngx.say("other code: ", sock:receive(1))
                assert(sock:setkeepalive(10000))
            end

            ngx.say("fetch: ", require("t.fetch").get("/requests").body)
        }
    }
--- response_body
other code: 1
other code: 2
fetch: 1



=== TEST 12: request() says whether the server answered unusably, whatever words are in the URL
--- http_config eval: $::Http
--- config
    location /loop { return 302 /loop; }
    location /post { return 302 /; }
    location /large { return 200 "0123456789"; }
    location /t {
        content_by_lua_block {
            local t = require "t.fetch"
            local http = require "resty.mtls.internal.net.http"
            local function say(label, opts)
                local _, err, kind, unusable = http.request(opts)
                ngx.say(label, ": ", t.plain(err), ", ", tostring(kind), ", ", tostring(unusable))
            end

            say("refused", { url = "http://127.0.0.1:1/redirects/body-is-over" })
            say("loop", { url = t.base .. "/loop" })
            say("POST", { url = t.base .. "/post", method = "POST", body = "x" })
            say("large", { url = t.base .. "/large", max_bytes = 9 })
        }
    }
--- response_body
refused: http.request: http://127.0.0.1:1/redirects/body-is-over: cannot connect to 127.0.0.1 port 1: connection refused, nil, nil
loop: http.request: http://127.0.0.1:PORT/loop: redirects more than 3 times, nil, true
POST: http.request: http://127.0.0.1:PORT/post: redirects a POST, which is not followed, nil, true
large: http.request: http://127.0.0.1:PORT/large: body is over 9 bytes, nil, true



=== TEST 13: request() reads the content coding gzip within the same limit
--- http_config eval: $::Http
--- config eval
$::Raw . <<'_EOC_';
    location /zipped/ {
        gzip on;
        gzip_min_length 1;
        gzip_types *;
        content_by_lua_block {
            ngx.header.content_length = nil
            ngx.print(("x"):rep(tonumber(ngx.var.uri:sub(9))))
        }
    }
    location /t {
        content_by_lua_block {
            local t = require "t.fetch"
            for _, case in ipairs { { "5" }, { "65536" }, { "65537" }, { "10000000" }, { "10000000", 9999 },
                                    { "10000000", 10000000 } } do
                local answer, err, kind, unusable = t.get("/zipped/" .. case[1], { gzip = true, max_bytes = case[2] })
                ngx.say(case[1], " -> ", answer and answer.headers["content-encoding"] .. " " .. #answer.body
                                         or t.plain(err), " ", tostring(kind), " ", tostring(unusable))
            end

            t.say("not asked for", t.get("/zipped/5"))
            local ok = "HTTP/1.1 200 OK\r\nContent-Encoding: X-Gzip\r\nContent-Length: "
            t.answers = { plain = ok .. "5\r\n\r\nhello", empty = ok .. "0\r\n\r\n",
                          none = "HTTP/1.1 304 Not Modified\r\nContent-Encoding: gzip\r\n\r\n" }
            for _, name in ipairs { "plain", "empty", "none" } do
                t.say(name, t.get("/raw/" .. name))
            end
        }
    }
_EOC_
--- response_body
5 -> gzip 5 nil nil
65536 -> gzip 65536 nil nil
65537 -> http.request: http://127.0.0.1:PORT/zipped/65537: body is over 65536 bytes when decoded nil true
10000000 -> http.request: http://127.0.0.1:PORT/zipped/10000000: body is over 65536 bytes when decoded nil true
10000000 -> http.request: http://127.0.0.1:PORT/zipped/10000000: body is over 9999 bytes nil true
10000000 -> gzip 10000000 nil nil
not asked for -> 200 5 xxxxx
plain -> http.request: http://127.0.0.1:PORT/raw/plain: body is no gzip: unexpected end of file
empty -> 200 0 
none -> 304 0 
