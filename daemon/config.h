#ifndef SEALPOST_CONFIG_H
#define SEALPOST_CONFIG_H
/*
 * The configuration file (INTERFACES: INI). One table in config.c names every key, its type, its
 * default and the roles that get to see it.
 */
#include "envelope/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define CONFIG_MAX_LIST 16
#define CONFIG_MAX_TEXT 1024
#define CONFIG_MAX_KEYS 100

struct config_list {
    size_t count;
    char *item[CONFIG_MAX_LIST];
};

enum config_yes { CONFIG_NO, CONFIG_YES, CONFIG_AUTO };
enum config_tls { TLS_MAY, TLS_REQUIRE };
enum config_lock { LOCK_BEST, LOCK_SECRETMEM, LOCK_MLOCK };
enum config_slots { SLOTS_IN_PLACE, SLOTS_ACCEPT_COW };
enum config_agent { AGENT_TRUNCATED, AGENT_WHOLE, AGENT_NONE };
enum config_relay { RELAY_MX, RELAY_SMARTHOST, RELAY_OFF };

struct config {
    /* [appliance] */
    char *hostname, *state, *audit_log, *control;
    struct config_list domain;
    uint64_t uid_base;       /* 0: users sealpost-ROLE; else role r runs as uid_base + r */
    uint64_t shutdown_grace; /* seconds */
    uint64_t code_expiry;    /* seconds an enrolment code is good for */
    /* [tls] */
    char *tls_certificate, *tls_key;
    /* [smtp] */
    struct config_list smtp_listen, lmtp_listen;
    enum config_tls smtp_tls;
    enum config_yes check_sender; /* ask the DNS whether its domain takes mail at all */
    uint64_t max_message;         /* bytes */
    uint64_t max_recipients, max_sessions, max_sessions_per_client;
    uint64_t smtp_idle, smtp_deadline; /* seconds */
    uint64_t smtp_greet_delay;         /* seconds that a client must keep silent at first */
    uint64_t smtp_min_rate;            /* bytes a second; 0: as slow as it likes */
    uint64_t smtp_max_rate;            /* connections a minute and client; 0: any number */
    uint64_t smtp_max_errors, smtp_max_refused, smtp_max_transactions; /* a session */
    uint64_t hold_off; /* seconds, for a client whose session crashed; doubles each time */
    /* [web] */
    struct config_list web_listen;
    uint64_t web_max_per_client; /* connections */
    char *web_url;
    uint64_t web_max_expiry; /* seconds */
    /* what one user may send */
    uint64_t send_recipients, send_messages, send_bytes; /* a mail; a day; a day */
    /* [relay] */
    enum config_relay relay_mode;
    char *smarthost, *smarthost_auth, *relay_ca, *link_template;
    struct config_list dkim_selector, dkim_key; /* the i-th belong together */
    uint64_t relay_port;                        /* of mail exchangers */
    uint64_t deliveries, per_destination;       /* processes at once */
    enum config_tls relay_tls;
    enum config_yes private_addresses; /* may exchangers be elsewhere than on the Internet? */
    uint64_t retry_for;                /* seconds */
    /* [resolver] */
    char *resolver_server, *trust_anchor;
    /* [storage] */
    uint64_t map_size; /* bytes */
    enum config_slots slots;
    /* [memory] */
    enum config_lock memory_lock;
    /* [metrics] */
    struct config_list metrics_listen;
    /* [audit] */
    uint64_t checkpoint_events, checkpoint_seconds;
    uint64_t rotate_size;          /* bytes; 0: the operator rotates */
    enum config_agent audit_agent; /* of who asks for a link's page */

    bool named[CONFIG_MAX_KEYS]; /* in the file: by their place in config_keys; not in slices */
};

/* Reads a file. Every finding ("FILE:LINE: what; what to do") goes to errors, one a line, and makes
 * the result SP_ERR_CONFIG; all of them are reported, not the first alone. user_mode relaxes what
 * user mode can make itself (TLS files). The caller frees with config_free. */
enum sp_err config_read(const char *path, bool user_mode, FILE *errors, struct config **out);
/* Says on out which settings the file gives that have no effect, and why; how many. */
size_t config_unused(const struct config *config, bool user_mode, const char *path, FILE *out);
/* A numeric "HOST:PORT", IPv6 in brackets; the caller frees with freeaddrinfo. NULL: it is none. */
struct addrinfo *config_address(const char *text);
/* The port of a "HOST:PORT" whose host may be a name; 0: there is none. */
uint16_t config_port(const char *text);
/* The slice of one role as "section.key=value" lines into buf; SP_ERR_LIMIT if it does not fit. */
enum sp_err config_slice(const struct config *config, unsigned role_bit, char *buf, size_t cap,
                         size_t *len);
enum sp_err config_from_slice(const char *text, size_t len, struct config **out);
void config_free(struct config *config);

#endif
