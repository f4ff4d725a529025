-- Parses http and https URLs, strictly, because most are from certificates and documents of other parties.

local cidr = require "resty.mtls.internal.net.cidr"


local _M = {}


local MAX_URL = 2048
local MAX_HOST = 253
local DEFAULT_PORTS = { http = 80, https = 443 }


local function printable(text)
    return (text:gsub("[^\32-\126]", "?"):sub(1, 40))
end
_M.printable = printable


-- A URL or path for the log: the query may contain a secret.
function _M.without_query(text)
    return text:match("^[^?]*")
end


-- A host in lower case without a trailing dot, and its address if it is a literal address (IPv6 in
-- brackets); or nil, nil and an error.
local function read_host(text)
    local literal = text:match("^%[(.*)%]$")
    if literal then
        if not literal:find(":", 1, true) or not cidr.family(literal) then
            return nil, nil, "host '" .. printable(text) .. "' is no IPv6 address"
        end

        return literal:lower(), literal:lower()
    end

    local host = text:lower():gsub("%.$", "")
    if host == "" then
        return nil, nil, "has no host"
    end

    if #host > MAX_HOST then
        return nil, nil, "host is over " .. MAX_HOST .. " bytes"
    end

    for label in (host .. "."):gmatch("([^.]*)%.") do
        if label == "" or #label > 63 or not label:find("^[%w_-]+$") then
            return nil, nil, "host '" .. printable(host) .. "' is no host name"
        end
    end

    -- Resolvers and proxies accept other spellings of an address too (127.1, 0x7f000001); these are refused.
    local last = host:match("[^.]*$")
    if last:find("^%d+$") or last:find("^0x%x*$") then
        if cidr.family(host) ~= 4 then
            return nil, nil, "host '" .. printable(host)
                             .. "' is no IPv4 address, expected four numbers such as 192.0.2.1"
        end

        return host, host
    end

    return host
end
_M.host = read_host


-- { scheme, host, address (of a literal host), port, authority (for the Host header), origin,
--   path (with the query) }, or nil and an error.
function _M.parse(text)
    if #text > MAX_URL then
        return nil, "URL is over " .. MAX_URL .. " bytes"
    end

    local bad = text:find("[^\33-\126]")
    if bad then
        return nil, "URL has a byte that must be percent-encoded, number " .. bad
    end

    local scheme, authority, path = text:match("^(%a[%w+.-]*)://([^/?#]*)([^#]*)")
    if not scheme then
        return nil, "URL '" .. printable(text) .. "' does not begin with http:// or https://"
    end

    scheme = scheme:lower()
    local port = DEFAULT_PORTS[scheme]
    if not port then
        return nil, "URL scheme '" .. printable(scheme) .. "' is neither http nor https"
    end

    if authority:find("@", 1, true) then
        return nil, "URL has user info, which is refused"
    end

    local host_part, digits = authority:match("^(.*):(%d*)$")
    if host_part and (not host_part:find(":", 1, true) or host_part:find("^%[.*%]$")) then
        authority = host_part
        if digits ~= "" then
            port = #digits <= 5 and tonumber(digits) or 0
        end

        if port < 1 or port > 65535 then
            return nil, "URL port '" .. printable(digits) .. "' is not from 1 to 65535"
        end
    end

    local host, address, err = read_host(authority)
    if not host then
        return nil, "URL " .. err
    end

    if path:sub(1, 1) ~= "/" then
        path = "/" .. path
    end

    local authority_text = host:find(":", 1, true) and "[" .. host .. "]" or host
    if port ~= DEFAULT_PORTS[scheme] then
        authority_text = authority_text .. ":" .. port
    end

    return {
        scheme = scheme,
        host = host,
        address = address,
        port = port,
        authority = authority_text,
        origin = scheme .. "://" .. authority_text,
        path = path,
    }
end


-- RFC 3986, 5.2.4
local function without_dots(path)
    local result = {}
    local segments = {}
    for segment in path:gmatch("/([^/]*)") do
        segments[#segments + 1] = segment
    end

    for i, segment in ipairs(segments) do
        if segment == ".." then
            result[#result] = nil
        end

        if segment ~= "." and segment ~= ".." then
            result[#result + 1] = segment
        elseif i == #segments then
            result[#result + 1] = ""
        end
    end

    return "/" .. table.concat(result, "/")
end


-- Resolves a reference against the parsed URL `base`: a parsed URL, or nil and an error.
function _M.resolve(base, reference)
    reference = reference:gsub("#.*", "")
    if reference:find("^%a[%w+.-]*:") then
        return _M.parse(reference)
    end

    if reference:sub(1, 2) == "//" then
        return _M.parse(base.scheme .. ":" .. reference)
    end

    local path, query = reference:match("^([^?]*)(.*)$")
    local base_path, base_query = base.path:match("^([^?]*)(.*)$")
    if path == "" then
        path = base_path
        query = query == "" and base_query or query
    elseif path:sub(1, 1) ~= "/" then
        path = base_path:match("^(.*/)") .. path
    end

    return _M.parse(base.origin .. without_dots(path) .. query)
end


-- Whether two URLs have the same scheme, host and port.
function _M.same_origin(a, b)
    local first, second = _M.parse(a), _M.parse(b)

    return first ~= nil and second ~= nil and first.origin == second.origin
end


return _M
