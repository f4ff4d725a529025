-- The consumer that a token, or its absence, gives to a request. token_issuer.check() returns it with the header
-- lines of the claims: an array of names and values with { identity, consumer, slot, number }, where slot and number
-- are those of the token in the token cache.

local library = require "resty.mtls.internal.library"
local CONST = require "resty.mtls.internal.cdef"


local C = library.C
local OK = CONST.OK
local ANONYMOUS = CONST.IDENTITY_ANONYMOUS
local CONSUMER = CONST.IDENTITY_CONSUMER
local error = error
local select = select


local _M = {}


-- The claims of a token whose decision is given.
function _M.claims(lines, result)
    lines.identity = result.identity
    lines.consumer = result.consumer
    lines.slot = result.token
    lines.number = result.generation

    return lines
end


-- The claims of a request without a valid token, which is that of the anonymous consumer.
function _M.anonymous(result)
    return { identity = ANONYMOUS, consumer = result.consumer }
end


-- Whether a request passed as that of the anonymous consumer.
function _M.is_anonymous(claims)
    return claims.identity == ANONYMOUS
end


-- The claims, if their token has a consumer, else nil.
function _M.with_consumer(claims)
    return claims and claims.identity == CONSUMER and claims or nil
end


-- Applies the identity of the token to a decision that lets the request in, and has the acl checked. Returns the
-- outcome; reason is set for a refusal. Where no token was checked, the request must not pass.
function _M.apply(engine, plan, claims, decision, reason)
    if not claims then
        error("no token was checked")
    end

    local status = C.rmtls_engine_apply_token(engine.handle, plan, claims.identity, claims.consumer, decision, reason)
    if status ~= OK then
        error(select(2, library.failure("token identity", status, reason)))
    end

    return decision.decision
end


return _M
