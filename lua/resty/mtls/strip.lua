-- Removes what only the gateway may say.

local ffi = require "ffi"
local base = require "resty.core.base"
-- Declares what this file calls of lua-nginx-module.
require "resty.core.request"
local lib = require "resty.mtls.lib"
local inbound = require "resty.mtls.inbound"
local STATUS = require "resty.mtls.cdef"


local C = lib.C
local N = ffi.C
local OK = STATUS.OK
local clear_header = ngx.req.clear_header
local error = error
local ffi_cast = ffi.cast
local ffi_str = ffi.string
local get_request = base.get_request
local ngx = ngx
local ngx_log = ngx.log
local tonumber = tonumber


-- Most different names of headers that are removed from one request.
local MAX_FORGED = 64
local truncated = ffi.new("int[1]")
local found_len = ffi.new("size_t[1]")
local elements_type = ffi.typeof("ngx_http_lua_ffi_table_elt_t[?]")
local indexes_type = ffi.typeof("uint32_t[?]")
local headers_type = ffi.typeof("const rmtls_header *")
local capacity = 64
local elements = elements_type(capacity)
local found = indexes_type(capacity)

if ffi.sizeof("ngx_http_lua_ffi_table_elt_t") ~= ffi.sizeof("rmtls_header") then
    error("resty.mtls: this lua-nginx-module lays out request headers in another way than "
          .. "0.10.23 to 0.10.30 do", 0)
end


-- Removes every inbound header that only the gateway may set, in whatever spelling.
local function strip(engine)
    local request = get_request()
    local read = false
    -- A second look proves that nothing is left.
    for _ = 1, 2 do
        local count = N.ngx_http_lua_ffi_req_get_headers_count(request, 0, truncated)
        if count < 0 then
            error("request headers cannot be read in this phase")
        end

        if count > capacity then
            capacity = 2 * count
            elements = elements_type(capacity)
            found = indexes_type(capacity)
        end

        -- Raw names: as the client wrote them.
        if count > 0 and N.ngx_http_lua_ffi_req_get_headers(request, elements, count, 1) ~= 0 then
            error("request headers cannot be read")
        end

        if C.rmtls_engine_forged(engine.handle, ffi_cast(headers_type, elements), count, found,
                                 capacity, found_len) ~= OK
        then
            error("request headers cannot be checked")
        end

        local forged = tonumber(found_len[0])
        if forged == 0 then
            if read then
                inbound.close()
            end

            return
        end

        local names, seen = {}, {}
        for i = 1, forged do
            local element = elements[found[i - 1]]
            local name = ffi_str(element.key.data, element.key.len)
            if not seen[name] then
                seen[name] = true
                names[#names + 1] = name
            end

            if engine:reads(name) then
                read = true
                inbound.keep(name:lower(), ffi_str(element.value.data, element.value.len))
            end
        end

        -- lua-nginx-module looks through all headers for each of them.
        if #names > MAX_FORGED then
            ngx_log(ngx.ERR, "[mtls] 400 over ", MAX_FORGED, " headers that only the gateway may set")

            return ngx.exit(400)
        end

        for i = 1, #names do
            clear_header(names[i])
        end
    end

    -- lua-nginx-module does not find names with characters that no header name has.
    ngx_log(ngx.ERR, "[mtls] 400 a header that only the gateway may set has a name that cannot be removed")

    return ngx.exit(400)
end


return strip
