-- Compares the blocks that this node has with those in Redis, and follows the stream of changes there. fleet.lua
-- describes the keys; it runs this in the worker that holds the lease.

local fleet_blocks = require "resty.mtls.internal.fleet_blocks"
local fleet_entry = require "resty.mtls.internal.fleet_entry"
local monotonic_clock = require "resty.mtls.internal.monotonic_clock"


local monotonic = monotonic_clock.now
local ngx_time = ngx.time

-- Elements of the stream, of which Redis keeps a few more.
local MAX_CHANGES = 8192
-- Milliseconds that Redis waits for a change before it answers; a change of this node is written at most so much later.
local BLOCK = 200
-- Milliseconds
local TIMEOUT = 1000
local RENEW = 1000
-- Commands in one round trip, fields in one reply
local BATCH = 50
local SCAN_COUNT = 100
local MAX_SCANS = 1000
-- Bytes
local MAX_REPLY = 2 * 1024 * 1024
-- Seconds. After SYNC_INTERVAL everything is compared again, in a timer of its own.
local SYNC_INTERVAL = 60
-- Seconds by which clocks may differ without a correction.
local CLOCK_TOLERANCE = 2


local _M = {}

local key, prefix


-- init_by_lua*. given: the key of this node, and the prefix in Redis.
function _M.init(given)
    key, prefix = given.key, given.prefix
end


