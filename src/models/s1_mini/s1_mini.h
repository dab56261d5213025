/* s1_mini.h - the S1-mini family: OpenAudio / Fish-Speech S1-mini checkpoints and small relatives
 * of the same architecture. */
#ifndef UT_MODELS_S1_MINI_S1_MINI_H
#define UT_MODELS_S1_MINI_S1_MINI_H

#include "models/model.h"

extern const ut_model_ops ut_s1_mini_ops;

/* Ids of special tokens and of a text, for tools that compare with the reference implementation:
 * with specials, names of special tokens in the text become their token. m is of this family. */
utter_status ut_s1_mini_encode(const ut_model *m, const char *text, size_t n, bool specials,
                               ut_buf *ids, ut_err *err);
int32_t ut_s1_mini_special(const ut_model *m, const char *name);

#endif
