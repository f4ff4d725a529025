/*
 * Uses libresty_mtls as any C program can, with nothing but its header: an SNI map, a trust store, the header lines of a
 * certificate. Prints one result per line.
 *
 * Usage: abi CA.crt CLIENT.chain OTHER.crt
 */

#include <resty_mtls.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint8_t text_memory[512];
static rmtls_buf text = { text_memory, sizeof(text_memory), 0 };


static void
need(int32_t status, const char *what)
{
    if (status != RMTLS_OK) {
        fprintf(stderr, "%s: status %d: %.*s\n", what, (int) status, (int) text.len, (const char *) text.data);
        exit(1);
    }
}


static uint8_t *
read_file(const char *path, size_t *len)
{
    static uint8_t  memory[65536];
    FILE           *file = fopen(path, "rb");

    if (file == NULL) {
        perror(path);
        exit(1);
    }

    *len = fread(memory, 1, sizeof(memory), file);
    fclose(file);

    return memory;
}


static rmtls_certificate *
certificate(const char *path)
{
    size_t              len;
    uint8_t            *pem = read_file(path, &len);
    rmtls_certificate  *out;

    need(rmtls_certificate_from_pem(pem, len, &out, &text), path);

    return out;
}


static void
look_up(const rmtls_sni_map *map, const char *server_name)
{
    uint32_t  number = 0;
    int32_t   status;

    status = rmtls_sni_map_get(map, (const uint8_t *) server_name, server_name ? strlen(server_name) : 0, &number);

    printf("map %s: ", server_name ? server_name : "(none)");
    if (status == RMTLS_OK) {
        printf("%u\n", (unsigned) number);
    } else {
        printf("%s\n", status == RMTLS_NOT_FOUND ? "not found" : "error");
    }
}


static void
map_names(const rmtls_trust_store *store)
{
    static const struct {
        const char  *pattern;
        int32_t      ask;
    } names[] = {
        { "api.example.com", 1 },
        { "*.example.com", 1 },
        { "API.example.com.", 1 },
        { "*.*.example.com", 1 },
        { "open.example.org", 0 },
    };
    size_t          i;
    int32_t         status;
    uint32_t        number;
    rmtls_sni_map  *map;

    need(rmtls_sni_map_new(&map), "rmtls_sni_map_new");

    status = rmtls_sni_map_get(map, (const uint8_t *) "a", 1, &number);
    printf("map before build: %d\n", (int) status);

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        status = rmtls_sni_map_add(map, (const uint8_t *) names[i].pattern, strlen(names[i].pattern), (uint32_t) i + 1,
                                   names[i].ask, &store, 1, 1, &text);
        if (status == RMTLS_INVALID) {
            printf("map refuses %.*s\n", (int) text.len, (const char *) text.data);
        } else {
            need(status, names[i].pattern);
        }
    }

    need(rmtls_sni_map_build(map), "rmtls_sni_map_build");

    look_up(map, "api.example.com");
    look_up(map, "WWW.example.COM.");
    look_up(map, "a.b.example.com");
    look_up(map, "open.example.org");
    look_up(map, NULL);

    rmtls_sni_map_free(map);
}


static void
judge(const rmtls_trust_store *store, const rmtls_certificate *presented, const char *what, int64_t now)
{
    int32_t  code;

    need(rmtls_trust_store_verify(store, presented, now, &code, &text), "rmtls_trust_store_verify");
    printf("verify %s: %d %.*s\n", what, (int) code, (int) text.len, (const char *) text.data);
}


static void
print_lines(const rmtls_certificate *presented)
{
    size_t               i;
    int32_t              status;
    int64_t              until;
    rmtls_header_line    line;
    rmtls_header_lines  *lines;

    need(rmtls_certificate_header_lines(presented, (const uint8_t *) "kong", 4, RMTLS_VERDICT_NOT_VERIFIED, 0,
                                        &lines, &text),
         "rmtls_certificate_header_lines");
    need(rmtls_header_lines_until(lines, &until), "rmtls_header_lines_until");

    for (i = 0; /* void */ ; i++) {
        status = rmtls_header_lines_get(lines, i, &line);
        if (status == RMTLS_NOT_FOUND) {
            break;
        }

        need(status, "rmtls_header_lines_get");
        printf("%.*s: %.*s\n", (int) line.name_len, (const char *) line.name, (int) line.value_len,
               (const char *) line.value);
    }

    rmtls_header_lines_free(lines);
}


static void
grow(const rmtls_certificate *presented)
{
    uint8_t    memory[64];
    size_t     needed;
    int32_t    status;
    rmtls_buf  small = { memory, 3, 0 };

    status = rmtls_certificate_get(presented, RMTLS_FIELD_SHA1, &small);
    needed = small.len;
    printf("3 bytes for a SHA-1: %d, %zu needed\n", (int) status, needed);

    small.cap = needed;
    need(rmtls_certificate_get(presented, RMTLS_FIELD_SHA1, &small), "rmtls_certificate_get");
    printf("%zu bytes for a SHA-1: %zu written\n", needed, small.len);
}


int
main(int argc, char **argv)
{
    size_t              len;
    int64_t             now = (int64_t) time(NULL);
    uint8_t            *pem;
    rmtls_certificate  *client, *other;
    rmtls_trust_store  *store;

    if (argc != 4) {
        fprintf(stderr, "usage: %s CA.crt CLIENT.chain OTHER.crt\n", argv[0]);
        return 2;
    }

    if (rmtls_abi_version() != RMTLS_ABI_VERSION) {
        fprintf(stderr, "ABI version %d, expected %d\n", (int) rmtls_abi_version(), RMTLS_ABI_VERSION);
        return 1;
    }

    need(rmtls_host_check(&text), "rmtls_host_check");

    pem = read_file(argv[1], &len);
    need(rmtls_trust_store_new(pem, len, 0, -1, -1, &store, &text), "rmtls_trust_store_new");
    client = certificate(argv[2]);
    other = certificate(argv[3]);

    map_names(store);

    judge(store, client, "client", now);
    judge(store, other, "other", now);
    judge(store, client, "client in 100 years", now + (int64_t) 100 * 365 * 86400);

    print_lines(client);
    grow(client);

    printf("NULL: %d %d %d\n", (int) rmtls_certificate_get(NULL, RMTLS_FIELD_SHA1, &text),
           (int) rmtls_certificate_get(client, RMTLS_FIELD_SHA1, NULL), (int) rmtls_sni_map_build(NULL));

    rmtls_certificate_free(other);
    rmtls_certificate_free(client);
    rmtls_trust_store_free(store);
    rmtls_certificate_free(NULL);

    return 0;
}
