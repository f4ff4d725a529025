# Compares the module with nginx's own ssl_verify_client and ssl_crl on NIST PKITS and its CRLs.
# t/revocation/pkits-deviations.txt lists every difference.

use lib 't/lib';
use TestMtls;
use File::Temp qw( tempdir );

if (system("python3 -c 'import cryptography_vectors' 2>/dev/null") != 0) {
    plan(skip_all => "the suite is not there: pip install cryptography_vectors");
}

our $Dir = tempdir(CLEANUP => 1);

system("$TestMtls::Root/t/revocation/pkits.py", "prepare", $Dir) == 0
    or bail_out("t/revocation/pkits.py prepare failed");

$ENV{PKITS} = $Dir;
$ENV{STOCK_PORT} = free_port();

open my $in, '<', "$Dir/trust-anchor.crt" or bail_out("$Dir/trust-anchor.crt: $!");
my $anchor = join "", map { "    $_" } <$in>;

our $Policy = <<"_EOC_";
>>> policy.yaml
_format_version: "3.0"
ca_certificates:
- id: 10000000-0000-4000-8000-000000000001
  cert: |
$anchor
routes:
- name: a
  snis: [a.test]
  plugins:
  - name: mtls-auth
    config:
      ca_certificates: [10000000-0000-4000-8000-000000000001]
      skip_consumer_lookup: true
      verify_depth: 20
      revocation_check_mode: STRICT
      crls: [$Dir/all.crl]
_EOC_

our $Http = <<"_EOC_";
    lua_package_path "$TestMtls::Root/lua/?.lua;;";
    lua_package_cpath "$TestMtls::Root/target/release/?.so;;";
    lua_shared_dict mtls 10m;
    init_by_lua_block {
        require("resty.mtls").init { policy = "\$TEST_NGINX_HTML_DIR/policy.yaml" }
    }
    ssl_client_hello_by_lua_block { require("resty.mtls").client_hello() }
    ssl_certificate_by_lua_block { require("resty.mtls").certificate() }
    server {
        listen 127.0.0.1:$ENV{STOCK_PORT} ssl;
        ssl_client_certificate $Dir/trust-anchor.crt;
        ssl_crl $Dir/all.crl;
        ssl_verify_client optional;
        ssl_verify_depth 20;
        location / { return 200; }
    }
_EOC_

run_blocks();

__DATA__

=== TEST 1: access() agrees with nginx on NIST PKITS with CRLs
--- user_files eval: $::Policy
--- http_config eval: $::Http
--- config
    location /t {
        access_by_lua_block { require("resty.mtls").access("a") }
        content_by_lua_block { ngx.say("in") }
    }
--- client
"$TEST_NGINX_ROOT/t/revocation/pkits.py" compare "$PKITS" "$PORT" "$STOCK_PORT" > answers
# Only end entities with RSA keys, as OpenSSL makes no TLS handshake with the others.
wc -l < answers
grep -v ' \(200\|401\) \(200\|400\)$' answers
# The number of accepted certificates depends on the release of OpenSSL.
[ "$(grep -c ' 200 200$' answers)" -gt 90 ] && [ "$(grep -c ' 401 400$' answers)" -gt 90 ] && echo "of either kind"
sed -n 's/^? //p' "$TEST_NGINX_ROOT/t/revocation/pkits-deviations.txt" | cut -d' ' -f1-3 > sometimes
grep ' 200 400$\| 401 200$' answers | grep -vxFf sometimes | LC_ALL=C sort > differ
grep -v '^[#?]\|^$' "$TEST_NGINX_ROOT/t/revocation/pkits-deviations.txt" | cut -d' ' -f1-3 | LC_ALL=C sort > known
diff known differ && echo "as known"
# nginx's own verification leaves errors in OpenSSL's queue. The module's must not.
grep "\[alert\].* server: [^ ]*:$PORT\b" "$ERROR_LOG"
true
--- client_out
220
of either kind
as known
--- no_error_log
[crit]
[emerg]
