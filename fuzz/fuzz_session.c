/* libs: -lcrypto -lsodium -lidn2 */
/* A whole SMTP or LMTP session: its dialogue, its content, its side of the channel to the sealer.
 * The input is what the client says; it is cut in two ways, which must not matter. The sealer is a
 * model that holds the session to the order of frames, joins each message again and looks at it. */
#include <openssl/ssl.h>
#undef SSL_get_version
#undef SSL_get_cipher_name
#define SSL_get_version(ssl)     "TLSv1.3"
#define SSL_get_cipher_name(ssl) "TLS_AES_256_GCM_SHA384"
#include <time.h>
static int fuzz_clock(clockid_t id, struct timespec *now);
#define clock_gettime fuzz_clock

#include "fuzz/session_sources.h"

#include <stdlib.h>

#define MAX_OUT     (1u << 20)
#define MAX_BODY    (1u << 18)
#define MAX_REPLY   512u
#define WINDOW      (128u * 1024u) /* promise P1 */
#define MAX_MESSAGE 65536u
#define HEAD        6u /* bytes of the input that choose the world */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LMTP_SIDE = 1, OFFER_TLS = 2, REQUIRE_TLS = 4, INJECT = 8, WRITES_FAIL = 16, EARLY = 32 };

/* The world around one session. */
struct world {
    uint8_t flags, cut, verdicts, sealer_dies, end, store_says;
    const uint8_t *in;
    size_t in_len, in_at;
    char *out;
    size_t out_len, writes;
    bool tls;
};

/* The sealer's view. */
struct model {
    enum { EMPTY, READY, CONTENT } state;
    unsigned frames, recipients, stored, replies_due;
    bool lent, attachment;
    size_t body_len, joined_len, at; /* at: of the body, joined so far */
    uint8_t body[MAX_BODY], joined[MAX_BODY];
    struct {
        uint64_t splice_at;
        size_t from, len;
    } piece[256];
    size_t n_pieces, bytes_len;
    uint8_t bytes[MAX_BODY];
    uint8_t reply[64];
    size_t reply_len;
    uint16_t reply_type;
    uint64_t sum; /* over all that was stored */
};

static struct world world;
static struct model model;
static struct session x;
static uint8_t slot[SLOT_SIZE] __attribute__((aligned(16)));

static void insist(bool good)
{
    if (!good)
        abort();
}

static int fuzz_clock(clockid_t id, struct timespec *now)
{
    (void)id;
    *now = (struct timespec){.tv_sec = 1750000000};
    return 0;
}

/* The resolver's word: the first letter decides. */
bool sender_has_null_mx(struct sender *s, const char *domain)
{
    (void)s;
    insist(domain[0] != '\0' && domain[0] != '[');
    return domain[0] == 'n';
}

/* --- the connection --- */

void stream_set_deadline(struct stream *s, uint64_t seconds)
{
    s->deadline_ms = seconds > 0 ? stream_now_ms() + seconds * 1000 : 0;
}

uint64_t stream_now_ms(void)
{
    return 1;
}

/* How far a read may go: to the end of a STARTTLS line, and to the end of any line before
 * PIPELINING is offered, unless the client is to cheat. */
static size_t wall(size_t n)
{
    static const char word[] = "STARTTLS";
    const uint8_t *at = world.in + world.in_at;
    if ((world.flags & INJECT) != 0)
        return n;
    const uint8_t *lf = x.offered ? NULL : memchr(at, '\n', n);
    if (lf != NULL)
        return (size_t)(lf - at) + 1;
    for (size_t i = 0; i < n; i++)
        if (at[i] == '\n')
            for (size_t back = 8; back < 24 && back <= world.in_at + i; back++)
                if (strncasecmp((const char *)at + i - back, word, 8) == 0)
                    return i + 1;
    return n;
}

enum sp_err stream_read(struct stream *s, void *buf, size_t cap, size_t *n)
{
    static const enum sp_err ends[] = {SP_ERR_PEER, SP_ERR_EXPIRED, SP_ERR_STATE};
    size_t left = world.in_len - world.in_at, want = left;
    (void)s;
    *n = 0;
    insist(cap > 0);
    if (left == 0)
        return ends[world.end % 3];
    if (world.cut != 0) {
        world.cut = (uint8_t)(world.cut * 77u + 13u) | 1u;
        want = world.cut & 2 ? world.cut % 5u + 1 : world.cut * 3u;
    }
    want = want < left ? want : left;
    want = wall(want < cap ? want : cap);
    memcpy(buf, world.in + world.in_at, want);
    world.in_at += want;
    *n = want;
    return SP_OK;
}

