# Upstream headers are appended to nginx's own list of the headers of a request, however many headers the client sends
# and however nginx has split the list. A name that nginx reads itself is set by lua-nginx-module instead.

use lib 't/lib';
use TestMtls;

our $Policy = policy("ca-a",
    route("a", "a.test", mtls_auth("ca-a"), plugin("tls-metadata-headers", "inject_client_cert_details: true")),
    route("read-by-nginx", "b.test", mtls_auth("ca-a"),
          plugin("tls-metadata-headers", "inject_client_cert_details: true, client_serial_header_name: X-Real-IP")));

our $EveryName = policy("ca-a",
    route("a", "", mtls_auth("ca-a"), plugin("tls-metadata-headers", "inject_client_cert_details: true")));

our $Anonymous = policy("ca-a",
    route("a", "", mtls_auth("ca-a", "anonymous: guest")),
    route("read-by-nginx", "", mtls_auth("ca-a", "anonymous: guest"),
          plugin("client-cert-headers", "dialects: [{name: xfcc, mode: ALWAYS_FORWARD_ONLY}]")))
    . "consumers: [{username: guest}]\n";

# Says in the response how many upstream headers were appended.
our $Watch = <<'_EOC_';
    init_worker_by_lua_block {
        local headers = require "resty.mtls.internal.upstream_headers"
        local append = headers.append_to_list
        function headers.append_to_list(lines, count)
            local is_appended = append(lines, count)
            ngx.ctx.appended = (ngx.ctx.appended or "") .. (is_appended and count or "no")
            return is_appended
        end
    }
    header_filter_by_lua_block { ngx.header["Appended"] = ngx.ctx.appended }
_EOC_

our $Config = <<'_EOC_';
    location /a { access_by_lua_block { require("resty.mtls").access("a") } proxy_pass $TEST_NGINX_UPSTREAM; }
    location /b { access_by_lua_block { require("resty.mtls").access("read-by-nginx") } proxy_pass $TEST_NGINX_UPSTREAM; }
    location /variable {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block {
            local headers = ngx.req.get_headers()
            ngx.say(ngx.var.http_x_client_cert_serial, " ", headers["X-Client-Cert-Serial"], " ", headers.x_client_cert_dn)
            -- The list is still one that lua-nginx-module changes.
            ngx.req.set_header("X-Client-Cert-Serial", "changed")
            ngx.req.clear_header("X-Client-Cert-Dn")
            ngx.req.set_header("X-More", "more")
            headers = ngx.req.get_headers()
            ngx.say(headers["X-Client-Cert-Serial"], " ", headers["X-Client-Cert-Dn"], " ", headers["X-More"])
        }
    }
_EOC_

run_blocks();

__DATA__

=== TEST 1: the upstream gets every header of the client and of the gateway once, for any number of headers
--- policy eval: $::Policy
--- http_config eval: $::Watch
--- config eval: $::Config
--- client
for n in 0 1 9 10 11 12 13 14 15 16 17 18 19 37 38 39 60; do
    more=()
    for ((i = 1; i <= n; i++)); do more+=(-H "X-Mine-$i: $i"); done
    get a.test/a $(as client-a) -D head "${more[@]}" | tr -d '\r' > got
    mine=$(grep -c '^X-Mine-' got)
    echo "$n: $mine, $(grep -i '^x-client-cert' got | cut -d: -f1 | sort | uniq -c | wc -l)" \
        "of $(grep -ci '^x-client-cert' got)," "$(grep -i '^appended' head | tr -d '\r')"
done
--- client_out
0: 0, 7 of 7, Appended: 7
1: 1, 7 of 7, Appended: 7
9: 9, 7 of 7, Appended: 7
10: 10, 7 of 7, Appended: 7
11: 11, 7 of 7, Appended: 7
12: 12, 7 of 7, Appended: 7
13: 13, 7 of 7, Appended: 7
14: 14, 7 of 7, Appended: 7
15: 15, 7 of 7, Appended: 7
16: 16, 7 of 7, Appended: 7
17: 17, 7 of 7, Appended: 7
18: 18, 7 of 7, Appended: 7
19: 19, 7 of 7, Appended: 7
37: 37, 7 of 7, Appended: 7
38: 38, 7 of 7, Appended: 7
39: 39, 7 of 7, Appended: 7
60: 60, 7 of 7, Appended: 7



