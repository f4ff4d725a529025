-- Sets the headers of an allowed request for its upstream, from the memory of the library, which keeps them for each
-- client and route, and those of the response that go with them.

local bit = require "bit"
local ffi = require "ffi"
local base = require "resty.core.base"
-- Declares the functions of lua-nginx-module that this file calls.
require "resty.core.request"
local library = require "resty.mtls.internal.library"
local engines = require "resty.mtls.internal.engine"
local metrics = require "resty.mtls.internal.metrics"
local request_headers = require "resty.mtls.internal.request_headers"
local request_memory = require "resty.mtls.internal.request_memory"
local reserved_headers = require "resty.mtls.internal.reserved_headers"
local token_issuer = require "resty.mtls.internal.token_issuer"
local CONST = require "resty.mtls.internal.cdef"


local C = library.C
local N = ffi.C
local OK = CONST.OK
local NOT_FOUND = CONST.NOT_FOUND
local FORWARDS_YES = CONST.FORWARDS_YES
local FORWARDS_FIRST = CONST.FORWARDS_FIRST
local PLAN_VARY = CONST.PLAN_VARY
local PLAN_PRIVATE = CONST.PLAN_PRIVATE
local PLAN_XFCC = CONST.PLAN_XFCC
local PLAN_TOKEN = CONST.PLAN_TOKEN
local append_to_list = C.rmtls_header_list_append
local DECLINED = base.FFI_DECLINED
local are_read = reserved_headers.are_read
local band = bit.band
local clear_header = ngx.req.clear_header
local engine_lines = C.rmtls_engine_lines
local error = error
local ffi_str = ffi.string
local get_request = base.get_request
local header_list = request_memory.header_list
local ngx = ngx
local ngx_log = ngx.log
local ngx_var = ngx.var
local palloc = request_memory.palloc
local plan_flags = engines.plan_flags
local select = select
local tonumber = tonumber

local ERR = ngx.ERR
local WARN = ngx.WARN

-- A header that is set and removed again, to find out whether headers can be.
local PROBE = "Resty-Mtls-Probe"
local LEFT_OUT = {
    [CONST.HEADER_LINE_TOO_LARGE] = "too_large",
    [CONST.HEADER_LINE_AMBIGUOUS] = "ambiguous",
    [CONST.HEADER_LINE_NOT_TEXT] = "not_text",
    [CONST.HEADER_LINE_UNREADABLE] = "unreadable",
}


-- Valid until the next call of the library that makes some.
local kept_lines = ffi.new("rmtls_lines")
local xfcc_kind = ffi.new("int32_t[1]")
local xfcc_name = library.buffer(256)
local xfcc_value = library.buffer(131072)
local message = ffi.new("char *[1]")
local truncated = ffi.new("int[1]")


local _M = {}


-- Logs that a header is left out, and counts it.
local function left_out(kind, name, why)
    ngx_log(WARN, "[mtls] header ", name, " left out: ", why)
    metrics.count("headers_left_out_total", LEFT_OUT[kind])
end


-- How many lines of an rmtls_lines are set on this request.
local function count_of(lines, forwards)
    return forwards and lines.always + lines.forwarding or lines.always
end


-- Sets one header by lua-nginx-module's own function. Ends a request of HTTP/0.9, which has no headers: the upstream
-- would take one without the mark of an anonymous consumer for one of a consumer.
local function set_line(request, name, name_len, value, value_len)
    local status = N.ngx_http_lua_ffi_req_set_header(request, name, name_len, value, value_len, nil, 0, 1, message)
    if status == DECLINED then
        ngx_log(ERR, "[mtls] 400 a request of HTTP/0.9 has no headers, so none can be set for the upstream")

        return ngx.exit(400)
    end

    if status ~= 0 then
        error("request headers cannot be set")
    end

    -- Where nginx has refused the request line, in the location of an error_page, it has read no headers, and
    -- lua-nginx-module sets none and returns success.
    if value_len > 0 and N.ngx_http_lua_ffi_req_get_headers_count(request, 0, truncated) == 0 then
        ngx_log(ERR, "[mtls] 400 nginx has refused the request line, so no header can be set for the upstream")

        return ngx.exit(400)
    end
end


