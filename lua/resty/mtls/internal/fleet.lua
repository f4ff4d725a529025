-- Shares the blocks of this node with the other nodes of a fleet through Redis, and signed revocation responses.
--
-- One worker of the node holds a lease and follows a stream in Redis: it applies what other nodes have blocked to the
-- table that all workers of this node read, and writes what was blocked here. No request uses Redis.
--
-- Whoever writes to Redis can refuse clients, and cannot let in a client that a node refuses:
--   * An entry, the text of one block, never changes: its key is its digest. What is removed from Redis stays in force
--     on the nodes that have it, and they write it again.
--   * A block ends on other nodes before its time only by a secret whose digest is in its entry. The secret is derived
--     from the entry by a key (unblock_key) that is not in Redis: only nodes with that key can reveal it.
--   * Responses of OCSP responders and CRLs are signed, and each node verifies them itself.
--
-- Keys, after the prefix:
--   instance   a random number; when it changes, Redis has lost its data
--   blocks     hash: digest of an entry -> entry
--   unblocks   hash: digest of an entry -> secret and entry
--   changes    stream of both, by which nodes learn of them at once
--   answer:... a signed response

local answers = require "resty.mtls.internal.answers"
local blocks = require "resty.mtls.internal.blocks"
local fleet_blocks = require "resty.mtls.internal.fleet_blocks"
local fleet_entry = require "resty.mtls.internal.fleet_entry"
local fleet_sync = require "resty.mtls.internal.fleet_sync"
local lease = require "resty.mtls.internal.net.lease"
local metrics = require "resty.mtls.internal.metrics"
local monotonic_clock = require "resty.mtls.internal.monotonic_clock"
local redis = require "resty.mtls.internal.net.redis"
local shortage = require "resty.mtls.internal.shortage"


local monotonic = monotonic_clock.now

local ERR = ngx.ERR


-- Milliseconds
local ANSWER_TIMEOUT = 250
-- Bytes
local MAX_ANSWER = 1024 * 1024
-- Seconds
local RETRY = 0.5
-- Most seconds until the next attempt to connect to a Unix socket, since nginx logs each that is refused.
local UNIX_RETRY = 5
local MAX_ANSWER_TTL = 30 * 86400
-- Seconds that the first requests of a node wait for its first sync.
local FIRST_WAIT = 0.2

local LEASE = "fleet"
local STATE, KEY = "fleet:state", "fleet:key"
local SYNCED, ATTEMPTED = "fleet:synced", "fleet:attempted"


local _M = {}

local opts, dict, prefix
-- What init() ran in: a Lua VM that was not forked from it has no timers.
local init_pid
local running = false
-- The lease, in the worker that follows Redis.
local held
local started_at
local is_synced = false
-- Attempts to sync that failed, since the last that did not.
local failures = 0

-- The blocks of the fleet (fleet_blocks.lua) in the worker that holds the lease; nil in the others.
local known


local function set_state(connected, err)
    dict:safe_set(STATE, (connected and "1" or "0") .. " " .. (known and known.synced_at or 0) .. " " .. (err or ""))
end


-- One sync, and what follows. true, or nil, an error and its kind.
local function run()
    local conn, err, reason = redis.connect(opts)
    if not conn then
        return nil, err, reason
    end

    local ok
    ok, err, reason = fleet_sync.sync(conn, known, held)
    if ok then
        is_synced, failures = true, 0
        fleet_blocks.store(SYNCED, true)
        fleet_blocks.store(ATTEMPTED, true)
        local failing = known.failing
        known.failing = nil
        if failing then
            ngx.log(ngx.NOTICE, "[mtls] fleet: connected to Redis again")
        end

        ok, err, reason = fleet_sync.follow(conn, known, held, function()
            set_state(true)
        end)
    end

    if ok then
        conn:keep()
    else
        conn:close()
    end

    return ok, err, reason
end


local tick


local function stop()
    running = false
    if held then
        held:release()
        held = nil
    end
end


local function start_timer(delay)
    local ok, err = ngx.timer.at(delay, tick)
    running = ok and true or false
    if not ok then
        shortage.report_timer("no timer for the fleet: ", err)
    end
end


-- One run of the timer: follows Redis if this worker holds the lease.
tick = function(premature)
    if premature or ngx.worker.exiting() then
        return stop()
    end

    if not held or not held:renew() then
        local err
        held, err = lease.take(dict, LEASE)
        known = nil
        if not held then
            if err then
                fleet_blocks.log_once(ERR, "lease", "no lease in lua_shared_dict: ", err)
            end

            return start_timer(RETRY)
        end
    end

    local ok, result, why, reason = pcall(function()
        if not known then
            known = fleet_blocks.load()
        end

        return run()
    end)

    local delay = 0
    if not ok then
        result, why, reason = nil, tostring(result), "error"
    end

    if not result then
        failures = failures + 1
        delay = opts.unix and math.min(RETRY * 2 ^ (failures - 1), UNIX_RETRY) or RETRY
        fleet_blocks.count_error(reason)
        if known then
            known.failing = true
            -- What is blocked meanwhile is written after the next sync.
            pcall(fleet_blocks.read_outbox)
        end

        set_state(false, why)
        fleet_blocks.store(ATTEMPTED, true)
        fleet_blocks.log_once(ERR, reason, "Redis: ", why, "; the blocks that are known stay in force")
    end

    if ngx.worker.exiting() then
        return stop()
    end

    start_timer(delay)
