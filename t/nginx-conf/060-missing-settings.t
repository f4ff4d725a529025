# resty.mtls.internal.placement finds settings that nginx.conf, the policy or the policy's files lack.

use lib 't/lib';
use TestMtls;

our $Policy = <<'_EOC_';
_format_version: "3.0"
@{ca_certificates: ca-a}
routes:
- name: payments
  id: 11111111-1111-4111-8111-111111111111
  snis: [a.test]
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-a], skip_consumer_lookup: true}
- name: orders
  snis: [b.test]
  plugins:
  - name: mtls-auth
    config: {ca_certificates: [@ca-a], skip_consumer_lookup: true}
# This plugin works in the handshake only.
- name: enrolment
  snis: [c.test]
  plugins:
  - name: tls-handshake-modifier
# No plugin applies to this route.
- name: open
  snis: [d.test]
_EOC_

# A --- config that prints the result of faults() for html/nginx.conf
our $Faults = <<'_EOC_';
    location /t {
        content_by_lua_block {
            local placement = require "resty.mtls.internal.placement"
            local engine = require("resty.mtls.internal.engine").current()
            local directory = "$TEST_NGINX_HTML_DIR/"
            for _, name in ipairs { "1.conf", "2.conf", "3.conf", "4.conf", "5.conf", "6.conf" } do
                local file = io.open(directory .. name)
                if file then
                    file:close()
                    local faults, warnings, user = placement.faults(directory .. name, 1022001, true, engine)
                    for _, list in ipairs { faults, warnings } do
                        for _, line in ipairs(list) do
                            local at = line:find(directory, 1, true)
                            while at do
                                line = line:sub(1, at - 1) .. line:sub(at + #directory)
                                at = line:find(directory, 1, true)
                            end

                            ngx.say(list == faults and "error " or "warn ", line)
                        end
                    end

                    ngx.say(name, " user=", user and table.concat(user, " ") or "none")
                end
            end
        }
    }
_EOC_

our $Hooks = 'ssl_client_hello_by_lua_block { require("resty.mtls").client_hello() }';

run_blocks();

__DATA__

=== TEST 1: init() warns about a missing ssl_certificate_by_lua* and about routes that no location names
--- user_files eval: ">>> policy.yaml\n" . TestMtls::expand_policy($::Policy)
--- http_config
    init_by_lua_block {
        require("resty.mtls").init { policy = "$TEST_NGINX_HTML_DIR/policy.yaml" }
    }
    ssl_client_hello_by_lua_block { require("resty.mtls").client_hello() }
--- config
    location /t { access_by_lua_block { require("resty.mtls").access("payments") } content_by_lua_block { ngx.say("in") } }
    location /none { return 204; }
    location /status {
        content_by_lua_block {
            for _, line in ipairs(require("resty.mtls").status().start_warnings) do
                ngx.say((line:gsub("^.*/conf/", "")))
            end
        }
    }
--- client
code a.test/t $(as client-a)
curl -s "http://127.0.0.1:$HTTP_PORT/status" | sort
--- client_out
401 application/json; charset=utf-8 {"message":"No required TLS certificate was sent"}
nginx.conf: no location names the route 'orders' of the policy: its plugins apply to no request; expected 'set $mtls_route NAME;' or access(NAME)
nginx.conf: no ssl_certificate_by_lua* that calls certificate(): no client certificate is requested, protected routes answer 401
--- error_log eval
[
    qr{\[error\] .*\[mtls\] /.*/conf/nginx\.conf: no ssl_certificate_by_lua\* that calls certificate\(\): no client certificate is requested},
    qr{\[warn\] .*\[mtls\] /.*/conf/nginx\.conf: no location names the route 'orders' of the policy},
    "[mtls] 401 no certificate: none was requested: mtls.certificate() did not run for this connection",
]
--- no_error_log
[alert]



=== TEST 2: init() logs nothing when the configuration is complete
--- policy eval: $::Policy
--- config
    location /t { access_by_lua_block { require("resty.mtls").access("payments") } content_by_lua_block { ngx.say("in") } }
    location /o {
        set $mtls_route orders;
        include $TEST_NGINX_ROOT/nginx-conf/mtls-location.conf;
        content_by_lua_block { ngx.say(require("resty.mtls").status().start_warnings) }
    }
--- client
code b.test/o $(as client-a)
--- client_out
200 text/plain nil
--- no_error_log
conf/nginx.conf:
[error]
[alert]



=== TEST 3: faults() finds the routes that nginx.conf names, however it names them
--- policy eval: $::Policy
--- user_files
>>> 1.conf
user www-data adm;
http {
    ssl_client_hello_by_lua_file x.lua; ssl_certificate_by_lua_file x.lua;
    server { set $mtls_route payments; location /o { set $mtls_route "orders"; } }
}
>>> 2.conf
http {
    ssl_client_hello_by_lua_file x.lua; ssl_certificate_by_lua_file x.lua;
    map $uri $mtls_route { default ""; /p payments; /o orders; }
}
>>> 3.conf
http {
    ssl_client_hello_by_lua_file x.lua; ssl_certificate_by_lua_file x.lua;
    access_by_lua 'require("resty.mtls").access("11111111-1111-4111-8111-111111111111")';
    map $uri $of { /o orders; }
    server { access_by_lua_block { mtls.access(ngx.var.of) } }
}
>>> 4.conf
http {
    ssl_client_hello_by_lua_file x.lua; ssl_certificate_by_lua_file x.lua;
    access_by_lua_block {
        -- require("resty.mtls").access("orders")
        require("resty.mtls").access("payments")
    }
    # set $mtls_route orders;
}
>>> 5.conf
user root;
http {
    ssl_client_hello_by_lua_file x.lua; ssl_certificate_by_lua_file x.lua;
    access_by_lua_block { require("resty.mtls").access() }
}
--- config eval: $::Faults
--- response_body
1.conf user=www-data adm
2.conf user=none
3.conf user=none
warn 4.conf: no location names the route 'orders' of the policy: its plugins apply to no request; expected 'set $mtls_route NAME;' or access(NAME)
4.conf user=none
warn 5.conf: no location names the routes 'payments', 'orders' of the policy: their plugins apply to no request; expected 'set $mtls_route NAME;' or access(NAME)
5.conf user=root



=== TEST 4: faults() reports no unused routes where nginx.conf computes the route's name
--- policy eval: $::Policy
--- user_files
>>> 1.conf
http {
    ssl_client_hello_by_lua_file x.lua; ssl_certificate_by_lua_file x.lua;
    access_by_lua_file access.lua;
}
>>> 2.conf
http {
    ssl_client_hello_by_lua_file x.lua; ssl_certificate_by_lua_file x.lua;
    access_by_lua_block { require("my.gateway").run() }
}
>>> 3.conf
http {
    ssl_client_hello_by_lua_file x.lua; ssl_certificate_by_lua_file x.lua;
    access_by_lua_block { require("resty.mtls").access(route_of(ngx.var.uri)) }
}
>>> 4.conf
http {
    ssl_client_hello_by_lua_file x.lua; ssl_certificate_by_lua_file x.lua;
    server { set $mtls_route $1; access_by_lua_block { require("resty.mtls").access(ngx.var.mtls_route or "") } }
}
>>> 6.conf
http {
    ssl_client_hello_by_lua_file x.lua; ssl_certificate_by_lua_file x.lua;
    server { access_by_lua_block { require("resty.mtls").access(ngx.var.arg_route) } }
    server { access_by_lua_block { require("resty.mtls").access(ngx.var[1]) } }
}
>>> 5.conf
http {
    ssl_client_hello_by_lua_file x.lua; ssl_certificate_by_lua_file x.lua;
    include unreadable;
}
--- config eval: $::Faults
--- response_body
1.conf user=none
2.conf user=none
3.conf user=none
4.conf user=none
5.conf user=none
6.conf user=none



=== TEST 5: faults() finds names of unknown routes, and hooks that do not call certificate()
--- policy eval: $::Policy
--- user_files
>>> 1.conf
http {
    ssl_client_hello_by_lua_file x.lua;
    ssl_certificate_by_lua_block { require("resty.mtls").certificate() }
    server {
        set $mtls_route paymnets;
        location /o { access_by_lua_block { require("resty.mtls").access("order") } }
        location /p { access_by_lua_block { require("resty.mtls").access("payments") } }
        location /q { access_by_lua_block { require("other").access("orders") } }
    }
    server {
        ssl_certificate_by_lua_block { require("ngx.ssl").clear_certs() }
    }
    server {
        ssl_certificate_by_lua_block { require("my.certs").set() }
    }
}
>>> 2.conf
http {
    ssl_client_hello_by_lua_file x.lua;
    ssl_certificate_by_lua_block { local ssl = require "ngx.ssl" }
    server { access_by_lua_file x.lua; }
}
--- config eval: $::Faults
--- response_body
error 1.conf:11: ssl_certificate_by_lua* of a server does not call certificate(): no certificate is requested there, protected routes answer 401
warn 1.conf:5: no route 'paymnets' in the policy, did you mean 'payments'?
warn 1.conf:6: no route 'order' in the policy, did you mean 'orders'?
1.conf user=none
error 2.conf:3: ssl_certificate_by_lua* does not call certificate(): no client certificate is requested, protected routes answer 401
2.conf user=none



=== TEST 6: missing_permissions() checks the modes of the policy's files and the groups of the user
--- policy eval: $::Policy
--- config
    location /t {
        content_by_lua_block {
            local engine = require("resty.mtls.internal.engine").current()
            local path = "$TEST_NGINX_HTML_DIR/policy.yaml"
            local function show(mode, user, group)
                os.execute("chmod " .. mode .. " " .. path)
                local lines = engine:missing_permissions(user, group, 20)
                ngx.say(mode, " ", user, " ", #lines)
            end

            show("0600", "root")
            show("0600", "nobody")
            show("0640", "nobody", "root")
            show("0600", "no-such-user")
            show("0600", "nobody", "no-such-group")
            ngx.say((engine:missing_permissions("nobody", nil, 20)[1]:gsub("^.* the workers' user", "the workers' user")))
        }
    }
--- response_body_like chop
\A0600 root 0
0600 nobody 1
0640 nobody [01]
0600 no-such-user 0
0600 nobody 0
the workers' user 'nobody' has no permission to read it.*, so a change will not be put in force without HUP; expected for example mode 0640 and a group that the user is in
\z
