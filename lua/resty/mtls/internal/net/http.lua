-- An HTTP/1.1 client that does not block the worker, for small documents: OCSP responses, CRLs,
-- discovery documents, keys. Every request has a limit of bytes and of time. A URL from a
-- certificate or a discovery document is requested only at addresses that address_guard.lua permits.
--
--     http.init { allow = cidr.parse { "127.0.0.0/8" } }                        -- init_by_lua*
--     local response, err = http.request { url = url, max_bytes = 10485760 }    -- access_by_lua*, timers
--
-- https follows nginx.conf: lua_ssl_trusted_certificate, lua_ssl_verify_depth (default 1, which is
-- short for most public CAs), lua_ssl_protocols. In a timer of init_worker_by_lua* the settings of
-- http{} apply. Without `lua_socket_log_errors off`, nginx also logs every refused or silent peer
-- at level error.

local address_guard = require "resty.mtls.internal.net.address_guard"
local cidr = require "resty.mtls.internal.net.cidr"
local dns = require "resty.mtls.internal.net.dns"
local http_reader = require "resty.mtls.internal.net.http_reader"
local metrics = require "resty.mtls.internal.metrics"
local options = require "resty.mtls.internal.options"
local shortage = require "resty.mtls.internal.shortage"
local tcp = require "resty.mtls.internal.net.tcp"
local url = require "resty.mtls.internal.net.url"


local concat = table.concat
local find = string.find
local get_phase = ngx.get_phase
local ngx_now = ngx.now
local printable = url.printable
local sub = string.sub


local TIMEOUT = 30000
local MAX_BYTES = 65536
local MAX_REDIRECTS = 3
-- A connection pool that stays empty: on a connection kept alive by other code, the server may not have been
-- verified.
local POOL = { pool = "resty.mtls.internal.net.http" }

local SHORTAGE = shortage.KIND

local PHASES = { rewrite = true, access = true, content = true, timer = true }
local REDIRECTS = { [301] = true, [302] = true, [303] = true, [307] = true, [308] = true }

local OPTIONS = {
    url = "string", method = "string", body = "string", content_type = "string", accept = "string",
    headers = "table", timeout = "number", max_bytes = "number", max_redirects = "number",
    gzip = "boolean", sink = "function", ssl_verify = "boolean", http_proxy = "table", https_proxy = "table",
    origin = "string", kind = "string", client_certificate = "table",
}
-- Where a URL is from: from a certificate or the document of another party, or from the policy.
local CERTIFICATE, OPERATOR = "certificate", "operator"
local INIT_OPTIONS = { allow = "table", nameservers = "table", hosts_file = "string" }


local _M = {
    CERTIFICATE = CERTIFICATE,
    OPERATOR = OPERATOR,
}

-- What cache_scope() returns.
local scope = ""


-- init_by_lua*. allow: a set (resty.mtls.internal.net.cidr) of addresses that requests may reach
-- although they are forbidden by default. nameservers, hosts_file: instead of those of
-- /etc/resolv.conf and /etc/hosts.
function _M.init(opts)
    options.check("http.init", opts, INIT_OPTIONS, 3)
    if opts.allow and type(opts.allow.match) ~= "function" then
        error("http.init: option 'allow' must be what resty.mtls.internal.net.cidr's parse() returns", 2)
    end

    local allow = address_guard.init(opts.allow)
    dns.init(opts)
    scope = ""
    if not allow:is_empty() or opts.nameservers or opts.hosts_file then
        scope = ngx.md5(concat({ concat(allow.v4, ","), concat(allow.v6, ","), concat(opts.nameservers or {}, ","),
                             opts.hosts_file or "" }, ";")) .. ":"
    end
end


-- The prefix of the keys under which responses are cached. It depends on what init() was given: the
-- shared dictionary outlives a reload of nginx.conf, after which requests may reach other
-- addresses.
function _M.cache_scope()
    return scope
end


local function resolve(conn, host)
    local addresses, err, kind = tcp.resolve(host, conn.deadline)
    conn.shortage = conn.shortage or kind == SHORTAGE

    return addresses, err
end


local function tunnel(conn, target)
    local host = target.host
    host = (find(host, ":", 1, true) and "[" .. host .. "]" or host) .. ":" .. target.port
    local ok, err = http_reader.send(conn, "CONNECT " .. host .. " HTTP/1.1\r\nHost: " .. host .. "\r\n\r\n")
    if not ok then
        return nil, err
    end

    local status, headers = http_reader.read_header(conn)
    if not status then
        return nil, headers
    end

    if status < 200 or status > 299 then
        return nil, "answers CONNECT with status " .. status
    end

    -- These bytes would be read as if they had been received through TLS.
    if conn.position <= #conn.buffer then
        return nil, "sends data before the TLS handshake"
    end

    return true
