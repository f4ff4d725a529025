#!/bin/sh
# Installs those who invented header dialects and those who read them, for t/132-origins.t and t/133-readers.t. Nothing
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
exit 0