-- Ends a request whose headers lua-nginx-module neither sets nor removes, though it returns success: one to which Lua
-- code gave status 400, as in the location of the error page for an ngx.exit(400). Status 400 of nginx itself is no
-- obstacle.
local function ensure_changeable()
    if ngx.status ~= 400 then
        return
    end

    local request = get_request()
    local before = N.ngx_http_lua_ffi_req_get_headers_count(request, 0, truncated)
    local status = N.ngx_http_lua_ffi_req_set_header(request, PROBE, #PROBE, "1", 1, nil, 0, 0, message)
    if status == 0 and N.ngx_http_lua_ffi_req_get_headers_count(request, 0, truncated) == before then
        ngx_log(ERR, "[mtls] 400 the response has status 400 already, so no header can be set for the upstream")

        return ngx.exit(400)
    end

    if status == 0 then
        clear_header(PROBE)
    end
end


-- Sets a header that is no line of an rmtls_lines.
local function set_one(name, value)
    ensure_changeable()
    set_line(get_request(), name, #name, value, #value)
end


-- Sets lines of an rmtls_lines one by one.
local function set_each(lines, count)
    local request = get_request()
    ensure_changeable()
    -- Where the request has no state in nginx's memory, its headers are not known under a later policy.
    C.rmtls_request_state_keep_lines(request, lines)
    local bytes, ends = lines.bytes, lines.ends
    local from = 0
    for i = 0, 3 * (count - 1), 3 do
        local name_end, value_end = ends[i], ends[i + 1]
        set_line(request, bytes + from, name_end - from, bytes + name_end + 1, value_end - name_end - 1)
        from = ends[i + 2]
    end
end


-- Appends this many of the lines of an rmtls_lines to nginx's list of the headers of the request, which has none of
-- their names. Returns whether it did. lua-nginx-module's function for one header compares the name with all headers of
-- the request and reads each byte of the value for characters to escape: most of what a header costs a request. Has no
-- loop, because a loop that is compiled leaves all that follows it in the request to the interpreter.
function _M.append_to_list(lines, count)
    local request = get_request()
    local list = lines.may_append == 1 and header_list(request)

    return list and append_to_list(list, lines, count, palloc, request) == OK
end


-- Sets the lines of an rmtls_lines on the request, with `forwards` those that forward the certificate too. The request
-- has none of their names: they are reserved, and were removed. From memory of the library, because making Lua strings
-- of them costs a new client ten times what setting them costs.
local function set(lines, forwards)
    local count = count_of(lines, forwards)
    if count > 0 and not _M.append_to_list(lines, count) then
        set_each(lines, count)
    end
end


-- Appends { name, value } for each of these lines to a list.
local function append(list, lines, forwards)
    local bytes, ends = lines.bytes, lines.ends
    local from = 0
    for i = 0, 3 * (count_of(lines, forwards) - 1), 3 do
        list[#list + 1] = {
            ffi_str(bytes + from, ends[i] - from),
            ffi_str(bytes + ends[i] + 1, ends[i + 1] - ends[i] - 1),
        }
        from = ends[i + 2]
    end
end


-- Logs the lines of an rmtls_lines that must not be set.
local function log_left_out(lines)
    local bytes, ends = lines.bytes, lines.ends
    local first = 3 * (lines.always + lines.forwarding)
    for i = 0, lines.left_out - 1 do
        local at = first + 3 * i
        local from = at > 0 and ends[at - 1] or 0
        left_out(lines.left_out_kinds[i], ffi_str(bytes + from, ends[at] - from),
                 ffi_str(bytes + ends[at] + 1, ends[at + 1] - ends[at] - 1))
    end
end


-- Whether this request gets the headers of the dialect cloudflare-forwarding.
local function forwards_this_request(decision, ssl)
    if decision.forwards ~= FORWARDS_FIRST then
        return decision.forwards == FORWARDS_YES
    end

    -- connection_requests, because an internal redirect must not consume the first-request flag.
    return C.rmtls_connection_is_first(ssl, tonumber(ngx_var.connection_requests) or 1) == OK
end


-- Name and value of the XFCC header on a route that forwards, or appends to, the one that the request had; or nil.
local function xfcc_header(engine, plan, decision)
    local received = request_headers.array_of(request_headers.received_pairs())
    local status = C.rmtls_engine_xfcc(engine.handle, plan, decision, received.array, received.count, xfcc_kind,
                                       xfcc_name, xfcc_value)
    if status == NOT_FOUND then
        return nil
    end

    if status ~= OK then
        error(select(2, library.failure("xfcc", status, xfcc_value)))
    end

    local name, value = library.text(xfcc_name), library.text(xfcc_value)
    if xfcc_kind[0] == CONST.HEADER_LINE_ALWAYS then
        return name, value
    end

    left_out(xfcc_kind[0], name, value)
    if xfcc_kind[0] == CONST.HEADER_LINE_TOO_LARGE then
        return name .. "-Too-Large", "1"
    end
end


-- Removes the upstream headers of an earlier policy, some of which the one in force may not reserve.
function _M.remove_outdated()
    local request = get_request()
    ensure_changeable()
    local index, seen = 0, {}
    local function copy_name(out)
        return C.rmtls_request_state_line_name(request, index, out)
    end

    local name = library.read("request_state.line_name", copy_name)
    while name do
        if not seen[name] then
            seen[name] = true
            clear_header(name)
        end

        index = index + 1
        name = library.read("request_state.line_name", copy_name)
    end

    local noted = request_headers.noted()
    if noted then
        clear_header(noted)
    end
end


-- Sets the upstream headers of an allowed request, or, given a list, appends { name, value } of each to it.
function _M.emit(engine, plan, ssl, decision, list)
    local flags = plan_flags(engine, plan)
    local lines = kept_lines
    if engine_lines(engine.handle, decision, lines) ~= OK then
        error("an allowed request without header lines")
    end

    if decision.lines_are_new == 1 then
        log_left_out(lines)
    end

    if are_read(engine) then
        request_headers.seal(true)
    end

    local forwards = decision.forwards ~= 0 and forwards_this_request(decision, ssl)
    if list then
        append(list, lines, forwards)
    else
        set(lines, forwards)
    end

    if flags == 0 then
        return
    end

    if band(flags, PLAN_VARY) ~= 0 then
        ngx.header["Vary"] = "Client-Cert"
    end

    if band(flags, PLAN_PRIVATE) ~= 0 then
        ngx.header["Cache-Control"] = "private"
    end

    if band(flags, PLAN_XFCC) ~= 0 then
        local name, value = xfcc_header(engine, plan, decision)
        if name and list then
            list[#list + 1] = { name, value }
        elseif name then
            set_one(name, value)
            request_headers.note(name)
        end
    end

    if band(flags, PLAN_TOKEN) ~= 0 then
        local claims, are_new = token_issuer.claims(engine, plan)
        if are_new then
            log_left_out(claims)
        end

        if claims and list then
            append(list, claims, false)
        elseif claims then
            set(claims, false)
        end

        token_issuer.set_credentials(engine, plan, ensure_changeable)
    end
end


return _M
