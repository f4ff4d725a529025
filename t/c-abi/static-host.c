/*
 * A host program with TLS that loads libresty_mtls as LuaJIT does and calls rmtls_host_check(). Linked to libssl.so it
 * is like most nginx; linked to libssl.a it is like an nginx that was built with --with-openssl=SOURCE.
 *
 * Usage: static-host libresty_mtls.so
 */

#include <resty_mtls.h>

#include <dlfcn.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>

int
main(int argc, char **argv)
{
    int32_t   (*host_check)(rmtls_buf *);
    void       *library, *symbol;
    int32_t     status;
    uint8_t     memory[1024];
    rmtls_buf   text = { memory, sizeof(memory), 0 };
    SSL_CTX    *ctx;
    SSL        *ssl;

    if (argc != 2) {
        fprintf(stderr, "usage: %s libresty_mtls.so\n", argv[0]);
        return 2;
    }

    /* An nginx with TLS calls these, so a static link contains them. */
    ctx = SSL_CTX_new(TLS_server_method());
    ssl = ctx ? SSL_new(ctx) : NULL;
    if (ssl == NULL || SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL) < 0 || OpenSSL_version_num() == 0
        || SSL_set_session_id_context(ssl, (const unsigned char *) "host", 4) != 1 || SSL_get_session(ssl) != NULL)
    {
        fprintf(stderr, "the OpenSSL of this program does not work\n");
        return 2;
    }

    SSL_set_client_CA_list(ssl, SSL_load_client_CA_file("/dev/null"));

    library = dlopen(argv[1], RTLD_LAZY | RTLD_LOCAL);
    if (library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return 2;
    }

    symbol = dlsym(library, "rmtls_host_check");
    if (symbol == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return 2;
    }

    memcpy(&host_check, &symbol, sizeof(symbol));

    status = host_check(&text);
    printf("%d %.*s\n", (int) status, (int) text.len, (const char *) text.data);

    SSL_free(ssl);
    SSL_CTX_free(ctx);

    return 0;
}
