-- The access phase: removes what only the gateway may say, asks the engine, sets what it says.
-- The first request of a client pays for the strings; later ones find them by number.

local ffi = require "ffi"
local base = require "resty.core.base"
-- Declares what this file calls of lua-nginx-module.
require "resty.core.request"
local lib = require "resty.mtls.lib"
local certificate = require "resty.mtls.certificate"
local connection = require "resty.mtls.connection"
local revocation = require "resty.mtls.revocation"
local STATUS = require "resty.mtls.cdef"


local C = lib.C
local N = ffi.C
local OK = STATUS.OK
local LEFT_OUT = STATUS.LEFT_OUT
local NOT_FOUND = STATUS.NOT_FOUND
local PASS = STATUS.PASS
local PENDING = STATUS.PENDING
local ANONYMOUS = STATUS.IDENTITY_ANONYMOUS
-- What rmtls_answer.verdict holds then.
local NOT_VERIFIED = -1
local clear_header = ngx.req.clear_header
local error = error
local ffi_cast = ffi.cast
local ffi_str = ffi.string
local get_request = base.get_request
local ngx = ngx
local ngx_log = ngx.log
local ngx_time = ngx.time
local ngx_var = ngx.var
local set_header = ngx.req.set_header
local ssl_pointer = connection.ssl
local tonumber = tonumber


local JSON = "application/json; charset=utf-8"
local REFUSALS = {
    [STATUS.NO_CERTIFICATE] = { 401, '{"message":"No required TLS certificate was sent"}' },
    [STATUS.REFUSED] = { 401, '{"message":"TLS certificate failed verification"}' },
    [STATUS.MISDIRECTED] = { 421, '{"message":"Misdirected Request"}' },
    [STATUS.FORBIDDEN] = { 403, '{"message":"You cannot consume this service"}' },
}


local answer = ffi.new("rmtls_answer")
local reason = lib.buffer(4096)
local name_buf = lib.buffer(256)
local value_buf = lib.buffer(32768)
local truncated = ffi.new("int[1]")
local found_len = ffi.new("size_t[1]")
local elements_type = ffi.typeof("ngx_http_lua_ffi_table_elt_t[?]")
local indexes_type = ffi.typeof("uint32_t[?]")
local headers_type = ffi.typeof("const rmtls_header *")
local capacity = 64
local elements = elements_type(capacity)
local found = indexes_type(capacity)

if ffi.sizeof("ngx_http_lua_ffi_table_elt_t") ~= ffi.sizeof("rmtls_header") then
    error("resty.mtls: this lua-nginx-module lays out request headers in another way than "
          .. "0.10.23 to 0.10.30 do", 0)
end


-- engine.clients[place] = { generation = n, [plan] = { name, value, name, value, ... }, views = { ... } }
-- Places are numbers below a bound of the engine, so this does not grow. views holds the tables
-- that client() gives, by plan and verdict.

-- What is set for clients that are not trusted, by plan: it depends on nothing else.
local anonymous


local _M = {}


-- Removes every inbound header that only the gateway may set, in whatever spelling.
local function strip(engine, request)
    -- A second look proves that nothing is left.
    for _ = 1, 2 do
        local count = N.ngx_http_lua_ffi_req_get_headers_count(request, 0, truncated)
        if count < 0 then
            error("request headers cannot be read in this phase")
        end

        if count > capacity then
            capacity = 2 * count
            elements = elements_type(capacity)
            found = indexes_type(capacity)
        end

        -- Raw names: as the client wrote them.
        if count > 0 and N.ngx_http_lua_ffi_req_get_headers(request, elements, count, 1) ~= 0 then
            error("request headers cannot be read")
        end

        if C.rmtls_engine_forged(engine.handle, ffi_cast(headers_type, elements), count, found,
                                 capacity, found_len) ~= OK
        then
            error("request headers cannot be checked")
        end

        local forged = tonumber(found_len[0])
        if forged == 0 then
            return
        end

        local names = {}
        for i = 1, forged do
            local key = elements[found[i - 1]].key
            names[i] = ffi_str(key.data, key.len)
        end

        for i = 1, forged do
            clear_header(names[i])
        end
    end

    -- lua-nginx-module does not find names with characters that no header name has.
    ngx_log(ngx.ERR, "[mtls] 400 a header that only the gateway may set has a name that cannot be removed")

    return ngx.exit(400)
end


-- Before the access phase too, for what nginx evaluates there.
function _M.strip(engine)
    return strip(engine, get_request())
end


