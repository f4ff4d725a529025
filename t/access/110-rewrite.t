# access() in the rewrite phase: what nginx evaluates before the access phase can use the decision, which is made and
# counted once, and serves no other location.

use lib 't/lib';
use TestMtls;

our $Policy = policy("ca-a",
    route("a", "a.test", mtls_auth("ca-a"), plugin("tls-metadata-headers", "inject_client_cert_details: true")),
    route("open", "a.test", plugin("tls-handshake-modifier"), plugin("tls-metadata-headers", "inject_client_cert_details: true")));

# A global plugin that the route "open" replaces.
our $Global = policy("ca-a",
    route("closed", "a.test"),
    route("open", "a.test", mtls_auth("ca-a", "anonymous: guest, skip_consumer_lookup: true")))
    . "consumers: [{username: guest}]\nplugins:\n- " . mtls_auth("ca-a") =~ s/^    /  /mgr . "\n";

# Policies that replace $Policy while a request is between its rewrite and its access phase.
our $Replacements = ">>> policy.yaml\n" . expand_policy($Policy) . ">>> ca-removed.yaml\n" . expand_policy($Policy =~ s/\[\@ca-a\]/[\@ca-b]/r =~ s/ca_certificates: ca-a/ca_certificates: ca-a ca-b/r)
    . ">>> more-reserved.yaml\n" . expand_policy($Policy =~ s/inject_client_cert_details: true/inject_client_cert_details: true, client_serial_header_name: X-Own/r)
    . ">>> others.yaml\n" . expand_policy($Policy =~ s/(inject_client_cert_details: true).*/$1, client_serial_header_name: X-Real-IP}\n  - {name: client-cert-headers, config: {dialects: [{name: xfcc, mode: ALWAYS_FORWARD_ONLY}]}}/r)
    . ">>> from-header.yaml\n" . expand_policy(policy("ca-a", route("a", "a.test", header_cert_auth("secure_source: false, skip_consumer_lookup: true"))));

# The same with a token, whose plugin reports only.
our $Token = policy("ca-a ca-b",
    route("a", "a.test", mtls_auth("ca-a"),
          plugin("openid-connect", 'issuer: "https://issuer.test", auth_methods: [bearer], audience_required: [api], enforce: report')));
our $TokenReplacement = ">>> ca-removed.yaml\n" . expand_policy($Token =~ s/\[\@ca-a\]/[\@ca-b]/r);

our $Backend = free_port();

our $Http = <<"_EOC_";
    include $TestMtls::Root/nginx-conf/mtls-variables.conf;
    limit_req_zone \$mtls_fingerprint_sha256 zone=clients:1m rate=1r/m;
    map \$mtls_subject_cn \$tier { default low; client-a high; }
    log_format sub '\$uri \$http_x_cn';
_EOC_

