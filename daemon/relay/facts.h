#ifndef SEALPOST_RELAY_FACTS_H
#define SEALPOST_RELAY_FACTS_H
/* What a delivery must know of a message's header besides what dkim.h tells: how often it was
 * received, and its name. Any cut of the input gives the same. A plain struct, no allocation; it
 * holds words of the mail: locked memory. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FACTS_ID       250u /* bytes of a Message-ID that is taken up; a longer one is as none */
#define FACTS_RECEIVED 100u /* so many Received fields are a loop (RFC 5321 6.3) */

struct facts {
    unsigned received;
    char message_id[FACTS_ID + 1]; /* "<left@right>", printable ASCII; empty: none, or no such */

    /* inner state */
    bool over, in_id, id_done;
    char name[16]; /* beginning of the line, lower case */
    size_t at;     /* bytes of the line so far */
    size_t id_len;
};

void facts_init(struct facts *f);
void facts_push(struct facts *f, const uint8_t *bytes, size_t len);
/* The message is over: a Message-ID that was not finished is as none. */
void facts_end(struct facts *f);

#endif
