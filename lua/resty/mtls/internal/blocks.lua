-- Certificates that an operator has blocked. The table is in memory that the workers of this nginx share; this
-- module adds to it and removes from it, saves it in state_dir, and passes changes on to a fleet.
--
-- A record is { sha256 = "...", or spki_sha256 = "...", or serial = "..." and issuer_dn = "...", reason = "...",
-- added = seconds since 1970, until_ = the same, nil without an end }.

local ffi = require "ffi"
local engine = require "resty.mtls.internal.engine"
local library = require "resty.mtls.internal.library"
local CONST = require "resty.mtls.internal.cdef"


local C = library.C
local OK = CONST.OK
local NOT_FOUND = CONST.NOT_FOUND
local floor = math.floor
local ngx_log = ngx.log
local ngx_time = ngx.time

local ERR = ngx.ERR

-- The fields that select certificates, in the order of the selector's text.
local SELECTORS = { { "sha256" }, { "spki_sha256" }, { "serial", "issuer_dn" } }
local EXPECTED = "expected sha256, spki_sha256, or serial and issuer_dn"
-- Bytes of a selector and of a reason at most, as the library limits them.
local MAX_TEXT = 2048


local _M = {}

-- Called with each change in this worker.
local listeners = {}


-- The text by which the library reads the selector of a record; nil and an error.
local function selector_of(record)
    local text
    for _, fields in ipairs(SELECTORS) do
        local parts = { fields[1] }
        for _, field in ipairs(fields) do
            local value = record[field]
            if value ~= nil then
                if type(value) ~= "string" or value == "" or value:find("%c") then
                    return nil, field .. ": expected text on one line"
                end

                parts[#parts + 1] = value
            end
        end

        if #parts > 1 then
            if text or #parts ~= #fields + 1 or parts[2]:find(" ") then
                return nil, EXPECTED
            end

            text = table.concat(parts, " ")
        end
    end

    if not text then
        return nil, EXPECTED
    end

    return text
end


-- The record of a selector in the form in which the library keeps it.
local function record_of(selector, reason, times)
    local kind, rest = selector:match("^(%S+)%s+(.*)$")
    local record = { added = tonumber(times.added), reason = reason ~= "" and reason or nil }
    if kind == "serial" then
        record.serial, record.issuer_dn = rest:match("^(%S+)%s+(.*)$")
    else
        record[kind] = rest
    end

    if times["until"] ~= 0 then
        record.until_ = tonumber(times["until"])
    end

    return record
end


local function notify(record, added)
    for _, listener in ipairs(listeners) do
        local ok, err = pcall(listener, record, added)
        if not ok then
            ngx_log(ERR, "[mtls] blocks: ", err)
        end
    end
end


-- Saves the blocks in state_dir. A block that cannot be saved is in force all the same.
local function save()
    local ok, err = library.try("blocks", function(message)
        return C.rmtls_engine_save_blocks(engine.current().handle, ngx_time(), message)
    end)
    if not ok then
        ngx_log(ERR, "[mtls] ", err, "; they are in force, but will not outlive a restart")
    end
end


local saving


-- For changes that come in numbers, one of which may wait.
local function save_soon()
    if saving then
        return
    end

    saving = ngx.timer.at(0, function()
        saving = nil
        save()
    end)
    if not saving then
        save()
    end
end


local function add(record)
    local selector, err = selector_of(record)
    if not selector then
        return nil, err
    end

    local reason = record.reason or ""
    if type(reason) ~= "string" then
        return nil, "reason: expected text on one line"
    end

    local now = ngx_time()

    local ok, why = library.try("block", function(message)
        return C.rmtls_engine_block(engine.current().handle, selector, #selector, reason, #reason,
                                    floor(record.added or now), floor(record.until_ or 0), now, message)
    end)
    if not ok then
        return nil, (why:gsub("^block: ", ""))
    end

    return selector
end


local function remove(record)
    local selector, err = selector_of(record)
    if not selector then
        return nil, err
    end

    local ok, why, status = library.try("unblock", function(message)
        return C.rmtls_engine_unblock(engine.current().handle, selector, #selector, ngx_time(), message)
    end)
    if not ok then
        return nil, status ~= NOT_FOUND and why:gsub("^unblock: ", "") or nil
    end

    return selector
end


local function change(record, added)
    local selector, err = (added and add or remove)(record)
    if not selector then
        return nil, err
    end

    save()
    ngx_log(ngx.NOTICE, added and "[mtls] blocked: " or "[mtls] unblocked: ", selector)
    notify(record, added)

    return true
end


-- Adds a block, in place of one with the same selector. true, or nil and an error.
function _M.add(record)
    record.added = record.added or ngx_time()

    return change(record, true)
end


-- Removes a block. true; nil when there is none; nil and an error.
function _M.remove(record)
    return change(record, false)
end


-- Does what another node has done, without a call of on_change. true, or nil and an error; a block that has
-- ended, and one to remove that is not there, are no error.
function _M.apply_remote(record, added)
    local selector, err
    if not added then
        selector, err = remove(record)
    elseif not record.until_ or record.until_ > ngx_time() then
        selector, err = add(record)
    end

    if selector then
        save_soon()
    end

    return not err or nil, err
end


-- The blocks in force.
function _M.list()
    local handle, now = engine.current().handle, ngx_time()
    local slot, times = ffi.new("uint32_t[1]"), ffi.new("rmtls_block_times")
    local selector, reason = library.buffer(MAX_TEXT), library.buffer(MAX_TEXT)
    local records = {}
    while C.rmtls_engine_next_block(handle, now, slot, times, selector, reason) == OK do
        records[#records + 1] = record_of(library.text(selector), library.text(reason), times)
    end

    return records
end


-- Calls callback(record, added) after each change that this worker makes.
function _M.on_change(callback)
    listeners[#listeners + 1] = callback
end


return _M
