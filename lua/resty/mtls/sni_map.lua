-- Server names and their certificate requests, without a policy document.
--
--     local map = sni_map.new()
--     assert(map:add("*.example.com", { trust_stores = { store }, send_ca_names = true }))
--     map:build()
--     map:client_hello()              -- ssl_client_hello_by_lua*, at http{} level
--     map:certificate()               -- ssl_certificate_by_lua*
--     if not map:is_bound(ngx.var.host) then return ngx.exit(421) end    -- access_by_lua*

local ffi = require "ffi"
local library = require "resty.mtls.internal.library"
local connection = require "resty.mtls.internal.connection"
local CONST = require "resty.mtls.internal.cdef"


local C = library.C
local OK = CONST.OK
local NOT_FOUND = CONST.NOT_FOUND
local error = error
local type = type


local OPTIONS = { value = "number", trust_stores = "table", send_ca_names = "boolean", request_certificate = "boolean" }


local number = ffi.new("uint32_t[1]")
local bound = ffi.new("int32_t[1]")


local _M = {}
local mt = { __index = _M }


function _M.new()
    local handle, status = library.handle("rmtls_sni_map", C.rmtls_sni_map_new, C.rmtls_sni_map_free)
    if not handle then
        return library.failure("sni_map.new", status)
    end

    return setmetatable({ handle = handle }, mt)
end


-- name: exact, "*.example.com" (one label) or "*". options: value (a number that get() returns, default 0),
-- request_certificate (default true), trust_stores (those against which the certificate will be verified),
-- send_ca_names (default false). true, or nil and an error.
function _M:add(name, options)
    if type(name) ~= "string" then
        error("name must be a string", 2)
    end

    options = options or {}
    for option, value in pairs(options) do
        if type(value) ~= OPTIONS[option] then
            error("option '" .. tostring(option) .. "' "
                  .. (OPTIONS[option] and "must be a " .. OPTIONS[option] or "is unknown"), 2)
        end
    end

    local stores = options.trust_stores or {}
    local handles = ffi.new("const rmtls_trust_store *[?]", #stores + 1)
    for i = 1, #stores do
        if type(stores[i]) ~= "table" or not stores[i].handle then
            error("trust_stores[" .. i .. "] must be a resty.mtls.trust_store", 2)
        end

        handles[i - 1] = stores[i].handle
    end

    local ok, err = library.try("sni_map.add", function(message)
        return C.rmtls_sni_map_add(self.handle, name, #name, options.value or 0,
                                   options.request_certificate == false and 0 or 1, handles, #stores,
                                   options.send_ca_names and 1 or 0, message)
    end)

    return ok, err
end


-- Completes the map. No name can be added afterwards, and the other methods can be called.
function _M:build()
    if C.rmtls_sni_map_build(self.handle) ~= OK then
        error("the map cannot be built", 2)
    end

    return self
end


-- The value of a server name as it was sent (nil: none was sent), or nil.
function _M:get(name)
    local status = C.rmtls_sni_map_get(self.handle, name, name and #name or 0, number)
    if status == OK then
        return number[0]
    end

    if status == NOT_FOUND then
        return nil
    end

    return library.failure("sni_map.get", status)
end


-- Binds the session of the current handshake to the certificate request of its server name.
function _M:client_hello()
    local name = connection.server_name()
    local ok, err = library.try("sni_map.client_hello", function(message)
        return C.rmtls_sni_map_client_hello(self.handle, connection.ssl(), name,
                                            name and #name or 0, message)
    end)

    return ok, err
end


-- Requests a certificate if the server name has a certificate request: true, false, or nil and an error.
function _M.certificate()
    local ok, err, status = library.try("sni_map.certificate", function(message)
        return C.rmtls_sni_map_request_certificate(connection.ssl(), message)
    end)
    if status == NOT_FOUND then
        return false
    end

    return ok, err
end


-- Whether the session of this request was made under the certificate request of a name (the request's Host).
-- If it was not, the request must be answered with 421.
function _M:is_bound(name)
    local status = C.rmtls_sni_map_check_binding(self.handle, connection.ssl(), name, name and #name or 0,
                                                 bound)

    return status == OK and bound[0] == 1
end


return _M
