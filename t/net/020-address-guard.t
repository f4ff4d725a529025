# resty.mtls.internal.net.http and address_guard: which addresses a request may reach, through name resolution and proxies.
# t/servers/dns_and_proxy.py is the nameserver and the proxy.

use lib 't/lib';
use TestMtls;
use IO::Socket::INET;
use IO::Socket::IP;

our $Dns = free_port();
our $Proxy = free_port();
$ENV{TEST_NGINX_DNS_PORT} = $Dns;
$ENV{TEST_NGINX_PROXY_PORT} = $Proxy;
$ENV{TEST_NGINX_SIX_PORT} = free_port();
our $NoIpv6 = !defined IO::Socket::IP->new(LocalHost => "::1", Listen => 1);

open my $peers, '|-', "$TestMtls::Root/t/servers/dns_and_proxy.py", $Dns, $Proxy
    or bail_out("t/servers/dns_and_proxy.py: $!");

my $up;
for (1 .. 200) {
    last if $up = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$Proxy");
    select undef, undef, undef, 0.05;
}

$up or bail_out("t/servers/dns_and_proxy.py does not answer on port $Proxy");

END {
    # Not the status of the tests
    local $?;
    close $peers if $peers;
}

# fetch(url, opts) prints what comes of it, with no port in it. $$allow is what fetch_allow holds.
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

run_blocks();

__DATA__

=== TEST 1: request() refuses special addresses, literal or resolved, in every spelling
--- http_config eval: $::Http
--- config eval
$::Config . <<'_EOC_';
    location /t {
        content_by_lua_block {
            local t = require "t.fetch"
            for _, host in ipairs {
                "127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "169.254.169.254", "224.0.0.1", "239.255.255.255",
                "255.255.255.255", "[::]", "[::1]", "[0:0:0:0:0:0:0:1]", "[::127.0.0.1]", "[::ffff:127.0.0.1]", "[::FFFF:7f00:1]",
                "[::ffff:169.254.169.254]", "[fe80::1]", "[febf::1]", "[ff02::1]", "[64:ff9b::127.0.0.1]",
                "[64:ff9b::a9fe:a9fe]", "[64:ff9b::0.0.0.0]", "[64:ff9b::239.0.0.1]", "[2002:7f00:1::]", "[2002:a9fe:a9fe::1]",
                "[2002::1]", "[2002:e000:1::]",
                "100.100.100.200", "168.63.129.16", "192.0.0.192", "[::ffff:100.100.100.200]", "[::ffff:0:127.0.0.1]",
                "[fd00:ec2::254]", "[fd00:ec2::23]", "[fd20:ce::254]", "[fd00:c1::a9fe:a9fe]", "[fd00:42::42]",
                "[64:ff9b::100.100.100.200]", "[64:ff9b::168.63.129.16]", "[64:ff9b::192.0.0.192]",
                "[64:ff9b:1::a9fe:a9fe]", "[64:ff9b:1:a9fe:a9:fe00::]",
                "[2002:6464:64c8::1]", "[2002:a83f:8110::1]", "[2002:c000:c0::1]",
                "localhost", "LOCALHOST.", "a.localhost",
                "here.test", "metadata.test", "zero.test", "six.test", "mapped.test", "translated.test", "alias.test",
                "from-hosts.test",
            } do
                t.say(host, "http://" .. host .. ":PORT/")
            end
        }
    }
