-- Values in a shared dictionary that one flight at a time fetches, for all requests of all workers
-- (single flight).
--
--     local value, err = shared_cache.get("mtls", key, { host = host }, fetch)    -- access_by_lua*, timers
--
-- A flight runs in a timer, so that it does not end with the request that started it. It has a lease (lease.lua), which
-- its worker renews every second: when the worker dies or is stuck, another takes the lease over, whatever the time-out
-- of the fetch is. Marks of failures have times of the monotonic clock, so a change of the time of day does not prolong
-- them.
--
-- After a failure, the host is not tried again for 5 seconds, and then by one flight at a time until it answers.
-- Where the dictionary is missing or full, a worker keeps the value for itself.

local lease = require "resty.mtls.internal.net.lease"
local metrics = require "resty.mtls.internal.metrics"
local monotonic_clock = require "resty.mtls.internal.monotonic_clock"
local options = require "resty.mtls.internal.options"
local semaphore = require "ngx.semaphore"
local shortage = require "resty.mtls.internal.shortage"
local worker_store = require "resty.mtls.internal.net.worker_store"


local floor = math.floor
local min = math.min
local monotonic = monotonic_clock.now
local ngx_log = ngx.log
local ngx_now = ngx.now
local ngx_sleep = ngx.sleep

local WARN = ngx.WARN


-- Milliseconds
local TIMEOUT = 30000
local FAILED_FOR = 5000
local SUSPECT_FOR = 60000
-- Seconds
local RENEW = 1
-- Seconds after which the dictionary may drop a lease and a mark of failure. Their own times decide.
local LEASE_TTL = 60
local MARK_TTL = 120
local MAX_REFRESH_AHEAD = 3600
local MIN_POLL = 0.001
local MAX_POLL = 0.1
-- Seconds by which the cached times of two workers may differ.
local CLOCK_TOLERANCE = 1
-- Seconds in which a timer without delay must have started.
local START_WAIT = 0.05
-- Expired values that are removed in one go.
local MAX_FLUSHED = 100

local VALUE_PREFIX = "fetch:value:"

-- Kinds of errors that are no failure of the host. SHORTAGE: this machine lacks something
-- (resty.mtls.internal.shortage). SUPERSEDED: another policy came into force meanwhile, so the
-- value is not needed any more.
local SHORTAGE = shortage.KIND
local SUPERSEDED = "superseded"

local OPTIONS = { host = "string", options = "string", timeout = "number", refresh_ahead = "boolean" }


local _M = {
    SHORTAGE = SHORTAGE,
    SUPERSEDED = SUPERSEDED,
}


local stores = {}
local warned = {}


local function warn_once(...)
    local text = table.concat { ... }
    if not warned[text] then
        warned[text] = true
        ngx_log(WARN, "[mtls] ", text)
    end
end


-- { name, shared: the dictionary of all workers, worker: for values that do not fit into it, flights: those that this
-- worker runs, by key }
local function store_of(name)
    local store = stores[name]
    if not store then
        local worker = worker_store.new()
        store = { name = name, shared = ngx.shared[name] or worker, worker = worker, flights = {} }
        stores[name] = store
        if store.shared == worker then
            warn_once("lua_shared_dict ", name, " is not in nginx.conf: every worker fetches for itself")
        end
    end

    return store
end


-- Drops an entry whose time of writing is in the future: the clock was set back since, so its
-- expiry is wrong too.
local function read_entry(cache, key)
    local value, written = cache:get(key)
    if value ~= nil and written and written > ngx_now() + CLOCK_TOLERANCE then
        cache:delete(key)

        return nil
    end

    return value, written
end


-- A value, and when it was written, in seconds since the epoch. Every entry has that time as its flags.
local function get_entry(store, key)
    local value, written = read_entry(store.shared, key)
    if value == nil then
        value, written = read_entry(store.worker, key)
    end

    return value, written
end


-- Whether a stored value should be fetched again: when a fifth of its lifetime, or an hour, is left.
local function is_due(store, key, written)
    local left = store.shared:ttl(key) or store.worker:ttl(key)
    if not left or not written then
        return false
    end

    local ends = ngx_now() + left

    return ngx_now() >= floor(ends - min((ends - written) / 5, MAX_REFRESH_AHEAD))
