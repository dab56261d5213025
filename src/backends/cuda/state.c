/* state.c - states on the device. What a reset clears lies together slot by slot, so that a reset
 * is one call; caches lie behind it. Every state has a stream of its own: runs of one state follow
 * one another, those of different states may run side by side.
 *
 * Rings. A kernel that writes a row of a ring also writes it to the host's memory, then a stamp:
 * the number of resets of the slot and the frame. The host reads rows by looking for their stamp.
 */
#include "backends/cuda/exec.h"
#include "base/alloc.h"
#include "base/half.h"
#include "base/os.h"
#include <stdatomic.h>
#include <string.h>

#define ALIGN      256u
#define SMALL      16    /* 32-bit words that are written as constants */
#define QUERY_MASK 0x3ff /* how often a waiting loop asks whether the device is well */

ut_dtype cu_state_dtype(const cu_backend *b, const ut_state_def *d)
{
    const bool cache = d->keep && d->dtype == UT_F32;
    const ut_precision p = b->precision;
    const bool narrow = p == UT_PRECISION_BF16 || p == UT_PRECISION_INT8 || p == UT_PRECISION_INT4;
    return cache && narrow ? UT_BF16 : d->dtype;
}

static ut_dtype stored(const cu_state *s, const ut_state_def *d)
{
    return cu_state_dtype((const cu_backend *)s->head.backend, d);
}

size_t cu_rows_bytes(const cu_state *s, const ut_state_def *d, int32_t n_rows)
{
    return (size_t)n_rows * (size_t)d->cols * ut_dtype_size(stored(s, d));
}

static bool is_ring(const ut_state_def *d)
{
    return d->dtype == UT_I32 && d->rows > 1;
}

/* ---- Layout ---------------------------------------------------------------------------------- */

static bool add_aligned(size_t *total, size_t bytes, size_t align)
{
    return ut_size_add(bytes, align - 1, &bytes) &&
           ut_size_add(*total, bytes / align * align, total);
}

/* Offsets in data[] and strides in slot[]; sizes of the parts. */
static bool lay_out(cu_state *s, const ut_state_set *set)
{
    const size_t slots = (size_t)s->head.n_slots;
    size_t reset = 0, total;
    for (int i = 0; i < set->n; i++) {
        const ut_state_def *d = &set->def[i];
        size_t bytes;
        if (!ut_size_mul((size_t)d->rows, (size_t)d->cols, &bytes) ||
            !ut_size_mul(bytes, 4, &bytes))
            return false;
        if (d->keep)
            continue;
        s->data[i] = reset;
        if (!add_aligned(&reset, cu_rows_bytes(s, d, d->rows), 64))
            return false;
    }
    s->reset_bytes = (reset + ALIGN - 1) / ALIGN * ALIGN;
    if (!ut_size_mul(s->reset_bytes, slots, &total))
        return false;
    for (int i = 0; i < set->n; i++) {
        const ut_state_def *d = &set->def[i];
        s->slot[i] = s->reset_bytes;
        if (!d->keep)
            continue;
        size_t bytes;
        s->data[i] = total;
        s->slot[i] = (cu_rows_bytes(s, d, d->rows) + ALIGN - 1) / ALIGN * ALIGN;
        if (!ut_size_mul(s->slot[i], slots, &bytes) || !ut_size_add(total, bytes, &total))
            return false;
    }
    s->epoch = total;
    return ut_size_add(total, slots * sizeof(uint32_t), &s->bytes);
}

static utter_status new_mirror(cu_state *s, const ut_state_set *set, ut_err *err)
{
    const size_t slots = (size_t)s->head.n_slots;
    size_t total = 0;
    for (int i = 0; i < set->n; i++)
        if (is_ring(&set->def[i])) {
            s->ring[i] = total;
            total += (slots * cu_rows_bytes(s, &set->def[i], set->def[i].rows) + 63) / 64 * 64;
            s->stamp[i] = total;
            total += (slots * (size_t)set->def[i].rows * sizeof(uint64_t) + 63) / 64 * 64;
        }
    return cu_alloc_host((cu_backend *)s->head.backend, total, (void **)&s->mirror,
                         &s->mirror_device, err);
}

/* ---- Opening --------------------------------------------------------------------------------- */

