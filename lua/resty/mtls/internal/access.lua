-- The access phase: removes reserved headers from the request, has the engine decide about it, and
-- sets the upstream headers or refuses it. The first request of a client makes the Lua strings of its
-- header lines; later ones find them by the client's number.

local ffi = require "ffi"
local library = require "resty.mtls.internal.library"
local decision_cache = require "resty.mtls.internal.decision_cache"
local client_of = require("resty.mtls.internal.client").of_request
local upstream_headers = require "resty.mtls.internal.upstream_headers"
local connection = require "resty.mtls.internal.connection"
local graceful_close = require "resty.mtls.internal.graceful_close"
local request_headers = require "resty.mtls.internal.request_headers"
local metrics = require "resty.mtls.internal.metrics"
local token_issuer = require "resty.mtls.internal.token_issuer"
local token_identity = require "resty.mtls.internal.token_identity"
local revocation = require "resty.mtls.internal.revocation"
local reserved_headers = require "resty.mtls.internal.reserved_headers"
local variables = require "resty.mtls.internal.variables"
local CONST = require "resty.mtls.internal.cdef"


local C = library.C
local OK = CONST.OK
local NOT_FOUND = CONST.NOT_FOUND
local PASS = CONST.DECISION_PASS
local PENDING = CONST.DECISION_PENDING
local ANONYMOUS = CONST.IDENTITY_ANONYMOUS
local CONSUMER = CONST.IDENTITY_CONSUMER
local NOT_VERIFIED = CONST.VERDICT_NOT_VERIFIED
local PLAN_VARY = CONST.PLAN_VARY
local PLAN_PRIVATE = CONST.PLAN_PRIVATE
local PLAN_XFCC = CONST.PLAN_XFCC
local PLAN_HEADER_CERTIFICATE = CONST.PLAN_HEADER_CERTIFICATE
local PLAN_TOKEN = CONST.PLAN_TOKEN
local PLAN_PASSES_PREFLIGHT = CONST.PLAN_PASSES_PREFLIGHT
local FORWARDS_YES = CONST.FORWARDS_YES
local FORWARDS_FIRST = CONST.FORWARDS_FIRST
local PLAN_HEADER_CERTIFICATE_OR_TOKEN = bit.bor(PLAN_HEADER_CERTIFICATE, PLAN_TOKEN)
local TOO_EARLY = CONST.DECISION_TOO_EARLY
local TOO_SMALL = CONST.TOO_SMALL
local X509_V_OK = library.X509_V_OK
local band = bit.band
local error = error
local ffi_copy = ffi.copy
local ffi_fill = ffi.fill
local ffi_sizeof = ffi.sizeof
local ngx = ngx
local ngx_log = ngx.log
local ngx_time = ngx.time
local ngx_var = ngx.var
local set_header = ngx.req.set_header
local ssl_pointer = connection.ssl
local tonumber = tonumber


local JSON = "application/json; charset=utf-8"
local NO_ROUTE = "no route '': $mtls_route is not set in this location, expected 'set $mtls_route NAME;' in it, "
                 .. "with the name of a route of the policy"
-- The values of $mtls_decision.
local DECISION_NAMES = {
    [PASS] = "pass",
    [CONST.DECISION_NO_CERTIFICATE] = "no_certificate",
    [CONST.DECISION_REFUSED] = "refused",
    [CONST.DECISION_MISDIRECTED] = "misdirected",
    [CONST.DECISION_FORBIDDEN] = "forbidden",
    [TOO_EARLY] = "too_early",
    [CONST.DECISION_UNAVAILABLE] = "unavailable",
}
-- Of a request that was not decided
local NO_VERDICT = -1
local REFUSALS = {
    [CONST.DECISION_NO_CERTIFICATE] = { 401, '{"message":"No required TLS certificate was sent"}' },
    [CONST.DECISION_REFUSED] = { 401, '{"message":"TLS certificate failed verification"}' },
    [CONST.DECISION_MISDIRECTED] = { 421, '{"message":"Misdirected Request"}' },
    [CONST.DECISION_FORBIDDEN] = { 403, '{"message":"You cannot consume this service"}' },
    [TOO_EARLY] = { 425, '{"message":"Too Early"}' },
    [CONST.DECISION_UNAVAILABLE] = { 503, '{"message":"Service Unavailable"}' },
}


