# After a policy has been in force, no worker serves an earlier one, whatever happens to files and workers.

use lib 't/lib';
use TestMtls;

our $Policy = policy("ca-a",
    route("a", "a.test", mtls_auth("ca-a", "send_ca_dn: true, skip_consumer_lookup: true")));

# The same policy for clients of another CA
our $Other = $Policy =~ s/ca-a/ca-b/gr;

our $Files = ">>> other.yaml\n" . TestMtls::expand_policy($Other);

our $Config = <<'_EOC_';
    location /t {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block { ngx.say(require("resty.mtls").client().verified) }
    }
    location /status {
        content_by_lua_block {
            local status = require("resty.mtls").status()
            ngx.say(ngx.worker.id(), " routes=", status.counts.routes, " epoch=", status.epoch, " node=",
                    status.node.epoch, " last_error=", status.last_error and (status.last_error:gsub(".*/", "")))
        }
    }
    location /reload {
        content_by_lua_block {
            ngx.say(require("resty.mtls").reload({ _format_version = "3.0", routes = { { name = "a" } } }))
        }
    }
    location /metrics {
        content_by_lua_block { ngx.print(require("resty.mtls").metrics()) }
    }
    location /workers {
        content_by_lua_block {
            for _, worker in ipairs(require("resty.mtls").status().node.workers) do
                ngx.say(worker.worker, " epoch=", worker.epoch, " failed=", worker.failed, " since=",
                        ngx.time() - worker.since < 100)
            end
        }
    }
_EOC_

our $Client = <<'_EOC_';
master=$(cat "$PID_FILE")

# Kills all workers and waits until the master has replaced them.
kill_workers() {
    local old count
    old=$(pgrep -P "$master")
    count=$(wc -l <<< "$old")
    # shellcheck disable=SC2086  # words
    kill -9 $old
    for _ in $(seq 200); do
        sleep 0.02
        [ "$(pgrep -P "$master" | grep -vcF "$old")" = "$count" ] && return
    done
    echo "workers do not come back"
}

# statuses NAME: the statuses of twelve requests of NAME, each on its own connection
statuses() {
    for _ in $(seq 12); do
        get a.test/t $(as "$1") -o /dev/null -w '%{http_code}\n'
    done | sort | uniq -c | sed 's/^ *//'
}

# Waits for the two seconds within which every worker must have taken a changed file.
wait_for_watch() { sleep "${1:-2}"; }

# wait_for_status TEXT: waits until the status has this text, because a large policy takes as long as the machine needs.
wait_for_status() {
    for _ in $(seq 300); do
        get a.test/status | grep -qF "$1" && return
        sleep 0.1
    done
    echo "no '$1' in the status"
}
_EOC_

run_blocks();

__DATA__

=== TEST 1: init() in respawned workers serves the policy in force when its file has become garbage
--- worker_processes: 2
--- policy eval: $::Policy
--- user_files eval: $::Files
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
reach_workers 2
statuses client-a
mv other.yaml policy.yaml
wait_for_watch
statuses client-a
echo 'rutes: []' > policy.yaml
wait_for_watch
kill_workers
statuses client-a
statuses client-b
wait_for_watch
reach_workers 2
get a.test/status | sed 's/^. //; s/epoch=[0-9]*/epoch/; s/node=[0-9]*/node/'
_EOC_
--- client_out
12 200
12 401
12 401
12 200
routes=1 epoch node last_error=policy.yaml:1:1: the required field '_format_version' is missing
--- error_log
[mtls] policy not reloaded: 
--- no_error_log
[crit]



=== TEST 2: init() in respawned workers serves the policy in force when its file is gone
--- policy eval: $::Policy
--- user_files eval: $::Files
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
reach_workers 1
mv other.yaml policy.yaml
wait_for_watch
rm policy.yaml
for _ in 1 2; do
    kill_workers
    statuses client-a
    statuses client-b
done
_EOC_
--- client_out
12 401
12 200
12 401
12 200
--- no_error_log
[crit]



=== TEST 3: init() on a HUP with a bad file leaves old and respawned workers with the policy in force
--- worker_processes: 2
--- policy eval: $::Policy
--- user_files eval: $::Files
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
reach_workers 2
mv other.yaml policy.yaml
wait_for_watch
echo 'rutes: []' > policy.yaml
kill -HUP "$master"
wait_for_watch 1
statuses client-a
kill_workers
statuses client-a
statuses client-b
_EOC_
--- client_out
12 401
12 401
12 200
--- error_log
init_by_lua error: [mtls] 
--- no_error_log
[crit]