void cu_state_free(ut_state *state)
{
    if (!state)
        return;
    cu_state *s = (cu_state *)state;
    cu_backend *b = (cu_backend *)state->backend;
    cu_enter(b);
    if (s->stream) {
        cu_note(b, cu_sync(b, s->stream), "closing a state");
        b->d.stream_free(s->stream);
    }
    cu_free(b, s->memory);
    cu_free_host(b, s->mirror);
    ut_free(s->epochs);
    ut_free(s);
}

utter_status cu_state_new(ut_backend *backend, const ut_state_set *set, int n_slots, ut_state **out,
                          ut_err *err)
{
    cu_backend *b = (cu_backend *)backend;
    *out = NULL;
    if (n_slots < 1)
        return ut_fail(err, UTTER_ERR_ARG, "%d slots, expected 1 or more", n_slots);
    cu_enter(b);
    cu_state *s = ut_calloc(1, sizeof *s);
    if (!s)
        return ut_fail(err, UTTER_ERR_NOMEM, "state: no memory");
    s->head = (ut_state){backend, set, n_slots};
    s->id = ++b->n_states;
    s->epochs = ut_calloc((size_t)n_slots, sizeof *s->epochs);
    utter_status st = UTTER_OK;
    cu_result r;
    if (!s->epochs)
        st = ut_fail(err, UTTER_ERR_NOMEM, "state: no memory");
    else if (!lay_out(s, set))
        st = ut_fail(err, UTTER_ERR_LIMIT, "state: its size does not fit into memory");
    if (st == UTTER_OK)
        st = cu_alloc(b, s->bytes, &s->memory, err, "the state of %d slot%s", n_slots,
                      n_slots == 1 ? "" : "s");
    if (st == UTTER_OK)
        st = new_mirror(s, set, err);
    if (st != UTTER_OK)
        goto done;
    for (int i = 0; i < set->n; i++)
        s->data[i] += s->memory;
    s->reset = s->memory;
    s->epoch += s->memory;
    r = b->d.stream_new(&s->stream, CU_STREAM_NON_BLOCKING, set->urgent ? CU_STREAM_URGENT : 0);
    if (r == CU_OK)
        r = b->d.set8(s->memory, 0, s->bytes, s->stream);
    if (r != CU_OK) {
        st = cu_fail(b, r, "a state", err);
        goto done;
    }
    *out = &s->head;
    s = NULL; /* handed over */
done:
    if (s)
        cu_state_free(&s->head);
    return st;
}

/* ---- Contents -------------------------------------------------------------------------------- */

void cu_state_reset(ut_state *state, int slot)
{
    cu_state *s = (cu_state *)state;
    cu_backend *b = (cu_backend *)state->backend;
    cu_enter(b);
    if (s->reset_bytes)
        cu_note(b,
                b->d.set8(s->reset + (size_t)slot * s->reset_bytes, 0, s->reset_bytes, s->stream),
                "resetting a state");
    s->epochs[slot]++;
    cu_note(b, b->d.set32(s->epoch + 4 * (size_t)slot, s->epochs[slot], 1, s->stream),
            "resetting a state");
}

cu_ptr cu_state_rows(const cu_state *s, int index, int slot, int32_t row)
{
    return s->data[index] + (size_t)slot * s->slot[index] +
           cu_rows_bytes(s, &s->head.set->def[index], row);
}

/* f32 rows as the bf16 that the device keeps: a copy for the caller to free. */
static uint16_t *narrowed(const float *src, size_t n)
{
    uint16_t *h = ut_malloc(n * sizeof *h);
    for (size_t i = 0; h && i < n; i++)
        h[i] = ut_f32_to_bf16(src[i]);
    return h;
}

/* A few words go to the device inside the call itself, so that nothing waits. */
void cu_state_write(ut_state *state, int index, int slot, int32_t row, int32_t n_rows,
                    const void *src)
{
    cu_state *s = (cu_state *)state;
    cu_backend *b = (cu_backend *)state->backend;
    const ut_state_def *d = &state->set->def[index];
    const cu_ptr dst = cu_state_rows(s, index, slot, row);
    const size_t bytes = cu_rows_bytes(s, d, n_rows);
    uint16_t *half = NULL;
    cu_enter(b);
    if (stored(s, d) != d->dtype) {
        src = half = narrowed(src, bytes / sizeof *half);
        if (!half) {
            cu_note(b, CU_OUT_OF_MEMORY, "writing a state");
            return;
        }
    }
    if (bytes % 4 || bytes > 4 * SMALL) {
        cu_result r = b->d.to_device(dst, src, bytes, s->stream);
        if (r == CU_OK)
            r = cu_sync(b, s->stream); /* src is the caller's again */
        cu_note(b, r, "writing a state");
    } else {
        for (size_t i = 0; i < bytes / 4; i++) {
            uint32_t word;
            memcpy(&word, (const uint8_t *)src + 4 * i, sizeof word);
            cu_note(b, b->d.set32(dst + 4 * i, word, 1, s->stream), "writing a state");
        }
    }
    ut_free(half);
}

