/*
 * The load for benches/run: TLS 1.3 connections with a client certificate, one after the other or kept open. The time
 * of the server is measured, so keys and certificates are made by commands of their own.
 *
 *   client port=443 sni=NAME crt=FILE key=FILE issuer_crt=FILE issuer_key=FILE
 *
 * crt= is the chain of a client that the server may have seen before; issuer_* signs the certificates of new clients.
 * Commands are read from standard input, one a line. After each, "ok" is printed, or the process ends with an error:
 *
 *   fresh N        makes N new client certificates, for the next N handshakes
 *   seen           uses crt= again
 *   open N         opens N more connections, one request each, and keeps them
 *   request N      makes N requests, one in flight on each open connection
 *   close          closes the open connections
 *   handshake N    makes N full handshakes, with one request each
 *   session        makes one full handshake, with one request
 *   resume N       makes N handshakes that resume that session, with one request each
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <unistd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#define MAX_OPEN 4096
#define PROCESSES 4

typedef struct {
    X509 *crt;
    EVP_PKEY *key;
    STACK_OF(X509) *chain;
} identity;

typedef struct {
    SSL *ssl;
    int fd;
} connection;

static SSL_CTX *ctx;
static SSL_SESSION *last_session;
static identity seen, issuer, *fresh;
static long fresh_count, fresh_next;
static connection open_connections[MAX_OPEN];
static int open_count;
static const char *sni;
static int port;


static void
quit(const char *what, const char *detail)
{
    char text[256] = "";
    unsigned long code = ERR_peek_error();

    if (code != 0) {
        ERR_error_string_n(code, text, sizeof(text));
    }

    fprintf(stderr, "client: %s %s %s\n", what, detail, text);
    exit(1);
}


static int
on_session(SSL *ssl, SSL_SESSION *session)
{
    (void) ssl;

    SSL_SESSION_free(last_session);
    last_session = session;

    return 1;
}


static identity
read_identity(const char *crt, const char *key)
{
    identity id = { NULL, NULL, sk_X509_new_null() };
    BIO *bio;
    X509 *next;

    bio = BIO_new_file(crt, "r");
    if (bio == NULL || (id.crt = PEM_read_bio_X509(bio, NULL, NULL, NULL)) == NULL) {
        quit("cannot read certificate", crt);
    }

    while ((next = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
        sk_X509_push(id.chain, next);
    }

    /* The end of the file. */
    ERR_clear_error();
    BIO_free(bio);

    bio = BIO_new_file(key, "r");
    if (bio == NULL || (id.key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL)) == NULL) {
        quit("cannot read key", key);
    }

    BIO_free(bio);

    return id;
}


static void
add_extension(X509 *crt, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

    if (extension == NULL || X509_add_ext(crt, extension, -1) != 1) {
        quit("cannot make extension", value);
    }

    X509_EXTENSION_free(extension);
}


/* A certificate like that of crt=, with its own key and serial. */
static identity
make_identity(void)
{
    identity id = { X509_new(), EVP_EC_gen("P-256"), sk_X509_new_null() };
    unsigned char serial[16];
    X509_NAME *subject;
    char name[64];
    BIGNUM *number;

    if (id.crt == NULL || id.key == NULL || RAND_bytes(serial, sizeof(serial)) != 1) {
        quit("cannot make key", "");
    }

    serial[0] = (serial[0] & 0x3f) | 0x40;
    number = BN_bin2bn(serial, sizeof(serial), NULL);
    BN_to_ASN1_INTEGER(number, X509_get_serialNumber(id.crt));
    BN_free(number);

    snprintf(name, sizeof(name), "client-%02x%02x%02x%02x", serial[1], serial[2], serial[3], serial[4]);
    X509_set_version(id.crt, X509_VERSION_3);
    X509_set_issuer_name(id.crt, X509_get_subject_name(issuer.crt));
    X509_gmtime_adj(X509_getm_notBefore(id.crt), -3600);
    X509_gmtime_adj(X509_getm_notAfter(id.crt), 86400);
    subject = X509_get_subject_name(id.crt);
    X509_NAME_add_entry_by_txt(subject, "O", MBSTRING_ASC, (unsigned char *) "Example", -1, -1, 0);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (unsigned char *) name, -1, -1, 0);
    X509_set_pubkey(id.crt, id.key);
    add_extension(id.crt, NID_basic_constraints, "critical,CA:FALSE");
    add_extension(id.crt, NID_key_usage, "critical,digitalSignature");
    add_extension(id.crt, NID_ext_key_usage, "clientAuth");

    if (X509_sign(id.crt, issuer.key, EVP_sha256()) == 0) {
        quit("cannot sign", "");
    }

    X509_up_ref(issuer.crt);
    sk_X509_push(id.chain, issuer.crt);

    return id;
}


