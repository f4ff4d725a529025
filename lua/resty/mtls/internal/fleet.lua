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

local blocks = require "resty.mtls.internal.blocks"
local fleet_entry = require "resty.mtls.internal.fleet_entry"
local lease = require "resty.mtls.internal.net.lease"
local metrics = require "resty.mtls.internal.metrics"
local monotonic_clock = require "resty.mtls.internal.monotonic_clock"
local redis = require "resty.mtls.internal.net.redis"
local shortage = require "resty.mtls.internal.shortage"


local abs = math.abs
local concat = table.concat
local ipairs = ipairs
local monotonic = monotonic_clock.now
local next = next
local ngx = ngx
local ngx_log = ngx.log
local ngx_sleep = ngx.sleep
local ngx_time = ngx.time
local pairs = pairs
local pcall = pcall
local timer_at = ngx.timer.at
local tonumber = tonumber
local tostring = tostring
local type = type

local ERR = ngx.ERR
local NOTICE = ngx.NOTICE
local WARN = ngx.WARN


-- Of blocks and of unblocks
local MAX_ENTRIES = 4096
-- Elements of the stream, of which Redis keeps a few more.
local MAX_CHANGES = 8192
-- Milliseconds that Redis waits for a change before it answers; a change of this node is written at most so much later.
local BLOCK = 200
-- Milliseconds
local TIMEOUT = 1000
local ANSWER_TIMEOUT = 250
-- Changes of the table of blocks without a pause
local AT_ONCE = 5
-- Normal forms without a pause
local FORMS_AT_ONCE = 200
-- Commands in one round trip, fields in one reply
local BATCH = 50
local SCAN_COUNT = 100
local MAX_SCANS = 1000
-- Bytes
local MAX_REPLY = 2 * 1024 * 1024
local MAX_ANSWER = 1024 * 1024
-- Seconds. After SYNC_INTERVAL everything is compared again, in a timer of its own.
local SYNC_INTERVAL = 60
local RETRY = 0.5
-- Most seconds until the next attempt to connect to a Unix socket, since nginx logs each that is refused.
local UNIX_RETRY = 5
local LOG_INTERVAL = 60
local RENEW = 1000
-- Seconds for which it is remembered that a block was unblocked, for nodes that were off meanwhile.
local UNBLOCK_TTL = 30 * 86400
-- Seconds by which clocks may differ without a correction.
local CLOCK_TOLERANCE = 2
-- Seconds that the first requests of a node wait for its first sync.
local FIRST_WAIT = 0.2

local LEASE = "fleet"
local ENTRY, IDS, LIFTED, IGNORED = "fleet:entry:", "fleet:ids:", "fleet:lifted:", "fleet:ignored:"
local OUTBOX, STATE, KEY = "fleet:outbox", "fleet:state", "fleet:key"
local SYNCED, ATTEMPTED = "fleet:synced", "fleet:attempted"


local _M = {}

local opts, dict, key, prefix, node_name
-- What init() ran in: a Lua VM that was not forked from it has no timers.
local init_pid
local running = false
-- The lease, in the worker that follows Redis.
local held
local started_at
local is_synced = false
-- Attempts to sync that failed, since the last that did not.
local failures = 0

-- What the worker that holds the lease knows; nil in the others. entries: { [id] = entry }, forms: { [normal form of
-- a selector] = { [id] = true } }, dirty: { [form] = true, or "lifted" }, unblocks: those to write, { [id] = text }.
local known


local logged = {}


-- Logs a line at most once a minute for each kind of error and node.
local function log_once(level, kind, ...)
    local added, err = dict:safe_add("fleet:logged:" .. kind, true, LOG_INTERVAL)
    local now = ngx_time()
    if err and err ~= "exists" then
        added = not logged[kind] or now - logged[kind] >= LOG_INTERVAL or now < logged[kind]
        logged[kind] = now
    end

    if added then
        ngx_log(level, "[mtls] fleet: ", ...)
    end
end


local function count_error(reason)
    metrics.count("fleet_errors_total", reason)
end


local function set_state(connected, err)
    dict:safe_set(STATE, (connected and "1" or "0") .. " " .. (known and known.synced_at or 0) .. " " .. (err or ""))
end


-- Stores for the next worker that follows. Without room in the dictionary it reads everything from Redis.
local function store(name, value, ttl)
    local ok, err = dict:safe_set(name, value, ttl or 0)
    if not ok then
        metrics.count("shortages_total", "dictionary")
        log_once(WARN, "dictionary", "lua_shared_dict takes no more entries (", err, "): make it larger")
    end
end