end


-- Removes expired values from a full dictionary, at most once a second. Returns whether there were any.
local function make_room(store)
    local now = floor(ngx_now())
    if store.flushed == now then
        return false
    end

    store.flushed = now

    return store.shared:flush_expired(MAX_FLUSHED) > 0
end


-- Writes a value without evicting any that has not expired. Among those may be the status of a
-- revoked certificate, which would count as good again once it is lost and its sources do not
-- answer.
local function set_if_room(store, key, value, ttl)
    local written = floor(ngx_now())
    local ok, err = store.shared:safe_set(key, value, ttl, written)
    if not ok and make_room(store) then
        ok, err = store.shared:safe_set(key, value, ttl, written)
    end

    return ok, err
end


-- Marks a host as failed for some milliseconds. Where the dictionary is full, the mark is this worker's own.
local function record_failure(store, key, err, milliseconds)
    local mark = monotonic() + milliseconds .. " " .. milliseconds .. " " .. err
    if not set_if_room(store, key, mark, MARK_TTL) then
        store.worker:set(key, mark, MARK_TTL, floor(ngx_now()))
    end
end


-- The error of a mark that is still in force, or nil.
local function failure(store, key)
    local mark = store.shared:get(key) or store.worker:get(key)
    if not mark then
        return nil
    end

    local ends, milliseconds, err = mark:match("^(%d+) (%d+) (.*)$")
    local left = tonumber(ends) - monotonic()

    return left > 0 and left <= tonumber(milliseconds) and err or nil
end


local function clear_failure(store, key)
    store.shared:delete(key)
    store.worker:delete(key)
end


-- must_keep: whether the value may evict others. locked: whether the caller holds the lock that all
-- workers see; without it, another worker may meanwhile have stored a value that is as new, which
-- stays.
local function store_value(store, key, value, ttl, must_keep, locked)
    local written = floor(ngx_now())
    local shared = store.shared
    local ok, err
    if must_keep then
        ok, err = set_if_room(store, key, value, ttl)
        if not ok then
            ok, err = shared:set(key, value, ttl, written)
        end

    elseif locked then
        ok, err = set_if_room(store, key, value, ttl)

    else
        ok, err = shared:safe_add(key, value, ttl, written)
        if err == "exists" then
            return
        end
    end

    if not ok then
        -- A safe_set() that found no room has removed the previous value.
        metrics.count("shortages_total", "dictionary")
        warn_once("lua_shared_dict ", store.name, " takes no value of ", #value, " bytes (", err,
                  "): this worker keeps it for itself; make the dictionary larger")
        store.worker:set(key, value, ttl, written)
    end
end


-- The keys of the marks of a host. One that failed under other options (a shorter time-out, another proxy) may answer
-- under these.
local function marks_of(host)
    return { failed = "fetch:down:" .. host, suspect = "fetch:suspect:" .. host }
end


local function keys_of(key, opts)
    local keys = marks_of((opts.host or key) .. (opts.options or ""))
    keys.value = VALUE_PREFIX .. key
    keys.lease = "fetch:" .. key

    return keys
end


local function too_soon(err)
    return "not tried again so soon after: " .. err
end


-- Takes the lease of a key, or returns nil when another flight has it. Where the dictionary is too full for a lease,
-- the flights of one worker share one, so that the fetch still happens.
local function take_lease(store, keys)
    local taken, err = lease.take(store.shared, keys.lease, LEASE_TTL)
    if err then
        taken = lease.take(store.worker, keys.lease, LEASE_TTL)
    end

    if taken and taken.taken_over then
        metrics.count("lease_takeovers_total")
    end

    return taken
end


-- Runs beside a fetch, until it is killed.
local function renew(flight)
    while true do
        ngx_sleep(RENEW)
        flight.beat = monotonic()
        flight.lease:renew()
    end
end


-- Whether a flight holds the lease of a key, in any worker.
local function is_held(store, keys)
    return lease.holder_alive(store.shared, keys.lease) or lease.holder_alive(store.worker, keys.lease)