_EOC_
--- user_files
>>> hosts
127.0.0.1	from-hosts.test
--- response_body
127.0.0.1 -> http.request: http://127.0.0.1:PORT/: 127.0.0.1 is a loopback, link-local or other special address that fetch_allow does not name
127.255.255.254 -> http.request: http://127.255.255.254:PORT/: 127.255.255.254 is a loopback, link-local or other special address that fetch_allow does not name
0.0.0.0 -> http.request: http://0.0.0.0:PORT/: 0.0.0.0 is a loopback, link-local or other special address that fetch_allow does not name
0.1.2.3 -> http.request: http://0.1.2.3:PORT/: 0.1.2.3 is a loopback, link-local or other special address that fetch_allow does not name
169.254.169.254 -> http.request: http://169.254.169.254:PORT/: 169.254.169.254 is a loopback, link-local or other special address that fetch_allow does not name
224.0.0.1 -> http.request: http://224.0.0.1:PORT/: 224.0.0.1 is a loopback, link-local or other special address that fetch_allow does not name
239.255.255.255 -> http.request: http://239.255.255.255:PORT/: 239.255.255.255 is a loopback, link-local or other special address that fetch_allow does not name
255.255.255.255 -> http.request: http://255.255.255.255:PORT/: 255.255.255.255 is a loopback, link-local or other special address that fetch_allow does not name
[::] -> http.request: http://[::]:PORT/: :: is a loopback, link-local or other special address that fetch_allow does not name
[::1] -> http.request: http://[::1]:PORT/: ::1 is a loopback, link-local or other special address that fetch_allow does not name
[0:0:0:0:0:0:0:1] -> http.request: http://[0:0:0:0:0:0:0:1]:PORT/: 0:0:0:0:0:0:0:1 is a loopback, link-local or other special address that fetch_allow does not name
[::127.0.0.1] -> http.request: http://[::127.0.0.1]:PORT/: ::127.0.0.1 is a loopback, link-local or other special address that fetch_allow does not name
[::ffff:127.0.0.1] -> http.request: http://[::ffff:127.0.0.1]:PORT/: ::ffff:127.0.0.1 is a loopback, link-local or other special address that fetch_allow does not name
[::FFFF:7f00:1] -> http.request: http://[::ffff:7f00:1]:PORT/: ::ffff:7f00:1 is a loopback, link-local or other special address that fetch_allow does not name
[::ffff:169.254.169.254] -> http.request: http://[::ffff:169.254.169.254]:PORT/: ::ffff:169.254.169.254 is a loopback, link-local or other special address that fetch_allow does not name
[fe80::1] -> http.request: http://[fe80::1]:PORT/: fe80::1 is a loopback, link-local or other special address that fetch_allow does not name
[febf::1] -> http.request: http://[febf::1]:PORT/: febf::1 is a loopback, link-local or other special address that fetch_allow does not name
[ff02::1] -> http.request: http://[ff02::1]:PORT/: ff02::1 is a loopback, link-local or other special address that fetch_allow does not name
[64:ff9b::127.0.0.1] -> http.request: http://[64:ff9b::127.0.0.1]:PORT/: 64:ff9b::127.0.0.1 is a loopback, link-local or other special address that fetch_allow does not name
[64:ff9b::a9fe:a9fe] -> http.request: http://[64:ff9b::a9fe:a9fe]:PORT/: 64:ff9b::a9fe:a9fe is a loopback, link-local or other special address that fetch_allow does not name
[64:ff9b::0.0.0.0] -> http.request: http://[64:ff9b::0.0.0.0]:PORT/: 64:ff9b::0.0.0.0 is a loopback, link-local or other special address that fetch_allow does not name
[64:ff9b::239.0.0.1] -> http.request: http://[64:ff9b::239.0.0.1]:PORT/: 64:ff9b::239.0.0.1 is a loopback, link-local or other special address that fetch_allow does not name
[2002:7f00:1::] -> http.request: http://[2002:7f00:1::]:PORT/: 2002:7f00:1:: is a loopback, link-local or other special address that fetch_allow does not name
[2002:a9fe:a9fe::1] -> http.request: http://[2002:a9fe:a9fe::1]:PORT/: 2002:a9fe:a9fe::1 is a loopback, link-local or other special address that fetch_allow does not name
[2002::1] -> http.request: http://[2002::1]:PORT/: 2002::1 is a loopback, link-local or other special address that fetch_allow does not name
[2002:e000:1::] -> http.request: http://[2002:e000:1::]:PORT/: 2002:e000:1:: is a loopback, link-local or other special address that fetch_allow does not name
100.100.100.200 -> http.request: http://100.100.100.200:PORT/: 100.100.100.200 is a loopback, link-local or other special address that fetch_allow does not name
168.63.129.16 -> http.request: http://168.63.129.16:PORT/: 168.63.129.16 is a loopback, link-local or other special address that fetch_allow does not name
192.0.0.192 -> http.request: http://192.0.0.192:PORT/: 192.0.0.192 is a loopback, link-local or other special address that fetch_allow does not name
[::ffff:100.100.100.200] -> http.request: http://[::ffff:100.100.100.200]:PORT/: ::ffff:100.100.100.200 is a loopback, link-local or other special address that fetch_allow does not name
[::ffff:0:127.0.0.1] -> http.request: http://[::ffff:0:127.0.0.1]:PORT/: ::ffff:0:127.0.0.1 is a loopback, link-local or other special address that fetch_allow does not name
[fd00:ec2::254] -> http.request: http://[fd00:ec2::254]:PORT/: fd00:ec2::254 is a loopback, link-local or other special address that fetch_allow does not name
[fd00:ec2::23] -> http.request: http://[fd00:ec2::23]:PORT/: fd00:ec2::23 is a loopback, link-local or other special address that fetch_allow does not name
[fd20:ce::254] -> http.request: http://[fd20:ce::254]:PORT/: fd20:ce::254 is a loopback, link-local or other special address that fetch_allow does not name
[fd00:c1::a9fe:a9fe] -> http.request: http://[fd00:c1::a9fe:a9fe]:PORT/: fd00:c1::a9fe:a9fe is a loopback, link-local or other special address that fetch_allow does not name
[fd00:42::42] -> http.request: http://[fd00:42::42]:PORT/: fd00:42::42 is a loopback, link-local or other special address that fetch_allow does not name
[64:ff9b::100.100.100.200] -> http.request: http://[64:ff9b::100.100.100.200]:PORT/: 64:ff9b::100.100.100.200 is a loopback, link-local or other special address that fetch_allow does not name
[64:ff9b::168.63.129.16] -> http.request: http://[64:ff9b::168.63.129.16]:PORT/: 64:ff9b::168.63.129.16 is a loopback, link-local or other special address that fetch_allow does not name
[64:ff9b::192.0.0.192] -> http.request: http://[64:ff9b::192.0.0.192]:PORT/: 64:ff9b::192.0.0.192 is a loopback, link-local or other special address that fetch_allow does not name
[64:ff9b:1::a9fe:a9fe] -> http.request: http://[64:ff9b:1::a9fe:a9fe]:PORT/: 64:ff9b:1::a9fe:a9fe is a loopback, link-local or other special address that fetch_allow does not name
[64:ff9b:1:a9fe:a9:fe00::] -> http.request: http://[64:ff9b:1:a9fe:a9:fe00::]:PORT/: 64:ff9b:1:a9fe:a9:fe00:: is a loopback, link-local or other special address that fetch_allow does not name
[2002:6464:64c8::1] -> http.request: http://[2002:6464:64c8::1]:PORT/: 2002:6464:64c8::1 is a loopback, link-local or other special address that fetch_allow does not name
[2002:a83f:8110::1] -> http.request: http://[2002:a83f:8110::1]:PORT/: 2002:a83f:8110::1 is a loopback, link-local or other special address that fetch_allow does not name
[2002:c000:c0::1] -> http.request: http://[2002:c000:c0::1]:PORT/: 2002:c000:c0::1 is a loopback, link-local or other special address that fetch_allow does not name
localhost -> http.request: http://localhost:PORT/: host resolves to 127.0.0.1, a loopback, link-local or other special address that fetch_allow does not name
LOCALHOST. -> http.request: http://localhost:PORT/: host resolves to 127.0.0.1, a loopback, link-local or other special address that fetch_allow does not name
a.localhost -> http.request: http://a.localhost:PORT/: host resolves to 127.0.0.1, a loopback, link-local or other special address that fetch_allow does not name
here.test -> http.request: http://here.test:PORT/: host resolves to 127.0.0.1, a loopback, link-local or other special address that fetch_allow does not name
metadata.test -> http.request: http://metadata.test:PORT/: host resolves to 169.254.169.254, a loopback, link-local or other special address that fetch_allow does not name
zero.test -> http.request: http://zero.test:PORT/: host resolves to 0.0.0.0, a loopback, link-local or other special address that fetch_allow does not name
six.test -> http.request: http://six.test:PORT/: host resolves to ::1, a loopback, link-local or other special address that fetch_allow does not name
mapped.test -> http.request: http://mapped.test:PORT/: host resolves to ::ffff:127.0.0.2, a loopback, link-local or other special address that fetch_allow does not name
translated.test -> http.request: http://translated.test:PORT/: host resolves to 64:ff9b::a9fe:a9fe, a loopback, link-local or other special address that fetch_allow does not name
alias.test -> http.request: http://alias.test:PORT/: host resolves to 127.0.0.1, a loopback, link-local or other special address that fetch_allow does not name
from-hosts.test -> http.request: http://from-hosts.test:PORT/: host resolves to 127.0.0.1, a loopback, link-local or other special address that fetch_allow does not name