our $Config = <<"_EOC_";
    include $TestMtls::Root/nginx-conf/mtls-server.conf;
    limit_req_status 429;
    location /limited {
        set \$mtls_route a;
        include $TestMtls::Root/nginx-conf/mtls-location-rewrite.conf;
        limit_req zone=clients;
        content_by_lua_block { ngx.say("in") }
    }
    location /map {
        set \$mtls_route a;
        include $TestMtls::Root/nginx-conf/mtls-location-rewrite.conf;
        proxy_set_header X-Tier \$tier;
        proxy_pass \$TEST_NGINX_UPSTREAM;
    }
    location /auth {
        set \$mtls_route a;
        include $TestMtls::Root/nginx-conf/mtls-location-rewrite.conf;
        auth_request /check;
        mirror /mirrored;
        proxy_pass \$TEST_NGINX_UPSTREAM;
    }
    location = /check {
        internal;
        proxy_pass_request_body off;
        proxy_set_header Content-Length "";
        proxy_set_header X-Cn \$mtls_subject_cn;
        proxy_pass http://127.0.0.1:$Backend/only-client-a;
    }
    location = /mirrored {
        internal;
        proxy_set_header X-Cn \$mtls_subject_cn;
        proxy_pass http://127.0.0.1:$Backend/copy;
    }
    location /count { content_by_lua_block { ngx.print(require("resty.mtls").metrics()) } }
    # mtls-server.conf's own access() comes after it.
    location /server {
        rewrite_by_lua_block { require("resty.mtls").access("a") }
        proxy_pass \$TEST_NGINX_UPSTREAM;
    }
    location /block {
        rewrite_by_lua_block {
            local mtls = require "resty.mtls"
            mtls.access("a")
            assert(mtls.block { sha256 = mtls.client().fingerprint_sha256 })
        }
        content_by_lua_block { ngx.say("in") }
    }
    location /unblock { content_by_lua_block { for _, block in ipairs(require("resty.mtls").blocked()) do assert(require("resty.mtls").unblock(block)) end ngx.say("unblocked") } }
    location /replace {
        set \$mtls_route a;
        include $TestMtls::Root/nginx-conf/mtls-location-rewrite.conf;
        auth_request /reload;
        proxy_pass \$TEST_NGINX_UPSTREAM;
    }
    location = /reload {
        content_by_lua_block {
            assert(require("resty.mtls").reload("\$TEST_NGINX_HTML_DIR/" .. ngx.var.http_x_policy))
            ngx.exit(204)
        }
    }
    location /wait {
        rewrite_by_lua_block {
            require("resty.mtls").access("a")
            assert(io.open("\$TEST_NGINX_HTML_DIR/waits", "w")):close()
            repeat ngx.sleep(0.02) until ngx.worker.exiting() and io.open("\$TEST_NGINX_HTML_DIR/continue")
        }
        access_by_lua_block { require("resty.mtls").access("a") }
        proxy_pass \$TEST_NGINX_UPSTREAM;
    }
    location /once {
        access_by_lua_block { require("resty.mtls").access("a") }
        proxy_pass \$TEST_NGINX_UPSTREAM;
    }
    location /together {
        rewrite_by_lua_block {
            require("resty.mtls").access("a")
            local waiters = package.loaded.waiters or { count = 0, semaphore = require("ngx.semaphore").new() }
            package.loaded.waiters = waiters
            waiters.count = waiters.count + 1
            if waiters.count < 8 then
                assert(waiters.semaphore:wait(60))
            else
                assert(io.open("\$TEST_NGINX_HTML_DIR/waits", "w")):close()
                repeat ngx.sleep(0.02) until ngx.worker.exiting() and io.open("\$TEST_NGINX_HTML_DIR/continue")
                waiters.semaphore:post(7)
            end
        }
        access_by_lua_block { require("resty.mtls").access("a") }
        proxy_pass \$TEST_NGINX_UPSTREAM;
    }
    location /move {
        rewrite_by_lua_block { require("resty.mtls").access("open"); ngx.req.set_uri("/moved", true) }
        content_by_lua_block { ngx.say("not moved") }
    }
    location /exec {
        rewrite_by_lua_block { require("resty.mtls").access("open"); ngx.exec("/moved") }
        content_by_lua_block { ngx.say("not moved") }
    }
    location /moved { proxy_pass \$TEST_NGINX_UPSTREAM; }
    location /other {
        rewrite_by_lua_block { require("resty.mtls").access("open") }
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block { ngx.say("in") }
    }
_EOC_

our $Backends = <<"_EOC_";
    server {
        listen 127.0.0.1:$Backend;
        location /only-client-a { if (\$http_x_cn != client-a) { return 403; } return 204; }
        location /copy { access_log \$TEST_NGINX_HTML_DIR/copies.log sub; return 204; }
    }
_EOC_

run_blocks();

__DATA__

