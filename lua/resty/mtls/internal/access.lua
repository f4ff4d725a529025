-- access() and decide(): removes reserved headers from the request, decides about it, and then either sets the upstream
-- headers or refuses it. A request that was decided already, in an earlier phase, is not decided again.
--
-- On the path of a known client there is no closure, no table and no loop that LuaJIT does not compile.

local bit = require "bit"
local ffi = require "ffi"
local library = require "resty.mtls.internal.library"
local engines = require "resty.mtls.internal.engine"
local client_of = require("resty.mtls.internal.client").of_request
local connection = require "resty.mtls.internal.connection"
local decisions = require "resty.mtls.internal.decision"
local metrics = require "resty.mtls.internal.metrics"
local records = require "resty.mtls.internal.records"
local refusals = require "resty.mtls.internal.refusal"
local request_headers = require "resty.mtls.internal.request_headers"
local request_state = require "resty.mtls.internal.request_state"
local reserved_headers = require "resty.mtls.internal.reserved_headers"
local upstream_headers = require "resty.mtls.internal.upstream_headers"
local variables = require "resty.mtls.internal.variables"
local CONST = require "resty.mtls.internal.cdef"


local C = library.C
local OK = CONST.OK
local PASS = CONST.DECISION_PASS
local PENDING = CONST.DECISION_PENDING
local UNAVAILABLE = CONST.DECISION_UNAVAILABLE
local MISDIRECTED = CONST.DECISION_MISDIRECTED
local ANONYMOUS = CONST.IDENTITY_ANONYMOUS
local NOT_VERIFIED = CONST.VERDICT_NOT_VERIFIED
local PLAN_TOKEN = CONST.PLAN_TOKEN
local PLAN_PASSES_PREFLIGHT = CONST.PLAN_PASSES_PREFLIGHT
local band = bit.band
local error = error
local is_internal = ngx.req.is_internal
local ngx = ngx
local ngx_time = ngx.time
local ngx_var = ngx.var
local ssl_pointer = connection.ssl
local tonumber = tonumber
-- Functions of other modules that each request needs. LuaJIT takes a local that is a function for a constant, and one
-- that is a table for a variable, which compiled code loads, checks and searches each time.
local are_read = reserved_headers.are_read
local count_decision = metrics.count_decision
local decide_once = decisions.decide_once
local emit = upstream_headers.emit
local ensure_state = request_state.ensure
local is_decided = request_state.is_decided
local plan_flags = engines.plan_flags
local plan_of = decisions.plan
local record_of = records.of_decision
local remove_outdated = upstream_headers.remove_outdated
local remove_reserved = reserved_headers.remove
local set_decided = request_state.set_decided
local set_variables = variables.set


local NO_CONSUMER = CONST.VERDICT_NO_CONSUMER
-- Outcomes that run_on_preflight: false does not change: they are no result of the authentication.
local NOT_OF_AUTHENTICATION = {
    [MISDIRECTED] = true,
    [CONST.DECISION_TOO_EARLY] = true,
    [UNAVAILABLE] = true,
}


local changes = ffi.new("uint64_t[1]")


local _M = {}


-- The route of a call. Without a name that of the earlier one in the same location, unless the URI has changed since,
-- as by an internal redirect: the location may choose its route by the URI, and have none for this one.
local function route_of(state, route)
    if route or not is_decided(state) then
        return route
    end

    local earlier = request_state.route(state)
    if earlier == "" or is_internal() and ngx.ctx.resty_mtls_uri ~= ngx_var.uri then
        return nil
    end

    return earlier
end


-- Whether an earlier call has decided about this request for the route; then also whether it was allowed and nothing
-- has changed since on which that depends.
local function earlier_decision(engine, state, route)
    if not is_decided(state) or request_state.route(state) ~= (route or "") then
        return false, false
    end

    return true, state.is_allowed == 1 and C.rmtls_engine_changes(engine.handle, changes) == OK
                 and state.decision.changes == changes[0]
end


