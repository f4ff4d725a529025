-- Addresses of host names, for http.lua: nginx's own resolver keeps the address it connects to to
-- itself, and a fetch must judge it first. Needs no `resolver` directive.
--
-- Looks into the hosts file, then asks the nameservers of resolv.conf over UDP, and over TCP when
-- an answer does not fit. Search domains are not applied, as in nginx: a name is a full name.

local bit = require "bit"
local ffi = require "ffi"
local lrucache = require "resty.lrucache"
local cidr = require "resty.mtls.internal.net.cidr"
local shortage = require "resty.mtls.internal.shortage"


local byte = string.byte
local char = string.char
local error = error
local find = string.find
local floor = math.floor
local lower = string.lower
local min = math.min
local ngx_now = ngx.now
local sub = string.sub
local tcp = ngx.socket.tcp
local tonumber = tonumber
local udp = ngx.socket.udp


local A, CNAME, AAAA = 1, 5, 28
local NXDOMAIN = 3
local PORT = 53
local MAX_NAMESERVERS = 3
local MAX_ADDRESSES = 16
local MAX_ALIASES = 16
-- Datagrams looked at in one try: more is a flood.
local MAX_DATAGRAMS = 20
local ROUNDS = 2
-- Seconds
local TRY_TIMEOUT = 2
local SECOND_FAMILY_TIMEOUT = 0.1
local MAX_TTL = 300
local REREAD = 30
local MAX_FILE = 1024 * 1024
-- A pool that nobody fills: connections of other code must not be reused here.
local POOL = { pool = "resty.mtls.internal.net.dns" }
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
        -- A link-local nameserver with a zone is none that a cosocket can reach.
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


-- A function that gives what parse makes of a file, and notices within REREAD seconds that it changed.
-- A file that this machine cannot open for a shortage of its own is no empty one: the function gives
-- what it read before, else nil and what is short.
local function watched(path, parse)
    local text, parsed, read_at

    return function()
        local now = ngx_now()
        if not read_at or now - read_at >= REREAD then
            local file, _, errno = io.open(path, "rb")
            local short = not file and shortage.of_open(errno)
            if short then
                return parsed, short
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


local nameservers = watched("/etc/resolv.conf", read_resolv_conf)
local hosts = watched("/etc/hosts", read_hosts)


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
        hosts = watched(opts.hosts_file, read_hosts)
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


-- What an answer to the question for `name` and `rtype` says: a list of addresses, which may be
-- empty, and the seconds for which it holds; or nil and one of
--   "other"       it answers another question
--   "truncated"   ask again over TCP
--   "nxdomain"    there is no such name
--   anything else: the nameserver failed, in words
function _M.decode(data, name, rtype)
    local flags, questions, answers = u16(data, 3), u16(data, 5), u16(data, 7)
    if #data < 12 or flags < 0x8000 then
        return nil, "other"
    end

    local rcode = flags % 16
    if questions == 0 and rcode ~= 0 then
        return nil, "answers with code " .. rcode
    end

    local asked, at = read_name(data, 13)
    if questions ~= 1 or asked ~= name or u16(data, at) ~= rtype or u16(data, at + 2) ~= 1 then
        return nil, "other"
    end

    if rcode == NXDOMAIN then
        return nil, "nxdomain"
    end

    if rcode ~= 0 then
        return nil, "answers with code " .. rcode
    end

    if bit.band(flags, 0x200) ~= 0 then
        return nil, "truncated"
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


local function ask_over_tcp(server, query, deadline)
    local sock = tcp()
    sock:settimeout(math.max(1, floor((deadline - ngx_now()) * 1000)))
    local ok, err = sock:connect(server.host, server.port, POOL)
    if not ok then
        local short = shortage.of_connect(err, server.host, server.port)
        return nil, short or err, short
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
    local short = not data and shortage.of(err)

    return data, short or err, short
end


-- The answer in a datagram, or in what the nameserver says over TCP when that is cut short: as
-- decode(), and third what is short here, if something is.
local function read_answer(server, data, id, name, rtype, query, deadline)
    if u16(data, 1) ~= id then
        return nil, "other"
    end

    local found, detail = _M.decode(data, name, rtype)
    if detail ~= "truncated" then
        return found, detail
    end

    local whole, err, short = ask_over_tcp(server, query, deadline)
    if not whole then
        return nil, err, short
    end

    found, detail = _M.decode(whole, name, rtype)
    if detail == "other" or u16(whole, 1) ~= id then
        return nil, "answers another question over TCP"
    end

    return found, detail
end


-- One try: asks one nameserver for both families at once. A list of addresses and its lifetime, or
-- nil, an error, true if it is final, and what is short here, if something is.
local function ask(server, name, deadline)
    if ffi.C.RAND_bytes(random, 4) ~= 1 then
        local short = shortage.of("no random numbers")
        return nil, short, false, short
    end

    local sock = udp()
    local ok, err = sock:setpeername(server.host, server.port)
    if not ok then
        local short = shortage.of_connect(err, server.host, server.port)
        return nil, short or err, false, short
    end

    local ids = { [A] = random[0] * 256 + random[1], [AAAA] = random[2] * 256 + random[3] }
    local queries = {}
    for rtype, id in pairs(ids) do
        queries[rtype] = encode(id, name, rtype)
        ok, err = sock:send(queries[rtype])
        if not ok then
            sock:close()
            local short = shortage.of(err)
            return nil, short or err, false, short
        end
    end

    local answers, lifetime, absent, failure, short = {}, MAX_TTL, false, nil, nil
    for _ = 1, MAX_DATAGRAMS do
        local left = floor((deadline - ngx_now()) * 1000)
        if left < 1 or not next(ids) then
            break
        end

        sock:settimeout(left)
        local data
        data, err = sock:receive()
        if not data then
            short = short or shortage.of(err)
            failure = failure or err
            break
        end

        for rtype, id in pairs(ids) do
            local found, detail, lacks = read_answer(server, data, id, name, rtype, queries[rtype], deadline)
            short = short or lacks
            if detail ~= "other" then
                ids[rtype] = nil
            end

            if found then
                answers[rtype] = found
                lifetime = min(lifetime, found[1] and detail or lifetime)
                if found[1] then
                    deadline = min(deadline, ngx_now() + SECOND_FAMILY_TIMEOUT)
                end

            elseif detail == "nxdomain" then
                absent = true

            elseif detail ~= "other" then
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

    return nil, "nameserver " .. server.host .. " port " .. server.port .. ": " .. (short or failure or "timeout"),
           false, short
end


-- The addresses of a host name (lower case, no trailing dot), IPv4 first; or nil, an error, and
-- "shortage" if it is this machine's own. deadline: seconds, as ngx.now() counts.
function _M.lookup(name, deadline)
    -- RFC 6761, 6.3
    if name == "localhost" or name:find("%.localhost$") then
        return LOCALHOST
    end

    local named, lacks = hosts()
    local addresses = named and named[name] or cache:get(name)
    if addresses then
        return addresses
    end

    local servers
    if named then
        servers, lacks = nameservers()
    end

    if not named or not servers then
        return nil, lacks, shortage.KIND
    end

    local err = "timeout"
    local kind
    for _ = 1, ROUNDS do
        for _, server in ipairs(servers) do
            local now = ngx_now()
            if now >= deadline then
                return nil, err, kind
            end

            local found, detail, final, short = ask(server, name, min(deadline, now + TRY_TIMEOUT))
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

            kind = kind or short and shortage.KIND
        end
    end

    return nil, err, kind
end


return _M
