#!/bin/sh
# Makes target/toolchain: links to the first Rust toolchain that is new enough. `make` has this directory first in its
# PATH, so that every target uses the same one. The order is: $CARGO, cargo in the PATH, that of rustup, and those under
# /usr/lib/rust-*, as on Ubuntu.
#
# Usage: t/toolchain.sh [--quiet]; exits with 1 and prints what was found when nothing fits
set -u
cd "$(dirname "$0")/.." || exit

links=target/toolchain
rust=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
found=
# The links of an earlier call, which make has in its PATH, do not count.
PATH=$(printf '%s' "$PATH" | tr : '\n' | grep -v "/$links\$" | paste -sd :)

# at_least HAVE WANT
at_least() {
    [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]
}

# link FILE LINK: leaves a right link as it is, because another make may run cargo meanwhile
link() {
    [ "$(readlink "$2")" = "$1" ] || ln -sf "$1" "$2"
}

# use CARGO: links to it and to the programs beside it, if it is new enough
use() {
    cargo=$(command -v "$1") || return 1
    version=$("$cargo" --version 2>/dev/null | sed -n 's/^cargo \([0-9.]*\).*/\1/p')
    [ -n "$version" ] || return 1
    if ! at_least "$version" "$rust"; then
        found="$found $cargo ($version)"
        return 1
    fi
    mkdir -p "$links" && link "$cargo" "$links/cargo" || exit
    for tool in rustc rustdoc cargo-clippy clippy-driver cargo-fmt rustfmt; do
        if [ -e "$(dirname "$cargo")/$tool" ]; then
            link "$(dirname "$cargo")/$tool" "$links/$tool"
        else
            rm -f "$links/$tool"
        fi
    done
}

for candidate in "${CARGO:-cargo}" cargo "${HOME:-}/.cargo/bin/cargo" \
    $(find /usr/lib -maxdepth 1 -name 'rust-*' 2>/dev/null | sort -V | sed 's,$,/bin/cargo,'); do
    use "$candidate" && exit 0
done

rm -rf "$links"
[ "${1-}" = --quiet ] ||
    echo "cargo >= $rust is needed, found:${found:- none}. As root, \`make deps\` installs one from apt; or take rustup's" >&2
exit 1
