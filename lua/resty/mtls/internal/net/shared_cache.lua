-- Values in a shared dictionary that one caller at a time fetches, for all requests of all workers
-- (single flight).
--
--     local value, err = shared_cache.get("mtls", key, { host = host }, fetch)    -- access_by_lua*, timers
--
-- After a failure, the host is not tried again for 5 seconds, and then by one caller at a time
-- until it answers. Where the dictionary is missing or full, a worker keeps the value for itself.

local lrucache = require "resty.lrucache"
local metrics = require "resty.mtls.internal.metrics"
local options = require "resty.mtls.internal.options"
local shortage = require "resty.mtls.internal.shortage"


local concat = table.concat
local error = error
local floor = math.floor
local min = math.min
local ngx_log = ngx.log
local ngx_now = ngx.now
local ngx_sleep = ngx.sleep
local pcall = pcall
local setmetatable = setmetatable
local tostring = tostring
local type = type

local WARN = ngx.WARN


-- Milliseconds
local TIMEOUT = 30000
-- Seconds
local FAILED_FOR = 5
local SUSPECT_FOR = 60
local MAX_REFRESH_AHEAD = 3600
local MIN_POLL = 0.001
local MAX_POLL = 0.1
-- Seconds that a lock outlives the time of its holder.
local LOCK_GRACE = 1
-- Seconds by which the cached times of two workers may differ.
local CLOCK_TOLERANCE = 1
local WORKER_ENTRIES = 1000
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


-- A store of this worker with the methods of a shared dictionary that are used here.
local WorkerStore = {}
WorkerStore.__index = WorkerStore


function WorkerStore:get(key)
    local entry = self.cache:get(key)
    if entry then
        return entry.value, entry.flags
    end
end


function WorkerStore:ttl(key)
    local entry = self.cache:get(key)

    return entry and entry.ends - ngx_now()
end


function WorkerStore:set(key, value, ttl, flags)
    self.cache:set(key, { value = value, flags = flags, ends = ngx_now() + ttl }, ttl)

    return true
end


WorkerStore.safe_set = WorkerStore.set


function WorkerStore:safe_add(key, value, ttl, flags)
    if self.cache:get(key) then
        return false, "exists"
    end

    return self:set(key, value, ttl, flags)
end


function WorkerStore:delete(key)
    self.cache:delete(key)
end


function WorkerStore.flush_expired()
    return 0
end


local function new_worker_store()
    return setmetatable({ cache = lrucache.new(WORKER_ENTRIES) }, WorkerStore)
end


local stores = {}
local warned = {}


local function warn_once(...)
    local text = concat { ... }
    if not warned[text] then
        warned[text] = true
        ngx_log(WARN, "[mtls] ", text)
    end
end


-- { name, shared: the dictionary of all workers, worker: for values that do not fit into it }
local function store_of(name)
    local store = stores[name]
    if not store then
        local worker = new_worker_store()
        store = { name = name, shared = ngx.shared[name] or worker, worker = worker }
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


-- Marks a host as failed. Where the dictionary is full, the mark is this worker's own.
local function record_failure(store, key, err, ttl)
    if not set_if_room(store, key, err, ttl) then
        store.worker:set(key, err, ttl, floor(ngx_now()))
    end
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


local function keys_of(key, opts)
    -- A host that failed under other options (a shorter time-out, another proxy) may answer under these.
    local host = (opts.host or key) .. (opts.options or "")

    return { value = VALUE_PREFIX .. key, lock = "fetch:lock:" .. key,
             failed = "fetch:down:" .. host, suspect = "fetch:suspect:" .. host }
end


local function too_soon(err)
    return "not tried again so soon after: " .. err
end


-- Takes the lock of a key. Returns the store that holds it, or nil when another caller has it.
-- Where the dictionary is too full for a lock, the callers of one worker share one, so that the
-- fetch still happens.
local function take_lock(store, keys, timeout)
    local written = floor(ngx_now())
    local expiry = ngx_now() + timeout
    local locked, err = store.shared:safe_add(keys.lock, expiry, timeout + LOCK_GRACE, written)
    if locked then
        return store.shared
    end

    if err == "exists" or not store.worker:safe_add(keys.lock, expiry, timeout + LOCK_GRACE, written) then
        return nil
    end

    return store.worker
end


-- The time until which the caller that holds the lock may take, or nil when no caller holds it.
local function lock_expiry(store, keys)
    return (get_entry(store, keys.lock))
end


