-- Header lines as the library makes them.

local ffi = require "ffi"
local lib = require "resty.mtls.lib"
local STATUS = require "resty.mtls.cdef"


local C = lib.C
local OK = STATUS.OK
local NOT_FOUND = STATUS.NOT_FOUND
local error = error
local ngx_log = ngx.log
local tonumber = tonumber

local WARN = ngx.WARN
-- What rmtls_lines_until tells of lines that never change, as near as a double comes.
local NEVER = 2 ^ 63

local LEFT_OUT = {
    [STATUS.LINE_TOO_LARGE] = "too_large",
    [STATUS.LINE_AMBIGUOUS] = "ambiguous",
    [STATUS.LINE_NOT_TEXT] = "not_text",
    [STATUS.LINE_UNREADABLE] = "unreadable",
}


-- For all: nothing yields between writing and reading them. No name is over 127 bytes and no value
-- over 64 KB.
local kind_out = ffi.new("int32_t[1]")
local name_buf = lib.buffer(256)
local value_buf = lib.buffer(131072)


local _M = {}


-- Logs that a header is left out; count(reason), if given, is called.
function _M.left_out(kind, name, why, count)
    ngx_log(WARN, "[mtls] header ", name, " left out: ", why)
    if count then
        count(LEFT_OUT[kind])
    end
end


-- Calls each(kind, name, value) for every line that make(out) gives; answers the second until which
-- they hold, or nil and the status.
local function walk(make, each)
    local lines, status = lib.handle("rmtls_lines", make, C.rmtls_lines_free)
    if not lines then
        return nil, status
    end

    for i = 0, math.huge do
        local got = C.rmtls_lines_get(lines, i, kind_out, name_buf, value_buf)
        if got == NOT_FOUND then
            break
        end

        if got ~= OK then
            error(select(2, lib.failure("header line " .. i, got)))
        end

        each(kind_out[0], lib.text(name_buf), lib.text(value_buf))
    end

    local hold = ffi.new("int64_t[1]")
    C.rmtls_lines_until(lines, hold)

    return tonumber(hold[0])
end


-- The lines of a request: { name, value, name, value, ..., forwarding = { name, value, ... } or nil,
-- xfcc = value or nil, expires = second or nil }, or nil and the status. Logs what is left out;
-- count(reason), if given, is called for each.
function _M.of_request(make, count)
    local lines = {}
    local expires, status = walk(make, function(kind, name, value)
        if kind == STATUS.LINE_ALWAYS then
            lines[#lines + 1] = name
            lines[#lines + 1] = value

        elseif kind == STATUS.LINE_FORWARDING then
            local forwarding = lines.forwarding or {}
            forwarding[#forwarding + 1] = name
            forwarding[#forwarding + 1] = value
            lines.forwarding = forwarding

        elseif kind == STATUS.LINE_XFCC then
            lines.xfcc = value

        else
            _M.left_out(kind, name, value, count)
        end
    end)
    if not expires then
        return nil, status
    end

    if expires < NEVER then
        lines.expires = expires
    end

    return lines
end


-- The headers of a dialect: name -> value, and those left out: name -> reason, or nil. nil, nil and
-- the status on failure.
function _M.of_certificate(make)
    local headers = {}
    local left_out
    local expires, status = walk(make, function(kind, name, value)
        if kind == STATUS.LINE_ALWAYS then
            headers[name] = value
        else
            left_out = left_out or {}
            left_out[name] = value
        end
    end)
    if not expires then
        return nil, nil, status
    end

    return headers, left_out
end


-- Properties by name, or nil and the status.
function _M.properties(make)
    local properties = {}
    local expires, status = walk(make, function(kind, name, value)
        if kind == STATUS.LINE_FLAG then
            properties[name] = value == "1"
        else
            properties[name] = value
        end
    end)
    if not expires then
        return nil, status
    end

    return properties
end


return _M
