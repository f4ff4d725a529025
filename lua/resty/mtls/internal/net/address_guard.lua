-- Restricts the addresses to which URLs from certificates and from documents of other parties may lead:
-- none that is loopback, link-local or a metadata service of a cloud, unless fetch_allow names it. The HTTP
-- client connects to the addresses that filter() has returned and does not resolve the name again, because it
-- may resolve to another address a moment later (DNS rebinding).

local cidr = require "resty.mtls.internal.net.cidr"


local ipairs = ipairs


-- Loopback, link-local, unspecified, multicast and broadcast addresses; addresses beyond link-local at which
-- clouds serve metadata and credentials to machines; and the IPv6 forms that a translator (NAT64,
-- 6to4, SIIT) or an old stack maps to any of these. IPv4-mapped forms match as IPv4.
local FORBIDDEN = assert(cidr.parse {
    "0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255",
    -- Alibaba; Azure; Oracle, within the IETF protocol assignments
    "100.100.100.200", "168.63.129.16", "192.0.0.0/24",
    "::/96", "::ffff:0:0:0/96", "fe80::/10", "ff00::/8",
    -- AWS; Google; Oracle; Scaleway
    "fd00:ec2::/32", "fd20:ce::254", "fd00:c1::a9fe:a9fe", "fd00:42::42",
    "64:ff9b::/104", "64:ff9b::7f00:0/104", "64:ff9b::a9fe:0/112", "64:ff9b::e000:0/100", "64:ff9b::ffff:ffff",
    "64:ff9b::6464:64c8", "64:ff9b::a83f:8110", "64:ff9b::c000:0/120",
    -- RFC 8215: each network chooses which part is the prefix of its translator.
    "64:ff9b:1::/48",
    "2002::/24", "2002:7f00::/24", "2002:a9fe::/32", "2002:e000::/20", "2002:ffff:ffff::/48",
    "2002:6464:64c8::/48", "2002:a83f:8110::/48", "2002:c000::/40",
})


local _M = {}

local allow = assert(cidr.parse {})


-- set: addresses that are permitted although they are forbidden by default; nil keeps the previous set.
-- Returns the set that is in use.
function _M.init(set)
    allow = set or allow

    return allow
end


-- Those of the addresses of host that are permitted; or nil and an error when none is.
function _M.filter(addresses, host)
    local permitted = {}
    for _, address in ipairs(addresses) do
        if not FORBIDDEN:match(address) or allow:match(address) then
            permitted[#permitted + 1] = address
        end
    end

    if permitted[1] then
        return permitted
    end

    local what = "a loopback, link-local or other special address that fetch_allow does not name"
    if addresses[1] == host then
        return nil, host .. " is " .. what
    end

    return nil, "host resolves to " .. addresses[1] .. ", " .. what
end


return _M