static void
free_fresh(void)
{
    while (fresh_count > 0) {
        identity *id = &fresh[--fresh_count];

        X509_free(id->crt);
        EVP_PKEY_free(id->key);
        sk_X509_pop_free(id->chain, X509_free);
    }

    free(fresh);
    fresh = NULL;
    fresh_next = 0;
}


static void
make_fresh(long n)
{
    free_fresh();
    fresh = calloc(n, sizeof(*fresh));

    if (fresh == NULL) {
        quit("out of memory", "");
    }

    while (fresh_count < n) {
        fresh[fresh_count++] = make_identity();
    }
}


static connection
connect_tls(int resume)
{
    struct sockaddr_in address = { .sin_family = AF_INET };
    struct timeval limit = { 10, 0 };
    identity *id = &seen;
    connection c;
    int on = 1;

    address.sin_port = htons((unsigned short) port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c.fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(c.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(c.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));

    if (connect(c.fd, (struct sockaddr *) &address, sizeof(address)) != 0) {
        quit("cannot connect", strerror(errno));
    }

    c.ssl = SSL_new(ctx);
    SSL_set_fd(c.ssl, c.fd);
    SSL_set_tlsext_host_name(c.ssl, sni);

    if (resume) {
        if (last_session == NULL || SSL_set_session(c.ssl, last_session) != 1) {
            quit("no session to resume", "");
        }

    } else {
        if (fresh_count > 0) {
            if (fresh_next >= fresh_count) {
                quit("out of fresh certificates", "");
            }

            id = &fresh[fresh_next++];
        }

        if (SSL_use_certificate(c.ssl, id->crt) != 1 || SSL_use_PrivateKey(c.ssl, id->key) != 1
            || SSL_set1_chain(c.ssl, id->chain) != 1)
        {
            quit("cannot use certificate", "");
        }
    }

    if (SSL_connect(c.ssl) != 1) {
        quit("handshake failed", "");
    }

    if (SSL_session_reused(c.ssl) != resume) {
        quit("handshake is not", resume ? "resumed" : "full");
    }

    return c;
}


static void
send_request(connection *c, int keep)
{
    static char text[512];
    int n;

    /* The headers of a typical service. */
    n = snprintf(text, sizeof(text),
                 "GET /v1/payments/4711 HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench/1.0\r\nAccept: application/json\r\n"
                 "Accept-Encoding: gzip\r\nAccept-Language: en\r\nX-Request-Id: 6c4e7a3b8d9f4c0e\r\n"
                 "Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n%s\r\n",
                 sni, keep ? "" : "Connection: close\r\n");
    if (SSL_write(c->ssl, text, n) != n) {
        quit("cannot send request", "");
    }
}


static void
read_response(connection *c)
{
    static char buf[65536];
    char *start, *length;
    size_t have = 0;
    int n;

    for ( ;; ) {
        n = SSL_read(c->ssl, buf + have, (int) (sizeof(buf) - 1 - have));
        if (n <= 0) {
            quit("no complete response", "");
        }

        have += n;
        buf[have] = '\0';
        start = strstr(buf, "\r\n\r\n");

        if (start == NULL) {
            continue;
        }

        if (strncmp(buf, "HTTP/1.1 200 ", 13) != 0) {
            quit("unexpected response", buf);
        }

        length = strcasestr(buf, "\r\nContent-Length:");
        if (length == NULL || length > start) {
            quit("no Content-Length", buf);
        }

        if (have - (start + 4 - buf) >= strtoul(length + 17, NULL, 10)) {
            break;
        }
    }
}


/*
 * One request is in flight on each connection, so that the worker always has work. Waking up an idle worker costs
 * several times as much as a request, and the cost varies.
 */
static void
requests(long n)
{
    long sent, answered;

    if (n < open_count || open_count == 0) {
        quit("fewer requests than connections, or no connection", "");
    }

    for (sent = 0; sent < open_count; sent++) {
        send_request(&open_connections[sent], 1);
    }

    for (answered = 0; answered < n; answered++) {
        read_response(&open_connections[answered % open_count]);

        if (sent < n) {
            send_request(&open_connections[sent++ % open_count], 1);
        }
    }
}


static void
disconnect(connection *c)
{
    /* Without this, OpenSSL marks the session as not resumable. */
    SSL_set_shutdown(c->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(c->ssl);
    close(c->fd);
}


static void
handshake(int resume)
{
    connection c = connect_tls(resume);
    char rest[1024];

    send_request(&c, 0);
    read_response(&c);

    /* The server sends the tickets of TLS 1.3 after the handshake, so this reads to the end of the stream. */
    while (SSL_read(c.ssl, rest, sizeof(rest)) > 0) { /* nothing */ }

    disconnect(&c);
}


/* Uses several processes, so that the worker has work while a client computes. */
static void
handshakes(long n, int resume)
{
    int k, status;
    long i;

    for (k = 0; k < PROCESSES; k++) {
        switch (fork()) {

        case -1:
            quit("cannot fork", strerror(errno));
            break;

        case 0:
            for (i = k; i < n; i += PROCESSES) {
                fresh_next = i;
                handshake(resume);
            }

            _exit(0);
        }
    }

    for (k = 0; k < PROCESSES; k++) {
        if (wait(&status) == -1 || status != 0) {
            quit("a handshake failed", "");
        }
    }
}


static void
run(const char *command, long n)
{
    if (strcmp(command, "fresh") == 0) {
        make_fresh(n);

    } else if (strcmp(command, "seen") == 0) {
        free_fresh();

    } else if (strcmp(command, "open") == 0) {
        if (n > MAX_OPEN - open_count) {
            quit("too many connections", "");
        }

        while (n-- > 0) {
            open_connections[open_count] = connect_tls(0);
            send_request(&open_connections[open_count], 1);
            read_response(&open_connections[open_count++]);
        }

    } else if (strcmp(command, "request") == 0) {
        requests(n);

    } else if (strcmp(command, "close") == 0) {
        while (open_count > 0) {
            disconnect(&open_connections[--open_count]);
        }

    } else if (strcmp(command, "handshake") == 0) {
        handshakes(n, 0);

    } else if (strcmp(command, "resume") == 0) {
        handshakes(n, 1);

    } else if (strcmp(command, "session") == 0) {
        handshake(0);

    } else {
        quit("unknown command", command);
    }
}


int
main(int argc, char **argv)
{
    const char *keys[] = { "port", "sni", "crt", "key", "issuer_crt", "issuer_key" };
    enum { PORT, SNI, CRT, KEY, ISSUER_CRT, ISSUER_KEY, KEYS };
    const char *opt[KEYS] = { NULL };
    char line[256], command[32];
    long n;
    int i, k;

    for (i = 1; i < argc; i++) {
        for (k = 0; k < KEYS; k++) {
            size_t len = strlen(keys[k]);

            if (strncmp(argv[i], keys[k], len) == 0 && argv[i][len] == '=') {
                opt[k] = argv[i] + len + 1;
                break;
            }
        }

        if (k == KEYS) {
            quit("unknown argument", argv[i]);
        }
    }

    for (k = 0; k < KEYS; k++) {
        if (opt[k] == NULL) {
            quit("missing argument", keys[k]);
        }
    }

    signal(SIGPIPE, SIG_IGN);
    port = atoi(opt[PORT]);
    sni = opt[SNI];
    seen = read_identity(opt[CRT], opt[KEY]);
    issuer = read_identity(opt[ISSUER_CRT], opt[ISSUER_KEY]);

    ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, on_session);

    while (fgets(line, sizeof(line), stdin) != NULL) {
        n = 0;
        if (sscanf(line, "%31s %ld", command, &n) < 1) {
            quit("no command in", line);
        }

        run(command, n);
        puts("ok");
        fflush(stdout);
    }

    return 0;
}
