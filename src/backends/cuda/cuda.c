/* cuda.c - the CUDA backend's table. */
#include "backends/cuda/cuda.h"
#include "backends/cuda/exec.h"
#include <stdio.h>

/* How frames of one slot run, and what was measured. */
static void describe_frames(const cu_backend *b, char *text, size_t size)
{
    const double whole = (double)b->frame_ms[0], phases = (double)b->frame_ms[1];
    *text = '\0';
    if (b->chosen == CU_FRAMES_STEPS)
        snprintf(text, size, ", frames as a graph of steps");
    else if (b->chosen == CU_FRAMES_WHOLE)
        snprintf(text, size, ", frames as one kernel (%.2f ms, in phases %.2f)", whole, phases);
    else if (b->chosen == CU_FRAMES_PHASES)
        snprintf(text, size, ", frames as a graph of phases (%.2f ms, as one kernel %.2f)", phases,
                 whole);
}

static void describe(const ut_backend *backend, char *text, size_t size)
{
    const cu_backend *b = (const cu_backend *)backend;
    char frames[96];
    describe_frames(b, frames, sizeof frames);
    snprintf(text, size,
             "cuda: device %d, %s, %.1f GB, compute capability %d.%d, driver for CUDA %d.%d%s%s",
             b->ordinal, b->name, (double)b->memory / 1e9, b->cc / 10, b->cc % 10,
             b->driver_version / 1000, b->driver_version % 1000 / 10,
             b->mma ? ", tensor cores" : "", frames);
}

static size_t weight_bytes(const ut_backend *backend)
{
    return ((const cu_backend *)backend)->weights.bytes;
}

static bool memory(const ut_backend *backend, size_t *free_bytes, size_t *total)
{
    cu_backend *b = (cu_backend *)(uintptr_t)backend;
    cu_enter(b);
    return b->d.mem_info(free_bytes, total) == CU_OK;
}

const ut_backend_ops ut_backend_cuda = {
    .name = "cuda",
    .precision = UT_PRECISION_BF16,
    .probe = cu_probe,
    .count = cu_count,
    .open = cu_open,
    .close = cu_close,
    .describe = describe,
    .weight_bytes = weight_bytes,
    .memory = memory,
    .compile = cu_compile,
    .exec_free = cu_exec_free,
    .exec_bytes = cu_exec_bytes,
    .state_new = cu_state_new,
    .state_free = cu_state_free,
    .state_reset = cu_state_reset,
    .state_write = cu_state_write,
    .state_read = cu_state_read,
    .save = cu_save,
    .load = cu_load,
    .saved_free = cu_saved_free,
    .input = cu_input,
    .run = cu_run_plan,
    .done = cu_done,
    .output = cu_output,
    .ring_wait = cu_ring_wait,
    .ring_ready = cu_ring_ready,
};
