/* zip.h - the files inside a ZIP archive in memory, stored (not compressed) ones only, which is
 * what torch writes. Nothing is copied: entries point into the archive. */
#ifndef UT_WEIGHTS_ZIP_H
#define UT_WEIGHTS_ZIP_H

#include "base/err.h"
#include <stddef.h>
#include <stdint.h>

typedef struct ut_zip_entry {
    const char *name; /* [n_name], not 0-terminated */
    size_t n_name;
    const uint8_t *data;
    size_t size;
} ut_zip_entry;

typedef struct ut_zip {
    ut_zip_entry *entry; /* [n] by name; directories left out */
    size_t n;
} ut_zip;

/* Read the central directory; `file` is for messages. Zip64 and data descriptors are fine;
 * compressed or encrypted entries, several disks, names that occur twice and anything that points
 * outside the archive are ERR_FORMAT. data outlives the ut_zip. */
utter_status ut_zip_open(ut_zip *z, const char *file, const uint8_t *data, size_t size,
                         ut_err *err);
void ut_zip_close(ut_zip *z);
const ut_zip_entry *ut_zip_find(const ut_zip *z, const char *name, size_t n_name); /* or NULL */

#endif
