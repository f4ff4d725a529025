-- Upstream headers: reads the header lines that the library makes.

local ffi = require "ffi"
local library = require "resty.mtls.internal.library"
local CONST = require "resty.mtls.internal.cdef"


local C = library.C
local OK = CONST.OK
local NOT_FOUND = CONST.NOT_FOUND
local LINE_ALWAYS = CONST.HEADER_LINE_ALWAYS
local LINE_FORWARDING = CONST.HEADER_LINE_FORWARDING
local LINE_XFCC = CONST.HEADER_LINE_XFCC
local error = error
local ffi_str = ffi.string
local ngx_log = ngx.log
local pairs = pairs
local tonumber = tonumber

local WARN = ngx.WARN
-- What rmtls_header_lines_until returns for lines that never change, as a double.
local NEVER = 2 ^ 63

local LEFT_OUT = {
    [CONST.HEADER_LINE_TOO_LARGE] = "too_large",
    [CONST.HEADER_LINE_AMBIGUOUS] = "ambiguous",
    [CONST.HEADER_LINE_NOT_TEXT] = "not_text",
    [CONST.HEADER_LINE_UNREADABLE] = "unreadable",
}


-- One for all requests, since nothing yields between writing and reading them.
local line = ffi.new("rmtls_header_line")
local expiry = ffi.new("int64_t[1]")


local _M = {
    -- The library writes here the lines that the functions below read and free.
    out = ffi.new("rmtls_header_lines *[1]"),
}

local out = _M.out


-- Logs that a header is left out; count(reason), if given, is called.
function _M.left_out(kind, name, why, count)
    ngx_log(WARN, "[mtls] header ", name, " left out: ", why)
    if count then
        count(LEFT_OUT[kind])
    end
end


-- The kind, name and value of a line, or nil after the last.
local function get(lines, index)
    local status = C.rmtls_header_lines_get(lines, index, line)
    if status == OK then
        return line.kind, ffi_str(line.name, line.name_len), ffi_str(line.value, line.value_len)
    end

    if status ~= NOT_FOUND then
        C.rmtls_header_lines_free(lines)
        error(select(2, library.failure("header line " .. index, status)))
    end
end


-- The lines of a request: { name, value, name, value, ..., forwarding = { name, value, ... } or nil,
-- xfcc = value or nil, expires = second or nil }, or nil and the status. Logs headers that are left out;
-- count(reason), if given, is called for each.
--
-- It runs at the first request of each client, so it creates neither a closure nor a finalizer.
function _M.of_request(status, count)
    if status ~= OK then
        return nil, status
    end

    local all = out[0]
    local lines = {}
    local index = 0
    local kind, name, value = get(all, 0)
    while kind do
        if kind == LINE_ALWAYS then
            lines[#lines + 1] = name
            lines[#lines + 1] = value

        elseif kind == LINE_FORWARDING then
            local forwarding = lines.forwarding or {}
            forwarding[#forwarding + 1] = name
            forwarding[#forwarding + 1] = value
            lines.forwarding = forwarding

        elseif kind == LINE_XFCC then
            lines.xfcc = value

        else
            _M.left_out(kind, name, value, count)
        end

        index = index + 1
        kind, name, value = get(all, index)
    end

    C.rmtls_header_lines_until(all, expiry)
    C.rmtls_header_lines_free(all)
    local expires = tonumber(expiry[0])
    if expires < NEVER then
        lines.expires = expires
    end

    return lines
end


-- Values by name and, if there are any, those of lines of other kinds by name; or nil, nil and the status.
local function by_name(status)
    if status ~= OK then
        return nil, nil, status
    end

    local all = out[0]
    local values, others = {}, nil
    local index = 0
    local kind, name, value = get(all, 0)
    while kind do
        if kind == LINE_ALWAYS then
            values[name] = value
        else
            others = others or {}
            others[name] = value
        end

        index = index + 1
        kind, name, value = get(all, index)
    end

    C.rmtls_header_lines_free(all)

    return values, others
end


-- The headers of a dialect: name -> value, and those left out: name -> reason, or nil. nil, nil and
-- the status on failure.
function _M.of_certificate(status)
    return by_name(status)
end


-- Properties by name, or nil and the status.
function _M.properties(status)
    local properties, flags, err = by_name(status)
    if not properties then
        return nil, err
    end

    for name, value in pairs(flags or {}) do
        properties[name] = value == "1"
    end

    return properties
end


return _M
