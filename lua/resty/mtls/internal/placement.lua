-- Checks nginx.conf at the start for mistakes that make a policy ineffective. Otherwise they appear only later:
--
--   ssl_client_hello_by_lua* is missing, or not at http{} level    protected routes answer 421
--   ssl_certificate_by_lua* is missing, or does not call certificate()    they answer 401
--   a location names a route that is not in the policy    it answers 500
--   no location names a route of the policy    its plugins apply to no request, which nothing else reports
--   the workers' user cannot read the files of the policy    every reload without HUP fails
--   the workers' user cannot write to state_dir    nothing outlives a restart
--
-- Also finds whether TLS sessions are shared with other nodes.
--
-- nginx accepts ssl_client_hello_by_lua* in any server block, but it works for all server names only at http{}
-- level: nginx before 1.29.2 runs the one of the listener's default server for every name; newer ones run the
-- one of the server that the name selects, and fail the handshake if that has none.
--
-- If a file of the configuration cannot be found or read, nothing is reported that depends on what is in it.

local ffi = require "ffi"
local nginx_conf = require "resty.mtls.internal.nginx_conf"


local gmatch = string.gmatch
local gsub = string.gsub
local find = string.find
local match = string.match

-- How many faults of a kind are listed.
local MAX_FAULTS = 20
-- How many names one line contains.
local MAX_NAMES = 10
local DEFAULT_ONLY = "this nginx runs that of a listener's default server only, for all server names"
local OWN_ONLY = "this nginx fails the handshakes of servers that have none"


ffi.cdef [[
unsigned int rmtls_geteuid(void) __asm__("geteuid");
]]


local _M = {}


