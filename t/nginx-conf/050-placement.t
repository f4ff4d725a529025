# resty.mtls.internal.placement finds ssl_client_hello_by_lua* at the wrong place of nginx.conf when nginx starts.

use lib 't/lib';
use TestMtls;

our $Policy = policy("ca-a", route("a", "a.test", mtls_auth("ca-a")));

# Replaces --- policy, which adds the hooks at http level.
our $File = ">>> policy.yaml\n" . expand_policy($Policy);

our $Http = <<'_EOC_';
    init_by_lua_block {
        require("resty.mtls").init { policy = "$TEST_NGINX_HTML_DIR/policy.yaml" }
    }
    ssl_certificate_by_lua_block { require("resty.mtls").certificate() }
_EOC_

our $Config = <<'_EOC_';
    location /t {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block { ngx.say("in") }
    }
_EOC_

# The result of parse() for the configuration in conf/, for both kinds of nginx
our $Faults = <<'_EOC_';
    location /t {
        content_by_lua_block {
            local placement = require "resty.mtls.internal.placement"
            -- Escaped as a Lua pattern
            local directory = ("$TEST_NGINX_HTML_DIR/"):gsub("%p", "%%%0")
            for _, version in ipairs { 1022001, 1029002 } do
                for _, fault in ipairs(placement.faults("$TEST_NGINX_HTML_DIR/nginx.conf", version, true)) do
                    ngx.say(version, " ", (fault:gsub(directory, "")))
                end
            end
        }
    }
_EOC_

run_blocks();

__DATA__

=== TEST 1: init() logs nothing about a hook at http level
--- policy eval: $::Policy
--- config eval: $::Config
--- client
code a.test/t $(as client-a)
--- client_out
200 text/plain in
--- no_error_log
ssl_client_hello_by_lua
[error]
[alert]



=== TEST 2: init() logs a hook in a server block
--- user_files eval: $::File
--- http_config eval: $::Http
--- config eval
"    ssl_client_hello_by_lua_block { require('resty.mtls').client_hello() }\n" . $::Config
--- client
code a.test/t $(as client-a)
# Runs again after the start, when the command line of nginx is another one.
kill -HUP "$(cat "$PID_FILE")"
for _ in $(seq 100); do sleep 0.05; [ "$(grep -c 'in a server block' "$ERROR_LOG")" -gt 1 ] && break; done
grep -o 'nginx.conf:[0-9]*: .* server block, expected at http{} level: this nginx' "$ERROR_LOG" | sed 's/:[0-9]*:/:LINE:/' | sort -u
--- client_out
200 text/plain in
nginx.conf:LINE: ssl_client_hello_by_lua* in a server block, expected at http{} level: this nginx
--- error_log eval
qr{\[error\] .*\[mtls\] /.*/conf/nginx\.conf:\d+: ssl_client_hello_by_lua\* in a server block}
--- no_error_log
[alert]



=== TEST 3: init() logs that there is no hook
--- user_files eval: $::File
--- http_config eval: $::Http
--- config eval: $::Config
--- client
code a.test/t $(as client-a)
--- client_out
421 application/json; charset=utf-8 {"message":"Misdirected Request"}
--- error_log
/conf/nginx.conf: no ssl_client_hello_by_lua* at http{} level: protected routes answer 421
--- no_error_log
[alert]



