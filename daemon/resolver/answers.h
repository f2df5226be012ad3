#ifndef SEALPOST_ANSWERS_H
#define SEALPOST_ANSWERS_H
/*
 * What is taken over from a DNS answer (RFC 1035 4.1): names and addresses in a checked form, at
 * most so many, and nothing else. Pure functions; the packet may hold anything.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ANSWERS_MX        50u
#define ANSWERS_ADDRESSES 16u
#define ANSWERS_PER_TYPE                                                                           \
    (ANSWERS_ADDRESSES / 2u) /* IPv6, IPv4: neither may crowd the other out                        \
                              */
#define ANSWERS_NAME 253u    /* RFC 1035 2.3.4, without the last dot */

/* As RD_MX_REPLY and RD_ADDRESS_REPLY say them. */
enum answer_result { ANSWER_FOUND, ANSWER_NO_NAME, ANSWER_NO_DATA, ANSWER_LATER, ANSWER_BOGUS };

enum answer_type { ANSWER_A = 1, ANSWER_MX = 15, ANSWER_AAAA = 28 }; /* RFC 1035, RFC 3596 */

struct answer_mx {
    size_t n; /* lowest preference first; of equals, as they came */
    struct {
        uint16_t preference;
        char host[ANSWERS_NAME + 1]; /* lower case; empty: the null MX (RFC 7505), alone */
    } at[ANSWERS_MX];
};

struct answer_addresses {
    size_t n;
    struct {
        uint8_t len; /* 4 or 16 */
        uint8_t bytes[16];
    } at[ANSWERS_ADDRESSES];
};

/* A host name as mail uses it: labels of 1 to 63 letters, digits, hyphens (not at either end) and
 * underscores, 253 bytes in all, no dot at the end, and not a number at the end, which would be an
 * address (RFC 1123 2.1). name need not end in a NUL. */
bool answers_name_ok(const char *name, size_t len);

/* The packet must be an answer about name and type; aliases in it are followed. ANSWER_LATER also
 * stands for what is malformed. What cannot be used is left out: when MX records are there, and
 * none of use, the result is ANSWER_FOUND with n = 0, for then the domain's own address must not
 * take their place (RFC 5321 5.1). Addresses are added behind those that are there. */
enum answer_result answers_read_mx(const uint8_t *packet, size_t len, const char *name,
                                   struct answer_mx *out);
enum answer_result answers_read_addresses(const uint8_t *packet, size_t len, const char *name,
                                          enum answer_type type, struct answer_addresses *out);

/* What the answers for IPv6 and IPv4 say together. */
enum answer_result answers_join(enum answer_result a, enum answer_result b);

#endif
