/* frame.h - a decoder's frame as phases of one kernel: which operations a phase does
 * (frame_fuse.c), and the tables that the kernel walks (frame.c). */
#ifndef UT_BACKENDS_CUDA_FRAME_H
#define UT_BACKENDS_CUDA_FRAME_H

#include "backends/cuda/exec.h"
#include "backends/cuda/frame_args.h"

/* The operations of a phase, by number; -1: none. */
typedef struct cu_fused {
    cu_phase_kind kind;
    int32_t norm, linear, swiglu; /* of a linear phase */
    int32_t qkv, attention;
    int32_t first, count; /* in cu_frame.slot_ops */
    bool barrier;         /* before it: what it reads is not mail */
    bool mail_only;       /* what it makes, or looks up, need not be anywhere else */
    bool brief;           /* attention that frame_brief.cuh does, where frames are bf16 */
    bool added;           /* operations before it have written to its caches */
} cu_fused;

struct cu_frame {
    int32_t blocks; /* of the grid, that share products and attention */
    cu_fused *phases;
    int32_t n_phases;
    int32_t *slot_ops; /* operations */
    bool *apart;       /* [n_slot_ops] as in cu_slot_op */
    int32_t n_slot_ops;
    int32_t sums, x, gains;         /* as in cu_frame_args */
    int32_t ring_whole, ring_phase; /* bytes fetched ahead, of the whole frame and of a phase */
    int32_t mail_places;            /* each of mail_bytes */
    bool bf16;                      /* frame_bf16.cu walks it: rows of matrices are fetched ahead */
    int32_t brief;                  /* dimensions of the heads of brief attention, or 0 */
    int32_t row_bytes;              /* of a matrix, at most */
    int32_t piece_bytes;            /* of a cache's rows that are attended to together, at most */
    int32_t n_spans;                /* phases of attention that are not brief */
    int64_t part_slot;              /* mail of a slot's parts of attention */
    size_t part_bytes;
    size_t *mail; /* [n_tensors] where in the mail a tensor is, or SIZE_MAX */
    size_t mail_bytes;
    cu_ptr memory; /* barrier and frame, mail, parts of attention */
    size_t bytes;
};

/* Can rows of w come ahead, for products on tensor cores? */
bool cu_frame_fetches(const cu_exec *e, const cu_weight *w);

/* Does op concern every slot by itself (cu_slot_op)? frame_fuse.c */
bool cu_is_slot_op(const ut_op *op);

/* What a plan's operations from e->tail on are as phases; *out is NULL where they cannot be.
 * frame_fuse.c */
utter_status cu_frame_fuse(const cu_exec *e, cu_frame **out, ut_err *err);

#endif
