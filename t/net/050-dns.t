# resty.mtls.internal.net.dns

use lib 't/lib';
use TestMtls;
use TestNet;

run_blocks();

__DATA__

=== TEST 1: request() resolves names, and survives wrong answers of the nameserver
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



=== TEST 2: decode() survives every truncated and every changed answer
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
