# A shortage of this machine is no answer about the certificate: the request gets 503, and no host is marked as failed.

use lib 't/lib';
use TestMtls;
use TestRevocation;

our $Policy = revocation_policy(
    [ignore => 'revocation_check_mode: IGNORE_CA_ERROR'],
    [strict => 'revocation_check_mode: STRICT'],
) . <<'_EOC_';
- name: token
  plugins:
  - {name: openid-connect, config: {issuer: "http://127.0.0.1:HTTP_PORT/idp", auth_methods: [bearer], client_id: [gw]}}
- name: introspection
  plugins:
  - {name: openid-connect, config: {issuer: "http://127.0.0.1:HTTP_PORT/idp", auth_methods: [introspection], client_id: [gw], client_secret: [s], introspection_endpoint: "http://127.0.0.1:HTTP_PORT/idp/introspect"}}
_EOC_
$Policy =~ s/HTTP_PORT/$ENV{TEST_NGINX_SERVER_PORT} || server_port()/ge;

# hold(what) takes all there are, until release(). It runs in a timer, so that its sockets outlive the request.
our $Http = init_http('fetch_allow = { "127.0.0.0/8" }') . <<'_EOC_';
    map "" $mtls_decision { default ""; }
    log_format decision '$uri $status $mtls_decision';
    lua_shared_dict mtls_metrics 1m;
    init_worker_by_lua_block {
        local t = {}
        package.loaded["t.hold"] = t

        local hold = {}
        function hold.connections(held)
            local sock = ngx.socket.udp()
            if not sock:setpeername("127.0.0.1", 9) then
                return false
            end

            held[#held + 1] = sock
            return true
        end

        function hold.descriptors(held)
            local file = io.open("/dev/null")
            held[#held + 1] = file
            return file ~= nil
        end

        function t.hold(what)
            t.is_released, t.is_held = false, false
            ngx.timer.at(0, function()
                local held = {}
                while hold[what](held) do end
                t.is_held = true
                repeat ngx.sleep(0.01) until t.is_released
                for _, one in ipairs(held) do
                    one:close()
                end
                t.is_held = false
            end)
            repeat ngx.sleep(0.01) until t.is_held
        end

        function t.release()
            t.is_released = true
            repeat ngx.sleep(0.01) until not t.is_held
        end
    }
_EOC_

# Waits that end early, as they do now and then by nginx's coarse clock.
our $Early = $Http =~ s/(init_worker_by_lua_block \{\n)/$1 . <<'_EOC_'/er;
        local semaphore = require "ngx.semaphore"
        local wait = semaphore.wait
        function semaphore.wait(self, seconds)
            return wait(self, seconds > 0.01 and seconds - 0.004 or seconds)
        end

_EOC_

our $Config = $TestRevocation::Config . <<'_EOC_';
    access_log logs/decisions decision;
    location /hold/ {
        content_by_lua_block {
            -- This fails before the worker runs out of anything, so that errno is another one.
            ngx.socket.tcp():connect("127.0.0.1", 1)
            require("t.hold").hold(ngx.var.uri:sub(7))
            ngx.say("held")
        }
    }
    location /release {
        content_by_lua_block {
            require("t.hold").release()
            ngx.say("released")
        }
    }
    location /fetch {
        content_by_lua_block {
            require("resty.mtls.internal.net.http").init { nameservers = { "127.0.0.1:1" } }
            for _, url in ipairs { "http://127.0.0.1:1/", "http://[::1]:1/", "http://name.test/" } do
                local _, err, kind = require("resty.mtls.internal.net.http").request { url = url, origin = "operator", timeout = 500 }
                ngx.say(kind or "failure", " ", (err:gsub(":%d+/", ":PORT/")))
            end
        }
    }
    location /metrics { content_by_lua_block { ngx.print(require("resty.mtls").metrics()) } }
    location /idp/ {
        content_by_lua_block {
            ngx.say(ngx.var.uri:find("introspect") and '{"active":true}' or "{}")
        }
    }
_EOC_

# one_connection CASE STEP...: requests on one connection; a number is a pause. Prints statuses, and bodies of 200 and
# 503.
our $Live = $Client . <<'_EOC_';
one_connection() {
    python3 - "$PORT" "$REV/$1.crt" "$REV/$1.key" "${@:2}" <<'END'
import base64, http.client, socket, ssl, sys, time
port, certificate, key, *steps = sys.argv[1:]
context = ssl._create_unverified_context()
context.load_cert_chain(certificate, key)
b64 = lambda text: base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()
token = "opaque" if "introspection" in " ".join(steps) else ".".join(map(b64, ('{"alg":"RS256","kid":"k"}', '{}', "signature")))
class Connection(http.client.HTTPSConnection):
    def connect(self):
        assert not hasattr(self, "used"), "the connection was closed"
        self.used = True
        self.sock = context.wrap_socket(socket.create_connection((self.host, self.port)), server_hostname="a.test")
connection = Connection("127.0.0.1", int(port), context=context)
for step in steps:
    if step.replace(".", "").isdigit():
        time.sleep(float(step))
        continue
    connection.request("GET", "/" + step, headers={"Host": "a.test", "Authorization": "Bearer " + token})
    answer = connection.getresponse()
    body = answer.read().decode().strip()
    print(step, answer.status, body if answer.status in (200, 503) else "")
END
}
shortages() { curl -s "http://127.0.0.1:$HTTP_PORT/metrics" | grep -c "^resty_mtls_shortages_total{resource=\"$1\"} [1-9]"; }
_EOC_

run_blocks();

__DATA__

=== TEST 1: access() answers 503 without a free connection in each mode, and gets an answer when there is one
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Live . <<'_EOC_'
for case in revoked good; do
    one_connection $case hold/connections to/ignore to/strict release
    one_connection $case to/ignore to/strict
done
fetches
shortages connections
grep '^/to' "$(dirname "$ERROR_LOG")/decisions" | sort | uniq -c | sed 's/^ *//'
grep -o '\[mtls\] 503 .*, client' "$ERROR_LOG" | sed 's/127.0.0.1:[0-9]*/HOST/g; s/port [0-9]*/port PORT/' | sort -u
_EOC_
--- client_out
hold/connections 200 held
to/ignore 503 {"message":"Service Unavailable"}
to/strict 503 {"message":"Service Unavailable"}
release 200 released
to/ignore 401 
to/strict 401 
hold/connections 200 held
to/ignore 503 {"message":"Service Unavailable"}
to/strict 503 {"message":"Service Unavailable"}
release 200 released
to/ignore 200 in
to/strict 200 in
POST /revoked/good
POST /good/good
1
1 /to/ignore 200 pass
1 /to/ignore 401 refused
2 /to/ignore 503 unavailable
1 /to/strict 200 pass
1 /to/strict 401 refused
2 /to/strict 503 unavailable
[mtls] 503 http://HOST/good/good: shared_cache.get: http.request: http://HOST/good/good: cannot connect to 127.0.0.1 port PORT: no connection is left (worker_connections), client
[mtls] 503 http://HOST/revoked/good: shared_cache.get: http.request: http://HOST/revoked/good: cannot connect to 127.0.0.1 port PORT: no connection is left (worker_connections), client
--- no_error_log
revocation status unknown
not tried again so soon



=== TEST 2: access() answers 503 without a free file descriptor
--- main_config
    worker_rlimit_nofile 200;
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Live . <<'_EOC_'
for case in revoked crl-revoked; do
    one_connection $case hold/descriptors to/ignore release
    one_connection $case to/ignore
done
shortages descriptors
grep -o '\[mtls\] 503 .*, client' "$ERROR_LOG" | sed 's/127.0.0.1:[0-9]*/HOST/g; s/port [0-9]*/port PORT/' | sort -u
_EOC_
--- client_out
hold/descriptors 200 held
to/ignore 503 {"message":"Service Unavailable"}
release 200 released
to/ignore 401 
hold/descriptors 200 held
to/ignore 503 {"message":"Service Unavailable"}
release 200 released
to/ignore 401 
1
[mtls] 503 http://HOST/crl-revoked/crl: shared_cache.get: http.request: http://HOST/crl-revoked/crl: cannot connect to 127.0.0.1 port PORT: no file descriptor is left (worker_rlimit_nofile), client
[mtls] 503 http://HOST/revoked/good: shared_cache.get: http.request: http://HOST/revoked/good: cannot connect to 127.0.0.1 port PORT: no file descriptor is left (worker_rlimit_nofile), client
--- no_error_log
revocation status unknown
not tried again so soon



=== TEST 3: access() answers 503 to a token when issuer documents or introspection cannot be fetched
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config eval: $::Config
--- client eval
$::Live . <<'_EOC_'
one_connection good hold/connections to/introspection release
one_connection good to/introspection
one_connection good hold/connections to/token release
one_connection good to/token
grep '^/to' "$(dirname "$ERROR_LOG")/decisions"
_EOC_
--- client_out
hold/connections 200 held
to/introspection 503 {"message":"Service Unavailable"}
release 200 released
to/introspection 200 in
hold/connections 200 held
to/token 503 {"message":"Service Unavailable"}
release 200 released
to/token 503 {"message":"Service Unavailable"}
/to/introspection 503 unavailable
/to/introspection 200 pass
/to/token 503 unavailable
/to/token 503 issuer_unavailable
--- error_log
no connection is left (worker_connections)
discovery document: 
--- no_error_log
not tried again so soon



=== TEST 4: access() distinguishes a server that does not answer from a shortage, by address and by name
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- main_config
    worker_rlimit_nofile 200;
--- config eval: $::Config
--- client eval
$::Live . <<'_EOC_'
one_connection good fetch
for what in connections descriptors; do
    one_connection good hold/$what fetch release
done
_EOC_
--- client_out_like
\Afetch 200 failure http.request: http://127.0.0.1:PORT/: cannot connect to 127.0.0.1 port 1: connection refused
failure http.request: http://\[::1\]:PORT/: cannot connect to \[::1\] port 1: [^\n]*
failure http.request: http://name.test/: host 'name.test' cannot be resolved: (?:nameserver 127.0.0.1 port 1: )?connection refused
hold/connections 200 held
fetch 200 shortage http.request: http://127.0.0.1:PORT/: cannot connect to 127.0.0.1 port 1: no connection is left \(worker_connections\)
shortage http.request: http://\[::1\]:PORT/: cannot connect to \[::1\] port 1: no connection is left \(worker_connections\)
shortage http.request: http://name.test/: host 'name.test' cannot be resolved: no connection is left \(worker_connections\)
release 200 released
hold/descriptors 200 held
fetch 200 shortage http.request: http://127.0.0.1:PORT/: cannot connect to 127.0.0.1 port 1: no file descriptor is left \(worker_rlimit_nofile\)
shortage http.request: http://\[::1\]:PORT/: cannot connect to \[::1\] port 1: no file descriptor is left \(worker_rlimit_nofile\)
shortage http.request: http://name.test/: host 'name.test' cannot be resolved: no file descriptor is left \(worker_rlimit_nofile\)
release 200 released
\z
--- no_error_log
not tried again so soon



=== TEST 5: access() fetches and uses answers with a full dictionary and without timers
--- user_files eval: $::Policy =~ s/http_timeout: 2500/http_timeout: 2500, cert_cache_ttl: 5/gr
--- http_config eval: $::Http =~ s/lua_shared_dict mtls 10m/lua_max_pending_timers 1; lua_shared_dict mtls 12k/r
--- config eval
$::Config . <<'_EOC_'
    location /fill {
        content_by_lua_block {
            local dict = ngx.shared.mtls
            for size = 4000, 8, -8 do
                for i = 1, 1000 do
                    if not dict:safe_set("filler" .. size .. "/" .. i, ("x"):rep(size)) then
                        break
                    end
                end
            end

            -- metrics() has one timer.
            while ngx.timer.at(100, function() end) do end
            ngx.say("full")
        }
    }
_EOC_
--- client eval
$::Live . <<'_EOC_'
one_connection good fill
for _ in 1 2; do
    echo "$(request ignore revoked) $(request strict revoked) $(request ignore good) $(request strict good) $(request ignore crl-revoked) $(request strict crl)"
    sleep 4.2
done
echo "$(shortages dictionary) $(shortages timers)"
_EOC_
--- client_out
fill 200 full
401 401 200 200 401 200
401 401 200 200 401 200
1 1
--- error_log
[mtls] lua_shared_dict mtls takes no answer
[mtls] no timer to refresh revocation statuses: too many pending timers
--- no_error_log
revocation status unknown
--- timeout: 30



=== TEST 6: access() answers 503 without a free connection although its wait for the timer ends some milliseconds early
--- user_files eval: $::Policy
--- http_config eval: $::Early
--- config eval: $::Config
--- client eval
$::Live . <<'_EOC_'
one_connection revoked hold/connections to/ignore to/strict release
_EOC_
--- client_out
hold/connections 200 held
to/ignore 503 {"message":"Service Unavailable"}
to/strict 503 {"message":"Service Unavailable"}
release 200 released
--- no_error_log
revocation status unknown
not tried again so soon
