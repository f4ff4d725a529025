# Needs GNU make. `make help` lists the targets.

PREFIX ?= /usr/local
LUA_LIB_DIR ?= $(PREFIX)/share/lua/5.1
# Where package.cpath looks for libresty_mtls.so.
LUA_CLIB_DIR ?= $(PREFIX)/lib/lua/5.1
CARGO ?= cargo
INSTALL ?= install

# A cargo of rustup's is often not on root's PATH.
export PATH := $(PATH):$(HOME)/.cargo/bin

# What t/*.t need, in whatever Debian they run; zlib and zstd for libcrypto.a, from Debian 13 on.
TEST_PACKAGES = nginx libnginx-mod-http-lua lua-resty-core lua-cjson \
	gcc libc6-dev make pkg-config libssl-dev openssl ca-certificates perl python3 curl gnutls-bin libnss3-tools apache2-utils procps \
	zlib1g-dev libzstd-dev
DEBIAN_PACKAGES = $(TEST_PACKAGES) python3-pip lua-check debootstrap util-linux iproute2

# Debian's nginx loads Lua as a module; an OpenResty or any other nginx named in the environment is taken as it is.
ifndef TEST_NGINX_BINARY
ifneq ($(wildcard /etc/debian_version),)
export TEST_NGINX_BINARY = /usr/sbin/nginx
export TEST_NGINX_LOAD_MODULES = /usr/lib/nginx/modules/ndk_http_module.so /usr/lib/nginx/modules/ngx_http_lua_module.so
endif
endif

# NIST PKITS, for t/340-pkits.t, and readers of metrics and headers, for t/170-metrics.t and t/133-readers.t.
VECTORS = $(CURDIR)/target/python
export PYTHONPATH := $(VECTORS)

.DEFAULT_GOAL := build
.PHONY: deps build test test-rust test-nginx test-platforms test-browser test-asan test-valgrind soak lint bench run install \
	header clean help

deps: ## Install what is missing to build, run and test (Debian, as root)
	@t/install-deps.sh $(DEBIAN_PACKAGES)
	@[ -d $(VECTORS)/cryptography_vectors ] || \
		python3 -m pip install --quiet --no-deps --target $(VECTORS) cryptography_vectors 2>/dev/null || \
		echo "NIST PKITS cannot be had from PyPI (cryptography_vectors): t/340-pkits.t will be skipped"
	@[ -d $(VECTORS)/prometheus_client ] || \
		python3 -m pip install --quiet --no-deps --target $(VECTORS) prometheus_client 2>/dev/null || \
		echo "prometheus_client cannot be had from PyPI: parts of t/170-metrics.t will be skipped"
	@t/install-readers.sh $(VECTORS)
	@t/install-oidc.sh

build: ## Build target/release/libresty_mtls.so and target/release/resty-mtls
	$(CARGO) build --release --locked

test: test-rust test-nginx ## Run all tests: cargo test, then t/*.t against nginx, here and in Debian 13
	OPTIONAL=1 t/platforms "$(TEST_PACKAGES)" 13

test-rust: deps
	$(CARGO) test --locked

test-nginx: deps
	$(CARGO) build --release --locked
	prove -r t

PLATFORMS ?= 12 13 sid
test-platforms: deps ## Run t/*.t in Debian 12, 13 and sid (PLATFORMS="12 13", T="t/000-abi.t" choose)
	$(CARGO) build --release --locked
	t/platforms "$(TEST_PACKAGES)" $(PLATFORMS)

test-browser: deps ## Install Chromium and Firefox and see them come back after a 421
	@t/install-deps.sh chromium firefox-esr
	$(CARGO) build --release --locked
	TEST_BROWSER=1 prove -v t/380-browser.t

test-asan: deps ## Run t/*.t with the library and nginx under AddressSanitizer (T="t/000-abi.t" chooses)
	$(CARGO) fetch --locked
	t/alone t/sanitize.py asan $(T)

test-valgrind: deps ## Run some of t/*.t with nginx under Valgrind, slowly (T="t/000-abi.t" chooses)
	t/install-deps.sh valgrind
	$(CARGO) fetch --locked
	t/alone t/sanitize.py valgrind $(T)

