# No value that was cached while the clock was ahead is used after the clock is right again, and marks of failures and
# leases last neither longer nor shorter for it.

use lib 't/lib';
use TestMtls;

our $Config = <<'_EOC_';
    location /t {
        content_by_lua_block {
            local shared_cache = require "resty.mtls.internal.net.shared_cache"
            local real = { now = ngx.now, time = ngx.time }
            local offset = 0
            ngx.now = function() return real.now() + offset end
            ngx.time = function() return real.time() + offset end
            local monotonic_clock = require "resty.mtls.internal.monotonic_clock"
            local real_monotonic, passed = monotonic_clock.now, 0
            monotonic_clock.now = function() return real_monotonic() + passed end
            -- The modules keep the clock functions that they found when they were loaded.
            package.loaded["resty.mtls.internal.net.lease"] = nil
            package.loaded["resty.mtls.internal.net.worker_store"] = nil
            package.loaded["resty.mtls.internal.net.shared_cache"] = nil
            shared_cache = require "resty.mtls.internal.net.shared_cache"
            local calls = 0
            local function ask(answer, ttl)
                local value, err = shared_cache.get("clock", "key", { timeout = 300 }, function()
                    calls = calls + 1
                    return answer, answer and ttl or "it failed"
                end)
                ngx.say(calls, " ", value, " ", err)
            end
            -- The dictionary has its own clock, which stays right and would expire the entries.
            for _, step in ipairs { 86400, 0 } do
                offset = step
                ask("value", 60)
                ask("value", 60)
            end
            -- The mark of a failure lasts 5 seconds of the monotonic clock.
            ngx.shared.clock:flush_all()
            offset = 86400
            ask(nil)
            ask(nil)
            offset = 0
            ask("value", 60)
            passed = 5001
            ask("value", 60)
            -- The lease of a holder that is gone ends after 3 seconds of the monotonic clock, whatever its expiry is.
            ngx.shared.clock:flush_all()
            local lease = ngx.worker.pid() .. ":1.1:" .. monotonic_clock.now() - 3001
            ngx.shared.clock:set("lease:fetch:key", lease, 86400)
            ask("value", 60)
            ngx.now, ngx.time, monotonic_clock.now = real.now, real.time, real_monotonic
        }
    }
_EOC_

run_blocks();

__DATA__

=== TEST 1: shared_cache.get() ignores values that were written while the clock was ahead, and ends failures and leases in time
--- http_config
    lua_shared_dict clock 100k;
--- config eval: $::Config
--- response_body
1 value nil
1 value nil
2 value nil
2 value nil
3 nil shared_cache.get: it failed
3 nil shared_cache.get: not tried again so soon after: it failed
3 nil shared_cache.get: not tried again so soon after: it failed
4 value nil
5 value nil
