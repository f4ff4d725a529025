-- Reads nginx.conf, since nginx has no API for its configuration: a lexer of directives, which finds the end of
-- Lua blocks and follows `include`.

local ffi = require "ffi"


local find = string.find
local match = string.match
local sub = string.sub

local MAX_FILES = 1000
local MAX_DEPTH = 16
-- Bytes of all files together, which take about a second.
local MAX_SIZE = 16 * 1024 * 1024


-- Under names with our prefix, since other code may have declared glob() with another glob_t.
ffi.cdef [[
int rmtls_glob(const char *pattern, int flags, void *error, void *out) __asm__("glob");
void rmtls_globfree(void *out) __asm__("globfree");
]]

-- The first fields of glob_t in glibc and musl, and space for the others.
local glob_type = ffi.typeof "struct { size_t count; char **paths; size_t offset; char rest[128]; }"


local _M = {}


-- The text of a file; nil when it cannot be read or has more than max bytes.
local function read_file(path, max)
    local file = io.open(path, "rb")
    if not file then
        return nil
    end

    -- In pieces, since LuaJIT allocates and keeps a buffer of the size that is read at once.
    local text, size = {}, 0
    repeat
        local piece = file:read(65536)
        text[#text + 1] = piece
        size = size + #(piece or "")
    until not piece or size > max
    file:close()

    -- A directory has no pieces.
    return size <= max and text[1] and table.concat(text) or nil
end


-- The files that match a pattern of "include".
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


-- The position after the long string or comment that begins at `at`; nil if none begins there.
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


-- The position after the brace that closes the Lua block whose code begins at `at`.
local function after_lua_block(text, at)
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


-- One file of read(). false when not everything could be read.
local function read_directives(state, path, blocks)
    state.files = state.files + 1
    local text = state.files <= MAX_FILES and #blocks <= MAX_DEPTH and read_file(path, state.left)
    if not text then
        return false
    end

    state.left = state.left - #text
    local complete = true
    local line, counted_to = 1, 1

    local function directive(words, start, code)
        if state.is_relevant(words[1], blocks) then
            -- Lines are counted from the previous directive; from the top, the time would be quadratic.
            local _, lines = sub(text, counted_to, start - 1):gsub("\n", "")
            line, counted_to = line + lines, start
            state.visit(words, blocks, path .. ":" .. line, code)
        end
    end

    local words = {}
    local at, start = 1, nil
    while true do
        at = find(text, "%S", at)
        if not at then
            return complete
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
            local last = after_lua_block(text, at + 1)
            directive(words, start, sub(text, at + 1, last - 2))
            words, start = {}, nil
            at = last

        elseif char == "{" then
            blocks[#blocks + 1] = words[1] or ""
            if words[1] == "map" then
                directive(words, start)
            end

            words, start = {}, nil
            at = at + 1

        elseif char == ";" then
            if words[1] == "include" and words[2] then
                local files = expand(absolute(words[2], state.directory))
                for _, file in ipairs(files) do
                    complete = read_directives(state, file, blocks) and complete
                end

                -- Only a pattern may match no file.
                complete = complete and (files[1] ~= nil or find(words[2], "[*?[]") ~= nil)

            elseif words[1] then
                directive(words, start, find(words[1], "_by_lua$") and words[2])
            end

            words, start = {}, nil
            at = at + 1

        else
            start = start or at
            -- ${name} is part of a word, and a backslash escapes the next character.
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


-- Reads a configuration file and those that it includes. Calls visit(words, blocks, position, code) for each
-- directive for which is_relevant(name, blocks) is true, and for the head of each map: blocks are the names of
-- the enclosing blocks, position is "FILE:LINE", code is the Lua in the directive. false when not everything
-- could be read.
function _M.read(path, is_relevant, visit)
    local state = {
        files = 0,
        left = MAX_SIZE,
        directory = match(path, "^(.*/)") or "",
        is_relevant = is_relevant,
        visit = visit,
    }

    return read_directives(state, path, {})
end


-- The value of nginx's option -c in the text of /proc/self/cmdline; "" without the option, nil when that is not
-- clear. After the start, which is when a HUP is handled, nginx has replaced the text by "nginx: master
-- process " and the arguments separated by spaces. A worker, which also runs init_by_lua* with lua_code_cache
-- off, has no arguments in its text.
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
            -- The directives of -g contain spaces too: a word that looks like an option may be part of them.
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


-- The configuration file that nginx was started with, or nil.
function _M.main_file()
    local cmdline = read_file("/proc/self/cmdline", MAX_SIZE)
    local path = cmdline and _M.option_c(cmdline)
    if path == "" then
        path = match(ngx.config.nginx_configure(), "%-%-conf%-path=(%S+)") or "conf/nginx.conf"
    end

    return path and absolute(path, ngx.config.prefix())
end


return _M
