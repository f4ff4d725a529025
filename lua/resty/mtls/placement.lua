-- Where nginx.conf has ssl_client_hello_by_lua*. nginx takes it in any server block, but it works for
-- all server names only at http{} level: nginx before 1.29.2 runs the one of the listener's default
-- server for every name, newer ones run the one of the server that the name selects, and fail the
-- handshake when that has none.
--
-- nginx offers no API for this, so its configuration is read. What cannot be found or read is not
-- judged.

local ffi = require "ffi"


local concat = table.concat
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
local DEFAULT_ONLY = "this nginx runs that of a listener's default server only, for all server names"
local OWN_ONLY = "this nginx fails the handshakes of servers that have none"


-- Under names of our own: other code may have declared glob() with another glob_t.
ffi.cdef [[
int rmtls_glob(const char *pattern, int flags, void *error, void *out) __asm__("glob");
void rmtls_globfree(void *out) __asm__("globfree");
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


-- Calls seen(name, blocks, place, code) for each ssl_client_hello_by_lua*: blocks are the names of
-- those around it, code is the Lua of a block. false when not all could be read.
local function walk(state, path, blocks, seen)
    state.files = state.files + 1
    local text = state.files <= MAX_FILES and #blocks <= MAX_DEPTH and read(path, state.left)
    if not text then
        return false
    end

    state.left = state.left - #text
    local whole = true
    local line, counted = 1, 1

    local function found(name, start, code)
        if find(name, "^ssl_client_hello_by_lua") then
            -- Onwards from the last one: from the top, many of them would take for ever.
            local _, lines = sub(text, counted, start - 1):gsub("\n", "")
            line, counted = line + lines, start
            seen(name, blocks, path .. ":" .. line, code)
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
            found(words[1], start, sub(text, at + 1, last - 2))
            words, start = {}, nil
            at = last

        elseif char == "{" then
            blocks[#blocks + 1] = words[1] or ""
            words, start = {}, nil
            at = at + 1

        elseif char == ";" then
            if words[1] == "include" and words[2] then
                for _, file in ipairs(expand(absolute(words[2], state.directory))) do
                    whole = walk(state, file, blocks, seen) and whole
                end

            elseif words[1] then
                found(words[1], start)
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


-- Whether the hook of a server may call client_hello(): a file or a module of its own may.
local function may_call(name, code)
    return not code or find(name, "_file$") or find(code, "client_hello", 1, true)
           or find(code, "require", 1, true) or find(code, "dofile", 1, true)
end


-- A list of what is wrong, one line each. version: ngx.config.nginx_version; asks: whether any
-- handshake asks for a certificate.
function _M.faults(path, version, asks)
    local faults, at_http, in_server = {}, nil, {}
    local state = { files = 0, left = MAX_SIZE, directory = path:match("^(.*/)") or "" }

    local whole = walk(state, path, {}, function(name, blocks, place, code)
        if blocks[1] ~= "http" then
            return
        end

        if blocks[2] == "server" then
            in_server[#in_server + 1] = { place = place, may_call = may_call(name, code) }
        else
            at_http = place
        end
    end)

    for _, found in ipairs(in_server) do
        if not at_http then
            faults[#faults + 1] = found.place .. ": ssl_client_hello_by_lua* in a server block, expected at "
                                  .. "http{} level: " .. (version >= 1029002 and OWN_ONLY or DEFAULT_ONLY)

        elseif not found.may_call then
            faults[#faults + 1] = found.place .. ": ssl_client_hello_by_lua* of a server replaces that at "
                                  .. "http{} level (" .. at_http .. "), expected none, or a call of client_hello()"
        end
    end

    local more = #faults - MAX_FAULTS
    if more > 0 then
        for i = #faults, MAX_FAULTS + 1, -1 do
            faults[i] = nil
        end

        faults[MAX_FAULTS + 1] = path .. ": ssl_client_hello_by_lua* at " .. more .. " more wrong places"
    end

    if whole and asks and not at_http and not in_server[1] then
        faults[1] = path .. ": no ssl_client_hello_by_lua* at http{} level: protected routes answer 421"
    end

    return faults
end


-- The same of the nginx that runs this, in init_by_lua*.
function _M.check(asks)
    local path = main_file()
    local ok, faults = pcall(_M.faults, path or "", ngx.config.nginx_version, asks)

    return ok and path and faults or {}
end


return _M
