/* libs: */
/* From fields. What is taken holds one address that stands in the field as it is, followed by its
 * end or '>'; taken again by itself it is the same. */
#include "daemon/relay/from.c"
#include "envelope/utf8.c"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void insist(bool good)
{
    if (!good)
        abort();
}

/* Outside quotes and comments: how many times ch stands there. */
static unsigned count(const char *in, size_t len, char ch)
{
    unsigned n = 0, depth = 0;
    bool quote = false;
    for (size_t i = 0; i < len; i++) {
        if (in[i] == '\\' && (quote || depth > 0))
            i++;
        else if (in[i] == '"' && depth == 0)
            quote = !quote;
        else if (in[i] == '(' && !quote)
            depth++;
        else if (in[i] == ')' && !quote && depth > 0)
            depth--;
        else if (in[i] == ch && !quote && depth == 0)
            n++;
    }
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char out[FROM_MAX], again[FROM_MAX];
    char *copy = malloc(size > 0 ? size : 1);
    memcpy(copy, data, size);
    enum sp_err err = from_parse(copy, size, out);
    if (err == SP_OK) {
        const char *at = strrchr(out, '@');
        insist(at != NULL && at > out && at - out <= 64 && strlen(at + 1) <= 255);
        insist(count(copy, size, '@') == 1 && count(copy, size, ',') == 0 &&
               count(copy, size, ';') == 0 && count(copy, size, ':') == 0);
        insist(count(copy, size, '<') == count(copy, size, '>') && count(copy, size, '<') <= 1);
        /* Without its quotes a local part may read like something else. */
        bool plain = true;
        for (const char *c = out; c < at; c++)
            plain = plain && (is_atext(*c) || *c == '.');
        if (plain && from_parse(out, strlen(out), again) == SP_OK)
            insist(strcmp(out, again) == 0);
    } else {
        insist(err == SP_ERR_FORMAT && out[0] == '\0');
    }
    free(copy);
    return 0;
}
