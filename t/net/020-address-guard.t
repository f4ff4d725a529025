# resty.mtls.internal.net.address_guard: which addresses a request may reach.

use lib 't/lib';
use TestMtls;
use TestNet;

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



=== TEST 2: request() connects to private addresses
--- http_config eval: $::Http
--- config eval
$::Config . <<'_EOC_';
    location /t {
        content_by_lua_block {
            local t = require "t.fetch"
            -- The result of the connect does not matter: there may be no server or no route.
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



=== TEST 3: request() connects to what fetch_allow names, at the address that was checked
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



=== TEST 4: request() lets a configured URL point anywhere, and its redirects to the same origin only
--- http_config eval: $::Http
--- config eval
$::Config . <<'_EOC_';
    location /here { return 302 /; }
    location /there { return 302 http://there.test:$TEST_NGINX_SERVER_PORT/; }
    location /back { return 302 http://here.test:$TEST_NGINX_SERVER_PORT/; }
    location /t {
        content_by_lua_block {
            local t = require "t.fetch"
            for _, place in ipairs { "127.0.0.1:PORT/", "localhost:PORT/", "here.test:PORT/", "here.test:PORT/here",
                                     "here.test:PORT/there", "there.test:PORT/back" } do
                t.say(place, "http://" .. place, { origin = "operator" })
            end
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
