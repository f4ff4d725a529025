# decide(): the decision without its emission, in a host that runs plugins of its own in a coroutine.

use lib 't/lib';
use TestMtls;

our $Policy = policy("ca-a",
    route("a", "a.test", plugin("mtls-auth", "ca_certificates: [\@ca-a]"),
          plugin("client-cert-headers", "dialects: [rfc9440, xfcc]")),
    route("token", "", plugin("openid-connect", 'issuer: "http://127.0.0.1:1", auth_methods: [bearer], audience_required: [x]')))
    . "consumers: [{username: client-a}]\n";

our $Http = "    include $TestMtls::Root/nginx-conf/mtls-variables.conf;\n";

# The plugin of docs/lua-api.md under its marker "decide: lua".
open my $in, '<', "$TestMtls::Root/docs/lua-api.md" or die $!;
my ($plugin) = do { local $/; <$in> } =~ /^<!-- decide: lua -->\n```lua\n(.*?)^```$/ms or die "no example";

# The part of a gateway that runs the plugins of a request, each in a coroutine, and answers for them.
our $Host = <<"_EOC_";
    init_worker_by_lua_block {
        local mtls = require "resty.mtls"
        local plugin = {}
        $plugin
        function run_plugins(conf)
            local host = { set_upstream_header = ngx.req.set_header }
            function host.exit(status, body, headers)
                host.response = { status = status, body = body, headers = headers }
                coroutine.yield()
            end
            local run = coroutine.create(plugin.access)
            local ok, err = coroutine.resume(run, conf, host)
            if not ok then
                error(err)
            end

            if not host.response then
                ngx.ctx.consumer = host.authenticated

                return
            end

            ngx.status = host.response.status
            for _, header in ipairs(host.response.headers) do
                ngx.header[header[1]] = header[2]
            end
            ngx.print(host.response.body)

            return ngx.exit(host.response.status)
        end
    }
_EOC_

our $Config = <<'_EOC_';
    location /a {
        access_by_lua_block { run_plugins { route = "a" } }
        proxy_set_header X-Seen $mtls_consumer;
        proxy_pass $TEST_NGINX_UPSTREAM;
    }
    location /token { access_by_lua_block { run_plugins { route = "token" } } content_by_lua_block { ngx.say("in") } }
    location /dump {
        rewrite_by_lua_block {
            ngx.ctx.first = require("resty.mtls").decide("a")
            ngx.ctx.second = require("resty.mtls").decide("a")
        }
        access_by_lua_block { if ngx.ctx.first.allowed then require("resty.mtls").access("a") end }
        content_by_lua_block {
            local function show(result)
                local names = {}
                for i, header in ipairs(result.headers) do names[i] = header[1] end
                ngx.say(tostring(result.allowed), " ", tostring(result.status), " ", result.decision, " ", tostring(result.reason),
                        " ", tostring(result.verdict), " ", result.consumer and result.consumer.username or "-", " ",
                        table.concat(names, ","))
            end
            show(ngx.ctx.first)
            show(ngx.ctx.second)
        }
    }
    location /look {
        access_by_lua_block {
            require("resty.mtls").decide("a")
            require("resty.mtls").access("a")
            require("resty.mtls").access("a")
        }
        proxy_pass $TEST_NGINX_UPSTREAM;
    }
    location /then-access {
        rewrite_by_lua_block { require("resty.mtls").decide("a") }
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block { ngx.say("in") }
    }
    location /count { content_by_lua_block { ngx.print(require("resty.mtls").metrics()) } }
    location /wrong { content_by_lua_block { local ok, err = pcall(require("resty.mtls").decide, 7) ngx.say(err) } }
_EOC_

run_blocks();

__DATA__

=== TEST 1: a host that runs decide() in a coroutine lets in, refuses and sets headers as access() does
--- policy eval: $::Policy
--- http_config eval: $::Http . $::Host
--- config eval: $::Config
--- client
get a.test/a $(as client-a) -H 'X-Consumer-Username: forged' | tr -d '\r' | grep -oE '^(X-Consumer-Username: .*|X-Seen: .*|Client-Cert: :)' | sort
code a.test/a
code a.test/a $(as client-b)
get n.test/token -o /dev/null -D - | tr -d '\r' | grep -iE '^(HTTP|WWW)'
get n.test/wrong | sed 's/.*: mtls/mtls/'
--- client_out
Client-Cert: :
X-Consumer-Username: client-a
X-Seen: client-a
401 application/json; charset=utf-8 {"message":"No required TLS certificate was sent"}
401 application/json; charset=utf-8 {"message":"TLS certificate failed verification"}
HTTP/1.1 401 Unauthorized
WWW-Authenticate: Bearer
mtls.decide: route must be a string, got number
--- error_log
[mtls] 401 no certificate



=== TEST 2: decide() ends nothing, and a second call returns the same and counts nothing
--- policy eval: $::Policy
--- http_config eval: $::Http . $::Host
--- config eval: $::Config
--- client
get a.test/dump $(as client-a)
get a.test/dump $(as client-b)
get a.test/dump $(as client-int chain)
get a.test/dump
get a.test/then-access -o /dev/null -w '%{http_code}\n'
get a.test/count | grep '^resty_mtls_requests_total' | grep -v 'route=""'
--- client_out
true nil pass nil SUCCESS client-a Client-Cert,x-forwarded-client-cert,X-Consumer-ID,X-Consumer-Username
true nil pass nil SUCCESS client-a Client-Cert,x-forwarded-client-cert,X-Consumer-ID,X-Consumer-Username
false 401 refused untrusted FAILED:unable to get local issuer certificate - Content-Type
false 401 refused untrusted FAILED:unable to get local issuer certificate - Content-Type
false 401 refused no_consumer FAILED:no consumer - Content-Type
false 401 refused no_consumer FAILED:no consumer - Content-Type
false 401 no_certificate no_certificate nil - Content-Type
false 401 no_certificate no_certificate nil - Content-Type
401
resty_mtls_requests_total{route="a",decision="401"} 4
resty_mtls_requests_total{route="a",decision="pass"} 1
--- error_log
[mtls] 401



=== TEST 3: access() after decide() sets the upstream headers, and counts nothing more
--- policy eval: $::Policy
--- http_config eval: $::Http . $::Host
--- config eval: $::Config
--- client
get a.test/look $(as client-a) | tr -d '\r' | grep -oE '^(X-Consumer-Username: .*|Client-Cert: :)' | sort
get a.test/count | grep '^resty_mtls_requests_total' | grep -v 'route=""'
--- client_out
Client-Cert: :
X-Consumer-Username: client-a
resty_mtls_requests_total{route="a",decision="pass"} 1
