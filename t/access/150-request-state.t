# What is remembered about a request ends with it, and lasts through its phases and internal redirects. A decision holds
# only in the location in which it was made.

use lib 't/lib';
use TestMtls;
use TestRevocation;

our $Policy = policy("ca-a ca-b",
    route("a", "a.test", mtls_auth("ca-a"), plugin("tls-metadata-headers", "inject_client_cert_details: true")),
    route("b", "", mtls_auth("ca-b")));

our $HeaderPolicy = policy("ca-a", route("a", "", header_cert_auth()), route("open", ""));

# Without a route, CA-B only.
our $GlobalPolicy = policy("ca-a ca-b", route("a", "", mtls_auth("ca-a")))
    . "plugins:\n- name: mtls-auth\n  config: {ca_certificates: [\@ca-b], skip_consumer_lookup: true}\n";

our $AnonymousPolicy = policy("ca-a", route("a", "a.test", plugin("mtls-auth", "ca_certificates: [\@ca-a], anonymous: nobody")))
    . "consumers: [{username: client-a}, {username: nobody}]\n";

our $RevocationPolicy = ">>> policy.yaml\n" . expand_policy(policy("ca-a", map {
    my $mode = $_;
    map {
        route("$mode-$_", "a.test",
              mtls_auth("ca-a", "skip_consumer_lookup: true, http_timeout: 2000, revocation_check_mode: $mode"),
              plugin("tls-metadata-headers", "inject_client_cert_details: true, client_serial_header_name: X-Serial-$_"))
    } 1, 2
} "STRICT", "SKIP"));

# What the phases after access() see.
our $See = <<'_EOC_';
    init_worker_by_lua_block {
        package.loaded.see = function()
            local client_of = require "resty.mtls.internal.client"
            local client = require("resty.mtls").client()
            return (client and client.verified or "no client") .. " " .. tostring(client_of.route())
        end
    }
_EOC_

run_blocks();

__DATA__

=== TEST 1: a request on the same connection sees nothing of the one before it
--- policy eval: $::Policy
--- http_config eval: $::See
--- config
    location /a {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block { ngx.say(require("see")()) }
    }
    location /not-decided { content_by_lua_block { ngx.say(require("see")()) } }
