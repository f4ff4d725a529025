-- The access phase: removes what only the gateway may say, asks the engine, sets what it says.
-- The first request of a client pays for the strings; later ones find them by number.

local ffi = require "ffi"
local library = require "resty.mtls.internal.library"
local cache = require "resty.mtls.internal.decision_cache"
local client_of = require("resty.mtls.internal.client").of_request
local upstream_headers = require "resty.mtls.internal.upstream_headers"
local connection = require "resty.mtls.internal.connection"
local request_headers = require "resty.mtls.internal.request_headers"
local metrics = require "resty.mtls.internal.metrics"
local token_issuer = require "resty.mtls.internal.token_issuer"
local revocation = require "resty.mtls.internal.revocation"
local reserved_headers = require "resty.mtls.internal.reserved_headers"
local variables = require "resty.mtls.internal.variables"
local STATUS = require "resty.mtls.internal.cdef"


local C = library.C
local OK = STATUS.OK
local NOT_FOUND = STATUS.NOT_FOUND
local PASS = STATUS.PASS
local PENDING = STATUS.PENDING
local ANONYMOUS = STATUS.IDENTITY_ANONYMOUS
local CONSUMER = STATUS.IDENTITY_CONSUMER
local NOT_VERIFIED = STATUS.VERDICT_NOT_VERIFIED
local TRAIT_VARY = STATUS.TRAIT_VARY
local TRAIT_PRIVATE = STATUS.TRAIT_PRIVATE
local TRAIT_XFCC = STATUS.TRAIT_XFCC
local TRAIT_INBOUND = STATUS.TRAIT_INBOUND
local TRAIT_BEARER = STATUS.TRAIT_BEARER
local FORWARDS_YES = STATUS.FORWARDS_YES
local FORWARDS_FIRST = STATUS.FORWARDS_FIRST
local TRAIT_INBOUND_OR_BEARER = bit.bor(TRAIT_INBOUND, TRAIT_BEARER)
local TOO_EARLY = STATUS.TOO_EARLY
local TOO_SMALL = STATUS.TOO_SMALL
local band = bit.band
local clear_header = ngx.req.clear_header
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
-- What $mtls_decision says.
local DECISIONS = {
    [PASS] = "pass",
    [STATUS.NO_CERTIFICATE] = "no_certificate",
    [STATUS.REFUSED] = "refused",
    [STATUS.MISDIRECTED] = "misdirected",
    [STATUS.FORBIDDEN] = "forbidden",
    [TOO_EARLY] = "too_early",
    [STATUS.UNAVAILABLE] = "unavailable",
}
local REFUSALS = {
    [STATUS.NO_CERTIFICATE] = { 401, '{"message":"No required TLS certificate was sent"}' },
    [STATUS.REFUSED] = { 401, '{"message":"TLS certificate failed verification"}' },
    [STATUS.MISDIRECTED] = { 421, '{"message":"Misdirected Request"}' },
    [STATUS.FORBIDDEN] = { 403, '{"message":"You cannot consume this service"}' },
    [TOO_EARLY] = { 425, '{"message":"Too Early"}' },
    [STATUS.UNAVAILABLE] = { 503, '{"message":"Service Unavailable"}' },
}


-- How often a request is decided about anew because a status was fetched, or because another policy
-- came into force while one was.
local MAX_ROUNDS = 5


local answer = ffi.new("rmtls_answer")
local reason = library.buffer(4096)
local now = 0


-- A record of the cache: { engine fields of the answer it was made for, epoch, plan, number, is_client,
-- lines, known, view, look }. lines are the header lines, known is who the client is, view what client()
-- gives, and look what the later phases see.
--
-- Its key has the plan and its owner: the place of a client, else the connection of a certificate that
-- is not trusted, else the verdict, on which alone everything depends then.
local OWNERS = cache.OWNERS
local CONNECTIONS = cache.CONNECTIONS
local NO_CLIENT = cache.NO_CLIENT
-- Connections whose certificates are not trusted: those with the last numbers.
local MAX_CONNECTIONS = 64
-- For what never ends.
local NEVER = 2 ^ 53