=== TEST 4: faults() reads nginx.conf as nginx does
--- user_files
>>> nginx.conf
# ssl_client_hello_by_lua_block { in a comment }
events {}
http {
    log_format x 'a "quoted" { ssl_client_hello_by_lua_block { x } }' "\"{";
    map $host $a { default "}"; ~^a\{2\}$ ${host}x; '}' b; }
    init_by_lua_block {
        -- a comment with a } and a "
        --[==[ and a long one } ]] ]==]
        local t = { "}", '\'}', [[ } ]], [=[ ]] } ]=], 1 - -1, a[b[1]] }
    }
    include conf.d/*.conf;
    include none/*.conf;
    server { location / { return 200 "}"; } }
}
stream {
    server { ssl_client_hello_by_lua_block { } }
}
>>> conf.d/a.conf
server {
    listen 443 ssl;

    ssl_client_hello_by_lua_block {
        if true then end
    }
}
>>> conf.d/b.conf
server { ssl_client_hello_by_lua_file /x.lua; }
--- config eval: $::Faults
--- response_body
1022001 conf.d/a.conf:4: ssl_client_hello_by_lua* in a server block, expected at http{} level: this nginx runs that of a listener's default server only, for all server names
1022001 conf.d/b.conf:1: ssl_client_hello_by_lua* in a server block, expected at http{} level: this nginx runs that of a listener's default server only, for all server names
1029002 conf.d/a.conf:4: ssl_client_hello_by_lua* in a server block, expected at http{} level: this nginx fails the handshakes of servers that have none
1029002 conf.d/b.conf:1: ssl_client_hello_by_lua* in a server block, expected at http{} level: this nginx fails the handshakes of servers that have none



=== TEST 5: faults() accepts a server's own hook that calls client_hello(), and no other, beside the hook at http level
--- user_files
>>> nginx.conf
http {
    ssl_client_hello_by_lua_block { require("resty.mtls").client_hello() }
    server { ssl_client_hello_by_lua_block { own() require("resty.mtls").client_hello() } }
    server { ssl_client_hello_by_lua_block { require("my.hooks").run() } }
    server { ssl_client_hello_by_lua_file hooks.lua; }
    server {
        ssl_client_hello_by_lua_block { own() }
    }
}
--- config eval: $::Faults
--- response_body
1022001 nginx.conf:7: ssl_client_hello_by_lua* of a server replaces that at http{} level (nginx.conf:2), expected none, or a call of client_hello()
1029002 nginx.conf:7: ssl_client_hello_by_lua* of a server replaces that at http{} level (nginx.conf:2), expected none, or a call of client_hello()



=== TEST 6: faults() reports nothing about a configuration that it cannot read
--- user_files
>>> nginx.conf
http { include nginx.conf; include unreadable; }
--- config
    location /t {
        content_by_lua_block {
            local placement = require "resty.mtls.internal.placement"
            ngx.say(#placement.faults("$TEST_NGINX_HTML_DIR/nginx.conf", 1022001, true))
            ngx.say(#placement.faults("$TEST_NGINX_HTML_DIR/none", 1022001, true))
            ngx.say(#placement.faults("$TEST_NGINX_HTML_DIR", 1022001, true))
        }
    }
--- response_body
0
0
0



=== TEST 7: faults() takes time in proportion to the size of the files
--- config
    location /t {
        content_by_lua_block {
            local placement = require "resty.mtls.internal.placement"
            local directory = "$TEST_NGINX_HTML_DIR/"
            -- Escaped as a Lua pattern
            local pattern = directory:gsub("%p", "%%%0")
            local function write(name, text)
                local file = assert(io.open(directory .. name, "wb"))
                file:write(text)
                file:close()
            end

            local hook = "server { ssl_client_hello_by_lua_block { } }\n"
            write("deny.conf", ("deny 192.0.2.1;\n"):rep(100000))
            write("hooks.conf", hook:rep(20000))
            write("nginx.conf", "http { include deny.conf; include hooks.conf; }")
            write("many.conf", "http { " .. ("include deny.conf;"):rep(900) .. " }")

            ngx.update_time()
            local start = ngx.now()
            local faults = placement.faults(directory .. "nginx.conf", 1022001, true)
            ngx.say(#faults, " ", (faults[20]:gsub(pattern, ""):match("^[^ ]*")))
            ngx.say((faults[21]:gsub(pattern, "")))
            ngx.say(#placement.faults(directory .. "many.conf", 1022001, true))
            ngx.update_time()
            local took = ngx.now() - start
            ngx.say(took < 10 and "soon" or took)
        }
    }
--- response_body
21 hooks.conf:20:
nginx.conf: ssl_client_hello_by_lua* at 19980 more wrong places
0
soon
--- timeout: 60



=== TEST 8: option_c() reads the command line as nginx does, and returns nil when it cannot
--- config
    location /t {
        content_by_lua_block {
            local nginx_conf = require "resty.mtls.internal.nginx_conf"
            for _, line in ipairs {
                "nginx", "nginx -c a.conf", "nginx -ca.conf", "nginx -qc a.conf", "nginx -tqca.conf",
                "nginx -p /-c -c a.conf", "nginx -g daemon_off;_#_-c_x -c a.conf", "nginx -e log -g daemon_off;",
                "nginx -c a.conf -cb.conf", "nginx a.conf",
            } do
                ngx.say(line, ": ", nginx_conf.option_c((line:gsub(" ", "\0"):gsub("_", " ")) .. "\0"))
            end

            for _, line in ipairs {
                "master process nginx", "master process nginx -c a.conf -g daemon off;",
                "master process nginx -g daemon off;", "master process nginx -g daemon off; # -c x",
                "master process nginx -c /a b.conf", "worker process", "worker process is shutting down",
            } do
                ngx.say(line, ": ", nginx_conf.option_c("nginx: " .. line .. "\0\0\0"))
            end
        }
    }
--- response_body
nginx: 
nginx -c a.conf: a.conf
nginx -ca.conf: a.conf
nginx -qc a.conf: a.conf
nginx -tqca.conf: a.conf
nginx -p /-c -c a.conf: a.conf
nginx -g daemon_off;_#_-c_x -c a.conf: a.conf
nginx -e log -g daemon_off;: 
nginx -c a.conf -cb.conf: b.conf
nginx a.conf: nil
master process nginx: 
master process nginx -c a.conf -g daemon off;: a.conf
master process nginx -g daemon off;: 
master process nginx -g daemon off; # -c x: nil
master process nginx -c /a b.conf: nil
worker process: nil
worker process is shutting down: nil