=== TEST 4: init() on a HUP with a good file puts another policy in force, for respawned workers too
--- worker_processes: 2
--- policy eval: $::Policy
--- user_files eval: $::Files . ">>> first.yaml\n" . TestMtls::expand_policy($::Policy)
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
reach_workers 2
mv other.yaml policy.yaml
wait_for_watch
cp first.yaml policy.yaml
kill -HUP "$master"
wait_for_watch 1
reach_workers 2
statuses client-a
rm policy.yaml
kill_workers
statuses client-a
statuses client-b
_EOC_
--- client_out
12 200
12 200
12 401
--- no_error_log
[crit]



=== TEST 5: reload() of a table reaches every worker
--- worker_processes: 2
--- policy eval: $::Policy =~ s/mtls-auth/mtls-auth\n    enabled: false/r
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
reach_workers 2
before=$(get a.test/status | sed 's/.*node=\([0-9]*\).*/\1/')
get a.test/reload
wait_for_watch
for _ in $(seq 40); do get a.test/status | sed 's/ last.*//'; done | sort -u | sed "s/=$((before + 1))/=+1/g"
kill_workers
for _ in $(seq 40); do get a.test/status | sed 's/ last.*//'; done | sort -u | sed "s/=$((before + 1))/=+1/g"
get a.test/workers | sed "s/=$((before + 1))/=+1/"
_EOC_
--- client_out
true
0 routes=1 epoch=+1 node=+1
1 routes=1 epoch=+1 node=+1
0 routes=1 epoch=+1 node=+1
1 routes=1 epoch=+1 node=+1
0 epoch=+1 failed=false since=true
1 epoch=+1 failed=false since=true
--- no_error_log
[crit]



=== TEST 6: access() in a respawned worker answers 503 until there is memory for the policy in force
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
reach_workers 1
{ sed 's/ca-a/ca-a/' policy.yaml; seq 60000 | sed 's/.*/- {name: r&, snis: [r&.test]}/'; } > long
mv long policy.yaml
wait_for_status routes=60001
get a.test/status | sed 's/.*\(routes=[0-9]*\).*last/\1 last/'
prlimit --pid "$master" --as=$(( $(awk '/VmSize/{print $2}' "/proc/$master/status") * 1024 + HEADROOM * 1048576 )):
kill_workers
code a.test/t $(as client-a)
wait_for_watch
statuses client-a
prlimit --pid "$(pgrep -P "$master")" --as=unlimited:
wait_for_status routes=60001
statuses client-a
_EOC_
--- client_out
routes=60001 last_error=nil
503 application/json; charset=utf-8 {"message":"Service Unavailable"}
12 503
12 200
--- error_log
[mtls] 503 a newer policy than that of this worker is in force
--- no_error_log
exited on signal 6
[crit]



=== TEST 7: reload() refuses a policy that takes a plugin from a route, with the route's name and the remedy
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
reach_workers 1
cp policy.yaml good
sed '/plugins:/,$d' good > policy.yaml
wait_for_watch
get a.test/status | sed 's/.*last_error=//'
statuses client-b
echo said
sed 's/name: mtls-auth/name: mtls-auth\n    enabled: false/' good > policy.yaml
wait_for_watch
get a.test/status | sed 's/.*last_error=//'
get a.test/t -o /dev/null -w '%{http_code}\n'
_EOC_
--- client_out
policy.yaml: refused, since route 'a' would lose mtls-auth or header-cert-auth, which the document no longer has; where that is meant, set 'enabled: false' on the plugin, remove the route, or reload by HUP
12 401
said
nil
500
--- error_log
[mtls] policy not reloaded: 



=== TEST 8: init() on a HUP may remove a plugin from a route
--- policy eval: $::Policy
--- config
    location /t {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block { ngx.say("open") }
    }
--- client eval
$::Client . <<'_EOC_';
get a.test/t -o /dev/null -w '%{http_code}\n'
cp policy.yaml good
sed '/plugins:/,$d' good > policy.yaml
kill -HUP "$master"
wait_for_watch 1
get a.test/t
_EOC_
--- client_out
401
open
--- no_error_log
[crit]



=== TEST 9: watch reads a file again that could not be read for want of file descriptors
--- policy eval: $::Policy
--- user_files eval: $::Files
--- main_config
    worker_rlimit_nofile 60;