end


-- Has a TLS handshake send a client certificate, where the server requests one. true, or nil and an error.
local function present(sock, certificate)
    if not sock.setclientcert then
        return nil, "this lua-nginx-module cannot send a client certificate, expected 0.10.22 or newer"
    end

    return sock:setclientcert(certificate.chain, certificate.key)
end


-- Sends one request to one server. same: whether its origin is that of the request. The response, or nil and an error.
local function exchange(conn, target, request, opts, any_address, same)
    local proxy = opts[target.scheme .. "_proxy"]
    local host, port = target.host, target.port
    local addresses, ok, err

    if proxy then
        -- The proxy resolves names, so only literal addresses and localhost can be checked.
        if not any_address and (target.address or host == "localhost" or host:find("%.localhost$")) then
            addresses, err = resolve(conn, host)
            if addresses then
                addresses, err = address_guard.filter(addresses, host)
            end

            if not addresses then
                return nil, err
            end
        end

        host, port = url.host(proxy.host) or proxy.host, proxy.port
    end

    addresses, err = resolve(conn, host)
    if addresses and not proxy and not any_address then
        addresses, err = address_guard.filter(addresses, host)
    end

    if not addresses then
        return nil, proxy and "proxy: " .. err or err
    end

    local kind
    conn.sock, err, kind = tcp.connect(addresses, port, conn.deadline, POOL)
    conn.shortage = conn.shortage or kind == SHORTAGE
    ok = conn.sock ~= nil
    if ok and proxy and target.scheme == "https" then
        ok, err = tunnel(conn, target)
    end

    if not ok then
        return nil, proxy and "proxy: " .. err or err
    end

    if target.scheme == "https" then
        ok, err = tcp.set_timeout(conn)
        if ok and opts.client_certificate and same then
            ok, err = present(conn.sock, opts.client_certificate)
        end

        if ok then
            ok, err = conn.sock:sslhandshake(false, target.host, opts.ssl_verify ~= false)
        end

        if not ok then
            local lacking = shortage.of(err)
            conn.shortage = conn.shortage or lacking

            return nil, "TLS handshake: " .. (lacking or err)
        end
    end

    local form = proxy and target.scheme == "http" and target.origin or ""
    ok, err = http_reader.send(conn, request.method .. " " .. form .. target.path .. request.head
                                     .. "Host: " .. target.authority .. "\r\n\r\n" .. (request.body or ""))
    if not ok then
        return nil, err
    end

    return http_reader.read_response(conn, opts.max_bytes or MAX_BYTES, opts.sink)
end


