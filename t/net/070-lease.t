# resty.mtls.internal.net.lease

use lib 't/lib';
use TestMtls;

our $Http = <<'_EOC_';
    lua_shared_dict mtls 1m;
    lua_shared_dict small 64k;
    init_by_lua_block {
        package.loaded["t.lease"] = {
            -- The entry of a holder that has not renewed it for some seconds
            age = function(name, seconds)
                local dict = ngx.shared.mtls
                local owner, stamp = dict:get("lease:" .. name):match("^(.*):(%d+)$")
                dict:set("lease:" .. name, owner .. ":" .. stamp - seconds * 1000)
            end,
        }
    }
_EOC_

run_blocks();

__DATA__

=== TEST 1: take() gives a name to one holder at a time, and to the next one after release()
--- http_config eval: $::Http
--- config
    location /t {
        content_by_lua_block {
            local lease, dict = require "resty.mtls.internal.net.lease", ngx.shared.mtls
            ngx.say(lease.holder_alive(dict, "a"))
            local first = lease.take(dict, "a")
            ngx.say(first ~= nil, " ", lease.holder_alive(dict, "a"), " ", lease.take(dict, "a"), " ", first:renew())
            ngx.say(lease.take(dict, "b") ~= nil)
            first:release()
            ngx.say(lease.holder_alive(dict, "a"))
            local second = lease.take(dict, "a")
            first:release()
            ngx.say(second ~= nil, " ", second:renew(), " ", first:renew(), " ", second.taken_over)
        }
    }
--- response_body
false
true true nil true
true
false
true true false nil



=== TEST 2: take() takes a lease over from a holder that has not renewed it for three seconds
--- http_config eval: $::Http
--- config
    location /t {
        content_by_lua_block {
            local lease, age, dict = require "resty.mtls.internal.net.lease", require("t.lease").age, ngx.shared.mtls
            local first = lease.take(dict, "a")
            age("a", 2.5)
            ngx.say(lease.holder_alive(dict, "a"), " ", lease.take(dict, "a"), " ", first:renew())
            age("a", 3.5)
            ngx.say(lease.holder_alive(dict, "a"))
            local second = lease.take(dict, "a")
            ngx.say(second.taken_over, " ", lease.take(dict, "a"), " ", first:renew(), " ", second:renew())
            first:release()
            ngx.say(lease.holder_alive(dict, "a"))
            age("a", -60)
            ngx.say("a time of renewal in the future: ", lease.holder_alive(dict, "a"))
        }
    }
--- response_body
true nil true
false
true nil false true
true
a time of renewal in the future: false



=== TEST 3: take() takes a lease over at once from a process that has ended
--- http_config eval: $::Http
--- worker_processes: 2
--- config
    location /take {
        content_by_lua_block {
            local lease = require("resty.mtls.internal.net.lease").take(ngx.shared.mtls, "a")
            ngx.say(lease and (lease.taken_over and "taken over" or "taken") or "held by another")
        }
    }
    location /pid {
        content_by_lua_block { ngx.say((ngx.shared.mtls:get("lease:a"):match("^%d+"))) }
    }
--- client
take() { curl -s "http://127.0.0.1:$HTTP_PORT/take"; }
take
take
for _ in 1 2 3; do
    holder=$(curl -s "http://127.0.0.1:$HTTP_PORT/pid")
    kill -9 "$holder"
    wait_until has_ended "$holder"
    take
    take
done
--- client_out
taken
held by another
taken over
held by another
taken over
held by another
taken over
held by another
--- error_log
exited on signal 9
--- no_error_log
[crit]



=== TEST 4: take() gives a dead lease to one of many workers
--- http_config eval: $::Http
--- config
    location /t {
        content_by_lua_block {
            local lease, age, dict = require "resty.mtls.internal.net.lease", require("t.lease").age, ngx.shared.mtls
            local lost = 0
            for _ = 1, 50 do
                local dead = lease.take(dict, "a")
                age("a", 4)
                -- What another worker does between the look and the takeover of this one
                local winner
                local proxy = setmetatable({}, { __index = function(_, name)
                    return function(_, ...)
                        local value, err = dict[name](dict, ...)
                        if name == "get" and not winner then
                            winner = lease.take(dict, "a")
                        end

                        return value, err
                    end
                end })
                local other = lease.take(proxy, "a")
                if winner and not other and winner:renew() and not dead:renew() then
                    lost = lost + 1
                end
                winner:release()
            end
            ngx.say(lost, " of 50 takeovers have one winner")
        }
    }
--- response_body
50 of 50 takeovers have one winner



=== TEST 5: a lease that was deleted is renewed, and a full dictionary is an error
--- http_config eval: $::Http
--- config
    location /t {
        content_by_lua_block {
            local lease, dict = require "resty.mtls.internal.net.lease", ngx.shared.mtls
            local first = lease.take(dict, "a")
            dict:flush_all()
            ngx.say(first:renew(), " ", lease.take(dict, "a"))
            dict:set("lease:b", "garbage")
            ngx.say(lease.holder_alive(dict, "b"), " ", lease.take(dict, "b") ~= nil, " ", lease.take(dict, "b"))

            local small = ngx.shared.small
            for i = 1, 10000 do
                if not small:safe_set("filler" .. i, ("x"):rep(40)) then
                    break
                end
            end
            ngx.say(lease.take(small, "a"))
        }
    }
--- response_body
true nil
false true nil
nilno memory
