-- What nginx.conf must have for a policy to have an effect, and has not: the hooks of the handshakes,
-- the routes of the policy, and a user that may read its files.
--
-- nginx takes ssl_client_hello_by_lua* in any server block, but it works for all server names only at
-- http{} level: nginx before 1.29.2 runs the one of the listener's default server for every name, newer
-- ones run the one of the server that the name selects, and fail the handshake when that has none.
--
-- nginx offers no API for this, so its configuration is read. What cannot be found or read is not
-- judged.

local ffi = require "ffi"


local concat = table.concat
local gmatch = string.gmatch
local gsub = string.gsub
local find = string.find
local ipairs = ipairs
local match = string.match
local pcall = pcall
local sub = string.sub

local MAX_FILES = 1000
local MAX_DEPTH = 16
-- Of all files together, in bytes: about a second.
local MAX_SIZE = 16 * 1024 * 1024
-- That are told one by one
local MAX_FAULTS = 20
-- Names in one line
local MAX_NAMES = 10
local DEFAULT_ONLY = "this nginx runs that of a listener's default server only, for all server names"
local OWN_ONLY = "this nginx fails the handshakes of servers that have none"


-- Under names of our own: other code may have declared glob() with another glob_t.
ffi.cdef [[
int rmtls_glob(const char *pattern, int flags, void *error, void *out) __asm__("glob");
void rmtls_globfree(void *out) __asm__("globfree");
unsigned int rmtls_geteuid(void) __asm__("geteuid");
]]

-- What glob_t begins with, and room for the rest, in glibc and in musl.
local glob_type = ffi.typeof "struct { size_t count; char **paths; size_t offset; char rest[128]; }"


local _M = {}


