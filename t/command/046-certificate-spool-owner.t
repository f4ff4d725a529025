# The option certificate_spool with a directory of another user than that of the workers.

use lib 't/lib';
use TestMtls;
use Test::More;

plan(skip_all => "nginx changes its user only when it starts as root") if $>;

# The workers run as this user; the master, which is root, makes the directory.
my (undef, undef, $uid, $gid) = getpwnam "nobody";
$Test::Nginx::Util::WorkerUser = "nobody " . getgrgid $gid;
our $Nobody = "nobody (uid $uid)";

our $Policy = policy("ca-a", route("a", "a.test", mtls_auth("ca-a", "skip_consumer_lookup: true")));

our $HttpConfig = <<'_EOC_';
    lua_shared_dict mtls_metrics 1m;
    init_by_lua_block {
        os.execute("mkdir -p -m 0700 '$TEST_NGINX_HTML_DIR/spool'")
        require("resty.mtls").init {
            policy = "$TEST_NGINX_HTML_DIR/policy.yaml",
            certificate_spool = "$TEST_NGINX_HTML_DIR/spool",
        }
    }
_EOC_

our $Config = <<'_EOC_';
    location /t {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block { ngx.say("in") }
    }
    location = /metrics { content_by_lua_block { ngx.print(require("resty.mtls").metrics()) } }
_EOC_

run_blocks();

__DATA__

=== TEST 1: a wrong owner of the directory, or of what an earlier user left there, is named with the expected one
--- policy eval: $::Policy
--- http_config eval: $::HttpConfig
--- config eval: $::Config
--- client
counts() { get a.test/metrics | grep -q "^resty_mtls_certificate_spool_total{outcome=\"$1\"} $2\$"; }
get a.test/t $(as client-a)
wait_until counts failed 1
touch spool/.usage
chmod 0600 spool/.usage
chown nobody spool
get a.test/t $(as client-carol)
wait_until counts failed 2
chown nobody spool/.usage
get a.test/t $(as client-int)
wait_until counts written 1
grep -o '\[mtls\] certificate_spool.*' "$ERROR_LOG" | sed "s/'[^']*spool'/'DIR'/; s/, context:.*//"
--- client_out eval
"in
in
in
[mtls] certificate_spool: 'DIR': Permission denied (os error 13): it belongs to root (uid 0), expected $::Nobody, the user of the workers: certificates are not written
[mtls] certificate_spool: 'DIR': Permission denied (os error 13): .usage belongs to root (uid 0), expected $::Nobody, the user of the workers: certificates are not written
"
--- no_error_log
[crit]
[alert]
