# The watch: workers take changed policy files by themselves.

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
            ngx.say(ngx.worker.id(), " routes=", status.counts.routes, " epoch=", status.epoch, " last_error=",
                    status.last_error and (status.last_error:gsub(".*/", "")))
        }
    }
_EOC_

our $Client = <<'_EOC_';
# now: the lines that the watch logged since the last call or mark, in the order of workers
mark() { wc -l < "$ERROR_LOG" > mark; }
echo 0 > mark
now() {
    tail -n +$(($(cat mark) + 1)) "$ERROR_LOG" | grep -F '[mtls] policy' |
        sed -n 's/.* \([0-9]*\)#.*\[mtls\] \(policy [^,]*\).*/\1 \2/; s/->/to/; s/ \/.*\// /; p' | sort | sed 's/^[0-9]* //'
    mark
}

route() { echo "- {name: $1, snis: [$1.test]}"; }

# Waits for the two seconds within which every worker must have taken a changed file.
wait_for_watch() { sleep "${1:-2}"; }
_EOC_

run_blocks();

__DATA__

=== TEST 1: watch puts a changed file in force in every worker within 2 seconds, with one log line
--- worker_processes: 2
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
reach_workers 2
before=$(get a.test/status | sed 's/.*epoch=\([0-9]*\).*/\1/')
route b >> policy.yaml
wait_for_watch
now | sed "s/epoch $before to $((before + 1))/epoch + 1/"
get a.test/status | sed "s/^. //; s/epoch=$((before + 1))/epoch + 1/"
get a.test/t $(as client-a)
# Neither the same bytes nor a later modification time are a change.
cp policy.yaml new && mv new policy.yaml
wait_for_watch
touch policy.yaml
wait_for_watch
now
_EOC_
--- client_out
policy reloaded: epoch + 1
policy reloaded: epoch + 1
routes=2 epoch + 1 last_error=nil
SUCCESS
--- error_log eval
qr/\[notice\] .*\[mtls\] policy reloaded: epoch (\d+) -> \d+, digest [0-9a-f]{64} -> [0-9a-f]{64}, .*policy\.yaml, context: ngx\.timer/
--- no_error_log
[error]
[alert]
[crit]



=== TEST 2: watch keeps the policy when the new one is invalid, and logs it once
--- worker_processes: 2
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
reach_workers 2
cp policy.yaml good
sed -i 's/^routes:/rutes:/' policy.yaml
wait_for_watch
wait_for_watch
now
get a.test/status | sed 's/^. //; s/epoch=[0-9]* //'
get a.test/t $(as client-a)
echo gone
rm policy.yaml
wait_for_watch
now
get a.test/status | sed 's/^. //; s/epoch=[0-9]* //'
# The file is the policy in force again: there is nothing to reload, and no error any more.
echo back
cp good policy.yaml
wait_for_watch
now
reach_workers 2
get a.test/status | sed 's/^. //; s/epoch=[0-9]* //'
echo new
route b >> policy.yaml
wait_for_watch
now | sed 's/epoch.*/epoch/'
_EOC_
--- client_out_like
\Apolicy not reloaded: policy\.yaml:\d+:1: unknown field 'rutes'
policy not reloaded: policy\.yaml:\d+:1: unknown field 'rutes'
routes=1 last_error=policy\.yaml:\d+:1: unknown field 'rutes', did you mean 'routes'\?
SUCCESS
gone
policy not reloaded: policy\.yaml: cannot be read: No such file or directory \(os error 2\)
policy not reloaded: policy\.yaml: cannot be read: No such file or directory \(os error 2\)
routes=1 last_error=policy\.yaml: cannot be read: No such file or directory \(os error 2\)
back
routes=1 last_error=nil
new
policy reloaded: epoch
policy reloaded: epoch
\z
--- no_error_log
[alert]
[crit]



=== TEST 3: watch follows renames and symbolic links, as in a Kubernetes volume
--- policy eval: $::Policy
--- user_files eval
">>> other.yaml\n" . TestMtls::expand_policy($::Other)
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
mkdir one two
cp -p policy.yaml one
cp -p other.yaml two/policy.yaml
# Old files: only the links change.
sleep 1
ln -s one ..data
ln -s ..data/policy.yaml link
mv -f link policy.yaml
wait_for_watch
code a.test/t $(as client-a)
mark
ln -s two ..new
mv -T ..new ..data
wait_for_watch
now | sed 's/epoch.*/epoch/'
code a.test/t $(as client-a)
code a.test/t $(as client-b)
cp one/policy.yaml new
mv new policy.yaml
wait_for_watch
now | sed 's/epoch.*/epoch/'
code a.test/t $(as client-a)
_EOC_
--- client_out
200 text/plain SUCCESS
policy reloaded: epoch
401 application/json; charset=utf-8 {"message":"TLS certificate failed verification"}
200 text/plain SUCCESS
policy reloaded: epoch
200 text/plain SUCCESS
--- no_error_log
[alert]
[crit]



