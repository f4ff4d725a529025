/*
 * A TLS client for sequences that a browser or an attacker can send and curl cannot: it offers the session of one server
 * name to another, or changes the name after a HelloRetryRequest.
 *
 *   tls_client port=443 tls=1.2|1.3 sni=NAME host=NAME[,NAME...] path=/ crt=FILE key=FILE sess_in=FILE sess_out=FILE
 *        groups=LIST sni2=NAME early=1 times=N
 *
 * Each host= name is one request on the same connection; with early= the first one is early data. All of it runs N times,
 * and one line of facts describes the last run.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <unistd.h>
#include <openssl/ssl.h>
#include <openssl/err.h>

static const unsigned char hello_retry_random[32] = {
    0xCF, 0x21, 0xAD, 0x74, 0xE5, 0x9A, 0x61, 0x11, 0xBE, 0x1D, 0x8C, 0x02, 0x1E, 0x65, 0xB8, 0x91,
    0xC2, 0xA2, 0x11, 0x16, 0x7A, 0xBB, 0x8C, 0x5E, 0x07, 0x9E, 0x09, 0xE2, 0xC8, 0xA8, 0x33, 0x9C
};

static const char *second_name;
static int retried, asked;
static SSL_SESSION *newest;


static void
on_message(int write, int version, int type, const void *buf, size_t len, SSL *ssl, void *arg)
{
    const unsigned char *p = buf;

    (void) version; (void) arg;

    if (write || type != SSL3_RT_HANDSHAKE || len == 0) {
        return;
    }

    if (p[0] == SSL3_MT_CERTIFICATE_REQUEST) {
        asked = 1;
    }

    /* type, 3 octets of length, 2 of version, then the random */
    if (p[0] == SSL3_MT_SERVER_HELLO && len >= 38 && memcmp(p + 6, hello_retry_random, 32) == 0) {
        retried = 1;

        if (second_name != NULL) {
            SSL_set_tlsext_host_name(ssl, second_name);
        }
    }
}


static int
on_session(SSL *ssl, SSL_SESSION *session)
{
    (void) ssl;

    SSL_SESSION_free(newest);
    newest = session;

    return 1;
}


static void
quit(const char *what)
{
    char text[256];
    unsigned long code = ERR_peek_error();

    ERR_error_string_n(code, text, sizeof(text));
    printf("error=%s %s\n", what, code != 0 ? text : "");
    exit(1);
}


/* Decodes the chunked transfer coding; returns whether the body is complete. */
static int
dechunk(const char *body, size_t have, char *out, size_t size)
{
    const char *p = body, *end = body + have, *line;
    size_t len, used = 0;

    while ((line = memmem(p, end - p, "\r\n", 2)) != NULL) {
        len = strtoul(p, NULL, 16);
        p = line + 2;

        if ((size_t) (end - p) < len + 2) {
            return 0;
        }

        if (len == 0) {
            return 1;
        }

        if (used + len < size) {
            memcpy(out + used, p, len);
            used += len;
            out[used] = '\0';
        }

        p += len + 2;
    }

    return 0;
}


/* Reads one response; returns its status and leaves its body in `body`. */
static int
read_response(SSL *ssl, char *body, size_t size)
{
    static char buf[1 << 18];
    size_t have = 0, len;
    char *start, *length;
    int n, status, complete = 0;

    for ( ;; ) {
        n = SSL_read(ssl, buf + have, (int) (sizeof(buf) - 1 - have));
        if (n > 0) {
            have += n;
        }

        buf[have] = '\0';
        start = strstr(buf, "\r\n\r\n");

        if (start != NULL) {
            start += 4;
            len = have - (start - buf);
            length = strcasestr(buf, "\r\nContent-Length:");

            if (length != NULL && length < start) {
                complete = len >= strtoul(length + 17, NULL, 10);
                snprintf(body, size, "%s", start);

            } else {
                body[0] = '\0';
                complete = dechunk(start, len, body, size);
            }
        }

        if (complete) {
            break;
        }

        if (n <= 0 || have == sizeof(buf) - 1) {
            quit("no complete response");
        }
    }

    if (sscanf(buf, "HTTP/1.1 %d", &status) != 1) {
        quit("no status line");
    }

    if (body[0] != '\0' && body[strlen(body) - 1] == '\n') {
        body[strlen(body) - 1] = '\0';
    }

    return status;
}


