#ifndef SEALPOST_STEPS_H
#define SEALPOST_STEPS_H
/*
 * The layers of a cage, one function each, so that tests can prove every layer by itself, without
 * those above it. Private to sandbox/ and tests/unit/test_sandbox.c. Each returns SP_OK or an error
 * with errno set, and has verified what it did where the system lets us ask back.
 */
#include "sandbox/policy.h"

enum sp_err step_descriptors(const struct policy *row, const struct cage *cage);
enum sp_err step_process_namespace(const struct policy *row, const struct cage *cage);
enum sp_err step_namespaces(const struct policy *row, const struct cage *cage);
enum sp_err step_root(const struct policy *row, const struct cage *cage);
enum sp_err step_limits(const struct policy *row, const struct cage *cage);
enum sp_err step_identity(const struct policy *row, const struct cage *cage);
enum sp_err step_capabilities(const struct policy *row, const struct cage *cage);
enum sp_err step_identity_final(const struct policy *row, const struct cage *cage);
enum sp_err step_parent(const struct policy *row, const struct cage *cage);
enum sp_err step_no_new_privs(const struct policy *row, const struct cage *cage);
enum sp_err step_dumpable(const struct policy *row, const struct cage *cage);
enum sp_err step_mdwe(const struct policy *row, const struct cage *cage);
enum sp_err step_landlock(const struct policy *row, const struct cage *cage);
enum sp_err step_prepare(const struct policy *row, const struct cage *cage);
enum sp_err step_filter(const struct policy *row, const struct cage *cage);

/* In the place of the steps identity, capabilities and identity_final, where a service manager has
 * changed the uid: it is nobody else's, the capabilities go, and there is no way back. */
enum sp_err step_given_identity(const struct policy *row, const struct cage *cage);

/* The names of the layers in the order in which they go on; NULL past the end. */
const char *step_name(size_t i);

/* The ABI of this kernel's Landlock; negative: there is none, errno says why. */
int landlock_abi(void);
/* That of the rules this process is under; 0: none were put on. */
int landlock_in_force(void);
/* Whether this process has MDWE. */
bool mdwe_on(void);

/* The same for the supervisor, whose row has no cage. */
enum sp_err caps_limit(uint64_t keep, bool lock_securebits);
/* Without CAP_SETPCAP: every set is emptied but the bounding set, out of which nothing can come
 * under no_new_privs. */
enum sp_err caps_drop(void);

#endif
