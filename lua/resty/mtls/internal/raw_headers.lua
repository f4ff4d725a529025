-- The headers of a request with their names as the client wrote them.

local ffi = require "ffi"
-- Declares the functions of lua-nginx-module that this file calls.
require "resty.core.request"
require "resty.mtls.internal.library"


local error = error
local get_count = ffi.C.ngx_http_lua_ffi_req_get_headers_count
local get_headers = ffi.C.ngx_http_lua_ffi_req_get_headers


local truncated = ffi.new("int[1]")
local elements_type = ffi.typeof("ngx_http_lua_ffi_table_elt_t[?]")
local capacity = 64
local elements = elements_type(capacity)

if ffi.sizeof("ngx_http_lua_ffi_table_elt_t") ~= ffi.sizeof("rmtls_request_header") then
    error("resty.mtls: this lua-nginx-module lays out request headers in another way than "
          .. "0.10.23 to 0.10.30 do", 0)
end


-- An array, valid until the next call, and its length. Raises in a phase that has no request headers.
return function(request)
    local count = get_count(request, 0, truncated)
    if count < 0 then
        error("request headers cannot be read in this phase")
    end

    if count > capacity then
        capacity = 2 * count
        elements = elements_type(capacity)
    end

    if count > 0 and get_headers(request, elements, count, 1) ~= 0 then
        error("request headers cannot be read")
    end

    return elements, count
end