-- Whether a directive is one that faults() reads.
local function is_relevant(name, blocks)
    return name == "set" or name == "user" or blocks[#blocks] == "map" or name == "ssl_session_ticket_key"
           or find(name, "_by_lua")
end


-- Whether Lua code loads code that is not in nginx.conf: modules other than those of nginx and OpenResty.
local function loads_code(code)
    code = gsub(code, "require[%s(]*['\"]ngx%.[^'\"]*['\"]", "")
    code = gsub(code, "require[%s(]*['\"]resty%.[^'\"]*['\"]", "")

    return find(code, "require", 1, true) or find(code, "dofile", 1, true)
end


-- Appends at most MAX_FAULTS of the lines in found, and a line with the number of the others.
local function append(faults, found, path, more)
    for i = 1, math.min(#found, MAX_FAULTS) do
        faults[#faults + 1] = found[i]
    end

    if #found > MAX_FAULTS then
        faults[#faults + 1] = path .. ": " .. more:format(#found - MAX_FAULTS)
    end
end


-- Records where nginx.conf has a hook of the handshake, and whether it may contain the call it is for.
local function record_hook(hook, name, blocks, position, code, call)
    local noted = {
        position = position,
        may_call = not code or find(name, "_file$") or find(code, call, 1, true) or loads_code(code),
    }
    if blocks[2] == "server" then
        hook[#hook + 1] = noted
    else
        hook.at_http = noted
    end
end


local function hello_faults(hook, version)
    local found = {}
    for _, server in ipairs(hook) do
        if not hook.at_http then
            found[#found + 1] = server.position .. ": ssl_client_hello_by_lua* in a server block, expected at "
                                .. "http{} level: " .. (version >= 1029002 and OWN_ONLY or DEFAULT_ONLY)

        elseif not server.may_call then
            found[#found + 1] = server.position .. ": ssl_client_hello_by_lua* of a server replaces that at "
                                .. "http{} level (" .. hook.at_http.position .. "), expected none, or a call of "
                                .. "client_hello()"
        end
    end

    return found
end


local function certificate_faults(hook)
    local found = {}
    if hook.at_http and not hook.at_http.may_call then
        found[1] = hook.at_http.position .. ": ssl_certificate_by_lua* does not call certificate(): no client "
                   .. "certificate is requested, protected routes answer 401"
    end

    for _, server in ipairs(hook) do
        if not server.may_call then
            found[#found + 1] = server.position .. ": ssl_certificate_by_lua* of a server does not call certificate(): "
                                .. "no certificate is requested there, protected routes answer 401"
        end
    end

    return found
end


-- Whether the values of a variable are all in nginx.conf, or also computed by nginx.
local FIXED, COMPUTED = 1, 2


-- What is recorded about routes: routes.named are all strings that may name a route; routes[i] the names that are
-- meant to; routes.unknown is true if there may be names that are not in nginx.conf; routes.read are the
-- variables that access() is called with, and routes.set those that are set: FIXED or COMPUTED.
local function record_variable(routes, variable, value, position)
    if not variable or not value then
        return
    end

    if find(value, "$", 1, true) then
        routes.set[variable] = COMPUTED

        return
    end

    routes.set[variable] = routes.set[variable] or FIXED
    routes.named[value] = true
    if variable == "$mtls_route" and value ~= "" then
        routes[#routes + 1] = { name = value, position = position }
    end
end


local function record_code(routes, name, code, position)
    local may_decide = find(name, "access", 1, true) or find(name, "rewrite", 1, true)
    if not code or find(name, "_file$") then
        routes.unknown = routes.unknown or may_decide

        return
    end

    code = gsub(code, "%-%-[^\n]*", "")
    for _, text in gmatch(code, "(['\"])([^'\"\n]*)%1") do
        routes.named[text] = true
    end

    routes.unknown = routes.unknown or may_decide and loads_code(code)
    for argument in gmatch(code, "%f[%w_]access%s*%(%s*([^)]-)%s*%)") do
        local _, route = match(argument, "^(['\"])([^'\"]*)%1$")
        -- The drop-in files read the variable in the rewrite phase and keep it there.
        local variable = match(argument, "^ngx%.var%.([%w_]+)") or match(argument, "^ngx%.ctx%.(mtls_route)%f[^%w_]")
        if route and route ~= "" and find(code, "mtls", 1, true) then
            routes[#routes + 1] = { name = route, position = position }

        elseif variable then
            routes.read["$" .. variable] = true

        elseif not route and argument ~= "" and argument ~= "nil" then
            -- Lua computes the name.
            routes.unknown = true
        end
    end
end


-- Faults: names that are no route of the policy.
local function unknown_routes(routes, engine)
    local found = {}
    for _, route in ipairs(routes) do
        if not engine:plan(route.name) then
            found[#found + 1] = route.position .. ": " .. engine:no_route(route.name, ngx.time())
        end
    end

    return found
end


local UUID = "^" .. ("%x"):rep(8) .. ("%-" .. ("%x"):rep(4)):rep(3) .. "%-" .. ("%x"):rep(12) .. "$"


-- Faults: protected routes that no location names; none if there may be names that are not in nginx.conf.
local function unnamed_routes(routes, engine, path)
    for variable in pairs(routes.read) do
        routes.unknown = routes.unknown or routes.set[variable] ~= FIXED
    end

    if routes.unknown then
        return {}
    end

    -- A route that is named by its id is recognized by its plan, which other routes may share.
    local plans = {}
    for name in pairs(routes.named) do
        if find(name, UUID) then
            plans[engine:plan(name) or false] = true
        end
    end

    local names, count = {}, 0
    for _, name in ipairs(engine:protected_routes()) do
        if not routes.named[name] and not plans[engine:plan(name)] then
            count = count + 1
            names[count] = count <= MAX_NAMES and "'" .. name .. "'" or nil
        end
    end

    if count == 0 then
        return {}
    end

    return {
        path .. ": no location names the route" .. (count > 1 and "s " or " ") .. table.concat(names, ", ")
        .. (count > MAX_NAMES and " and " .. count - MAX_NAMES .. " more" or "") .. " of the policy: "
        .. (count > 1 and "their" or "its") .. " plugins apply to no request; expected 'set $mtls_route NAME;' or "
        .. "access(NAME)"
    }
end


-- Returns a list of faults and a list of warnings, one line each, the arguments of the directive "user", and whether
-- other nodes may resume the TLS sessions of this one; true if the configuration could not be read whole.
-- version: ngx.config.nginx_version; requests_certificates: whether any server name has a certificate request;
-- engine: its policy is compared with nginx.conf; nil to check ssl_client_hello_by_lua* alone.
function _M.faults(path, version, requests_certificates, engine)
    local faults, user, map = {}, nil, nil
    local shares_sessions = false
    local hello, certificate, routes = {}, {}, { named = {}, read = {}, set = {}, unknown = false }
    local complete = nginx_conf.read(path, is_relevant, function(words, blocks, position, code)
        local name = words[1]
        if name == "user" and not blocks[1] then
            user = { words[2], words[3] }

        elseif blocks[1] ~= "http" then
            return

        elseif name == "ssl_session_ticket_key" or find(name, "^ssl_session_fetch_by_lua") then
            shares_sessions = true

        elseif find(name, "^ssl_client_hello_by_lua") then
            record_hook(hello, name, blocks, position, code, "client_hello")

        elseif find(name, "^ssl_certificate_by_lua") then
            record_hook(certificate, name, blocks, position, code, "certificate(")

        elseif blocks[#blocks] == "map" then
            -- The head of a map is visited before its lines.
            map = name == "map" and words[3] or map
            record_variable(routes, name ~= "map" and map, words[2], position)

        elseif name == "set" then
            record_variable(routes, words[2], words[3], position)

        elseif find(name, "_by_lua") then
            record_code(routes, name, code, position)
        end
    end)

    if complete and requests_certificates and not hello.at_http and not hello[1] then
        faults[1] = path .. ": no ssl_client_hello_by_lua* at http{} level: protected routes answer 421"
    end

    append(faults, hello_faults(hello, version), path, "ssl_client_hello_by_lua* at %d more wrong places")
    if not engine then
        return faults, {}, user, shares_sessions or not complete
    end

    if complete and requests_certificates and not certificate.at_http and not certificate[1] then
        faults[#faults + 1] = path .. ": no ssl_certificate_by_lua* that calls certificate(): no client certificate "
                              .. "is requested, protected routes answer 401"
    end

    append(faults, requests_certificates and certificate_faults(certificate) or {}, path,
           "%d more without a call of certificate()")
    -- Only warnings, since a later policy may have these routes.
    local warnings = {}
    append(warnings, unknown_routes(routes, engine), path, "%d more names of unknown routes")
    append(warnings, complete and unnamed_routes(routes, engine, path) or {}, path, "")

    return faults, warnings, user, shares_sessions or not complete
end


-- Files of the policy that the workers cannot read when they change, which nginx reads as root at the start, and a
-- state_dir that they cannot write to.
local function missing_permissions(engine, user)
    -- Without root, the workers run as the user who has just read them.
    if ffi.C.rmtls_geteuid() ~= 0 then
        return {}
    end

    local built = ngx.config.nginx_configure()
    user = user or { match(built, "%-%-user=(%S+)") or "nobody", match(built, "%-%-group=(%S+)") }

    return engine:missing_permissions(user[1], user[2], MAX_FAULTS)
end


-- The faults and warnings of the running nginx, and whether other nodes may resume its TLS sessions. Called in
-- init_by_lua*.
function _M.check(requests_certificates, engine)
    local path = nginx_conf.main_file()
    if not path then
        return {}, {}, true
    end

    local version = ngx.config.nginx_version
    local ok, faults, warnings, user, shares_sessions = pcall(_M.faults, path, version, requests_certificates, engine)
    -- Workers need not inherit the plans of all routes, which were looked up here.
    engine.plans = {}
    if not ok then
        return {}, {}, true
    end

    for _, fault in ipairs(missing_permissions(engine, user)) do
        faults[#faults + 1] = fault
    end

    return faults, warnings, shares_sessions
end


return _M