enum sp_err stream_write(struct stream *s, const void *buf, size_t len)
{
    (void)s;
    if ((world.flags & WRITES_FAIL) && ++world.writes > (world.end >> 2))
        return SP_ERR_PEER;
    insist(len <= SESSION_OUT && len <= MAX_OUT - world.out_len);
    memcpy(world.out + world.out_len, buf, len);
    world.out_len += len;
    return SP_OK;
}

enum sp_err stream_start_tls(struct stream *s, SSL_CTX *ctx)
{
    (void)ctx;
    insist(!world.tls);
    s->ssl = (SSL *)(void *)&world;
    world.tls = true;
    return SP_OK;
}

bool stream_is_open(int fd)
{
    (void)fd;
    return world.store_says % 11 != 3;
}

bool stream_talks(struct stream *s, uint64_t seconds)
{
    (void)s;
    return seconds == 0 && (world.flags & EARLY) != 0;
}

void stream_close(struct stream *s, bool hasty)
{
    (void)s;
    (void)hasty;
}

void tls_set_keeper(int sock)
{
    (void)sock;
}

enum sp_err lockheap_lock(void)
{
    return SP_OK;
}

void lockmem_wipe(void *at, size_t len)
{
    if (len > 0)
        memset(at, 0, len);
}

enum sp_err lockmem_map(int fd, size_t size, void **out)
{
    insist(fd == 77 && size == SLOT_SIZE);
    *out = slot;
    return SP_OK;
}

/* --- the sealer --- */

static void answer_with(uint16_t type, enum sp_err status, size_t more)
{
    memset(model.reply, 0, sizeof(model.reply));
    model.reply[0] = (uint8_t)status;
    model.reply_len = 1 + more;
    model.reply_type = type;
}

static void drop_message(void)
{
    model.state = EMPTY;
    model.attachment = false;
    model.body_len = model.bytes_len = model.n_pieces = 0;
    model.recipients = 0;
}

static void model_rcpt(struct wire_in *in)
{
    static const enum sp_err verdicts[] = {
        SP_OK,         SP_OK,           SP_OK,        SP_ERR_NOT_FOUND,
        SP_ERR_NO_KEY, SP_ERR_NO_SPACE, SP_ERR_LIMIT, SP_ERR_SYSTEM};
    size_t len;
    const uint8_t *address = wire_get_b16(in, 512, &len);
    unsigned sum = world.verdicts;
    insist(model.state != CONTENT && address != NULL && wire_in_done(in));
    const uint8_t *domain = memrchr(address, '@', len);
    insist(utf8_is_text(address, len));
    for (size_t i = 0; i < len; i++) {
        insist(address[i] < 0x7f || (x.smtputf8 && domain != NULL && address + i < domain));
        sum = sum * 31 + address[i];
    }
    enum sp_err verdict = verdicts[sum / 7 % 8];
    if (verdict == SP_OK) {
        model.recipients++;
        model.state = READY;
    }
    answer_with(SE_RCPT_REPLY, verdict, 0);
}

static void model_reset(struct wire_in *in)
{
    insist(model.state != CONTENT && wire_in_done(in));
    drop_message();
}

static void model_data(struct wire_in *in)
{
    insist(model.state == READY && wire_in_done(in));
    bool room = world.store_says % 5 != 1;
    if (room)
        model.state = CONTENT;
    answer_with(SE_SLOT, room ? SP_OK : SP_ERR_NO_SPACE, 0);
}

static void model_attach(struct wire_in *in)
{
    uint64_t splice_at = wire_get_u64(in);
    size_t media = wire_get_u16(in), name = wire_get_u16(in);
    insist(model.state == CONTENT && !model.attachment && wire_in_done(in));
    insist(media > 0 && media + name <= SLOT_META_SIZE && model.n_pieces < 255);
    model.attachment = true;
    model.piece[model.n_pieces].splice_at = splice_at;
    model.piece[model.n_pieces].from = model.bytes_len;
    model.piece[model.n_pieces++].len = 0;
}

static void take(uint8_t *to, size_t *len, size_t n)
{
    insist(n <= SLOT_WORK_SIZE && n <= MAX_BODY - *len);
    memcpy(to + *len, slot + SLOT_WORK, n);
    memset(slot + SLOT_WORK, 0, n);
    *len += n;
}

