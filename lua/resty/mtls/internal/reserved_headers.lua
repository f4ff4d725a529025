-- Removes reserved headers, which only the gateway may set, from requests.

local ffi = require "ffi"
local base = require "resty.core.base"
local library = require "resty.mtls.internal.library"
local own_headers = require "resty.mtls.internal.own_headers"
local request_headers = require "resty.mtls.internal.request_headers"
local request_state = require "resty.mtls.internal.request_state"
local raw_headers = require "resty.mtls.internal.raw_headers"
local CONST = require "resty.mtls.internal.cdef"


local C = library.C
local OK = CONST.OK
local clear_header = ngx.req.clear_header
local ensure_own_headers = own_headers.ensure
local error = error
local ffi_cast = ffi.cast
local ffi_str = ffi.string
local get_request = base.get_request
local ngx = ngx
local ngx_log = ngx.log
local find_reserved = C.rmtls_engine_reserved_headers
local tonumber = tonumber


-- For how many different header names one request is accepted.
local MAX_NAMES = 64
local found_len = ffi.new("size_t[1]")
local indexes_type = ffi.typeof("uint32_t[?]")
local headers_type = ffi.typeof("const rmtls_request_header *")
local capacity = 64
local found = indexes_type(capacity)


local _M = {}

-- Names in lower case of the headers that some route reads, of the policy with these plans.
local plans
local read_names
local any_is_read


-- A function of its own, since LuaJIT does not compile a function that creates closures.
local function load_read_names(engine)
    read_names = {}
    for i = 0, math.huge do
        local name = library.read("engine.read_names", function(out)
            return C.rmtls_engine_read_header_name(engine.handle, i, out)
        end)
        if not name then
            break
        end

        read_names[name:lower()] = true
    end

    any_is_read = next(read_names) ~= nil
end


local function update_read_names(engine)
    local current = engine:current_plans()
    if plans ~= current then
        load_read_names(engine)
        plans = current
    end
end


-- Whether some route reads an inbound header of this name before it is removed.
local function is_read(engine, name)
    update_read_names(engine)

    return read_names[name:lower()]
end


-- Whether some route reads any reserved header, of the policy of which a plan was looked up last.
function _M.are_read(engine)
    if plans ~= engine.plans then
        update_read_names(engine)
    end

    return any_is_read
end


-- Removes every reserved header from the request, whatever the spelling of its name. Saves the values of
-- those that some route reads.
function _M.remove(engine)
    -- Before the headers are read: a subrequest that waits to be decided would share what its main request gets
    -- meanwhile.
    ensure_own_headers()
    local request = get_request()
    local saved = false
    -- The second round checks that none is left.
    for _ = 1, 2 do
        local elements, count = raw_headers(request)
        if count > capacity then
            capacity = 2 * count
            found = indexes_type(capacity)
        end

        if find_reserved(engine.handle, ffi_cast(headers_type, elements), count, found, capacity, found_len) ~= OK
        then
            error("request headers cannot be checked")
        end

        local reserved = tonumber(found_len[0])
        if reserved == 0 then
            if saved then
                request_headers.seal()
            end

            return
        end

        -- Among them may be those that an earlier decision has set.
        request_state.lose_headers()
        local names, seen = {}, {}
        for i = 1, reserved do
            local element = elements[found[i - 1]]
            local name = ffi_str(element.key.data, element.key.len)
            if not seen[name] then
                seen[name] = true
                names[#names + 1] = name
            end

            if is_read(engine, name) then
                saved = true
                request_headers.save(name:lower(), ffi_str(element.value.data, element.value.len))
            end
        end

        -- Each removal makes lua-nginx-module search all headers.
        if #names > MAX_NAMES then
            ngx_log(ngx.ERR, "[mtls] 400 over ", MAX_NAMES, " headers that only the gateway may set")

            return ngx.exit(400)
        end

        for i = 1, #names do
            clear_header(names[i])
        end
    end

    -- lua-nginx-module does not find a name with characters that are not allowed in header names.
    ngx_log(ngx.ERR, "[mtls] 400 a header that only the gateway may set has a name that cannot be removed")

    return ngx.exit(400)
end


return _M
