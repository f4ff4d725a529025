#!/bin/sh
# Installs missing packages, after a line with their names and size. Does nothing when all are installed.
#
# Usage: t/install-deps.sh [--for PURPOSE] [--rust] [--lint] [--luajit] [--test-nginx] PACKAGE... (Debian package names)
#   --for         the purpose in that line, after "to"
#   --rust        also a recent cargo, if the machine has none
#   --lint        rustfmt and clippy of that toolchain too
#   --luajit      what compiles and links against the LuaJIT of the distribution's lua-nginx-module too: cargo's tests do
#   --test-nginx  Test::Nginx too
#
# The output of apt goes to target/deps.log. Daemons of new packages are neither started nor left enabled; daemons that
# are installed already stay as they are.
set -eu
cd "$(dirname "$0")/.."

log=target/deps.log

fail() {
    echo "deps: $1" >&2
    exit 1
}

rust='' lint='' luajit='' test_nginx='' purpose='go on'
while :; do
    case ${1-} in
        --for) purpose=$2 && shift ;;
        --rust) rust=yes ;;
        --lint) lint=yes ;;
        --luajit) luajit=yes ;;
        --test-nginx) test_nginx=yes ;;
        *) break ;;
    esac
    shift
done
# The same value as in the Makefile
PATH=$PWD/target/toolchain:$PATH

version=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)

have_rust() {
    [ -z "$rust" ] || t/toolchain.sh --quiet
}

have_lint() {
    [ -z "$lint" ] || { cargo fmt --version && cargo clippy --version; } >/dev/null 2>&1
}

have_luajit() {
    [ -z "$luajit" ] || pkg-config --exists luajit 2>/dev/null
}

have_test_nginx() {
    [ -z "$test_nginx" ] || perl -MTest::Nginx::Socket -e 1 2>/dev/null
}

if ! command -v dpkg-query >/dev/null; then
    # Every target would print this line; one is enough.
    [ -z "$rust" ] || echo "deps: not a Debian system, nothing installed. Needed: cargo and rustc >= $version, a C compiler," \
        "pkg-config, the OpenSSL headers of the nginx in use, nginx with lua-nginx-module and lua-resty-core (or OpenResty)," \
        "lua-cjson, curl, the openssl command; for the tests also Test::Nginx, python3 with pip, perl, the headers of" \
        "LuaJIT; luacheck and shellcheck for make lint"
    exit 0
fi

# Debian 13 and later have an nginx with HTTP/3, and a client for it.
if [ -n "$test_nginx" ]; then
    release=$(sed -n 's/^VERSION_ID="*\([0-9]*\).*/\1/p' /etc/os-release)
    [ "${release:-99}" -lt 13 ] || set -- "$@" python3-aioquic
fi

missing=
for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing="$missing $package"
done
if [ -z "$missing" ] && have_rust && have_lint && have_luajit && have_test_nginx; then
    exit 0
fi

if [ "$(id -u)" != 0 ]; then
    t/toolchain.sh --quiet || missing="$missing cargo>=$version"
    have_lint || missing="$missing rustfmt clippy"
    have_luajit || missing="$missing libluajit-5.1-dev"
    have_test_nginx || missing="$missing libtest-nginx-perl"
    fail "to $purpose, these are missing:$missing; run 'make deps' or this as root"
fi