end


-- Ends a flight, and wakes those that wait for it. lost: it has not fetched.
local function finish(store, keys, flight, lost)
    flight.lease:release()
    flight.done, flight.lost = true, lost
    if store.flights[keys.value] == flight then
        store.flights[keys.value] = nil
    end

    local waiting = -flight.semaphore:count()
    if waiting > 0 then
        flight.semaphore:post(waiting)
    end
end


-- Calls fetch under the lease of the flight, stores what it returns, and ends the flight. The result is in its fields
-- value, err, kind and raised.
local function run_flight(store, keys, flight, fetch)
    if flight.started then
        return
    end

    flight.started = true
    local suspect = failure(store, keys.suspect)
    local marked
    -- A host that failed last time is tried by one flight at a time.
    if suspect then
        local err = failure(store, keys.failed)
        if err then
            flight.err = too_soon(suspect)
            return finish(store, keys, flight)
        end

        record_failure(store, keys.failed, suspect, flight.timeout)
        marked = true
    end

    local renewal = ngx.thread.spawn(renew, flight)
    local ok, value, detail, kind = pcall(fetch)
    ngx.thread.kill(renewal)
    if ok and value ~= nil and type(value) ~= "string" then
        ok, value = false, "shared_cache.get: fetch must return a string, or nil and an error, got " .. type(value)
    end

    if not ok or not value then
        local err = tostring(ok and detail or value)
        if ok and not kind then
            record_failure(store, keys.failed, err, FAILED_FOR)
            record_failure(store, keys.suspect, err, SUSPECT_FOR)
        elseif marked then
            -- The fetch has not shown whether the host answers.
            clear_failure(store, keys.failed)
        end

        flight.err, flight.kind, flight.raised = err, kind, not ok
        return finish(store, keys, flight)
    end

    if detail and detail > 0 then
        store_value(store, keys.value, value, detail, kind, flight.lease.dict == store.shared)
    end

    clear_failure(store, keys.suspect)
    clear_failure(store, keys.failed)
    flight.value = value

    return finish(store, keys, flight)
end


local function fly(premature, store, keys, flight, fetch)
    if premature then
        return finish(store, keys, flight, true)
    end

    return run_flight(store, keys, flight, fetch)
end


local function refresh_value(premature, store, keys, flight, fetch)
    fly(premature, store, keys, flight, fetch)
    if flight.err and flight.kind ~= SUPERSEDED then
        ngx_log(WARN, "[mtls] a fetched value could not be refreshed, the previous one stays in use: ", flight.err)
    end
end


-- A new flight for a key, if no other worker has its lease.
local function new_flight(store, keys, timeout)
    local taken = take_lease(store, keys)
    if not taken then
        return nil
    end

    local flight = { lease = taken, beat = monotonic(), semaphore = semaphore.new(), timeout = timeout * 1000 }
    store.flights[keys.value] = flight

    return flight
end


-- Starts a timer that fetches a value before it expires, unless a flight does.
local function start_refresh(store, keys, timeout, fetch)
    local flight = failure(store, keys.failed) == nil and new_flight(store, keys, timeout)
    if not flight then
        return
    end

    local ok, err = ngx.timer.at(0, refresh_value, store, keys, flight, fetch)
    if not ok then
        finish(store, keys, flight, true)
        shortage.report_timer("no timer to refresh a fetched value: ", err)
    end
end


-- Starts a flight. In a timer, it is part of the caller; without a timer, of the request: if that is aborted, the
-- lease ends after three seconds.
local function start_flight(store, keys, flight, fetch)
    if ngx.get_phase() == "timer" then
        return run_flight(store, keys, flight, fetch)
    end

    local ok, err = ngx.timer.at(0, fly, store, keys, flight, fetch)
    if ok then
        flight.semaphore:wait(START_WAIT)
        -- Without a free connection, or over lua_max_running_timers, nginx drops a timer that it has accepted.
        ok, err = flight.started or flight.done, "the timer did not run"
    end

    if not ok then
        shortage.report_timer("no timer to fetch a value, which the request does itself: ", err)
        run_flight(store, keys, flight, fetch)
    end