static void
print_ca_names(SSL *ssl)
{
    const STACK_OF(X509_NAME) *list = SSL_get0_peer_CA_list(ssl);
    int i, n = list != NULL ? sk_X509_NAME_num(list) : 0;
    char cn[256];

    printf(" ca_names=%d", n);

    for (i = 0; i < n && n <= 5; i++) {
        if (X509_NAME_get_text_by_NID(sk_X509_NAME_value(list, i), NID_commonName, cn, sizeof(cn)) < 0) {
            strcpy(cn, "?");
        }

        printf("%c%s", i == 0 ? ':' : '+', cn);
    }
}


enum { PORT, TLS, SNI, HOST, PATH, CRT, KEY, SESS_IN, SESS_OUT, GROUPS, SNI2, EARLY, TIMES, OPTIONS };

static const char *names[OPTIONS] = {
    "port", "tls", "sni", "host", "path", "crt", "key", "sess_in", "sess_out", "groups", "sni2", "early", "times"
};
static const char *opt[OPTIONS];


static SSL_CTX *
make_context(void)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    int version;

    /* This client accepts weak keys, because the server must refuse them. */
    SSL_CTX_set_security_level(ctx, 0);
    SSL_CTX_set_msg_callback(ctx, on_message);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, on_session);

    if (opt[TLS] != NULL) {
        version = strcmp(opt[TLS], "1.2") == 0 ? TLS1_2_VERSION : TLS1_3_VERSION;
        SSL_CTX_set_min_proto_version(ctx, version);
        SSL_CTX_set_max_proto_version(ctx, version);
    }

    if (opt[CRT] != NULL
        && (SSL_CTX_use_certificate_chain_file(ctx, opt[CRT]) != 1
            || SSL_CTX_use_PrivateKey_file(ctx, opt[KEY], SSL_FILETYPE_PEM) != 1))
    {
        quit("certificate");
    }

    if (opt[GROUPS] != NULL && SSL_CTX_set1_groups_list(ctx, opt[GROUPS]) != 1) {
        quit("groups");
    }

    return ctx;
}


static int
connect_to_port(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET };
    struct timeval limit = { 10, 0 };
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    address.sin_port = htons((unsigned short) atoi(opt[PORT]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));

    if (connect(fd, (struct sockaddr *) &address, sizeof(address)) != 0) {
        quit("connect");
    }

    return fd;
}


static size_t
make_request(char *buf, size_t size, const char *host, size_t len, int keep)
{
    return snprintf(buf, size, "GET %s HTTP/1.1\r\nHost: %.*s\r\nConnection: %s\r\n\r\n",
                    opt[PATH] != NULL ? opt[PATH] : "/", (int) len, host, keep ? "keep-alive" : "close");
}


static SSL *
handshake(SSL_CTX *ctx, int fd)
{
    SSL *ssl = SSL_new(ctx);
    SSL_SESSION *session;
    char request[4096];
    size_t n, written;
    FILE *file;

    SSL_set_fd(ssl, fd);

    if (opt[SNI] != NULL && opt[SNI][0] != '\0') {
        SSL_set_tlsext_host_name(ssl, opt[SNI]);
    }

    if (opt[SESS_IN] != NULL) {
        file = fopen(opt[SESS_IN], "r");
        session = file != NULL ? PEM_read_SSL_SESSION(file, NULL, NULL, NULL) : NULL;

        if (session == NULL || SSL_set_session(ssl, session) != 1) {
            quit("sess_in");
        }

        SSL_SESSION_free(session);
        fclose(file);
    }

    if (opt[EARLY] != NULL) {
        n = make_request(request, sizeof(request), opt[HOST], strcspn(opt[HOST], ","), strchr(opt[HOST], ',') != NULL);

        if (SSL_write_early_data(ssl, request, n, &written) != 1) {
            quit("early data");
        }

        /* The server must respond before it reads the client's Finished. */
        usleep(200 * 1000);
    }

    if (SSL_connect(ssl) != 1) {
        quit("handshake");
    }

    return ssl;
}


