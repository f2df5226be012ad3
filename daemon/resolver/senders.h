#ifndef SEALPOST_SENDERS_H
#define SEALPOST_SENDERS_H
/*
 * Sessions' channels ([smtp] check_sender): each may ask whether a domain has a null MX, one
 * question at a time and SENDER_QUESTIONS in all, and hears yes or no. Sessions face anybody, so
 * that their questions have places of their own (QUESTIONS_OF_SESSIONS): deliveries always find
 * some left.
 */
#include "daemon/resolver/resolver.h"

/* The parent of the sessions is at the other end of this socket. */
enum sp_err senders_init(struct role *role, int sock);
/* A session was told that this domain has a null MX, and refuses it. */
void senders_refused(const struct asker *a, const char *domain);
/* Pairs for status. */
void senders_status(struct wire_out *pairs);

#endif