=== TEST 2: request() goes to private addresses, as to any other
--- http_config eval: $::Http
--- config eval
$::Config . <<'_EOC_';
    location /t {
        content_by_lua_block {
            local t = require "t.fetch"
            -- Whether somebody answers there, or there is a route at all, is another question.
            for _, host in ipairs { "10.255.255.1", "192.168.255.1", "172.31.255.1", "203.0.113.1", "100.100.100.201",
                                     "192.0.1.1", "[fd00::1]", "[fd20:ce::255]" } do
                local _, err = require("resty.mtls.internal.net.http").request { url = "http://" .. host .. ":9/", timeout = 50 }
                ngx.say(host, " ", err and err:find("fetch_allow", 1, true) and err or "tried")
            end
        }
    }
_EOC_
--- user_files
>>> hosts
--- response_body
10.255.255.1 tried
192.168.255.1 tried
172.31.255.1 tried
203.0.113.1 tried
100.100.100.201 tried
192.0.1.1 tried
[fd00::1] tried
[fd20:ce::255] tried
--- no_error_log
[crit]
[alert]
[emerg]



=== TEST 3: request() reaches what fetch_allow names, at the address that was judged
--- http_config eval: $::Http
--- config eval
$::Config . <<'_EOC_';
    location /redirect { return 302 http://there.test:$TEST_NGINX_SERVER_PORT/; }
    location /t {
        content_by_lua_block {
            local t = require "t.fetch"
            t.init { "127.0.0.1" }
            for _, host in ipairs { "127.0.0.1", "127.0.0.2", "[::ffff:127.0.0.1]", "[::1]", "localhost", "here.test", "HERE.test.",
                                    "there.test", "mixed.test", "alias.test", "six.test", "both.test", "mapped.test", "many.hosts.test",
                                    "rebind.test", "rebind.test", "rebind.test" } do
                t.say(host, "http://" .. host .. ":PORT/")
            end

            t.say("redirect", "http://here.test:PORT/redirect")
            t.init { "127.0.0.2" }
            for _, host in ipairs { "there.test", "mapped.test", "rebind.test", "rebind.test" } do
                t.say(host, "http://" .. host .. ":PORT/")
            end
        }
    }
_EOC_
--- user_files
>>> hosts
# comment
127.0.0.2 many.hosts.test # x
127.0.0.1	x.test  MANY.hosts.test
--- response_body
127.0.0.1 -> 127.0.0.1:PORT at 127.0.0.1
127.0.0.2 -> http.request: http://127.0.0.2:PORT/: 127.0.0.2 is a loopback, link-local or other special address that fetch_allow does not name
[::ffff:127.0.0.1] -> [::ffff:127.0.0.1]:PORT at 127.0.0.1
[::1] -> http.request: http://[::1]:PORT/: ::1 is a loopback, link-local or other special address that fetch_allow does not name
localhost -> localhost:PORT at 127.0.0.1
here.test -> here.test:PORT at 127.0.0.1
HERE.test. -> here.test:PORT at 127.0.0.1
there.test -> http.request: http://there.test:PORT/: host resolves to 127.0.0.2, a loopback, link-local or other special address that fetch_allow does not name
mixed.test -> mixed.test:PORT at 127.0.0.1
alias.test -> alias.test:PORT at 127.0.0.1
six.test -> http.request: http://six.test:PORT/: host resolves to ::1, a loopback, link-local or other special address that fetch_allow does not name
both.test -> both.test:PORT at 127.0.0.1
mapped.test -> http.request: http://mapped.test:PORT/: host resolves to ::ffff:127.0.0.2, a loopback, link-local or other special address that fetch_allow does not name
many.hosts.test -> many.hosts.test:PORT at 127.0.0.1
rebind.test -> rebind.test:PORT at 127.0.0.1
rebind.test -> http.request: http://rebind.test:PORT/: host resolves to 127.0.0.2, a loopback, link-local or other special address that fetch_allow does not name
rebind.test -> rebind.test:PORT at 127.0.0.1
redirect -> http.request: http://there.test:PORT/: host resolves to 127.0.0.2, a loopback, link-local or other special address that fetch_allow does not name
there.test -> there.test:PORT at 127.0.0.2
mapped.test -> mapped.test:PORT at 127.0.0.2
rebind.test -> rebind.test:PORT at 127.0.0.2
rebind.test -> http.request: http://rebind.test:PORT/: host resolves to 127.0.0.1, a loopback, link-local or other special address that fetch_allow does not name



=== TEST 4: request() lets an operator's URL go anywhere, and no further than its origin
--- http_config eval: $::Http
--- config eval
$::Config . <<'_EOC_';
    location /here { return 302 /; }
    location /there { return 302 http://there.test:$TEST_NGINX_SERVER_PORT/; }
    location /back { return 302 http://here.test:$TEST_NGINX_SERVER_PORT/; }
    location /t {
        content_by_lua_block {
            local t = require "t.fetch"
            local url = require "resty.mtls.internal.net.url"
            for _, place in ipairs { "127.0.0.1:PORT/", "localhost:PORT/", "here.test:PORT/", "here.test:PORT/here",
                                     "here.test:PORT/there", "there.test:PORT/back" } do
                t.say(place, "http://" .. place, { origin = "operator" })
            end

            ngx.say(url.same_origin("https://IDP.test/a", "https://idp.test.:443/b?c"), " ",
                    url.same_origin("https://idp.test/", "http://idp.test/"), " ",
                    url.same_origin("https://idp.test/", "https://idp.test:8443/"), " ",
                    url.same_origin("https://idp.test/", "https://idp.test.evil.test/"), " ",
                    url.same_origin("x", "x"))
        }
    }
_EOC_
--- user_files
>>> hosts
--- response_body
127.0.0.1:PORT/ -> 127.0.0.1:PORT at 127.0.0.1
localhost:PORT/ -> localhost:PORT at 127.0.0.1
here.test:PORT/ -> here.test:PORT at 127.0.0.1
here.test:PORT/here -> here.test:PORT at 127.0.0.1
here.test:PORT/there -> http.request: http://there.test:PORT/: host resolves to 127.0.0.2, a loopback, link-local or other special address that fetch_allow does not name
there.test:PORT/back -> http.request: http://here.test:PORT/: host resolves to 127.0.0.1, a loopback, link-local or other special address that fetch_allow does not name
true false false false false



=== TEST 5: request() resolves names as a careful resolver does
--- http_config eval: $::Http
--- config eval
$::Config . <<'_EOC_';
    location /t {
        content_by_lua_block {
            local t = require "t.fetch"
            t.init { "127.0.0.0/8" }
            for _, host in ipairs { "absent.test", "not-in-the-zone.test", "empty.test", "servfail.test", "refused.test", "flaky.test",
                                    "truncated.test", "spoofed.test", "flood.test", "garbage.test", "loop.test", "short.test", "cut.test",
                                    "elsewhere.test", "aliases.test", "silent6.test", "cached.test",
                                    "cached.test" } do
                t.say(host, "http://" .. host .. ":PORT/")
            end

            ngx.update_time()
            local start = ngx.now()
            t.say("silent.test", "http://silent.test:PORT/", { timeout = 300 })
            ngx.update_time()
            ngx.say(ngx.now() - start < 1.5 and "in time" or ngx.now() - start)
        }
    }
_EOC_
--- user_files
>>> hosts
--- response_body
absent.test -> http.request: http://absent.test:PORT/: host 'absent.test' cannot be resolved: no such name
not-in-the-zone.test -> http.request: http://not-in-the-zone.test:PORT/: host 'not-in-the-zone.test' cannot be resolved: no such name
empty.test -> http.request: http://empty.test:PORT/: host 'empty.test' cannot be resolved: the name has no address
servfail.test -> http.request: http://servfail.test:PORT/: host 'servfail.test' cannot be resolved: nameserver 127.0.0.1 port DNS: answers with code 2
refused.test -> http.request: http://refused.test:PORT/: host 'refused.test' cannot be resolved: nameserver 127.0.0.1 port DNS: answers with code 5
flaky.test -> flaky.test:PORT at 127.0.0.1
truncated.test -> truncated.test:PORT at 127.0.0.1
spoofed.test -> spoofed.test:PORT at 127.0.0.1
flood.test -> http.request: http://flood.test:PORT/: host 'flood.test' cannot be resolved: nameserver 127.0.0.1 port DNS: timeout
garbage.test -> http.request: http://garbage.test:PORT/: host 'garbage.test' cannot be resolved: nameserver 127.0.0.1 port DNS: answers with a malformed record
loop.test -> http.request: http://loop.test:PORT/: host 'loop.test' cannot be resolved: nameserver 127.0.0.1 port DNS: answers with a malformed record
short.test -> http.request: http://short.test:PORT/: host 'short.test' cannot be resolved: nameserver 127.0.0.1 port DNS: answers with a malformed record
cut.test -> http.request: http://cut.test:PORT/: host 'cut.test' cannot be resolved: nameserver 127.0.0.1 port DNS: answers with a malformed record
elsewhere.test -> http.request: http://elsewhere.test:PORT/: host 'elsewhere.test' cannot be resolved: the name has no address
aliases.test -> http.request: http://aliases.test:PORT/: host 'aliases.test' cannot be resolved: nameserver 127.0.0.1 port DNS: answers with a chain of over 16 aliases
silent6.test -> silent6.test:PORT at 127.0.0.1
cached.test -> cached.test:PORT at 127.0.0.1
cached.test -> cached.test:PORT at 127.0.0.1
silent.test -> http.request: http://silent.test:PORT/: host 'silent.test' cannot be resolved: nameserver 127.0.0.1 port DNS: timeout
in time
--- timeout: 30



=== TEST 6: request() goes through proxies
--- http_config eval: $::Http
--- config eval
$::Config . <<'_EOC_';
    location /redirect { return 302 http://other.test/; }
    location /t {
        content_by_lua_block {
            local t = require "t.fetch"
            local function proxied(label, url, opts)
                opts = opts or {}
                opts.http_proxy, opts.https_proxy, opts.timeout = t.proxy, t.proxy, 500
                t.say(label, url, opts)
            end

            proxied("name", "http://only.the.proxy.knows.test/a?b=c")
            proxied("port", "http://a.test:8080", { method = "POST", body = "x", content_type = "a/b" })
            for _, host in ipairs { "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "localhost", "x.localhost" } do
                proxied(host, "http://" .. host .. "/")
                proxied(host, "https://" .. host .. "/")
            end

            proxied("operator's", "http://127.0.0.1/", { origin = "operator" })
            proxied("CONNECT", "https://a.test:TLS/x")
            proxied("CONNECT, other name", "https://other.example:TLS/")
            proxied("CONNECT, unverified", "https://other.example:TLS/", { ssl_verify = false })
            proxied("CONNECT, forbidden", "https://forbidden.test/")
            proxied("CONNECT, early data", "https://early.test/")
            proxied("CONNECT, silent", "https://silent.test/")
            proxied("CONNECT, origin down", "https://a.test:1/")
            t.proxy = { host = "here.test", port = t.proxy.port }
            proxied("named proxy", "http://a.test/")
            t.proxy = { host = "absent.test", port = 1 }
            proxied("absent proxy", "http://a.test/")
            t.proxy = { host = "127.0.0.1", port = 1 }
            proxied("proxy down", "https://a.test/")
            t.say("only for the other scheme", "http://127.0.0.1:PORT/", { https_proxy = t.proxy, origin = "operator" })
        }
    }
_EOC_
--- user_files
>>> hosts
--- response_body
name -> GET http://only.the.proxy.knows.test/a?b=c HTTP/1.1|User-Agent: resty-mtls|Connection: close|Host: only.the.proxy.knows.test||
port -> POST http://a.test:8080/ HTTP/1.1|User-Agent: resty-mtls|Connection: close|Content-Length: 1|Content-Type: a/b|Host: a.test:8080||x
127.0.0.1 -> http.request: http://127.0.0.1/: 127.0.0.1 is a loopback, link-local or other special address that fetch_allow does not name
127.0.0.1 -> http.request: https://127.0.0.1/: 127.0.0.1 is a loopback, link-local or other special address that fetch_allow does not name
[::1] -> http.request: http://[::1]/: ::1 is a loopback, link-local or other special address that fetch_allow does not name
[::1] -> http.request: https://[::1]/: ::1 is a loopback, link-local or other special address that fetch_allow does not name
[::ffff:127.0.0.1] -> http.request: http://[::ffff:127.0.0.1]/: ::ffff:127.0.0.1 is a loopback, link-local or other special address that fetch_allow does not name
[::ffff:127.0.0.1] -> http.request: https://[::ffff:127.0.0.1]/: ::ffff:127.0.0.1 is a loopback, link-local or other special address that fetch_allow does not name
169.254.169.254 -> http.request: http://169.254.169.254/: 169.254.169.254 is a loopback, link-local or other special address that fetch_allow does not name
169.254.169.254 -> http.request: https://169.254.169.254/: 169.254.169.254 is a loopback, link-local or other special address that fetch_allow does not name
localhost -> http.request: http://localhost/: host resolves to 127.0.0.1, a loopback, link-local or other special address that fetch_allow does not name
localhost -> http.request: https://localhost/: host resolves to 127.0.0.1, a loopback, link-local or other special address that fetch_allow does not name
x.localhost -> http.request: http://x.localhost/: host resolves to 127.0.0.1, a loopback, link-local or other special address that fetch_allow does not name
x.localhost -> http.request: https://x.localhost/: host resolves to 127.0.0.1, a loopback, link-local or other special address that fetch_allow does not name
operator's -> GET http://127.0.0.1/ HTTP/1.1|User-Agent: resty-mtls|Connection: close|Host: 127.0.0.1||
CONNECT -> GET /x HTTP/1.1|User-Agent: resty-mtls|Connection: close|Host: a.test:TLS||
CONNECT, other name -> http.request: https://other.example:TLS/: TLS handshake: certificate host mismatch
CONNECT, unverified -> other.example:TLS at 127.0.0.1
CONNECT, forbidden -> http.request: https://forbidden.test/: proxy: answers CONNECT with status 403
CONNECT, early data -> http.request: https://early.test/: proxy: sends data before the TLS handshake
CONNECT, silent -> http.request: https://silent.test/: proxy: timeout
CONNECT, origin down -> http.request: https://a.test:1/: proxy: connection closed within the header
named proxy -> GET http://a.test/ HTTP/1.1|User-Agent: resty-mtls|Connection: close|Host: a.test||
absent proxy -> http.request: http://a.test/: proxy: host 'absent.test' cannot be resolved: no such name
proxy down -> http.request: https://a.test/: proxy: cannot connect to 127.0.0.1 port 1: connection refused
only for the other scheme -> 127.0.0.1:PORT at 127.0.0.1



=== TEST 7: request() speaks IPv6, and falls back from one address to the next
--- skip_eval: 6: $::NoIpv6
--- http_config eval: $::Http6
--- config eval
$::Config . <<'_EOC_';
    location /t {
        content_by_lua_block {
            local t = require "t.fetch"
            t.init { "127.0.0.1", "::1" }
            for _, place in ipairs { "[::1]:PORT", "six.test:PORT", "both.test:PORT", "both.test:SIX", "localhost:SIX", "here.test:SIX" } do
                t.say(place, "http://" .. place .. "/")
            end

            t.init { "::1" }
            t.say("both.test, one of which may be reached", "http://both.test:PORT/")
            t.say("proxy", "http://a.test/", { http_proxy = { host = "::1", port = $TEST_NGINX_SIX_PORT } })
        }
    }
_EOC_
--- user_files
>>> hosts
--- response_body
[::1]:PORT -> [::1]:PORT at ::1
six.test:PORT -> six.test:PORT at ::1
both.test:PORT -> both.test:PORT at 127.0.0.1
both.test:SIX -> both.test:SIX at ::1
localhost:SIX -> localhost:SIX at ::1
here.test:SIX -> http.request: http://here.test:SIX/: cannot connect to 127.0.0.1 port SIX: connection refused
both.test, one of which may be reached -> both.test:PORT at ::1
proxy -> a.test at ::1



=== TEST 8: decode() survives every cut and every changed byte of an answer
--- http_config eval: $::Http
--- config
    location /t {
        content_by_lua_block {
            local dns = require "resty.mtls.internal.net.dns"
            local answer = "\1\2\129\128\0\1\0\3\0\0\0\0\5alias\4test\0\0\1\0\1"
                           .. "\192\12\0\5\0\1\0\0\0\60\0\8\5other\192\18"
                           .. "\5other\192\18\0\1\0\1\0\0\0\9\0\4\192\0\2\1"
                           .. "\5OTHER\192\18\0\1\0\1\0\0\0\9\0\4\192\0\2\2"
            local found, ttl = dns.decode(answer, "alias.test", 1)
            ngx.say(found[1], " ", found[2], " ", found[3], " ", ttl)
            local outcomes = {}
            local function try(data)
                local list, detail = dns.decode(data, "alias.test", 1)
                local what = list and "answer" or detail:gsub("%d+", "N")
                outcomes[what] = true
            end

            for i = 0, #answer do
                try(answer:sub(1, i))
                for value = 0, 255 do
                    try(answer:sub(1, i - 1) .. string.char(value) .. answer:sub(i + 1))
                end
            end

            local list = {}
            for what in pairs(outcomes) do
                list[#list + 1] = what
            end
            table.sort(list)
            ngx.say(table.concat(list, "\n"))
        }
    }
--- user_files
>>> hosts
--- response_body
192.0.2.1 192.0.2.2 nil 9
answer
answers with a malformed record
answers with code N
nxdomain
other
truncated



=== TEST 9: request() lets other work go on while a fast server sends much
--- http_config eval: $::Http
--- config
    location /t {
        content_by_lua_block {
            local turns, running = 0, true
            local other = ngx.thread.spawn(function()
                while running do
                    ngx.sleep(0.001)
                    turns = turns + 1
                end
            end)
            local proxy = require("t.fetch").proxy
            local answer = assert(require("resty.mtls.internal.net.http").request { url = "http://much.test/", http_proxy = proxy,
                                                                        max_bytes = 33554432 })
            running = false
            ngx.thread.wait(other)
            -- One turn for 128 KB is promised.
            ngx.say(answer.body == ("x"):rep(33554432), " ", turns > 200 and "others had their turn" or turns)
        }
    }
--- user_files
>>> hosts
--- response_body
true others had their turn
--- timeout: 10
