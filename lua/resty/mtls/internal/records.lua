-- What Lua keeps for a client on a plan: its consumer and groups, and what client() returns.
--
-- The library numbers what is kept for a client on a plan, and decides how long it is kept (src/engine/records.rs).
-- Here is one array by that number; another generation means that the number was given to something else. A record
-- that the library has dropped is kept as long as a request has it (request_state.lua), under a number of its own.

local ffi = require "ffi"
local library = require "resty.mtls.internal.library"
local request_state = require "resty.mtls.internal.request_state"
local CONST = require "resty.mtls.internal.cdef"


local C = library.C
local OK = CONST.OK
local TOO_SMALL = CONST.TOO_SMALL
local CONSUMER = CONST.IDENTITY_CONSUMER
local tonumber = tonumber


local number = ffi.new("uint32_t[1]")
local text = library.buffer(1024)

local records = {}


local _M = {}


-- The string that copy(...) has put into the buffer, whose status is given; nil if there is none. Where the buffer
-- was too small, copy(...) runs again with a larger one.
local function read_text(status, copy, ...)
    if status == TOO_SMALL then
        text = library.buffer(tonumber(text.len))
        status = copy(...)
    end

    return status == OK and library.text(text) or nil
end


local function copy_group(engine, plan, decision, index)
    return C.rmtls_engine_group(engine.handle, plan, decision, index, text)
end


local function copy_consumer_field(engine, decision, field)
    return C.rmtls_engine_consumer(engine.handle, decision.consumer, field, text)
end


local function consumer_field(engine, decision, field)
    return read_text(copy_consumer_field(engine, decision, field), copy_consumer_field, engine, decision, field)
end


-- The consumer and groups of a client. Read with the decision, because plans and consumers have other numbers in
-- another policy.
local function identity_of(engine, plan, decision)
    local groups, size = {}, 0
    local group = read_text(copy_group(engine, plan, decision, 0), copy_group, engine, plan, decision, 0)
    while group do
        groups[#groups + 1] = group
        size = size + 40 + #group
        group = read_text(copy_group(engine, plan, decision, #groups), copy_group, engine, plan, decision, #groups)
    end

    return {
        groups = groups,
        consumer = decision.identity == CONSUMER and {
            id = consumer_field(engine, decision, CONST.CONSUMER_ID),
            username = consumer_field(engine, decision, CONST.CONSUMER_USERNAME),
            custom_id = consumer_field(engine, decision, CONST.CONSUMER_CUSTOM_ID),
        } or nil,
    }, size
end


-- Counts bytes that are kept in a record.
function _M.keep(engine, record, bytes)
    C.rmtls_engine_keep_with_record(engine.handle, record.slot, record.generation, bytes)
end


local function drop(at)
    local record = records[at]
    if record then
        request_state.retire(record.number)
        records[at] = nil
    end
end


local function new_record(engine, plan, decision)
    while C.rmtls_engine_dropped_record(engine.handle, number) == OK do
        drop(number[0])
    end

    local record = {
        -- The number of the library, and below the one of request_state.lua.
        slot = decision.record,
        generation = decision.record_generation,
        epoch = engine.epoch,
        plan = plan,
        is_client = decision.generation ~= 0,
        -- Whether it is of one client, or of the connection of an untrusted one.
        is_own = decision.generation ~= 0 or decision.connection ~= 0,
        identity = false,
        view = false,
        number = false,
    }
    record.number = request_state.keep(record)
    drop(decision.record)
    records[decision.record] = record
    -- Without a certificate, a token may have given the consumer.
    if record.is_client or decision.identity == CONSUMER then
        local size
        record.identity, size = identity_of(engine, plan, decision)
        if size > 0 then
            _M.keep(engine, record, size)
        end
    end

    return record
end


-- The record of a decision that the library has just made, which has one.
function _M.of_decision(engine, plan, decision)
    local record = records[decision.record]
    if not record or record.generation ~= decision.record_generation then
        record = new_record(engine, plan, decision)
    end

    return record
end


return _M
