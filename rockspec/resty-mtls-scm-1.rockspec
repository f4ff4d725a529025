-- `luarocks --lua-version 5.1 make` in the source tree builds with cargo and installs.
rockspec_format = "3.0"
package = "resty-mtls"
version = "scm-1"
-- Not fetched by `make`.
source = {
   url = "git+file://.",
}
description = {
   summary = "Client certificates (mTLS) for nginx with lua-nginx-module and for OpenResty",
   detailed = [[
      Requests client certificates per server name, verifies them for each route, and describes the client to the
      upstream in headers. Needs nginx with lua-nginx-module and lua-resty-core, or OpenResty. lua-cjson is needed for
      policies in Lua tables and for the status page.
   ]],
   license = "Apache-2.0",
   labels = { "nginx", "openresty", "tls" },
}
supported_platforms = { "linux" }
dependencies = {
   "lua == 5.1",
}
external_dependencies = {
   OPENSSL = { header = "openssl/ssl.h", library = "ssl" },
}
build = {
   -- Not "make", which passes CFLAGS to the build: cargo would build openssl-sys again with them.
   type = "command",
   build_command = "$(MAKE) build",
   -- LuaRocks moves the Lua modules, the library and the command to its tree, and keeps the rest in the rock's directory.
   install_command = "$(MAKE) install LISTED=no DESTDIR= 'PREFIX=$(PREFIX)' 'LUA_LIB_DIR=$(LUADIR)' 'LUA_CLIB_DIR=$(LIBDIR)' "
      .. "'BIN_DIR=$(BINDIR)' 'DOC_DIR=$(PREFIX)/doc'",
}