local function store_ids(form)
    local ids = {}
    for id in pairs(known.forms[form] or {}) do
        ids[#ids + 1] = id
    end

    if ids[1] then
        store(IDS .. form, concat(ids, " "))
    else
        dict:delete(IDS .. form)
    end
end


local function insert(id, entry, stored)
    known.entries[id] = entry
    known.count = known.count + 1
    known.forms[entry.form] = known.forms[entry.form] or {}
    known.forms[entry.form][id] = true
    if not stored then
        store(ENTRY .. id, entry.value)
        store_ids(entry.form)
    end
end


local function forget(id)
    local entry = known.entries[id]
    known.entries[id] = nil
    known.count = known.count - 1
    local ids = known.forms[entry.form]
    ids[id] = nil
    if not next(ids) then
        known.forms[entry.form] = nil
    end

    dict:delete(ENTRY .. id)
    store_ids(entry.form)
end


local function has_ended(entry)
    return entry.ends ~= 0 and entry.ends <= ngx_time() + known.offset
end


-- Takes a block of another node.
local function learn(id, value)
    if known.entries[id] then
        known.entries[id].seen = known.scan

        return
    end

    local unblock = dict:get(LIFTED .. id)
    if unblock then
        known.unblocks[id] = unblock

        return
    end

    local entry = fleet_entry.parse(value)
    if not entry or fleet_entry.id_of(value) ~= id then
        count_error("value")
        log_once(ERR, "value", "Redis has a value that is not a block, it has no effect: key ", prefix,
                 "blocks, field ", (tostring(id):sub(1, 64):gsub("%W", "?")))

        return
    end

    if has_ended(entry) then
        known.ended[#known.ended + 1] = id

        return
    end

    if known.count >= MAX_ENTRIES then
        count_error("limit")
        log_once(ERR, "limit", "over ", MAX_ENTRIES, " blocks, one of another node is not in force here: ",
                 entry.selector)

        return
    end

    entry.pushed, entry.seen = true, known.scan
    entry.ignored = dict:get(IGNORED .. id)
    insert(id, entry)
    known.dirty[entry.form] = known.dirty[entry.form] or true
end


-- Takes an unblock of another node: the secret of an entry, when it was unblocked, and the entry.
local function learn_unblock(text, field)
    local secret, at, value = tostring(text):match("^(%x+) (%d+) (.*)$")
    local entry = secret and #secret == 64 and #at <= 12 and fleet_entry.parse(value)
    if not entry or fleet_entry.commitment_of(secret) ~= entry.commitment then
        count_error("value")
        log_once(ERR, "unblock", "Redis has an unblock without the secret of its block, it has no effect")

        return
    end

    if field and (has_ended(entry) or tonumber(at) < ngx_time() + known.offset - UNBLOCK_TTL) then
        known.old_unblocks[#known.old_unblocks + 1] = field
    end

    local id = fleet_entry.id_of(value)
    known.lifted[entry.selector .. "\t" .. entry.added] = true
    if dict:get(LIFTED .. id) and not known.entries[id] then
        return
    end

    store(LIFTED .. id, text, UNBLOCK_TTL)
    known.unblocks[id] = nil
    if known.entries[id] then
        forget(id)
        known.dirty[entry.form] = "lifted"
    end
end


-- Makes the entry of a block of this node.
local function create(form, selector, added, ends, reason)
    known.created = known.created + 1
    local entry = {
        form = form, selector = form:find("^serial") and selector or form, reason = reason or "", node = node_name,
        added = added + known.offset, ends = ends and ends ~= 0 and ends + known.offset or 0,
        nonce = fleet_entry.hmac(key, concat({ ngx.now(), ngx.worker.pid(), known.created, monotonic() }, " "))
                :sub(1, 32),
    }
    fleet_entry.seal(entry, key)
    insert(fleet_entry.id_of(entry.value), entry)
end


-- Ends the blocks of a selector: on all nodes those that this node can, on this node the others. The nodes that made
-- these.
local function lift(form)
    local others = {}
    local ids = {}
    for id in pairs(known.forms[form] or {}) do
        ids[#ids + 1] = id
    end

    for _, id in ipairs(ids) do
        local entry = known.entries[id]
        local secret = fleet_entry.secret_of(entry, key)
        if secret then
            local text = secret .. " " .. ngx_time() + known.offset .. " " .. entry.value
            store(LIFTED .. id, text, UNBLOCK_TTL)
            known.unblocks[id] = text
            forget(id)

        elseif not entry.ignored then
            entry.ignored = true
            store(IGNORED .. id, true, entry.ends ~= 0 and entry.ends - ngx_time() - known.offset + 60 or UNBLOCK_TTL)
            others[#others + 1] = entry.node
        end
    end

    return others
end


-- Called in the worker that has changed a block. The worker that follows Redis takes it from the dictionary.
local function on_change(record, added)
    local selector = fleet_entry.selector_of(record):gsub("%c", " ")
    local reason = (record.reason or ""):gsub("%c", " ")
    local item = concat({ added and "+" or "-", record.added or 0, record.until_ or 0, selector, reason }, "\t")
    local ok, err = dict:rpush(OUTBOX, item)
    if not ok then
        metrics.count("shortages_total", "dictionary")
        ngx_log(ERR, "[mtls] fleet: a change is in force on this node only: ", err, ": ", selector)
    end

    _M.ensure_running()
end


-- Takes the changes of this node.
local function read_outbox()
    for _ = 1, MAX_ENTRIES do
        local item = dict:lpop(OUTBOX)
        if not item then
            return
        end

        local sign, added, ends, selector, reason = item:match("^([+-])\t(%d+)\t(%d+)\t([^\t]+)\t(.*)$")
        local form = selector and fleet_entry.form_of(selector)
        if form and sign == "+" then
            lift(form)
            create(form, selector, tonumber(added), tonumber(ends), reason)
            known.dirty[form] = known.dirty[form] or true

        elseif form then
            local others = lift(form)
            -- If it was applied again since.
            blocks.apply_remote(fleet_entry.record_of(selector), false)
            if others[1] then
                ngx_log(WARN, "[mtls] fleet: unblocked on this node only: ", selector, " is blocked by ",
                        concat(others, ", "), "; unblock it there too, or give all nodes the same unblock_key")
            end
        end
    end
end


-- { [normal form] = record } of the blocks in force on this node
local function blocks_by_form()
    local found = {}
    for i, record in ipairs(blocks.list()) do
        if i % FORMS_AT_ONCE == 0 then
            ngx_sleep(0.001)
        end

        local form = fleet_entry.form_of(fleet_entry.selector_of(record))
        if form then
            found[form] = record
        end
    end

    return found
end


-- The entry of a selector that ends last, of those in force.
local function last_to_end(form)
    local last
    for id in pairs(known.forms[form] or {}) do
        local entry = known.entries[id]
        if not entry.ignored and not has_ended(entry)
            and (not last or entry.ends == 0 or last.ends ~= 0 and entry.ends > last.ends)
        then
            last = entry
        end
    end

    return last
end


-- Puts what has changed in force on this node. A block of this node is never shortened by another node's, but by an
-- unblock that was verified.
local function apply()
    if not next(known.dirty) then
        return
    end

    local dirty = known.dirty
    known.dirty = {}
    local current = blocks_by_form()
    local count = 0
    for form, how in pairs(dirty) do
        local record, entry = current[form], last_to_end(form)
        local ok, err = true, nil
        if entry then
            local ends = entry.ends ~= 0 and entry.ends - known.offset or nil
            if how == "lifted" or not record or record.until_ and (not ends or record.until_ < ends) then
                local block = fleet_entry.record_of(entry.selector)
                block.reason = entry.reason ~= "" and entry.reason or nil
                block.added, block.until_ = entry.added - known.offset, ends
                ok, err = blocks.apply_remote(block, true)
                count = count + 1
            end

        elseif how == "lifted" and record then
            ok, err = blocks.apply_remote(record, false)
            count = count + 1
        end

        if not ok then
            count_error("limit")
            log_once(ERR, "apply", "a block of another node is not in force here: ",
                     entry and entry.selector or form, ": ", err)
        end

        -- Each change looks through the whole table: other work of the worker must not wait for all of them.
        if count >= AT_ONCE then
            count = 0
            held:renew()
            ngx_sleep(0.001)
        end
    end
end


-- Blocks that are in force on this node, and in Redis not: of before it was used, or of before a restart.
local function share_others()
    for form, record in pairs(blocks_by_form()) do
        if not known.forms[form] then
            local selector = fleet_entry.selector_of(record)
            if known.lifted[selector .. "\t" .. record.added + known.offset] then
                log_once(WARN, "restored", "unblocked on other nodes while this one was off, and still in force here: ",
                         selector, "; unblock it here too")
            else
                create(form, selector, record.added, record.until_, record.reason)
            end
        end
    end
end


-- What the next worker starts with: the entries of the blocks in force, which are in the dictionary.
local function load()
    known = { entries = {}, forms = {}, count = 0, dirty = {}, unblocks = {}, lifted = {}, ended = {},
              old_unblocks = {}, offset = 0, created = 0, scan = 0, synced_at = 0 }
    for form in pairs(blocks_by_form()) do
        for id in (dict:get(IDS .. form) or ""):gmatch("%x+") do
            local value = dict:get(ENTRY .. id)
            local entry = value and fleet_entry.parse(value)
            if entry and not known.entries[id] then
                entry.ignored = dict:get(IGNORED .. id)
                insert(id, entry, true)
            end
        end
    end
end


-- Writes what this node has and Redis has not.
local function push(conn)
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
local function scan(conn, name, each)
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

        if fields > 2 * MAX_ENTRIES then
            break
        end
    end

    count_error("limit")
    log_once(ERR, "fields", "over ", 2 * MAX_ENTRIES, " fields in ", prefix, name, ", the others have no effect")

    return true
end


local function remove_ended(conn)
    local commands = {}
    for id, entry in pairs(known.entries) do
        if has_ended(entry) then
            known.ended[#known.ended + 1] = id
            forget(id)
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


-- Compares everything with Redis. true, or nil, an error and its kind.
local function sync(conn)
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
    if abs(known.offset) <= CLOCK_TOLERANCE then
        known.offset = 0
    end

    read_outbox()
    known.lifted = {}
    local ok
    ok, err, reason = scan(conn, "unblocks", function(field, text)
        learn_unblock(text, field)
    end)
    if ok then
        ok, err, reason = scan(conn, "blocks", learn)
    end

    if not ok then
        return nil, err, reason
    end

    for _, entry in pairs(known.entries) do
        entry.pushed = entry.seen == known.scan
    end

    apply()
    share_others()
    ok, err, reason = push(conn)
    if ok then
        ok, err, reason = remove_ended(conn)
    end

    if not ok then
        return nil, err, reason
    end

    known.synced_at = ngx_time()

    return true
end


-- Takes elements of the stream.
local function read_changes(reply)
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
                learn(fleet_entry.id_of(fields[2]), fields[2])
            elseif fields[1] == "unblock" then
                learn_unblock(fields[2])
            end
        end
    end
end


-- Applies changes as they come, until the next sync is due, the worker ends or another has the lease. true, or nil,
-- an error and its kind.
local function follow(conn)
    local sync_at = monotonic() + SYNC_INTERVAL * 1000
    local renew_at = 0
    while not ngx.worker.exiting() and monotonic() < sync_at do
        if monotonic() >= renew_at then
            if not held:renew() then
                held = nil

                return true
            end

            set_state(true)
            renew_at = monotonic() + RENEW
        end

        read_outbox()
        apply()
        local ok, err, reason = push(conn)
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
            ngx_log(NOTICE, "[mtls] fleet: Redis has lost its data, this node writes its blocks again")

            return true
        end

        read_changes(replies[2])
        apply()
    end

    return true
end


-- One sync, and what follows. true, or nil, an error and its kind.
local function run()
    local conn, err, reason = redis.connect(opts)
    if not conn then
        return nil, err, reason
    end

    local ok
    ok, err, reason = sync(conn)
    if ok then
        is_synced, failures = true, 0
        store(SYNCED, true)
        store(ATTEMPTED, true)
        local failing = known.failing
        known.failing = nil
        if failing then
            ngx_log(NOTICE, "[mtls] fleet: connected to Redis again")
        end

        ok, err, reason = follow(conn)
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
    local ok, err = timer_at(delay, tick)
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
                log_once(ERR, "lease", "no lease in lua_shared_dict: ", err)
            end

            return start_timer(RETRY)
        end
    end

    local ok, result, why, reason = pcall(function()
        if not known then
            load()
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
        count_error(reason)
        if known then
            known.failing = true
            -- What is blocked meanwhile is written after the next sync.
            pcall(read_outbox)
        end

        set_state(false, why)
        store(ATTEMPTED, true)
        log_once(ERR, reason, "Redis: ", why, "; the blocks that are known stay in force")
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
        ngx_sleep(0.005)
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
        all.fleet_last_sync_age_seconds = math.max(0, ngx_time() - status.last_sync)
    end
end


local function run_once(command)
    local status = _M.status()
    local conn = status and status.connected and redis.connect(opts)
    if not conn then
        return nil
    end

    local replies, err, reason = conn:run({ command }, ANSWER_TIMEOUT, MAX_ANSWER + 1024)
    if not replies then
        conn:close()
        count_error(reason)
        log_once(WARN, "answer", "Redis: ", err)

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
                   math.min(math.floor(ttl), UNBLOCK_TTL) })
    end
end


-- init_by_lua*. Raises when the fleet cannot be used. given: the option redis of mtls.init.
function _M.init(given, shared_dict, state_dir)
    opts = nil
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
    node_name = (fleet_entry.read_file("/proc/sys/kernel/hostname", 64) or ""):gsub("[^%w.-]", "")
    key = opts.unblock_key or fleet_entry.node_key(dict:get(KEY), state_dir)
    if not opts.unblock_key then
        store(KEY, key)
    end

    init_pid = ngx.worker.pid()
    blocks.on_change(on_change)
    metrics.on_read(report)
end


return _M