=== TEST 4: watch does not read a file that is being written
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
reach_workers 1
cp policy.yaml long
for i in $(seq 10); do route "r$i" >> long; done
# The file grows in place, line by line, and is a valid policy half-way.
: > policy.yaml
while IFS= read -r line; do
    printf '%s\n' "$line" >> policy.yaml
    case $line in *name:*) sleep 0.3;; esac
done < long
wait_for_watch
now | sed 's/epoch.*/epoch/'
get a.test/status | sed 's/^. //; s/epoch=[0-9]* //'
_EOC_
--- client_out
policy reloaded: epoch
routes=11 last_error=nil
--- no_error_log
[error]
[alert]
[crit]



=== TEST 5: watch in a worker without requests takes the new policy before the next decision
--- policy eval: $::Policy
--- user_files eval
">>> other.yaml\n" . TestMtls::expand_policy($::Other)
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
mv other.yaml policy.yaml
wait_for_watch 1
now
code a.test/t $(as client-a)
now | sed 's/epoch.*/epoch/'
code a.test/t $(as client-b)
_EOC_
--- client_out
401 application/json; charset=utf-8 {"message":"TLS certificate failed verification"}
policy reloaded: epoch
200 text/plain SUCCESS
--- no_error_log
[alert]
[crit]



=== TEST 6: watch in a worker without requests waits for a long policy before the next decision
--- policy eval: $::Policy
--- user_files eval
">>> other.yaml\n" . TestMtls::expand_policy($::Other)
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
{ cat other.yaml; for i in $(seq 20000); do route "r$i"; done; } > new
mv new policy.yaml
wait_for_watch 1
code a.test/t $(as client-a)
now | sed 's/epoch.*/epoch/'
code a.test/t $(as client-b)
_EOC_
--- client_out
401 application/json; charset=utf-8 {"message":"TLS certificate failed verification"}
policy reloaded: epoch
200 text/plain SUCCESS
--- no_error_log
[alert]
[crit]



=== TEST 7: watch starts in idle workers by a call in init_worker_by_lua
--- worker_processes: 2
--- policy eval: $::Policy
--- http_config
    init_worker_by_lua_block { require("resty.mtls").status() }
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
route b >> policy.yaml
wait_for_watch
now | sed 's/epoch.*/epoch/'
_EOC_
--- client_out
policy reloaded: epoch
policy reloaded: epoch
--- no_error_log
[error]
[alert]
[crit]



=== TEST 8: watch = false leaves the policy as it was loaded
--- http_config
    init_by_lua_block {
        require("resty.mtls").init { policy = "$TEST_NGINX_HTML_DIR/watched.yaml", watch = false }
    }
--- user_files
>>> watched.yaml
_format_version: "3.0"
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
reach_workers 1
echo 'rutes: []' >> watched.yaml
wait_for_watch
now
get a.test/status | sed 's/^. //; s/epoch=[0-9]* //'
_EOC_
--- client_out
routes=0 last_error=nil
--- no_error_log
[error]
[alert]
[crit]



=== TEST 9: watch follows the file in force after reload() of another file
--- policy eval: $::Policy
--- user_files eval
">>> other.yaml\n" . TestMtls::expand_policy($::Other)
--- config eval
$::Config . <<'_EOC_';
    location /reload {
        content_by_lua_block { ngx.say(require("resty.mtls").reload("$TEST_NGINX_HTML_DIR/" .. ngx.var.arg_file)) }
    }
_EOC_
--- client eval
$::Client . <<'_EOC_';
get a.test/reload?file=other.yaml
mark
route b >> policy.yaml
wait_for_watch
now
route c >> other.yaml
route d >> other.yaml
wait_for_watch
now | sed 's/epoch.*/epoch/'
get a.test/status | sed 's/^. //; s/epoch=[0-9]* //'
_EOC_
--- client_out
true
policy reloaded: epoch
routes=3 last_error=nil
--- no_error_log
[error]
[alert]
[crit]



