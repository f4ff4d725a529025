-- The blocks of the fleet that this node has, and puts in force.
--
-- The worker that follows Redis has it in memory, and in the shared dictionary for the next one. There are two sets:
-- entries, whose text never changes (fleet_entry.lua), and unblocks, which have the secret of an entry.

local blocks = require "resty.mtls.internal.blocks"
local fleet_entry = require "resty.mtls.internal.fleet_entry"
local metrics = require "resty.mtls.internal.metrics"
local monotonic_clock = require "resty.mtls.internal.monotonic_clock"


local concat = table.concat
local huge = math.huge
local max = math.max
local monotonic = monotonic_clock.now
local ngx_log = ngx.log
local ngx_sleep = ngx.sleep
local ngx_time = ngx.time

local ERR = ngx.ERR
local WARN = ngx.WARN


-- Of blocks and of unblocks
local MAX_ENTRIES = 4096
-- Changes of the table of blocks without a pause
local AT_ONCE = 5
-- Normal forms without a pause
local FORMS_AT_ONCE = 200
-- Seconds
local LOG_INTERVAL = 60
-- Seconds for which it is remembered that a block was unblocked, for nodes that were off meanwhile.
local UNBLOCK_TTL = 30 * 86400

local ENTRY, IDS, LIFTED, IGNORED = "fleet:entry:", "fleet:ids:", "fleet:lifted:", "fleet:ignored:"
-- The time from which a block of this node is in force because of entries of other nodes only. A block without it was
-- made here or restored: no unblock of an entry that has the key of another node ends it.
local OTHERS = "fleet:others:"
local OUTBOX = "fleet:outbox"


local _M = {
    MAX_ENTRIES = MAX_ENTRIES,
}

local dict, key, prefix, node_name
-- entries: { [digest] = entry }, forms: { [normal form of a selector] = { [digest] = true } }, dirty: { [form] = true,
-- or "lifted" }, unblocks: those to write, { [digest] = text }, lifted: selectors and times of blocks that were
-- unblocked, verified: when the last block was made that was unblocked with the key of this node, { [form] = seconds },
-- offset: of the clock of Redis, in seconds.
local known
local logged = {}


-- init_by_lua*. opts: dict, key (of this node), prefix (in Redis), node_name.
function _M.init(opts)
    dict, key, prefix, node_name = opts.dict, opts.key, opts.prefix, opts.node_name
end


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
_M.log_once = log_once


local function count_error(reason)
    metrics.count("fleet_errors_total", reason)
end
_M.count_error = count_error


-- Stores for the next worker that follows. Without room in the dictionary it reads everything from Redis.
local function store(name, value, ttl)
    local ok, err = dict:safe_set(name, value, ttl or 0)
    if not ok then
        metrics.count("shortages_total", "dictionary")
        log_once(WARN, "dictionary", "lua_shared_dict takes no more entries (", err, "): make it larger")
    end

    return ok
end
_M.store = store


