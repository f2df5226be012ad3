/* libs: -lsodium -lidn2 */
/* What a delivery reads itself: the header of its sender's mail, which is anybody's words, and the
 * answers of store and resolver, which are checked all the same. Any cut of a header gives the same
 * facts; a job that is taken holds strings that end, and a route names hosts that are ASCII. */
#include <signal.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/domain.c"
#include "daemon/relay/edge.c"
#include "daemon/relay/facts.c"
#include "daemon/relay/job.c"
#define ask route_ask
#include "daemon/relay/route.c"
#include "daemon/relay/outside.c"
#include "envelope/wire.c"
#define lower address_lower
#include "storage/address.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* No channel: what comes is the input. */
static struct wire_in answer;
enum sp_err ipc_send_frame(int sock, uint16_t type, uint32_t id, uint8_t *frame, size_t len)
{
    (void)id;
    (void)frame;
    (void)len;
    return sock == 3 && type != 0 ? SP_OK : SP_ERR_PEER;
}
enum sp_err ipc_recv(int sock, void *buf, size_t cap, struct ipc_frame *frame)
{
    (void)sock;
    (void)buf;
    (void)cap;
    *frame = (struct ipc_frame){.type = RD_MX_REPLY, .body = answer, .fd = -1};
    return SP_OK;
}

void delivery_verdict(struct dialog_verdict *v, enum dialog_outcome outcome, unsigned code,
                      const char *enhanced, const char *format, ...)
{
    va_list args;
    v->outcome = outcome;
    v->code = code;
    snprintf(v->enhanced, sizeof(v->enhanced), "%s", enhanced);
    va_start(args, format);
    vsnprintf(v->text, sizeof(v->text), format, args);
    va_end(args);
}

bool delivery_is_ascii(const char *text)
{
    while (*text != '\0' && ((uint8_t)*text & 0x80) == 0)
        text++;
    return *text == '\0';
}

static void insist(bool ok)
{
    if (!ok)
        abort();
}

static void header(const uint8_t *data, size_t size)
{
    struct facts whole, cut;
    facts_init(&whole);
    facts_push(&whole, data, size);
    facts_end(&whole);
    facts_init(&cut);
    for (size_t at = 0, n = 1; at < size; at += n, n = n % 7 + 1)
        facts_push(&cut, data + at, size - at < n ? size - at : n);
    facts_end(&cut);
    insist(whole.received == cut.received && strcmp(whole.message_id, cut.message_id) == 0);
    size_t len = strlen(whole.message_id);
    insist(len <= FACTS_ID &&
           (len == 0 || (whole.message_id[0] == '<' && whole.message_id[len - 1] == '>')));
    for (size_t i = 0; i < len; i++)
        insist(whole.message_id[i] > 0x20 && whole.message_id[i] < 0x7f);
}

static void job(const uint8_t *data, size_t size)
{
    static struct job job;
    if (job_decode(data, size, &job) != SP_OK)
        return;
    insist(job.n > 0 && job.n <= JOB_RECIPIENTS && job.n_own <= JOB_OWN);
    for (size_t i = 0; i < job.n; i++) {
        insist(strlen(job.to[i]) < JOB_ADDRESS);
        job_owns(&job, job.to[i]);
    }
    for (size_t i = 0; i < job.n_own; i++)
        insist(strlen(job.own[i]) < JOB_ADDRESS);
}

static void route(const uint8_t *data, size_t size)
{
    static struct route r;
    struct config config = {.hostname = (char *)(uintptr_t) "mail.example.org", .relay_port = 25};
    struct dialog_verdict why = {0};
    answer = wire_in(data, size);
    if (route_find(&config, 3, "there.test", &r, &why) == SP_OK) {
        insist(r.n <= ROUTE_HOSTS && (r.n > 0 || why.enhanced[0] != '\0'));
        for (size_t i = 0; i < r.n; i++)
            insist(r.host[i].name[0] != '\0' && delivery_is_ascii(r.host[i].name) &&
                   strcasecmp(r.host[i].name, config.hostname) != 0 &&
                   (i == 0 || r.host[i].preference >= r.host[i - 1].preference));
    }
}

static void place(const uint8_t *data, size_t size)
{
    static struct route r;
    char text[300];
    if (size >= sizeof(text))
        return;
    memcpy(text, data, size);
    text[size] = '\0';
    if (route_smarthost(text, &r))
        insist(r.n == 1 && r.port > 0 && r.host[0].name[0] != '\0');
    struct config config = {.hostname = (char *)(uintptr_t) "mail.example.org"};
    struct dialog_verdict why = {0};
    answer = (struct wire_in){.bad = true};
    route_find(&config, 3, text, &r, &why);
    struct route_address address = {.len = r.host[0].literal.len};
    size_t n = 1;
    memcpy(address.bytes, r.host[0].literal.bytes, sizeof(address.bytes));
    why.enhanced[0] = '\0';
    route_keep_outside(&r.host[0], &address, &n, &why);
    insist((n == 0) == (why.enhanced[0] == '5'));
    insist(n == 0 ||
           (address.bytes[0] != 127 && address.bytes[0] != 10 && address.bytes[0] < 224) ||
           address.len == 16);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const parts[])(const uint8_t *, size_t) = {header, job, route, place};
    if (size > 0)
        parts[data[0] % 4](data + 1, size - 1);
    return 0;
}
