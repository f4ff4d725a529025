-- Sets of IPv4 and IPv6 networks.
--
--     local set = assert(cidr.parse { "10.0.0.0/8", "2001:db8::/32", "192.0.2.7" })
--     set:match("10.1.2.3")    -- true

local bit = require "bit"
local ffi = require "ffi"


local C = ffi.C
local band = bit.band
local bor = bit.bor
local byte = string.byte
local error = error
local ffi_str = ffi.string
local find = string.find
local lshift = bit.lshift
local rshift = bit.rshift
local sub = string.sub
local tonumber = tonumber
local type = type


-- As in Linux.
local AF_INET = 2
local AF_INET6 = 10
-- "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255"
local MAX_TEXT = 45
local UNIX = "unix:"
local U, COLON = byte("u:", 1, 2)
local EXPECTED = "expected an IPv4 or IPv6 address, with or without a prefix length, such as 10.0.0.0/8"


ffi.cdef [[
int inet_pton(int af, const char *src, void *dst);
const char *inet_ntop(int af, const void *src, char *dst, unsigned int size);
]]


local octets = ffi.new("uint8_t[16]")
local text_buffer = ffi.new("char[?]", MAX_TEXT + 1)


local _M = {}
local mt = { __index = _M }


local function word(at)
    return bor(lshift(octets[at], 24), lshift(octets[at + 1], 16), lshift(octets[at + 2], 8), octets[at + 3])
end


-- The family, 4 or 6, and one or four words; nil if text is not an address. An IPv4-mapped IPv6 address is
-- read as IPv4, since it is how a dual-stack socket represents an IPv4 peer.
local function read(text)
    -- inet_pton() would ignore everything after a NUL.
    if #text > MAX_TEXT or find(text, "\0", 1, true) then
        return nil
    end

    if not find(text, ":", 1, true) then
        if C.inet_pton(AF_INET, text, octets) ~= 1 then
            return nil
        end

        return 4, word(0)
    end

    if C.inet_pton(AF_INET6, text, octets) ~= 1 then
        return nil
    end

    local a, b, c, d = word(0), word(4), word(8), word(12)
    if a == 0 and b == 0 and c == 0xffff then
        return 4, d
    end

    return 6, a, b, c, d
end


-- 4 or 6; nil if text is not an address. An IPv4-mapped IPv6 address counts as 4.
function _M.family(text)
    return (read(text))
end


-- The text of an address of 4 or 16 octets.
function _M.text(address)
    return ffi_str(C.inet_ntop(#address == 4 and AF_INET or AF_INET6, address, text_buffer, MAX_TEXT + 1))
end


-- The mask that a prefix length has for the word `index` (from 0).
local function mask(prefix, index)
    local bits = prefix - 32 * index
    if bits <= 0 then
        return 0
    end

    return bits >= 32 and -1 or lshift(-1, 32 - bits)
end


local function text_of(words)
    local characters = {}
    for _, w in ipairs(words) do
        for shift = 24, 0, -8 do
            characters[#characters + 1] = string.char(band(rshift(w, shift), 255))
        end
    end

    return _M.text(table.concat(characters))
end


local function add(set, text)
    local address, length = text:match("^(.*)/(.*)$")
    address = address or text
    local words = { read(address) }
    local family = table.remove(words, 1)
    if not family then
        return nil, EXPECTED
    end

    local max_prefix = 32 * #words
    local prefix = max_prefix
    if length then
        -- The prefix length of an IPv4-mapped address counts the bits of IPv6.
        local mapped = family == 4 and find(address, ":", 1, true) and 96 or 0
        prefix = length:match("^%d%d?%d?$") and tonumber(length) - mapped
        if not prefix or prefix < 0 or prefix > max_prefix then
            return nil, "expected a prefix length from " .. mapped .. " to " .. mapped + max_prefix
        end
    end

    local has_host_bits = false
    for i, w in ipairs(words) do
        local masked = band(w, mask(prefix, i - 1))
        has_host_bits = has_host_bits or masked ~= w
        words[i] = masked
    end

    if has_host_bits then
        return nil, "has bits set beyond its prefix length, expected " .. text_of(words) .. "/" .. prefix
    end

    local list = family == 4 and set.v4 or set.v6
    for i, w in ipairs(words) do
        list[#list + 1] = w
        list[#list + 1] = mask(prefix, i - 1)
    end

    return true
end


-- list: networks and addresses; with allow_unix also "unix:", the peers of Unix sockets. A set, or nil and an
-- error that begins with the index in the list: "[2] '10.0.0.0/33': expected ...".
function _M.parse(list, allow_unix)
    if type(list) ~= "table" then
        error("list must be a table", 2)
    end

    local set = { v4 = {}, v6 = {} }
    for i, text in ipairs(list) do
        if type(text) ~= "string" then
            return nil, "[" .. i .. "] must be a string, got " .. type(text)
        end

        local ok, err = true
        if allow_unix and text == UNIX then
            set.unix = true
        else
            ok, err = add(set, text)
        end

        if not ok then
            if allow_unix and err == EXPECTED then
                err = err .. ", or unix:"
            end

            return nil, "[" .. i .. "] '" .. text:gsub("[^\32-\126]", "?"):sub(1, 60) .. "': " .. err
        end
    end

    return setmetatable(set, mt)
end


function _M:is_empty()
    return #self.v4 == 0 and #self.v6 == 0 and not self.unix
end


-- Whether the address `ip` (text) is in the set; false if it is not an address. The peer of a Unix socket is
-- "unix:", with its path if it has one. Allocates nothing. Compares one network after the other, which suits
-- lists of tens.
function _M:match(ip)
    if type(ip) ~= "string" then
        return false
    end

    -- No address begins like this.
    if byte(ip, 1) == U and byte(ip, 5) == COLON then
        return self.unix == true and sub(ip, 1, #UNIX) == UNIX
    end

    local family, a, b, c, d = read(ip)
    if family == 4 then
        local v4 = self.v4
        for i = 1, #v4, 2 do
            if band(a, v4[i + 1]) == v4[i] then
                return true
            end
        end

    elseif family == 6 then
        local v6 = self.v6
        for i = 1, #v6, 8 do
            if band(a, v6[i + 1]) == v6[i] and band(b, v6[i + 3]) == v6[i + 2]
               and band(c, v6[i + 5]) == v6[i + 4] and band(d, v6[i + 7]) == v6[i + 6]
            then
                return true
            end
        end
    end

    return false
end


return _M
