-- Reads the header lines that the library makes for one certificate.

local ffi = require "ffi"
local library = require "resty.mtls.internal.library"
local CONST = require "resty.mtls.internal.cdef"


local C = library.C
local OK = CONST.OK
local NOT_FOUND = CONST.NOT_FOUND
local LINE_ALWAYS = CONST.HEADER_LINE_ALWAYS
local error = error
local ffi_str = ffi.string
local pairs = pairs


-- One for all requests, since nothing yields between writing and reading them.
local line = ffi.new("rmtls_header_line")


local _M = {
    -- The library writes here the lines that the functions below read and free.
    out = ffi.new("rmtls_header_lines *[1]"),
}

local out = _M.out


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


-- The headers of a dialect for a certificate: name -> value, and those left out: name -> reason, or nil. nil, nil
-- and the status on failure.
function _M.of_certificate(status)
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


-- Properties by name, or nil and the status.
function _M.properties(status)
    local properties, flags, err = _M.of_certificate(status)
    if not properties then
        return nil, err
    end

    for name, value in pairs(flags or {}) do
        properties[name] = value == "1"
    end

    return properties
end


return _M
