# mtls.reload(): a new policy in running workers.

use lib 't/lib';
use TestMtls;

our $Policy = policy("ca-a",
    route("a", "a.test", mtls_auth("ca-a", "send_ca_dn: true, skip_consumer_lookup: true")));

# The same policy for clients of another CA
our $Other = $Policy =~ s/ca-a/ca-b/gr;

our $Config = <<'_EOC_';
    location /t {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block { ngx.say(require("resty.mtls").client().verified) }
    }
    location /status {
        content_by_lua_block {
            local status = require("resty.mtls").status()
            ngx.say("routes=", status.counts.routes, " epoch=", status.epoch, " last_error=", status.last_error)
        }
    }
    location /reload {
        content_by_lua_block { ngx.say(require("resty.mtls").reload("$TEST_NGINX_HTML_DIR/" .. ngx.var.arg_file)) }
    }
_EOC_

our $Client = <<'_EOC_';
worker=$(pgrep -P "$(cat "$PID_FILE")")
epoch() { get a.test/status | sed 's/.*epoch=\([0-9]*\).*/\1/'; }

# long.yaml: a policy of N routes
long() { { cat policy.yaml; seq "$1" | sed 's/.*/- {name: r&, snis: [r&.test]}/'; } > long.yaml; }

# threads PID: the threads of a process, by name
threads() { cat "/proc/$1"/task/*/comm | sort | uniq -c | sed 's/^ *//' | paste -sd ,; }
_EOC_

run_blocks();

__DATA__

=== TEST 1: reload() compiles in the background while the worker serves requests
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
long 30000
echo "$(threads "$worker")"
before=$(epoch)
long=$(printf 'l%.0s' {1..150}).yaml
mv long.yaml "$long"
get "a.test/reload?file=$long" > done &
served=0
while [ ! -s done ]; do
    [ "$(get a.test/t $(as client-a))" = SUCCESS ] && served=$((served + 1))
done
cat done
[ "$served" -gt 2 ] && echo served meanwhile || echo "served $served"
get a.test/status | sed "s/epoch=$((before + 1))/epoch + 1/"
threads "$worker"
threads "$(cat "$PID_FILE")"
_EOC_
--- client_out
1 nginx
true
served meanwhile
routes=30001 epoch + 1 last_error=nil
1 mtls-policy,1 nginx
1 nginx
--- error_log eval
qr/\[notice\] .*\[mtls\] policy reloaded: epoch (\d+) -> \d+, digest [0-9a-f]{64} -> [0-9a-f]{64}, .*\/html\/l{150}\.yaml,/
--- no_error_log
[error]
[alert]



=== TEST 2: reload() blocks in phases that cannot yield, and works in timers
--- policy eval: $::Policy
--- config eval
$::Config . <<'_EOC_';
    location /filter {
        header_filter_by_lua_block {
            ngx.header["X-Reload"] = tostring(require("resty.mtls").reload("$TEST_NGINX_HTML_DIR/long.yaml"))
        }
        content_by_lua_block { ngx.say("hello") }
    }
    location /timer {
        content_by_lua_block {
            local said
            ngx.timer.at(0, function()
                local ok, err = require("resty.mtls").reload { _format_version = "3.0", routes = { { name = "x" } } }
                said = tostring(ok) .. " " .. tostring(err)
            end)
            while not said do
                ngx.sleep(0.01)
            end
            ngx.say(said)
        }
    }
_EOC_
--- client eval
$::Client . <<'_EOC_';
long 3000
get a.test/filter -D - -o /dev/null | grep -i x-reload | tr -d '\r'
get a.test/status | sed 's/epoch=[0-9]* //'
get a.test/timer
get a.test/status | sed 's/epoch=[0-9]* //'
_EOC_
--- client_out
X-Reload: true
routes=3001 last_error=nil
true nil
routes=1 last_error=nil
--- no_error_log
[error]
[alert]



=== TEST 3: reload() of two policies at once puts the later one in force
--- policy eval: $::Policy
--- config eval
$::Config . <<'_EOC_';
    location /both {
        content_by_lua_block {
            local mtls = require "resty.mtls"
            local dir = "$TEST_NGINX_HTML_DIR/"
            local one = ngx.thread.spawn(mtls.reload, dir .. "long.yaml")
            local two = ngx.thread.spawn(mtls.reload, dir .. "policy.yaml")
            local _, a = ngx.thread.wait(one)
            local _, b = ngx.thread.wait(two)
            ngx.say(a, " ", b)
        }
    }
_EOC_
--- client eval
$::Client . <<'_EOC_';
long 3000
for i in 1 2 3; do
    get a.test/both
    get a.test/status | sed 's/epoch=[0-9]* //'
done
_EOC_
--- client_out
true true
routes=1 last_error=nil
true true
routes=1 last_error=nil
true true
routes=1 last_error=nil
--- no_error_log
[error]
[alert]



=== TEST 4: reload() of an invalid policy returns the errors, logs one line and sets last_error of status()
--- policy eval: $::Policy
--- user_files
>>> bad.yaml
_format_version: "3.0"
rutes: []
nothing: 1
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
before=$(epoch)
get a.test/reload?file=bad.yaml | sed 's/nil.*bad/nil bad/'
get a.test/reload?file=absent.yaml | sed 's/nil.*absent/nil absent/'
get a.test/status | sed "s/epoch=$before/epoch/; s/=\/.*absent/=absent/"
get a.test/t $(as client-a)
get a.test/reload?file=policy.yaml
get a.test/status | sed "s/epoch=$((before + 1))/epoch + 1/"
grep -c '\[error\]' "$ERROR_LOG"
_EOC_
--- client_out_like
\Anil bad\.yaml:2:1: unknown field 'rutes', did you mean 'routes'\?
.*bad\.yaml:3:1: unknown field 'nothing'.*
nil absent\.yaml: cannot be read: No such file or directory \(os error 2\)
routes=1 epoch last_error=absent\.yaml: cannot be read: No such file or directory \(os error 2\)
SUCCESS
true
routes=1 epoch \+ 1 last_error=nil
2
\z
--- error_log eval
[
    qr/\[mtls\] policy not reloaded: .*bad\.yaml:2:1: unknown field 'rutes', did you mean 'routes'\? \(and 1 more: run resty-mtls check\),/,
    qr/\[mtls\] policy not reloaded: .*absent\.yaml: cannot be read: No such file or directory \(os error 2\),/,
]



=== TEST 5: reload() raises for values that are no policy
--- policy eval: $::Policy
--- config
    location /t {
        content_by_lua_block {
            local mtls = require "resty.mtls"
            ngx.say((select(2, pcall(mtls.reload, 1))))
            ngx.say((select(2, pcall(mtls.reload, { routes = print }))))
        }
    }
--- response_body
mtls.reload: policy must be a path, a list of paths or a table, got number
mtls.reload: the policy table cannot be encoded: Cannot serialise function: type not supported



=== TEST 6: reload() keeps sessions whose certificate request stays the same, and ends those of other CAs
--- policy eval: $::Policy
--- user_files eval
">>> other.yaml\n" . TestMtls::expand_policy($::Other)
--- http_config
    ssl_session_tickets on;
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
resume() { tls tls=$version sni=a.test path=/t as="$1" sess_in=s | facts reused status body; }
for version in 1.2 1.3; do
    get a.test/reload?file=policy.yaml
    tls tls=$version sni=a.test path=/t as=client-a sess_out=s | facts reused status body
    long 10
    get a.test/reload?file=long.yaml
    resume client-a
    get a.test/reload?file=other.yaml
    resume client-a
    resume client-b
done
_EOC_
--- client_out
true
reused=0 status=200 body=SUCCESS
true
reused=1 status=200 body=SUCCESS
true
reused=0 status=401 body={"message":"TLS certificate failed verification"}
reused=0 status=200 body=SUCCESS
true
reused=0 status=200 body=SUCCESS
true
reused=1 status=200 body=SUCCESS
true
reused=0 status=401 body={"message":"TLS certificate failed verification"}
reused=0 status=200 body=SUCCESS
--- no_error_log
[alert]
[crit]



=== TEST 7: reload() in progress does not keep a worker from exiting
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
master=$(cat "$PID_FILE")
long 60000
for signal in QUIT TERM HUP; do
    get a.test/reload?file=long.yaml > /dev/null &
    sleep 0.1
    old=$(pgrep -P "$master")
    if [ "$signal" = HUP ]; then kill -HUP "$master"; else kill -$signal $old; fi
    for _ in $(seq 300); do
        sleep 0.02
        [ -n "$(pgrep -P "$master")" ] && [ ! -e "/proc/$old" ] && break
    done
    echo "$signal $(get a.test/t $(as client-a))"
done
grep -c 'exited with code 0' "$ERROR_LOG"
wait
_EOC_
--- client_out
QUIT SUCCESS
TERM SUCCESS
HUP SUCCESS
3
--- no_error_log
[alert]
[crit]
exited on signal



=== TEST 8: reload() accepts any bytes as a path, and status() returns the error of the last reload
--- policy eval: $::Policy
--- config eval
$::Config . <<'_EOC_';
    location /bytes {
        content_by_lua_block {
            local mtls = require "resty.mtls"
            ngx.say((select(2, mtls.reload("/none"))))
            ngx.say((select(2, mtls.reload("/none\255"))) == mtls.status().last_error)
            ngx.say((mtls.status().last_error:gsub(".*: cannot", "cannot")))
        }
    }
_EOC_
--- client
get a.test/bytes
--- client_out
/none: cannot be read: No such file or directory (os error 2)
true
cannot be read: No such file or directory (os error 2)
--- no_error_log
[alert]
[crit]



=== TEST 9: reload() that takes over 10 seconds logs one warning and goes on
--- policy eval: $::Policy
--- http_config
    init_by_lua_block {
        -- For the module, each pause lasts 6 seconds.
        local real = { now = ngx.now, sleep = ngx.sleep }
        local offset = 0
        ngx.now = function() return real.now() + offset end
        ngx.sleep = function(seconds)
            offset = offset + 6
            real.sleep(seconds)
        end
        local mtls = require "resty.mtls"
        ngx.now, ngx.sleep = real.now, real.sleep
        mtls.init { policy = "$TEST_NGINX_HTML_DIR/policy.yaml", watch = false }
    }
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
long 30000
for _ in 1 2; do get "a.test/reload?file=long.yaml"; echo '# another' >> long.yaml; done
get a.test/status | sed 's/ epoch=.*//'
grep -o '\[warn\].*\[mtls\] policy not reloaded.*' "$ERROR_LOG" | sed 's/.*\[mtls\]/[mtls]/; s/, client:.*//'
_EOC_
--- client_out
true
true
routes=30001
[mtls] policy not reloaded yet: reading and compiling it takes over 10 s
[mtls] policy not reloaded yet: reading and compiling it takes over 10 s
--- no_error_log
[error]
[alert]



=== TEST 10: reload() does not grow the memory of a worker
--- policy eval: $::Policy
--- config
    location /reload {
        content_by_lua_block {
            for _ = 1, 100 do
                assert(require("resty.mtls").reload())
            end
        }
    }
--- client
worker=$(pgrep -P "$(cat "$PID_FILE")" | head -n 1)
rss() { awk '/^RssAnon/ { print $2 }' "/proc/$worker/status"; }
for _ in 1 2; do get a.test/reload; done
before=$(rss)
for _ in 1 2 3 4 5; do get a.test/reload; done
after=$(rss)
[ $((after - before)) -le $((2048 + SLACK)) ] && echo flat || echo "grew from $before to $after KB"
--- client_out
flat
--- no_error_log
[error]
[alert]