=== TEST 10: watch works with lua_code_cache off, where each request reads the policy again
--- policy eval: $::Policy
--- user_files eval
">>> other.yaml\n" . TestMtls::expand_policy($::Other)
--- http_config
    lua_code_cache off;
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
for i in $(seq 20); do get a.test/t $(as client-a); done | sort | uniq -c | sed 's/^ *//'
route b >> policy.yaml
wait_for_watch
get a.test/status | sed 's/^. //; s/epoch=[0-9]* //'
get a.test/t $(as client-a)
# Handshakes use the policy that the last request read.
mv other.yaml policy.yaml
code a.test/t $(as client-b)
code a.test/t $(as client-b)
_EOC_
--- client_out
20 SUCCESS
routes=2 last_error=nil
SUCCESS
200 text/plain SUCCESS
200 text/plain SUCCESS
--- no_error_log
[crit]
exited on signal



=== TEST 11: watch ends when its worker ends
--- worker_processes: 2
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
master=$(cat "$PID_FILE")
reach_workers 2
route b >> policy.yaml
wait_for_watch
old=$(pgrep -P "$master")
kill -HUP "$master"
for _ in $(seq 100); do
    sleep 0.02
    pgrep -P "$master" | grep -qF "$old" || break
done
pgrep -P "$master" | grep -F "$old"
reach_workers 2
mark
route c >> policy.yaml
wait_for_watch
now | sed 's/epoch.*/epoch/'
_EOC_
--- client_out
policy reloaded: epoch
policy reloaded: epoch
--- no_error_log
[error]
[alert]
[crit]



=== TEST 12: watch follows a CRL that the policy names
--- policy eval
$::Policy =~ s/skip_consumer_lookup: true/skip_consumer_lookup: true, revocation_check_mode: STRICT, crls: [ca.crl]/r
--- user_files eval
# The policy is loaded with an empty CRL.
">>> ca.crl\n" . `d=\$(mktemp -d) && cd \$d && touch index && printf '[ca]\\ndefault_ca=c\\n[c]\\ndatabase=index\\ndefault_md=sha256\\n' > cnf && openssl ca -config cnf -gencrl -crldays 1 -cert $TestMtls::Pki/ca-a.crt -keyfile $TestMtls::Pki/ca-a.key 2>/dev/null; rm -r \$d`
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
code a.test/t $(as client-a)
touch index
printf '[ca]\ndefault_ca=c\n[c]\ndatabase=index\ndefault_md=sha256\n' > cnf
ca() { openssl ca -config cnf -cert "$PKI/ca-a.crt" -keyfile "$PKI/ca-a.key" "$@" 2>> openssl.log; }
ca -revoke "$PKI/client-a.crt"
ca -gencrl -crldays 1 -out ca.crl
wait_for_watch
now | sed 's/epoch.*/epoch/'
code a.test/t $(as client-a)
_EOC_
--- client_out
200 text/plain SUCCESS
policy reloaded: epoch
401 application/json; charset=utf-8 {"message":"TLS certificate failed verification"}
--- error_log
[mtls] 401 FAILED:certificate revoked
--- no_error_log
[alert]
[crit]



=== TEST 13: watch in a worker without timers takes the new policy before the next decision
--- policy eval: $::Policy
--- user_files eval
">>> other.yaml\n" . TestMtls::expand_policy($::Other)
--- http_config
    lua_max_running_timers 0;
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
{ cat other.yaml; for i in $(seq 20000); do route "r$i"; done; } > new
mv new policy.yaml
wait_for_watch 1
code a.test/t $(as client-a)
now | sed 's/epoch.*/epoch/'
code a.test/t $(as client-b)
_EOC_
--- client_out
401 application/json; charset=utf-8 {"message":"TLS certificate failed verification"}
policy reloaded: epoch
200 text/plain SUCCESS
--- error_log
lua_max_running_timers are not enough
--- no_error_log
[crit]



=== TEST 14: watch does not block on a pipe in place of the policy
--- policy eval: $::Policy
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_';
get a.test/t $(as client-a)
cp policy.yaml good
mkfifo pipe
mv pipe policy.yaml
wait_for_watch
now
get a.test/t $(as client-a)
{ cat good; route b; } > new
mv new policy.yaml
wait_for_watch
now | sed 's/epoch.*/epoch/'
_EOC_
--- client_out
SUCCESS
policy not reloaded: policy.yaml: cannot be read: is not a regular file
SUCCESS
policy reloaded: epoch
--- no_error_log
[alert]
[crit]
