-- TCP connections with one deadline for all that is done on them, in seconds as in ngx.now().

local cidr = require "resty.mtls.internal.net.cidr"
local dns = require "resty.mtls.internal.net.dns"
local shortage = require "resty.mtls.internal.shortage"


local floor = math.floor
local ngx_now = ngx.now

-- The error of a cosocket at a time-out.
local TIMED_OUT = "timeout"
-- How many addresses of a host are tried.
local MAX_ADDRESSES = 4


local _M = {
    TIMED_OUT = TIMED_OUT,
}


-- Sets the time-out of the next operation of conn.sock to the time that is left until conn.deadline. Returns true, or
-- nil and an error.
function _M.set_timeout(conn)
    local left = floor((conn.deadline - ngx_now()) * 1000)
    if left < 1 then
        return nil, TIMED_OUT
    end

    conn.sock:settimeout(left)

    return true
end


-- The addresses of a host name, or a literal address; or nil, an error, and "shortage" if this machine lacks something.
function _M.resolve(host, deadline)
    if cidr.family(host) then
        return { host }
    end

    local addresses, err, kind = dns.lookup(host:lower(), deadline)
    if not addresses then
        return nil, "host '" .. host .. "' cannot be resolved: " .. err, kind
    end

    return addresses
end


-- Connects to one of the addresses, each of which gets an equal share of the time that is left. A socket; or nil, an
-- error, and "shortage" or "timeout" if it is that.
function _M.connect(addresses, port, deadline, pool)
    local last, kind
    local count = math.min(#addresses, MAX_ADDRESSES)
    for i = 1, count do
        local left = (deadline - ngx_now()) * 1000
        if left < 1 then
            return nil, last or TIMED_OUT, TIMED_OUT
        end

        local host = addresses[i]
        host = host:find(":", 1, true) and "[" .. host .. "]" or host
        local sock = ngx.socket.tcp()
        sock:settimeout(math.max(1, floor(left / (count - i + 1))))
        local ok, err = sock:connect(host, port, pool)
        if ok then
            return sock
        end

        local lacking = shortage.of_connect(err, host, port)
        last = "cannot connect to " .. host .. " port " .. port .. ": " .. (lacking or err)
        kind = lacking and shortage.KIND or err == TIMED_OUT and TIMED_OUT or nil
        -- With a shortage, the other addresses would not be reached either.
        if lacking then
            break
        end
    end

    return nil, last, kind
end


return _M
