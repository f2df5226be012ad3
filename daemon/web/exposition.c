/* What the roles say in `status`, as Prometheus reads it. A role may have been taken over: it can
 * lie about its own numbers, and nothing that it says becomes a name, a label or a second sample.
 */
#include "daemon/web/exposition.h"
#include "daemon/histogram.h"

#include <event2/buffer.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define MAX_TEXT UINT16_MAX

/* A number of one role's status. With a label: one number for each of its values, which the role
 * says as STATUS_VALUE, or leaves out as long as it is 0. Rows of one name follow each other. */
static const struct metric {
    const char *role, *status, *name;
    enum { COUNTER, GAUGE, HISTOGRAM } type;
    unsigned unit; /* divides the number, so that it is in seconds; 0: it is whole */
    const char *label, *values, *help;
} metrics[] = {
    {"supervisor", "restarts", "tree_restarts_total", COUNTER, 0, NULL, NULL,
     "Fresh trees after a role died"},
    {"supervisor", "crashes", "role_crashes_total", COUNTER, 0, "role",
     "smtp sealer store keeper web audit relay resolver door", "Roles that died unasked"},
    {"supervisor", "violations", "sandbox_violations_total", COUNTER, 0, "process", "role",
     "Processes ended by their system call filter"},
    {"smtp", "violations", "sandbox_violations_total", COUNTER, 0, "process", "session", NULL},
    {"relay", "violations", "sandbox_violations_total", COUNTER, 0, "process", "delivery", NULL},

    {"smtp", "sessions", "sessions", GAUGE, 0, NULL, NULL, "SMTP and LMTP sessions open"},
    {"smtp", "sessions_accepted", "sessions_total", COUNTER, 0, NULL, NULL,
     "SMTP and LMTP sessions taken"},
    {"smtp", "sessions_crashed", "sessions_crashed_total", COUNTER, 0, NULL, NULL,
     "Sessions whose process died"},
    {"smtp", "refused", "sessions_refused_total", COUNTER, 0, "reason",
     "held_off too_many_connections too_many_sessions too_many_sessions_of_client shutting_down "
     "no_resources",
     "Connections that got no session"},
    {"smtp", "cut", "sessions_cut_total", COUNTER, 0, "reason",
     "commands_in_error refused_recipients many_transactions talks_too_early speaks_http too_slow",
     "Sessions ended for what the client did"},

    {"sealer", "messages_sealed", "messages_sealed_total", COUNTER, 0, NULL, NULL,
     "Messages taken in and acknowledged"},
    {"sealer", "bytes_sealed", "sealed_bytes_total", COUNTER, 0, NULL, NULL,
     "Bytes of messages taken in"},
    {"sealer", "messages_refused", "messages_refused_total", COUNTER, 0, "reason",
     "size loop bare_cr bare_lf nul bad_order interrupted sealer forged_frame no_slot no_space "
     "store "
     "other",
     "Messages not taken in"},
    {"sealer", "recipients_refused", "recipients_refused_total", COUNTER, 0, "reason",
     "unknown no_key limit no_space not_ours other", "Recipients not accepted"},
    {"resolver", "senders_refused", "senders_refused_total", COUNTER, 0, "reason", "null_mx",
     "Senders not accepted ([smtp] check_sender)"},
    {"sealer", "window_bytes_most", "plaintext_window_bytes_most", GAUGE, 0, NULL, NULL,
     "The most plaintext of one message that was held at once"},
    {"sealer", "plaintext_us", "plaintext_residency_seconds", HISTOGRAM, 1000000, NULL, NULL,
     "How long plaintext of a message was held"},
    {"sealer", "slots", "slots", GAUGE, 0, NULL, NULL, "Slots of locked memory made so far"},
    {"sealer", "slots_most", "slots_most", GAUGE, 0, NULL, NULL, "Slots that memory allows"},

    {"keeper", "residency_ms", "secret_residency_seconds", HISTOGRAM, 1000, "kind",
     "password relay", "From the arrival of a secret to its erasure"},
    {"keeper", "slots_in_use", "secrets", GAUGE, 0, NULL, NULL,
     "Slots of the slots file in use: secrets, and boxes of links"},

    {"store", "users", "users", GAUGE, 0, NULL, NULL, "Users"},
    {"store", "messages", "messages_stored", GAUGE, 0, NULL, NULL, "Messages in all mailboxes"},
    {"store", "stored_bytes", "stored_bytes", GAUGE, 0, NULL, NULL, "Bytes of ciphertext"},
    {"store", "map_used_bytes", "map_used_bytes", GAUGE, 0, NULL, NULL, "Of the database's map"},
    {"store", "map_size_bytes", "map_size_bytes", GAUGE, 0, NULL, NULL, "The most it may grow to"},
    {"store", "commit_us", "commit_seconds", HISTOGRAM, 1000000, NULL, NULL,
     "How long a group commit took"},
    {"store", "group_size", "commit_group_size", HISTOGRAM, 0, NULL, NULL,
     "Requests that one commit answered"},
    {"store", "queue", "queue_length", GAUGE, 0, NULL, NULL,
     "Jobs in the queue: a mail and a destination each"},
    {"store", "links", "links", GAUGE, 0, NULL, NULL, "Links on record"},

    {"relay", "deliveries", "deliveries", GAUGE, 0, NULL, NULL, "Deliveries under way"},
    {"audit", "event_relay", "deliveries_total", COUNTER, 0, "result", "sent deferred failed",
     "Results of deliveries, one a result and destination"},
    {"relay", "deliveries", "deliveries_total", COUNTER, 0, "result", "crashed", NULL},
    {"audit", "event_link", "link_events_total", COUNTER, 0, "event",
     "created sent expired revoked", "What became of links"},
    {"audit", "event_link", "link_visits_total", COUNTER, 0, "what", "page opened exposed",
     "Requests for links"},

    {"audit", "events", "audit_events_total", COUNTER, 0, NULL, NULL, "Events in the audit log"},
    {"audit", "checkpoints", "audit_checkpoints_total", COUNTER, 0, NULL, NULL,
     "Checkpoints since the start"},

    {"web", "connections", "web_connections", GAUGE, 0, NULL, NULL, "HTTPS connections open"},
    {"web", "requests", "web_requests_total", COUNTER, 0, NULL, NULL, "HTTPS requests"},
    {"web", "requests_busy", "web_requests_busy_total", COUNTER, 0, NULL, NULL,
     "Requests answered 503"},

    {"resolver", "asked", "dns_questions_total", COUNTER, 0, NULL, NULL, "Questions of deliveries"},
    {"resolver", "failed", "dns_failed_total", COUNTER, 0, NULL, NULL, "Without an answer"},
    {"resolver", "bogus", "dns_bogus_total", COUNTER, 0, NULL, NULL,
     "Answers that did not validate"},
};
#define METRICS (sizeof(metrics) / sizeof(metrics[0]))