-- Calls fetch under the lock that the caller has taken in the store `lock`, stores what it returns,
-- and releases the lock.
local function run_locked(store, keys, lock, timeout, fetch)
    local shared = store.shared
    local suspect = get_entry(store, keys.suspect)
    local marked
    -- A host that failed last time is tried by one caller at a time.
    if suspect then
        local err
        marked, err = shared:safe_add(keys.failed, suspect, timeout, floor(ngx_now()))
        if err == "exists" then
            lock:delete(keys.lock)
            return nil, too_soon(suspect)
        end
    end

    local ok, value, detail, kind = pcall(fetch)
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

        lock:delete(keys.lock)
        if not ok then
            error(value, 0)
        end

        return nil, err, kind
    end

    if detail and detail > 0 then
        store_value(store, keys.value, value, detail, kind, lock == shared)
    end

    clear_failure(store, keys.suspect)
    clear_failure(store, keys.failed)
    lock:delete(keys.lock)

    return value
end


local function refresh_value(premature, store, keys, lock, timeout, fetch)
    if premature then
        lock:delete(keys.lock)
        return
    end

    local value, err, kind = run_locked(store, keys, lock, timeout, fetch)
    if not value and kind ~= SUPERSEDED then
        ngx_log(WARN, "[mtls] a fetched value could not be refreshed, the previous one stays in use: ", err)
    end
end


-- Starts a timer that fetches a value before it expires, unless another caller holds the lock.
local function start_refresh(store, keys, timeout, fetch)
    local lock = get_entry(store, keys.failed) == nil and take_lock(store, keys, timeout)
    if not lock then
        return
    end

    local ok, err = ngx.timer.at(0, refresh_value, store, keys, lock, timeout, fetch)
    if not ok then
        lock:delete(keys.lock)
        shortage.report_timer("no timer to refresh a fetched value: ", err)
    end
end


-- access_by_lua* and timers. Returns the value stored under key in a shared dictionary, or what
-- fetch() returns: a string and the seconds for which it is valid (nil or 0: it is not stored), or
-- nil and an error. One fetch runs at a time per key and node; other callers wait for it. A failure
-- is not stored, but its host is not tried again for 5 seconds, and after that by one caller at a
-- time until it answers.
--
-- fetch() may return a third value. Beside a value, anything true: the value is stored even if that
-- evicts others that have not expired. Beside an error, SHORTAGE or SUPERSEDED: the host did not
-- fail and is tried again at once; get() returns this kind too. An error that fetch() raises is
-- raised again, and does not count as a failure of the host either.
--   host           what failures are counted by (default: the key)
--   options        what else they are counted by
--   timeout        milliseconds that fetch() may take, and that others wait for it (default 30000)
--   refresh_ahead  call fetch() in a timer when less than a fifth of the lifetime, or an hour, is left; fetch()
--                  must then not use the request
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

    local deadline = ngx_now() + timeout
    local pause = MIN_POLL
    while true do
        local err = get_entry(store, keys.failed)
        local lock_ends = lock_expiry(store, keys)
        -- While another caller holds the lock, it tries the failed host again, and this caller waits.
        if err and not lock_ends then
            return nil, "shared_cache.get: " .. too_soon(err)
        end

        local lock = not lock_ends and take_lock(store, keys, timeout)
        if lock then
            -- Another caller may have stored the value since it was read above.
            value = get_entry(store, keys.value)
            if value ~= nil then
                lock:delete(keys.lock)
                return value
            end

            local kind
            value, err, kind = run_locked(store, keys, lock, timeout, fetch)
            if value ~= nil then
                return value
            end

            if kind then
                return nil, "shared_cache.get: " .. err, kind
            end

            return nil, "shared_cache.get: " .. err
        end

        local now = ngx_now()
        if now >= deadline then
            -- A holder of the lock that has exceeded its time has ended without releasing it (its
            -- request was aborted, or its worker ended). That is no failure of the host. The lock
            -- expires soon, and this caller takes it.
            if lock_ends and now < lock_ends then
                return nil, "shared_cache.get: timeout while another request fetches this value"
            end

            if now >= deadline + timeout + 2 * LOCK_GRACE then
                return nil, "shared_cache.get: no fetch of this value ended", SHORTAGE
            end
        end

        ngx_sleep(pause)
        pause = min(pause * 2, MAX_POLL)
        value = get_entry(store, keys.value)
        if value ~= nil then
            return value
        end
    end
end


return _M