end


-- Starts to follow Redis in this worker, unless it does. Any phase of a worker.
function _M.ensure_running()
    if running or not opts or init_pid == ngx.worker.pid() or ngx.worker.exiting() then
        return
    end

    started_at = started_at or monotonic()
    start_timer(0)
end


-- access_by_lua*: the first requests of a node wait for its first sync, for a moment. Yields then.
function _M.await_first_sync()
    if not opts or is_synced then
        return
    end

    _M.ensure_running()
    while started_at and monotonic() < started_at + FIRST_WAIT * 1000 and not dict:get(ATTEMPTED) do
        ngx.sleep(0.005)
    end

    is_synced = dict:get(SYNCED) == true
end


-- Whether requests must not be served because there was no sync yet (option required).
function _M.is_unavailable()
    return opts ~= nil and opts.required == true and not is_synced
end


-- { connected, last_sync, error, blocks }, or nil without a fleet.
function _M.status()
    if not opts then
        return nil
    end

    _M.ensure_running()
    local connected, synced_at, err = (dict:get(STATE) or "0 0 "):match("^(%d) (%d+) (.*)$")
    connected = connected == "1" and lease.holder_alive(dict, LEASE)

    return {
        connected = connected,
        last_sync = synced_at ~= "0" and tonumber(synced_at) or nil,
        error = err ~= "" and err or nil,
        blocks = #blocks.list(),
    }
end


local function report(all)
    local status = _M.status()
    all.fleet_connected = status.connected and 1 or 0
    if status.last_sync then
        all.fleet_last_sync_age_seconds = math.max(0, ngx.time() - status.last_sync)
    end
end


local function run_once(command)
    local status = _M.status()
    if not status or not status.connected then
        return nil
    end

    local conn, err, reason = redis.connect(opts, ANSWER_TIMEOUT)
    local replies
    if conn then
        replies, err, reason = conn:run({ command }, ANSWER_TIMEOUT, MAX_ANSWER + 1024)
    end

    if not replies then
        if conn then
            conn:close()
        end

        fleet_blocks.count_error(reason)
        fleet_blocks.log_once(ngx.WARN, "answer", "Redis: ", err, "; no answers of responders are shared")

        return nil
    end

    conn:keep()

    return replies[1]
end


-- Timers. A signed response that another node has fetched, which may be anything: verify it. nil when there is none.
function _M.get_answer(name)
    local bytes = run_once({ "get", prefix .. "answer:" .. fleet_entry.hmac("resty-mtls answer", name) })

    return type(bytes) == "string" and bytes or nil
end


-- Timers. Shares a response that was verified, for some seconds.
function _M.put_answer(name, bytes, ttl)
    if #bytes <= MAX_ANSWER and ttl >= 1 then
        run_once({ "set", prefix .. "answer:" .. fleet_entry.hmac("resty-mtls answer", name), bytes, "EX",
                   math.min(math.floor(ttl), MAX_ANSWER_TTL) })
    end
end


-- init_by_lua*. Raises when the fleet cannot be used. given: the option redis of mtls.init.
function _M.init(given, shared_dict, state_dir)
    opts = nil
    answers.set_fleet(nil)
    if not given then
        return
    end

    local ok, err = redis.load()
    if not ok then
        error("[mtls] redis: " .. err, 0)
    end

    dict = ngx.shared[shared_dict]
    if not dict then
        error("[mtls] redis: lua_shared_dict " .. shared_dict .. " is not in nginx.conf", 0)
    end

    opts = {}
    for name, value in pairs(given) do
        opts[name] = value
    end

    opts.port = opts.port or 6379
    prefix = opts.prefix or "resty-mtls:"
    local node_name = (fleet_entry.read_file("/proc/sys/kernel/hostname", 64) or ""):gsub("[^%w.-]", "")
    local key = opts.unblock_key or fleet_entry.node_key(dict:get(KEY), state_dir)
    if not opts.unblock_key then
        dict:safe_set(KEY, key)
    end

    init_pid = ngx.worker.pid()
    answers.set_fleet { get = _M.get_answer, put = _M.put_answer }
    fleet_sync.init { key = key, prefix = prefix }
    fleet_blocks.init { dict = dict, key = key, prefix = prefix, node_name = node_name }
    blocks.on_change(function(record, added)
        fleet_blocks.on_change(record, added)
        _M.ensure_running()
    end)
    metrics.on_read(report)
end


return _M
