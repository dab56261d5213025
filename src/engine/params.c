/* params.c - copying between structs of different ages; and every _init_sized of utter.h, with the
 * defaults. */
#include "engine/params.h"
#include "utter.h"
#include <string.h>

/* The caller's struct may lie about its size only if it was never initialised, which shows. */
static uint32_t size_of(const void *p)
{
    uint32_t size;
    memcpy(&size, p, sizeof size);
    return size;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

void ut_struct_init(void *p, uint32_t size, const void *defaults, size_t known)
{
    if (!p || size < sizeof size)
        return;
    memset(p, 0, size);
    if (defaults)
        memcpy(p, defaults, smaller(size, known));
    memcpy(p, &size, sizeof size);
}

static utter_status check_size(uint32_t size, size_t oldest, const char *name, ut_err *err)
{
    if (size >= oldest)
        return UTTER_OK;
    return ut_fail(err, UTTER_ERR_ARG,
                   "%s: struct_size is %u, expected at least %zu; call %s_init first", name,
                   (unsigned)size, oldest, name);
}

utter_status ut_struct_read(void *dst, size_t known, const void *src, size_t oldest,
                            const char *name, ut_err *err)
{
    uint32_t size = size_of(src);
    utter_status st = check_size(size, oldest, name, err);
    if (st != UTTER_OK)
        return st;
    for (size_t i = known; i < size; i++)
        if (((const unsigned char *)src)[i] != 0)
            return ut_fail(err, UTTER_ERR_ARG,
                           "%s: byte %zu is set, but utter " UT_VERSION
                           " knows only the first %zu bytes",
                           name, i, known);
    memcpy(dst, src, smaller(size, known));
    return UTTER_OK;
}

utter_status ut_struct_write(void *dst, size_t oldest, const void *src, size_t known,
                             const char *name, ut_err *err)
{
    uint32_t size = size_of(dst);
    utter_status st = check_size(size, oldest, name, err);
    if (st != UTTER_OK)
        return st;
    memset(dst, 0, size);
    memcpy(dst, src, smaller(size, known));
    memcpy(dst, &size, sizeof size);
    return UTTER_OK;
}

/* ---- Initialisers of utter.h -------------------------------------------------------------- */

void utter_engine_params_init_sized(utter_engine_params *params, uint32_t size)
{
    static const utter_engine_params defaults = {.precision = UTTER_PRECISION_AUTO,
                                                 .prefix_cache_bytes = (int64_t)256 << 20};
    ut_struct_init(params, size, &defaults, sizeof defaults);
}

void utter_synth_params_init_sized(utter_synth_params *params, uint32_t size)
{
    static const utter_synth_params defaults = {
        .seed = -1, .temperature = -1.0f, .top_p = -1.0f, .repetition_penalty = -1.0f, .top_k = -1};
    ut_struct_init(params, size, &defaults, sizeof defaults);
}

void utter_voice_params_init_sized(utter_voice_params *params, uint32_t size)
{
    static const utter_voice_params defaults = {.n_channels = 1};
    ut_struct_init(params, size, &defaults, sizeof defaults);
}

void utter_backend_info_init_sized(utter_backend_info *info, uint32_t size)
{
    ut_struct_init(info, size, NULL, 0);
}

void utter_engine_info_init_sized(utter_engine_info *info, uint32_t size)
{
    ut_struct_init(info, size, NULL, 0);
}

void utter_stats_init_sized(utter_stats *stats, uint32_t size)
{
    ut_struct_init(stats, size, NULL, 0);
}

void utter_voice_info_init_sized(utter_voice_info *info, uint32_t size)
{
    ut_struct_init(info, size, NULL, 0);
}
