package TestMtls;

# Sections beyond Test::Nginx's own:
#
#   --- policy             YAML, written to policy.yaml and loaded by the three lines at http level. In it, @{ca-a} is the
#                          PEM of t/pki/out/ca-a.crt as a block scalar, @ca-a an id for it, and
#                          @{ca_certificates: ca-a ca-b} a whole list of CA certificates under those ids.
#   --- config             Locations as in Test::Nginx. Their server also has a TLS port, as its default server.
#   --- vhosts             Server names, each of which gets a server block with the same locations.
#   --- client             A bash script that runs against nginx with the functions of t/lib/client.bash, for at most
#                          --- client_timeout seconds, by default 120.
#   --- client_out         The expected output of the script. --- client_out_like is a regular expression;
#                          --- client_cases checks each line by itself, and "NAME # SKIP reason" is a line not printed.
#   --- tls_options        More parameters of the TLS port's listen directive.
#   --- quic               The servers accept HTTP/3 too, on the UDP port of the same number.
#   --- worker_processes   A number, 1 by default.
#   --- master_process     "off": one process is master and worker. "on" by default.
#
# The upstream $TEST_NGINX_UPSTREAM returns the request header that it received as text.

BEGIN {
    # Each test file has its own server root, so that suites can run side by side.
    $ENV{TEST_NGINX_RANDOMIZE} //= 1;
    # Seconds until a response: with Test::Nginx's three, a loaded machine would fail tests that sleep.
    $ENV{TEST_NGINX_TIMEOUT} //= 20;
}

use TestProcess;
use Test::Nginx::Socket -Base;
use Cwd qw( abs_path );
use Digest::MD5 qw( md5_hex );
use File::Basename qw( dirname );
use File::Path qw( make_path );

our $Root = abs_path(dirname(__FILE__) . "/../..");
our $Pki = "$Root/t/pki/out";

our @EXPORT = qw( expand_policy free_port header_cert_auth init_http make_crl mtls_auth plugin policy route run_blocks );

# Test::Base runs the sections that are marked `eval` in this package.
{
    no strict 'refs';
    *{"Test::Base::Filter::$_"} = \&$_ for grep { $_ ne "run_blocks" } @EXPORT;
}

# Test::Nginx would pick a port that another process may take before nginx starts.
my $port = free_port();
server_port($port);
server_port_for_client($port);
my $tls_port = free_port();

$ENV{TEST_NGINX_ROOT} = $Root;
$ENV{TEST_NGINX_PKI} = $Pki;
$ENV{TEST_NGINX_HTML_DIR} = html_dir();
$ENV{TEST_NGINX_TLS_PORT} = $tls_port;
$ENV{TEST_NGINX_UPSTREAM} = "http://unix:" . html_dir() . "/upstream.sock:";

# t/lib/client.bash reads these.
$ENV{TMP} = html_dir();
$ENV{PKI} = $Pki;
$ENV{TLS_CLIENT} = "$Root/target/tls_client";
$ENV{PORT} = $tls_port;
$ENV{HTTP_PORT} = $port;
$ENV{PID_FILE} = server_root() . "/logs/nginx.pid";
$ENV{ERROR_LOG} = server_root() . "/logs/error.log";

sub build_client ($$) {
    my ($source, $binary) = @_;

    return if -e $binary && -M $binary < -M $source;

    make_path(dirname($binary));
    # Another test file may build it at the same time, so it is built beside the target and renamed.
    system($ENV{CC} // "cc", qw( -D_GNU_SOURCE -O1 -g -Wall -Wextra -Werror -o ), "$binary.$$", $source, qw( -lssl -lcrypto )) == 0
        && rename("$binary.$$", $binary)
        or bail_out("$source does not build");
}


sub pki_file ($) {
    my ($file) = @_;

    open my $in, '<', "$Pki/$file"
        or bail_out("$Pki/$file: $!");
    local $/;

    return scalar <$in>;
}


sub ca_id ($) {
    my ($name) = @_;

    return sprintf("%s-%s-4%s-8%s-%s", unpack("A8 A4 A3 A3 A12", md5_hex($name)));
}


sub block_scalar ($$) {
    my ($indent, $text) = @_;

    $text =~ s/^/$indent/mg;

    return "|\n$text";
}


sub ca_list ($) {
    my ($names) = @_;

    return "ca_certificates:\n" . join "", map {
        "- id: " . ca_id($_) . "\n  cert: " . block_scalar("    ", pki_file("$_.crt"))
    } split " ", $names;
}


sub expand_policy ($) {
    my ($text) = @_;

    $text =~ s/^\@\{ca_certificates: ([^}]+)\}\n/ca_list($1)/meg;
    $text =~ s/^([ -]*)(.*)\@\{([\w-]+)\}\n/$1 . $2 . block_scalar(" " x (2 + length $1), pki_file("$3.crt"))/meg;
    $text =~ s/\@([a-z][\w-]*)/ca_id($1)/eg;

    return $text;
}


