/* params.h - the versioned structs of utter.h: initialise, read from and write to structs whose
 * size the caller's header decided. Every such struct begins with its uint32_t size. */
#ifndef UT_ENGINE_PARAMS_H
#define UT_ENGINE_PARAMS_H

#include "base/err.h"
#include <stddef.h>
#include <stdint.h>

/* "0.1.0", of the header that this library was built with. */
#define UT_STRING_OF(x) #x
#define UT_STRING(x)    UT_STRING_OF(x)
#define UT_VERSION                                                                                 \
    UT_STRING(UTTER_VERSION_MAJOR)                                                                 \
    "." UT_STRING(UTTER_VERSION_MINOR) "." UT_STRING(UTTER_VERSION_PATCH)

/* Size of a struct up to and including a field: with the last field of the first version, the
 * smallest size that is accepted. */
#define UT_SIZE_UPTO(type, field) (offsetof(type, field) + sizeof(((type *)0)->field))

/* Fill size bytes at p: defaults [known bytes] as far as they fit, zeros after them, and the size
 * in front. Does nothing when p is NULL or size too small for itself. */
void ut_struct_init(void *p, uint32_t size, const void *defaults, size_t known);

/* dst [known bytes] = the caller's struct; what it is too old to have stays as dst has it. ERR_ARG,
 * naming the struct, when src is smaller than oldest or has non-zero bytes past known. */
utter_status ut_struct_read(void *dst, size_t known, const void *src, size_t oldest,
                            const char *name, ut_err *err);

/* The caller's initialised struct = src [known bytes] as far as it has room, zeros after that. */
utter_status ut_struct_write(void *dst, size_t oldest, const void *src, size_t known,
                             const char *name, ut_err *err);

#endif
