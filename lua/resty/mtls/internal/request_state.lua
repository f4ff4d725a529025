-- What is remembered about a request until nginx frees it, through all phases and internal redirects. It is in nginx's
-- memory (src/ffi/request_state.rs), because a table of each request, as ngx.ctx is, costs more than the rest of
-- access().
--
-- A state has the number of a context { route, is_allowed, ... }, which describes the last decision and holds only in
-- the location in which it was made, and of a table for what few requests need. Both tables are kept here while a
-- request has their number.

local ffi = require "ffi"
local base = require "resty.core.base"
local library = require "resty.mtls.internal.library"
local request_memory = require "resty.mtls.internal.request_memory"


local C = library.C
local OK = require("resty.mtls.internal.cdef").OK
local ffi_cast = ffi.cast
local get_request = base.get_request
local is_internal = ngx.req.is_internal
local location_of = request_memory.location
local ngx = ngx
local ngx_var = ngx.var
local start_time = ngx.req.start_time
local tonumber = tonumber


local SIZE = ffi.sizeof("rmtls_request_state")
-- How many contexts that nothing else needs are kept before they are looked through for those without a request.
local MIN_RETIRED = 64


local found = ffi.new("rmtls_request_state *[1]")
local number = ffi.new("uint32_t[1]")
local extra_number = ffi.new("uint64_t[1]")

C.rmtls_request_state_owner(number)
local OWNER = number[0]

local contexts = {}
local free_numbers = {}
local last_number = 0
local retired = {}
local sweep_at = MIN_RETIRED

local extras = {}
-- Keys of the requests that have, or had before an internal redirect, a state in ngx.ctx, and how many such states are
-- not collected yet.
local in_ctx_keys = {}
local in_ctx_count = 0


local _M = {}


-- The state of the request, or nil.
local function current()
    if C.rmtls_request_state_find(get_request(), found) == OK then
        return found[0]
    end

    return in_ctx_count > 0 and ngx.ctx.resty_mtls_state or nil
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
local function ensure()
    local state = current()
    if state then
        return state
    end

    local request = get_request()
    local cleanup = request_memory.add_cleanup(request, SIZE)
    if not cleanup then
        return in_ctx()
    end

    if C.rmtls_request_state_begin(request, OWNER, cleanup, found) ~= OK then
        error("the state of a request cannot be kept")
    end

    return found[0]
end


-- The context of a state, or nil; also nil where an internal redirect has moved the request to another location, or to
-- another Lua VM (lua_code_cache off).
function _M.context(state)
    if state and state.owner == OWNER and state.location == location_of(get_request()) then
        return contexts[state.context]
    end
end


-- Sets the context and the number of changes under which it holds. Returns the state.
local function set_context(context, changes)
    local state = ensure()
    -- A context of another VM is not counted for this one.
    state.owner = OWNER
    C.rmtls_request_state_set_context(state, context.number, location_of(get_request()))
    state.changes = changes

    return state
end
_M.set_context = set_context


-- Forgets retired contexts that no request has any more.
local function sweep()
    local left = {}
    for i = 1, #retired do
        local context = retired[i]
        C.rmtls_request_state_uses(context.number, number)
        if number[0] == 0 then
            contexts[context.number] = nil
            free_numbers[#free_numbers + 1] = context.number
        else
            left[#left + 1] = context
        end
    end

    retired = left
    sweep_at = 2 * #left + MIN_RETIRED
end


-- Numbers a context. Retire it when only requests that have it need it.
local function add_context(context)
    local free = #free_numbers
    if free > 0 then
        context.number = free_numbers[free]
        free_numbers[free] = nil
    else
        last_number = last_number + 1
        context.number = last_number
    end

    contexts[context.number] = context

    return context
end
_M.add_context = add_context


local function retire(context)
    -- A number that is freed twice would be that of two contexts.
    if context.is_retired then
        return
    end

    context.is_retired = true
    retired[#retired + 1] = context
    if #retired >= sweep_at then
        sweep()
    end
end
_M.retire = retire


-- As set_context(), of a context that no other request has.
function _M.set_own_context(context, changes)
    local state = set_context(add_context(context), changes)
    retire(context)

    return state
end


-- Whether what was remembered before may be lost: in another VM, which has been closed, or in the ngx.ctx of before an
-- internal redirect. The pool may be known only since then.
local function may_be_lost(state)
    return state.extra ~= 0
           or is_internal() and (state.request == nil or in_ctx_count > 0 and in_ctx_keys[request_key()] == true)
end


-- The table of this request for what few requests need; without `create` nil where there is none.
function _M.extra(create)
    local state = create and ensure() or current()
    if not state then
        return nil
    end

    local extra = extras[tonumber(state.extra)]
    if extra or not create then
        return extra
    end

    while C.rmtls_request_state_ended_extra(extra_number) == OK do
        extras[tonumber(extra_number[0])] = nil
    end

    local is_lost = may_be_lost(state)
    C.rmtls_request_state_new_extra(state)
    extra = { is_lost = is_lost }
    extras[tonumber(state.extra)] = extra

    return extra
end


return _M
