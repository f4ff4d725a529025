#!/bin/sh
# Installs the authorization server of t/123-openid-connect.t and t/124-tls-front.t (npm oidc-provider) into target/oidc.
# Nothing else needs it: when it cannot be had, that is said, and they are skipped.
set -u
cd "$(dirname "$0")/.."

dir=target/oidc

have() {
    command -v "$1" >/dev/null
}

have haproxy || t/install-deps.sh haproxy >/dev/null 2>&1 || echo "HAProxy cannot be had: t/124-tls-front.t will be skipped"
[ -e "$dir/node_modules/oidc-provider/package.json" ] && cmp -s t/oidc/package-lock.json "$dir/package-lock.json" && exit 0

have node || t/install-deps.sh nodejs >/dev/null 2>&1
# Debian's npm is a package of its own; others come with Node.
have npm || t/install-deps.sh npm >/dev/null 2>&1
mkdir -p "$dir"
cp t/oidc/package.json t/oidc/package-lock.json "$dir/"
npm ci --prefix "$dir" --silent --no-audit --no-fund --ignore-scripts >/dev/null 2>&1 ||
    echo "oidc-provider cannot be had: t/123-openid-connect.t and t/124-tls-front.t will be skipped"
exit 0
