#!/bin/sh
# Installs what building, running and testing need and is not there yet. Quick when all is there.
# Usage: t/install-deps.sh [--no-cargo] PACKAGE... (Debian package names)
#   --no-cargo   nothing is built there
set -eu
cd "$(dirname "$0")/.."

fail() {
    echo "deps: $1" >&2
    exit 1
}

build=yes
if [ "${1-}" = --no-cargo ]; then
    build=
    shift
fi

rust=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)

# at_least HAVE WANT
at_least() {
    [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]
}

have_cargo() {
    [ -n "$build" ] || return 0
    version=$(cargo --version 2>/dev/null) && at_least "$(echo "$version" | cut -d ' ' -f 2)" "$rust"
}

have_test_nginx() {
    perl -MTest::Nginx::Socket -e 1 2>/dev/null
}

if ! command -v dpkg-query >/dev/null; then
    echo "deps: not a Debian system, nothing installed. Needed: cargo and rustc >= $rust, a C compiler, pkg-config," \
        "the OpenSSL headers of the nginx in use, nginx with lua-nginx-module and lua-resty-core (or OpenResty)," \
        "lua-cjson; for the tests also Test::Nginx, the openssl command, python3, curl, luacheck"
    exit 0
fi

# nginx speaks HTTP/3 from Debian 13 on, and since then there is a client for it.
debian=$(sed -n 's/^VERSION_ID="*\([0-9]*\).*/\1/p' /etc/os-release)
[ "${debian:-99}" -lt 13 ] || set -- "$@" python3-aioquic

missing=
for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing="$missing $package"
done
if [ -z "$missing" ] && have_cargo && have_test_nginx; then
    exit 0
fi

[ "$(id -u)" = 0 ] || fail "missing:$missing $(have_cargo || echo "cargo >= $rust") $(have_test_nginx || echo Test::Nginx);\
 run 'make deps' as root"

dir=$(mktemp -d)
chmod 755 "$dir"
trap 'rm -rf "$dir"' EXIT

# Debian starts a daemon when it installs it: this policy answers "no", so nginx does not take port 80.
if [ ! -e /usr/sbin/policy-rc.d ]; then
    trap 'rm -rf "$dir" /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
fi

install() {
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
}

apt-get update -qq

# shellcheck disable=SC2086  # a list of words
[ -z "$missing" ] || install $missing

if ! have_cargo; then
    # Debian 12 keeps a second, current toolchain under the names *-web.
    for cargo in cargo cargo-web; do
        candidate=$(apt-cache policy "$cargo" | sed -n 's/^ *Candidate: //p')
        if at_least "${candidate:-0}" "$rust" && [ "$candidate" != "(none)" ]; then
            install "$cargo"
            break
        fi
    done
    have_cargo || fail "cargo >= $rust is needed and apt has none: install it with rustup, then run make again"
fi

if ! have_test_nginx; then
    # Only Debian sid has libtest-nginx-perl. It is Perl text, its own needs are in every suite, so sid's package installs
    # on older ones. sid's list lives in a directory of its own: the machine's apt never learns of sid.
    by_hand="install Test::Nginx by hand (cpan Test::Nginx)"
    uri=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1)
    [ -n "$uri" ] || fail "no Debian archive in apt's configuration; $by_hand"
    mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri sid main" > "$dir/sid.list"
    sid() {
        apt-get -qq -o "Dir::Etc::sourcelist=$dir/sid.list" -o Dir::Etc::sourceparts=/dev/null \
            -o "Dir::State::lists=$dir/lists" -o "Dir::Cache=$dir/cache" -o APT::Sandbox::User=root "$@"
    }
    sid update || fail "this machine's archive has no sid package list; $by_hand"
    # apt-get download writes to the working directory.
    (cd "$dir" && sid download libtest-nginx-perl) || fail "libtest-nginx-perl cannot be fetched; $by_hand"
    install "$dir"/libtest-nginx-perl_*.deb
fi
