-- Connections to the Redis server of a fleet, by lua-resty-redis.
--
--     local conn, err, reason = redis.connect(opts)             -- timers
--     local results, err, reason = conn:run({ { "get", key } }, 1000, 65536)
--     conn:keep()                                               -- or conn:close()
--
-- The library reads lines, arrays and strings without a limit, and with time-outs of single operations. So it gets a
-- socket that has a deadline and a limit of bytes for each call of run(), and that refuses lengths over that limit.
-- Whatever the server sends, run() returns results or an error.

local shortage = require "resty.mtls.internal.shortage"
local tcp = require "resty.mtls.internal.net.tcp"


local concat = table.concat
local find = string.find
local ngx_now = ngx.now
local sub = string.sub


-- OpenResty bundles lua-resty-redis under the first name, Debian's package lua-nginx-redis has it under the second.
local MODULES = { "resty.redis", "nginx.redis" }
-- Milliseconds
local CONNECT_TIMEOUT = 1000
local IDLE_TIMEOUT = 10000
local ENOENT = 2
-- Bytes
local RECEIVE_SIZE = 16384
local MAX_LINE = 4096
local MAX_REPLY = 65536
local MAX_TEXT = 200

-- Kinds of errors: the label of the metric.
local CONNECT, TIMEOUT, TLS, AUTH = "connect", "timeout", "tls", "auth"
local FULL, REPLY, SHORTAGE = "full", "reply", "shortage"
local ERROR_REPLIES = {
    { "^WRONGPASS", AUTH }, { "^NOAUTH", AUTH }, { "^NOPERM", AUTH }, { "^ERR invalid password", AUTH },
    { "^ERR AUTH", AUTH }, { "^ERR Client sent AUTH", AUTH }, { "^OOM", FULL },
}


local _M = {}

local Connection = {}
Connection.__index = Connection

-- What lua-resty-redis uses as its socket.
local Socket = {}
Socket.__index = Socket

local library


-- init_by_lua*. true, or nil and an error when lua-resty-redis is not installed.
function _M.load()
    for _, name in ipairs(MODULES) do
        local found, module = pcall(require, name)
        if found then
            library = module

            return true
        end
    end

    return nil, "neither Lua module resty.redis nor nginx.redis is found; install lua-resty-redis "
                .. "(bundled with OpenResty; Debian's package is lua-nginx-redis)"
end


-- Bytes of a peer for the log
local function printable(text)
    return (sub(text, 1, MAX_TEXT):gsub("[%c\127-\255]", "?"))
end


-- The deadline of run() counts, not the time-outs of the library.
function Socket.settimeout()
end


function Socket:close()
    return self.sock:close()
end


function Socket:send(data)
    local ok, err = tcp.set_timeout(self)
    if ok then
        ok, err = self.sock:send(data)
    end

    return ok, err
end


local function receive_more(self)
    local ok, err = tcp.set_timeout(self)
    if not ok then
        return nil, err
    end

    local data
    data, err = self.sock:receiveany(RECEIVE_SIZE)
    if not data then
        return nil, err
    end

    self.limit = self.limit - #data
    if self.limit < 0 then
        self.malformed = true

        return nil, "the reply has more bytes than expected"
    end

    self.buffer = self.buffer .. data

    return true
end