-- Writes what this node has and Redis has not.
local function push(conn, known)
    local commands, done = {}, {}
    local function run()
        if not commands[1] then
            return true
        end

        local ok, err, reason = conn:run(commands, TIMEOUT)
        if not ok then
            return nil, err, reason
        end

        for _, mark in ipairs(done) do
            mark()
        end

        commands, done = {}, {}

        return true
    end

    local function change(field, text)
        commands[#commands + 1] = { "xadd", prefix .. "changes", "MAXLEN", "~", MAX_CHANGES, "*", field, text }
    end

    local pending = {}
    for id, entry in pairs(known.entries) do
        if not entry.pushed then
            pending[id] = entry
        end
    end

    for id, text in pairs(known.unblocks) do
        commands[#commands + 1] = { "hset", prefix .. "unblocks", id, text }
        commands[#commands + 1] = { "hdel", prefix .. "blocks", id }
        change("unblock", text)
        pending[id] = nil
        done[#done + 1] = function()
            known.unblocks[id] = nil
        end
        if #commands >= BATCH then
            break
        end
    end

    local ok, err, reason = run()
    if not ok then
        return nil, err, reason
    end

    for id, entry in pairs(pending) do
        commands[#commands + 1] = { "hset", prefix .. "blocks", id, entry.value }
        change("block", entry.value)
        done[#done + 1] = function()
            entry.pushed = true
        end
        if #commands >= BATCH then
            ok, err, reason = run()
            if not ok then
                return nil, err, reason
            end
        end
    end

    return run()
end


-- Calls each(field, value) for the fields of a hash in Redis.
local function scan(conn, held, name, each)
    local cursor, fields = "0", 0
    for _ = 1, MAX_SCANS do
        held:renew()
        local command = { "hscan", prefix .. name, cursor, "COUNT", SCAN_COUNT }
        local replies, err, reason = conn:run({ command }, TIMEOUT, MAX_REPLY)
        if not replies then
            return nil, err, reason
        end

        local reply = replies[1]
        if type(reply) ~= "table" or type(reply[1]) ~= "string" or type(reply[2]) ~= "table" then
            return nil, "HSCAN: expected a cursor and fields", "reply"
        end

        cursor = reply[1]
        for i = 1, #reply[2] - 1, 2 do
            each(tostring(reply[2][i]), reply[2][i + 1])
        end

        fields = fields + #reply[2] / 2
        if cursor == "0" then
            return true
        end

        if fields > 2 * fleet_blocks.MAX_ENTRIES then
            break
        end
    end

    fleet_blocks.count_error("limit")
    fleet_blocks.log_once(ngx.ERR, "fields", "over ", 2 * fleet_blocks.MAX_ENTRIES, " fields in ", prefix, name,
                          ", the others have no effect")

    return true
end


local function remove_ended(conn, known)
    local commands = {}
    for id, entry in pairs(known.entries) do
        if fleet_blocks.has_ended(entry) then
            known.ended[#known.ended + 1] = id
            fleet_blocks.forget(id)
        end
    end

    for i = 1, math.min(#known.ended, BATCH) do
        commands[i] = { "hdel", prefix .. "blocks", known.ended[i] }
    end

    for i = 1, math.min(#known.old_unblocks, BATCH) do
        commands[#commands + 1] = { "hdel", prefix .. "unblocks", known.old_unblocks[i] }
    end

    known.ended, known.old_unblocks = {}, {}
    if not commands[1] then
        return true
    end

    return conn:run(commands, TIMEOUT)
end


-- Compares everything with Redis. known: what fleet_blocks.load() returned; held: the lease of this worker. true; or
-- nil, an error and its kind.
function _M.sync(conn, known, held)
    local random = fleet_entry.hmac(key, ngx.now() .. " " .. ngx.worker.pid() .. " " .. monotonic())
    local replies, err, reason = conn:run({
        { "set", prefix .. "instance", random, "NX" },
        { "get", prefix .. "instance" },
        { "time" },
        { "xrevrange", prefix .. "changes", "+", "-", "COUNT", 1 },
    }, TIMEOUT)
    if not replies then
        return nil, err, reason
    end

    local time, newest = replies[3], replies[4]
    local seconds = type(time) == "table" and tonumber(time[1])
    if not seconds or type(newest) ~= "table" then
        return nil, "TIME or XREVRANGE: malformed reply", "reply"
    end

    known.instance = replies[2]
    known.position = type(newest[1]) == "table" and type(newest[1][1]) == "string" and newest[1][1] or "0-0"
    known.scan = known.scan + 1
    known.offset = seconds - ngx_time()
    if math.abs(known.offset) <= CLOCK_TOLERANCE then
        known.offset = 0
    end

    fleet_blocks.read_outbox()
    known.lifted = {}
    local ok
    ok, err, reason = scan(conn, held, "unblocks", function(field, text)
        fleet_blocks.learn_unblock(text, field)
    end)
    if ok then
        ok, err, reason = scan(conn, held, "blocks", fleet_blocks.learn)
    end

    if not ok then
        return nil, err, reason
    end

    for _, entry in pairs(known.entries) do
        entry.pushed = entry.seen == known.scan
    end

    fleet_blocks.find_missing()
    fleet_blocks.apply(held)
    fleet_blocks.share_others()
    ok, err, reason = push(conn, known)
    if ok then
        ok, err, reason = remove_ended(conn, known)
    end

    if not ok then
        return nil, err, reason
    end

    known.synced_at = ngx_time()

    return true
end


-- Takes elements of the stream.
local function read_changes(known, reply)
    local elements = type(reply) == "table" and type(reply[1]) == "table" and reply[1][2]
    if type(elements) ~= "table" then
        return
    end

    for _, element in ipairs(elements) do
        local id, fields = element[1], element[2]
        if type(id) == "string" then
            known.position = id
        end

        if type(fields) == "table" and type(fields[2]) == "string" then
            if fields[1] == "block" then
                fleet_blocks.learn(fleet_entry.id_of(fields[2]), fields[2])
            elseif fields[1] == "unblock" then
                fleet_blocks.learn_unblock(fields[2])
            end
        end
    end
end


-- Applies changes as they come, until the next sync is due, the worker ends or another has the lease. Calls report()
-- each second. true, or nil, an error and its kind.
function _M.follow(conn, known, held, report)
    local sync_at = monotonic() + SYNC_INTERVAL * 1000
    local renew_at = 0
    while not ngx.worker.exiting() and monotonic() < sync_at do
        if monotonic() >= renew_at then
            if not held:renew() then
                return true
            end

            report()
            renew_at = monotonic() + RENEW
        end

        fleet_blocks.read_outbox()
        fleet_blocks.apply(held)
        local ok, err, reason = push(conn, known)
        if not ok then
            return nil, err, reason
        end

        local replies
        replies, err, reason = conn:run({
            { "get", prefix .. "instance" },
            { "xread", "COUNT", BATCH, "BLOCK", BLOCK, "STREAMS", prefix .. "changes", known.position },
        }, BLOCK + TIMEOUT, MAX_REPLY)
        if not replies then
            return nil, err, reason
        end

        if replies[1] ~= known.instance then
            ngx.log(ngx.NOTICE, "[mtls] fleet: Redis has lost its data, this node writes its blocks again")

            return true
        end

        read_changes(known, replies[2])
        fleet_blocks.apply(held)
    end

    return true
end


return _M