=== TEST 1: limit_req, map, auth_request and mirror use the decision, and the upstream gets its headers
--- policy eval: $::Policy
--- http_config eval: $::Http . $::Backends
--- config eval: $::Config
--- client
status() { get "$@" -o /dev/null -w '%{http_code}\n'; }
status a.test/limited $(as client-a)
status a.test/limited $(as client-a)
status a.test/limited $(as client-two)
status a.test/limited $(as client-b)
get a.test/map $(as client-a) -H 'X-Client-Cert-Serial: forged' | tr -d '\r' | grep -E '^X-(Tier|Client-Cert-Subject-DN|Client-Cert-Serial: forged)'
get a.test/map $(as client-two) | tr -d '\r' | grep '^X-Tier'
get a.test/auth $(as client-a) | tr -d '\r' | grep -c '^X-Client-Cert'
status a.test/auth $(as client-two)
status a.test/auth
wait_until test -s copies.log
cat copies.log
get a.test/count | grep '^resty_mtls_requests_total'
--- client_out
200
429
200
401
X-Tier: high
X-Client-Cert-Subject-DN: CN=client-a,O=Example
X-Tier: low
7
403
401
/copy client-a
resty_mtls_requests_total{route="",decision="pass"} 1
resty_mtls_requests_total{route="a",decision="401"} 2
resty_mtls_requests_total{route="a",decision="pass"} 7
--- error_log
[mtls] 401



=== TEST 2: a call without a name after one in rewrite keeps its route; a block in between is found
--- policy eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client
get a.test/server $(as client-a) | tr -d '\r' | grep -c '^X-Client-Cert'
code a.test/block $(as client-a)
code a.test/server $(as client-a)
get n.test/unblock
get a.test/server $(as client-a) | tr -d '\r' | grep -c '^X-Client-Cert'
get a.test/count | grep '^resty_mtls_requests_total'
--- client_out
7
401 application/json; charset=utf-8 {"message":"TLS certificate failed verification"}
401 application/json; charset=utf-8 {"message":"TLS certificate failed verification"}
unblocked
7
resty_mtls_requests_total{route="",decision="pass"} 2
resty_mtls_requests_total{route="a",decision="401"} 2
resty_mtls_requests_total{route="a",decision="pass"} 3
--- error_log
[mtls] 401 blocked by sha256



=== TEST 3: the decision for one route serves no other location and no other route
--- policy eval: $::Global
--- http_config eval: $::Http
--- config eval: $::Config =~ s/access\("a"\)/access("closed")/gr
--- client
for path in move exec other; do code a.test/$path; done
code a.test/other $(as client-a)
get a.test/move $(as client-a) -o /dev/null -w '%{http_code}\n'
--- client_out
401 application/json; charset=utf-8 {"message":"No required TLS certificate was sent"}
401 application/json; charset=utf-8 {"message":"No required TLS certificate was sent"}
401 application/json; charset=utf-8 {"message":"No required TLS certificate was sent"}
200 text/plain in
200
--- error_log
[mtls] 401 no certificate



=== TEST 4: a policy that comes into force between rewrite and access decides anew, and removes what it reserves and what was set before
--- user_files eval: $::Replacements
--- http_config eval: $::Http . TestMtls::init_http('watch = false')
--- config eval: $::Config
--- client
replace() { get a.test/replace $(as client-a) -H "X-Policy: $1.yaml" -H 'X-Own: forged' "${@:2}" -w '%{http_code}\n' | tr -d '\r' | grep -iE '^(X-Own|X-Real-IP|X-Forwarded-Client-Cert|X-Client-Cert-(Serial|Subject-DN)|[2-5]|\{)' | sed "s/$serial/SERIAL/" | sort; }
serial=$(openssl x509 -in "$PKI/client-a.crt" -noout -serial | cut -d= -f2)
cp policy.yaml same.yaml
replace same
replace more-reserved
# What was set under the policy before is removed, also where the other one does not reserve it.
replace same
replace others -H 'X-Forwarded-Client-Cert: Hash=forwarded'
replace same -H 'X-Forwarded-Client-Cert: Hash=forwarded'
# What was set for the upstream is not what a client sent.
replace from-header
get a.test/reload $(as client-a) -H 'X-Policy: same.yaml'
replace ca-removed
# The last one has passed in its rewrite phase.
get a.test/count | grep '^resty_mtls_requests_total{route="a"'
--- client_out
200
X-Client-Cert-Serial: SERIAL
X-Client-Cert-Subject-DN: CN=client-a,O=Example
X-Own: forged
200
X-Client-Cert-Subject-DN: CN=client-a,O=Example
X-Own: SERIAL
200
X-Client-Cert-Serial: SERIAL
X-Client-Cert-Subject-DN: CN=client-a,O=Example
200
X-Client-Cert-Subject-DN: CN=client-a,O=Example
X-Own: forged
X-Real-IP: SERIAL
x-forwarded-client-cert: Hash=forwarded
200
X-Client-Cert-Serial: SERIAL
X-Client-Cert-Subject-DN: CN=client-a,O=Example
X-Own: forged
{"message":"No required TLS certificate was sent"}401
{"message":"TLS certificate failed verification"}401
resty_mtls_requests_total{route="a",decision="401"} 2
resty_mtls_requests_total{route="a",decision="pass"} 7
--- error_log
[mtls] 401