-- How often one request is decided: again after a revocation status was fetched, and again when another
-- policy came into force meanwhile.
local MAX_DECISIONS = 5


local decision = ffi.new("rmtls_decision")
local reason = library.buffer(4096)
local now = 0


-- A decision record, as decision_cache keeps it: { fields of the decision that it was made for, epoch,
-- plan, number, is_client, has_token_consumer, lines, client_identity, view, context }. lines are the header lines,
-- client_identity is { consumer, groups }, view is what client() returns, and context what the later
-- phases read from ngx.ctx.
--
-- Its key consists of the plan and a slot: that of the client in the client cache; for a certificate that is
-- not trusted, one for its connection; else one for the verdict, because the lines then depend on nothing
-- else. Where the token of the request has a consumer, it is the slot of the token. number is the generation of
-- the client or of the token, or the number of the connection: if it differs, the record is of what had the slot
-- before. For a verdict it is 0.
local SLOTS_PER_PLAN = decision_cache.SLOTS_PER_PLAN
local CONNECTION_SLOTS = decision_cache.CONNECTION_SLOTS
local VERDICT_SLOTS = decision_cache.VERDICT_SLOTS
local TOKEN_CONSUMER_SLOTS = decision_cache.TOKEN_CONSUMER_SLOTS
-- How many connections with untrusted certificates have a record at a time; a newer connection replaces an older one.
local MAX_CONNECTIONS = 64
-- A time that is never reached: the lines do not expire, or nothing is to be observed.
local NEVER = 2 ^ 53


local _M = {}


local function count_left_out(why)
    metrics.count("headers_left_out_total", why)
end


local function read_lines(engine, plan, ssl)
    local lines, status = upstream_headers.of_request(
        C.rmtls_engine_header_lines(engine.handle, ssl, plan, decision, now, upstream_headers.out), count_left_out)
    if not lines then
        error(select(2, library.failure("header lines", status)))
    end

    return lines
end


local is_outdated = ffi.new("int32_t[1]")


-- Sends a refusal. If the certificate request of the connection's server name has changed since the client
-- connected, a new handshake may change a 401 or 421, and the connection ends with it.
local function send_refusal(engine, ssl, status, body, challenge)
    local send_headers
    if (status == 401 or status == 421) and ssl ~= nil
        and C.rmtls_engine_is_outdated(engine.handle, ssl, is_outdated) == OK and is_outdated[0] == 1
    then
        send_headers = graceful_close.begin()
    end

    ngx.status = status
    ngx.header["Content-Type"] = JSON
    ngx.header["Content-Length"] = #body
    ngx.header["WWW-Authenticate"] = challenge
    if send_headers then
        send_headers()
    end

    ngx.print(body)

    return ngx.exit(status)
end


local function refuse(engine, ssl, outcome, why)
    local status, body = REFUSALS[outcome][1], REFUSALS[outcome][2]

    ngx_log(ngx.ERR, "[mtls] ", status, " ", why or library.text(reason))

    return send_refusal(engine, ssl, status, body)
end


local text = library.buffer(1024)


-- The string that copy(...) has put into the buffer, whose status is given; nil if there is none. Where
-- the buffer was too small, copy(...) runs again with a larger one.
local function read_text(status, copy, ...)
    if status == TOO_SMALL then
        text = library.buffer(tonumber(text.len))
        status = copy(...)
    end

    return status == OK and library.text(text) or nil
end


local function copy_group(engine, plan, index)
    return C.rmtls_engine_group(engine.handle, plan, decision, index, text)
end


local function copy_consumer_field(engine, number)
    return C.rmtls_engine_consumer(engine.handle, decision.consumer, number, text)
end


local function consumer_field(engine, number)
    return read_text(copy_consumer_field(engine, number), copy_consumer_field, engine, number)
end


