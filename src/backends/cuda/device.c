/* device.c - opening a device: driver, context, kernels; its memory; waiting for it. */
#include "backends/cuda/cuda.h"
#include "backends/cuda/exec.h"
#include "base/alloc.h"
#include "base/os.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SOUND_FRAMES     128  /* a run of one frame takes a fifth as long, of launches */
#define ALL_SOUND_FRAMES 256  /* of all slots of a run, whose memory they take: 1.6 MB each */
#define FIRST_PROMPT     2048 /* tokens; longer ones, which are rare, take memory when they come */
#define MAX_AHEAD        8    /* runs: hides the host's pauses, and is little to waste at a stop */
#define SPIN_S           100e-6 /* of a wait, before sleeping */
#define SLEEP_S          50e-6
#define PATIENCE_S       30.0 /* no run takes as long */

/* ---- Errors ---------------------------------------------------------------------------------- */

void cu_note(cu_backend *b, cu_result r, const char *what)
{
    if (r == CU_OK || b->failed != CU_OK)
        return;
    b->failed = r;
    b->failed_at = what;
}

utter_status cu_fail(cu_backend *b, cu_result r, const char *what, ut_err *err)
{
    cu_note(b, r, what);
    return ut_fail(err, UTTER_ERR_BACKEND, "cuda: %s: %s", what, cu_driver_text(&b->d, r));
}

utter_status cu_check(cu_backend *b, ut_err *err)
{
    if (b->failed == CU_OK)
        return UTTER_OK;
    return ut_fail(err, UTTER_ERR_BACKEND, "cuda: %s: %s", b->failed_at,
                   cu_driver_text(&b->d, b->failed));
}

void cu_enter(cu_backend *b)
{
    cu_note(b, b->d.context_set(b->context), "the device's context");
}

/* ---- Memory ---------------------------------------------------------------------------------- */

utter_status cu_alloc(cu_backend *b, size_t bytes, cu_ptr *out, ut_err *err, const char *fmt, ...)
{
    *out = 0;
    const cu_result r = b->d.mem_alloc(out, bytes ? bytes : 1);
    if (r == CU_OK)
        return UTTER_OK;
    *out = 0;
    char what[160];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    if (r != CU_OUT_OF_MEMORY)
        return cu_fail(b, r, what, err);
    size_t free_bytes = 0, total = 0;
    b->d.mem_info(&free_bytes, &total);
    return ut_fail(err, UTTER_ERR_NOMEM,
                   "cuda: %s needs %.1f MB, device %d (%s) has %.1f MB free of %.1f MB; lower the "
                   "positions, the slots or the precision",
                   what, (double)bytes / 1e6, b->ordinal, b->name, (double)free_bytes / 1e6,
                   (double)total / 1e6);
}

void cu_free(cu_backend *b, cu_ptr p)
{
    if (p)
        cu_note(b, b->d.mem_free(p), "freeing memory");
}

utter_status cu_alloc_host(cu_backend *b, size_t bytes, void **out, cu_ptr *device, ut_err *err)
{
    *out = NULL;
    cu_result r = b->d.host_alloc(out, bytes ? bytes : 1, CU_HOST_PORTABLE_MAPPED);
    if (r == CU_OK && device)
        r = b->d.host_device_pointer(device, *out, 0);
    if (r == CU_OUT_OF_MEMORY) {
        *out = NULL;
        return ut_fail(err, UTTER_ERR_NOMEM, "cuda: no %.1f MB of pinned memory",
                       (double)bytes / 1e6);
    }
    if (r != CU_OK)
        return cu_fail(b, r, "pinned memory", err);
    memset(*out, 0, bytes);
    return UTTER_OK;
}

void cu_free_host(cu_backend *b, void *p)
{
    if (p)
        cu_note(b, b->d.host_free(p), "freeing pinned memory");
}

/* ---- Waiting --------------------------------------------------------------------------------- */

/* Calls that wait for all kernels, as freeing memory does, wait for ever for one that is stuck.
 * What is to be given back stays, then, as long as the process, and nothing more is taken. */
#define WAITING_CALLS(X)                                                                           \
    X(mem_free, cu_ptr)                                                                            \
    X(host_free, void *)                                                                           \
    X(stream_free, cu_stream)                                                                      \
    X(event_free, cu_event)                                                                        \
    X(graph_exec_free, cu_graph_exec)                                                              \
    X(module_unload, cu_module)                                                                    \
    X(context_release, cu_device)