=== TEST 5: a request that waits between rewrite and access in a worker that exits is decided by the policy of its successors
--- user_files eval: $::Replacements
--- http_config eval: $::Http . TestMtls::init_http('watch = false')
--- config eval: $::Config
--- client
code a.test/wait $(as client-a) >answer &
wait_until test -e waits
cp ca-removed.yaml policy.yaml
kill -HUP "$(cat "$PID_FILE")"
# The policy is in force once a new worker has decided by it.
refused() { [ "$(get a.test/server $(as client-a) -o /dev/null -w '%{http_code}')" = 401 ]; }
wait_until refused
touch continue
wait
cat answer
--- client_out
401 application/json; charset=utf-8 {"message":"TLS certificate failed verification"}
--- error_log
[mtls] 401



=== TEST 6: requests that a worker decides at the same time while it exits wait for the policy together
--- user_files eval: $::Replacements
--- http_config eval: $::Http . TestMtls::init_http('watch = false')
--- config eval: $::Config
--- client
for n in 1 2 3 4 5 6 7 8; do
    get a.test/together $(as client-a) -o /dev/null -w '%{http_code}\n' >"answer-$n" &
done
wait_until test -e waits
cp ca-removed.yaml policy.yaml
kill -HUP "$(cat "$PID_FILE")"
refused() { [ "$(get a.test/server $(as client-a) -o /dev/null -w '%{http_code}')" = 401 ]; }
wait_until refused
touch continue
wait
sort answer-* | uniq -c
--- client_out_like
^ *8 401$
--- error_log
[mtls] 401



=== TEST 7: a request that waits for its token while the worker exits is decided by the policy of its successors
--- user_files eval: $::TokenReplacement
--- policy eval: $::Token
--- http_config eval
$::Http . <<'_EOC_';
    init_worker_by_lua_block {
        local token_issuer = require "resty.mtls.internal.token_issuer"
        local check = token_issuer.check
        function token_issuer.check(...)
            if ngx.var.arg_wait then
                assert(io.open("$TEST_NGINX_HTML_DIR/waits", "w")):close()
                repeat ngx.sleep(0.02) until ngx.worker.exiting() and io.open("$TEST_NGINX_HTML_DIR/continue")
            end
            return check(...)
        end
    }
_EOC_
--- config eval: $::Config
--- client
code 'a.test/once?wait=1' $(as client-a) >answer &
wait_until test -e waits
cp ca-removed.yaml policy.yaml
kill -HUP "$(cat "$PID_FILE")"
refused() { [ "$(get a.test/server $(as client-a) -o /dev/null -w '%{http_code}')" = 401 ]; }
wait_until refused
touch continue
wait
cat answer
--- client_out
401 application/json; charset=utf-8 {"message":"TLS certificate failed verification"}
--- error_log
[mtls] 401
