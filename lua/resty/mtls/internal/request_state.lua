-- What is remembered about a request until nginx frees it, through all phases and internal redirects. It is in nginx's
-- memory (src/ffi/request_state.rs), because a table of each request, as ngx.ctx is, costs more than the rest of
-- access().
--
-- A state has the last decision about the request, which holds only in the location in which it was made, and the
-- numbers of two tables, which are kept here while a request has their number: the record of what was decided about,
-- which many requests may have, and a table for what few requests need.

local ffi = require "ffi"
local base = require "resty.core.base"
local library = require "resty.mtls.internal.library"
local request_memory = require "resty.mtls.internal.request_memory"


local C = library.C
local add_cleanup = request_memory.add_cleanup
local allocate_for = request_memory.allocate_for
local begin_state = C.rmtls_request_state_begin
local OK = require("resty.mtls.internal.cdef").OK
local error = error
local ffi_cast = ffi.cast
local ffi_copy = ffi.copy
local ffi_str = ffi.string
local find_state = C.rmtls_request_state_find
local get_request = base.get_request
local is_internal = ngx.req.is_internal
local location_of = request_memory.location
local ngx = ngx
local ngx_var = ngx.var
local set_record = C.rmtls_request_state_set_record
local start_time = ngx.req.start_time
local tonumber = tonumber


local SIZE = ffi.sizeof("rmtls_request_state")


local found = ffi.new("rmtls_request_state *[1]")
local number = ffi.new("uint32_t[1]")

C.rmtls_request_state_owner(number)
local OWNER = number[0]

-- By the numbers that the library gives.
local tables = {}
-- Keys of the requests that have, or had before an internal redirect, a state in ngx.ctx, and how many such states are
-- not collected yet.
local in_ctx_keys = {}
local in_ctx_count = 0


local _M = {}


-- The state of the request, or nil.
local function current()
    local state
    if find_state(get_request(), found) == OK then
        state = found[0]
    elseif in_ctx_count > 0 then
        state = ngx.ctx.resty_mtls_state
    end

    -- Another Lua VM, which is closed (lua_code_cache off), may have begun it.
    if state and state.owner ~= OWNER and C.rmtls_request_state_take_over(state, OWNER) ~= OK then
        error("the state of a request cannot be taken over")
    end

    return state
end
_M.current = current


-- A key that no other request of this worker has, even where nginx numbers the streams of a connection alike: live
-- requests have different addresses, and an address is reused only by a later request.
local function request_key()
    return tonumber(ffi_cast("uintptr_t", get_request())) .. ":" .. ngx_var.connection .. ":"
           .. ngx_var.connection_requests .. ":" .. start_time()
end


-- Where the pool of the request is not known, its state is in ngx.ctx, which an internal redirect loses. nginx holds
-- what ngx.ctx had until the request ends.
local function in_ctx()
    local key = request_key()
    local state = ffi.gc(ffi.new("rmtls_request_state"), function(collected)
        C.rmtls_request_state_end(collected)
        in_ctx_keys[key] = nil
        in_ctx_count = in_ctx_count - 1
    end)
    in_ctx_keys[key] = true
    in_ctx_count = in_ctx_count + 1
    state.owner = OWNER
    ngx.ctx.resty_mtls_state = state

    return state
end


-- The state of the request, which is begun if there is none.
function _M.ensure()
    local state = current()
    if state then
        return state
    end

    local request = get_request()
    local cleanup = add_cleanup(request, SIZE)
    if not cleanup then
        return in_ctx()
    end

    if begin_state(request, OWNER, cleanup, found) ~= OK then
        error("the state of a request cannot be kept")
    end

    return found[0]
end


-- Whether a state, or nil, has a decision that was made in the location in which the request is.
function _M.is_decided(state)
    return state ~= nil and state.is_decided == 1 and state.location == location_of(get_request())
end


-- The name of the route for which the request was decided, "" for none.
function _M.route(state)
    return ffi_str(state.route, state.route_len)
end


-- The record { plan, epoch, ... } of the decision, or nil.
function _M.record(state)
    return tables[state.record]
end


local function set_route(state, route)
    local memory = allocate_for(get_request(), #route)
    if memory then
        ffi_copy(memory, route, #route)
    else
        -- The garbage collector does not see the pointer.
        ngx.ctx.resty_mtls_route = route
        memory = ffi_cast("const uint8_t *", route)
    end

    state.route = memory
    state.route_len = #route
end


-- Remembers what was decided, which is in state.decision. record: the number of its table, or 0.
function _M.set_decided(state, record, route, is_allowed)
    if state.route_len ~= #route or ffi_str(state.route, state.route_len) ~= route then
        set_route(state, route)
    end

    state.location = location_of(get_request())
    state.is_allowed = is_allowed and 1 or 0
    state.status = 0
    state.lacks_headers = 0
    state.is_preflight = 0
    if state.record ~= record and set_record(state, record) ~= OK then
        error("the record of a decision cannot be kept with its request")
    end

    state.is_decided = 1
end


-- Remembers that the request has lost upstream headers, which access() must set again.
function _M.lose_headers()
    local state = current()
    if state then
        state.lacks_headers = 1
    end
end


local function drop_released()
    while C.rmtls_request_state_released_table(number) == OK do
        tables[number[0]] = nil
    end
end


-- Keeps a table for requests, and returns its number. Retire it when no other request will have it.
function _M.keep(kept)
    drop_released()
    if C.rmtls_request_state_new_table(number) ~= OK then
        error("no more tables can be kept")
    end

    tables[number[0]] = kept

    return number[0]
end


-- Says that no other request will have the table of this number. It is dropped with the last request that has it.
function _M.retire(table_number)
    C.rmtls_request_state_retire_table(table_number)
end


-- Whether what was remembered before may be lost: in another VM, or in the ngx.ctx of before an internal redirect. The
-- pool may be known only since then.
local function may_be_lost(state)
    return state.is_lost == 1
           or is_internal() and (state.request == nil or in_ctx_count > 0 and in_ctx_keys[request_key()] == true)
end


-- The table of this request for what few requests need; without `create` nil where there is none.
function _M.extra(create)
    local state = create and _M.ensure() or current()
    if not state then
        return nil
    end

    if state.extra == 0 and create then
        drop_released()
        local is_lost = may_be_lost(state)
        if C.rmtls_request_state_new_extra(state) ~= OK then
            error("no more tables can be kept")
        end

        tables[state.extra] = { is_lost = is_lost }
    end

    return tables[state.extra]
end


-- Whether a table is still that of extra() for the request at this address, which may have ended.
function _M.has_extra(address, kept)
    return find_state(ffi_cast("void *", ffi_cast("uintptr_t", address)), found) == OK
           and tables[found[0].extra] == kept
end


return _M