end


-- Whether a host has failed in the last minute, and has not answered since.
function _M.is_down(dict_name, host, host_options)
    local store, marks = store_of(dict_name), marks_of(host .. (host_options or ""))

    return failure(store, marks.failed) ~= nil or failure(store, marks.suspect) ~= nil
end


-- access_by_lua* and timers. Returns the value stored under key in a shared dictionary, or what
-- fetch() returns: a string and the seconds for which it is valid (nil or 0: it is not stored), or
-- nil and an error. One fetch runs at a time per key and node; other callers wait for it. A failure
-- is not stored, but its host is not tried again for 5 seconds, and after that by one caller at a
-- time until it answers.
--
-- fetch() runs in a timer where there is one, and must not use the request. It may return a third value. Beside a
-- value, anything true: the value is stored even if that evicts others that have not expired. Beside an error,
-- SHORTAGE or SUPERSEDED: the host did not fail and is tried again at once; get() returns this kind too. An error that
-- fetch() raises is raised again, and does not count as a failure of the host either.
--   host           what failures are counted by (default: the key)
--   options        what else they are counted by
--   timeout        milliseconds that fetch() may take, and that others wait for it (default 30000)
--   refresh_ahead  call fetch() in a timer when less than a fifth of the lifetime, or an hour, is left
function _M.get(dict_name, key, opts, fetch)
    if type(dict_name) ~= "string" or type(key) ~= "string" then
        error("shared_cache.get: the names of the dictionary and of the key must be strings", 2)
    end

    if type(fetch) ~= "function" then
        error("shared_cache.get: fetch must be a function, got " .. type(fetch), 2)
    end

    options.check("shared_cache.get", opts, OPTIONS, 3)
    local store = store_of(dict_name)
    local value, written = get_entry(store, VALUE_PREFIX .. key)
    if value ~= nil and not (opts.refresh_ahead and is_due(store, VALUE_PREFIX .. key, written)) then
        return value
    end

    local keys = keys_of(key, opts)
    local timeout = (opts.timeout or TIMEOUT) / 1000
    if value ~= nil then
        start_refresh(store, keys, timeout, fetch)

        return value
    end

    local deadline = monotonic() + timeout * 1000
    local pause = MIN_POLL
    -- The flight that this caller waits for.
    local flight = store.flights[keys.value]
    while true do
        local held = is_held(store, keys)
        local err = not held and failure(store, keys.failed)
        -- While a flight tries the failed host again, this caller waits.
        if err and not flight then
            return nil, "shared_cache.get: " .. too_soon(err)
        end

        if flight and not flight.done and flight.beat + lease.ALIVE_FOR < monotonic() then
            -- Its timer never ran, or its worker was stuck.
            flight = nil
        end

        if not flight and not held then
            flight = new_flight(store, keys, timeout)
            -- Another caller may have stored the value since it was read above.
            value = flight and get_entry(store, keys.value)
            if value ~= nil and value ~= false then
                flight.value = value
                finish(store, keys, flight)
            elseif flight then
                start_flight(store, keys, flight, fetch)
            end
        end

        local now = monotonic()
        if now >= deadline and not (flight and flight.done) then
            if held then
                return nil, "shared_cache.get: timeout while another request fetches this value"
            end

            if now >= deadline + 2 * lease.ALIVE_FOR then
                return nil, "shared_cache.get: no fetch of this value ended", SHORTAGE
            end
        end

        if not flight then
            ngx_sleep(pause)
        elseif not flight.done then
            flight.semaphore:wait(math.max(pause, 0.05))
        end

        pause = min(pause * 2, MAX_POLL)
        if flight and flight.done then
            if flight.raised then
                error(flight.err, 0)
            end

            if flight.value then
                return flight.value
            end

            if flight.err and flight.kind then
                return nil, "shared_cache.get: " .. flight.err, flight.kind
            end

            if flight.err then
                return nil, "shared_cache.get: " .. flight.err
            end

            flight = nil
        end

        value = get_entry(store, keys.value)
        if value ~= nil then
            return value
        end

        flight = flight or store.flights[keys.value]
    end
end


return _M