local function header_lines(opts, with_headers)
    local lines = { " HTTP/1.1\r\nUser-Agent: resty-mtls\r\nConnection: close\r\n" }
    local function add(name, value)
        lines[#lines + 1] = name .. ": " .. value .. "\r\n"
    end

    for _, line in ipairs {
        { "Accept", opts.accept },
        { "Accept-Encoding", opts.gzip and "gzip" },
        { "Content-Length", opts.body and #opts.body },
        { "Content-Type", opts.content_type },
    } do
        if line[2] then
            add(line[1], line[2])
        end
    end

    for name, value in pairs(with_headers and opts.headers or {}) do
        add(name, value)
    end

    return concat(lines)
end


local function check_request(opts)
    options.check("http.request", opts, OPTIONS, 4)
    if not opts.url then
        error("http.request: option url is missing", 3)
    end

    if opts.timeout and opts.timeout < 1 then
        error("http.request: timeout must be at least 1 ms", 3)
    end

    if opts.method and opts.method ~= "GET" and opts.method ~= "POST" then
        error("http.request: method must be GET or POST", 3)
    end

    if opts.body and opts.method ~= "POST" then
        error("http.request: only a POST has a body", 3)
    end

    if opts.origin and opts.origin ~= CERTIFICATE and opts.origin ~= OPERATOR then
        error("http.request: origin must be certificate or operator", 3)
    end

    for _, name in ipairs { "http_proxy", "https_proxy" } do
        local proxy = opts[name]
        if proxy and (type(proxy.host) ~= "string" or not (cidr.family(proxy.host) or url.host(proxy.host))
                      or not find(tostring(proxy.port), "^%d+$") or proxy.port < 1 or proxy.port > 65535)
        then
            error("http.request: " .. name .. " must have a host (a name or an address) and a port from 1 to 65535", 3)
        end
    end

    local function check_line(name, value)
        -- The error does not contain the value, which may be a secret.
        if type(value) ~= "string" or find(value, "[%z\r\n]") then
            error("http.request: the value of header " .. printable(name) .. " must be a string of one line", 4)
        end
    end

    check_line("Accept", opts.accept or "")
    check_line("Content-Type", opts.content_type or "")
    for name, value in pairs(opts.headers or {}) do
        if type(name) ~= "string" or not find(name, "^[%w-]+$") then
            error("http.request: header '" .. printable(tostring(name))
                  .. "' must have a name of letters, digits and -", 3)
        end

        check_line(name, value)
    end

    if not PHASES[get_phase()] then
        error("http.request: cannot be called in the phase " .. get_phase(), 3)
    end
end


local function follow_redirects(opts)
    local deadline = ngx_now() + (opts.timeout or TIMEOUT) / 1000
    local target, err = url.parse(opts.url)
    if not target then
        return nil, "http.request: " .. err
    end

    local first = target
    local max_redirects = opts.max_redirects or MAX_REDIRECTS
    for redirects = 0, max_redirects do
        local same = target.origin == first.origin
        local conn = http_reader.new(deadline)
        local request = { method = opts.method or "GET", body = opts.body, head = header_lines(opts, same) }
        local response
        response, err = exchange(conn, target, request, opts, same and opts.origin == OPERATOR, same)
        if conn.sock then
            conn.sock:close()
        end

        local where = "http.request: " .. target.origin .. url.without_query(target.path):sub(1, 100) .. ": "
        if not response then
            return nil, where .. err, conn.shortage and SHORTAGE or nil, conn.unusable
        end

        local location = REDIRECTS[response.status] and response.headers.location
        if not location then
            return response
        end

        if request.method == "POST" then
            return nil, where .. "redirects a POST, which is not followed", nil, true
        end

        if redirects == max_redirects then
            return nil, where .. "redirects more than " .. max_redirects .. " times", nil, true
        end

        local next_target
        next_target, err = url.resolve(target, location)
        if not next_target then
            return nil, where .. "redirects badly: " .. err, nil, true
        end

        if target.scheme == "https" and next_target.scheme == "http" then
            return nil, where .. "redirects from https to http", nil, true
        end

        target = next_target
    end
end


-- access_by_lua* and timers. Returns { status, headers, body }; or nil, an error, "shortage" if this machine
-- lacks something for the request, and true if the server's response cannot be used (a redirect, or too
-- large).
--   url            http or https
--   method         GET (default) or POST
--   body, content_type, accept
--   headers        sent to this origin only: a redirect to another origin loses them
--   timeout        milliseconds for everything, redirects and name resolution included (default 30000)
--   max_bytes      of the body (default 65536), and of what it is when decoded
--   sink           sink(part) receives the body of a response with status 200 in parts, and body is "". Not with gzip
--   gzip           the server is asked to send it with the content coding gzip, if it can
--   max_redirects  of a GET (default 3); none from https to http. A redirect of a POST is an error
--   ssl_verify     default true. nginx does not verify certificates for IP addresses: use a host name
--   http_proxy, https_proxy   { host, port }. The proxy resolves the names of targets, so the address guard
--                  checks only targets that are literal addresses
--   origin         where the URL is from: CERTIFICATE (default), whose addresses the address guard checks, or
--                  OPERATOR: this URL and all of its origin may have any address
--   client_certificate   { chain, key } of ngx.ssl, for this origin only
--   kind           label of the duration in the metrics (default "other")
function _M.request(opts)
    check_request(opts)
    local start = ngx_now()
    local response, err, kind, unusable = follow_redirects(opts)
    local outcome
    if response then
        outcome = response.status >= 200 and response.status < 300 and "ok" or "status"
    elseif kind == SHORTAGE then
        outcome = "shortage"
    else
        -- Errors of a time-out end with it.
        outcome = sub(err, -#tcp.TIMED_OUT) == tcp.TIMED_OUT and "timeout" or "error"
    end

    metrics.observe("fetch_duration_seconds", ngx_now() - start, opts.kind or "other", outcome)

    return response, err, kind, unusable
end


return _M