#define X(name, type)                                                                              \
    static cu_result leave_##name(type what)                                                       \
    {                                                                                              \
        (void)what;                                                                                \
        return CU_OK;                                                                              \
    }
WAITING_CALLS(X)
#undef X

static cu_result take_nothing(cu_ptr *p, size_t bytes)
{
    (void)p, (void)bytes;
    return CU_TIMED_OUT;
}

static void abandon(cu_backend *b)
{
    cu_driver *d = &b->d;
#define X(name, type) d->name = leave_##name;
    WAITING_CALLS(X)
#undef X
    d->mem_alloc = take_nothing;
    d->lib = NULL; /* so does the library */
    b->stuck = true;
}

utter_status cu_wait_more(cu_backend *b, double since, const char *what, ut_err *err)
{
    const double waited = ut_time_now() - since;
    if (!b->stuck && waited < b->patience) {
        if (waited < SPIN_S)
            ut_thread_pause();
        else
            ut_sleep(SLEEP_S);
        return UTTER_OK;
    }
    if (!b->stuck)
        abandon(b);
    cu_note(b, CU_TIMED_OUT, what);
    return ut_fail(err, UTTER_ERR_BACKEND, "cuda: %s: the device has been stuck for %.0f s", what,
                   b->patience);
}

utter_status cu_wait(cu_backend *b, cu_event e, const char *what, ut_err *err)
{
    const double since = ut_time_now();
    for (;;) {
        const cu_result r = b->d.event_query(e);
        if (r == CU_OK)
            return UTTER_OK;
        if (r != CU_NOT_READY)
            return cu_fail(b, r, what, err);
        const utter_status st = cu_wait_more(b, since, what, err);
        if (st != UTTER_OK)
            return st;
    }
}

cu_result cu_sync(cu_backend *b, cu_stream stream)
{
    const double since = ut_time_now();
    cu_result r;
    while ((r = b->d.stream_query(stream)) == CU_NOT_READY)
        if (cu_wait_more(b, since, "waiting for a stream", NULL) != UTTER_OK)
            return CU_TIMED_OUT;
    return r;
}

/* ---- Opening --------------------------------------------------------------------------------- */

static int attribute(const cu_driver *d, cu_device device, int which)
{
    int value = 0;
    return d->device_attribute(&value, which, device) == CU_OK ? value : 0;
}

/* The device's number `ordinal`, and why not. */
static bool find_device(const cu_driver *d, int ordinal, cu_device *device, char *why, size_t size)
{
    int n = 0;
    const cu_result r = d->device_count(&n);
    if (r != CU_OK || n == 0)
        snprintf(why, size, "the NVIDIA driver sees no device");
    else if (ordinal < 0 || ordinal >= n)
        snprintf(why, size, "there is no device %d, only 0..%d", ordinal, n - 1);
    else if (d->device_get(device, ordinal) != CU_OK)
        snprintf(why, size, "device %d cannot be used", ordinal);
    else if (attribute(d, *device, CU_ATTR_CC_MAJOR) * 10 +
                 attribute(d, *device, CU_ATTR_CC_MINOR) <
             75)
        snprintf(why, size, "device %d is older than compute capability 7.5", ordinal);
    else
        return true;
    return false;
}

static void describe_device(const cu_driver *d, cu_device device, char *text, size_t size)
{
    char name[96] = "";
    size_t memory = 0;
    int version = 0;
    d->device_name(name, sizeof name, device);
    d->device_memory(&memory, device);
    d->driver_version(&version);
    snprintf(text, size, "%s, %.1f GB, compute capability %d.%d, driver for CUDA %d.%d", name,
             (double)memory / 1e9, attribute(d, device, CU_ATTR_CC_MAJOR),
             attribute(d, device, CU_ATTR_CC_MINOR), version / 1000, version % 1000 / 10);
}

int cu_count(void)
{
    cu_driver d;
    char why[256];
    int n = 0;
    if (!cu_driver_open(&d, why, sizeof why))
        return 0;
    if (d.device_count(&n) != CU_OK)
        n = 0;
    cu_driver_close(&d);
    return n;
}

