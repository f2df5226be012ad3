#ifndef SEALPOST_SMTP_SENDER_H
#define SEALPOST_SMTP_SENDER_H
/*
 * Whether mail from a domain can be answered at all: one that publishes a null MX (RFC 7505) takes
 * no mail, so that nobody there sends any that wants an answer (section 4.2). A hint against
 * forgers and nothing more: whenever nobody can tell, the sender is taken.
 */
#include "daemon/domain.h"

#include <stdbool.h>

struct sender {
    int channel; /* to the resolver; -1: none, or nothing more is asked of it */
    unsigned asked;
    bool null;                   /* what was said of this domain: */
    char domain[DOMAIN_MAX + 1]; /* "": nothing was asked yet */
};

/* domain: A-labels, as far as it has any. Asks once for each sender in turn, and waits a few
 * seconds at most. */
bool sender_has_null_mx(struct sender *s, const char *domain);

#endif
