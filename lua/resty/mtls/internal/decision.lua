-- Decides about one request. The engine decides; here it is given what it needs, and waited for what it lacks: the
-- revocation status of the certificate, or what the issuer of the access token has to say.
--
-- The decision is memory of its request (request_state.lua), which the engine fills: requests that run while this one
-- waits have others.

local bit = require "bit"
local ffi = require "ffi"
local engines = require "resty.mtls.internal.engine"
local library = require "resty.mtls.internal.library"
local reload = require "resty.mtls.internal.reload"
local request_headers = require "resty.mtls.internal.request_headers"
local reserved_headers = require "resty.mtls.internal.reserved_headers"
local revocation = require "resty.mtls.internal.revocation"
local token_issuer = require "resty.mtls.internal.token_issuer"
local CONST = require "resty.mtls.internal.cdef"


local C = library.C
local OK = CONST.OK
local PASS = CONST.DECISION_PASS
local PENDING = CONST.DECISION_PENDING
local MISDIRECTED = CONST.DECISION_MISDIRECTED
local TOO_EARLY = CONST.DECISION_TOO_EARLY
local NOT_VERIFIED = CONST.VERDICT_NOT_VERIFIED
local PLAN_HEADER_CERTIFICATE = CONST.PLAN_HEADER_CERTIFICATE
local PLAN_TOKEN = CONST.PLAN_TOKEN
local PLAN_HEADER_CERTIFICATE_OR_TOKEN = bit.bor(PLAN_HEADER_CERTIFICATE, PLAN_TOKEN)
local band = bit.band
local engine_access = C.rmtls_engine_access
local error = error
local ffi_copy = ffi.copy
local ffi_fill = ffi.fill
local ffi_sizeof = ffi.sizeof
local ngx = ngx
local ngx_log = ngx.log
local ngx_time = ngx.time
local ngx_var = ngx.var
local plan_of = engines.plan


local NO_ROUTE = "no route '': $mtls_route is not set in this location, expected 'set $mtls_route NAME;' in it, "
                 .. "with the name of a route of the policy"
local EARLY_DATA = "too early: the proxy passed early data on"
-- How often one request waits for a revocation status under one policy.
local MAX_WAITS = 5


-- The reason of the last refusal, until the next call of the engine.
local reason = library.buffer(4096)


local _M = {}


-- The reason of the refusal that the engine has just decided.
function _M.reason()
    return library.text(reason)
end


-- The number of the plan of a route. Ends the request if the policy has no such route. error() would add a position
-- in this file, which does not help to find the misspelled name in nginx.conf.
function _M.plan(engine, route)
    local plan = plan_of(engine, route)
    if plan then
        return plan
    end

    ngx_log(ngx.ERR, "[mtls] 500 ", route == "" and NO_ROUTE or engine:no_route(route, ngx_time()))

    return ngx.exit(500)
end


