/* prefix.h - what prefill makes of the beginnings of prompts (role, instruction, language, speaker,
 * reference), and what the codec makes of a reference in context, kept for the next generation that
 * begins alike. The states stay in the memory of the backend's device; see ut_backend_ops.save.
 *
 * Entries are found by the hash of their content and compared in full. All of them together take at
 * most a number of bytes; the least recently used go first. Whatever goes wrong here, a lack of
 * memory first of all, means that nothing is kept. A row of a plan's result does not depend on how
 * many rows there are, so no sample depends on what was kept.
 *
 * A cache belongs to its engine and is used by the thread that uses the engine. */
#ifndef UT_ENGINE_PREFIX_H
#define UT_ENGINE_PREFIX_H

#include "backends/backend.h"
#include "models/model.h"

typedef struct ut_prefix_entry ut_prefix_entry;

typedef struct ut_prefix_cache {
    size_t limit; /* bytes; 0: off */
    size_t bytes; /* of all entries: states, contents and the entries themselves; <= limit */
    int n;
    ut_prefix_entry *newest; /* by use */
} ut_prefix_cache;

void ut_prefix_free(ut_prefix_cache *c); /* before the backend is closed; an empty cache remains */

/* The prompt's beginning into a slot that was reset: how many of its columns need no prefill. */
int32_t ut_prefix_load(ut_prefix_cache *c, const ut_ar *ar, const ut_prompt *prompt, ut_state *s,
                       int slot);
/* After prefill. */
void ut_prefix_save(ut_prefix_cache *c, const ut_ar *ar, const ut_prompt *prompt, ut_state *s,
                    int slot);

/* All states of the codec after these codes [n], the same way; false: not kept. */
bool ut_prefix_load_codec(ut_prefix_cache *c, const int32_t *codes, size_t n, ut_state *s,
                          int slot);
void ut_prefix_save_codec(ut_prefix_cache *c, const int32_t *codes, size_t n, ut_state *s,
                          int slot);

#endif
