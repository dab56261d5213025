/* weights_check.h - what the tests of checkpoint files share: opening bytes that lie in memory of
 * exactly their size, so that a sanitizer sees every read past the end. */
#ifndef UT_TESTS_WEIGHTS_CHECK_H
#define UT_TESTS_WEIGHTS_CHECK_H

#include "base/buf.h"
#include "weights/weights.h"

/* Open a copy of data[0..n) as checkpoint "f". On success every element of every tensor is read and
 * the copy is freed by close_bytes. Asserts that a failure has a message and no checkpoint. */
typedef struct opened {
    ut_weights *w; /* NULL: refused */
    uint8_t *copy;
    ut_err err;
} opened;
opened open_bytes(const void *data, size_t n);
void close_bytes(opened *o);

/* The bytes must be refused with this text in the message. */
void expect_refusal(const void *data, size_t n, const char *text);

/* Every prefix must be refused; every bit flip and some whole bytes of [begin, end) must be refused
 * or give a checkpoint that can be read. */
void corrupt_everything(const uint8_t *data, size_t n, size_t begin, size_t end);

/* Open with the n-th allocation failing, for every n until it works; NOMEM each time. */
void fail_every_allocation(const uint8_t *data, size_t n);

#endif
