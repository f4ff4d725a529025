-- Removes what only the gateway may say.

local ffi = require "ffi"
local base = require "resty.core.base"
local library = require "resty.mtls.internal.library"
local request_headers = require "resty.mtls.internal.request_headers"
local raw_headers = require "resty.mtls.internal.raw_headers"
local STATUS = require "resty.mtls.internal.cdef"


local C = library.C
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
local found_len = ffi.new("size_t[1]")
local indexes_type = ffi.typeof("uint32_t[?]")
local headers_type = ffi.typeof("const rmtls_header *")
local capacity = 64
local found = indexes_type(capacity)


local _M = {}


-- Removes every inbound header that only the gateway may set, in whatever spelling.
function _M.remove(engine)
    local request = get_request()
    local read = false
    -- A second look proves that nothing is left.
    for _ = 1, 2 do
        local elements, count = raw_headers(request)
        if count > capacity then
            capacity = 2 * count
            found = indexes_type(capacity)
        end

        if C.rmtls_engine_forged(engine.handle, ffi_cast(headers_type, elements), count, found,
                                 capacity, found_len) ~= OK
        then
            error("request headers cannot be checked")
        end

        local forged = tonumber(found_len[0])
        if forged == 0 then
            if read then
                request_headers.close()
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
                request_headers.keep(name:lower(), ffi_str(element.value.data, element.value.len))
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


return _M
