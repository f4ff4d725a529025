package TestNet;

# Runs a nameserver and a proxy (t/servers/dns_and_proxy.py) as long as the test file runs, and configures an nginx
# whose resty.mtls.internal.net.http uses them.

use strict;
use warnings;
use TestMtls;
use Test::More ();
use Exporter qw( import );
use IO::Socket::INET;
use IO::Socket::IP;

our @EXPORT = qw( $Http $Http6 $Config $NoIpv6 );

my $dns = free_port();
my $proxy = free_port();
$ENV{TEST_NGINX_DNS_PORT} = $dns;
$ENV{TEST_NGINX_PROXY_PORT} = $proxy;
$ENV{TEST_NGINX_SIX_PORT} = free_port();
our $NoIpv6 = !defined IO::Socket::IP->new(LocalHost => "::1", Listen => 1);

open my $servers, '|-', "$TestMtls::Root/t/servers/dns_and_proxy.py", $dns, $proxy
    or Test::More::BAIL_OUT("t/servers/dns_and_proxy.py: $!");

my $up;
for (1 .. 200) {
    last if $up = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$proxy");
    select undef, undef, undef, 0.05;
}

$up or Test::More::BAIL_OUT("t/servers/dns_and_proxy.py does not answer on port $proxy");

END {
    # Closing the pipe must not change the exit status of the tests.
    local $?;
    close $servers if $servers;
}

# t.say(label, url, opts) prints the response to a request, without port numbers. t.init(allow) sets fetch_allow.
our $Http = <<'_EOC_';
    lua_ssl_protocols TLSv1.2 TLSv1.3;
    lua_ssl_trusted_certificate $TEST_NGINX_PKI/server-ca.crt;
    lua_socket_log_errors off;
    init_by_lua_block {
        local http = require "resty.mtls.internal.net.http"
        local t = {}
        package.loaded["t.fetch"] = t
        function t.init(allow)
            http.init { allow = assert(require("resty.mtls.internal.net.cidr").parse(allow)), hosts_file = "$TEST_NGINX_HTML_DIR/hosts",
                         nameservers = { "127.0.0.1:$TEST_NGINX_DNS_PORT" } }
        end

        function t.say(label, url, opts)
            opts = opts or {}
            opts.url = url:gsub("PORT", "$TEST_NGINX_SERVER_PORT"):gsub("TLS", "$TEST_NGINX_TLS_PORT")
                       :gsub("SIX", "$TEST_NGINX_SIX_PORT")
            local answer, err = http.request(opts)
            ngx.say(label, " -> ", ((answer and answer.body or tostring(err)):gsub("$TEST_NGINX_SERVER_PORT", "PORT")
                                    :gsub("$TEST_NGINX_TLS_PORT", "TLS"):gsub("$TEST_NGINX_DNS_PORT", "DNS")
                                    :gsub("$TEST_NGINX_SIX_PORT", "SIX"):gsub("\r\n", "|")))
        end

        t.proxy = { host = "127.0.0.1", port = $TEST_NGINX_PROXY_PORT }
        t.init {}
    }
    server {
        listen 127.0.0.1:$TEST_NGINX_TLS_PORT ssl;
        server_name a.test;
        ssl_certificate $TEST_NGINX_PKI/server-a.crt;
        ssl_certificate_key $TEST_NGINX_PKI/server-a.key;
        location / {
            content_by_lua_block { ngx.print(ngx.req.raw_header()) }
        }
    }
_EOC_

our $Http6 = $Http . <<'_EOC_';
    server {
        listen [::1]:$TEST_NGINX_SERVER_PORT;
        listen [::1]:$TEST_NGINX_SIX_PORT;
        location / {
            content_by_lua_block { ngx.print(ngx.var.http_host, " at ", ngx.var.server_addr) }
        }
    }
_EOC_

our $Config = <<'_EOC_';
    location = / {
        content_by_lua_block { ngx.print(ngx.var.http_host, " at ", ngx.var.server_addr) }
    }
_EOC_

1;
