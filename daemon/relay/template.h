#ifndef SEALPOST_RELAY_TEMPLATE_H
#define SEALPOST_RELAY_TEMPLATE_H
/*
 * The words of a link's notification: UTF-8 text, then, behind a line "---html---", HTML. In both,
 * {name} stands for a value; a line that names {subject} is left out when there is none. The
 * operator may give another one ([relay] link_template); the built-in one is below.
 */
#include "envelope/error.h"

#include <stdbool.h>
#include <stddef.h>

#define TEMPLATE_MAX 8192u /* bytes of a file */

enum template_value {
    TEMPLATE_SENDER,
    TEMPLATE_RECIPIENT,
    TEMPLATE_SUBJECT,
    TEMPLATE_LINK,
    TEMPLATE_EXPIRES,
    TEMPLATE_HOST,
    TEMPLATE_URL,
    TEMPLATE_VALUES
};

extern const char template_built_in[];

/* NULL, or what is wrong with it: no {link} in the text or the HTML, an unknown {name}, a NUL or
 * another control, no UTF-8. */
const char *template_fault(const char *text, size_t len);
/* Fills in one part. Line ends become CRLF; in HTML the values are escaped. *len: bytes written, no
 * NUL. SP_ERR_LIMIT: more than cap. */
enum sp_err template_render(const char *text, size_t text_len, bool html,
                            const char *const value[TEMPLATE_VALUES], char *out, size_t cap,
                            size_t *len);

#endif