=== TEST 2: the values are those that lua-nginx-module would set
--- policy eval: $::Policy
--- http_config
    init_worker_by_lua_block {
        local headers = require "resty.mtls.internal.upstream_headers"
        local append = headers.append_to_list
        function headers.append_to_list(lines, count)
            return ngx.var.arg_set == nil and append(lines, count)
        end
    }
--- config eval: $::Config
--- client
get 'a.test/a' $(as client-int chain) | grep -i x-client-cert > appended
get 'a.test/a?set=1' $(as client-int chain) | grep -i x-client-cert > set
wc -l < set
cmp appended set && echo same
--- client_out
7
same



=== TEST 3: Lua, variables and lua-nginx-module's functions see the headers, and can change them
--- policy eval: $::Policy
--- config eval: $::Config
--- client
get a.test/variable $(as client-a) -H 'X-Mine: 1' > got
serial=$(openssl x509 -in "$PKI/client-a.crt" -noout -serial | cut -d= -f2 | tr 'A-F' 'a-f')
sed "s/$serial/SERIAL/gi" got
--- client_out
SERIAL SERIAL CN=client-a,O=Example
changed nil more



=== TEST 4: a name that nginx reads itself replaces the client's header
--- policy eval: $::Policy
--- http_config eval: $::Watch
--- config eval: $::Config
--- client
get b.test/b $(as client-a) -D head -H 'X-Real-IP: 192.0.2.1' | grep -ci '^x-real-ip'
get b.test/b $(as client-a) -H 'X-Real-IP: 192.0.2.1' | grep -c 192.0.2.1
grep -i '^appended' head | tr -d '\r'
--- client_out
1
0
Appended: no



=== TEST 5: a request of HTTP/1.0 without any header
--- policy eval: $::EveryName
--- http_config eval: $::Watch
--- config eval: $::Config
--- client
request() {
    printf "GET /a HTTP/1.0\r\n${1-}\r\n" | timeout 10 openssl s_client -quiet -connect "127.0.0.1:$PORT" \
        -cert "$PKI/client-a.crt" -key "$PKI/client-a.key" -ign_eof 2>/dev/null | tr -d '\r' > got
    head -n 1 got
    grep -ci '^x-client-cert' got
    grep '^Appended' got
}
# The list is found with the first request that has a header.
request
request 'X-Mine: 1\r\n'
request
--- client_out
HTTP/1.1 200 OK
7
Appended: no
HTTP/1.1 200 OK
7
Appended: 7
HTTP/1.1 200 OK
7
Appended: 7



=== TEST 6: a subrequest does not get the headers that its main request gets while the subrequest is decided
--- policy eval: $::EveryName
--- http_config
    init_by_lua_block {
        -- Before the modules that take the function from it are loaded.
        local decisions = require "resty.mtls.internal.decision"
        local plan = decisions.plan
        function decisions.plan(...)
            if ngx.is_subrequest then
                repeat ngx.sleep(0.01) until package.loaded.is_redirected
            end
            return plan(...)
        end
        require("resty.mtls").init { policy = "$TEST_NGINX_HTML_DIR/policy.yaml" }
    }
--- config
    location /main {
        mirror /mirrored;
        error_page 404 = /moved;
        content_by_lua_block { ngx.sleep(0.1) ngx.exit(404) }
    }
    location /moved {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block { package.loaded.is_redirected = true ngx.say("moved") }
    }
    location /mirrored {
        internal;
        rewrite_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block {
            local serial = ngx.req.get_headers(0)["X-Client-Cert-Serial"]
            local file = assert(io.open("$TEST_NGINX_HTML_DIR/serials", "w"))
            file:write(type(serial), "\n")
            file:close()
        }
    }
--- client
# nginx shares the parts of a list after the first, which has room for 20 headers.
more=()
for ((i = 1; i <= 24; i++)); do more+=(-H "X-Mine-$i: $i"); done
get a.test/main $(as client-a) "${more[@]}"
wait_until test -s serials
cat serials
--- client_out
moved
string



