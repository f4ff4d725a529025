-- DPoP proofs (RFC 9449): what the engine compares them with, and which of them were used. A proof counts once
-- on this node, so uses are stored in the shared dictionary until the proof would be refused anyway.

local ffi = require "ffi"
local library = require "resty.mtls.internal.library"
local CONST = require "resty.mtls.internal.cdef"


local C = library.C
local OK = CONST.OK
local concat = table.concat
local ffi_str = ffi.string
local ngx = ngx
local ngx_time = ngx.time
local ngx_var = ngx.var
local tonumber = tonumber


-- Expired entries that are removed to make room for one.
local MAX_FLUSHED = 100
-- What the cached times of two workers may differ by, in seconds.
local CLOCK_TOLERANCE = 1
local PREFIX = "dpop:"
local DEFAULT_PORTS = { http = "80", https = "443" }


local _M = {
    -- For challenges: what proofs may be signed with.
    ALGORITHMS = concat({ "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512", "EdDSA",
                          "Ed25519", "Ed448" }, " "),
}

local fields = ffi.new("rmtls_dpop_request")
local nonce_key = ffi.new("uint8_t[32]")
local has_nonce_key = false


local warned = false


-- The dictionary of uses: NAME_dpop where there is one. In the other one, clients that send many proofs take the room
-- of other values, and when it is full, the evidence of a revocation may evict a proof that was used.
local function dict_of(name)
    local own = ngx.shared[name .. "_dpop"]
    if not own and not warned then
        warned = true
        ngx.log(ngx.WARN, "[mtls] no lua_shared_dict ", name, "_dpop: when lua_shared_dict ", name,
                " is full, a DPoP proof may count twice")
    end

    return own or ngx.shared[name]
end


-- The key of nonces: the workers share one.
local function get_nonce_key(dict)
    if has_nonce_key then
        return nonce_key
    end

    local shared = dict_of(dict)
    local key = shared and shared:get(PREFIX .. "nonce_key")
    if not key and C.rmtls_dpop_new_nonce_key(nonce_key) == OK then
        key = ffi_str(nonce_key, 32)
        if shared and not shared:safe_add(PREFIX .. "nonce_key", key) then
            -- Another worker was faster, or the dictionary is full; then the nonces are those of one worker.
            key = shared:get(PREFIX .. "nonce_key") or key
        end
    end

    if not key then
        error("no random bytes for nonces")
    end

    ffi.copy(nonce_key, key, 32)
    has_nonce_key = true

    return nonce_key
end


-- The URI to which the client sent this request. A trusted proxy that ends TLS sends the scheme in
-- X-Forwarded-Proto; the host is that of the Host header, which the proxy must not change.
local function request_uri(request)
    local scheme = ngx_var.scheme
    local forwarded = request.trusted == 1 and ngx_var.http_x_forwarded_proto
    if forwarded == "https" or forwarded == "http" then
        scheme = forwarded
    end

    local sent = ngx_var.http_host
    -- nginx has no Host header of HTTP/3.
    local port = sent and sent:match(":(%d+)$") or not sent and ngx_var.server_port or nil
    if port == DEFAULT_PORTS[scheme] then
        port = nil
    end

    return scheme .. "://" .. ngx_var.host .. (port and ":" .. port or "") .. ngx_var.request_uri:match("^[^?]*")
end


-- The argument for rmtls_engine_check_token, valid until the next call.
function _M.request(request, dict)
    local method, uri = ngx.req.get_method(), request_uri(request)
    -- The struct holds bare pointers, which the garbage collector does not see.
    request.dpop_strings = { method, uri }
    fields.proofs = request.proofs.array
    fields.proofs_len = request.proofs.count
    fields.method = ffi.cast("const uint8_t *", method)
    fields.method_len = #method
    fields.uri = ffi.cast("const uint8_t *", uri)
    fields.uri_len = #uri
    fields.nonce_key = get_nonce_key(dict)

    return fields
end


-- A nonce for a challenge, or nil.
function _M.nonce(engine, plan, dict)
    return (library.read("nonce", function(out)
        return C.rmtls_engine_dpop_nonce(engine.handle, plan, get_nonce_key(dict), ngx_time(), out)
    end))
end


-- Whether the proof of an accepted request was used for another request before. If not, its use is stored. nil
-- and an error when it cannot be stored.
function _M.is_used(request, result, dict)
    local expires = tonumber(result.proof_expires)
    if expires == 0 then
        return false
    end

    local id = ffi_str(result.proof_id, 32)
    -- The request is checked again after an internal redirect, or under another policy.
    if request.used_proof == id then
        return false
    end

    local shared = dict_of(dict)
    if not shared then
        return nil, "no lua_shared_dict " .. dict .. " for the DPoP proofs that were used"
    end

    local ttl = expires - ngx_time() + CLOCK_TOLERANCE
    local ok, err = shared:safe_add(PREFIX .. id, true, ttl)
    if not ok and err ~= "exists" then
        shared:flush_expired(MAX_FLUSHED)
        ok, err = shared:safe_add(PREFIX .. id, true, ttl)
    end

    if ok then
        request.used_proof = id
        return false
    end

    if err == "exists" then
        return true
    end

    return nil, "no room in the shared dictionary for another DPoP proof: " .. err
end


return _M