local function receive_line(self)
    while true do
        local _, last = find(self.buffer, "\n", 1, true)
        if (last or #self.buffer) > MAX_LINE then
            self.malformed = true

            return nil, "a line of the reply is over " .. MAX_LINE .. " bytes"
        end

        if last then
            local line = sub(self.buffer, 1, last - 1):gsub("\r$", "")
            self.buffer = sub(self.buffer, last + 1)

            return line
        end

        local ok, err = receive_more(self)
        if not ok then
            return nil, err
        end
    end
end


-- Whether a line can begin a reply. An array and a string cannot have more elements and bytes than may follow. A length
-- of -1 is null.
local function is_valid(self, line)
    local kind, rest = sub(line, 1, 1), sub(line, 2)
    if kind == "+" or kind == "-" then
        return true
    end

    if kind == ":" then
        return find(rest, "^%-?%d+$") ~= nil
    end

    if kind ~= "$" and kind ~= "*" or not find(rest, "^%-?%d+$") then
        return false
    end

    local length = tonumber(rest)

    return length >= -1 and length <= (self.limit + #self.buffer) / (kind == "*" and 3 or 1)
end


-- A line without size, else so many bytes.
function Socket:receive(size)
    if not size then
        local line, err = receive_line(self)
        if line and not is_valid(self, line) then
            self.malformed = true

            return nil, "the reply has a line '" .. printable(line) .. "'"
        end

        return line, err
    end

    -- Parts, because a string that grows by each of them would be copied each time.
    local parts, got = { self.buffer }, #self.buffer
    while got < size do
        self.buffer = ""
        local ok, err = receive_more(self)
        if not ok then
            return nil, err
        end

        parts[#parts + 1] = self.buffer
        got = got + #self.buffer
    end

    local data = concat(parts)
    self.buffer = sub(data, size + 1)

    return sub(data, 1, size)
end


local function reason_of(socket, err)
    return socket.malformed and REPLY or err == "timeout" and TIMEOUT or CONNECT
end


local function reason_of_reply(text)
    for _, known in ipairs(ERROR_REPLIES) do
        if find(text, known[1]) then
            return known[2]
        end
    end

    return REPLY
end


-- Runs commands in one round trip, { { "set", key, value }, ... }, within some milliseconds and with replies of some
-- bytes together at most. The replies (ngx.null where there is no value), or nil, an error and its kind when a
-- command could not run or is refused.
function Connection:run(commands, timeout, max_bytes)
    local socket, redis = self.socket, self.redis
    socket.deadline = ngx_now() + timeout / 1000
    socket.limit = max_bytes or MAX_REPLY
    local ok, replies, err = pcall(function()
        redis:init_pipeline(#commands)
        for _, command in ipairs(commands) do
            redis[command[1]](redis, unpack(command, 2))
        end

        return redis:commit_pipeline()
    end)

    if not ok then
        replies, err, socket.malformed = nil, "the reply cannot be read: " .. tostring(replies), true
    end

    if type(replies) ~= "table" then
        self.broken = true
        local lacking = shortage.of(err)

        return nil, lacking or tostring(err), lacking and SHORTAGE or reason_of(socket, err)
    end

    for i, command in ipairs(commands) do
        local reply = replies[i]
        -- The library has an error as { false, text }.
        if type(reply) == "table" and reply[1] == false then
            local text = tostring(reply[2])

            return nil, command[1]:upper() .. ": " .. printable(text), reason_of_reply(text)
        end

        if reply == nil then
            self.broken = true

            return nil, command[1]:upper() .. ": no reply", REPLY
        end
    end

    return replies
end


function Connection:close()
    self.socket.sock:close()
end


-- Puts the connection into the pool of connections with the same options.
function Connection:keep()
    if self.broken or self.socket.buffer ~= "" or not self.socket.sock:setkeepalive(IDLE_TIMEOUT, 4) then
        self:close()
    end
end


-- Connects to a socket file.
local function open_file(path, deadline, pool)
    -- nginx logs each attempt to connect to a file that is not there.
    local _, why, errno = io.open(path)
    if errno == ENOENT then
        return nil, why
    end

    local conn = { sock = ngx.socket.tcp(), deadline = deadline }
    local ok, err = tcp.set_timeout(conn)
    if ok then
        ok, err = conn.sock:connect("unix:" .. path, pool)
    end

    if ok then
        return conn.sock
    end

    local lacking = shortage.of_connect(err, "127.0.0.1", 9)

    return nil, "cannot connect to unix:" .. path .. ": " .. (lacking or err), lacking and SHORTAGE or err
end


-- Connects to the socket file, or to one of the addresses of the host.
local function open(opts, deadline)
    local pool = { pool = "resty-mtls-redis:" .. ngx.md5(concat({
        opts.host or "", opts.port or "", opts.unix or "", opts.username or "", opts.password or "",
        tostring(opts.ssl), tostring(opts.ssl_verify), opts.database or 0,
    }, "\0")) }
    local sock, err, kind
    if opts.unix then
        sock, err, kind = open_file(opts.unix, deadline, pool)
    else
        local addresses
        addresses, err, kind = tcp.resolve(opts.host, deadline)
        if addresses then
            sock, err, kind = tcp.connect(addresses, opts.port, deadline, pool)
        end
    end

    return sock, err, (kind == SHORTAGE or kind == TIMEOUT) and kind or CONNECT
end


-- A connection that is authenticated and has its database selected; or nil, an error and its kind.
--   host, port or unix; username, password; ssl, ssl_verify; database
-- timeout: milliseconds, for the connection and again for AUTH.
function _M.connect(opts, timeout)
    if not library then
        error("redis.connect: call load() in init_by_lua*", 2)
    end

    timeout = timeout or CONNECT_TIMEOUT
    local deadline = ngx_now() + timeout / 1000
    local sock, err, reason = open(opts, deadline)
    if not sock then
        return nil, err, reason
    end

    local socket = setmetatable({ sock = sock, buffer = "", deadline = deadline, limit = MAX_REPLY }, Socket)
    local is_new = sock:getreusedtimes() == 0
    if is_new and opts.ssl then
        local ok
        ok, err = tcp.set_timeout(socket)
        if ok then
            ok, err = sock:sslhandshake(false, opts.host, opts.ssl_verify ~= false)
        end

        if not ok then
            local lacking = shortage.of(err)

            return nil, "TLS handshake: " .. tostring(lacking or err),
                   lacking and SHORTAGE or err == "timeout" and TIMEOUT or TLS
        end
    end

    local redis
    redis, err = library:new()
    if not redis or rawget(redis, "_sock") == nil then
        sock:close()

        return nil, "this lua-resty-redis cannot be used: " .. tostring(err or "it has no field _sock"), CONNECT
    end

    rawset(redis, "_sock", socket)
    local conn = setmetatable({ redis = redis, socket = socket }, Connection)
    local commands = {}
    if is_new and opts.password then
        commands[1] = opts.username and { "auth", opts.username, opts.password } or { "auth", opts.password }
    end

    if is_new and (opts.database or 0) ~= 0 then
        commands[#commands + 1] = { "select", opts.database }
    end

    if commands[1] then
        local ok
        ok, err, reason = conn:run(commands, timeout)
        if not ok then
            conn:close()

            return nil, err, reason
        end
    end

    return conn
end


return _M
