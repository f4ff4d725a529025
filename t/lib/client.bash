# Functions for --- client sections. $PKI, $PORT (TLS), $HTTP_PORT (plain), $PID_FILE and $ERROR_LOG are set.

cd "$TMP" || exit

# KB that memory may grow beyond what a test allows. The tools of t/sanitize.py keep freed memory.
SLACK=${SLACK:-0}
# MB of address space that are left to a process for which a large policy is too large.
HEADROOM=${HEADROOM:-50}

# as NAME: curl's options for the client certificate NAME (with its chain, if there is one)
as() {
    if [ -e "$PKI/$1.chain" ]; then
        echo "--cert $PKI/$1.chain --key $PKI/$1.key"
    else
        echo "--cert $PKI/$1.crt --key $PKI/$1.key"
    fi
}

# get HOST/PATH [curl options]: the body of the answer
get() {
    local url=https://$1
    shift
    curl -sk --http1.1 --max-time 20 --connect-to "::127.0.0.1:$PORT" "$@" "$url"
}

# code HOST/PATH [curl options]: status, content type and body
code() {
    get "$@" -o body -w '%{http_code} %{content_type} '
    # One line end, however the body ends
    echo "$(cat body)"
}

# tls OPTION...: one run of t/clients/tls_client.c. as=NAME is short for crt= and key=; without host= the Host is sni=.
tls() {
    local option options=() host=
    for option in "$@"; do
        case $option in
            as=*)
                local crt=$PKI/${option#as=}.crt
                [ -e "$PKI/${option#as=}.chain" ] && crt=$PKI/${option#as=}.chain
                options+=("crt=$crt" "key=$PKI/${option#as=}.key")
                ;;
            sni=*) host=${host:-${option#sni=}} options+=("$option") ;;
            host=*) host=${option#host=} ;;
            *) options+=("$option") ;;
        esac
    done
    "$TLS_CLIENT" port="$PORT" host="$host" "${options[@]}"
}

# facts KEY...: prints these of the facts that tls prints; body must be the last
facts() {
    local line key out=
    read -r line || return
    for key in "$@"; do
        case $key in
            body) out="$out body=${line#* body=}" ;;
            *) [[ " ${line%% body=*} " =~ \ ($key=[^=]*)\ ([a-z_]+=|$) ]] && out="$out ${BASH_REMATCH[1]}" ;;
        esac
    done
    echo "${out# }"
}

# escaped NAME: the certificate NAME (with its chain, if there is one) as nginx's $ssl_client_escaped_cert has it
escaped() {
    local file=$PKI/$1.crt
    [ -e "$PKI/$1.chain" ] && file=$PKI/$1.chain
    perl -0777 -pe 's/([^A-Za-z0-9._~-])/sprintf "%%%02X", ord $1/ge' "$file"
}

# base64_of NAME: the DER of the leaf of NAME in base64
base64_of() {
    openssl x509 -in "$PKI/$1.crt" -outform DER | base64 -w0
}

# header PATH LINE [curl options]: status and body over plain HTTP with a header line, which may be longer than an
# argument of a command can be
header() {
    local url=http://127.0.0.1:$HTTP_PORT/$1
    printf '%s' "$2" >header-line
    shift 2
    curl -s --max-time 20 -H @header-line -o body -w '%{http_code} ' "$@" "$url"
    echo "$(cat body)"
}

# workers: the process ids of nginx's workers, on one line
workers() {
    pgrep -P "$(cat "$PID_FILE")" | sort | paste -sd ' '
}

# reload_nginx: sends HUP, and waits until only new workers are left
reload_nginx() {
    local old
    old=$(workers)
    kill -HUP "$(cat "$PID_FILE")"
    for _ in $(seq 200); do
        sleep 0.02
        [ -n "$(workers)" ] && ! grep -qwFf <(tr ' ' '\n' <<< "$old" | grep .) <(workers) && return
    done
    echo "no new workers"
}

# reach_workers N: requests /status, which begins with the worker's process id, until N workers have answered
reach_workers() {
    local seen=
    for _ in $(seq 500); do
        seen="$seen
$(get a.test/status)"
        [ "$(cut -d' ' -f1 <<< "$seen" | grep . | sort -u | wc -l)" = "$1" ] && return
    done
    echo "not all of $1 workers answer"
}

# has_ended PID: also as a zombie, which nothing reaps in a userland without init
has_ended() { ! kill -0 "$1" 2> /dev/null || grep -qs "^State:.Z" "/proc/$1/status"; }

# wait_until COMMAND...: waits until the command succeeds, 20 seconds at most
wait_until() {
    for _ in $(seq 500); do "$@" && return; sleep 0.04; done
    echo "not in time: $*"
}

# has_lines FILE N: whether the file has so many lines
has_lines() { [ -e "$1" ] && [ "$(wc -l <"$1")" -ge "$2" ]; }
