# Policy files that the workers have no permission to read after a change, and a state_dir that they cannot write to.

use lib 't/lib';
use TestMtls;
use Test::More;

plan(skip_all => "nginx changes its user only when it starts as root") if $>;

# The workers run as this user; the master, which is root, reads the policy at the start.
my (undef, undef, undef, $gid) = getpwnam "nobody";
$Test::Nginx::Util::WorkerUser = "nobody " . getgrgid $gid;

our $File = ">>> policy.yaml\n" . expand_policy(policy("ca-a", route("a", "a.test", mtls_auth("ca-a"))));

our $Config = <<'_EOC_';
    location /t { access_by_lua_block { require("resty.mtls").access("a") } content_by_lua_block { ngx.say("in") } }
_EOC_

our $Hooks = <<'_EOC_';
    ssl_client_hello_by_lua_block { require("resty.mtls").client_hello() }
    ssl_certificate_by_lua_block { require("resty.mtls").certificate() }
_EOC_

run_blocks();

__DATA__

=== TEST 1: init() warns that the workers' user has no permission to read a policy of mode 0600
--- user_files eval: $::File
--- http_config eval
$::Hooks . <<'_EOC_'
    init_by_lua_block {
        os.execute("chmod 0600 $TEST_NGINX_HTML_DIR/policy.yaml")
        require("resty.mtls").init { policy = "$TEST_NGINX_HTML_DIR/policy.yaml" }
    }
_EOC_
--- config eval: $::Config
--- client
code a.test/t $(as client-a)
--- client_out
200 text/plain in
--- error_log eval
qr{\[error\] .*\[mtls\] /.*/html/policy\.yaml: the workers' user 'nobody' has no permission to read it.*, so a change will not be put in force}
--- no_error_log
[alert]



=== TEST 2: init() warns that the workers' user has no permission to write to a state_dir of root
--- user_files eval: $::File
--- http_config eval
$::Hooks . <<'_EOC_'
    init_by_lua_block {
        os.execute("mkdir -m 0700 $TEST_NGINX_HTML_DIR/state")
        require("resty.mtls").init {
            policy = "$TEST_NGINX_HTML_DIR/policy.yaml", state_dir = "$TEST_NGINX_HTML_DIR/state",
        }
    }
_EOC_
--- config eval: $::Config
--- client
code a.test/t $(as client-a)
--- client_out
200 text/plain in
--- error_log eval
qr{\[error\] .*\[mtls\] state_dir: /.*/html/state: the workers' user 'nobody' has no permission to write to it, so nothing will outlive a restart; expected that user as its owner, and mode 0700}
--- no_error_log
[alert]
