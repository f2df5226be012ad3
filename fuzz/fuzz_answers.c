/* libs: -lresolv */
/* DNS answers: what is handed on are names of hosts and usable addresses, in order and within
 * limits. Byte 0 chooses the type; the name asked for is the packet's own, so that answers count.
 */
#include "daemon/resolver/answers.c"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_mx(const struct answer_mx *mx)
{
    if (mx->n > ANSWERS_MX)
        abort();
    for (size_t i = 0; i < mx->n; i++) {
        size_t len = strnlen(mx->at[i].host, sizeof(mx->at[i].host));
        bool null = len == 0 && mx->n == 1;
        if (!null && !answers_name_ok(mx->at[i].host, len))
            abort();
        if (i > 0 && mx->at[i - 1].preference > mx->at[i].preference)
            abort();
    }
}

static void check_addresses(const struct answer_addresses *a, uint8_t len)
{
    if (a->n > ANSWERS_PER_TYPE)
        abort();
    for (size_t i = 0; i < a->n; i++)
        if (a->at[i].len != len || !is_usable(a->at[i].bytes, len))
            abort();
}

/* What the packet says it is about, or a fixed name. */
static void name_asked(const uint8_t *packet, size_t len, char name[NS_MAXDNAME])
{
    ns_msg msg;
    ns_rr rr;
    memcpy(name, "a.org", 6);
    if (len <= NS_MAXMSG && ns_initparse(packet, (int)len, &msg) == 0 &&
        ns_parserr(&msg, ns_s_qd, 0, &rr) == 0)
        memcpy(name, ns_rr_name(rr), strlen(ns_rr_name(rr)) + 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct answer_mx mx;
    struct answer_addresses addresses = {0};
    char name[NS_MAXDNAME];
    if (size == 0)
        return 0;
    /* As large as it is: what lies behind it must not be read. */
    uint8_t *packet = malloc(size - 1);
    if (size > 1)
        memcpy(packet, data + 1, size - 1);
    name_asked(packet, size - 1, name);
    enum answer_type type = data[0] & 1 ? ANSWER_A : ANSWER_AAAA;
    if (data[0] & 2) {
        enum answer_result result = answers_read_mx(packet, size - 1, name, &mx);
        if (result != ANSWER_FOUND && mx.n != 0)
            abort();
        check_mx(&mx);
    } else {
        enum answer_result result =
            answers_read_addresses(packet, size - 1, name, type, &addresses);
        if ((result == ANSWER_FOUND) != (addresses.n > 0))
            abort();
        check_addresses(&addresses, type == ANSWER_A ? 4 : 16);
    }
    answers_name_ok((const char *)data, size);
    free(packet);
    return 0;
}