-- Removes reserved headers, and the upstream headers of an earlier policy: these first, because the policy in force may
-- read a header of that name as the client's.
local function remove_headers(engine, state)
    if state.record ~= 0 then
        local record = request_state.record(state)
        if record and record.epoch ~= C.rmtls_engine_epoch(engine.handle) then
            remove_outdated()
        end
    end

    remove_reserved(engine)
end


-- Remembers the decision for the later phases of the request.
local function publish(engine, state, route, plan, decision, refusal)
    local number = 0
    if decision.record_generation ~= 0 then
        local record = record_of(engine, plan, decision)
        number = record.number
        if decision.reports_expiry == 1 then
            metrics.observe_expiry(record.identity.consumer, tonumber(decision.not_after) - ngx_time())
        end
    end

    set_decided(state, number, route or "", not refusal and number ~= 0)
    if refusal then
        state.status = refusal.status
    end
end


-- Whether the request is a CORS preflight (Fetch, section 3.2.2).
local function is_preflight()
    return ngx.req.get_method() == "OPTIONS" and ngx_var.http_origin ~= nil
           and ngx_var.http_access_control_request_method ~= nil
end


-- Passes a preflight without an identity: no header is set, and client() has nothing. reported: the refusal with which
-- it passes, that of a misdirected request.
local function pass_preflight(engine, state, route, was_preflight, reported)
    if are_read(engine) then
        request_headers.seal(true)
    end

    set_decided(state, 0, route or "", false)
    state.is_preflight = 1
    set_variables(engine, route, reported and "would_refuse" or "pass", reported and reported.reason or "",
                  NOT_VERIFIED, client_of)
    -- A second call decides anew, but counts nothing.
    if not was_preflight then
        if reported then
            refusals.log_reported(reported)
            metrics.count_would_refuse(route or "", reported.status)
        end

        count_decision(route or "", 0, NOT_VERIFIED, false)
    end

    return nil, reported
end


-- Sets the variables and counts a decision, unless an earlier one for this route with the same outcome is counted. The
-- variables of a refused request keep their values in its error page, which may be behind an internal redirect to a
-- location that decides, too.
local function report(engine, route, decision, refusal, reported, is_counted, internal)
    if internal and request_headers.was_refused() then
        return
    end

    if reported then
        refusals.log_reported(reported)
        if not is_counted then
            metrics.count_would_refuse(route or "", reported.status)
        end

        set_variables(engine, route, "would_refuse", reported.reason, decision.verdict, client_of)
    else
        set_variables(engine, route, refusal and refusal.decision or "pass", refusal and refusal.reason or "",
                      decision.verdict, client_of)
    end

    if not is_counted then
        count_decision(route or "", refusal and refusal.status or 0, decision.verdict,
                       decision.identity == ANONYMOUS or reported ~= nil and reported.status ~= 421)
    end
end


