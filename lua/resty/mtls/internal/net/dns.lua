-- Resolves host names for http.lua. nginx's own resolver does not return the address that it connects to,
-- which must be checked by address_guard.lua first. No `resolver` directive is needed.
--
-- A name is looked up in the hosts file, then at the nameservers of resolv.conf over UDP, and over TCP when
-- the response is truncated. Search domains are not applied, as in nginx: every name is a full name.

local bit = require "bit"
local ffi = require "ffi"
local lrucache = require "resty.lrucache"
local cidr = require "resty.mtls.internal.net.cidr"
local shortage = require "resty.mtls.internal.shortage"


local byte = string.byte
local char = string.char
local find = string.find
local floor = math.floor
local lower = string.lower
local min = math.min
local ngx_now = ngx.now
local sub = string.sub
local tcp = ngx.socket.tcp
local udp = ngx.socket.udp


local A, CNAME, AAAA = 1, 5, 28
local NXDOMAIN = 3
local PORT = 53
local MAX_NAMESERVERS = 3
local MAX_ADDRESSES = 16
local MAX_ALIASES = 16
-- Datagrams that one try reads; more are taken for a flood.
local MAX_DATAGRAMS = 20
local ROUNDS = 2
-- Seconds
local TRY_TIMEOUT = 2
local SECOND_FAMILY_TIMEOUT = 0.1
local MAX_TTL = 300
local CHECK_INTERVAL = 30
local MAX_FILE = 1024 * 1024
-- A connection pool that stays empty: connections of other code must not be reused.
local POOL = { pool = "resty.mtls.internal.net.dns" }
-- Why decode() returns no addresses, other than an error of the nameserver.
local OTHER_QUESTION = "other"
local TRUNCATED = "truncated"
local NO_SUCH_NAME = "nxdomain"
local LOCALHOST = { "127.0.0.1", "::1" }


ffi.cdef [[
int RAND_bytes(unsigned char *buf, int num);
]]


local random = ffi.new("unsigned char[4]")
local cache = lrucache.new(256)


local _M = {}


-- "192.0.2.1", "192.0.2.1:53", "2001:db8::1" or "[2001:db8::1]:53"; nil for anything else.
local function nameserver(text)
    local host, port = text:match("^%[(.*)%]:(%d+)$")
    if not host then
        host, port = text:match("^([%d.]+):(%d+)$")
    end

    host = host or text
    port = port and tonumber(port) or PORT
    if not cidr.family(host) or port < 1 or port > 65535 then
        return nil
    end

    return { host = find(host, ":", 1, true) and "[" .. host .. "]" or host, port = port }
end


