# A policy in several files: a directory, or a list of files and directories.

use lib 't/lib';
use TestMtls;

our $Cas = TestMtls::expand_policy("_format_version: '3.0'\n\@{ca_certificates: ca-a ca-b}\n");
our $A = TestMtls::expand_policy("_format_version: '3.0'\nroutes:\n" . route("a", "a.test", mtls_auth("ca-a")));
our $B = TestMtls::expand_policy("_format_version: '3.0'\nroutes:\n" . route("b", "b.test", mtls_auth("ca-b")));

our $Config = <<'_EOC_';
    location /t/ {
        access_by_lua_block { require("resty.mtls").access(ngx.var.uri:sub(4)) }
        content_by_lua_block { ngx.say(require("resty.mtls").client().subject_dn) }
    }
_EOC_

our $Client = <<'_EOC_';
both() { echo "$(get a.test/t/a $(as client-a) -o /dev/null -w '%{http_code}') $(get b.test/t/b $(as client-b) -o /dev/null -w '%{http_code}')"; }
becomes() { wait_until is "$1"; both; }
is() { [ "$(both)" = "$1" ]; }
error() { wait_until grep -q "policy not reloaded.*$1" "$ERROR_LOG"; grep -o '\[mtls\] policy not reloaded: .*' "$ERROR_LOG" | sed "s|$PWD/||g; s/, context.*//" | tail -1; }
_EOC_

# init POLICY: a hook with this policy instead of the file
sub init ($) {
    return "    init_by_lua_block { require('resty.mtls').init { policy = $_[0] } }\n"
        . "    ssl_client_hello_by_lua_block { require('resty.mtls').client_hello() }\n"
        . "    ssl_certificate_by_lua_block { require('resty.mtls').certificate() }\n";
}

run_blocks();

__DATA__

=== TEST 1: the files of a directory are one policy; new, changed and removed files are put in force
--- http_config eval: main::init('"$TEST_NGINX_HTML_DIR/policy"')
--- user_files eval: ">>> policy/cas.yaml\n$::Cas>>> policy/a.yaml\n$::A>>> b.yaml\n$::B"
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
both
cp b.yaml policy/b.yml
becomes "200 200"
# The same route once more
cp b.yaml policy/c.yaml
error twice
both
rm policy/c.yaml
sed -i 's/name: b$/name: c/' policy/b.yml
becomes "200 500"
_EOC_
--- client_out
200 500
200 200
[mtls] policy not reloaded: policy/c.yaml:3:3: routes[0].name: the name 'b' of a route is given twice, first at policy/b.yml:3: routes[0]
200 200
200 500
--- no_error_log
[alert]



=== TEST 2: a list of files and directories is one policy and is watched
--- http_config eval: main::init('{ "$TEST_NGINX_HTML_DIR/cas", "$TEST_NGINX_HTML_DIR/routes.yaml" }')
--- user_files eval: ">>> cas/cas.yaml\n$::Cas>>> routes.yaml\n$::A>>> b.yaml\n$::B"
--- config eval: $::Config
--- client eval
$::Client . <<'_EOC_'
both
cp b.yaml cas/
becomes "200 200"
rm routes.yaml
error "No such file"
both
_EOC_
--- client_out
200 500
200 200
[mtls] policy not reloaded: routes.yaml: cannot be read: No such file or directory (os error 2)
200 200
--- no_error_log
[alert]
