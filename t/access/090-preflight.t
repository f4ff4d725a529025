# run_on_preflight: false, with which CORS preflights are not authenticated. Acls of another
# authentication are here too: their routes are closed.

use lib 't/lib';
use TestMtls;

our $Policy = policy("ca-a",
    route("open", "a.test", mtls_auth("ca-a", "run_on_preflight: false, skip_consumer_lookup: true"),
        plugin("tls-metadata-headers", "inject_client_cert_details: true")),
    route("closed", "b.test", mtls_auth("ca-a", "skip_consumer_lookup: true")),
    route("both", "c.test", mtls_auth("ca-a", "run_on_preflight: false, skip_consumer_lookup: true"),
        plugin("openid-connect", 'issuer: "http://127.0.0.1:1/x", auth_methods: [bearer], audience_required: [a], hide_credentials: false')),
    route("report", "a.test", mtls_auth("ca-a", "run_on_preflight: false, skip_consumer_lookup: true, enforce: report")),
    route("acl", "", plugin("key-auth", ""), plugin("acl", "allow: [ops]")));

our $Config = <<'_EOC_';
    location ~ ^/(?:open|closed|both|report|acl)$ {
        set_by_lua_block $route { return ngx.var.uri:sub(2) }
        access_by_lua_block { require("resty.mtls").access(ngx.var.route) }
        content_by_lua_block {
            local headers = ngx.req.get_headers()
            ngx.say("in ", headers["X-Client-Cert-Serial"] or "-", " ", headers["X-Client-Cert-Dn"] or "-", " ",
                    (require("resty.mtls").client() or { verified = "nobody" }).verified)
        }
    }
_EOC_

run_blocks();

__DATA__

=== TEST 1: a preflight passes only with run_on_preflight: false in all plugins that authenticate
--- policy eval: $::Policy
--- config eval: $::Config
--- client
preflight=(-X OPTIONS -H 'Origin: https://app.test' -H 'Access-Control-Request-Method: PUT')
code a.test/open "${preflight[@]}"
code b.test/closed "${preflight[@]}"
code c.test/both "${preflight[@]}"
--- client_out
200 text/plain in - - nobody
401 application/json; charset=utf-8 {"message":"No required TLS certificate was sent"}
401 application/json; charset=utf-8 {"message":"No required TLS certificate was sent"}
--- no_error_log
[crit]
[alert]



=== TEST 2: a request that is not quite a preflight is authenticated
--- policy eval: $::Policy
--- config eval: $::Config
--- client
code a.test/open -X OPTIONS
code a.test/open -X OPTIONS -H 'Origin: https://app.test'
code a.test/open -X OPTIONS -H 'Access-Control-Request-Method: PUT'
code a.test/open -H 'Origin: https://app.test' -H 'Access-Control-Request-Method: PUT'
--- client_out
401 application/json; charset=utf-8 {"message":"No required TLS certificate was sent"}
401 application/json; charset=utf-8 {"message":"No required TLS certificate was sent"}
401 application/json; charset=utf-8 {"message":"No required TLS certificate was sent"}
401 application/json; charset=utf-8 {"message":"No required TLS certificate was sent"}
--- no_error_log
[crit]
[alert]



=== TEST 3: a preflight forwards nothing as verified, neither a certificate nor headers of the client
--- policy eval: $::Policy
--- config eval: $::Config
--- client
preflight=(-X OPTIONS -H 'Origin: https://app.test' -H 'Access-Control-Request-Method: PUT')
code a.test/open "${preflight[@]}" $(as client-a)
code a.test/open "${preflight[@]}" $(as client-a) -H 'X-Client-Cert-Dn: CN=forged' -H 'X-Client-Cert-Serial: 1'
code a.test/open $(as client-a) | sed 's/in [0-9A-F]* /in SERIAL /'
--- client_out
200 text/plain in - - FAILED:not verified
200 text/plain in - - FAILED:not verified
200 text/plain in SERIAL CN=client-a,O=Example SUCCESS



=== TEST 4: a preflight under a name with another certificate request is misdirected
--- policy eval: $::Policy
--- config eval: $::Config
--- client
preflight=(-X OPTIONS -H 'Origin: https://app.test' -H 'Access-Control-Request-Method: PUT')
curl -sk -o body -w '%{http_code}\n' --resolve other.test:$PORT:127.0.0.1 https://other.test:$PORT/open -H 'Host: a.test' "${preflight[@]}"
--- client_out
421
--- no_error_log
[crit]
[alert]



=== TEST 5: an acl of an authentication that is not here refuses every request of its route
--- policy eval: $::Policy
--- config eval: $::Config
--- client
code a.test/acl
code a.test/acl $(as client-a)
--- client_out
401 application/json; charset=utf-8 {"message":"No required TLS certificate was sent"}
401 application/json; charset=utf-8 {"message":"No required TLS certificate was sent"}
--- error_log
[mtls] 401 acl: no plugin authenticates the clients of this route
--- no_error_log
[crit]
[alert]



=== TEST 6: with enforce: report a misdirected preflight passes, and is reported once as any other request
--- policy eval: $::Policy
--- http_config eval: "    include $TestMtls::Root/nginx-conf/mtls-variables.conf;"
--- config
    add_header X-Decision "$mtls_decision $mtls_reason";
    location = /report {
        access_by_lua_block {
            local mtls = require("resty.mtls")
            mtls.access("report")
            mtls.access("report")
        }
        content_by_lua_block { ngx.say(ngx.var.mtls_decision, " ", ngx.var.mtls_reason) }
    }
    location = /decide {
        content_by_lua_block {
            local result = require("resty.mtls").decide("report")
            ngx.say(result.allowed, " ", result.decision, " ", result.reason, " ", result.verdict, " ", #result.headers)
        }
    }
    location = /metrics { content_by_lua_block { ngx.print(require("resty.mtls").metrics()) } }
--- client
preflight=(-X OPTIONS -H 'Origin: https://app.test' -H 'Access-Control-Request-Method: PUT')
for host in a.test other.test; do
    get $host/report -H 'Host: a.test' "${preflight[@]}"
    get $host/decide -H 'Host: a.test' "${preflight[@]}" $(as client-a)
done
get a.test/metrics | grep -E '^resty_mtls_(would_refuse|requests)_total'
--- client_out
pass 
true pass nil nil 0
would_refuse misdirected
true would_refuse misdirected nil 0
resty_mtls_requests_total{route="report",decision="pass"} 4
resty_mtls_would_refuse_total{route="report",status="421"} 2
--- error_log
[mtls] would refuse: 421 misdirected request: the TLS session was made with another certificate request than this Host's