soak: deps ## Run mTLS traffic with reloads for SOAK_SECONDS=600, after 80 seconds that prove its alarms
	$(CARGO) build --release --locked
	t/alone t/soak.py alarm
	t/alone t/soak.py

lint: ## Check formatting and lints: rustfmt, clippy, luacheck, perl -c
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	luacheck --quiet lua
	for module in t/*.pm; do perl -I. -c $$module || exit 1; done

bench: deps ## Measure worker CPU, the SNI map and reloads under load against their budgets
	benches/run
	benches/reload

run: deps ## Start a demo gateway on loopback and print what to try (ONCE=1: walk through it and stop)
	$(CARGO) build --release --locked
	ONCE=$(ONCE) nginx-conf/demo/run

# What packaging/install reads. OpenResty's LuaJIT searches site/lualib: see README.md.
BIN_DIR ?= $(PREFIX)/bin
INCLUDE_DIR ?= $(PREFIX)/include
DATA_DIR ?= $(PREFIX)/share/resty-mtls
DOC_DIR ?= $(PREFIX)/share/doc/resty-mtls
MAN_DIR ?= $(PREFIX)/share/man
BASH_COMPLETION_DIR ?= $(PREFIX)/share/bash-completion/completions
ZSH_COMPLETION_DIR ?= $(PREFIX)/share/zsh/site-functions
FISH_COMPLETION_DIR ?= $(PREFIX)/share/fish/vendor_completions.d
LISTED ?= yes
STRIP ?= strip
OBJCOPY ?= objcopy
install install-debug uninstall: export DESTDIR := $(DESTDIR)
$(foreach name,PREFIX LUA_LIB_DIR LUA_CLIB_DIR BIN_DIR INCLUDE_DIR DATA_DIR DOC_DIR MAN_DIR BASH_COMPLETION_DIR \
	ZSH_COMPLETION_DIR FISH_COMPLETION_DIR LISTED INSTALL STRIP OBJCOPY,\
	$(eval install install-debug uninstall: export $(name) := $($(name))))

.PHONY: built install-debug uninstall rock deb test-deb
# What is built is installed as it is: root needs no cargo.
built:
	@[ -e target/release/libresty_mtls.so ] && [ -e target/release/resty-mtls ] || $(MAKE) build

install: built ## Install what is built under PREFIX (also DESTDIR, LUA_LIB_DIR, LUA_CLIB_DIR)
	@packaging/install

install-debug: built ## Install, and debug files for gdb with it
	@packaging/install --debug

uninstall: ## Remove what `make install` put there (the same DESTDIR and PREFIX)
	@packaging/install --uninstall

deb: deps ## Build a package for Debian in target/deb
	@t/install-deps.sh dpkg-dev debhelper
	@mkdir -p target/deb
	@# `make deps` has installed what Build-Depends names; build-essential has a C++ compiler too, which nothing needs.
	DEB_DIR=target/deb dpkg-buildpackage --no-check-builddeps --build=binary --unsigned-changes --unsigned-buildinfo --post-clean \
		--buildinfo-file=target/deb/resty-mtls.buildinfo --buildinfo-option=-utarget/deb \
		--changes-file=target/deb/resty-mtls.changes --changes-option=-utarget/deb

test-deb: deb ## Try the package in a fresh Debian 13: install, serve, upgrade under traffic, remove, purge
	@t/install-deps.sh lintian debootstrap
	t/deb

ROCK_TREE ?= $(CURDIR)/target/rock
rock: ## Build and install as a rock of LuaRocks under ROCK_TREE (target/rock)
	luarocks --lua-version 5.1 --tree "$(ROCK_TREE)" make rockspec/resty-mtls-scm-1.rockspec

header: ## Write include/resty_mtls.h and lua/resty/mtls/cdef.lua anew from src/ffi
	RMTLS_BLESS=1 $(CARGO) test --locked --lib generated

clean: ## Remove everything that was built
	$(CARGO) clean
	rm -rf t/servroot* t/pki/out

help: ## Show this help
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | \
		while IFS='|' read -r target text; do printf '%-14s %s\n' "$$target" "$$text"; done