local _M = {}


local function count_left_out(why)
    metrics.count("headers_left_out_total", why)
end


local function read_lines(engine, plan, ssl)
    local lines, status = upstream_headers.of_request(
        C.rmtls_engine_lines(engine.handle, ssl, plan, answer, now, upstream_headers.out), count_left_out)
    if not lines then
        error(select(2, library.failure("header lines", status)))
    end

    return lines
end


local function refuse(decision)
    local status, body = REFUSALS[decision][1], REFUSALS[decision][2]

    ngx_log(ngx.ERR, "[mtls] ", status, " ", library.text(reason))

    ngx.status = status
    ngx.header["Content-Type"] = JSON
    ngx.header["Content-Length"] = #body
    ngx.print(body)

    return ngx.exit(status)
end


local text = library.buffer(1024)


-- The text just written, nil if there is none; again(...) writes it once more, where it has room.
local function written(status, again, ...)
    if status == TOO_SMALL then
        text = library.buffer(tonumber(text.len))
        status = again(...)
    end

    return status == OK and library.text(text) or nil
end


local function write_group(engine, plan, index)
    return C.rmtls_engine_group(engine.handle, plan, answer, index, text)
end


local function write_field(engine, number)
    return C.rmtls_engine_consumer(engine.handle, answer.consumer, number, text)
end


local function field(engine, number)
    return written(write_field(engine, number), write_field, engine, number)
end


