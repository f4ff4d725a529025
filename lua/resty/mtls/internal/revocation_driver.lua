-- Drivers: each gets the revocation status of one certificate, in a timer. It asks the sources one after the other, the
-- next when the one before has failed or has not answered for some seconds. Requests only wait for the driver. There is
-- one for each status and worker, and what it fetches is shared between workers (shared_cache.lua, answers.lua).
--
-- Another policy may come into force meanwhile (revocation_lookup.lua); then the driver is superseded.

local ffi = require "ffi"
local answers = require "resty.mtls.internal.answers"
local certificate = require "resty.mtls.certificate"
local engine_of_worker = require "resty.mtls.internal.engine"
local evidence = require "resty.mtls.internal.revocation_evidence"
local fetching = require "resty.mtls.internal.revocation_fetch"
local fleet_answers = require "resty.mtls.internal.revocation_fleet"
local library = require "resty.mtls.internal.library"
local lookups = require "resty.mtls.internal.revocation_lookup"
local lrucache = require "resty.lrucache"
local monotonic_clock = require "resty.mtls.internal.monotonic_clock"
local semaphore = require "ngx.semaphore"
local shared_cache = require "resty.mtls.internal.net.shared_cache"
local shortage = require "resty.mtls.internal.shortage"
local CONST = require "resty.mtls.internal.cdef"


local C = library.C
local STATUS_GOOD = CONST.REVOCATION_STATUS_GOOD
local STATUS_REVOKED = CONST.REVOCATION_STATUS_REVOKED
local STATUS_UNKNOWN = CONST.REVOCATION_STATUS_UNKNOWN
local SUPERSEDED = shared_cache.SUPERSEDED
local concat = table.concat
local max = math.max
local min = math.min
local monotonic = monotonic_clock.now
local ngx_log = ngx.log

-- Seconds after a failure in which no source is tried again, and milliseconds.
local RETRY_AFTER = 5
local RETRY_MS = 5000
-- Milliseconds for which sources are known to be down after a failure, and an unknown status is fetched again by
-- itself after the last request that needed it.
local DOWN_FOR = 60000
-- Most milliseconds until the next source is asked, and the part of the time-out.
local NEXT_SOURCE_AFTER = 3000
local NEXT_SOURCE_PART = 4
-- Seconds by which the cached times of two workers may differ.
local CLOCK_TOLERANCE = 1
-- Milliseconds at the end of the time-out, a part of it at most, in which an answer "good" of another node counts
-- although a source may still answer.
local FLEET_TIME = 1000
local FLEET_PART = 4
-- Milliseconds after which a driver that shows no sign of life is dead: its request was aborted, or nginx had no
-- connection for its timer.
local DRIVER_DEAD = 3000
-- Drivers in timers at a time: lua_max_running_timers is 256 by default.
local MAX_DRIVERS = 100
local MAX_PROBES = 1000
local MAX_STATUSES = 8192
local KEEPER_INTERVAL = 1


local _M = { DRIVER_DEAD = DRIVER_DEAD }

-- Drivers at work, by the key of the status.
local drivers = {}
local running = 0
-- Statuses that are unknown and fetched again in the background: { lookup, due, wanted }, by key.
local probes, probe_count = {}, 0
-- When the last driver of a status ended without an answer, and the reason, by key.
local failures = lrucache.new(MAX_STATUSES)
-- Whether init_by_lua* ran in this Lua VM, and when the keeper ran last.
local is_worker_vm
local keeper_beat = 0
local generations = {}


-- init_by_lua*. In a VM that was not forked (lua_code_cache off) no keeper is started, because it would keep the VM of
-- a request alive.
function _M.init()
    is_worker_vm = true
end


-- Ends the wait for a driver.
local function finish(driver)
    driver.done = true
    if drivers[driver.key] == driver then
        drivers[driver.key] = nil
    end

    local waiting = -driver.semaphore:count()
    if waiting > 0 then
        driver.semaphore:post(waiting)
    end
end


local function forget_probe(key)
    if probes[key] then
        probes[key] = nil
        probe_count = probe_count - 1
    end
end


-- Fetches the status again in the background, as long as requests need it.
local function add_probe(lookup, wanted)
    if not probes[lookup.key] then
        if probe_count == MAX_PROBES then
            return
        end

        probe_count = probe_count + 1
    end

    probes[lookup.key] = { lookup = lookup, due = monotonic() + RETRY_MS, wanted = wanted }
end