local function store_ids(form)
    local ids = {}
    for id in pairs(known.forms[form] or {}) do
        ids[#ids + 1] = id
    end

    if ids[1] then
        return store(IDS .. form, concat(ids, " "))
    end

    dict:delete(IDS .. form)
end


local function insert(id, entry, stored)
    known.entries[id] = entry
    known.count = known.count + 1
    known.forms[entry.form] = known.forms[entry.form] or {}
    known.forms[entry.form][id] = true
    if stored then
        return
    end

    local has_room = store(ENTRY .. id, entry.value)
    if not store_ids(entry.form) or not has_room then
        -- The next worker may not find this entry: an unblock of another one must not end the block there.
        known.unstored[entry.form] = true
        dict:delete(OTHERS .. entry.form)
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
_M.forget = forget


local function has_ended(entry)
    return entry.ends ~= 0 and entry.ends <= ngx_time() + known.offset
end
_M.has_ended = has_ended


-- Takes a block of another node.
function _M.learn(id, value)
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
function _M.learn_unblock(text, field)
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
        if fleet_entry.secret_of(entry, key) then
            known.verified[entry.form] = max(known.verified[entry.form] or 0, entry.added)
        end
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
function _M.on_change(record, added)
    local selector = fleet_entry.selector_of(record):gsub("%c", " ")
    local form = fleet_entry.form_of(selector)
    if form then
        dict:delete(OTHERS .. form)
    end

    local reason = (record.reason or ""):gsub("%c", " ")
    local item = concat({ added and "+" or "-", record.added or 0, record.until_ or 0, selector, reason }, "\t")
    local ok, err = dict:rpush(OUTBOX, item)
    if not ok then
        metrics.count("shortages_total", "dictionary")
        ngx_log(ERR, "[mtls] fleet: a change is in force on this node only: ", err, ": ", selector)
    end
end


-- Takes the changes of this node.
function _M.read_outbox()
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


-- When that of a block ends which this node made or restored; math.huge without an end. An unblock with the key of this
-- node ends it if it is of this block and not of an earlier one: added can differ by the second to which the offset of
-- the clock is known.
local function local_end(form, record, verified)
    if verified and verified + 1 >= record.added + known.offset then
        return 0
    end

    return dict:get(OTHERS .. form) or huge
end


-- Puts the last entry of a selector in force. true, or nil and an error; nil if nothing is to be done.
local function apply_entry(form, record, entry, is_lifted, kept_until)
    local ends = entry.ends ~= 0 and entry.ends - known.offset or huge
    local present = record and (record.until_ or huge) or 0
    if is_lifted then
        ends = max(ends, kept_until)
    end

    if ends <= present and (not is_lifted or ends == present or kept_until == huge) then
        return nil
    end

    -- Before the block: until then, it is one that only this node ends.
    if not known.unstored[form] and (not record or not dict:get(OTHERS .. form) and present < ends) then
        store(OTHERS .. form, present, entry.ends ~= 0 and max(ends - ngx_time(), 0) + 60 or 0)
    end

    local block = fleet_entry.record_of(entry.selector)
    block.reason = entry.reason ~= "" and entry.reason or nil
    block.added, block.until_ = entry.added - known.offset, ends ~= huge and ends or nil

    return blocks.apply_remote(block, true)
end


-- Ends a block of which no entry is left. true, or nil and an error; nil if nothing is to be done.
local function apply_lifted(form, record, kept_until)
    if kept_until > ngx_time() then
        log_once(WARN, "kept", "unblocked by another node, and still in force here, where it was made or restored: ",
                 fleet_entry.selector_of(record), "; unblock it here too")

        return nil
    end

    dict:delete(OTHERS .. form)

    return blocks.apply_remote(record, false)
end


-- Puts what has changed in force on this node, under the lease `held`. A block of this node is never shortened by
-- another node's, but by an unblock that was verified with the key of this node.
function _M.apply(held)
    if not next(known.dirty) then
        return
    end

    local dirty, verified = known.dirty, known.verified
    known.dirty, known.verified = {}, {}
    local current = blocks_by_form()
    local count = 0
    for form, how in pairs(dirty) do
        local record, entry = current[form], last_to_end(form)
        local is_lifted = how == "lifted"
        local kept_until = record and local_end(form, record, verified[form]) or 0
        local ok, err
        if entry then
            ok, err = apply_entry(form, record, entry, is_lifted, kept_until)
        elseif is_lifted and record then
            ok, err = apply_lifted(form, record, kept_until)
        end

        if ok or err then
            count = count + 1
        end

        if err then
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


-- Marks the blocks of other nodes that are not in force on this node, for example because there was no room.
function _M.find_missing()
    local current = blocks_by_form()
    for form in pairs(known.forms) do
        if not current[form] then
            known.dirty[form] = known.dirty[form] or true
        end
    end
end


-- Blocks that are in force on this node, and in Redis not: of before it was used, or of before a restart.
function _M.share_others()
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
function _M.load()
    known = { entries = {}, forms = {}, count = 0, dirty = {}, unblocks = {}, lifted = {}, verified = {},
              unstored = {}, ended = {}, old_unblocks = {}, offset = 0, created = 0, scan = 0, synced_at = 0 }
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

    return known
end


return _M