=== TEST 7: a request of HTTP/0.9, which can have no header, is refused where one is to be set
--- policy eval: $::Anonymous
--- config eval: $::Config
--- client
request() {
    printf "$1\r\n" | timeout 10 openssl s_client -quiet -connect "127.0.0.1:$PORT" -ign_eof 2>/dev/null | tr -d '\r' > got
    grep -oi '400 Bad Request</title>\|x-anonymous-consumer: true' got
}
request 'GET /a'
request 'GET /a HTTP/1.0\r\n'
request 'GET /b'
--- client_out
400 Bad Request</title>
X-Anonymous-Consumer: true
400 Bad Request</title>
--- error_log
[mtls] 400 a request of HTTP/0.9 has no headers, so none can be set for the upstream
--- no_error_log
[crit]
[alert]



=== TEST 8: each header is there once after internal redirects, at each of which the headers are removed and appended again
--- policy eval: $::Policy
--- config
    recursive_error_pages on;
    location /first {
        error_page 404 = /second;
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block { ngx.exit(404) }
    }
    location /second {
        error_page 410 = /third;
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block { ngx.exec("/exec") }
    }
    location /exec {
        error_page 410 = /third;
        access_by_lua_block { require("resty.mtls").access("a") ngx.req.set_header("X-Mine-1", "1") }
        content_by_lua_block { ngx.exit(410) }
    }
    location /third {
        access_by_lua_block { require("resty.mtls").access("a") }
        proxy_pass $TEST_NGINX_UPSTREAM;
    }
--- client
for n in 1 5 9 10 11 12 13 14 15 16 17 18 19 20 30 37 38 39; do
    more=() forged=()
    for ((i = 1; i <= n; i++)); do more+=(-H "X-Mine-$i: $i"); done
    # First, in the middle and last
    for i in 0 $((n / 2)) $((n + 1)); do
        forged=("${more[@]:0:$((2 * i))}" -H "X-Client-Cert: forged" -H "x_client_cert-DN: forged" "${more[@]:$((2 * i))}")
        get a.test/first $(as client-a) "${forged[@]}" | tr -d '\r' > got
        echo "$(($(grep -c '^X-Mine-' got) - n))" "$(grep -i '^x.client.cert' got | cut -d: -f1 | sort | uniq -c | wc -l)" \
            "$(grep -ci '^x.client.cert' got)" "$(grep -c forged got)"
    done
done | sort | uniq -c | sed 's/^ *//'
--- client_out
54 0 7 7 0



=== TEST 9: the error page of a refused request line, for which nginx keeps no headers, is refused where one is to be set
--- policy eval: $::Anonymous
--- config
    error_page 400 = /a;
    location /a { access_by_lua_block { require("resty.mtls").access("a") } proxy_pass $TEST_NGINX_UPSTREAM; }
--- client
printf 'GET http://a..test/a HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n' |
    timeout 10 openssl s_client -quiet -connect "127.0.0.1:$PORT" -ign_eof 2>/dev/null | tr -d '\r' > got
grep -oi '400 Bad Request</title>\|GET /a' got
--- client_out
400 Bad Request</title>
--- error_log
[mtls] 400 nginx has refused the request line, so no header can be set for the upstream
--- no_error_log
[crit]
[alert]



=== TEST 10: an error page for status 400 of Lua code is refused where a header is to be set that cannot be appended
--- policy eval: $::Policy
--- config
    location /a/lua { error_page 400 = @a; content_by_lua_block { ngx.exit(400) } }
    location /a/nginx { error_page 400 = @a; return 400; }
    location /b/lua { error_page 400 = @b; content_by_lua_block { ngx.exit(400) } }
    location /b/nginx { error_page 400 = @b; return 400; }
    location @a { access_by_lua_block { require("resty.mtls").access("a") } proxy_pass $TEST_NGINX_UPSTREAM; }
    location @b {
        access_by_lua_block { require("resty.mtls").access("read-by-nginx") }
        proxy_pass $TEST_NGINX_UPSTREAM;
    }
--- client
for path in a/nginx b/nginx a/lua b/lua; do
    get ${path::1}.test/$path $(as client-a) > got
    echo "$path: $(grep -ciE '^x-(client-cert.*|real-ip|resty-mtls-probe):' got)" \
        $(grep -oE '^GET|400 Bad Request</title>' got)
done
--- client_out
a/nginx: 7 GET
b/nginx: 7 GET
a/lua: 7 GET
b/lua: 0 400 Bad Request</title>
--- error_log
[mtls] 400 the response has status 400 already, so no header can be set for the upstream