--- config eval
$::Config . <<'_EOC_';
    location /exhaust {
        content_by_lua_block {
            held = {}
            repeat
                local file = io.open("/dev/null")
                held[#held + 1] = file
            until not file
            local seconds = tonumber(ngx.var.arg_s)
            ngx.sleep(seconds)
            for _, file in ipairs(held) do file:close() end
            ngx.say("freed")
        }
    }
_EOC_
--- client eval
$::Client . <<'_EOC_';
reach_workers 1
get a.test/exhaust?s=4 > freed &
sleep 0.5
mv other.yaml policy.yaml
wait
cat freed
wait_for_watch
statuses client-a
statuses client-b
_EOC_
--- client_out
freed
12 401
12 200
--- error_log
Too many open files
--- no_error_log
[alert]



=== TEST 10: init() without enough memory logs how much is needed, and a HUP leaves the master running
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
reach_workers 1
cp policy.yaml good
{ cat good; seq 60000 | sed 's/.*/- {name: r&, snis: [r&.test]}/'; } > long
# Limits the memory of new processes.
prlimit --pid "$master" --as=$(( $(awk '/VmSize/{print $2}' "/proc/$master/status") * 1024 + HEADROOM * 1048576 )):
cp long policy.yaml
kill -HUP "$master"
wait_for_watch 1
kill -0 "$master" && echo the master lives
statuses client-a
cp good policy.yaml
kill -HUP "$master"
wait_for_watch 1
statuses client-a
grep -o 'about [0-9]* MB of memory are needed, [0-9]* MB are available (RLIMIT_AS)' "$ERROR_LOG" | head -n 1 | sed 's/[0-9][0-9]*/N/g'
_EOC_
--- client_out
the master lives
12 200
12 200
about N MB of memory are needed, N MB are available (RLIMIT_AS)
--- no_error_log
exited on signal
[crit]



=== TEST 11: watch without enough memory keeps the old policy, and takes the new one when there is enough
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
reach_workers 1
cp policy.yaml good
{ cat good; seq 60000 | sed 's/.*/- {name: r&, snis: [r&.test]}/'; } > long
worker=$(pgrep -P "$master")
prlimit --pid "$worker" --as=$(( $(awk '/VmSize/{print $2}' "/proc/$worker/status") * 1024 + HEADROOM * 1048576 )):
cp long policy.yaml
wait_for_status RLIMIT_AS
statuses client-a
get a.test/status | sed 's/.*last_error=//; s/[0-9][0-9]* MB/N MB/g'
prlimit --pid "$worker" --as=unlimited:
wait_for_status routes=60001
get a.test/status | sed 's/.*\(routes=[0-9]*\).*last/\1 last/'
[ "$worker" = "$(pgrep -P "$master")" ] && echo the same worker
_EOC_
--- client_out
12 200
policy.yaml: about N MB of memory are needed, N MB are available (RLIMIT_AS)
routes=60001 last_error=nil
the same worker
--- no_error_log
exited on signal
[crit]



=== TEST 12: init() starts with the last good policy of state_dir when the file is bad, and logs it
--- http_config
    init_by_lua_block {
        require("resty.mtls").init {
            policy = "$TEST_NGINX_HTML_DIR/policy.yaml",
            state_dir = os.execute("mkdir -p -m 0700 $TEST_NGINX_HTML_DIR/state") and "$TEST_NGINX_HTML_DIR/state",
        }
    }
--- policy eval: $::Policy
--- user_files eval: $::Files
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
user=$(ps -o user= -p "$(pgrep -P "$master")")
chown "$user" state
reach_workers 1
mv other.yaml policy.yaml
wait_for_watch
echo written "$(stat -c %a state/*)"
echo 'rutes: []' > policy.yaml
# Starts a second nginx with the same configuration.
conf=$(tr '\0' ' ' < "/proc/$master/cmdline" | sed 's/.*-c \([^ ]*\).*/\1/')
kill -QUIT "$master"
for _ in $(seq 150); do kill -0 "$master" 2>/dev/null || break; sleep 0.02; done
"${TEST_NGINX_BINARY:-nginx}" -p "$(dirname "$(dirname "$conf")")/" -c "$conf" 2>&1 | grep -o 'policy.yaml:1:1:.*'
for _ in $(seq 100); do sleep 0.05; master=$(cat "$PID_FILE" 2>/dev/null) && break; done
statuses client-a
statuses client-b
wait_for_watch
get a.test/status | sed 's/^. //; s/epoch=[0-9]*/epoch/; s/node=[0-9]*/node/'
# A changed state file is not used.
printf x >> state/policy-*.state
kill -HUP "$master"
wait_for_watch 1
statuses client-b
_EOC_
--- client_out
written 600
policy.yaml:1:1: unknown field 'rutes', did you mean 'routes'? (and 1 more: run resty-mtls check); the last good one of state_dir is in force
12 401
12 200
routes=1 epoch node last_error=policy.yaml:1:1: the required field '_format_version' is missing
12 200
--- error_log eval
qr{\[mtls\] policy not loaded: .*; no last good one: state_dir: '.*\.state': does not have the digest that it had when it was written}
--- no_error_log
[crit]



=== TEST 13: init() refuses a state_dir that another user may write to, and one that does not exist
--- http_config
    init_by_lua_block {
        local mtls = require "resty.mtls"
        local dir = "$TEST_NGINX_HTML_DIR"
        for _, state in ipairs { "state", dir .. "/none", dir } do
            local _, err = pcall(mtls.init, { policy = dir .. "/policy.yaml", state_dir = state })
            ngx.log(ngx.WARN, "state: ", err)
        end
        mtls.init { policy = dir .. "/policy.yaml" }
    }
--- policy eval: $::Policy
--- config
    location /t { return 204; }
--- error_code: 204
--- response_body
--- error_log eval
[
    qr{state: .*mtls.init: state_dir must be an absolute path of a directory, got 'state'},
    qr{state: .*'.*/none': No such file or directory},
    qr{state: .*' has mode 0755, expected 0700: a user who can write there can replace the policy},
]



=== TEST 14: status() and the log keep the reason why the newest policy is not in force
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
reach_workers 1
echo 'rutes: []' >> policy.yaml
wait_for_watch
get a.test/workers | sed 's/epoch=[0-9]*/epoch/'
get a.test/metrics | grep '^resty_mtls_policy_\(epoch\|in_force_epoch\|reload_failing\)'
get a.test/metrics | grep -c '^resty_mtls_policy_in_force_since_seconds{worker="0"} 1[0-9]\{9\}$'
grep -c 'policy not reloaded' "$ERROR_LOG"
_EOC_
--- client_out
0 epoch failed=true since=true
resty_mtls_policy_epoch{worker="0"} 1
resty_mtls_policy_in_force_epoch 1
resty_mtls_policy_reload_failing{worker="0"} 1
1
1
--- no_error_log
[crit]



=== TEST 15: init() after an upgrade (USR2) that was taken back: the old binary serves the policy in force
--- policy eval: $::Policy
--- user_files eval: $::Files
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
# runs = or !=: succeeds if the process of the pid file is, or is not, the old master and nginx answers
runs() {
    local process
    process=$(cat "$PID_FILE" 2>/dev/null)
    [ -n "$process" ] && [ "$process" "$1" "$master" ] && get a.test/status > /dev/null
}
serving() { pgrep -P "$master" -f 'worker process$' > /dev/null; }
idle() { ! serving; }

reach_workers 1
kill -USR2 "$master"
wait_until runs !=
new=$(cat "$PID_FILE")
kill -WINCH "$master"
wait_until idle
# The workers of the old binary never read this policy.
mv other.yaml policy.yaml
wait_for_watch
statuses client-a
statuses client-b
echo 'rutes: []' > policy.yaml
wait_for_watch
kill -HUP "$master"
wait_until serving
kill -QUIT "$new"
wait_until runs =
statuses client-a
statuses client-b
_EOC_
--- client_out
12 401
12 200
12 401
12 200
--- no_error_log
[crit]



=== TEST 16: watch logs a line again that it logged while the clock was a day ahead
--- http_config
    init_by_lua_block {
        local time = ngx.time
        ngx.time = function()
            local right = io.open("$TEST_NGINX_HTML_DIR/right")
            if right then right:close() end
            return time() + (right and 0 or 86400)
        end
        require("resty.mtls").init { policy = "$TEST_NGINX_HTML_DIR/policy.yaml" }
    }
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
reach_workers 1
echo 'rutes: []' >> policy.yaml
wait_for_watch
grep -c 'policy not reloaded' "$ERROR_LOG"
touch right
wait_for_watch
grep -c 'policy not reloaded' "$ERROR_LOG"
_EOC_
--- client_out
1
2
--- no_error_log
[crit]
