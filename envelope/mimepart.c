/* The header of a MIME part. It comes from a hostile sender; the cutter believes what is well
 * formed, said once and of a sane size, and leaves the rest of the world's headers alone. */
#include "envelope/mimepart.h"
#include "envelope/mimename.h"

#include <string.h>

static void set_type(struct mimepart *part, const char *type)
{
    part->type_len = strlen(type);
    memcpy(part->type, type, part->type_len);
}

void mimepart_init(struct mimepart *part, bool digest)
{
    /* The arrays are not cleared: an attacker may have a new part every seven bytes. */
    part->doubt = false;
    part->has_type = false;
    part->has_disposition = false;
    part->attachment = false;
    part->boundary_len = 0;
    part->type_name_len = 0;
    part->disposition_name_len = 0;
    set_type(part, digest ? "message/rfc822" : "text/plain"); /* RFC 2045 5.2 */
}

static bool has_prefix(const struct mimepart *part, const char *prefix)
{
    const size_t len = strlen(prefix);

    return part->type_len > len && memcmp(part->type, prefix, len) == 0;
}

/* boundary (RFC 2046 5.1.1): 1 to 70 bchars, no blank at the end. */
static bool good_boundary(const uint8_t *b, size_t len)
{
    if (len == 0 || len > MIMEPART_MAX_BOUNDARY || b[len - 1] == ' ')
        return false;
    for (size_t i = 0; i < len; i++) {
        const uint8_t c = b[i];
        const bool alnum =
            (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!alnum && (c == '\0' || strchr("'()+_,-./:=? ", c) == NULL))
            return false;
    }
    return true;
}

/* Returns false if the parameter is a boundary that cannot be believed: malformed, a second one, or
 * one in RFC 2231's clothes, which not everyone undoes. */
static bool take_boundary(struct mimepart *part, const struct mimeparam *p)
{
    const size_t len = strlen("boundary");

    if (p->name_len < len || !mimeparam_is(p->name, len, "boundary"))
        return true;
    if (p->name_len > len)
        return p->name[len] != '*';
    if (part->boundary_len > 0 || p->loose || !good_boundary(p->value, p->value_len))
        return false;
    memcpy(part->boundary, p->value, p->value_len);
    part->boundary_len = p->value_len;
    return true;
}

/* Content-Type (RFC 2045 5.1). Malformed parameters take away boundary and name alone: a PDF with
 * an unquoted name is still a PDF, while a multipart without a boundary is opaque. */
static void take_type(struct mimepart *part, struct mimeparam_in *in)
{
    struct mimename name = {0};
    struct mimeparam p;
    enum sp_err err = SP_OK;
    bool good = true;

    part->doubt |= part->has_type;
    part->has_type = true;
    if (mimeparam_media_type(in, part->type, sizeof part->type, &part->type_len) != SP_OK) {
        part->doubt = true;
        return;
    }
    while ((err = mimeparam_next(in, &p)) == SP_OK) {
        good = take_boundary(part, &p) && good;
        mimename_add(&name, "name", &p);
    }
    if (!good || err != SP_ERR_NOT_FOUND)
        part->boundary_len = 0;
    if (err == SP_ERR_NOT_FOUND)
        part->type_name_len = mimename_decode(&name, part->type_name, sizeof part->type_name);
}

/* Content-Disposition (RFC 2183 2). */
static void take_disposition(struct mimepart *part, struct mimeparam_in *in)
{
    struct mimename name = {0};
    struct mimeparam p;
    uint8_t *token = NULL;
    size_t len = 0;
    enum sp_err err = SP_OK;

    part->doubt |= part->has_disposition;
    part->has_disposition = true;
    if (mimeparam_token(in, &token, &len) != SP_OK) {
        part->doubt = true;
        return;
    }
    part->attachment = mimeparam_is(token, len, "attachment");
    while ((err = mimeparam_next(in, &p)) == SP_OK)
        mimename_add(&name, "filename", &p);
    if (err == SP_ERR_NOT_FOUND)
        part->disposition_name_len =
            mimename_decode(&name, part->disposition_name, sizeof part->disposition_name);
}

void mimepart_field(struct mimepart *part, uint8_t *field, size_t len, bool whole)
{
    static const struct {
        const char *name;
        void (*take)(struct mimepart *part, struct mimeparam_in *in);
    } fields[] = {{"Content-Type", take_type}, {"Content-Disposition", take_disposition}};
    struct mimeparam_in in;
    size_t name = 0;

    while (name < len && field[name] > ' ' && field[name] < 0x7f && field[name] != ':')
        name++;
    if (name == 0 || name == len || field[name] != ':') {
        part->doubt = true; /* not a field (RFC 5322 2.2); readers differ on what follows one */
        return;
    }
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        if (!mimeparam_is(field, name, fields[i].name))
            continue;
        if (!whole || mimeparam_open(&in, field + name + 1, len - name - 1) != SP_OK)
            part->doubt = true;
        else
            fields[i].take(part, &in);
    }
}

enum mimepart_kind mimepart_kind(const struct mimepart *part)
{
    if (part->doubt)
        return MIMEPART_BODY;
    if (has_prefix(part, "multipart/"))
        return part->boundary_len > 0 ? MIMEPART_MULTIPART : MIMEPART_BODY;
    if (part->attachment)
        return MIMEPART_ATTACHMENT;
    return has_prefix(part, "text/") || has_prefix(part, "message/") ? MIMEPART_BODY
                                                                     : MIMEPART_ATTACHMENT;
}

bool mimepart_is_digest(const struct mimepart *part)
{
    return mimeparam_is((const uint8_t *)part->type, part->type_len, "multipart/digest");
}

const char *mimepart_name(const struct mimepart *part, size_t *len)
{
    const bool disposition = part->disposition_name_len > 0;

    *len = disposition ? part->disposition_name_len : part->type_name_len;
    return disposition ? part->disposition_name : part->type_name;
}