/* One request for each host; leaves the statuses and the last body. */
static void
send_requests(SSL *ssl, char *statuses, size_t statuses_size, char *body, size_t body_size)
{
    char request[4096], hosts[1024], *host, *next;
    int n;

    snprintf(hosts, sizeof(hosts), "%s", opt[HOST]);
    statuses[0] = '\0';

    for (host = hosts; host != NULL; host = next) {
        next = strchr(host, ',');
        if (next != NULL) {
            *next++ = '\0';
        }

        n = (int) make_request(request, sizeof(request), host, strlen(host), next != NULL);

        if ((host != hosts || SSL_get_early_data_status(ssl) != SSL_EARLY_DATA_ACCEPTED) && SSL_write(ssl, request, n) != n) {
            quit("request");
        }

        n = read_response(ssl, body, body_size);
        snprintf(statuses + strlen(statuses), statuses_size - strlen(statuses), "%s%d",
                 statuses[0] != '\0' ? "," : "", n);
    }

    /* The tickets of TLS 1.3 arrive before the end of the stream. */
    while (SSL_read(ssl, request, sizeof(request)) > 0) { /* nothing */ }
}


int
main(int argc, char **argv)
{
    static char body[1 << 18];
    char statuses[256];
    SSL_CTX *ctx;
    FILE *file;
    SSL *ssl;
    int i, k, fd, times;

    for (i = 1; i < argc; i++) {
        for (k = 0; k < OPTIONS; k++) {
            size_t len = strlen(names[k]);

            if (strncmp(argv[i], names[k], len) == 0 && argv[i][len] == '=') {
                opt[k] = argv[i] + len + 1;
                break;
            }
        }

        if (k == OPTIONS) {
            fprintf(stderr, "tls_client: unknown argument \"%s\"\n", argv[i]);
            return 2;
        }
    }

    if (opt[PORT] == NULL || opt[HOST] == NULL) {
        fprintf(stderr, "tls_client: port= and host= are needed\n");
        return 2;
    }

    signal(SIGPIPE, SIG_IGN);
    second_name = opt[SNI2];
    ctx = make_context();

    for (times = opt[TIMES] != NULL ? atoi(opt[TIMES]) : 1; times > 0; times--) {
        retried = asked = 0;
        fd = connect_to_port();
        ssl = handshake(ctx, fd);
        send_requests(ssl, statuses, sizeof(statuses), body, sizeof(body));

        if (times == 1) {
            printf("version=%s reused=%d retried=%d session=%d certreq=%d", SSL_get_version(ssl), SSL_session_reused(ssl),
                   retried, newest != NULL, asked);
            print_ca_names(ssl);

            if (opt[EARLY] != NULL) {
                printf(" early=%s", SSL_get_early_data_status(ssl) == SSL_EARLY_DATA_ACCEPTED ? "accepted" : "refused");
            }

            printf(" status=%s body=%s\n", statuses, body);
        }

        SSL_free(ssl);
        close(fd);
    }

    if (opt[SESS_OUT] != NULL && newest != NULL) {
        file = fopen(opt[SESS_OUT], "w");

        if (file == NULL || PEM_write_SSL_SESSION(file, newest) != 1) {
            quit("sess_out");
        }

        fclose(file);
    }

    SSL_SESSION_free(newest);
    SSL_CTX_free(ctx);

    return 0;
}