-- The proxy in front received the request as 0-RTT data, which can be replayed.
local function too_early(decision)
    ffi_copy(reason.data, EARLY_DATA, #EARLY_DATA)
    reason.len = #EARLY_DATA
    ffi_fill(decision, ffi_sizeof("rmtls_decision"))
    decision.verdict = NOT_VERIFIED
    decision.decision = TOO_EARLY

    return TOO_EARLY
end


-- Fills the decision and returns its outcome.
local function decide_once(engine, plan, ssl, flags, decision)
    -- RFC 8470, section 5.1: any value of Early-Data means 1.
    if band(flags, PLAN_HEADER_CERTIFICATE_OR_TOKEN) ~= 0 and ngx_var.http_early_data then
        return too_early(decision)
    end

    local host = ngx_var.host or ""
    reason.len = 0
    local status
    if band(flags, PLAN_HEADER_CERTIFICATE) ~= 0 then
        local request = request_headers.of_request()
        status = C.rmtls_engine_access_with_headers(engine.handle, ssl, plan, host, #host, request.received.array,
                                                    request.received.count, request.trusted, ngx_time(), decision,
                                                    reason)
    else
        status = engine_access(engine.handle, ssl, plan, host, #host, ngx_time(), decision, reason)
    end

    if status ~= OK then
        error(select(2, library.failure("access", status, reason)))
    end

    return decision.decision
end
_M.decide_once = decide_once


-- Waits for the revocation status of the certificate that a plan sees; an error if this machine cannot ask for it.
local function await_revocation(engine, route, dict, ssl, plan)
    local from_header = band(engine:plan_flags(plan), PLAN_HEADER_CERTIFICATE) ~= 0
    local _, shortage = revocation.resolve(engine, plan, dict, function()
        return engine:plan(route)
    end, function(out)
        if not from_header then
            return C.rmtls_engine_tls_client(engine.handle, ssl, out)
        end

        local request = request_headers.of_request()

        return C.rmtls_engine_unverified_certificate(engine.handle, ssl, plan, request.received.array,
                                                     request.received.count, request.trusted, 0, out)
    end)

    return shortage
end


-- Whether the token of a request is to be checked. The connection of a misdirected request that passes by `enforce:
-- report` has no certificate that a token may be bound to.
local function needs_token(engine, plan, outcome, decision)
    return outcome == PASS and decision.would_refuse ~= MISDIRECTED
           and band(engine:plan_flags(plan), PLAN_TOKEN) ~= 0
end


-- Waits until a pending request can be decided, and checks its token. Decides anew after each wait, under the policy
-- in force then. Returns the plan, the outcome for the certificate, the refusal of the token or of a request that
-- cannot be decided, and the refusal of the token that is only reported. Nothing when another light thread of the
-- request, which has the same state, has decided meanwhile. Yields.
function _M.await(engine, route, dict, ssl, plan, state)
    local decision = state.decision
    local removed_under = C.rmtls_engine_epoch(engine.handle)
    local epoch = removed_under
    local outcome, refusal = decision.decision, nil
    local waits = 0
    repeat
        local is_final = true
        if outcome == PENDING then
            if waits == MAX_WAITS then
                refusal = token_issuer.unavailable("the revocation status is still not known", true)
                break
            end

            waits = waits + 1
            is_final = false
            local shortage = await_revocation(engine, route, dict, ssl, plan)
            -- In a worker that exits, no watch has put another policy in force meanwhile.
            reload.await_policy(engine)
            if state.is_decided == 1 then
                return nil
            end

            plan = _M.plan(engine, route)
            outcome = decide_once(engine, plan, ssl, engine:plan_flags(plan), decision)
            if shortage and outcome == PENDING then
                refusal = token_issuer.unavailable(shortage, true)
                is_final = true
            end

        elseif needs_token(engine, plan, outcome, decision) then
            local is_valid
            is_valid, refusal = token_issuer.check(engine, route, plan, ssl, dict)
            reload.await_policy(engine)
            if state.is_decided == 1 then
                return nil
            end

            plan = _M.plan(engine, route)
            outcome = decide_once(engine, plan, ssl, engine:plan_flags(plan), decision)
            is_final = outcome ~= PENDING and (is_valid or refusal) ~= nil
        end

        local now_in_force = C.rmtls_engine_epoch(engine.handle)
        if now_in_force ~= epoch then
            epoch = now_in_force
            waits = 0
            refusal = nil
            is_final = false
        end
    until is_final

    -- A policy that came into force meanwhile may reserve more headers.
    if epoch ~= removed_under then
        reserved_headers.remove(engine)
    end

    if outcome ~= PASS or band(engine:plan_flags(plan), PLAN_TOKEN) == 0 then
        return plan, outcome, refusal
    end

    if not refusal and decision.would_refuse ~= MISDIRECTED then
        return plan, token_issuer.apply(engine, plan, ssl, decision, reason)
    end

    if refusal and refusal.status >= 500 then
        return plan, outcome, refusal
    end

    local passed = token_issuer.pass_without(engine, plan, ssl, decision, reason)
    if not passed and not refusal then
        error("a misdirected request without a refusal")
    end

    if not passed then
        return plan, outcome, refusal
    end

    return plan, passed, nil, refusal
end


return _M