-- The consumer and groups of the last decision.
local function identity_of(engine, plan)
    local groups = {}
    local group = read_text(copy_group(engine, plan, 0), copy_group, engine, plan, 0)
    while group do
        groups[#groups + 1] = group
        group = read_text(copy_group(engine, plan, #groups), copy_group, engine, plan, #groups)
    end

    return {
        groups = groups,
        consumer = decision.identity == CONSUMER and {
            id = consumer_field(engine, CONST.CONSUMER_ID),
            username = consumer_field(engine, CONST.CONSUMER_USERNAME),
            custom_id = consumer_field(engine, CONST.CONSUMER_CUSTOM_ID),
        } or nil,
    }
end


-- The proxy in front received the request as 0-RTT data, which can be replayed.
local function too_early()
    local why = "too early: the proxy passed early data on"
    ffi_copy(reason.data, why, #why)
    reason.len = #why
    ffi_fill(decision, ffi_sizeof(decision))
    decision.verdict = NOT_VERIFIED
    decision.decision = TOO_EARLY

    return TOO_EARLY
end


local function decide(engine, plan, ssl, flags)
    flags = flags or engine:plan_flags(plan)
    -- RFC 8470, section 5.1: any value of Early-Data means 1.
    if band(flags, PLAN_HEADER_CERTIFICATE_OR_TOKEN) ~= 0 and ngx_var.http_early_data then
        return too_early()
    end

    local host = ngx_var.host or ""
    now = ngx_time()
    reason.len = 0
    local status
    if band(flags, PLAN_HEADER_CERTIFICATE) ~= 0 then
        local request = request_headers.of_request()
        status = C.rmtls_engine_access_with_headers(engine.handle, ssl, plan, host, #host, request.received.array,
                                                    request.received.count, request.trusted, now, decision, reason)
    else
        status = C.rmtls_engine_access(engine.handle, ssl, plan, host, #host, now, decision, reason)
    end

    if status ~= OK then
        error(select(2, library.failure("access", status, reason)))
    end

    return decision.decision
end


local not_after = ffi.new("int64_t[1]")


-- Counts in the metrics for how long the certificate of the last decision is still valid.
local function observe_expiry(engine, record)
    record.next_expiry_check = now + metrics.EXPIRY_INTERVAL
    if C.rmtls_engine_not_after(engine.handle, decision, not_after) == OK then
        metrics.observe_expiry(record.client_identity.consumer, tonumber(not_after[0]) - now)
    end
end


-- A new record for the last decision.
local function new_record(engine, key, number, plan, has_token_consumer)
    local record = {
        number = number,
        epoch = engine.epoch,
        plan = plan,
        is_client = decision.generation ~= 0,
        client = decision.client,
        generation = decision.generation,
        connection = decision.connection,
        has_token_consumer = has_token_consumer,
        identity = decision.identity,
        verdict = decision.verdict,
        consumer = decision.consumer,
        credential = decision.credential,
        server_certificate = decision.server_certificate,
        from_header = decision.from_header,
        -- When the lines were made. They are not used when the clock was set back since, as lines may
        -- contain a number of days.
        created = 0,
        expires = NEVER,
        next_expiry_check = NEVER,
        lines = false,
        client_identity = false,
        view = false,
        context = false,
    }
    decision_cache.put(key, record)
    if record.is_client or has_token_consumer then
        record.client_identity = identity_of(engine, plan)
        decision_cache.add(record, 400 + decision_cache.size_of(record.client_identity.groups))
    end

    return record
end


-- Adds to a record the header lines of the last decision.
local function add_lines(engine, record, plan, ssl)
    -- Lines that do not depend on the certificate are shared by all clients that are not in the client cache.
    local shared
    if not record.is_client and record.connection ~= 0 and not record.has_token_consumer then
        local key = plan * SLOTS_PER_PLAN + VERDICT_SLOTS + decision.verdict
        shared = decision_cache.get(key)
        if not shared or shared.server_certificate ~= decision.server_certificate
            or shared.identity ~= decision.identity or shared.consumer ~= decision.consumer
            or shared.from_header ~= decision.from_header
        then
            shared = new_record(engine, key, 0, plan, false)
        end

        if shared.lines and now < shared.expires and now >= shared.created then
            record.lines = shared.lines
            record.created = shared.created
            record.expires = shared.expires

            return
        end
    end

    local lines = read_lines(engine, plan, ssl)
    record.lines = lines
    record.created = now
    local expires = lines.expires or NEVER
    record.expires = expires
    if expires == 0 and record.connection ~= 0 then
        -- Lines that describe this certificate. The record belongs to its connection.
        record.expires = NEVER
    end

    if record.is_client then
        record.next_expiry_check = 0
    end

    local size = decision_cache.size_of(lines) + (lines.forwarding and decision_cache.size_of(lines.forwarding) or 0)
    decision_cache.add(record, size + (lines.xfcc and #lines.xfcc or 0))
    if shared and expires ~= 0 then
        shared.lines = lines
        shared.created = now
        shared.expires = record.expires
    end
end


-- The table that the later phases of this request read from ngx.ctx. One table serves all requests of a
-- client for a route, because each new key in ngx.ctx costs a request a quarter of a microsecond. A record
-- keeps the last one only, so that its size does not grow with the routes that share a plan.
local function context_of(record, route)
    local context = { record = record, route = route }
    record.context = context

    return context
end


-- The engine's plans when the records were made. After a reload, plan numbers have other meanings.
local plans


-- Publishes the last decision to the later phases and returns its record, with header lines if the
-- request is allowed. token: the claims of a token with a consumer, or nil.
local function publish_decision(engine, plan, ssl, route, token)
    if plans ~= engine.plans then
        plans = engine.plans
        decision_cache.clear()
    end

    -- The plan is part of the key because requests of one HTTP/2 connection may go to different routes.
    local key = plan * SLOTS_PER_PLAN
    local number = decision.generation
    if token then
        key = key + TOKEN_CONSUMER_SLOTS + token.slot
        number = token.number
    elseif number ~= 0 then
        key = key + decision.client
    else
        number = decision.connection
        if number ~= 0 then
            key = key + CONNECTION_SLOTS + number % MAX_CONNECTIONS
        else
            key = key + VERDICT_SLOTS + decision.verdict
        end
    end

    local record = decision_cache.get(key)
    -- With another chain, the same certificate may map to another consumer.
    if not record or record.number ~= number or record.verdict ~= decision.verdict
        or record.identity ~= decision.identity or record.consumer ~= decision.consumer
        or record.credential ~= decision.credential or record.server_certificate ~= decision.server_certificate
        or record.from_header ~= decision.from_header or record.client ~= decision.client
        or record.generation ~= decision.generation or record.connection ~= decision.connection
    then
        record = new_record(engine, key, number, plan, token ~= nil)
    end

    local context = record.context
    if not context or context.route ~= route then
        context = context_of(record, route)
    end

    ngx.ctx.resty_mtls = context
    if decision.decision == PASS then
        if not record.lines or record.expires <= now or record.created > now then
            add_lines(engine, record, plan, ssl)
        end

        if record.next_expiry_check <= now and decision.verdict == X509_V_OK then
            observe_expiry(engine, record)
        end
    end

    return record
end


local xfcc_kind = ffi.new("int32_t[1]")
local xfcc_name = library.buffer(256)
local xfcc_value = library.buffer(131072)


-- Sets the XFCC header on a route that forwards, or appends to, the one that the request had.
local function forward_xfcc(engine, plan, lines)
    local gateway_value = lines.xfcc
    local received = request_headers.array_of(request_headers.received_pairs())
    local status = C.rmtls_engine_xfcc(engine.handle, plan, decision, received.array, received.count, gateway_value,
                                       gateway_value and #gateway_value or 0, xfcc_kind, xfcc_name, xfcc_value)
    if status == NOT_FOUND then
        return
    end

    if status ~= OK then
        error(select(2, library.failure("xfcc", status, xfcc_value)))
    end

    local name, value = library.text(xfcc_name), library.text(xfcc_value)
    if xfcc_kind[0] == CONST.HEADER_LINE_ALWAYS then
        set_header(name, value)
    else
        upstream_headers.left_out(xfcc_kind[0], name, value, count_left_out)
        if xfcc_kind[0] == CONST.HEADER_LINE_TOO_LARGE then
            set_header(name .. "-Too-Large", "1")
        end
    end
end


-- Whether this request gets the headers of the dialect cloudflare-forwarding.
local function forwards_this_request(ssl)
    if decision.forwards ~= FORWARDS_FIRST then
        return decision.forwards == FORWARDS_YES
    end

    -- connection_requests, because an internal redirect must not consume the first-request flag.
    return C.rmtls_connection_is_first(ssl, tonumber(ngx_var.connection_requests) or 1) == OK
end


local function add_response_headers(flags)
    if band(flags, PLAN_VARY) ~= 0 then
        ngx.header["Vary"] = "Client-Cert"
    end

    if band(flags, PLAN_PRIVATE) ~= 0 then
        ngx.header["Cache-Control"] = "private"
    end
end


-- Ends a request whose route is not in the policy. error() would add a position in this file, which does
-- not help to find the misspelled name in nginx.conf.
local function refuse_unknown_route(engine, route)
    local why = route == "" and NO_ROUTE or engine:no_route(route, ngx_time())
    ngx_log(ngx.ERR, "[mtls] 500 ", why)

    return ngx.exit(500)
end


-- The plan of a route after a yield: another policy may be in force, with other plan numbers.
local function current_plan(engine, route)
    return engine:plan(route) or refuse_unknown_route(engine, route)
end


-- Waits for the revocation status that the decision depends on. Returns the plan, whose number may have
-- changed meanwhile, the outcome, and a refusal when the status cannot be had.
local function await_revocation(engine, route, dict, ssl, plan, outcome)
    local function find_plan()
        return engine:plan(route)
    end

    for _ = 1, MAX_DECISIONS do
        if outcome ~= PENDING then
            return plan, outcome
        end

        local decided_plan = plan
        local _, shortage = revocation.resolve(engine, plan, dict, find_plan, function(out)
            if band(engine:plan_flags(decided_plan), PLAN_HEADER_CERTIFICATE) == 0 then
                return C.rmtls_engine_tls_client(engine.handle, ssl, out)
            end

            local request = request_headers.of_request()

            return C.rmtls_engine_unverified_certificate(engine.handle, ssl, decided_plan, request.received.array,
                                                         request.received.count, request.trusted, 0, out)
        end)
        plan = current_plan(engine, route)
        outcome = decide(engine, plan, ssl)
        if shortage and outcome == PENDING then
            return plan, outcome, token_issuer.unavailable(shortage, true)
        end
    end

    if outcome == PENDING then
        return plan, outcome, token_issuer.unavailable("the revocation status is still not known", true)
    end

    return plan, outcome
end


-- Checks the token of a request whose certificate was accepted. Returns the plan, the outcome for the
-- certificate, which may be decided again here, the header lines of the claims, and the refusal, if any.
local function await_token(engine, route, dict, ssl, plan, outcome)
    for _ = 1, MAX_DECISIONS do
        if outcome ~= PASS or band(engine:plan_flags(plan), PLAN_TOKEN) == 0 then
            return plan, outcome
        end

        local claims, refused = token_issuer.check(engine, route, plan, ssl, dict)
        if refused then
            -- check() has yielded: `decision` may be of another request, and another policy in force.
            plan = current_plan(engine, route)

            return plan, decide(engine, plan, ssl), nil, refused
        end

        local before = C.rmtls_engine_epoch(engine.handle)
        if claims then
            -- check() has yielded, and other requests have used `decision` meanwhile.
            outcome = decide(engine, plan, ssl)
            if outcome ~= PENDING then
                return plan, outcome, claims
            end
        end

        plan = current_plan(engine, route)
        local refusal
        plan, outcome, refusal = await_revocation(engine, route, dict, ssl, plan, decide(engine, plan, ssl))
        if refusal then
            return plan, outcome, nil, refusal
        end

        if C.rmtls_engine_epoch(engine.handle) == before and claims then
            return plan, outcome, claims
        end
    end

    return plan, outcome, nil, token_issuer.unavailable("the policy changes faster than the issuer answers", true)
end


local function refuse_token(engine, ssl, refused)
    ngx_log(ngx.ERR, "[mtls] ", refused.status, " ", refused.reason)
    ngx.header["DPoP-Nonce"] = refused.nonce

    return send_refusal(engine, ssl, refused.status, refused.body, refused.challenge)
end


-- Everything that may yield. Returns the plan, the outcome, the header lines of the token's claims, and
-- the refusal, if any.
local function await_external(engine, route, dict, ssl, plan, outcome)
    local removed_under = C.rmtls_engine_epoch(engine.handle)
    local claims, refused
    plan, outcome, refused = await_revocation(engine, route, dict, ssl, plan, outcome)
    if not refused and band(engine:plan_flags(plan), PLAN_TOKEN) ~= 0 then
        plan, outcome, claims, refused = await_token(engine, route, dict, ssl, plan, outcome)
    end

    -- A policy that came into force meanwhile may reserve more headers.
    if C.rmtls_engine_epoch(engine.handle) ~= removed_under then
        reserved_headers.remove(engine)
    end

    return plan, outcome, claims, refused
end


-- Ends a request about which nothing can be decided yet.
function _M.refuse_unavailable(engine, route, why)
    local outcome = CONST.DECISION_UNAVAILABLE
    reserved_headers.remove(engine)
    metrics.count_decision(route or "", REFUSALS[outcome][1], NO_VERDICT, false)

    return refuse(engine, nil, outcome, why)
end


-- Outcomes that run_on_preflight: false does not change: they are no result of the authentication.
local NOT_OF_AUTHENTICATION = {
    [CONST.DECISION_MISDIRECTED] = true,
    [TOO_EARLY] = true,
    [CONST.DECISION_UNAVAILABLE] = true,
}


-- Whether the request is a CORS preflight (Fetch, section 3.2.2).
local function is_preflight()
    return ngx.req.get_method() == "OPTIONS" and ngx_var.http_origin ~= nil
           and ngx_var.http_access_control_request_method ~= nil
end


-- Passes a preflight without an identity: no header is set, and client() has nothing.
local function pass_preflight(engine, route)
    if reserved_headers.are_read(engine) then
        request_headers.seal(true)
    end

    ngx.ctx.resty_mtls = nil
    variables.set(engine, route, DECISION_NAMES[PASS], NOT_VERIFIED, client_of)
    metrics.count_decision(route or "", 0, NOT_VERIFIED, false)
end


-- Decides about the request, and ends it when it is refused. The path of most requests has no closures and
-- no loops that LuaJIT does not compile.
function _M.run(engine, route, dict)
    reserved_headers.remove(engine)
    local plan = engine:plan(route)
    if not plan then
        return refuse_unknown_route(engine, route)
    end

    local ssl = ssl_pointer()
    local flags = engine:plan_flags(plan)
    local outcome = decide(engine, plan, ssl, flags)
    if band(flags, PLAN_PASSES_PREFLIGHT) ~= 0 and not NOT_OF_AUTHENTICATION[outcome] and is_preflight() then
        return pass_preflight(engine, route)
    end

    local claims, refused
    if outcome == PENDING or band(flags, PLAN_TOKEN) ~= 0 then
        plan, outcome, claims, refused = await_external(engine, route, dict, ssl, plan, outcome)
        flags = engine:plan_flags(plan)
        if outcome == PASS and not refused and band(flags, PLAN_TOKEN) ~= 0 then
            outcome = token_identity.apply(engine, plan, claims, decision, reason)
        end
    end

    local token = token_identity.with_consumer(claims)
    local record = publish_decision(engine, plan, ssl, route or "", token)
    if decision.decision == PASS and not refused then
        local lines = record.lines
        if reserved_headers.are_read(engine) then
            request_headers.seal(true)
        end

        for i = 1, #lines, 2 do
            set_header(lines[i], lines[i + 1])
        end

        local forwarding = lines.forwarding
        if forwarding and forwards_this_request(ssl) then
            for i = 1, #forwarding, 2 do
                set_header(forwarding[i], forwarding[i + 1])
            end
        end

        if flags ~= 0 then
            add_response_headers(flags)
            if band(flags, PLAN_XFCC) ~= 0 then
                forward_xfcc(engine, plan, lines)
            end
        end
    end

    if claims and not refused and outcome == PASS then
        for i = 1, #claims, 2 do
            set_header(claims[i], claims[i + 1])
        end

        token_issuer.set_credentials(engine, plan, claims)
    end

    local refusal = REFUSALS[outcome]
    -- A refusal of the certificate precedes one of the token. A pending outcome has a refusal.
    refused = not refusal and refused or nil
    variables.set(engine, route, refused and refused.decision or DECISION_NAMES[outcome], decision.verdict, client_of)

    metrics.count_decision(route or "", refused and refused.status or refusal and refusal[1] or 0, decision.verdict,
                           decision.identity == ANONYMOUS)
    if refusal then
        return refuse(engine, ssl, outcome)
    end

    if refused then
        return refuse_token(engine, ssl, refused)
    end

    if outcome ~= PASS then
        error("no outcome")
    end
end


return _M
