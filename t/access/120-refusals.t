# refusals = "nginx": only the status is set, so that error_page applies, with $mtls_decision and $mtls_reason.

use lib 't/lib';
use TestMtls;
use TestRotation;

our $Policy = policy("ca-a",
    route("a", "a.test", mtls_auth("ca-a")),
    route("consumers", "a.test", plugin("mtls-auth", "ca_certificates: [\@ca-a]")),
    route("forbidden", "a.test", mtls_auth("ca-a"), plugin("client-cert-acl", "deny: [{\"subject.CN\": client-a}]")),
    route("token", "a.test", plugin("tls-handshake-modifier"),
          plugin("openid-connect", 'issuer: "http://127.0.0.1:1", auth_methods: [bearer], audience_required: [x]')));

our $Http = "    include $TestMtls::Root/nginx-conf/mtls-variables.conf;\n";

# html/nginx/ and html/json/ have one server each.
our $Config = <<"_EOC_";
    include $TestMtls::Root/nginx-conf/mtls-server.conf;
    recursive_error_pages on;
    location ~ ^/plain/(?<route>\\w+)\$ {
        set \$mtls_route \$route;
        include $TestMtls::Root/nginx-conf/mtls-location.conf;
        content_by_lua_block { ngx.header["Content-Length"] = 3; ngx.say("in") }
    }
    location ~ ^/page/(?<route>\\w+)\$ {
        set \$mtls_route \$route;
        include $TestMtls::Root/nginx-conf/mtls-location.conf;
        error_page 401 403 421 503 /refused;
        content_by_lua_block { ngx.header["Content-Length"] = 3; ngx.say("in") }
    }
    location ~ ^/rewrite/(?<route>\\w+)\$ {
        set \$mtls_route \$route;
        include $TestMtls::Root/nginx-conf/mtls-location-rewrite.conf;
        error_page 401 403 421 503 \@refused;
        content_by_lua_block { ngx.header["Content-Length"] = 3; ngx.say("in") }
    }
    location ~ ^/login/(?<route>\\w+)\$ {
        set \$mtls_route \$route;
        include $TestMtls::Root/nginx-conf/mtls-location.conf;
        error_page 401 =302 https://login.example/?reason=\$mtls_reason;
        content_by_lua_block { ngx.header["Content-Length"] = 3; ngx.say("in") }
    }
    location = /refused { internal; return 200 "page \$mtls_decision \$mtls_reason \$mtls_verify \$mtls_route_name\\n"; }
    # With the access() of mtls-server.conf, which lets it through.
    location \@refused { content_by_lua_block { local page = table.concat({ "page", ngx.var.mtls_decision, ngx.var.mtls_reason, ngx.var.mtls_verify, ngx.var.mtls_route_name }, " ") ngx.header["Content-Length"] = #page ngx.print(page) } }
    location ~ ^/upstream/(?<route>\\w+)\$ {
        set \$mtls_route \$route;
        include $TestMtls::Root/nginx-conf/mtls-location.conf;
        error_page 401 /from-upstream;
        content_by_lua_block { ngx.header["Content-Length"] = 3; ngx.say("in") }
    }
    location = /subrequest {
        auth_request /rewrite/a;
        content_by_lua_block { ngx.header["Content-Length"] = 3; ngx.say("in") }
    }
    location = /from-upstream { proxy_pass \$TEST_NGINX_UPSTREAM; }
    location /decide {
        access_by_lua_block {
            local result = require("resty.mtls").decide("a")
            if not result.allowed then
                ngx.status = result.status
                for _, header in ipairs(result.headers) do ngx.header[header[1]] = header[2] end
                ngx.header["Content-Length"] = #result.body
                ngx.print(result.body)
                return ngx.exit(result.status)
            end
        }
        content_by_lua_block { ngx.header["Content-Length"] = 3; ngx.say("in") }
    }
    location /policy { content_by_lua_block { assert(require("resty.mtls").reload("\$TEST_NGINX_HTML_DIR/" .. ngx.var.arg_name)) ngx.say("ok") } }
    location /count { content_by_lua_block { ngx.print(require("resty.mtls").metrics()) } }
_EOC_

our $Ending = ">>> policy.yaml\n" . expand_policy($Policy)
    . ">>> removed.yaml\n" . expand_policy($Policy =~ s/\[\@ca-a\]/[\@ca-b]/gr =~ s/ca_certificates: ca-a/ca_certificates: ca-a ca-b/r);

our $NoH2 = system("python3 -c 'import h2' 2>/dev/null") != 0;
our $NoH3 = system("'$ENV{TEST_NGINX_BINARY}' -V 2>&1 | grep -q with-http_v3_module && python3 -c 'import aioquic' 2>/dev/null") != 0;

# ending PROTOCOL: for --- client, prints for each path the status before and after the CA of the client is removed, each
# with whether the connection ends
sub ending ($) {
    my ($protocol) = @_;

    return <<"_EOC_" . <<'_EOC_';
protocol=$protocol
_EOC_
cat >ending.py <<'END'
import os, sys, urllib.request
clients, http_port = sys.argv.pop(), sys.argv[3]
sys.path.insert(0, clients)
import rotation
# Every refusal here ends its connection.
rotation.Http3.tries = 2000
def load(name):
    urllib.request.urlopen("http://127.0.0.1:%s/policy?name=%s" % (http_port, name), timeout=20).read()
for path in "/plain/a", "/page/a", "/rewrite/a", "/login/a", "/upstream/a", "/decide", "/subrequest":
    load("policy.yaml")
    connection = rotation.CONNECTION("a", "client-a")
    before = connection.get("a", path)
    load("removed.yaml")
    status, ends = connection.get("a", path)
    if path == "/subrequest" and rotation.PROTOCOL == "http/1.1":
        # nginx closes the connection when it is idle; the response says nothing of it.
        ends = connection.tls.recv(1) == b""
    print(path, *before, status, ends, flush=True)
    connection.close()
# As in rotation.py: aioquic has a thread.
os._exit(0)
END
timeout 60 python3 ending.py $protocol "$PORT" "$HTTP_PORT" "$PKI" - "$TEST_NGINX_ROOT/t/clients"
_EOC_
}

our $EndingExpected = <<'_EOC_';
/plain/a 200 False 401 True
/page/a 200 False 401 True
/rewrite/a 200 False 401 True
/login/a 200 False 302 True
/upstream/a 200 False 401 True
/decide 200 False 401 True
/subrequest 200 False 401 True
_EOC_

run_blocks();

__DATA__

=== TEST 1: error_page shows the decision and its reason, and requests are counted once
--- user_files eval: ">>> policy.yaml\n" . TestMtls::expand_policy($::Policy)
--- http_config eval: $::Http . TestMtls::init_http('refusals = "nginx"')
--- config eval: $::Config
--- client
for path in page rewrite; do
    code a.test/$path/a
    code a.test/$path/a $(as client-a)
    code a.test/$path/a $(as client-b)
    code a.test/$path/a $(as client-expired)
    code a.test/$path/consumers $(as client-a)
    code a.test/$path/forbidden $(as client-a)
    code a.test/$path/token
    code n.test/$path/a -H 'Host: a.test' $(as client-a)
done
get a.test/count | grep '^resty_mtls_requests_total' | grep -v 'route=""'
--- client_out
401 text/plain page no_certificate no_certificate NONE a
200 text/plain in
401 text/plain page refused untrusted FAILED:unable to get local issuer certificate a
401 text/plain page refused expired FAILED:certificate has expired a
401 text/plain page refused no_consumer FAILED:no consumer consumers
403 text/plain page forbidden forbidden SUCCESS forbidden
401 text/plain page no_token no_token NONE token
421 text/plain page misdirected misdirected NONE a
401 text/plain page no_certificate no_certificate NONE a
200 text/plain in
401 text/plain page refused untrusted FAILED:unable to get local issuer certificate a
401 text/plain page refused expired FAILED:certificate has expired a
401 text/plain page refused no_consumer FAILED:no consumer consumers
403 text/plain page forbidden forbidden SUCCESS forbidden
401 text/plain page no_token no_token NONE token
421 text/plain page misdirected misdirected NONE a
resty_mtls_requests_total{route="a",decision="401"} 6
resty_mtls_requests_total{route="a",decision="421"} 2
resty_mtls_requests_total{route="a",decision="pass"} 2
resty_mtls_requests_total{route="consumers",decision="401"} 2
resty_mtls_requests_total{route="forbidden",decision="403"} 2
resty_mtls_requests_total{route="token",decision="401"} 2
--- error_log
[mtls] 401 no certificate
[mtls] 421 misdirected request



=== TEST 2: without error_page nginx's own page is sent, a redirect works, and headers of the refusal stay
--- user_files eval: ">>> policy.yaml\n" . TestMtls::expand_policy($::Policy)
--- http_config eval: $::Http . TestMtls::init_http('refusals = "nginx"')
--- config eval: $::Config
--- client
get a.test/plain/a -o body -w '%{http_code}\n'
grep -c '401 Authorization Required' body
grep -ciE 'mtls|certificate|reason' body
get a.test/plain/token -o /dev/null -D - | tr -d '\r' | grep -iE '^(HTTP|WWW)'
get a.test/login/a -o /dev/null -w '%{http_code} %{redirect_url}\n'
get a.test/page/token -o /dev/null -D - | tr -d '\r' | grep -iE '^(HTTP|WWW)'
--- client_out
401
2
0
HTTP/1.1 401 Unauthorized
WWW-Authenticate: Bearer
302 https://login.example/?reason=no_certificate
HTTP/1.1 401 Unauthorized
WWW-Authenticate: Bearer
--- error_log
[mtls] 401



=== TEST 3: an unknown value of the option stops the start
--- http_config
    init_by_lua_block { require("resty.mtls").init { policy = "p.yaml", refusals = "xml" } }
--- config
--- suppress_stderr
--- must_die
--- error_log
mtls.init: refusals must be 'json' or 'nginx', got 'xml'



=== TEST 4: a refusal that a new handshake may change closes an HTTP/1.1 connection, with one Connection header
--- user_files eval: $::Ending
--- http_config eval: $::Http . TestMtls::init_http('refusals = "nginx", watch = false')
--- config eval: $::Config
--- client eval: main::ending("http/1.1")
--- client_out eval: $::EndingExpected
--- error_log
[mtls] 401



=== TEST 5: a refusal that a new handshake may change ends an HTTP/2 connection by GOAWAY
--- skip_eval: 4: $::NoH2
--- tls_options: http2
--- user_files eval: $::Ending
--- http_config eval: $::Http . TestMtls::init_http('refusals = "nginx", watch = false')
--- config eval: $::Config
--- client eval: main::ending("h2")
--- client_out eval: $::EndingExpected
--- error_log
[mtls] 401



=== TEST 6: a refusal that a new handshake may change ends an HTTP/3 connection
--- skip_eval: 4: $::NoH3
--- quic
--- user_files eval: $::Ending
--- http_config eval: $::Http . TestMtls::init_http('refusals = "nginx", watch = false')
--- config eval: $::Config
--- client eval: main::ending("h3")
--- client_out eval: $::EndingExpected
--- error_log
[mtls] 401