-- Decides about the request, and sets the upstream headers, or appends them to a list. Returns the refusal, if any, and
-- the one of a plugin with `enforce: report`, with which the request passes.
local function decide(engine, route, dict, state, list)
    local decision = state.decision
    local is_again, still_holds = earlier_decision(engine, state, route)
    local was_allowed = is_again and state.is_allowed == 1
    local earlier_status = is_again and state.status
    local was_preflight = is_again and state.is_preflight == 1
    local is_new = not still_holds or not list and state.lacks_headers == 0
    -- Nothing is decided while this waits, nor after an error.
    state.is_decided = 0
    local internal = is_internal()
    -- For route_of(). Another internal redirect loses it.
    if internal and route then
        ngx.ctx.resty_mtls_uri = ngx_var.uri
    end

    remove_headers(engine, state)
    local plan = plan_of(engine, route)
    local ssl = ssl_pointer()
    local flags = plan_flags(engine, plan)
    local outcome = decide_once(engine, plan, ssl, flags, decision)
    if band(flags, PLAN_PASSES_PREFLIGHT) ~= 0 and not NOT_OF_AUTHENTICATION[outcome] and is_preflight() then
        local reported
        if decision.would_refuse == MISDIRECTED then
            reported = refusals.new(MISDIRECTED, NOT_VERIFIED, decisions.reason())
        end

        -- For the result of _M.decide(): a preflight has no verdict.
        decision.verdict = NOT_VERIFIED

        return pass_preflight(engine, state, route, was_preflight, reported)
    end

    local refusal, reported
    if outcome == PENDING or band(flags, PLAN_TOKEN) ~= 0 then
        plan, outcome, refusal, reported = decisions.await(engine, route, dict, ssl, plan, state)
        if not plan then
            return decide(engine, route, dict, state, list)
        end
    end

    -- A refusal of the certificate precedes one of the token.
    if outcome ~= PASS and outcome ~= PENDING then
        refusal = refusals.new(outcome, decision.verdict, decisions.reason())
    elseif outcome == PENDING and not refusal then
        error("no outcome")
    end

    if refusal then
        reported = nil
    else
        -- RFC 9449, section 8.2: a nonce may come with any response. Without it no proof would ever have one.
        if reported and reported.nonce and not list then
            ngx.header["DPoP-Nonce"] = reported.nonce
        end

        -- The refusal of the certificate comes first here, too.
        if decision.would_refuse ~= PASS then
            reported = refusals.new(decision.would_refuse, decision.would_refuse_verdict, decisions.reason())
        end

        emit(engine, plan, ssl, decision, list)
    end

    publish(engine, state, route, plan, decision, refusal)
    state.lacks_headers = list and 1 or 0
    if is_new then
        local is_counted = refusal and earlier_status == refusal.status or not refusal and was_allowed
        report(engine, route, decision, refusal, reported, is_counted, internal)
    end

    return refusal, reported
end


-- The refusal of a request about which nothing can be decided yet.
local function unavailable(engine, state, route, why)
    local is_counted = earlier_decision(engine, state, route) and state.status == 503
    remove_headers(engine, state)
    local refusal = refusals.new(UNAVAILABLE, NOT_VERIFIED, why)
    set_decided(state, 0, route or "", false)
    state.status = refusal.status
    set_variables(engine, route, refusal.decision, refusal.reason, NOT_VERIFIED, client_of)
    if not is_counted then
        count_decision(route or "", refusal.status, NOT_VERIFIED, false)
    end

    return refusal
end


-- Decides about the request, and ends it when it is refused. why: nothing can be decided yet, and the reason.
function _M.run(engine, route, dict, why)
    local state = ensure_state()
    route = route_of(state, route)
    local refusal
    if why then
        refusal = unavailable(engine, state, route, why)
    else
        local _, still_holds = earlier_decision(engine, state, route)
        -- decide() sets no upstream headers, and strip() has removed them after a redirect to the same location.
        if still_holds and state.lacks_headers == 0 then
            return
        end

        refusal = decide(engine, route, dict, state)
    end

    if refusal then
        refusals.log(refusal)

        return refusals.send(engine, refusal)
    end
end


-- The text of the verdict of a decision, or nil where none was reached.
local function verdict_text(decision)
    local verdict = decision.verdict
    if verdict == NOT_VERIFIED then
        return nil
    end

    -- A client with a consumer is always in the client cache.
    return library.verdict_text(verdict == 0 and decision.generation == 0 and NO_CONSUMER or verdict)
end


-- As run(), but ends nothing, sets no upstream header and returns what is to be done.
function _M.decide(engine, route, dict, why)
    local headers = {}
    local result = { allowed = false, decision = "pass" }
    local state = ensure_state()
    route = route_of(state, route)
    local refusal, reported
    if why then
        refusal = unavailable(engine, state, route, why)
    else
        refusal, reported = decide(engine, route, dict, state, headers)
        local record = request_state.record(state)
        result.verdict = verdict_text(state.decision)
        result.consumer = record and record.identity and record.identity.consumer or nil
    end

    if refusal then
        refusals.log(refusal)
        result.status, result.body = refusal.status, refusal.body
        result.decision, result.reason = refusal.decision, refusal.reason
        headers = refusals.response_headers(engine, refusal)
    elseif reported then
        result.decision, result.reason = "would_refuse", reported.reason
    end

    result.allowed = refusal == nil
    result.headers = headers

    return result
end


return _M