mkdir -p target
: >> "$log"
dir=$(mktemp -d)
chmod 755 "$dir"
policy=
finish() {
    rm -rf "$dir"
    [ -z "$policy" ] || rm -f "$policy"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

# Debian starts a daemon when it installs it: this policy answers "no", so nginx does not take port 80.
if [ ! -e /usr/sbin/policy-rc.d ]; then
    policy=/usr/sbin/policy-rc.d
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
fi

installed() {
    dpkg-query -W -f '${db:Status-Status} ${Package}\n' | sed -n 's/^installed //p' | sort
}

# disable PACKAGE...: disables the daemons of these packages
disable() {
    dpkg-query -L "$@" > "$dir/files" 2>> "$log" || return 0
    # deb-systemd-helper works for dpkg only, without systemd too.
    export DPKG_MAINTSCRIPT_PACKAGE=nginx
    for unit in $(sed -n 's,^\(/usr\)\?/lib/systemd/system/\([^/@]*\.\(service\|socket\|timer\|path\)\)$,\2,p' "$dir/files"); do
        deb-systemd-helper --quiet was-enabled "$unit" 2>/dev/null || continue
        deb-systemd-helper disable "$unit" >> "$log" 2>&1 || continue
        echo "deps: $unit is not enabled (systemctl enable $unit)"
    done
    for script in $(sed -n 's,^/etc/init\.d/\([^/]*\)$,\1,p' "$dir/files"); do
        update-rc.d "$script" disable >> "$log" 2>&1 || true
    done
    unset DPKG_MAINTSCRIPT_PACKAGE
}

# apt_install PACKAGE...: prints one line and installs them
apt_install() {
    # apt prints its plan and exits with 1, as nobody confirmed it.
    plan=$(LC_ALL=C apt-get install --assume-no --no-install-recommends "$@" 2>&1) || true
    count=$(echo "$plan" | sed -n 's/^\([0-9]*\) upgraded, \([0-9]*\) newly installed.*/\2 new packages, \1 upgraded/p')
    if [ -z "$count" ]; then
        echo "$plan" | tee -a "$log" | tail -n 20 >&2
        ! grep -q '^ID=ubuntu$' /etc/os-release || echo "deps: on Ubuntu, the component universe is needed" >&2
        fail "apt cannot install $*"
    fi
    fetch=$(echo "$plan" | sed -n 's/^Need to get \(.*\) of archives\.*$/\1/p')
    disk=$(echo "$plan" | sed -n 's/^After this operation, \(.*\) of additional disk space will be used\.*$/\1/p')
    echo "deps: to $purpose, apt installs ${count%, 0 upgraded}: ${fetch:-nothing} to fetch, ${disk:-nothing} on disk" \
        "(output in $log)"
    installed > "$dir/before"
    DEBIAN_FRONTEND=noninteractive t/step -l "$log" -s "$dir/status" "apt installs, to $purpose" \
        sh -c 'exec 3> "$1" && shift && exec apt-get install -y -q --no-install-recommends -o APT::Status-Fd=3 "$@"' sh \
        "$dir/status" "$@"
    installed | comm -13 "$dir/before" - > "$dir/new"
    # shellcheck disable=SC2046  # a list of words
    [ ! -s "$dir/new" ] || disable $(cat "$dir/new")
}

# candidate PACKAGE: the version that apt would install
candidate() {
    LC_ALL=C apt-cache policy "$1" | sed -n 's/^  Candidate: //p' | grep -v '(none)'
}

# Runs once for all calls of one `make`.
if [ -z "$(find target/deps.lists -mmin -30 2>/dev/null)" ]; then
    t/step -l "$log" "apt reads the package lists" apt-get update -q
    : > target/deps.lists
fi

if ! have_rust; then
    # Debian 12 keeps a second, current toolchain under the names *-web; Ubuntu several, with their versions in the
    # names.
    for cargo in cargo cargo-web $(apt-cache pkgnames cargo- | grep '^cargo-[0-9.]*$' | sort -V); do
        have=$(candidate "$cargo") || continue
        if [ "$(printf '%s\n%s\n' "$have" "$version" | sort -V | head -n 1)" = "$version" ]; then
            missing="$missing $cargo"
            break
        fi
        cargo=
    done
    [ -n "$cargo" ] || fail "cargo >= $version is needed and apt has none: install it with rustup, then run make again"
fi

if ! have_lint; then
    # rustfmt and clippy must belong to the cargo in use: apt's do not fit one of rustup.
    case $(readlink -f target/toolchain/cargo) in
        /usr/lib/rust-*)
            number=$(readlink -f target/toolchain/cargo | sed 's,^/usr/lib/rust-\([^/]*\)/.*,\1,')
            missing="$missing rustfmt-$number rust-$number-clippy" ;;
        /usr/bin/cargo)
            if dpkg-query -W cargo-web >/dev/null 2>&1; then
                missing="$missing rustfmt-web rust-web-clippy"
            else
                missing="$missing rustfmt rust-clippy"
            fi ;;
        *) fail "rustfmt and clippy are missing: rustup component add rustfmt clippy" ;;
    esac
fi

if ! have_luajit; then
    # Debian 12 and Ubuntu 24.04 have two packages, which conflict. Their lua-nginx-module uses luajit2, OpenResty's branch.
    for package in libluajit2-5.1-dev libluajit-5.1-dev; do
        ! candidate "$package" >/dev/null || break
    done
    missing="$missing $package"
fi

# shellcheck disable=SC2086  # a list of words
[ -z "$missing" ] || apt_install $missing
t/toolchain.sh --quiet || [ -z "$rust" ] || fail "cargo >= $version was installed and is not found"

if ! have_test_nginx; then
    # Only Debian sid has libtest-nginx-perl. The package of sid installs on older releases and on Ubuntu, as it is Perl
    # text and its dependencies are in all of them. The list of sid has its own directory, apart from the machine's apt.
    by_hand="install Test::Nginx by hand (cpan Test::Nginx)"
    keys=/usr/share/keyrings/debian-archive-keyring.gpg
    uri=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1)
    if [ -z "$uri" ]; then
        # On Ubuntu, the default archive of debootstrap
        apt_install debootstrap debian-archive-keyring
        uri=$(sed -n 's/^DEF_MIRROR="\(.*\)"$/\1/p' "$(command -v debootstrap)" | head -n 1)
    fi
    [ -n "$uri" ] && [ -e "$keys" ] || fail "no Debian archive in apt's configuration; $by_hand"
    mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
    echo "deb [signed-by=$keys] $uri sid main" > "$dir/sid.list"
    # sid TITLE APT-GET-WORDS...; apt-get download writes to the working directory
    sid() {
        title=$1
        shift
        t/step -l "$log" "$title" sh -c 'cd "$1" && shift && exec apt-get "$@"' sh "$dir" -q \
            -o "Dir::Etc::sourcelist=$dir/sid.list" -o Dir::Etc::sourceparts=/dev/null \
            -o "Dir::State::lists=$dir/lists" -o "Dir::Cache=$dir/cache" -o APT::Sandbox::User=root "$@"
    }
    sid "apt reads the package list of Debian sid, for Test::Nginx" update || fail "no package list of Debian sid; $by_hand"
    sid "apt fetches Test::Nginx" download libtest-nginx-perl || fail "libtest-nginx-perl cannot be fetched; $by_hand"
    apt_install "$dir"/libtest-nginx-perl_*.deb
fi