-- No source has a definite answer.
local function settle_unknown(driver, reasons)
    local lookup = driver.lookup
    local state, _, parsing = evidence.use_kept(lookup, true, driver)
    if state then
        -- An answer in force, although it should have been fetched again.
        add_probe(lookup, driver.wanted)
        return
    end

    if not lookups.is_current(lookup) then
        driver.superseded = true
        return
    end

    if parsing then
        driver.shortage = evidence.STILL_PARSING
        return
    end

    local why = concat(reasons, "; ")
    if not failures:get(lookup.key) then
        ngx_log(ngx.NOTICE, "[mtls] revocation status unknown: ", why)
    end

    failures:set(lookup.key, { at = monotonic(), why = why }, (DOWN_FOR + lookup.options.timeout) / 1000)
    lookups.set_status(lookup, STATUS_UNKNOWN, RETRY_AFTER + CLOCK_TOLERANCE)
    add_probe(lookup, driver.wanted)
end


-- Asks the sources in overlap, until one has a definite answer. The others may still answer afterwards: a revocation
-- counts whenever it is found.
local function ask_sources(driver)
    local lookup = driver.lookup
    local sources = lookups.sources_of(lookup)
    local timeout = lookup.options.timeout
    local start = monotonic()
    local deadline = start + timeout
    local pause = min(NEXT_SOURCE_AFTER, timeout / NEXT_SOURCE_PART)
    local wake = semaphore.new()
    local reasons = {}
    local asked, ended, next_at = 0, 0, start
    local shortage_of
    local fleet = answers.has_fleet() and sources[1] and {
        ask_at = start + min(pause, lookup.settings.wait / 2),
        counts_at = deadline - min(FLEET_TIME, timeout / FLEET_PART),
    }

    local function ask_fleet()
        local ok, list, is_revoked = pcall(function()
            return fleet_answers.verify(lookup, deadline)
        end)
        if not ok then
            ngx_log(ngx.ERR, "[mtls] revocation: ", list)
        end

        fleet.list, fleet.done = ok and list or {}, true
        if ok and is_revoked then
            driver.state = STATUS_REVOKED
        end

        wake:post(1)
    end

    local function ask_one(source)
        local ok, state, err, kind = pcall(function()
            return fetching.ask(lookup, source, deadline)
        end)
        if not ok then
            state, err = nil, source.url .. ": " .. tostring(state)
            ngx_log(ngx.ERR, "[mtls] revocation: ", err)
        end

        ended = ended + 1
        if state then
            driver.state = driver.state == STATUS_REVOKED and driver.state or state
            driver.is_of_fleet = false
        elseif kind == SUPERSEDED then
            driver.superseded = true
        else
            reasons[source.index + 1] = err
            shortage_of = shortage_of or kind and err
        end

        wake:post(1)
    end

    while not driver.state and not driver.superseded do
        local now = monotonic()
        driver.beat = now
        local wake_at = min(asked < #sources and next_at or now + pause, deadline, now + 1000)
        if fleet then
            wake_at = min(wake_at, not fleet.asked and fleet.ask_at
                                   or not fleet.used and fleet.counts_at > now and fleet.counts_at or wake_at)
        end

        if fleet and not fleet.asked and now < deadline and (now >= fleet.ask_at or ended == #sources) then
            fleet.asked = true
            ngx.thread.spawn(ask_fleet)
        elseif fleet and fleet.done and not fleet.used and (now >= fleet.counts_at or ended == #sources) then
            fleet.used = true
            -- Where this machine lacks something, "good" is not taken from others.
            if fleet.list[1] and not shortage_of and lookups.is_current(lookup) then
                driver.state = fleet_answers.use(lookup, fleet.list)
                driver.is_of_fleet = driver.state == STATUS_GOOD
            end
        elseif asked < #sources and now < deadline and (now >= next_at or ended == asked) then
            asked = asked + 1
            next_at = now + pause
            ngx.thread.spawn(ask_one, sources[asked])
        elseif ended == #sources and not (fleet and not fleet.done) or now >= deadline then
            break
        else
            wake:wait(max(0.001, (wake_at - now) / 1000))
        end
    end

    for i, source in ipairs(sources) do
        reasons[i] = reasons[i] or source.url .. (i > asked and ": not asked, no time was left" or ": timeout")
    end

    return reasons, shortage_of
end


-- Gets the status of one certificate, and sets it in the engine. Runs in a timer.
function _M.drive(premature, driver)
    if driver.started then
        return
    end

    driver.started = true
    if premature then
        driver.lost = true
        return finish(driver)
    end

    running = running + 1
    local ok, err = pcall(function()
        local lookup = driver.lookup
        if not lookups.is_current(lookup) then
            driver.superseded = true
            return
        end

        -- Another worker may have it by now.
        local state, is_due = evidence.use_kept(lookup, false, driver)
        if state and not is_due then
            driver.state = state
            return
        end

        if not lookups.is_current(lookup) then
            driver.superseded = true
            return
        end

        local reasons, shortage_of = ask_sources(driver)
        if driver.state and driver.is_of_fleet then
            add_probe(lookup, driver.wanted)
        elseif driver.state then
            failures:delete(lookup.key)
            forget_probe(lookup.key)
        elseif not lookups.is_current(lookup) then
            driver.superseded = true
        elseif shortage_of then
            driver.shortage = shortage_of
        elseif not driver.superseded then
            settle_unknown(driver, reasons)
        end
    end)
    running = running - 1
    if not ok then
        driver.superseded = true
        ngx_log(ngx.ERR, "[mtls] revocation: ", err)
    end

    finish(driver)
end


-- The driver of a status, if it is alive.
function _M.find(key)
    local driver = drivers[key]
    if driver and driver.beat + DRIVER_DEAD < monotonic() then
        drivers[key] = nil
        return nil
    end

    return driver
end


-- Starts a driver: in a timer; or nil and an error when there is none to be had.
function _M.start(lookup, wanted)
    local now = monotonic()
    local driver = { key = lookup.key, lookup = lookup, begun = now, beat = now, wanted = wanted,
                     semaphore = semaphore.new() }
    drivers[lookup.key] = driver
    if running >= MAX_DRIVERS then
        return driver, "too many statuses are fetched at a time"
    end

    local ok, err = ngx.timer.at(0, _M.drive, driver)

    return driver, not ok and err or nil
end


-- As long as there are statuses, every second: starts the drivers of those that are about to end or are unknown, and
-- forgets those of before a flush.
local function keep(premature, dict)
    if premature then
        return
    end

    keeper_beat = monotonic()
    local ok, err = pcall(_M.keep_once, dict)
    if not ok then
        ngx_log(ngx.ERR, "[mtls] revocation: ", err)
    end

    ok, err = ngx.timer.at(KEEPER_INTERVAL, keep, dict)
    if not ok then
        keeper_beat = 0
        shortage.report_timer("no timer to refresh revocation statuses: ", err)
    end
end


-- What the keeper does every second.
function _M.keep_once(dict)
    local engine = engine_of_worker.current()
    local generation = answers.generation(dict)
    if (generations[dict] or generation) ~= generation then
        C.rmtls_engine_forget_statuses(engine.handle)
    end

    generations[dict] = generation
    local plan, epoch = ffi.new("uint32_t[1]"), ffi.new("uint32_t[1]")
    while true do
        local refreshed = certificate.wrap(function(out)
            return C.rmtls_engine_take_refresh(engine.handle, out, plan, epoch)
        end)
        if not refreshed then
            break
        end

        local at, of = tonumber(plan[0]), tonumber(epoch[0])
        local lookup = lookups.new(engine, at, of, dict, function() end, refreshed)
        if lookup and not _M.find(lookup.key) and running < MAX_DRIVERS then
            _M.start(lookup, monotonic())
        end
    end

    local now = monotonic()
    for key, probe in pairs(probes) do
        if now - probe.wanted > DOWN_FOR then
            forget_probe(key)
        elseif now >= probe.due and not _M.find(key) and running < MAX_DRIVERS then
            probe.due = now + RETRY_MS
            _M.start(probe.lookup, probe.wanted)
        end
    end
end


function _M.ensure_keeper(dict)
    local now = monotonic()
    if not is_worker_vm or now - keeper_beat < 5000 then
        return
    end

    keeper_beat = now
    local ok, err = ngx.timer.at(0, keep, dict)
    if not ok then
        keeper_beat = 0
        shortage.report_timer("no timer to refresh revocation statuses: ", err)
    end
end


-- Whether another driver may be started.
function _M.has_room()
    return running < MAX_DRIVERS
end


-- When the last driver of a status ended without an answer: { at, why }, or nil.
function _M.failure(key)
    return failures:get(key)
end


-- Takes note that a request needs a status that is unknown.
function _M.want(key, now)
    local probe = probes[key]
    if probe then
        probe.wanted = now
    end
end


-- Forgets the failures, after a flush of this dictionary by this worker.
function _M.forget(dict)
    generations[dict] = answers.generation(dict)
    failures = lrucache.new(MAX_STATUSES)
end


return _M