local function read_resolv_conf(text)
    local servers = {}
    for line in text:gmatch("[^\n]+") do
        local address = line:match("^%s*nameserver%s+(%S+)")
        -- A cosocket cannot connect to a link-local nameserver with a zone, which is skipped.
        local server = address and nameserver(address)
        if server and #servers < MAX_NAMESERVERS then
            servers[#servers + 1] = server
        end
    end

    -- The C library's default.
    return servers[1] and servers or { nameserver("127.0.0.1") }
end


local function read_hosts(text)
    local hosts = {}
    for line in text:gmatch("[^\n]+") do
        local address, names = line:gsub("#.*", ""):match("^%s*(%S+)%s+(.*)")
        if address and cidr.family(address) then
            for name in lower(names):gmatch("%S+") do
                hosts[name] = hosts[name] or {}
                table.insert(hosts[name], address)
            end
        end
    end

    return hosts
end


-- A function that returns what parse() makes of a file and reads the file again when it has changed, at most
-- every CHECK_INTERVAL seconds. When this machine lacks something to open the file, the function returns the
-- previous result, or else nil and what is lacking.
local function watched_file(path, parse)
    local text, parsed, read_at

    return function()
        local now = ngx_now()
        if not read_at or now - read_at >= CHECK_INTERVAL then
            local file, _, errno = io.open(path, "rb")
            local lacking = not file and shortage.of_open(errno)
            if lacking then
                return parsed, lacking
            end

            read_at = now
            local fresh = file and file:read(MAX_FILE) or ""
            if file then
                file:close()
            end

            if fresh ~= text then
                text, parsed = fresh, parse(fresh)
            end
        end

        return parsed
    end
end


local nameservers = watched_file("/etc/resolv.conf", read_resolv_conf)
local hosts = watched_file("/etc/hosts", read_hosts)


-- opts: nameservers (a list; default: those of /etc/resolv.conf), hosts_file (default /etc/hosts).
function _M.init(opts)
    if opts.nameservers then
        local servers = {}
        for i, text in ipairs(opts.nameservers) do
            servers[i] = nameserver(text)
            if not servers[i] then
                error("http.init: nameservers[" .. i .. "] '" .. text .. "': expected an IP address, or one with a "
                      .. "port such as 192.0.2.1:53 or [2001:db8::1]:53", 3)
            end
        end

        nameservers = function()
            return servers
        end
    end

    if opts.hosts_file then
        hosts = watched_file(opts.hosts_file, read_hosts)
    end
end


local function u16(data, at)
    local high, low = byte(data, at, at + 1)
    if not low then
        return nil
    end

    return high * 256 + low
end


-- The name at `at` in lower case, and where it ends; nil if it is malformed.
local function read_name(data, at)
    local labels = {}
    local size, jumps, after = 0, 0, nil
    while true do
        local n = byte(data, at)
        if not n then
            return nil
        end

        if n == 0 then
            return table.concat(labels, "."), after or at + 1
        end

        if n >= 192 then
            local target = u16(data, at)
            jumps = jumps + 1
            if not target or jumps > MAX_ALIASES then
                return nil
            end

            after = after or at + 2
            at = target - 192 * 256 + 1

        else
            local label = sub(data, at + 1, at + n)
            size = size + n + 1
            if n > 63 or #label < n or size > 255 then
                return nil
            end

            labels[#labels + 1] = lower(label)
            at = at + n + 1
        end
    end
end


local function encode(id, name, rtype)
    local labels = name:gsub("([^.]+)%.?", function(label)
        return char(#label) .. label
    end)

    -- Recursion desired, one question, class IN
    return char(floor(id / 256), id % 256, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0) .. labels .. char(0, 0, rtype, 0, 1)
end


-- Decodes a response to the query for `name` and `rtype`: a list of addresses, which may be empty, and the
-- seconds for which it is valid; or nil and one of
--   OTHER_QUESTION   it is a response to another query
--   TRUNCATED        the query must be sent again over TCP
--   NO_SUCH_NAME
--   any other text: an error of the nameserver
function _M.decode(data, name, rtype)
    local flags, questions, answers = u16(data, 3), u16(data, 5), u16(data, 7)
    if #data < 12 or flags < 0x8000 then
        return nil, OTHER_QUESTION
    end

    local rcode = flags % 16
    if questions == 0 and rcode ~= 0 then
        return nil, "answers with code " .. rcode
    end

    local question, at = read_name(data, 13)
    if questions ~= 1 or question ~= name or u16(data, at) ~= rtype or u16(data, at + 2) ~= 1 then
        return nil, OTHER_QUESTION
    end

    if rcode == NXDOMAIN then
        return nil, NO_SUCH_NAME
    end

    if rcode ~= 0 then
        return nil, "answers with code " .. rcode
    end

    if bit.band(flags, 0x200) ~= 0 then
        return nil, TRUNCATED
    end

    at = at + 4
    local alias, found, ttls = {}, {}, {}
    for _ = 1, answers do
        local owner, after = read_name(data, at)
        local size = owner and u16(data, after + 8)
        if not size or after + 9 + size > #data then
            return nil, "answers with a malformed record"
        end

        local record, class = u16(data, after), u16(data, after + 2)
        local ttl = u16(data, after + 4) * 65536 + u16(data, after + 6)
        local start = after + 10
        at = start + size
        if class == 1 and record == CNAME then
            local target = read_name(data, start)
            if not target then
                return nil, "answers with a malformed record"
            end

            alias[owner] = target
            ttls[owner] = min(ttls[owner] or ttl, ttl)

        elseif class == 1 and record == rtype then
            if size ~= (rtype == A and 4 or 16) then
                return nil, "answers with a malformed record"
            end

            local list = found[owner] or {}
            if #list < MAX_ADDRESSES then
                list[#list + 1] = cidr.text(sub(data, start, at - 1))
            end

            found[owner] = list
            ttls[owner] = min(ttls[owner] or ttl, ttl)
        end
    end

    local ttl = MAX_TTL
    for _ = 1, MAX_ALIASES do
        ttl = min(ttl, ttls[name] or ttl)
        if found[name] or not alias[name] then
            return found[name] or {}, ttl
        end

        name = alias[name]
    end

    return nil, "answers with a chain of over " .. MAX_ALIASES .. " aliases"
end


local function query_over_tcp(server, query, deadline)
    local sock = tcp()
    sock:settimeout(math.max(1, floor((deadline - ngx_now()) * 1000)))
    local ok, err = sock:connect(server.host, server.port, POOL)
    if not ok then
        local lacking = shortage.of_connect(err, server.host, server.port)
        return nil, lacking or err, lacking
    end

    local data
    ok, err = sock:send(char(floor(#query / 256), #query % 256) .. query)
    if ok then
        data, err = sock:receive(2)
    end

    if data then
        data, err = sock:receive(u16(data, 1))
    end

    sock:close()
    local lacking = not data and shortage.of(err)

    return data, lacking or err, lacking
end


-- Reads the response in a datagram, or the one over TCP if that is truncated. Returns what decode() returns,
-- and third what this machine lacks.
local function read_response(server, data, id, name, rtype, query, deadline)
    if u16(data, 1) ~= id then
        return nil, OTHER_QUESTION
    end

    local found, detail = _M.decode(data, name, rtype)
    if detail ~= TRUNCATED then
        return found, detail
    end

    local whole, err, lacking = query_over_tcp(server, query, deadline)
    if not whole then
        return nil, err, lacking
    end

    found, detail = _M.decode(whole, name, rtype)
    if detail == OTHER_QUESTION or u16(whole, 1) ~= id then
        return nil, "answers another query over TCP"
    end

    return found, detail
end


-- One try: queries one nameserver for both families at once. A list of addresses and their lifetime; or nil,
-- an error, true if it is final, and what this machine lacks.
local function query_server(server, name, deadline)
    if ffi.C.RAND_bytes(random, 4) ~= 1 then
        local lacking = shortage.of("no random numbers")
        return nil, lacking, false, lacking
    end

    local sock = udp()
    local ok, err = sock:setpeername(server.host, server.port)
    if not ok then
        local lacking = shortage.of_connect(err, server.host, server.port)
        return nil, lacking or err, false, lacking
    end

    local ids = { [A] = random[0] * 256 + random[1], [AAAA] = random[2] * 256 + random[3] }
    local queries = {}
    for rtype, id in pairs(ids) do
        queries[rtype] = encode(id, name, rtype)
        ok, err = sock:send(queries[rtype])
        if not ok then
            sock:close()
            local lacking = shortage.of(err)
            return nil, lacking or err, false, lacking
        end
    end

    local answers, lifetime, absent, failure, lacking = {}, MAX_TTL, false, nil, nil
    for _ = 1, MAX_DATAGRAMS do
        local left = floor((deadline - ngx_now()) * 1000)
        if left < 1 or not next(ids) then
            break
        end

        sock:settimeout(left)
        local data
        data, err = sock:receive()
        if not data then
            lacking = lacking or shortage.of(err)
            failure = failure or err
            break
        end

        for rtype, id in pairs(ids) do
            local found, detail, missing = read_response(server, data, id, name, rtype, queries[rtype], deadline)
            lacking = lacking or missing
            if detail ~= OTHER_QUESTION then
                ids[rtype] = nil
            end

            if found then
                answers[rtype] = found
                lifetime = min(lifetime, found[1] and detail or lifetime)
                if found[1] then
                    deadline = min(deadline, ngx_now() + SECOND_FAMILY_TIMEOUT)
                end

            elseif detail == NO_SUCH_NAME then
                absent = true

            elseif detail ~= OTHER_QUESTION then
                failure = detail
            end
        end
    end

    sock:close()

    local addresses = answers[A] or {}
    for _, address in ipairs(answers[AAAA] or {}) do
        addresses[#addresses + 1] = address
    end

    if addresses[1] then
        return addresses, lifetime
    end

    if absent then
        return nil, "no such name", true
    end

    if answers[A] and answers[AAAA] then
        return nil, "the name has no address", true
    end

    return nil, "nameserver " .. server.host .. " port " .. server.port .. ": " .. (lacking or failure or "timeout"),
           false, lacking
end


-- The addresses of a host name (lower case, no trailing dot), IPv4 first; or nil, an error, and "shortage" if
-- this machine lacks something. deadline: seconds, as in ngx.now().
function _M.lookup(name, deadline)
    -- RFC 6761, 6.3
    if name == "localhost" or name:find("%.localhost$") then
        return LOCALHOST
    end

    local named, lacking = hosts()
    local addresses = named and named[name] or cache:get(name)
    if addresses then
        return addresses
    end

    local servers
    if named then
        servers, lacking = nameservers()
    end

    if not named or not servers then
        return nil, lacking, shortage.KIND
    end

    local err = "timeout"
    local kind
    for _ = 1, ROUNDS do
        for _, server in ipairs(servers) do
            local now = ngx_now()
            if now >= deadline then
                return nil, err, kind
            end

            local found, detail, final, missing = query_server(server, name, min(deadline, now + TRY_TIMEOUT))
            if found then
                if detail > 0 then
                    cache:set(name, found, detail)
                end

                return found
            end

            err = detail
            if final then
                return nil, err
            end

            kind = kind or missing and shortage.KIND
        end
    end

    return nil, err, kind
end


return _M
