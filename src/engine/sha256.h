/* sha256.h - SHA-256 (FIPS 180-4), to recognise sounds and codecs by their content. */
#ifndef UT_ENGINE_SHA256_H
#define UT_ENGINE_SHA256_H

#include <stddef.h>
#include <stdint.h>

typedef struct ut_sha256 {
    uint32_t h[8];
    uint64_t n;        /* bytes so far */
    uint8_t block[64]; /* the last n % 64 of them */
} ut_sha256;

void ut_sha256_init(ut_sha256 *s);
void ut_sha256_update(ut_sha256 *s, const void *data, size_t n);
/* The first n_digits (at most 64) hexadecimal digits of the digest, 0-terminated. */
void ut_sha256_hex(ut_sha256 *s, char *out, size_t n_digits);

#endif