-- nil when there is nothing to read, or more than max bytes.
local function read(path, max)
    local file = io.open(path, "rb")
    if not file then
        return nil
    end

    -- In pieces: LuaJIT allocates and keeps a buffer of the size that is asked for.
    local text, size = {}, 0
    repeat
        local piece = file:read(65536)
        text[#text + 1] = piece
        size = size + #(piece or "")
    until not piece or size > max
    file:close()

    -- Nothing at all for a directory
    return size <= max and text[1] and concat(text) or nil
end


-- The files that a pattern of "include" stands for.
local function expand(pattern)
    local out = glob_type()
    local paths = {}
    if ffi.C.rmtls_glob(pattern, 0, nil, out) == 0 then
        for i = 0, tonumber(out.count) - 1 do
            paths[i + 1] = ffi.string(out.paths[i])
        end

        ffi.C.rmtls_globfree(out)
    end

    return paths
end


local function absolute(path, directory)
    return sub(path, 1, 1) == "/" and path or directory .. path
end


-- Where a long string or comment that begins at `at` ends; nil if none begins there.
local function after_long_bracket(text, at)
    local equals = match(text, "^%[(=*)%[", at)
    if not equals then
        return nil
    end

    local _, last = find(text, "]" .. equals .. "]", at, true)

    return (last or #text) + 1
end


local function after_quoted(text, at)
    local quote = sub(text, at, at)
    at = at + 1
    while true do
        local found = find(text, "[\\" .. quote .. "]", at)
        if not found then
            return #text + 1
        end

        if sub(text, found, found) == quote then
            return found + 1
        end

        at = found + 2
    end
end


-- Where the Lua code that begins at `at`, after its brace, ends: after the brace that closes it.
local function after_lua(text, at)
    local depth = 1
    while depth > 0 do
        at = find(text, "[%-'\"%[{}]", at)
        if not at then
            return #text + 1
        end

        local char = sub(text, at, at)
        if char == "'" or char == '"' then
            at = after_quoted(text, at)

        elseif char == "[" then
            at = after_long_bracket(text, at) or at + 1

        elseif char == "-" then
            if sub(text, at + 1, at + 1) ~= "-" then
                at = at + 1

            else
                at = after_long_bracket(text, at + 2) or find(text, "\n", at, true) or #text + 1
            end

        else
            depth = depth + (char == "{" and 1 or -1)
            at = at + 1
        end
    end

    return at
end


-- Whether seen() wants a directive.
local function is_wanted(name, blocks)
    return name == "set" or name == "user" or blocks[#blocks] == "map" or find(name, "_by_lua")
end


-- Calls seen(words, blocks, place, code) for each directive that is_wanted(), and for the head of each
-- map: blocks are the names of those around it, code is the Lua in it. false when not all could be
-- read.
local function walk(state, path, blocks, seen)
    state.files = state.files + 1
    local text = state.files <= MAX_FILES and #blocks <= MAX_DEPTH and read(path, state.left)
    if not text then
        return false
    end

    state.left = state.left - #text
    local whole = true
    local line, counted = 1, 1

    local function found(words, start, code)
        if is_wanted(words[1], blocks) then
            -- Onwards from the last one: from the top, many of them would take for ever.
            local _, lines = sub(text, counted, start - 1):gsub("\n", "")
            line, counted = line + lines, start
            seen(words, blocks, path .. ":" .. line, code)
        end
    end

    local words = {}
    local at, start = 1, nil
    while true do
        at = find(text, "%S", at)
        if not at then
            return whole
        end

        local char = sub(text, at, at)
        if char == "#" then
            at = find(text, "\n", at, true) or #text + 1

        elseif char == "'" or char == '"' then
            start = start or at
            local last = after_quoted(text, at)
            words[#words + 1] = sub(text, at + 1, last - 2)
            at = last

        elseif char == "}" then
            blocks[#blocks] = nil
            words, start = {}, nil
            at = at + 1

        elseif char == "{" and words[1] and find(words[1], "_by_lua_block$") then
            local last = after_lua(text, at + 1)
            found(words, start, sub(text, at + 1, last - 2))
            words, start = {}, nil
            at = last

        elseif char == "{" then
            blocks[#blocks + 1] = words[1] or ""
            if words[1] == "map" then
                found(words, start)
            end

            words, start = {}, nil
            at = at + 1

        elseif char == ";" then
            if words[1] == "include" and words[2] then
                local files = expand(absolute(words[2], state.directory))
                for _, file in ipairs(files) do
                    whole = walk(state, file, blocks, seen) and whole
                end

                -- Only a pattern may stand for no file.
                whole = whole and (files[1] ~= nil or find(words[2], "[*?[]") ~= nil)

            elseif words[1] then
                found(words, start, find(words[1], "_by_lua$") and words[2])
            end

            words, start = {}, nil
            at = at + 1

        else
            start = start or at
            -- ${name} is part of a word, and a backslash takes the next character with it.
            local from = at
            while true do
                local stop = find(text, "[%s;{\\]", at)
                if not stop then
                    at = #text + 1
                    break
                end

                char = sub(text, stop, stop)
                if char == "\\" then
                    at = stop + 2

                elseif char == "{" and sub(text, stop - 1, stop - 1) == "$" and stop > from then
                    at = stop + 1

                else
                    at = stop
                    break
                end
            end

            words[#words + 1] = sub(text, from, at - 1)
        end
    end
end


-- What nginx was given as -c in the text of /proc/self/cmdline; "" when it was not. nil when that
-- cannot be told. After the start, which is when a HUP comes, nginx has "nginx: master process "
-- before the command line, and blanks between its arguments. A worker, which runs init_by_lua* too
-- with lua_code_cache off, shows none.
function _M.option_c(cmdline)
    local title = match(cmdline, "^nginx: master process ([^%z]*)")
    if not title and find(cmdline, "^nginx: ") then
        return nil
    end

    local words = {}
    for word in (title or cmdline):gmatch(title and "%S+" or "[^%z]+") do
        words[#words + 1] = word
    end

    local path = ""
    local at = 2
    while at <= #words do
        local flags, option, value = match(words[at], "^%-([?hvVtTq]*)([pcgse]?)(.*)$")
        if not flags then
            return nil
        end

        if option == "g" and title then
            -- Its directives have blanks too: what looks like an option may be one of their words.
            for i = at + 1, #words do
                if find(words[i], "^%-") then
                    return nil
                end
            end

            return path
        end

        if option ~= "" and value == "" then
            at = at + 1
            value = words[at]
        end

        if option == "c" then
            path = value or ""
        end

        at = at + 1
    end

    return path
end


-- The file that nginx was started with, or nil.
local function main_file()
    local cmdline = read("/proc/self/cmdline", MAX_SIZE)
    local path = cmdline and _M.option_c(cmdline)
    if path == "" then
        path = match(ngx.config.nginx_configure(), "%-%-conf%-path=(%S+)") or "conf/nginx.conf"
    end

    return path and absolute(path, ngx.config.prefix())
end


-- Whether code runs what is not in nginx.conf: modules, but for those of nginx and OpenResty.
local function runs_others(code)
    code = gsub(code, "require[%s(]*['\"]ngx%.[^'\"]*['\"]", "")
    code = gsub(code, "require[%s(]*['\"]resty%.[^'\"]*['\"]", "")

    return find(code, "require", 1, true) or find(code, "dofile", 1, true)
end


-- The lists of what is wrong, in the order of the log.
local function add(faults, found, path, more)
    for i = 1, math.min(#found, MAX_FAULTS) do
        faults[#faults + 1] = found[i]
    end

    if #found > MAX_FAULTS then
        faults[#faults + 1] = path .. ": " .. more:format(#found - MAX_FAULTS)
    end
end


-- Where nginx.conf has a hook of the handshakes, and whether it may make the call it is for.
local function note_hook(hook, name, blocks, place, code, call)
    local noted = {
        place = place,
        may_call = not code or find(name, "_file$") or find(code, call, 1, true) or runs_others(code),
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
            found[#found + 1] = server.place .. ": ssl_client_hello_by_lua* in a server block, expected at "
                                .. "http{} level: " .. (version >= 1029002 and OWN_ONLY or DEFAULT_ONLY)

        elseif not server.may_call then
            found[#found + 1] = server.place .. ": ssl_client_hello_by_lua* of a server replaces that at "
                                .. "http{} level (" .. hook.at_http.place .. "), expected none, or a call of "
                                .. "client_hello()"
        end
    end

    return found
end


local function certificate_faults(hook)
    local found = {}
    if hook.at_http and not hook.at_http.may_call then
        found[1] = hook.at_http.place .. ": ssl_certificate_by_lua* does not call certificate(): no client is asked "
                   .. "for a certificate, protected routes answer 401"
    end

    for _, server in ipairs(hook) do
        if not server.may_call then
            found[#found + 1] = server.place .. ": ssl_certificate_by_lua* of a server does not call certificate(): "
                                .. "its clients are not asked for a certificate, protected routes answer 401"
        end
    end

    return found
end


-- routes.named: texts that may name a route; routes[i]: those that are meant to; routes.unknown: whether
-- there may be names that are not seen here; routes.read and routes.set: the variables that access() is
-- called with, and those whose values are seen here ("fixed") or not.
local function note_value(routes, variable, value, place)
    if not variable or not value then
        return
    end

    if find(value, "$", 1, true) then
        routes.set[variable] = "worked out"

        return
    end

    routes.set[variable] = routes.set[variable] or "fixed"
    routes.named[value] = true
    if variable == "$mtls_route" and value ~= "" then
        routes[#routes + 1] = { name = value, place = place }
    end
end


local function note_code(routes, name, code, place)
    local may_decide = find(name, "access", 1, true) or find(name, "rewrite", 1, true)
    if not code or find(name, "_file$") then
        routes.unknown = routes.unknown or may_decide

        return
    end

    code = gsub(code, "%-%-[^\n]*", "")
    for _, text in gmatch(code, "(['\"])([^'\"\n]*)%1") do
        routes.named[text] = true
    end

    routes.unknown = routes.unknown or may_decide and runs_others(code)
    for argument in gmatch(code, "%f[%w_]access%s*%(%s*([^)]-)%s*%)") do
        local _, route = match(argument, "^(['\"])([^'\"]*)%1$")
        local variable = match(argument, "^ngx%.var%.([%w_]+)")
        if route and route ~= "" and find(code, "mtls", 1, true) then
            routes[#routes + 1] = { name = route, place = place }

        elseif variable then
            routes.read["$" .. variable] = true

        elseif not route and argument ~= "" and argument ~= "nil" then
            -- Lua works it out.
            routes.unknown = true
        end
    end
end


-- Names that are no route of the policy.
local function unknown_routes(routes, engine)
    local found = {}
    for _, route in ipairs(routes) do
        if not engine:plan(route.name) then
            found[#found + 1] = route.place .. ": " .. engine:no_route(route.name, ngx.time())
        end
    end

    return found
end


local UUID = "^" .. ("%x"):rep(8) .. ("%-" .. ("%x"):rep(4)):rep(3) .. "%-" .. ("%x"):rep(12) .. "$"


-- Routes of the policy that are named nowhere; none where names may be unseen.
local function unnamed_routes(routes, engine, path)
    for variable in pairs(routes.read) do
        routes.unknown = routes.unknown or routes.set[variable] ~= "fixed"
    end

    if routes.unknown then
        return {}
    end

    -- A route that is named by its id is found by its plan, which it may share with others.
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
        path .. ": no location names the route" .. (count > 1 and "s " or " ") .. concat(names, ", ")
        .. (count > MAX_NAMES and " and " .. count - MAX_NAMES .. " more" or "") .. " of the policy: "
        .. (count > 1 and "their" or "its") .. " plugins apply to no request; expected 'set $mtls_route NAME;' or "
        .. "access(NAME)"
    }
end


-- A list of what is wrong, one line each, one of what may be meant so, and the words of the directive
-- "user". version: ngx.config.nginx_version; asks: whether any handshake asks for a certificate; engine:
-- its policy is compared with the rest of nginx.conf, nil for ssl_client_hello_by_lua* alone.
function _M.faults(path, version, asks, engine)
    local faults, user, map = {}, nil, nil
    local hello, certificate, routes = {}, {}, { named = {}, read = {}, set = {}, unknown = false }
    local state = { files = 0, left = MAX_SIZE, directory = path:match("^(.*/)") or "" }

    local whole = walk(state, path, {}, function(words, blocks, place, code)
        local name = words[1]
        if name == "user" and not blocks[1] then
            user = { words[2], words[3] }

        elseif blocks[1] ~= "http" then
            return

        elseif find(name, "^ssl_client_hello_by_lua") then
            note_hook(hello, name, blocks, place, code, "client_hello")

        elseif find(name, "^ssl_certificate_by_lua") then
            note_hook(certificate, name, blocks, place, code, "certificate(")

        elseif blocks[#blocks] == "map" then
            -- Its own head is seen first.
            map = name == "map" and words[3] or map
            note_value(routes, name ~= "map" and map, words[2], place)

        elseif name == "set" then
            note_value(routes, words[2], words[3], place)

        elseif find(name, "_by_lua") then
            note_code(routes, name, code, place)
        end
    end)

    if whole and asks and not hello.at_http and not hello[1] then
        faults[1] = path .. ": no ssl_client_hello_by_lua* at http{} level: protected routes answer 421"
    end

    add(faults, hello_faults(hello, version), path, "ssl_client_hello_by_lua* at %d more wrong places")
    if not engine then
        return faults, {}, user
    end

    if whole and asks and not certificate.at_http and not certificate[1] then
        faults[#faults + 1] = path .. ": no ssl_certificate_by_lua* that calls certificate(): no client is asked for a "
                              .. "certificate, protected routes answer 401"
    end

    add(faults, asks and certificate_faults(certificate) or {}, path, "%d more without a call of certificate()")
    -- A policy may get them later.
    local warnings = {}
    add(warnings, unknown_routes(routes, engine), path, "%d more names of unknown routes")
    add(warnings, whole and unnamed_routes(routes, engine, path) or {}, path, "")

    return faults, warnings, user
end


-- Files of the policy that the workers will not be able to read when they change: at the start nginx
-- reads them as root.
local function unreadable(engine, user)
    -- Of another user, the workers run as whoever has just read them.
    if ffi.C.rmtls_geteuid() ~= 0 then
        return {}
    end

    local built = ngx.config.nginx_configure()
    user = user or { match(built, "%-%-user=(%S+)") or "nobody", match(built, "%-%-group=(%S+)") }

    return engine:unreadable(user[1], user[2], MAX_FAULTS)
end


-- The two lists of faults() for the nginx that runs this, in init_by_lua*.
function _M.check(asks, engine)
    local path = main_file()
    if not path then
        return {}, {}
    end

    local ok, faults, warnings, user = pcall(_M.faults, path, ngx.config.nginx_version, asks, engine)
    -- It has looked up every route, which workers need not inherit.
    engine.plans = {}
    if not ok then
        return {}, {}
    end

    for _, fault in ipairs(unreadable(engine, user)) do
        faults[#faults + 1] = fault
    end

    return faults, warnings
end


return _M