local function read_lines(engine, plan)
    local lines = {}
    for i = 0, math.huge do
        local status = C.rmtls_engine_line(engine.handle, plan, answer, i, name_buf, value_buf)
        if status == OK then
            if value_buf.len > 0 then
                lines[#lines + 1] = lib.text(name_buf)
                lines[#lines + 1] = lib.text(value_buf)
            end

        elseif status == LEFT_OUT then
            ngx_log(ngx.WARN, "[mtls] header ", lib.text(value_buf))

        elseif status == NOT_FOUND then
            return lines

        else
            error(select(2, lib.failure("header line " .. i, status)))
        end
    end
end


local function refuse(decision)
    local status, body = REFUSALS[decision][1], REFUSALS[decision][2]

    ngx_log(ngx.ERR, "[mtls] ", status, " ", lib.text(reason))

    ngx.status = status
    ngx.header["Content-Type"] = JSON
    ngx.header["Content-Length"] = #body
    ngx.print(body)

    return ngx.exit(status)
end


-- The consumer and groups of the answer just given.
local function who(engine, plan)
    local known = { groups = {} }
    for i = 0, math.huge do
        local group = lib.read("group", function(out)
            return C.rmtls_engine_group(engine.handle, plan, answer, i, out)
        end)
        if not group then
            break
        end

        known.groups[i + 1] = group
    end

    if answer.identity == STATUS.IDENTITY_CONSUMER then
        local function field(number)
            return (lib.read("consumer", function(out)
                return C.rmtls_engine_consumer(engine.handle, answer.consumer, number, out)
            end))
        end

        known.consumer = {
            id = field(STATUS.CONSUMER_ID),
            username = field(STATUS.CONSUMER_USERNAME),
            custom_id = field(STATUS.CONSUMER_CUSTOM_ID),
        }
    end

    return known
end


local function decide(engine, plan)
    local host = ngx_var.host or ""
    reason.len = 0
    local status = C.rmtls_engine_access(engine.handle, ssl_pointer(), plan, host, #host,
                                         ngx_time(), answer, reason)
    if status ~= OK then
        error(select(2, lib.failure("access", status, reason)))
    end

    return answer.decision
end


-- The lines of the answer just given.
local function lines_of(engine, plan)
    local generation = answer.generation
    -- Not on the connection: requests of one HTTP/2 connection may go to different routes.
    local ctx = ngx.ctx
    ctx.mtls_client = nil
    ctx.mtls_plan = plan
    ctx.mtls_verdict = answer.verdict

    local entry
    if generation ~= 0 then
        local clients = engine.clients
        entry = clients[answer.client]
        if not entry or entry.generation ~= generation then
            entry = { generation = generation, views = {} }
            clients[answer.client] = entry
        end

        ctx.mtls_client = entry
    end

    if answer.decision ~= PASS then
        return nil
    end

    if answer.identity == ANONYMOUS then
        -- Plan numbers mean something else after a reload.
        if not anonymous or anonymous.epoch ~= engine.plans then
            anonymous = { epoch = engine.plans }
        end

        anonymous[plan] = anonymous[plan] or read_lines(engine, plan)

        return anonymous[plan]
    end

    if not entry then
        return nil
    end

    local lines = entry[plan]
    -- Another chain of the same certificate may lead to another consumer.
    if not lines or lines.consumer ~= answer.consumer or lines.credential ~= answer.credential
        or lines.identity ~= answer.identity
    then
        lines = read_lines(engine, plan)
        lines.identity = answer.identity
        lines.consumer = answer.consumer
        lines.credential = answer.credential
        entry[plan] = lines
        entry["who" .. plan] = who(engine, plan)
        entry.views = {}
    end

    return lines
end


-- Ends the request on a refusal.
function _M.run(engine, route, dict)
    local plan = engine:plan(route)
    if not plan then
        error("no route '" .. tostring(route) .. "' in the policy", 3)
    end

    strip(engine, get_request())

    local decision = decide(engine, plan)
    for _ = 1, 3 do
        if decision ~= PENDING then
            break
        end

        revocation.resolve(engine, plan, dict)
        -- Numbers hold for one policy, and that took time.
        plan = engine:plan(route)
        if not plan then
            error("no route '" .. tostring(route) .. "' in the policy any more")
        end

        decision = decide(engine, plan)
    end

    local lines = lines_of(engine, plan)
    if lines then
        for i = 1, #lines, 2 do
            set_header(lines[i], lines[i + 1])
        end
    end

    if decision == PENDING then
        error("the revocation status is still not settled")
    end

    if decision ~= PASS then
        return refuse(decision)
    end
end


local function view(presented, verdict, known)
    local verified = "FAILED:not verified"
    if verdict then
        verified = lib.read("verdict", function(out)
            return C.rmtls_verdict_text(verdict, out)
        end)
    end

    return {
        verified = verified,
        subject_dn = presented.subject_dn,
        issuer_dn = presented.issuer_dn,
        serial = presented.serial,
        fingerprint_sha1 = presented.fingerprint_sha1,
        fingerprint_sha256 = presented.fingerprint_sha256,
        not_before = presented.not_before,
        not_after = presented.not_after,
        subject = presented.subject,
        san = presented.san,
        pem = presented.pem,
        chain_pem = presented.chain_pem,
        source = "tls",
        consumer = known and known.consumer,
        groups = known and known.groups or {},
    }
end


-- What is known of the client of this request; nil when it presented no certificate. The table
-- serves other requests of this client too: read it only.
function _M.client(engine)
    local ssl = ssl_pointer()
    if not ssl then
        return nil
    end

    local ctx = ngx.ctx
    local entry = ctx.mtls_client
    local verdict = ctx.mtls_verdict
    if verdict == NOT_VERIFIED then
        verdict = nil
    end

    local plan = ctx.mtls_plan
    local key = (plan or "") .. ":" .. (verdict or NOT_VERIFIED)
    if entry and entry.views[key] then
        return entry.views[key]
    end

    local presented, status = certificate.wrap(function(out)
        return C.rmtls_engine_client(engine.handle, ssl, out)
    end)
    if not presented then
        if status == NOT_FOUND then
            return nil
        end

        return lib.failure("client", status)
    end

    local client = view(presented, verdict, entry and verdict == 0 and entry["who" .. plan])
    if entry then
        entry.views[key] = client
    end

    return client
end


return _M
