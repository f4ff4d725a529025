-- The TLS connection of the current request or handshake.

local ffi = require "ffi"
local base = require "resty.core.base"
local ngx_ssl = require "ngx.ssl"
local clienthello = require "ngx.ssl.clienthello"


local C = ffi.C
local get_request = base.get_request


local _M = {}


if ngx_ssl.get_req_ssl_pointer then
    -- SSL*, or nil when the connection is not TLS.
    function _M.ssl()
        return (ngx_ssl.get_req_ssl_pointer())
    end

else
    -- The nginx module has this since 0.10.23, but lua-resty-core offers it only since 0.1.29.
    ffi.cdef [[
    void *ngx_http_lua_ffi_get_req_ssl_pointer(void *r, const char **err);
    ]]

    local found, get_pointer = pcall(function()
        return C.ngx_http_lua_ffi_get_req_ssl_pointer
    end)
    if not found then
        error("resty.mtls: lua-nginx-module 0.10.23 or newer is required, found "
              .. tostring(ngx.config.ngx_lua_version), 0)
    end

    local err = ffi.new("const char *[1]")

    function _M.ssl()
        local ssl = get_pointer(get_request(), err)
        if ssl == nil then
            return nil
        end

        return ssl
    end
end


-- The server name of the ClientHello as it was sent; nil when there is none or it cannot be read.
function _M.server_name()
    return (clienthello.get_client_hello_server_name())
end


return _M
