/* libs: -linih -lidn2 */
/* A configuration file of any bytes, and what a role makes of any slice. What is taken goes through
 * a role's slice and comes back the same. */
#include "daemon/config.c"
#include "daemon/config_keys.c"
#include "daemon/config_listen.c"
#include "daemon/credential.c"
#include "daemon/domain.c"

#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void insist(bool good)
{
    if (!good)
        abort();
}

/* To a slice, back, and to a slice again. */
static void round_trip(const struct config *c)
{
    static char first[65536], second[65536];
    for (unsigned role = 0; role < ROLE_COUNT; role++) {
        struct config *back = NULL;
        size_t n = 0, m = 0;
        insist(config_slice(c, 1u << role, first, sizeof(first), &n) == SP_OK);
        insist(config_from_slice(first, n, &back) == SP_OK);
        for (size_t i = 0; i < config_key_count;
             i++) /* what is not in it stays as it is at first */
            if (config_keys[i].type == TEXT && !(config_keys[i].roles & 1u << role))
                insist(*(char **)field(back, &config_keys[i]) == NULL);
        memset(second, 0, sizeof(second));
        config_slice(back, 1u << role, second, sizeof(second), &m);
        insist(m == n && memcmp(first, second, n) == 0);
        config_free(back);
    }
}

static void read_file(const uint8_t *data, size_t size, bool user_mode)
{
    static char path[] = "/proc/self/fd/1234567";
    static int fd = -1;
    struct config *c = NULL;
    char *said = NULL;
    size_t len = 0;
    if (fd < 0) {
        fd = memfd_create("config", MFD_CLOEXEC);
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    }
    insist(ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size);
    FILE *errors = open_memstream(&said, &len);
    enum sp_err err = config_read(path, user_mode, errors, &c);
    fclose(errors);
    insist((err == SP_OK) == (c != NULL) && (err == SP_OK) == (len == 0));
    insist(err == SP_OK || (err == SP_ERR_CONFIG && said[len - 1] == '\n'));
    if (c != NULL) {
        insist(c->hostname != NULL && c->domain.count > 0 && c->web_url != NULL);
        insist(user_mode || (c->tls_key != NULL && c->tls_certificate != NULL));
        round_trip(c);
    }
    config_free(c);
    free(said);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config *c = NULL;
    if (size == 0)
        return 0;
    if (data[0] != '=') {
        read_file(data, size, data[0] != '#');
        return 0;
    }
    enum sp_err err = config_from_slice((const char *)data + 1, size - 1, &c);
    insist((err == SP_OK) == (c != NULL));
    config_free(c);
    return 0;
}