static void model_seal(struct wire_in *in)
{
    uint8_t stream = wire_get_u8(in), last = wire_get_u8(in);
    uint32_t n = wire_get_u32(in);
    insist(model.state == CONTENT && wire_in_done(in) && stream <= 1 && last <= 1);
    insist(last || n % CAKE_CHUNK == 0);
    if (stream == 0) {
        insist(!last);
        take(model.body, &model.body_len, n);
    } else {
        insist(model.attachment);
        model.piece[model.n_pieces - 1].len += n;
        take(model.bytes, &model.bytes_len, n);
        model.attachment = !last;
    }
    answer_with(SE_SEALED, SP_OK, 0);
}

static void join(const uint8_t *bytes, size_t len)
{
    insist(len <= MAX_BODY - model.joined_len);
    memcpy(model.joined + model.joined_len, bytes, len);
    model.joined_len += len;
}

static void join_pieces(void)
{
    size_t at = 0;
    model.joined_len = 0;
    for (size_t i = 0; i < model.n_pieces; i++) {
        uint64_t to = model.piece[i].splice_at;
        insist(to >= at && to <= model.body_len);
        join(model.body + at, (size_t)to - at);
        join(model.bytes + model.piece[i].from, model.piece[i].len);
        at = (size_t)to;
    }
    join(model.body + at, model.body_len - at);
}

/* What is stored has clean line ends throughout, and our trace in front. */
static void look_at_message(void)
{
    static const char first[] = "Return-Path: <", second[] = "\r\nReceived: from ";
    const uint8_t *m = model.joined;
    size_t n = model.joined_len, fields = 0;
    join_pieces();
    n = model.joined_len;
    insist(n > sizeof(first) && memcmp(m, first, sizeof(first) - 1) == 0);
    insist(memmem(m, n, second, sizeof(second) - 1) != NULL);
    for (size_t i = 0; i < n; i++) {
        insist(m[i] != '\0');
        insist(m[i] != '\r' || (i + 1 < n && m[i + 1] == '\n'));
        insist(m[i] != '\n' || (i > 0 && m[i - 1] == '\r'));
        if (m[i] == '\n' && i + 1 < n && m[i + 1] != '\t' && ++fields == 2)
            insist(n - i - 1 <= MAX_MESSAGE); /* the client's part */
        model.sum = model.sum * 1099511628211u + m[i];
    }
}

static void model_finish(struct wire_in *in)
{
    uint32_t n = wire_get_u32(in), window = wire_get_u32(in);
    wire_get_u64(in);
    insist(model.state == CONTENT && !model.attachment && wire_in_done(in));
    insist(window <= WINDOW && window >= n);
    take(model.body, &model.body_len, n);
    bool stored = world.store_says % 7 != 2;
    if (stored) {
        look_at_message();
        model.stored++;
        model.replies_due += world.flags & LMTP_SIDE ? model.recipients : 1;
    }
    drop_message();
    answer_with(SE_DONE, stored ? SP_OK : SP_ERR_NO_SPACE, stored ? ID_SIZE : 0);
}

static void model_abort(struct wire_in *in)
{
    size_t len;
    const uint8_t *why = wire_get_b16(in, 32, &len);
    insist(model.state == CONTENT && why != NULL && wire_in_done(in) && len > 0);
    for (size_t i = 0; i < len; i++)
        insist((why[i] >= 'a' && why[i] <= 'z') || why[i] == '-');
    for (size_t i = 0; i < SLOT_META + SLOT_META_SIZE; i++)
        insist(slot[i] == 0 || i >= SLOT_READ);
    drop_message();
}

static void model_refused(struct wire_in *in)
{
    uint8_t what = wire_get_u8(in);
    insist(wire_in_done(in) && what < REFUSED_COUNT && model.state != CONTENT);
}

enum sp_err ipc_send_fd(int sock, uint16_t type, uint32_t id, const void *body, size_t len, int fd)
{
    static void (*const frames[])(struct wire_in *) = {model_rcpt,   model_reset,  model_data,
                                                       model_attach, model_seal,   model_finish,
                                                       model_abort,  model_refused};
    struct wire_in in = wire_in(body, len);
    (void)sock;
    (void)id;
    insist(fd == -1 && type >= SE_RCPT && type <= SE_REFUSED && model.reply_len == 0);
    if (world.sealer_dies != 0 && ++model.frames >= world.sealer_dies)
        return SP_ERR_PEER;
    frames[type - SE_RCPT](&in);
    return SP_OK;
}

