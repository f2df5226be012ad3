#ifndef SEALPOST_FUZZ_SESSION_SOURCES_H
#define SEALPOST_FUZZ_SESSION_SOURCES_H
/* All files of a session in one, for its harness. Each file's own names stay its own. */
#define is_blank    address_is_blank
#define read_quoted address_read_quoted
#include "daemon/smtp/address.c"
#undef is_blank
#undef read_quoted
#define is_blank command_is_blank
#include "daemon/smtp/command.c"
#undef is_blank
#define hand_on content_hand_on
#define step    content_step
#include "daemon/smtp/content.c"
#undef hand_on
#undef step
#include "daemon/domain.c"
#define step      header_step
#define lower     header_lower
#define is_blank  header_is_blank
#define received  header_received_word
#define release   header_release
#define end_field header_end_field
#include "daemon/smtp/header.c"
#undef step
#undef lower
#undef is_blank
#undef received
#undef release
#undef end_field
#include "daemon/smtp/lines.c"
#include "daemon/smtp/session.c"
#include "daemon/date.c"
#define clean trace_clean
#include "daemon/smtp/trace.c"
#undef clean
#define end transfer_end
#include "daemon/smtp/transfer.c"
#undef end
#define answer chunk_answer
#define refuse chunk_refuse
#include "daemon/smtp/chunk.c"
#undef answer
#undef refuse
#include "daemon/smtp/paths.c"
#define answer upstream_answer
#define put    upstream_put
#include "daemon/smtp/upstream.c"
#undef answer
#undef put
#define verbs command_table
#include "daemon/smtp/commands.c"
#undef verbs
#include "envelope/cake.h"
#include "envelope/cutter.c"
#include "envelope/error.c"
#include "envelope/mimename.c"
#include "envelope/mimeparam.c"
#include "envelope/mimepart.c"
#include "envelope/utf8.c"
#include "envelope/wire.c"

#endif
