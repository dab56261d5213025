/* parity.h - what the parity program's parts share: the recorded case, the report, and running a
 * model's plans on a backend. A family's part walks over the recorded tensors by name, recomputes
 * each and reports it; recorded inputs (texts, noise, parameters) are marked as such, so that in
 * the end nothing recorded can go unchecked. */
#ifndef UT_TOOLS_PARITY_H
#define UT_TOOLS_PARITY_H

#include "backends/backend.h"
#include "models/model.h"
#include "weights/weights.h"

typedef struct parity {
    const char *dir;
    ut_weights *golden; /* golden.safetensors */
    bool *seen;         /* per golden tensor: reported, or an input */
    const ut_backend_ops *ops;
    ut_backend *backend;
    bool exact;                         /* f32: tolerances; else: */
    double least_cosine, least_of_step; /* of a tensor, of the logits of each step */
    double most_changed;                /* share of decisions that may differ */
    int n_passed, n_failed;
    ut_err err;
} parity;

/* ---- The case (case.c) ---------------------------------------------------------------------- */

/* A recorded tensor, printf-style name, or NULL; it counts as seen. */
const ut_view *golden(parity *p, const char *fmt, ...) UT_PRINTF(2, 3);
/* Its elements as i32 (from i32, u8, i8) or f32; newly allocated, exits on no memory. */
int32_t *golden_i32(const ut_view *v);
float *golden_f32(const ut_view *v);
/* a [rows, cols] -> [cols, rows], newly allocated. */
float *transposed_f32(const float *a, int64_t rows, int64_t cols);
int32_t *transposed_i32(const int32_t *a, int64_t rows, int64_t cols);
/* calloc that ends the program when there is no memory. */
void *need_memory(size_t n, size_t size);

/* ---- The report ----------------------------------------------------------------------------- */

/* Compare n values with v (as many) and print a line. tolerance: largest |difference| (in f32
 * mode). Prints FAIL when got is NULL or n differs. */
void report_f32(parity *p, const ut_view *v, const float *got, int64_t n, double tolerance);
/* Equal element for element; n_allowed positions that differ are forgiven (near ties). */
void report_i32(parity *p, const ut_view *v, const int32_t *got, int64_t n, int64_t n_allowed);
/* A check without a tensor of its own. */
void report_bool(parity *p, const char *name, bool ok);
/* A recorded tensor that could not be recomputed. */
void report_missing(parity *p, const char *name, const char *why);

/* ---- Running (run.c) ------------------------------------------------------------------------ */

/* The newest values of output or tap `name`, NULL when the plan has none. rows: at n_t steps. */
const float *run_output(parity *p, ut_exec *e, const char *name, int32_t n_t, int64_t *rows,
                        int64_t *cols);
/* Copy to an input of the coming run. */
void run_input(parity *p, ut_exec *e, const char *name, int32_t n_t, const void *data,
               size_t bytes);

/* ---- Families ------------------------------------------------------------------------------- */

utter_status parity_s1_mini(parity *p);
void parity_s1_mini_codec(parity *p, ut_model *m);
/* The case directory holds three checkpoints and cases.json. */
utter_status parity_qwen3_tts(parity *p);

#endif