# policy CAS, ROUTE...: a policy document with these CA certificates (names in t/pki/out) and these routes. It may stand
# in --- policy, or in a file after expand_policy().
sub policy ($@) {
    my ($cas, @routes) = @_;

    return CORE::join "", qq(_format_version: "3.0"\n), $cas eq "" ? () : "\@{ca_certificates: $cas}\n", "routes:\n", @routes;
}


# route NAME, SNIS, PLUGIN...: a route for policy() under one or more server names, or under every name with "".
sub route ($$@) {
    my ($name, $snis, @plugins) = @_;

    return CORE::join "", "- name: $name\n", $snis eq "" ? () : "  snis: [" . CORE::join(", ", split " ", $snis) . "]\n",
        @plugins ? "  plugins:\n" : (), map { "  - $_\n" } @plugins;
}


# plugin NAME, CONFIG: a plugin for route(), with its config in YAML, if any
sub plugin ($;$) {
    my ($name, $config) = @_;

    return defined $config ? "name: $name\n    config: {$config}" : "name: $name";
}


# mtls_auth CAS, FIELDS: the plugin mtls-auth that trusts these CAs. FIELDS are the other fields in YAML; without them
# the plugin maps certificates to no consumers.
sub mtls_auth ($;$) {
    my ($cas, $fields) = @_;

    return plugin("mtls-auth", "ca_certificates: [" . CORE::join(", ", map { "\@$_" } split " ", $cas) . "], "
                               . ($fields // "skip_consumer_lookup: true"));
}


# header_cert_auth FIELDS: the plugin header-cert-auth that trusts CA-A and reads X-Client-Cert, url_encoded. FIELDS are
# the other fields in YAML; without them the plugin maps certificates to no consumers.
sub header_cert_auth (;$) {
    my ($fields) = @_;

    return plugin("header-cert-auth", "ca_certificates: [\@ca-a], certificate_header_name: X-Client-Cert, "
                                      . "certificate_header_format: url_encoded, " . ($fields // "skip_consumer_lookup: true"));
}


# make_crl NAME, CA, CERTIFICATE...: makes a CRL of the CA that lists these certificates, and returns its path in
# t/pki/out.
sub make_crl ($$@) {
    my ($name, $ca, @revoked) = @_;

    system("bash", "-ec", <<'_EOC_', "bash", $Pki, $name, $ca, @revoked) == 0 or bail_out("no CRL");
cd "$1"
name=$2
ca=$3
shift 3
: >"$name.index"
for certificate in "$@"; do
    serial=$(openssl x509 -in "$certificate.crt" -noout -serial | cut -d= -f2)
    printf 'R\t401231235959Z\t200101000000Z\t%s\tunknown\t/CN=x\n' "$serial" >>"$name.index"
done
printf '[ca]\ndefault_ca = d\n[d]\ndatabase = %s.index\ndefault_md = sha256\ndefault_crl_days = 30\n' "$name" >"$name.cnf"
openssl ca -config "$name.cnf" -gencrl -keyfile "$ca.key" -cert "$ca.crt" -out "$name.crl" 2>/dev/null
_EOC_

    return "$Pki/$name.crl";
}


# init_http OPTIONS: for --- http_config, the hooks and a call of mtls.init with these options, html/policy.yaml and a
# shared dictionary
sub init_http ($) {
    my ($options) = @_;

    return <<"_EOC_";
    lua_package_path "$Root/lua/?.lua;;";
    lua_package_cpath "$Root/target/release/?.so;;";
    lua_shared_dict mtls 10m;
    lua_socket_log_errors off;
    init_by_lua_block {
        require("resty.mtls").init { policy = "\$TEST_NGINX_HTML_DIR/policy.yaml", $options }
    }
    ssl_client_hello_by_lua_block { require("resty.mtls").client_hello() }
    ssl_certificate_by_lua_block { require("resty.mtls").certificate() }
_EOC_
}


system("'$Root/t/pki/make'") == 0
    or bail_out("t/pki/make failed");
build_client("$Root/t/clients/tls_client.c", $ENV{TLS_CLIENT});

# As in production, the master loads the policy and the workers inherit it.
master_on();
log_level("info");
no_long_string();


add_block_preprocessor(sub {
    my $block = shift;

    workers($block->worker_processes // 1);
    ($block->master_process // '') =~ /^off$/m ? master_off() : master_on();

    my $config = $block->config // '';
    my $tls_options = $block->tls_options // '';
    chomp $tls_options;
    my $http = '';
    $http .= <<_EOC_ if ($block->http_config // '') !~ /\blua_package_path\b/;
    lua_package_path "$Root/lua/?.lua;;";
    lua_package_cpath "$Root/target/release/?.so;;";
_EOC_
    $http .= <<_EOC_;
    ssl_protocols TLSv1.2 TLSv1.3;
    # At this level, because lua-nginx-module takes ssl_*_by_lua at http level only if every server has a certificate.
    ssl_certificate $Pki/server.crt;
    ssl_certificate_key $Pki/server.key;
    # Some test certificates make long header lines.
    large_client_header_buffers 8 256k;
    server {
        listen unix:\$TEST_NGINX_HTML_DIR/upstream.sock;
        location / {
            content_by_lua_block { ngx.print(ngx.req.raw_header()) }
        }
    }
_EOC_

    if (defined $block->policy) {
        $block->set_value("user_files",
                          ($block->user_files // '') . ">>> policy.yaml\n" . expand_policy($block->policy));
        $http .= <<'_EOC_' if ($block->http_config // '') !~ /\binit_by_lua/;
    init_by_lua_block {
        require("resty.mtls").init { policy = "$TEST_NGINX_HTML_DIR/policy.yaml" }
    }
_EOC_
        $http .= <<'_EOC_';
    ssl_client_hello_by_lua_block { require("resty.mtls").client_hello() }
_EOC_

        if (($block->http_config // '') !~ /\bssl_certificate_by_lua/) {
            $http .= <<'_EOC_';
    ssl_certificate_by_lua_block { require("resty.mtls").certificate() }
_EOC_
        }
    }

    my $address = "127.0.0.1:\$TEST_NGINX_TLS_PORT";
    my $listen = "listen $address ssl $tls_options";
    my $default = "$listen default_server;";

    if (defined $block->quic) {
        $default .= " listen $address quic default_server;";
        $listen .= "; listen $address quic";
    }

    $http .= $block->http_config // '';

    for my $name (split " ", $block->vhosts // '') {
        $http .= "\n    server {\n        $listen;\n        server_name $name;\n$config\n    }\n";
    }

    $block->set_value("http_config", $http);
    $block->set_value("config", "        $default\n$config");

    if (!defined $block->request && !defined $block->client && !defined $block->must_die) {
        $block->set_value("request", "GET /t");
    }

    if (!defined $block->no_error_log && !defined $block->error_log) {
        $block->set_value("no_error_log", join "", map { "[$_]\n" } qw( error crit alert emerg ));
    }
});


# Where nginx does not start, Test::Nginx ends the file by BAIL_OUT, which prints a comment and leaves the exit status 0.
{
    no warnings 'redefine';

    *Test::Nginx::Util::bail_out = sub (@) {
        Test::Nginx::Util::cleanup();
        Test::More::fail(join '', @_);
        exit 1;
    };
}

my $send_request = $Test::Nginx::Util::RunTestHelper;

$Test::Nginx::Util::RunTestHelper = sub {
    my ($block, $dry_run, $repeated) = @_;

    if (!defined $block->client) {
        return $send_request->($block, $dry_run, $repeated);
    }

    my $name = $block->name;
    my $script = html_dir() . "/client";

    open my $out, '>', $script or bail_out("$script: $!");
    print $out ". '$Root/t/lib/client.bash'\n", $block->client;
    close $out;

    my $limit = $block->client_timeout // 120;
    chomp $limit;
    my $printed = `timeout $limit bash -u '$script' 2>&1`;
    my $status = $?;

    # The last command of the script may fail as part of the test. 124 and more mean that the script could not run.
    Test::More::cmp_ok($status >> 8, '<', 124, "$name - client runs");

    if (defined $block->client_out) {
        Test::More::is($printed, $block->client_out, "$name - client_out");
    }

    if (defined $block->client_cases) {
        my @printed = split /\n/, $printed;

        for my $want (split /\n/, $block->client_cases) {
            if ($want =~ /^(\S+) # SKIP (.*)/) {
                my ($case, $reason) = ($1, $2);
                SKIP: { Test::More::skip("$name - $case: $reason", 1) }

            } else {
                Test::More::is(shift @printed, $want, "$name - " . ($want =~ /^(.*?)(?: \S+=|$)/)[0]);
            }
        }

        Test::More::is(join("\n", @printed), "", "$name - nothing more is printed");
    }

    if (defined $block->client_out_like) {
        my $pattern = $block->client_out_like;
        chomp $pattern;
        Test::More::like($printed, qr/$pattern/, "$name - client_out_like");
    }

    $Test::Nginx::Util::CheckErrorLog->($block, undef, $dry_run, $repeated, 0);
};


# Runs the blocks of the test file, in order, with as many checks as they make.
sub run_blocks () {
    no_shuffle();
    plan('no_plan');
    run_tests();
}


1;
