package TestToken;

# Runs an authorization server (t/servers/openid-provider/provider.mjs) as long as the test file runs. $PROVIDER is its
# issuer's origin, $TOKENS that of its token endpoint. t/install-test-tools.sh installs it. The file is skipped if it is
# not installed, or if there is no `node` to run it.

use strict;
use warnings;
use TestMtls;
use Exporter qw( import );
use File::Temp qw( tempdir );

our @EXPORT = qw( token_policy $Dir $Config $Client $Port );

our $Dir = tempdir(CLEANUP => 1);
our $Port = free_port();
my $tls_port = free_port();

$ENV{PROVIDER} = "http://127.0.0.1:$Port";
$ENV{TOKENS} = "https://127.0.0.1:$tls_port";
$ENV{FRONT_PORT} = free_port();

my $modules = "$TestMtls::Root/target/oidc";

if (!-e "$modules/node_modules/oidc-provider/package.json") {
    Test::More::plan(skip_all => "oidc-provider is not installed (t/install-test-tools.sh)");
    exit;
}

if (system("command -v node >/dev/null 2>&1") != 0) {
    Test::More::plan(skip_all => "node is not installed");
    exit;
}

my $pid = open my $provider, '|-', "cd '$modules' && exec node '$TestMtls::Root/t/servers/openid-provider/provider.mjs' $Port $tls_port"
    . " '$TestMtls::Pki' '$Dir' >'$Dir/log' 2>&1"
    or bail_out("t/servers/openid-provider/provider.mjs: $!");

my $up;
for (1 .. 600) {
    last if $up = -e "$Dir/ready";
    select undef, undef, undef, 0.05;
}

$up or bail_out("t/servers/openid-provider/provider.mjs does not get ready: " . `tail -5 '$Dir/log'`);

END {
    # Closing the pipe must not change the exit status of the tests.
    local $?;
    close $provider if $provider;
}


# For the section user_files. Each route is [ name, fields of openid-connect, issuer ].
sub token_policy {
    my (@routes) = @_;

    my $text = "_format_version: \"3.0\"\n\@{ca_certificates: ca-a ca-b}\nplugins:\n- name: tls-handshake-modifier\nroutes:\n";
    for (@routes) {
        my ($name, $fields, $issuer) = @$_;
        $issuer //= "$ENV{PROVIDER}/realms/a";
        my $methods = $fields =~ /auth_methods/ ? "" : "auth_methods: [bearer], ";
        $methods .= "hide_credentials: false, " if $fields !~ /hide_credentials/;
        $text .= <<"_EOC_";
- name: $name
  plugins:
  - name: openid-connect
    config: {issuer: "$issuer", ${methods}rediscovery_lifetime: 1, timeout: 2000, $fields}
_EOC_
    }

    return ">>> policy.yaml\n" . expand_policy($text);
}


our $Config = <<'_EOC_';
    location ~ ^/to/(?<route>[\w-]+) {
        access_by_lua_block { require("resty.mtls").access(ngx.var.route) }
        content_by_lua_block { ngx.say("in") }
    }
    location ~ ^/up/(?<route>[\w-]+) {
        access_by_lua_block { require("resty.mtls").access(ngx.var.route) }
        proxy_pass $TEST_NGINX_UPSTREAM;
    }
    location = /free { content_by_lua_block { ngx.say("free") } }
_EOC_

# control NAME [QUERY]: a request to /control/NAME of the provider
# token NAME ALG [CLIENT]: issues a token to the holder of the certificate NAME, or without a certificate for -
# forge KIND [NAME [QUERY]]: a token that the provider itself would not issue
# request ROUTE TOKEN [curl options]: prints status, body and challenge
our $Client = <<'_EOC_';
control() { curl -s "$PROVIDER/control/$1?${2-}"; }
control reset >reset
token() {
    local certificate=()
    [ "$1" = - ] || certificate=($(as "$1"))
    curl -sk "${certificate[@]}" "$TOKENS/realms/a/token" -d grant_type=client_credentials -d "client_id=${3:-app}" \
        -d client_secret=app -d "scope=${SCOPE:-read write}" --data-urlencode "resource=https://api.test/$2" |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["access_token"])'
}
x5t() { openssl x509 -in "$PKI/$1.crt" -outform DER | openssl dgst -sha256 -binary | base64 | tr '+/' '-_' | tr -d =; }
forge() {
    local bound=
    [ "${2--}" = - ] || bound=$(x5t "$2")
    control forge "kind=$1&x5t=$bound&${3-}"
}
request() {
    local route=$1 token=$2
    shift 2
    get "a.test/to/$route" ${token:+-H "Authorization: Bearer $token"} "$@" -D head -o body -w '%{http_code} '
    echo "$(cat body)$(sed -n 's/^WWW-Authenticate: \(.*\)\r$/ \1/Ip' head)"
}
_EOC_


1;