void cu_state_read(ut_state *state, int index, int slot, int32_t row, int32_t n_rows, void *dst)
{
    cu_state *s = (cu_state *)state;
    cu_backend *b = (cu_backend *)state->backend;
    const ut_state_def *d = &state->set->def[index];
    const size_t bytes = cu_rows_bytes(s, d, n_rows), n = (size_t)n_rows * (size_t)d->cols;
    cu_enter(b);
    memset(dst, 0, n * ut_dtype_size(d->dtype));
    cu_result r = b->d.to_host(dst, cu_state_rows(s, index, slot, row), bytes, s->stream);
    if (r == CU_OK)
        r = cu_sync(b, s->stream);
    cu_note(b, r, "reading a state");
    if (stored(s, d) != d->dtype) /* widened in place, from the last element on */
        for (size_t i = n; i-- > 0;) {
            uint16_t h;
            memcpy(&h, (const uint8_t *)dst + 2 * i, sizeof h);
            ((float *)dst)[i] = ut_bf16_to_f32(h);
        }
}

/* ---- Rings ----------------------------------------------------------------------------------- */

/* Where the stamp of a frame is, and what it is once the frame is there. */
static _Atomic uint64_t *find_stamp(const cu_state *s, int index, int slot, int64_t frame,
                                    uint64_t *wanted)
{
    const int32_t rows = s->head.set->def[index].rows;
    _Atomic uint64_t *stamps = (_Atomic uint64_t *)(void *)(s->mirror + s->stamp[index]);
    *wanted = (uint64_t)s->epochs[slot] << 32 | (uint32_t)(frame + 1);
    return stamps + (size_t)slot * (size_t)rows + (size_t)(frame % rows);
}

bool cu_ring_ready(ut_state *state, int index, int slot, int64_t frame)
{
    uint64_t wanted;
    const _Atomic uint64_t *stamp =
        find_stamp((const cu_state *)state, index, slot, frame, &wanted);
    return atomic_load_explicit(stamp, memory_order_acquire) == wanted;
}

utter_status cu_ring_wait(ut_state *state, int index, int slot, int64_t frame, int32_t *dst,
                          ut_err *err)
{
    cu_state *s = (cu_state *)state;
    cu_backend *b = (cu_backend *)state->backend;
    const ut_state_def *d = &state->set->def[index];
    if (frame < 0 || frame >= INT32_MAX || !is_ring(d))
        return ut_fail(err, UTTER_ERR_ARG, "frame %lld of ring %s", (long long)frame, d->name);
    cu_enter(b);
    uint64_t wanted;
    const _Atomic uint64_t *stamp = find_stamp(s, index, slot, frame, &wanted);
    const double since = ut_time_now();
    for (unsigned turn = 0;; turn++) {
        const uint64_t found = atomic_load_explicit(stamp, memory_order_acquire);
        if (found == wanted)
            break;
        if (found >> 32 == wanted >> 32 && found > wanted)
            return ut_fail(err, UTTER_ERR_INTERNAL, "cuda: frame %lld of ring %s was overwritten",
                           (long long)frame, d->name);
        const cu_result r = turn & QUERY_MASK ? CU_NOT_READY : b->d.stream_query(s->stream);
        if (r != CU_OK && r != CU_NOT_READY)
            return cu_fail(b, r, "waiting for a frame", err);
        if (r == CU_OK && atomic_load_explicit(stamp, memory_order_acquire) != wanted)
            return ut_fail(err, UTTER_ERR_INTERNAL, "cuda: frame %lld of ring %s was never run",
                           (long long)frame, d->name);
        const utter_status st = cu_wait_more(b, since, "waiting for a frame", err);
        if (st != UTTER_OK)
            return st;
    }
    const size_t row_bytes = cu_rows_bytes(s, d, 1);
    const size_t at = (size_t)slot * (size_t)d->rows + (size_t)(frame % d->rows);
    memcpy(dst, s->mirror + s->ring[index] + at * row_bytes, row_bytes);
    return UTTER_OK;
}