bool cu_probe(int ordinal, char *text, size_t size)
{
    cu_driver d;
    cu_device device;
    if (!cu_driver_open(&d, text, size))
        return false;
    const bool ok = find_device(&d, ordinal, &device, text, size);
    if (ok)
        describe_device(&d, device, text, size);
    cu_driver_close(&d);
    return ok;
}

static utter_status load_kernels(cu_backend *b, ut_err *err)
{
    static const struct {
        const char *name, *file;
    } known[] = {
#define X(name, args, file) {#name, #file},
        CU_KERNELS(X)
#undef X
    };
    for (int i = 0; i < CU_FATBINS; i++) {
        const cu_result r = b->d.module_load(&b->modules[i], cu_fatbin(i));
        size_t free_bytes = 0, total = 0;
        if (r == CU_OUT_OF_MEMORY) {
            b->d.mem_info(&free_bytes, &total);
            return ut_fail(err, UTTER_ERR_NOMEM,
                           "cuda: no memory for kernels: device %d (%s) has %.1f MB free of %.1f "
                           "MB; other programs have the rest",
                           b->ordinal, b->name, (double)free_bytes / 1e6, (double)total / 1e6);
        }
        if (r != CU_OK)
            return ut_fail(err, UTTER_ERR_BACKEND,
                           "cuda: no kernels for device %d (%s, compute capability %d.%d): %s",
                           b->ordinal, b->name, b->cc / 10, b->cc % 10, cu_driver_text(&b->d, r));
        b->n_modules++;
    }
    for (int k = 0; k < CU_K_COUNT; k++) {
        const int i = cu_fatbin_of(known[k].file);
        if (i < 0 || b->d.module_function(&b->kernels[k], b->modules[i], known[k].name) != CU_OK)
            return ut_fail(err, UTTER_ERR_INTERNAL, "cuda: kernel %s is missing", known[k].name);
    }
    cu_result r = CU_OK;
    for (int k = CU_K_frame; k <= CU_K_frame_bf16_128 && r == CU_OK; k++)
        r = b->d.function_set(b->kernels[k], CU_FUNC_MAX_DYNAMIC_SHARED, (int)b->shared_limit);
    return r == CU_OK ? UTTER_OK : cu_fail(b, r, "the frame's shared memory", err);
}

/* Kernels for tensor cores do nothing when compiled for what has none; and they need more shared
 * memory than a block has by default. */
static void prepare_mma(cu_backend *b)
{
    int version = 0;
    b->mma = b->cc >= 80 &&
             b->d.function_get(&version, CU_FUNC_PTX_VERSION, b->kernels[CU_K_linear_mma_128]) ==
                 CU_OK &&
             version >= 80;
    b->hopper = b->mma && b->cc >= 90 && version >= 90;
    int registers = 0; /* of an empty body, next to none */
    b->groups = b->hopper &&
                b->d.function_get(&registers, CU_FUNC_REGISTERS,
                                  b->kernels[CU_K_linear_group_64]) == CU_OK &&
                registers > 40;
    for (int k = CU_K_linear_mma_128; k <= CU_K_linear_slots_q4_64_wide && b->mma; k++)
        b->mma = b->d.function_set(b->kernels[k], CU_FUNC_MAX_DYNAMIC_SHARED,
                                   (int)b->shared_limit) == CU_OK;
    for (int k = CU_K_attention_slots_64; k <= CU_K_attention_slots_128 && b->mma; k++)
        b->mma = b->d.function_set(b->kernels[k], CU_FUNC_MAX_DYNAMIC_SHARED,
                                   (int)b->shared_limit) == CU_OK;
    if (b->mma)
        b->mma = b->d.function_set(b->kernels[CU_K_flash_128], CU_FUNC_MAX_DYNAMIC_SHARED,
                                   CU_FLASH_SHARED(128)) == CU_OK;
}

