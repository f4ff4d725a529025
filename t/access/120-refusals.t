# refusals = "nginx": only the status is set, so that error_page applies, with $mtls_decision and $mtls_reason.

use lib 't/lib';
use TestMtls;

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
        content_by_lua_block { ngx.say("in") }
    }
    location ~ ^/page/(?<route>\\w+)\$ {
        set \$mtls_route \$route;
        include $TestMtls::Root/nginx-conf/mtls-location.conf;
        error_page 401 403 421 503 /refused;
        content_by_lua_block { ngx.say("in") }
    }
    location ~ ^/rewrite/(?<route>\\w+)\$ {
        set \$mtls_route \$route;
        include $TestMtls::Root/nginx-conf/mtls-location-rewrite.conf;
        error_page 401 403 421 503 \@refused;
        content_by_lua_block { ngx.say("in") }
    }
    location ~ ^/login/(?<route>\\w+)\$ {
        set \$mtls_route \$route;
        include $TestMtls::Root/nginx-conf/mtls-location.conf;
        error_page 401 =302 https://login.example/?reason=\$mtls_reason;
        content_by_lua_block { ngx.say("in") }
    }
    location = /refused { internal; return 200 "page \$mtls_decision \$mtls_reason \$mtls_verify \$mtls_route_name\\n"; }
    # With the access() of mtls-server.conf, which lets it through.
    location \@refused { content_by_lua_block { ngx.say("page ", ngx.var.mtls_decision, " ", ngx.var.mtls_reason, " ", ngx.var.mtls_verify, " ", ngx.var.mtls_route_name) } }
    location /count { content_by_lua_block { ngx.print(require("resty.mtls").metrics()) } }
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



=== TEST 4: a refusal that a new handshake may change ends the connection, also by decide()
--- user_files eval: ">>> policy.yaml\n" . TestMtls::expand_policy($::Policy) . ">>> removed.yaml\n" . TestMtls::expand_policy($::Policy =~ s/\[\@ca-a\]/[\@ca-b]/gr =~ s/^ca_certificates: ca-a/ca_certificates: ca-a ca-b/mr =~ s/\@\{ca_certificates: ca-a\}/\@{ca_certificates: ca-a ca-b}/r)
--- http_config eval: $::Http . TestMtls::init_http('refusals = "nginx", watch = false')
--- config eval
$::Config . <<'_EOC_';
    location /decide {
        access_by_lua_block {
            local result = require("resty.mtls").decide("a")
            if not result.allowed then
                ngx.status = result.status
                for _, header in ipairs(result.headers) do ngx.header[header[1]] = header[2] end
                ngx.print(result.body)
                return ngx.exit(result.status)
            end
        }
        content_by_lua_block { ngx.say("in") }
    }
    location /policy { content_by_lua_block { assert(require("resty.mtls").reload("$TEST_NGINX_HTML_DIR/" .. ngx.var.arg_name)) ngx.say("ok") } }
_EOC_
--- client
cat >persistent.py <<'END'
import http.client, os, socket, ssl, sys
pki = os.environ["PKI"]
context = ssl.create_default_context(cafile=pki + "/server-ca.crt")
# The default of Python 3.13 refuses CAs without an AKI.
context.verify_flags &= ~ssl.VERIFY_X509_STRICT
context.check_hostname = False
context.load_cert_chain(pki + "/client-a.crt", pki + "/client-a.key")
client = http.client.HTTPConnection("a.test")
client.sock = context.wrap_socket(socket.create_connection(("127.0.0.1", int(os.environ["PORT"]))), server_hostname="a.test")
def get(path):
    client.request("GET", path)
    response = client.getresponse()
    response.read()
    # nginx adds its own header, and close counts (RFC 9112, section 9.3).
    options = [value for name, value in response.getheaders() if name.lower() == "connection"]
    return "%s %s" % (response.status, "close" if "close" in options else options[0])
print(get(sys.argv[1]), get("/policy?name=removed.yaml"), get(sys.argv[1]))
END
for path in /plain/a /decide; do
    python3 persistent.py $path
    get n.test/policy?name=policy.yaml
done
--- client_out
200 keep-alive 200 keep-alive 401 close
ok
200 keep-alive 200 keep-alive 401 close
ok
--- error_log
[mtls] 401