-- The consumer and groups of the answer just given.
local function who(engine, plan)
    local groups = {}
    local group = written(write_group(engine, plan, 0), write_group, engine, plan, 0)
    while group do
        groups[#groups + 1] = group
        group = written(write_group(engine, plan, #groups), write_group, engine, plan, #groups)
    end

    return {
        groups = groups,
        consumer = answer.identity == CONSUMER and {
            id = field(engine, STATUS.CONSUMER_ID),
            username = field(engine, STATUS.CONSUMER_USERNAME),
            custom_id = field(engine, STATUS.CONSUMER_CUSTOM_ID),
        } or nil,
    }
end


-- The proxy that speaks for the client took the request as early data, which can be sent once more.
local function too_early()
    local why = "too early: the proxy passed early data on"
    ffi_copy(reason.data, why, #why)
    reason.len = #why
    ffi_fill(answer, ffi_sizeof(answer))
    answer.verdict = NOT_VERIFIED
    answer.decision = TOO_EARLY

    return TOO_EARLY
end


local function decide(engine, plan, ssl, traits)
    traits = traits or engine:traits_of(plan)
    -- RFC 8470, section 5.1: any value means 1.
    if band(traits, TRAIT_INBOUND_OR_BEARER) ~= 0 and ngx_var.http_early_data then
        return too_early()
    end

    local host = ngx_var.host or ""
    now = ngx_time()
    reason.len = 0
    local status
    if band(traits, TRAIT_INBOUND) ~= 0 then
        local request = request_headers.of_request()
        status = C.rmtls_engine_access_header(engine.handle, ssl, plan, host, #host, request.came.array,
                                              request.came.count, request.trusted, now, answer, reason)
    else
        status = C.rmtls_engine_access(engine.handle, ssl, plan, host, #host, now, answer, reason)
    end

    if status ~= OK then
        error(select(2, library.failure("access", status, reason)))
    end

    return answer.decision
end


local not_after = ffi.new("int64_t[1]")


-- How long the certificate of the answer just given is still good for.
local function look_at(engine, record)
    record.look_at = now + metrics.EXPIRY_INTERVAL
    if C.rmtls_engine_not_after(engine.handle, answer, not_after) == OK then
        metrics.expires(record.known.consumer, tonumber(not_after[0]) - now)
    end
end


-- A new record for the answer just given.
local function new_record(engine, key, number, plan)
    local record = {
        number = number,
        epoch = engine.epoch,
        plan = plan,
        is_client = answer.generation ~= 0,
        client = answer.client,
        identity = answer.identity,
        verdict = answer.verdict,
        consumer = answer.consumer,
        credential = answer.credential,
        own = answer.own,
        from_header = answer.from_header,
        -- When the lines were made; a clock set back makes them void, as those may count days.
        made = 0,
        expires = NEVER,
        look_at = NEVER,
        lines = false,
        known = false,
        view = false,
        look = false,
    }
    cache.put(key, record)
    if record.is_client then
        record.known = who(engine, plan)
        cache.add(record, 400 + cache.size_of(record.known.groups))
    end

    return record
end


-- Reads the lines of a record for the answer just given.
local function fill(engine, record, plan, ssl)
    -- Those of a client without a place that do not depend on its certificate serve all such clients.
    local shared
    if not record.is_client and record.number ~= 0 then
        local key = plan * OWNERS + NO_CLIENT + answer.verdict
        shared = cache.get(key)
        if not shared or shared.own ~= answer.own or shared.identity ~= answer.identity
            or shared.consumer ~= answer.consumer or shared.from_header ~= answer.from_header
        then
            shared = new_record(engine, key, 0, plan)
        end

        if shared.lines and now < shared.expires and now >= shared.made then
            record.lines = shared.lines
            record.made = shared.made
            record.expires = shared.expires

            return
        end
    end

    local lines = read_lines(engine, plan, ssl)
    record.lines = lines
    record.made = now
    local expires = lines.expires or NEVER
    record.expires = expires
    if expires == 0 and record.number ~= 0 then
        -- For this certificate only, whose connection has this record.
        record.expires = NEVER
    end

    if record.is_client then
        record.look_at = 0
    end

    local size = cache.size_of(lines) + (lines.forwarding and cache.size_of(lines.forwarding) or 0)
    cache.add(record, size + (lines.xfcc and #lines.xfcc or 0))
    if shared and expires ~= 0 then
        shared.lines = lines
        shared.made = now
        shared.expires = record.expires
    end
end


-- What the later phases of this request see of the decision. One table serves the requests of a client
-- for one route: each new key in ngx.ctx costs a request a quarter of a microsecond. Only the last one
-- is kept, or routes that share a plan would multiply what a client takes.
local function look_of(record, route)
    local look = { record = record, route = route }
    record.look = look

    return look
end


-- Plan numbers mean something else after a reload: that of the records.
local plans


-- The record of the answer just given, with its lines if the request may pass.
local function record_of(engine, plan, ssl, route)
    if plans ~= engine.plans then
        plans = engine.plans
        cache.clear()
    end

    -- Not on the connection: requests of one HTTP/2 connection may go to different routes.
    local key = plan * OWNERS
    local number = answer.generation
    if number ~= 0 then
        key = key + answer.client
    else
        number = answer.connection
        if number ~= 0 then
            key = key + CONNECTIONS + number % MAX_CONNECTIONS
        else
            key = key + NO_CLIENT + answer.verdict
        end
    end

    local record = cache.get(key)
    -- Another chain of the same certificate may lead to another consumer.
    if not record or record.number ~= number or record.verdict ~= answer.verdict
        or record.identity ~= answer.identity or record.consumer ~= answer.consumer
        or record.credential ~= answer.credential or record.own ~= answer.own
        or record.from_header ~= answer.from_header
    then
        record = new_record(engine, key, number, plan)
    end

    local look = record.look
    if not look or look.route ~= route then
        look = look_of(record, route)
    end

    ngx.ctx.resty_mtls = look
    if answer.decision == PASS then
        if not record.lines or record.expires <= now or record.made > now then
            fill(engine, record, plan, ssl)
        end

        if record.look_at <= now and answer.verdict == 0 then
            look_at(engine, record)
        end
    end

    return record
end


local xfcc_kind = ffi.new("int32_t[1]")
local xfcc_name = library.buffer(256)
local xfcc_value = library.buffer(131072)


-- The XFCC header of a route that forwards what came.
local function forward_xfcc(engine, plan, lines)
    local own = lines.xfcc
    local came = request_headers.array_of(request_headers.pairs_that_came())
    local status = C.rmtls_engine_xfcc(engine.handle, plan, answer, came.array, came.count, own,
                                       own and #own or 0, xfcc_kind, xfcc_name, xfcc_value)
    if status == NOT_FOUND then
        return
    end

    if status ~= OK then
        error(select(2, library.failure("xfcc", status, xfcc_value)))
    end

    local name, value = library.text(xfcc_name), library.text(xfcc_value)
    if xfcc_kind[0] == STATUS.LINE_ALWAYS then
        set_header(name, value)
    else
        upstream_headers.left_out(xfcc_kind[0], name, value, count_left_out)
        if xfcc_kind[0] == STATUS.LINE_TOO_LARGE then
            set_header(name .. "-Too-Large", "1")
        end
    end
end


-- Whether this very request carries what cloudflare-forwarding sends.
local function is_forwarded(ssl)
    if answer.forwards ~= FORWARDS_FIRST then
        return answer.forwards == FORWARDS_YES
    end

    -- An access() whose request nginx then sends elsewhere must not use the first one up.
    return C.rmtls_connection_is_first(ssl, tonumber(ngx_var.connection_requests) or 1) == OK
end


local function add_response_headers(traits)
    if band(traits, TRAIT_VARY) ~= 0 then
        ngx.header["Vary"] = "Client-Cert"
    end

    if band(traits, TRAIT_PRIVATE) ~= 0 then
        ngx.header["Cache-Control"] = "private"
    end
end


-- Ends a request whose route the policy does not have. Not by error(): where that was raised is of no
-- use to whoever wrote the name of the route.
local function refuse_route(engine, route)
    local why = route == "" and NO_ROUTE or engine:no_route(route, ngx_time())
    ngx_log(ngx.ERR, "[mtls] 500 ", why)

    return ngx.exit(500)
end


-- The plan after something that took time: numbers hold for one policy.
local function plan_again(engine, route)
    return engine:plan(route) or refuse_route(engine, route)
end


-- Waits for what the decision about the certificate depends on. The plan, which may have another
-- number by then, the decision, and the refusal if it cannot be made.
local function settle(engine, route, dict, ssl, plan, decision)
    local function find()
        return engine:plan(route)
    end

    for _ = 1, MAX_ROUNDS do
        if decision ~= PENDING then
            return plan, decision
        end

        local judged = plan
        local _, lacks = revocation.resolve(engine, plan, dict, find, function(out)
            if band(engine:traits_of(judged), TRAIT_INBOUND) == 0 then
                return C.rmtls_engine_client(engine.handle, ssl, out)
            end

            local request = request_headers.of_request()

            return C.rmtls_engine_presented(engine.handle, ssl, judged, request.came.array,
                                            request.came.count, request.trusted, 0, out)
        end)
        plan = plan_again(engine, route)
        decision = decide(engine, plan, ssl)
        if lacks and decision == PENDING then
            return plan, decision, token_issuer.unavailable(lacks, true)
        end
    end

    if decision == PENDING then
        return plan, decision, token_issuer.unavailable("the revocation status is still not settled", true)
    end

    return plan, decision
end


-- The token of a request whose certificate is good enough: the decision about the certificate,
-- which may have to be made anew, the header lines of the claims, and the refusal, if it is one.
local function settle_token(engine, route, dict, ssl, plan, decision)
    for _ = 1, MAX_ROUNDS do
        if decision ~= PASS or band(engine:traits_of(plan), TRAIT_BEARER) == 0 then
            return plan, decision
        end

        local refused, claims = token_issuer.check(engine, route, plan, ssl, dict)
        if refused then
            -- Fetching took time: the answer is another request's by now, and so may be the policy.
            plan = plan_again(engine, route)

            return plan, decide(engine, plan, ssl), nil, refused
        end

        local before = C.rmtls_engine_epoch(engine.handle)
        if refused == nil then
            -- Fetching took time, in which other requests used the answer.
            decision = decide(engine, plan, ssl)
            if decision ~= PENDING then
                return plan, decision, claims
            end
        end

        plan = plan_again(engine, route)
        local unsettled
        plan, decision, unsettled = settle(engine, route, dict, ssl, plan, decide(engine, plan, ssl))
        if unsettled then
            return plan, decision, nil, unsettled
        end

        if C.rmtls_engine_epoch(engine.handle) == before and refused == nil then
            return plan, decision, claims
        end
    end

    return plan, decision, nil, token_issuer.unavailable("the policy changes faster than the issuer answers", true)
end


local function refuse_token(refused)
    ngx_log(ngx.ERR, "[mtls] ", refused.status, " ", refused.reason)
    ngx.status = refused.status
    ngx.header["Content-Type"] = JSON
    ngx.header["Content-Length"] = #refused.body
    ngx.header["WWW-Authenticate"] = refused.challenge
    ngx.print(refused.body)

    return ngx.exit(refused.status)
end


-- All that may take time: the plan, the decision, the header lines of the token's claims and its
-- refusal.
local function wait(engine, route, dict, ssl, plan, decision)
    local stripped = C.rmtls_engine_epoch(engine.handle)
    local claims, refused
    plan, decision, refused = settle(engine, route, dict, ssl, plan, decision)
    if not refused and band(engine:traits_of(plan), TRAIT_BEARER) ~= 0 then
        plan, decision, claims, refused = settle_token(engine, route, dict, ssl, plan, decision)
    end

    -- While something was fetched, a policy may have come that owns more names.
    if C.rmtls_engine_epoch(engine.handle) ~= stripped then
        reserved_headers.remove(engine)
    end

    return plan, decision, claims, refused
end


-- Ends the request on a refusal. What most requests go through has neither closures nor loops that
-- LuaJIT would not compile.
function _M.run(engine, route, dict)
    reserved_headers.remove(engine)
    local plan = engine:plan(route)
    if not plan then
        return refuse_route(engine, route)
    end

    local ssl = ssl_pointer()
    local traits = engine:traits_of(plan)
    local decision = decide(engine, plan, ssl, traits)
    local claims, refused
    if decision == PENDING or band(traits, TRAIT_BEARER) ~= 0 then
        plan, decision, claims, refused = wait(engine, route, dict, ssl, plan, decision)
        traits = engine:traits_of(plan)
    end

    local record = record_of(engine, plan, ssl, route or "")
    if answer.decision == PASS and not refused then
        local lines = record.lines
        if engine:reads_any() then
            request_headers.close(true)
        end

        for i = 1, #lines, 2 do
            set_header(lines[i], lines[i + 1])
        end

        local forwarding = lines.forwarding
        if forwarding and is_forwarded(ssl) then
            for i = 1, #forwarding, 2 do
                set_header(forwarding[i], forwarding[i + 1])
            end
        end

        if traits ~= 0 then
            add_response_headers(traits)
            if band(traits, TRAIT_XFCC) ~= 0 then
                forward_xfcc(engine, plan, lines)
            end
        end
    end

    if claims and not refused then
        for i = 1, #claims, 2 do
            set_header(claims[i], claims[i + 1])
        end

        if token_issuer.options_of(engine, plan).hide_credentials then
            clear_header("Authorization")
        end
    end

    local refusal = REFUSALS[decision]
    -- That of the certificate comes first. A pending decision comes with a refusal.
    refused = not refusal and refused or nil
    variables.set(engine, route, refused and refused.decision or DECISIONS[decision], answer.verdict, client_of)

    metrics.decided(route or "", refused and refused.status or refusal and refusal[1] or 0, answer.verdict,
                    answer.identity == ANONYMOUS)
    if refusal then
        return refuse(decision)
    end

    if refused then
        return refuse_token(refused)
    end

    if decision ~= PASS then
        error("no decision")
    end
end


return _M