/* Clusters of CU_QKV_BLOCKS are more than every device has. */
static bool has_large_clusters(const cu_backend *b)
{
    int n = 1;
    if (!b->hopper || !b->d.max_clusters)
        return false;
    for (int k = CU_K_qkv_slots_64_8; k <= CU_K_qkv_slots_q8_128_32 && n > 0; k++) {
        cu_launch_attribute how = {.id = CU_LAUNCH_CLUSTER, .value = {1, CU_QKV_BLOCKS, 1}};
        const cu_launch_config config = {.grid = {1, CU_QKV_BLOCKS, 1},
                                         .block = {CU_THREADS, 1, 1},
                                         .shared_bytes = (unsigned)b->shared_limit / 2,
                                         .attributes = &how,
                                         .n_attributes = 1};
        if (b->d.function_set(b->kernels[k], CU_FUNC_MAX_DYNAMIC_SHARED, (int)b->shared_limit) !=
                CU_OK ||
            b->d.function_set(b->kernels[k], CU_FUNC_LARGE_CLUSTERS, 1) != CU_OK ||
            b->d.max_clusters(&n, b->kernels[k], &config) != CU_OK)
            return false;
    }
    return n > 0;
}

void cu_close(ut_backend *backend)
{
    if (!backend)
        return;
    cu_backend *b = (cu_backend *)backend;
    if (b->context) {
        cu_enter(b);
        cu_weight_set_free(b);
        for (int i = 0; i < 2; i++) {
            cu_free_host(b, b->staging.host[i]);
            cu_free(b, b->staging.device[i]);
            if (b->staging.done[i])
                b->d.event_free(b->staging.done[i]);
        }
        if (b->stream)
            b->d.stream_free(b->stream);
        for (int i = 0; i < b->n_modules; i++)
            b->d.module_unload(b->modules[i]);
        b->d.context_set(NULL);
        b->d.context_release(b->device);
    }
    cu_driver_close(&b->d);
    ut_free(b);
}

utter_status cu_open(ut_backend **out, const ut_backend_params *params, ut_err *err)
{
    *out = NULL;
    cu_backend *b = ut_calloc(1, sizeof *b);
    if (!b)
        return ut_fail(err, UTTER_ERR_NOMEM, "cuda backend: no memory");
    b->head.ops = &ut_backend_cuda;
    b->head.max_ahead = MAX_AHEAD;
    b->head.first_prompt = FIRST_PROMPT;
    b->head.sound_frames = SOUND_FRAMES;
    b->head.all_sound_frames = ALL_SOUND_FRAMES;
    b->precision = params->precision;
    b->attention = params->attention;
    b->patience = PATIENCE_S;
    b->ordinal = params->device;
    utter_status st = UTTER_OK;
    cu_result r = CU_OK;
    char why[256];
    if (!cu_driver_open(&b->d, why, sizeof why) ||
        !find_device(&b->d, b->ordinal, &b->device, why, sizeof why)) {
        st = ut_fail(err, UTTER_ERR_BACKEND, "backend cuda is not available: %s", why);
        goto done;
    }
    b->d.device_name(b->name, sizeof b->name, b->device);
    b->d.device_memory(&b->memory, b->device);
    b->d.driver_version(&b->driver_version);
    b->sm_count = attribute(&b->d, b->device, CU_ATTR_SM_COUNT);
    b->cc = attribute(&b->d, b->device, CU_ATTR_CC_MAJOR) * 10 +
            attribute(&b->d, b->device, CU_ATTR_CC_MINOR);
    b->shared_limit = (size_t)attribute(&b->d, b->device, CU_ATTR_SHARED_PER_BLOCK);
    r = b->d.context_retain(&b->context, b->device);
    if (r != CU_OK) {
        b->context = NULL;
        st = r == CU_OUT_OF_MEMORY
                 ? ut_fail(err, UTTER_ERR_NOMEM,
                           "cuda: no memory for a context: other programs have all of device %d "
                           "(%s, %.1f MB)",
                           b->ordinal, b->name, (double)b->memory / 1e6)
                 : cu_fail(b, r, "opening the device", err);
        goto done;
    }
    cu_enter(b);
    r = b->d.stream_new(&b->stream, CU_STREAM_NON_BLOCKING, 0);
    if (r != CU_OK) {
        st = cu_fail(b, r, "opening a stream", err);
        goto done;
    }
    st = load_kernels(b, err);
    if (st != UTTER_OK)
        goto done;
    prepare_mma(b);
    b->large_clusters = has_large_clusters(b);
    *out = &b->head;
    b = NULL; /* handed over */
done:
    if (b)
        cu_close(&b->head);
    return st;
}
