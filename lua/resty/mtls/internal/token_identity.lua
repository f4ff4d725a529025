-- The consumer that a token, or its absence, gives to a request. It is kept with the request, in its field token: {
-- identity, consumer, slot, generation }, where slot and generation are those of the token in the token cache, and
-- generation is 0 for a request without a valid token, which is that of the anonymous consumer.

local library = require "resty.mtls.internal.library"
local CONST = require "resty.mtls.internal.cdef"


local C = library.C
local OK = CONST.OK
local NOT_FOUND = CONST.NOT_FOUND
local NO_IDENTITY = CONST.IDENTITY_NONE
local error = error
local ngx_time = ngx.time
local select = select


local _M = {}


-- Keeps the decision about the token with its request, because other requests use `result` before it is applied.
-- Returns true.
function _M.accept(request, result)
    local token = request.token
    if not token then
        token = {}
        request.token = token
    end

    token.identity = result.identity
    token.consumer = result.consumer
    token.slot = result.token
    token.generation = result.generation

    return true
end


-- Keeps with a request that it has no valid token.
function _M.reject(request)
    local token = request.token
    if not token then
        token = {}
        request.token = token
    end

    token.identity = NO_IDENTITY
    token.consumer = 0
    token.slot = 0
    token.generation = 0
end


-- Whether a request passed without a valid token.
function _M.is_without(request)
    return request.token.generation == 0
end


-- Applies the identity of the token to a decision that lets the request in, and has the acl checked. Returns the
-- outcome; reason is set for a refusal. Where no token was checked, the request must not pass.
function _M.apply(engine, plan, ssl, request, decision, reason)
    local token = request.token
    if not token then
        error("no token was checked")
    end

    local status = C.rmtls_engine_apply_token(engine.handle, ssl, plan, token.identity, token.consumer, ngx_time(),
                                              decision, reason)
    if status ~= OK then
        error(select(2, library.failure("token identity", status, reason)))
    end

    return decision.decision
end


-- The same for a request without a valid token, where openid-connect has `enforce: report`. Returns nil where the
-- request must be refused.
function _M.pass_without(engine, plan, ssl, request, decision, reason)
    _M.reject(request)
    local status = C.rmtls_engine_pass_without_token(engine.handle, ssl, plan, ngx_time(), decision, reason)
    if status == NOT_FOUND then
        return nil
    end

    if status ~= OK then
        error(select(2, library.failure("token identity", status, reason)))
    end

    return decision.decision
end


return _M