enum sp_err ipc_recv(int sock, void *buf, size_t cap, struct ipc_frame *frame)
{
    (void)sock;
    insist(model.reply_len > 0 && model.reply_len <= cap); /* or it would wait for ever */
    memcpy(buf, model.reply, model.reply_len);
    *frame = (struct ipc_frame){
        .type = model.reply_type, .fd = -1, .body = wire_in(buf, model.reply_len)};
    if (model.reply_type == SE_SLOT && !model.lent) {
        frame->fd = 77;
        model.lent = true;
    }
    model.reply_len = 0;
    return SP_OK;
}

/* --- replies --- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* RFC 2034: a code in all but the greeting, the answers to hello, and 354. */
static void look_at_reply(const char *line, size_t len, bool greeting)
{
    insist(len >= 4 && len <= MAX_REPLY);
    insist(line[0] >= '2' && line[0] <= '5' && is_digit(line[1]) && is_digit(line[2]));
    insist(line[3] == ' ' || line[3] == '-');
    for (size_t i = 0; i < len; i++)
        insist(line[i] >= 0x20 && line[i] < 0x7f);
    bool hello = memcmp(line, "250-", 4) == 0 || memcmp(line, "250 mx.", 7) == 0 ||
                 memcmp(line, "250 ENHANCED", 12) == 0;
    if (greeting || line[0] == '3' || hello)
        return;
    insist(len > 9 && line[4] == line[0] && line[5] == '.' && is_digit(line[6]) && line[7] == '.' &&
           is_digit(line[8]));
}

static void look_at_replies(void)
{
    const char *at = world.out, *end = world.out + world.out_len;
    bool greeting = true, over = false;
    unsigned sealed = 0;
    while (at < end) {
        const char *lf = memchr(at, '\n', (size_t)(end - at));
        insist(!over && lf != NULL && lf > at && lf[-1] == '\r');
        size_t len = (size_t)(lf - at) - 1;
        look_at_reply(at, len, greeting);
        sealed += len > 16 && memcmp(at, "250 2.0.0 Sealed", 16) == 0;
        over = memcmp(at, "221", 3) == 0 || memcmp(at, "421", 3) == 0;
        greeting = false;
        at = lf + 1;
    }
    insist(sealed == model.replies_due || (world.flags & WRITES_FAIL));
}

/* --- */

static void run(const uint8_t *data, size_t size, uint8_t cut, char *out)
{
    static char host[] = "mx.example.org", domain[] = "example.org";
    struct config config = {.hostname = host,
                            .domain = {.count = 1, .item = {domain}},
                            .max_message = MAX_MESSAGE,
                            .max_recipients = 5,
                            .smtp_idle = 300,
                            .smtp_min_rate = 100,
                            .smtp_max_errors = 10,
                            .smtp_max_refused = 10,
                            .smtp_max_transactions = 10,
                            .smtp_deadline = 3600};
    world = (struct world){.flags = data[0],
                           .cut = cut,
                           .verdicts = data[2],
                           .sealer_dies = data[3],
                           .end = data[4],
                           .store_says = data[5],
                           .in = data + HEAD,
                           .in_len = size - HEAD,
                           .out = out};
    config.smtp_tls = world.flags & REQUIRE_TLS ? TLS_REQUIRE : TLS_MAY;
    memset(&model, 0, sizeof(model));
    memset(&x, 0, sizeof(x));
    memset(slot, 0, sizeof(slot));
    x.config = &config;
    x.tls = world.flags & OFFER_TLS ? (SSL_CTX *)(void *)&world : NULL;
    x.id = 7;
    memcpy(x.client, "192.0.2.1", 10);
    x.lmtp = world.flags & LMTP_SIDE;
    session_run(&x);
    look_at_replies();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char out[2][MAX_OUT];
    if (size < HEAD || size > 100000)
        return 0;
    run(data, size, 0, out[0]);
    size_t len = world.out_len;
    uint64_t sum = model.sum;
    unsigned stored = model.stored;
    if (world.flags & (INJECT | WRITES_FAIL))
        return 0;
    run(data, size, data[1] | 1, out[1]);
    insist(world.out_len == len && memcmp(out[0], out[1], len) == 0);
    insist(model.sum == sum && model.stored == stored);
    return 0;
}