struct text {
    const char *at;
    size_t len;
};

static bool is(struct text t, const char *word, size_t len)
{
    return t.len == len && memcmp(t.at, word, len) == 0;
}

static struct text take(struct wire_in *in)
{
    struct text t;
    t.at = (const char *)wire_get_b16(in, MAX_TEXT, &t.len);
    return t;
}

/* The value of the first row of that name: STATUS, or STATUS_VALUE. */
static bool find(struct wire_in rows, const char *role, const char *status, struct text value,
                 struct text *out)
{
    char want[128];
    int len = snprintf(want, sizeof(want), "%s%s%.*s", status, value.len > 0 ? "_" : "",
                       (int)value.len, value.at);
    while (rows.left > 0 && !rows.bad) {
        struct text r = take(&rows), name = take(&rows);
        *out = take(&rows);
        if (!rows.bad && is(r, role, strlen(role)) && is(name, want, (size_t)len))
            return true;
    }
    *out = (struct text){"", 0};
    return false;
}

static void put_quantity(struct evbuffer *out, uint64_t number, unsigned unit)
{
    if (unit == 0)
        evbuffer_add_printf(out, "%" PRIu64, number);
    else
        evbuffer_add_printf(out, "%.12g", (double)number / unit);
}

static void put_sample(struct evbuffer *out, const struct metric *m, struct text value,
                       const char *suffix, const char *limit)
{
    evbuffer_add_printf(out, "sealpost_%s%s", m->name, suffix);
    if (value.len > 0)
        evbuffer_add_printf(out, "{%s=\"%.*s\"%s", m->label, (int)value.len, value.at,
                            limit != NULL ? "," : "} ");
    else
        evbuffer_add_printf(out, limit != NULL ? "{" : " ");
    if (limit != NULL)
        evbuffer_add_printf(out, "le=\"%s", limit);
}

static void put_histogram(struct evbuffer *out, const struct metric *m, struct text value,
                          const struct histogram *h)
{
    uint64_t up_to = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        up_to += h->bucket[i];
        put_sample(out, m, value, "_bucket", "");
        put_quantity(out, histogram_limit(i), m->unit);
        evbuffer_add_printf(out, "\"} %" PRIu64 "\n", up_to);
    }
    put_sample(out, m, value, "_bucket", "+Inf");
    evbuffer_add_printf(out, "\"} %" PRIu64 "\n", h->count);
    put_sample(out, m, value, "_sum", NULL);
    put_quantity(out, h->sum, m->unit);
    evbuffer_add_printf(out, "\n");
    put_sample(out, m, value, "_count", NULL);
    evbuffer_add_printf(out, "%" PRIu64 "\n", h->count);
}

/* What a role leaves out is 0, unless it has not answered at all: then there is no sample. */
static void put_value(struct evbuffer *out, const struct metric *m, struct text value,
                      struct wire_in rows)
{
    struct text said;
    struct histogram h = {0};
    uint64_t number = 0;
    bool there = find(rows, m->role, m->status, value, &said);
    if (!there && value.len == 0)
        return;
    const char *at = said.at, *end = said.at + said.len;
    if (m->type == HISTOGRAM) {
        if (!there || histogram_parse(said.at, said.len, &h) == SP_OK)
            put_histogram(out, m, value, &h);
    } else if (!there || (histogram_number(&at, end, &number) == SP_OK && at == end)) {
        put_sample(out, m, value, "", NULL);
        put_quantity(out, number, m->unit);
        evbuffer_add_printf(out, "\n");
    }
}

static void put_metric(struct evbuffer *out, const struct metric *m, struct wire_in rows)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    struct text none = {"", 0}, said;
    if (m->help != NULL)
        evbuffer_add_printf(out, "# HELP sealpost_%s %s\n# TYPE sealpost_%s %s\n", m->name, m->help,
                            m->name, types[m->type]);
    if (m->label == NULL) {
        put_value(out, m, none, rows);
        return;
    }
    if (strcmp(m->role, "supervisor") != 0 && !find(rows, m->role, "pid", none, &said))
        return;
    for (const char *v = m->values; *v != '\0';) {
        struct text value = {v, strcspn(v, " ")};
        put_value(out, m, value, rows);
        v += value.len + (v[value.len] == ' ');
    }
}

void exposition_write(struct wire_in rows, struct evbuffer *out)
{
    for (size_t i = 0; i < METRICS; i++)
        put_metric(out, &metrics[i], rows);
}
