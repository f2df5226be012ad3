#ifndef SEALPOST_CERTIFICATE_H
#define SEALPOST_CERTIFICATE_H
/* What is wrong with a certificate that can be served all the same: mail goes on coming in with it,
 * but clients and whoever verifies turn away. */
#include <openssl/types.h>
#include <stddef.h>

#define CERTIFICATE_FAULT  160u /* bytes, NUL included */
#define CERTIFICATE_FAULTS 3u   /* the most that there can be at once */
#define CERTIFICATE_DIGEST 65u  /* hex, NUL included */

/* Its dates, by this machine's clock, and whether it is for hostname: each as words that go on from
 * the certificate's name, with what to do; how many there are. */
size_t certificate_faults(X509 *leaf, const char *hostname,
                          char faults[CERTIFICATE_FAULTS][CERTIFICATE_FAULT]);

/* Says them on stderr, for the first certificate of a PEM chain, which was found to be one
 * (tlspair.h). A process that ends reads it. */
void certificate_warn(const char *path, const char *pem, size_t len, const char *hostname);

/* SHA-256 of the whole certificate; "" if it cannot be had. */
void certificate_digest(const X509 *leaf, char hex[CERTIFICATE_DIGEST]);

#endif