--- client
urls=()
for i in 1 2; do urls+=(https://a.test/a https://a.test/not-decided); done
get a.test/a $(as client-a) "${urls[@]}"
--- client_out
SUCCESS a
FAILED:not verified nil
SUCCESS a
FAILED:not verified nil
SUCCESS a



=== TEST 2: a decision lasts to the log phase, and not to another location
--- policy eval: $::Policy
--- http_config eval: $::See
--- config
    location /a {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block { ngx.say(require("see")()) }
        log_by_lua_block { ngx.log(ngx.NOTICE, "in the log phase: ", require("see")()) }
    }
    location /uri {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block { ngx.exec("/target") }
    }
    location /named {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block { ngx.exec("@target") }
    }
    location /target { content_by_lua_block { ngx.say(require("see")()) } }
    location @target { content_by_lua_block { ngx.say(require("see")()) } }
    # Without a route, the plugins of the whole policy apply: there are none.
    location /nameless {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block { ngx.exec("@nameless") }
    }
    location @nameless {
        access_by_lua_block { require("resty.mtls").access() }
        content_by_lua_block { ngx.say(require("see")()) }
    }
    location /other {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block { ngx.exec("/b") }
    }
    location /b {
        access_by_lua_block { require("resty.mtls").access("b") }
        content_by_lua_block { ngx.say(require("see")()) }
    }
--- client
get a.test/a $(as client-a) > /dev/null
for path in uri named nameless; do get a.test/$path $(as client-a); done
get a.test/other $(as client-a) -o /dev/null -w '%{http_code}\n'
--- client_out
FAILED:not verified nil
FAILED:not verified nil
FAILED:not verified 
401
--- error_log
in the log phase: SUCCESS a



=== TEST 3: an internal redirect to the same location is decided and counted once, and keeps the upstream headers
--- http_config
    lua_shared_dict mtls 10m;
--- policy eval: $::Policy
--- config
    location /a {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block {
            if ngx.var.uri == "/a/1" then
                return ngx.exec("/a/2")
            end

            ngx.say(ngx.var.uri, " ", ngx.req.get_headers()["X-Client-Cert-Dn"])
        }
    }
    location /metrics { content_by_lua_block { ngx.print(require("resty.mtls").metrics()) } }
--- client
get a.test/a/1 $(as client-a)
until get a.test/metrics | grep -q '^resty_mtls_requests_total.*route="a"'; do sleep 0.1; done
get a.test/metrics | grep '^resty_mtls_requests_total.*route="a"' | sed 's/.*} //'
--- client_out
/a/2 CN=client-a,O=Example
1



=== TEST 4: no table is in use when the requests have ended
--- policy eval: $::Policy
--- config
    keepalive_requests 100000;
    location /a {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block { ngx.exit(204) }
    }
    location /left {
        content_by_lua_block {
            local library = require "resty.mtls.internal.library"
            local uses = require("ffi").new("uint64_t[1]")
            library.C.rmtls_request_state_uses(uses)
            ngx.say(tonumber(uses[0]))
        }
    }
--- client
for i in $(seq 300); do echo 'url = https://a.test/a'; done > urls
for i in 1 2 3 4; do get a.test/a $(as client-a) -K urls & done
wait
get a.test/a $(as client-a) -o /dev/null -w '%{http_code}\n'
get a.test/left $(as client-a)
--- client_out
204
0



=== TEST 5: records of requests that last are kept, however many come after them
--- policy eval: $::Policy
--- config
    location /slow {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block {
            -- As where the library has dropped the record of the client meanwhile.
            local state = require "resty.mtls.internal.request_state"
            state.retire(state.current().record)
            ngx.shared.go:set("slow", true)
            repeat ngx.sleep(0.02) until ngx.shared.go:get("go")
            ngx.say(require("see")())
        }
    }
    location /is-slow { content_by_lua_block { ngx.say(ngx.shared.go:get("slow")) } }
    location /go { content_by_lua_block { ngx.shared.go:set("go", true) } }
    location /others {
        content_by_lua_block {
            local state = require "resty.mtls.internal.request_state"
            for i = 1, 1000 do
                state.retire(state.keep {})
            end
        }
    }
--- http_config eval
"lua_shared_dict go 1m;" . $::See
--- client
get a.test/slow $(as client-a) > slow &
until [ "$(get a.test/is-slow)" = true ]; do sleep 0.05; done
get a.test/others
get a.test/go
wait
cat slow
--- client_out
SUCCESS a



=== TEST 6: a header of the gateway is never read as the client's, where the memory of nginx is not known
--- http_config
    init_by_lua_block {
        -- Before the modules that take the function from it are loaded.
        require("resty.mtls.internal.request_memory").add_cleanup = function() end
        require("resty.mtls").init {
            policy = "$TEST_NGINX_HTML_DIR/policy.yaml", trusted_ips = { "127.0.0.1" },
        }
    }
--- policy eval: $::HeaderPolicy
--- config
    location /a { access_by_lua_block { require("resty.mtls").access("a") } content_by_lua_block { ngx.say("in") } }
    location /redirect {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block {
            ngx.req.set_header("X-Client-Cert", ngx.unescape_uri(ngx.var.arg_cert))
            ngx.exec("/a")
        }
    }
--- client
status() { get "$@" -o /dev/null -w '%{http_code}\n'; }
echo "with the header: $(status a.test/a -H "X-Client-Cert: $(escaped client-a)")"
echo "without: $(status a.test/a)"
echo "after a redirect: $(status "a.test/redirect?cert=$(escaped client-a)" -H "X-Client-Cert: $(escaped client-a)")"
--- client_out
with the header: 200
without: 401
after a redirect: 401
--- error_log
[mtls] 401 no certificate: the request has no header with one



=== TEST 7: a header of the gateway is never read as the client's, where nginx's memory is known since the redirect
--- http_config
    init_by_lua_block {
        require("resty.mtls").init {
            policy = "$TEST_NGINX_HTML_DIR/policy.yaml", trusted_ips = { "127.0.0.1" },
        }
    }
--- policy eval: $::HeaderPolicy
--- config
    location /a { access_by_lua_block { require("resty.mtls").access("a") } content_by_lua_block { ngx.say("in") } }
    location /redirect {
        access_by_lua_block { require("resty.mtls").access("open") }
        content_by_lua_block {
            ngx.req.set_header("X-Client-Cert", ngx.unescape_uri(ngx.var.arg_cert))
            ngx.exec("/a")
        }
    }
    location /to-a { rewrite ^ /a; }
--- client
# The worker has had no request with a header, in which its list of headers can be found.
without_headers() {
    printf 'GET %s HTTP/1.0\r\n\r\n' "$1" > request
    openssl s_client -quiet -ign_eof -connect "127.0.0.1:$PORT" < request 2>/dev/null | head -1
}
without_headers "/redirect?cert=$(escaped client-a)"
# Another request, which may be at the same address.
get a.test/to-a -H "X-Client-Cert: $(escaped client-a)"
--- client_out_like
^HTTP/1\.1 401 Unauthorized\r?
in
$
--- error_log
[mtls] 401 no certificate: the request has no header with one



=== TEST 8: a call without a name has not the route that the location chose for the URI before an internal redirect
--- policy eval: $::GlobalPolicy
--- config
    location ~ ^/[a-z]+$ {
        access_by_lua_block {
            require("resty.mtls").access(({ ["/a"] = "a", ["/index"] = "a" })[ngx.var.uri])
        }
        content_by_lua_block {
            local to = ngx.var["arg_" .. ngx.var.uri:sub(2)]
            if to then
                return ngx.exec("/" .. to, ngx.var.args)
            end

            ngx.say("in ", ngx.var.uri)
        }
    }
    # Within one pass of a location, also behind a redirect, it has.
    location = /both/rewrite { rewrite ^ /both/in; }
    location = /both/exec { content_by_lua_block { ngx.exec("/both/in") } }
    location /both {
        rewrite_by_lua_block { require("resty.mtls").access("a") }
        access_by_lua_block { require("resty.mtls").access() }
        content_by_lua_block { ngx.say("in ", ngx.var.uri) }
    }
--- client
# show HOST/PATH NAME: status and body of the answer to this client
show() {
    echo "$(get "$1" $(as "$2") -o body -w '%{http_code}') $(cat body)"
}
for client in client-a client-b; do
    echo "$client:"
    show a.test/a $client
    show a.test/private $client
    show "a.test/a?a=private" $client
    show "a.test/a?a=index&index=private" $client
    show "a.test/private?private=index" $client
done
for path in both/in both/rewrite both/exec; do show a.test/$path client-a; done
--- client_out
client-a:
200 in /a
401 {"message":"TLS certificate failed verification"}
401 {"message":"TLS certificate failed verification"}
401 {"message":"TLS certificate failed verification"}
401 {"message":"TLS certificate failed verification"}
client-b:
401 {"message":"TLS certificate failed verification"}
200 in /private
401 {"message":"TLS certificate failed verification"}
401 {"message":"TLS certificate failed verification"}
401 {"message":"TLS certificate failed verification"}
200 in /both/in
200 in /both/in
200 in /both/in
--- error_log
[mtls] 401 



=== TEST 9: a redirect to the same location keeps the upstream headers where strip() removes reserved headers, and counts once
--- http_config
    lua_shared_dict mtls 10m;
    server {
        listen unix:$TEST_NGINX_HTML_DIR/index.sock;
        location / { return 404; }
        location = /a/index { content_by_lua_block { ngx.print(ngx.req.raw_header()) } }
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/status.sock;
        location / { content_by_lua_block { ngx.print(require("resty.mtls").metrics()) } }
    }
--- policy eval: $::AnonymousPolicy
--- config
    include $TEST_NGINX_ROOT/nginx-conf/mtls-server.conf;
    location /a {
        set $mtls_route a;
        include $TEST_NGINX_ROOT/nginx-conf/mtls-location.conf;
        proxy_intercept_errors on;
        error_page 404 = /a/index;
        proxy_pass http://unix:$TEST_NGINX_HTML_DIR/index.sock:;
    }
--- client
for client in client-a client-b; do
    get a.test/a $(as $client) -H 'X-Consumer-Username: forged' -H 'X-Anonymous-Consumer: forged' | tr -d '\r' |
        grep -E '^(GET|X-(Consumer-Username|Anonymous-Consumer):)'
done
count() {
    curl -s --unix-socket status.sock http://localhost/ | grep '^resty_mtls_requests_total.*route="a"' | sed 's/.*} //'
}
until [ -n "$(count)" ]; do sleep 0.1; done
count
--- client_out
GET /a/index HTTP/1.0
X-Consumer-Username: client-a
GET /a/index HTTP/1.0
X-Consumer-Username: nobody
X-Anonymous-Consumer: true
2



=== TEST 10: calls in light threads of a request that wait at the same time set each upstream header once, for one route
--- user_files eval: $::RevocationPolicy
--- http_config eval
init_http('fetch_allow = { "127.0.0.0/8" }')
--- config
    location /threads {
        access_by_lua_block {
            local threads = {}
            for route in ngx.unescape_uri(ngx.var.arg_routes):gmatch("[^ ]+") do
                threads[#threads + 1] = ngx.thread.spawn(require("resty.mtls").access, route)
            end

            for i = 1, #threads do
                ngx.thread.wait(threads[i])
            end
        }
        proxy_pass $TEST_NGINX_UPSTREAM;
    }
    location /metrics { content_by_lua_block { ngx.print(require("resty.mtls").metrics()) } }
--- client eval
$TestRevocation::Client . <<'_EOC_'
threads() {
    get "a.test/threads?routes=$1" $(certificate_of $2) | grep -ioE '^x-(client-cert-dn|serial-[12]):' | sort | uniq -c
}
count() { get a.test/metrics | grep '^resty_mtls_requests_total.*route="STRICT-1"' | sed 's/.*} //'; }
counted() { [ -n "$(count)" ]; }
# All wait for the OCSP response.
threads STRICT-1%20STRICT-1%20STRICT-1 good
wait_until counted
count
threads STRICT-1%20STRICT-2%20STRICT-1 get | sed 's/-[12]:/-N:/'
# The second decides while the first waits.
threads STRICT-1%20SKIP-2 server
_EOC_
--- client_out
      1 X-Client-Cert-Dn:
      1 X-Serial-1:
1
      1 X-Client-Cert-Dn:
      1 X-Serial-N:
      1 X-Client-Cert-Dn:
      1 X-Serial-1:
