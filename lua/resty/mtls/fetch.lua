-- Fetches small documents over HTTP/1.1 without blocking the worker: OCSP answers, CRLs, discovery
-- documents, keys. Every fetch is bounded in bytes and in time, and a URL that a stranger wrote
-- (into a certificate, into a discovery document) reaches no loopback or link-local address and no
-- metadata service of a cloud.
--
--     fetch.init { allow = cidr.parse { "127.0.0.0/8" } }                    -- init_by_lua*
--     local answer, err = fetch.request { url = url, max_bytes = 10485760 }   -- access_by_lua*, timers
--     local value, err = fetch.cached("mtls", key, { host = host }, function() ... end)
--
-- https uses what nginx.conf says: lua_ssl_trusted_certificate, lua_ssl_verify_depth (default 1,
-- which is short for most public CAs), lua_ssl_protocols. In a timer of init_worker_by_lua* that
-- is what stands at http{} level. Without lua_socket_log_errors off, nginx logs every refused or
-- silent peer at level error, on top of the error that the caller gets.

local lrucache = require "resty.lrucache"
local cidr = require "resty.mtls.cidr"
local dns = require "resty.mtls.dns"
local metrics = require "resty.mtls.metrics"
local shortage = require "resty.mtls.shortage"
local url = require "resty.mtls.url"


local concat = table.concat
local error = error
local find = string.find
local floor = math.floor
local get_phase = ngx.get_phase
local ipairs = ipairs
local lower = string.lower
local md5 = ngx.md5
local min = math.min
local ngx_log = ngx.log
local ngx_now = ngx.now
local ngx_sleep = ngx.sleep
local pairs = pairs
local pcall = pcall
local printable = url.printable
local sub = string.sub
local tcp = ngx.socket.tcp
local tonumber = tonumber
local tostring = tostring
local type = type

local WARN = ngx.WARN


local TIMEOUT = 30000
local MAX_BYTES = 65536
local MAX_REDIRECTS = 3
local MAX_HEAD = 16384
local MAX_CHUNK_LINE = 256
local MAX_INTERIM = 5
local MAX_ADDRESSES = 4
-- What one receive may give, and after how many bytes other requests of the worker get their turn.
local RECEIVE = 16384
local BURST = 131072
-- A pool that nobody fills: a connection that other code kept alive may have verified no one.
local POOL = { pool = "resty.mtls.fetch" }

-- Seconds
local RETRY = 5
local SUSPECT = 60
local MAX_AHEAD = 3600
local POLL = 0.001
local MAX_POLL = 0.1
local LOCAL_ENTRIES = 1000
-- Ended values that are removed in one go.
local MAX_FLUSHED = 100
-- Seconds that a lock outlives the time of its holder.
local GRACE = 1

-- What the cached times of two workers may differ by, in seconds.
local LAG = 1
local VALUE = "fetch:value:"

-- Kinds of errors that say nothing about the host that was to be asked. SHORTAGE: this machine lacks
-- something (resty.mtls.shortage). VOID: what was asked is not wanted any more, because another
-- policy came into force meanwhile.
local SHORTAGE = shortage.KIND
local VOID = "void"

local PHASES = { rewrite = true, access = true, content = true, timer = true }
local REDIRECTS = { [301] = true, [302] = true, [303] = true, [307] = true, [308] = true }

-- Loopback, link-local, unspecified, multicast and broadcast; where clouds tell machines who they
-- are, and hand out credentials, beyond link-local; and the IPv6 forms that a translator (NAT64,
-- 6to4, SIIT) or an old stack makes the same of. IPv4-mapped forms match as IPv4.
local FORBIDDEN = assert(cidr.parse {
    "0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255",
    -- Alibaba; Azure; Oracle, among what IETF protocols keep for themselves
    "100.100.100.200", "168.63.129.16", "192.0.0.0/24",
    "::/96", "::ffff:0:0:0/96", "fe80::/10", "ff00::/8",
    -- AWS; Google; Oracle; Scaleway
    "fd00:ec2::/32", "fd20:ce::254", "fd00:c1::a9fe:a9fe", "fd00:42::42",
    "64:ff9b::/104", "64:ff9b::7f00:0/104", "64:ff9b::a9fe:0/112", "64:ff9b::e000:0/100", "64:ff9b::ffff:ffff",
    "64:ff9b::6464:64c8", "64:ff9b::a83f:8110", "64:ff9b::c000:0/120",
    -- RFC 8215: how much of it is the prefix of a translator is up to each network.
    "64:ff9b:1::/48",
    "2002::/24", "2002:7f00::/24", "2002:a9fe::/32", "2002:e000::/20", "2002:ffff:ffff::/48",
    "2002:6464:64c8::/48", "2002:a83f:8110::/48", "2002:c000::/40",
})

local OPTIONS = {
    url = "string", method = "string", body = "string", content_type = "string", accept = "string",
    headers = "table", timeout = "number", max_bytes = "number", max_redirects = "number",
    ssl_verify = "boolean", http_proxy = "table", https_proxy = "table", origin = "string", kind = "string",
}
local CACHED_OPTIONS = { host = "string", options = "string", timeout = "number", refresh_ahead = "boolean" }
local INIT_OPTIONS = { allow = "table", nameservers = "table", hosts_file = "string" }


local _M = {
    SHORTAGE = SHORTAGE,
    VOID = VOID,
}

local allow = assert(cidr.parse {})
local scope = ""


local function check_options(what, opts, known, level)
    if type(opts) ~= "table" then
        error(what .. ": expected a table of options, got " .. type(opts), level)
    end

    for name, value in pairs(opts) do
        if type(value) ~= known[name] then
            error(what .. ": option '" .. tostring(name) .. "' "
                  .. (known[name] and "must be a " .. known[name] .. ", got " .. type(value) or "is unknown"), level)
        end
    end
end


-- init_by_lua*. allow: a set (resty.mtls.cidr) of addresses that fetches may reach although they
-- are forbidden by default. nameservers, hosts_file: instead of those of /etc/resolv.conf and
-- /etc/hosts.
function _M.init(opts)
    check_options("fetch.init", opts, INIT_OPTIONS, 3)
    if opts.allow and type(opts.allow.match) ~= "function" then
        error("fetch.init: option 'allow' must be what resty.mtls.cidr's parse() gives", 2)
    end

    allow = opts.allow or allow
    dns.init(opts)
    scope = ""
    if not allow:is_empty() or opts.nameservers or opts.hosts_file then
        scope = md5(concat({ concat(allow.v4, ","), concat(allow.v6, ","), concat(opts.nameservers or {}, ","),
                             opts.hosts_file or "" }, ";")) .. ":"
    end
end


-- What the keys of fetched values begin with: the dictionary outlives a reload of nginx.conf, after
-- which fetches may reach other addresses.
function _M.scope()
    return scope
end


-- The milliseconds left, set as the time limit of the next operation; or nil and an error.
local function arm(conn)
    local left = floor((conn.deadline - ngx_now()) * 1000)
    if left < 1 then
        return nil, "timeout"
    end

    conn.sock:settimeout(left)

    return left
end


local function send(conn, data)
    local ok, err = arm(conn)
    if ok then
        ok, err = conn.sock:send(data)
        conn.short = conn.short or not ok and shortage.of(err)
    end

    return ok, err
end


-- Only this reads from the socket. receiveany() takes whatever is there, so that nothing stays
-- in the cosocket's own buffer, and returns as soon as one byte came, so that a peer that drips
-- meets the deadline.
local function fill(conn)
    if conn.burst >= BURST then
        conn.burst = 0
        -- On a plain nginx, sleep(0) comes back before the event loop looks at any socket.
        ngx_sleep(0.001)
    end

    local ok, err = arm(conn)
    if not ok then
        return nil, err
    end

    local data
    data, err = conn.sock:receiveany(RECEIVE)
    if not data then
        conn.short = conn.short or shortage.of(err)

        return nil, err
    end

    conn.burst = conn.burst + #data
    conn.buffer = conn.at > #conn.buffer and data or sub(conn.buffer, conn.at) .. data
    conn.at = 1

    return true
end


-- What comes before `mark`, which is taken too.
local function read_until(conn, mark, limit, what)
    while true do
        local first, last = find(conn.buffer, mark, conn.at, true)
        local size = (first or #conn.buffer + 1) - conn.at
        -- Without the mark, all of it but its last byte may be there.
        if size > (first and limit or limit + #mark - 1) then
            return nil, what .. " is over " .. limit .. " bytes"
        end

        if first then
            local text = sub(conn.buffer, conn.at, first - 1)
            conn.at = last + 1
            return text
        end

        local ok, err = fill(conn)
        if not ok then
            return nil, err == "closed" and "connection closed within the " .. what or err
        end
    end
end


-- Appends the next n bytes to parts.
local function read_bytes(conn, n, parts)
    while n > 0 do
        if conn.at > #conn.buffer then
            local ok, err = fill(conn)
            if not ok then
                return nil, err == "closed" and "connection closed within the body" or err
            end
        end

        local part = sub(conn.buffer, conn.at, conn.at + n - 1)
        conn.at = conn.at + #part
        n = n - #part
        parts[#parts + 1] = part
    end

    return true
end


local function read_chunked(conn, max_bytes)
    local too_long = "body is over " .. max_bytes .. " bytes"
    local too_much_framing = "body has more chunk framing than is allowed for " .. max_bytes .. " bytes"
    local parts, size = {}, 0
    -- Sizes, extensions and trailers are no body, yet they come in through the same pipe.
    local framing = MAX_HEAD + floor(max_bytes / 4)

    while true do
        local line, err = read_until(conn, "\r\n", MAX_CHUNK_LINE, "chunk size")
        if not line then
            return nil, err
        end

        local digits = line:match("^(%x+)[ \t]*$") or line:match("^(%x+)[ \t]*;")
        if not digits then
            return nil, "chunk size '" .. printable(line) .. "' is malformed"
        end

        framing = framing - #line - 4
        if framing < 0 then
            return nil, too_much_framing
        end

        digits = digits:gsub("^0+", "")
        if #digits > 8 then
            return nil, too_long
        end

        local n = tonumber("0" .. digits, 16)
        size = size + n
        if size > max_bytes then
            return nil, too_long
        end

        if n == 0 then
            break
        end

        local ok
        ok, err = read_bytes(conn, n, parts)
        if not ok then
            return nil, err
        end

        local ending
        ending, err = read_until(conn, "\r\n", 0, "chunk")
        if not ending then
            return nil, err == "chunk is over 0 bytes" and "chunk is longer than its size" or err
        end
    end

    repeat
        local line, err = read_until(conn, "\r\n", MAX_HEAD, "trailer")
        if not line then
            return nil, err
        end

        framing = framing - #line - 2
        if framing < 0 then
            return nil, too_much_framing
        end
    until line == ""

    return concat(parts)
end


local function read_to_end(conn, max_bytes)
    local parts, size = {}, 0
    while true do
        local part = sub(conn.buffer, conn.at)
        conn.at = #conn.buffer + 1
        size = size + #part
        if size > max_bytes then
            return nil, "body is over " .. max_bytes .. " bytes"
        end

        parts[#parts + 1] = part
        local ok, err = fill(conn)
        if err == "closed" then
            return concat(parts)
        end

        if not ok then
            return nil, err
        end
    end
end


-- Status and header (names in lower case, repeated ones joined); or nil and an error.
local function read_head(conn)
    local head, err = read_until(conn, "\r\n\r\n", MAX_HEAD, "header")
    if not head then
        return nil, err
    end

    local first, rest = (head .. "\r\n"):match("^(.-)\r\n(.*)$")
    local version, status, reason = first:match("^HTTP/1%.([01]) ([1-5]%d%d)(.*)$")
    if not version or not find(reason, "^$") and not find(reason, "^ [^%c]*$") then
        return nil, "answer begins with '" .. printable(first) .. "', expected HTTP/1.0 or HTTP/1.1 and a status"
    end

    local headers = {}
    for line in rest:gmatch("(.-)\r\n") do
        local name, value = line:match("^([%w!#$%%&'*+.^_`|~-]+):[ \t]*(.-)[ \t]*$")
        if not name or find(value, "[%z\r\n]") then
            return nil, "header line '" .. printable(line) .. "' is malformed"
        end

        name = lower(name)
        headers[name] = headers[name] and headers[name] .. ", " .. value or value
    end

    return tonumber(status), headers, version
end


local function read_body(conn, status, headers, version, max_bytes)
    local coding = headers["content-encoding"]
    if coding and lower(coding) ~= "identity" then
        return nil, "content-encoding '" .. printable(coding) .. "' was not asked for"
    end

    if status == 204 or status == 304 then
        return ""
    end

    local length = headers["content-length"]
    coding = headers["transfer-encoding"]
    if coding then
        if lower(coding) ~= "chunked" or version ~= "1" then
            return nil, "transfer-encoding '" .. printable(coding) .. "' in HTTP/1." .. version
                        .. " is not supported, expected chunked in HTTP/1.1"
        end

        if length then
            return nil, "header has both content-length and transfer-encoding"
        end

        return read_chunked(conn, max_bytes)
    end

    if not length then
        return read_to_end(conn, max_bytes)
    end

    if not find(length, "^%d+$") then
        return nil, "content-length '" .. printable(length) .. "' is no number"
    end

    local n = tonumber(length)
    if n > max_bytes then
        return nil, "body is over " .. max_bytes .. " bytes"
    end

    local parts = {}
    local ok, err = read_bytes(conn, n, parts)
    if not ok then
        return nil, err
    end

    return concat(parts)
end


local function read_answer(conn, max_bytes)
    for _ = 1, MAX_INTERIM do
        local status, headers, version = read_head(conn)
        if not status then
            return nil, headers
        end

        if status == 101 then
            return nil, "answer switches protocols"
        end

        if status >= 200 then
            local body, err = read_body(conn, status, headers, version, max_bytes)
            if not body then
                return nil, err
            end

            return { status = status, headers = headers, body = body }
        end
    end

    return nil, "more than " .. MAX_INTERIM .. " interim answers"
end


-- Those of addresses that a stranger's URL may reach, or nil and an error.
local function permitted(addresses, host)
    local kept = {}
    for _, address in ipairs(addresses) do
        if not FORBIDDEN:match(address) or allow:match(address) then
            kept[#kept + 1] = address
        end
    end

    if kept[1] then
        return kept
    end

    local what = "a loopback, link-local or other special address that fetch_allow does not name"
    if addresses[1] == host then
        return nil, host .. " is " .. what
    end

    return nil, "host resolves to " .. addresses[1] .. ", " .. what
end


local function addresses_of(conn, host)
    if cidr.family(host) then
        return { host }
    end

    local addresses, err, kind = dns.lookup(host, conn.deadline)
    if not addresses then
        conn.short = conn.short or kind == SHORTAGE
        return nil, "host '" .. host .. "' cannot be resolved: " .. err
    end

    return addresses
end


-- Connects to one of the addresses, each of which gets its share of the time that is left.
local function connect(conn, addresses, port)
    local last
    local count = min(#addresses, MAX_ADDRESSES)
    for i = 1, count do
        local left = (conn.deadline - ngx_now()) * 1000
        if left < 1 then
            return nil, last or "timeout"
        end

        local host = addresses[i]
        host = find(host, ":", 1, true) and "[" .. host .. "]" or host
        conn.sock = tcp()
        conn.sock:settimeout(math.max(1, floor(left / (count - i + 1))))
        local ok, err = conn.sock:connect(host, port, POOL)
        if ok then
            return true
        end

        -- Whether another address answers is not known, then.
        local short = shortage.of_connect(err, host, port)
        last = "cannot connect to " .. host .. " port " .. port .. ": " .. (short or err)
        if short then
            conn.short = true
            break
        end
    end

    return nil, last
end


local function tunnel(conn, target)
    local host = target.host
    host = (find(host, ":", 1, true) and "[" .. host .. "]" or host) .. ":" .. target.port
    local ok, err = send(conn, "CONNECT " .. host .. " HTTP/1.1\r\nHost: " .. host .. "\r\n\r\n")
    if not ok then
        return nil, err
    end

    local status, headers = read_head(conn)
    if not status then
        return nil, headers
    end

    if status < 200 or status > 299 then
        return nil, "answers CONNECT with status " .. status
    end

    -- They would be read as if they had come through TLS.
    if conn.at <= #conn.buffer then
        return nil, "sends data before the TLS handshake"
    end

    return true
end


-- One request to one server. The answer, or nil and an error.
local function exchange(conn, target, request, opts, trusted)
    local proxy = opts[target.scheme .. "_proxy"]
    local host, port = target.host, target.port
    local addresses, ok, err

    if proxy then
        -- Only the proxy resolves names; what is an address in any case is judged here.
        if not trusted and (target.address or host == "localhost" or host:find("%.localhost$")) then
            addresses, err = addresses_of(conn, host)
            if addresses then
                addresses, err = permitted(addresses, host)
            end

            if not addresses then
                return nil, err
            end
        end

        host, port = url.host(proxy.host) or proxy.host, proxy.port
    end

    addresses, err = addresses_of(conn, host)
    if addresses and not proxy and not trusted then
        addresses, err = permitted(addresses, host)
    end

    if not addresses then
        return nil, proxy and "proxy: " .. err or err
    end

    ok, err = connect(conn, addresses, port)
    if ok and proxy and target.scheme == "https" then
        ok, err = tunnel(conn, target)
    end

    if not ok then
        return nil, proxy and "proxy: " .. err or err
    end

    if target.scheme == "https" then
        ok, err = arm(conn)
        if ok then
            ok, err = conn.sock:sslhandshake(false, target.host, opts.ssl_verify ~= false)
        end

        if not ok then
            local short = shortage.of(err)
            conn.short = conn.short or short

            return nil, "TLS handshake: " .. (short or err)
        end
    end

    local form = proxy and target.scheme == "http" and target.origin or ""
    ok, err = send(conn, request.method .. " " .. form .. target.path .. request.head .. "Host: " .. target.authority
                         .. "\r\n\r\n" .. (request.body or ""))
    if not ok then
        return nil, err
    end

    return read_answer(conn, opts.max_bytes or MAX_BYTES)
end


local function head_of(opts, with_headers)
    local lines = { " HTTP/1.1\r\nUser-Agent: resty-mtls\r\nConnection: close\r\n" }
    local function add(name, value)
        lines[#lines + 1] = name .. ": " .. value .. "\r\n"
    end

    if opts.accept then
        add("Accept", opts.accept)
    end

    if opts.body then
        add("Content-Length", #opts.body)
    end

    if opts.content_type then
        add("Content-Type", opts.content_type)
    end

    for name, value in pairs(with_headers and opts.headers or {}) do
        add(name, value)
    end

    return concat(lines)
end


local function check_request(opts)
    check_options("fetch.request", opts, OPTIONS, 4)
    if not opts.url then
        error("fetch.request: option url is missing", 3)
    end

    if opts.timeout and opts.timeout < 1 then
        error("fetch.request: timeout must be at least 1 ms", 3)
    end

    if opts.method and opts.method ~= "GET" and opts.method ~= "POST" then
        error("fetch.request: method must be GET or POST", 3)
    end

    if opts.body and opts.method ~= "POST" then
        error("fetch.request: only a POST has a body", 3)
    end

    if opts.origin and opts.origin ~= "certificate" and opts.origin ~= "operator" then
        error("fetch.request: origin must be certificate or operator", 3)
    end

    for _, name in ipairs { "http_proxy", "https_proxy" } do
        local proxy = opts[name]
        if proxy and (type(proxy.host) ~= "string" or not (cidr.family(proxy.host) or url.host(proxy.host))
                      or not find(tostring(proxy.port), "^%d+$") or proxy.port < 1 or proxy.port > 65535)
        then
            error("fetch.request: " .. name .. " must have a host (a name or an address) and a port from 1 to 65535", 3)
        end
    end

    local function check_line(name, value)
        -- The value may be a secret.
        if type(value) ~= "string" or find(value, "[%z\r\n]") then
            error("fetch.request: the value of header " .. printable(name) .. " must be a string of one line", 4)
        end
    end

    check_line("Accept", opts.accept or "")
    check_line("Content-Type", opts.content_type or "")
    for name, value in pairs(opts.headers or {}) do
        if type(name) ~= "string" or not find(name, "^[%w-]+$") then
            error("fetch.request: header '" .. printable(tostring(name))
                  .. "' must have a name of letters, digits and -", 3)
        end

        check_line(name, value)
    end

    if not PHASES[get_phase()] then
        error("fetch.request: cannot be called in the phase " .. get_phase(), 3)
    end
end


local function request_checked(opts)
    local deadline = ngx_now() + (opts.timeout or TIMEOUT) / 1000
    local target, err = url.parse(opts.url)
    if not target then
        return nil, "fetch.request: " .. err
    end

    local first = target
    local max_redirects = opts.max_redirects or MAX_REDIRECTS
    for redirects = 0, max_redirects do
        local same = target.origin == first.origin
        local conn = { deadline = deadline, buffer = "", at = 1, burst = 0 }
        local request = { method = opts.method or "GET", body = opts.body, head = head_of(opts, same) }
        local answer
        answer, err = exchange(conn, target, request, opts, same and opts.origin == "operator")
        if conn.sock then
            conn.sock:close()
        end

        -- Without the query: it may hold a secret.
        local where = "fetch.request: " .. target.origin .. target.path:match("^[^?]*"):sub(1, 100) .. ": "
        if not answer then
            return nil, where .. err, conn.short and SHORTAGE or nil
        end

        local location = REDIRECTS[answer.status] and answer.headers.location
        if not location then
            return answer
        end

        if request.method == "POST" then
            return nil, where .. "redirects a POST, which is not followed"
        end

        if redirects == max_redirects then
            return nil, where .. "redirects more than " .. max_redirects .. " times"
        end

        local next_target
        next_target, err = url.resolve(target, location)
        if not next_target then
            return nil, where .. "redirects badly: " .. err
        end

        if target.scheme == "https" and next_target.scheme == "http" then
            return nil, where .. "redirects from https to http"
        end

        target = next_target
    end
end


-- access_by_lua* and timers. { status, headers, body }, or nil, an error, and "shortage" if the error
-- is this machine's own.
--   url            http or https
--   method         GET (default) or POST
--   body, content_type, accept, headers (of this origin only: a redirect elsewhere loses them)
--   timeout        milliseconds for everything together, redirects and name look-ups too (default 30000)
--   max_bytes      of the body (default 65536)
--   max_redirects  of a GET (default 3); never from https to http. A redirect of a POST is an error
--   ssl_verify     default true. nginx knows no certificates for addresses: use a host name
--   http_proxy, https_proxy   { host, port }. The proxy resolves the names of the targets, so only
--                  targets that are literal addresses can be judged
--   origin         who wrote the URL: "certificate" (default), or "operator", whose URL and all of
--                  its origin may be anywhere
--   kind           what the time is counted as in the metrics (default "other")
function _M.request(opts)
    check_request(opts)
    local start = ngx_now()
    local answer, err, kind = request_checked(opts)
    local outcome
    if answer then
        outcome = answer.status >= 200 and answer.status < 300 and "ok" or "status"
    elseif kind == SHORTAGE then
        outcome = "shortage"
    else
        outcome = find(err, "timeout$") and "timeout" or "error"
    end

    metrics.observe("fetch_duration_seconds", ngx_now() - start, opts.kind or "other", outcome)

    return answer, err, kind
end


-- A store of this worker with the methods of a shared dictionary that are used here.
local Local = {}
Local.__index = Local


function Local:get(key)
    local entry = self.cache:get(key)
    if entry then
        return entry.value, entry.flags
    end
end


function Local:ttl(key)
    local entry = self.cache:get(key)

    return entry and entry.ends - ngx_now()
end


function Local:set(key, value, ttl, flags)
    self.cache:set(key, { value = value, flags = flags, ends = ngx_now() + ttl }, ttl)

    return true
end


Local.safe_set = Local.set


function Local:safe_add(key, value, ttl, flags)
    if self.cache:get(key) then
        return false, "exists"
    end

    return self:set(key, value, ttl, flags)
end


function Local:delete(key)
    self.cache:delete(key)
end


function Local.flush_expired()
    return 0
end


local function new_local()
    return setmetatable({ cache = lrucache.new(LOCAL_ENTRIES) }, Local)
end


local stores = {}
local warned = {}


local function warn_once(...)
    local text = concat { ... }
    if not warned[text] then
        warned[text] = true
        ngx_log(WARN, "[mtls] ", text)
    end
end


-- { shared: what all workers see, own: for values that do not fit into it }
local function store_of(name)
    local store = stores[name]
    if not store then
        local own = new_local()
        store = { name = name, shared = ngx.shared[name] or own, own = own }
        stores[name] = store
        if store.shared == own then
            warn_once("lua_shared_dict ", name, " is not in nginx.conf: every worker fetches for itself")
        end
    end

    return store
end


-- What was written at a time that is yet to come was written before the clock was set back, and so is
-- its end: it is void.
local function read(cache, key)
    local value, written = cache:get(key)
    if value ~= nil and written and written > ngx_now() + LAG then
        cache:delete(key)

        return nil
    end

    return value, written
end


-- A value, and when it was written, in seconds since the epoch. All that is kept has that for flags.
local function get(store, key)
    local value, written = read(store.shared, key)
    if value == nil then
        value, written = read(store.own, key)
    end

    return value, written
end


-- When a value that is stored should be fetched anew: when a fifth of its time, or an hour, is left.
local function is_ending(store, key, written)
    local left = store.shared:ttl(key) or store.own:ttl(key)
    if not left or not written then
        return false
    end

    local ends = ngx_now() + left

    return ngx_now() >= floor(ends - min((ends - written) / 5, MAX_AHEAD))
end


-- Makes room in a full dictionary by what has ended, at most once a second.
local function flush(store)
    local now = floor(ngx_now())
    if store.flushed == now then
        return false
    end

    store.flushed = now

    return store.shared:flush_expired(MAX_FLUSHED) > 0
end


-- Writes what must not push out anything that has not ended: among that are certificates known as
-- revoked, which count as good once that is forgotten and the sources do not answer.
local function set(store, key, value, ttl)
    local written = floor(ngx_now())
    local ok, err = store.shared:safe_set(key, value, ttl, written)
    if not ok and flush(store) then
        ok, err = store.shared:safe_set(key, value, ttl, written)
    end

    return ok, err
end


-- Marks a host. Where the dictionary is full, this worker does it for itself.
local function mark(store, key, err, ttl)
    if not set(store, key, err, ttl) then
        store.own:set(key, err, ttl, floor(ngx_now()))
    end
end


local function unmark(store, key)
    store.shared:delete(key)
    store.own:delete(key)
end


-- alone: whether the caller holds the lock that all workers see; else another may have written
-- meanwhile what is as new.
local function put(store, key, value, ttl, urgent, alone)
    local written = floor(ngx_now())
    local shared = store.shared
    local ok, err
    if urgent then
        ok, err = set(store, key, value, ttl)
        if not ok then
            ok, err = shared:set(key, value, ttl, written)
        end

    elseif alone then
        ok, err = set(store, key, value, ttl)

    else
        ok, err = shared:safe_add(key, value, ttl, written)
        if err == "exists" then
            return
        end
    end

    if not ok then
        -- A safe_set() that found no room has removed the value before.
        metrics.count("shortages_total", "dictionary")
        warn_once("lua_shared_dict ", store.name, " takes no value of ", #value, " bytes (", err,
                  "): this worker keeps it for itself; make the dictionary larger")
        store.own:set(key, value, ttl, written)
    end
end


local function names_of(key, opts)
    -- A failure under other options (a shorter time, another proxy) is none under these.
    local host = (opts.host or key) .. (opts.options or "")

    return { value = VALUE .. key, lock = "fetch:lock:" .. key,
             down = "fetch:down:" .. host, suspect = "fetch:suspect:" .. host }
end


local function too_soon(err)
    return "not tried again so soon after: " .. err
end


-- The store that holds the lock that was taken, or nil when another caller holds it. A dictionary
-- that is too full for a lock must not stop the fetch: then callers of one worker share one.
local function take_lock(store, names, timeout)
    local written = floor(ngx_now())
    local ends = ngx_now() + timeout
    local locked, err = store.shared:safe_add(names.lock, ends, timeout + GRACE, written)
    if locked then
        return store.shared
    end

    if err == "exists" or not store.own:safe_add(names.lock, ends, timeout + GRACE, written) then
        return nil
    end

    return store.own
end


-- When the caller that holds the lock must have ended, or nil.
local function locked_until(store, names)
    return (get(store, names.lock))
end


-- Calls fn under the lock that the caller holds in `lock`, and lets it go.
local function fly(store, names, lock, timeout, fn)
    local shared = store.shared
    local suspect = get(store, names.suspect)
    local marked
    -- A host that failed last time is tried by one at a time.
    if suspect then
        local err
        marked, err = shared:safe_add(names.down, suspect, timeout, floor(ngx_now()))
        if err == "exists" then
            lock:delete(names.lock)
            return nil, too_soon(suspect)
        end
    end

    local ran, value, detail, more = pcall(fn)
    if ran and value ~= nil and type(value) ~= "string" then
        ran, value = false, "fetch.cached: fn must return a string, or nil and an error, got " .. type(value)
    end

    if not ran or not value then
        local err = tostring(ran and detail or value)
        if ran and not more then
            mark(store, names.down, err, RETRY)
            mark(store, names.suspect, err, SUSPECT)
        elseif marked then
            -- Whether the host answers is as unknown as before.
            unmark(store, names.down)
        end

        lock:delete(names.lock)
        if not ran then
            error(value, 0)
        end

        return nil, err, more
    end

    if detail and detail > 0 then
        put(store, names.value, value, detail, more, lock == shared)
    end

    unmark(store, names.suspect)
    unmark(store, names.down)
    lock:delete(names.lock)

    return value
end


local function refresh(premature, store, names, lock, timeout, fn)
    if premature then
        lock:delete(names.lock)
        return
    end

    local value, err, kind = fly(store, names, lock, timeout, fn)
    if not value and kind ~= VOID then
        ngx_log(WARN, "[mtls] refresh of a fetched answer failed, the one before serves on: ", err)
    end
end


-- Fetches ahead of the end of a value, in a timer, unless another caller does.
local function fetch_ahead(store, names, timeout, fn)
    local lock = get(store, names.down) == nil and take_lock(store, names, timeout)
    if not lock then
        return
    end

    local ok, err = ngx.timer.at(0, refresh, store, names, lock, timeout, fn)
    if not ok then
        lock:delete(names.lock)
        shortage.report_timer("no timer to refresh a fetched answer: ", err)
    end
end


-- access_by_lua* and timers. The value stored under key in a shared dictionary, or what fn gets: fn
-- returns a string and the seconds for which it holds (nil or 0: it is not stored), or nil and an
-- error. One fn runs at a time per key and node; others wait for it. A failure is not stored, but
-- for 5 seconds after it its host is not tried again, and then by one caller at a time until it
-- answers.
--
-- A third result of fn beside a value that is not false: the value is stored even if others that
-- have not ended are lost for it. Beside an error, "shortage" (it is this machine's own) or "void"
-- (what was asked is not wanted any more): it is no failure of the host, which is tried again at
-- once; cached() returns it too. An error that fn raises is raised again, and is none either.
--   host           what failures are counted by (default: the key)
--   options        what else they are counted by
--   timeout        milliseconds that fn may take, and others wait for it (default 30000)
--   refresh_ahead  call fn in a timer when less than a fifth of the time, or an hour, is left; fn
--                  must then do without the request
function _M.cached(dict_name, key, opts, fn)
    if type(dict_name) ~= "string" or type(key) ~= "string" then
        error("fetch.cached: the names of the dictionary and of the key must be strings", 2)
    end

    if type(fn) ~= "function" then
        error("fetch.cached: fn must be a function, got " .. type(fn), 2)
    end

    check_options("fetch.cached", opts, CACHED_OPTIONS, 3)
    local store = store_of(dict_name)
    local value, written = get(store, VALUE .. key)
    if value ~= nil and not (opts.refresh_ahead and is_ending(store, VALUE .. key, written)) then
        return value
    end

    local names = names_of(key, opts)
    local timeout = (opts.timeout or TIMEOUT) / 1000
    if value ~= nil then
        fetch_ahead(store, names, timeout, fn)

        return value
    end

    local deadline = ngx_now() + timeout
    local pause = POLL
    while true do
        local err = get(store, names.down)
        local ends = locked_until(store, names)
        -- The caller that holds the lock may be the one that tries again: worth waiting for.
        if err and not ends then
            return nil, "fetch.cached: " .. too_soon(err)
        end

        local lock = not ends and take_lock(store, names, timeout)
        if lock then
            -- Another may have come and gone since the look above.
            value = get(store, names.value)
            if value ~= nil then
                lock:delete(names.lock)
                return value
            end

            local kind
            value, err, kind = fly(store, names, lock, timeout, fn)
            if value ~= nil then
                return value
            end

            if kind then
                return nil, "fetch.cached: " .. err, kind
            end

            return nil, "fetch.cached: " .. err
        end

        local now = ngx_now()
        if now >= deadline then
            -- Where the holder had its time, it is gone (its request was aborted, its worker died):
            -- that is no failure of the host. Its lock ends soon, and this caller takes it.
            if ends and now < ends then
                return nil, "fetch.cached: timeout while another fetch of the same goes on"
            end

            if now >= deadline + timeout + 2 * GRACE then
                return nil, "fetch.cached: no fetch of the same came to its end", SHORTAGE
            end
        end

        ngx_sleep(pause)
        pause = min(pause * 2, MAX_POLL)
        value = get(store, names.value)
        if value ~= nil then
            return value
        end
    end
end


return _M
