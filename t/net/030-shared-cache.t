# resty.mtls.internal.net.shared_cache: one caller at a time fetches a value for all.

use lib 't/lib';
use TestMtls;

# t.slow(value, ttl, seconds) makes a function that counts its calls in the dictionary, under "calls".
our $Http = <<'_EOC_';
    lua_shared_dict counts 1m;
    lua_shared_dict fetched 1m;
    lua_shared_dict small 64k;
    lua_socket_log_errors off;
    init_by_lua_block {
        local t = {}
        package.loaded["t.fetch"] = t
        function t.slow(value, detail, seconds)
            return function()
                ngx.shared.counts:incr("calls", 1, 0)
                ngx.sleep(seconds or 0)
                return value, detail
            end
        end

        function t.calls()
            return ngx.shared.counts:get("calls") or 0
        end

        -- Runs many at a time, and returns each different result once.
        function t.together(count, run)
            local threads, seen, list = {}, {}, {}
            for i = 1, count do
                threads[i] = ngx.thread.spawn(function() return run(i) end)
            end

            for i = 1, count do
                local _, value, err = ngx.thread.wait(threads[i])
                local text = tostring(value) .. " " .. tostring(err)
                if not seen[text] then
                    list[#list + 1] = text
                end
                seen[text] = true
            end

            table.sort(list)
            return table.concat(list, "; ")
        end
    }
_EOC_

run_blocks();

__DATA__

=== TEST 1: get() fetches once for all requests of all workers
--- worker_processes: 2
--- http_config eval
$::Http . <<'_EOC_';
    init_worker_by_lua_block {
        -- Both workers must run it, whichever accepts the test's connection.
        ngx.timer.at(0.2, function()
            local t, http = require "t.fetch", require "resty.mtls.internal.net.http"
            local cache = require "resty.mtls.internal.net.shared_cache"
            local function get()
                local answer, err = http.request { url = "http://127.0.0.1:$TEST_NGINX_SERVER_PORT/origin", origin = "operator" }
                return answer and answer.body, answer and 60 or err
            end

            local results = t.together(20, function() return cache.get("fetched", "key", {}, get) end)
            ngx.shared.counts:set("worker " .. ngx.worker.id(), results)
        end)
    }
_EOC_
--- config
    location /origin {
        content_by_lua_block {
            ngx.sleep(0.3)
            ngx.print("answer number ", (ngx.shared.counts:incr("calls", 1, 0)))
        }
    }
    location /t {
        content_by_lua_block {
            local counts = ngx.shared.counts
            for _ = 1, 200 do
                if counts:get("worker 0") and counts:get("worker 1") then
                    break
                end
                ngx.sleep(0.02)
            end

            ngx.say(counts:get("worker 0"), ", ", counts:get("worker 1"), ", calls: ", require("t.fetch").calls())
        }
    }
--- response_body
answer number 1 nil, answer number 1 nil, calls: 1
--- timeout: 10



=== TEST 2: get() caches a value for its time to live, and not at all without one
--- http_config eval: $::Http
--- config
    location /t {
        content_by_lua_block {
            local t, cache = require "t.fetch", require "resty.mtls.internal.net.shared_cache"
            ngx.say(cache.get("fetched", "a", {}, t.slow("first", 1)))
            ngx.say(cache.get("fetched", "a", {}, t.slow("second", 1)))
            ngx.say(cache.get("fetched", "b", {}, t.slow("", 60)), cache.get("fetched", "b", {}, t.slow("other", 60)))
            ngx.sleep(1.1)
            ngx.say(cache.get("fetched", "a", {}, t.slow("third", 60)), " calls: ", t.calls())
            ngx.say(cache.get("fetched", "unstored", {}, t.slow("x")), cache.get("fetched", "unstored", {}, t.slow("y", 0)),
                    cache.get("fetched", "unstored", {}, t.slow("z", 60)), cache.get("fetched", "unstored", {}, t.slow("no")))
        }
    }
--- response_body
first
first

third calls: 3
xyzz




=== TEST 3: get() tries a host that failed once in five seconds, one caller at a time
--- http_config eval: $::Http
--- config
    location /t {
        content_by_lua_block {
            local t, cache = require "t.fetch", require "resty.mtls.internal.net.shared_cache"
            local function say(label, key, host, fn)
                ngx.say(label, ": ", t.together(10, function(i)
                    return cache.get("fetched", key .. (label:find("keys") and i or ""), { host = host }, fn)
                end), ", calls: ", t.calls())
            end

            say("waiters share the failure", "a", "a.test", t.slow(nil, "a.test: timeout", 0.2))
            say("other keys fail fast", "b", "a.test", t.slow("never", 60))
            say("other host", "b", "b.test", t.slow("fine", 60))
            ngx.sleep(4)
            say("still too soon", "a", "a.test", t.slow("never", 60))
            ngx.sleep(1.1)
            say("one of many keys tries", "c", "a.test", t.slow(nil, "a.test: refused", 0.2))
            say("too soon again", "a", "a.test", t.slow("never", 60))
            ngx.sleep(5.1)
            say("one tries with success", "a", "a.test", t.slow("back", 60, 0.2))
            say("all keys may again", "d", "a.test", t.slow("open", 60))
        }
    }
--- response_body
waiters share the failure: nil shared_cache.get: a.test: timeout, calls: 1
other keys fail fast: nil shared_cache.get: not tried again so soon after: a.test: timeout, calls: 1
other host: fine nil, calls: 2
still too soon: nil shared_cache.get: not tried again so soon after: a.test: timeout, calls: 2
one of many keys tries: nil shared_cache.get: a.test: refused; nil shared_cache.get: not tried again so soon after: a.test: timeout, calls: 3
too soon again: nil shared_cache.get: not tried again so soon after: a.test: refused, calls: 3
one tries with success: back nil, calls: 4
all keys may again: open nil, calls: 14
--- timeout: 20



=== TEST 4: get() ends its flight when fetch() raises, and goes on with it when its caller dies
--- http_config eval: $::Http
--- config
    location /t {
        content_by_lua_block {
            local t, cache = require "t.fetch", require "resty.mtls.internal.net.shared_cache"
            ngx.say(pcall(cache.get, "fetched", "a", {}, function() error("oops", 0) end))
            ngx.say("a bug is no failure of the host: ", cache.get("fetched", "a", {}, t.slow("fine", 60)))
            ngx.say(pcall(cache.get, "fetched", "table", {}, function() return {} end))

            local thread = ngx.thread.spawn(cache.get, "fetched", "b", {}, t.slow("of the first", 60, 0.5))
            ngx.thread.kill(thread)
            ngx.say(cache.get("fetched", "b", { timeout = 100 }, t.slow("never", 60)))
            ngx.say(cache.get("fetched", "b", { timeout = 2000 }, t.slow("never", 60)), ", calls: ", t.calls())
            ngx.say("leases: ", (ngx.shared.fetched:get("lease:fetch:b")))
        }
    }
--- response_body
falseoops
a bug is no failure of the host: fine
falseshared_cache.get: fetch must return a string, or nil and an error, got table
nilshared_cache.get: timeout while another request fetches this value
of the first, calls: 2
leases: nil
--- timeout: 10



=== TEST 5: get() counts neither a shortage nor a superseded fetch as a failure of the host
--- http_config eval: $::Http
--- config
    location /t {
        content_by_lua_block {
            local t, cache = require "t.fetch", require "resty.mtls.internal.net.shared_cache"
            local function fail(kind)
                return function()
                    ngx.shared.counts:incr("calls", 1, 0)
                    return nil, "no connection is left", kind
                end
            end

            local opts = { host = "a.test" }
            for _, kind in ipairs { "shortage", "superseded" } do
                ngx.say(cache.get("fetched", "a", opts, fail(kind)))
                ngx.say((select(3, cache.get("fetched", "b", opts, fail(kind)))), ", calls: ", t.calls())
            end

            -- From a host that failed before
            ngx.say(cache.get("fetched", "a", opts, t.slow(nil, "refused")))
            ngx.sleep(5.1)
            ngx.say(cache.get("fetched", "a", opts, fail("shortage")))
            ngx.say(cache.get("fetched", "a", opts, t.slow("answers", 60)), " calls: ", t.calls())
            ngx.say(cache.get("fetched", "down", opts, t.slow(nil, "refused")))
            ngx.say(cache.get("fetched", "down", { host = "a.test", options = "with a proxy" }, t.slow("other options", 60)))
        }
    }
--- response_body
nilshared_cache.get: no connection is leftshortage
shortage, calls: 2
nilshared_cache.get: no connection is leftsuperseded
superseded, calls: 4
nilshared_cache.get: refused
nilshared_cache.get: no connection is leftshortage
answers calls: 7
nilshared_cache.get: refused
other options
--- timeout: 15



=== TEST 6: get() works with a full dictionary, and evicts others only for a value that must be kept
--- http_config eval: $::Http
--- config
    location /t {
        content_by_lua_block {
            local t, cache = require "t.fetch", require "resty.mtls.internal.net.shared_cache"
            local small = ngx.shared.small
            cache.get("small", "first", {}, t.slow("revoked", 60))
            for i = 1, 10000 do
                if not small:safe_set("filler" .. i, ("x"):rep(40)) then
                    break
                end
            end

            local function count()
                local fillers = 0
                for _, key in ipairs(small:get_keys(0)) do
                    fillers = fillers + (key:find("^filler") and 1 or 0)
                end

                return fillers
            end

            local before = count()
            local function many(urgent)
                for i = 1, 20 do
                    local key = tostring(urgent) .. i
                    local value = t.together(5, function()
                        return cache.get("small", key, {}, function()
                            ngx.shared.counts:incr("calls", 1, 0)
                            ngx.sleep(0.001)
                            return key, 60, urgent
                        end)
                    end)
                    assert(value == key .. " nil", value)
                end
            end

            many(false)
            ngx.say("lost: ", before - count(), ", calls: ", t.calls(), ", first: ", (small:get("fetch:value:first")))
            ngx.say(cache.get("small", "down", {}, t.slow(nil, "refused")))
            ngx.say(cache.get("small", "down", {}, t.slow("never", 60)))
            many(true)
            ngx.say("lost: ", before - count() > 0, ", there: ", (small:get("fetch:value:true20")))
            small:flush_all()
            ngx.sleep(1.1)
            ngx.say(cache.get("small", "after", {}, t.slow("after", 60)), " ", (small:get("fetch:value:after")))
        }
    }
--- response_body
lost: 0, calls: 21, first: revoked
nilshared_cache.get: refused
nilshared_cache.get: not tried again so soon after: refused
lost: true, there: true20
after after
--- error_log
[mtls] lua_shared_dict small takes no value of 6 bytes (no memory): this worker keeps it for itself
--- timeout: 10



=== TEST 7: get() works without a dictionary, and with one that is too small
--- http_config eval: $::Http
--- config
    location /t {
        content_by_lua_block {
            local t, cache = require "t.fetch", require "resty.mtls.internal.net.shared_cache"
            ngx.say(t.together(10, function() return cache.get("nowhere", "a", {}, t.slow("one", 1, 0.1)) end), " calls: ", t.calls())
            ngx.say(cache.get("nowhere", "a", {}, t.slow("two", 60)), " ", cache.get("nowhere", "b", {}, t.slow("three", 60)))
            ngx.say(cache.get("nowhere", "c", {}, t.slow(nil, "down")))
            ngx.say(cache.get("nowhere", "c", {}, t.slow("never", 60)))
            ngx.sleep(1.1)
            ngx.say(cache.get("nowhere", "a", {}, t.slow("four", 60)), " calls: ", t.calls())

            local big = ("x"):rep(100000)
            ngx.say(#cache.get("small", "big", {}, t.slow(big, 60)), " ", #cache.get("small", "big", {}, t.slow("never", 60)), " ",
                    cache.get("small", "little", {}, t.slow("little", 60)), " ", (ngx.shared.small:get("fetch:value:little")))
        }
    }
--- response_body
one nil calls: 1
one three
nilshared_cache.get: down
nilshared_cache.get: not tried again so soon after: down
four calls: 4
100000 100000 little little
--- grep_error_log eval: qr/\[mtls\] .*?(?=, client|$)/
--- grep_error_log_out
[mtls] lua_shared_dict nowhere is not in nginx.conf: every worker fetches for itself
[mtls] lua_shared_dict small takes no value of 100000 bytes (no memory): this worker keeps it for itself; make the dictionary larger, context: ngx.timer
--- no_error_log
[error]



=== TEST 8: get() refreshes ahead of expiry, in a timer, once
--- http_config eval: $::Http
--- config
    location /t {
        content_by_lua_block {
            local t, cache = require "t.fetch", require "resty.mtls.internal.net.shared_cache"
            local function get(fn)
                return t.together(10, function() return cache.get("fetched", "a", { refresh_ahead = true }, fn) end)
                       .. ", calls: " .. t.calls()
            end

            -- Waits for the start of a second, because the time of the refresh is in whole seconds.
            ngx.sleep(1 - ngx.now() % 1 + 0.05)
            ngx.say(get(t.slow("first", 3)))
            ngx.sleep(1.5)
            ngx.say(get(t.slow("never", 60)))
            ngx.sleep(0.6)
            ngx.say(get(t.slow("second", 3, 0.1)))
            ngx.sleep(0.2)
            ngx.say(get(t.slow("never", 60)))
            ngx.sleep(2)
            ngx.say(get(t.slow(nil, "down")))
            ngx.sleep(0.1)
            ngx.say(get(t.slow("never", 60)))
            ngx.sleep(1.1)
            ngx.say(get(t.slow("never", 60)))
        }
    }
--- response_body
first nil, calls: 1
first nil, calls: 1
first nil, calls: 1
second nil, calls: 2
second nil, calls: 2
second nil, calls: 3
nil shared_cache.get: not tried again so soon after: down, calls: 3
--- grep_error_log eval: qr/\[mtls\] [^,]*(?:, the previous[^,]*)?/
--- grep_error_log_out
[mtls] a fetched value could not be refreshed, the previous one stays in use: down
--- no_error_log
[error]
--- timeout: 15



=== TEST 9: get() raises on misuse
--- http_config eval: $::Http
--- config
    location /t {
        content_by_lua_block {
            local cache = require "resty.mtls.internal.net.shared_cache"
            ngx.say(select(2, pcall(cache.get, nil, "a", {}, print)))
            ngx.say(select(2, pcall(cache.get, "fetched", 1, {}, print)))
            ngx.say(select(2, pcall(cache.get, "fetched", "a", "x", print)))
            ngx.say(select(2, pcall(cache.get, "fetched", "a", { hots = "x" }, print)))
            ngx.say(select(2, pcall(cache.get, "fetched", "a", {})))
        }
    }
--- response_body
shared_cache.get: the names of the dictionary and of the key must be strings
shared_cache.get: the names of the dictionary and of the key must be strings
shared_cache.get: expected a table of options, got string
shared_cache.get: option 'hots' is unknown
shared_cache.get: fetch must be a function, got nil



=== TEST 10: get() takes a lease over that is not renewed, once, and waits for one that is
--- http_config eval: $::Http
--- config
    location /t {
        content_by_lua_block {
            local t, cache = require "t.fetch", require "resty.mtls.internal.net.shared_cache"
            local monotonic = require("resty.mtls.internal.monotonic_clock").now
            local fetched = ngx.shared.fetched
            local function lease(key, age)
                fetched:set("lease:fetch:" .. key, ngx.worker.pid() .. ":1.1:" .. monotonic() - age)
            end

            local function took(start)
                local seconds = (monotonic() - start) / 1000
                return seconds < 0.5 and "at once" or seconds > 2.5 and seconds < 4 and "after 3 s" or seconds
            end

            for _, age in ipairs { 3000, -86400000, 0 } do
                local start = monotonic()
                lease("a" .. age, age)
                ngx.say(t.together(5, function()
                    return cache.get("fetched", "a" .. age, { timeout = 30000 }, t.slow("taken over", 60))
                end), ", ", took(start), ", calls: ", t.calls())
            end

            -- A holder that is alive renews its lease.
            local alive = true
            ngx.thread.spawn(function()
                while alive do
                    lease("b", 0)
                    ngx.sleep(0.5)
                end
            end)
            ngx.say((select(2, cache.get("fetched", "b", { timeout = 4000 }, t.slow("never", 60)))), ", calls: ", t.calls())
            alive = false
        }
    }
--- response_body
taken over nil, at once, calls: 1
taken over nil, at once, calls: 2
taken over nil, after 3 s, calls: 3
shared_cache.get: timeout while another request fetches this value, calls: 3
--- timeout: 15



=== TEST 11: get() fetches for a worker that was killed, at once
--- worker_processes: 2
--- http_config eval: $::Http
--- config
    location /t {
        content_by_lua_block {
            local t, cache = require "t.fetch", require "resty.mtls.internal.net.shared_cache"
            local counts = ngx.shared.counts
            local function fetch()
                local call = counts:incr("calls", 1, 0)
                if call == 1 then
                    counts:set("victim", ngx.worker.pid())
                    ngx.sleep(20)
                end

                return "call " .. call, 60
            end

            local victim = counts:get("victim")
            if ngx.var.arg_start then
                ngx.timer.at(0, function() cache.get("fetched", "a", { timeout = 30000 }, fetch) end)
                ngx.sleep(0.1)
                return ngx.say(ngx.worker.pid())
            end

            ngx.update_time()
            local start = ngx.now()
            local value = cache.get("fetched", "a", { timeout = 30000 }, fetch)
            ngx.update_time()
            ngx.say(value, " ", ngx.now() - start < 1 and "soon" or ngx.now() - start)
        }
    }
--- client
pid=$(curl -s "http://127.0.0.1:$HTTP_PORT/t?start=1")
kill -9 "$pid"
sleep 0.2
curl -s "http://127.0.0.1:$HTTP_PORT/t"
--- client_out
call 2 soon
--- no_error_log
[error]
--- timeout: 15
