-- The text of a block in a fleet, which never changes, and the secret that ends it.
--
--     DIGEST OF THE SECRET, "1", ADDED, ENDS, NONCE, NODE, SELECTOR, REASON     with tabs between
--
-- Its key in Redis is a digest of it. The secret is an HMAC of the text from "1" on, under the key of the node that
-- made the block or the common key of all nodes: whoever has the key can make the secret again, and everybody can
-- compare it with its digest.

local ffi = require "ffi"
local library = require "resty.mtls.internal.library"


local C = library.C


ffi.cdef [[
unsigned int umask(unsigned int mask);
]]


-- Bytes: a selector of 1,400, a reason of 500, and the rest
local MAX_ENTRY = 2400
local KEY_FILE = "/fleet.key"


local _M = {}


-- 64 hexadecimal digits
local function hmac(secret, data)
    return assert(library.read("fleet", function(out)
        return C.rmtls_hmac_sha256(secret, #secret, data, #data, out, nil)
    end))
end
_M.hmac = hmac


-- The key of an entry in Redis.
function _M.id_of(value)
    return hmac("resty-mtls block", value)
end


local function commitment_of(secret)
    return hmac("resty-mtls unblock", secret)
end
_M.commitment_of = commitment_of


-- The selector in normal form, or nil.
local function form_of(selector)
    return (library.read("fleet", function(out)
        return C.rmtls_selector_normal_form(selector, #selector, out, nil)
    end))
end
_M.form_of = form_of


-- The text of a record's selector.
function _M.selector_of(record)
    if record.serial then
        return "serial " .. record.serial .. " " .. record.issuer_dn
    end

    return record.sha256 and "sha256 " .. record.sha256 or "spki_sha256 " .. record.spki_sha256
end


-- A record with this selector.
function _M.record_of(selector)
    local kind, rest = selector:match("^(%S+) (.*)$")
    if kind ~= "serial" then
        return { [kind] = rest }
    end

    local serial, issuer = rest:match("^(%S+) (.*)$")

    return { serial = serial, issuer_dn = issuer }
end


-- What an entry says, without the digest of its secret.
local function content_of(entry)
    return table.concat({ "1", entry.added, entry.ends, entry.nonce, entry.node, entry.selector, entry.reason }, "\t")
end


-- Completes an entry that was made here: { form, selector, added, ends, nonce, node, reason }.
function _M.seal(entry, key)
    local content = content_of(entry)
    entry.commitment = commitment_of(hmac(key, content))
    entry.value = entry.commitment .. "\t" .. content
end


-- The secret that ends the block of an entry; nil when it was made by another key.
function _M.secret_of(entry, key)
    local secret = hmac(key, content_of(entry))

    return commitment_of(secret) == entry.commitment and secret or nil
end


-- Reads an entry. Times are those of the clock of Redis; ends is 0 without an end. nil when it is malformed.
function _M.parse(value)
    if type(value) ~= "string" or #value > MAX_ENTRY then
        return nil
    end

    local commitment, added, ends, nonce, node, selector, reason =
        value:match("^(%x+)\t1\t(%d+)\t(%d+)\t(%x+)\t([%w.-]*)\t([^%c]+)\t([^%c]*)$")
    if not commitment or #commitment ~= 64 or #nonce ~= 32 or #added > 12 or #ends > 12 or #node > 64 then
        return nil
    end

    local form = form_of(selector)
    if not form then
        return nil
    end

    return { value = value, form = form, commitment = commitment, added = tonumber(added), ends = tonumber(ends),
             nonce = nonce, node = node, selector = selector, reason = reason }
end


-- The first bytes of a file, or nil.
local function read_file(path, size)
    local file = io.open(path, "rb")
    if not file then
        return nil
    end

    local text = file:read(size)
    file:close()

    return text
end
_M.read_file = read_file


-- Writes a file that only its owner can read.
local function write_file(path, text)
    local mask = ffi.C.umask(63)
    local file = io.open(path .. ".new", "wb")
    local ok = file and file:write(text) and file:close() and os.rename(path .. ".new", path)
    ffi.C.umask(mask)

    return ok
end


-- The key of this node: the one that was kept in the dictionary, else that of state_dir, else a new one. It is written
-- to state_dir, if there is one, where a restart finds it.
function _M.node_key(kept, state_dir)
    local path = state_dir and state_dir .. KEY_FILE
    local filed = path and read_file(path, 64)
    local key = kept or filed
    if not key or #key ~= 64 then
        local random = read_file("/dev/urandom", 32)
        if not random or #random ~= 32 then
            error("[mtls] redis: no random numbers from /dev/urandom", 0)
        end

        key = hmac("resty-mtls fleet", random)
    end

    if path and filed ~= key and not write_file(path, key) then
        ngx.log(ngx.WARN, "[mtls] fleet: ", path, " cannot be written: after a restart, blocks of this node can be ",
                "unblocked on this node only")
    end

    return key
end


return _M
