/* library.c - calls about the library as a whole: version, statuses, log, backends. */
#include "backends/backend.h"
#include "base/log.h"
#include "engine/engine.h"
#include "engine/params.h"
#include <string.h>

#define INFO_OLDEST UT_SIZE_UPTO(utter_backend_info, text)

const char *utter_version(void)
{
    return UT_VERSION;
}

const char *utter_status_name(utter_status status)
{
    return ut_status_name(status);
}

const char *utter_status_text(utter_status status)
{
    return ut_status_text(status);
}

void utter_log_set(utter_log_fn fn, void *user)
{
    ut_log_set(fn, user);
}

size_t utter_backend_count(void)
{
    size_t n = 0;
    while (ut_backends()[n])
        n++;
    return n;
}

static utter_status get(size_t i, int32_t device, utter_backend_info *info, const char *call)
{
    ut_err *err = ut_api_err(NULL);
    if (!info)
        return ut_fail_null(err, call, "info");
    if (i >= utter_backend_count())
        return ut_fail(err, UTTER_ERR_ARG, "backend %zu of %zu", i, utter_backend_count());
    const ut_backend_ops *ops = ut_backends()[i];
    utter_backend_info x;
    utter_backend_info_init(&x);
    x.name = ops->name;
    x.available = ops->probe(device, x.text, sizeof x.text);
    x.n_devices = ops->count();
    return ut_struct_write(info, INFO_OLDEST, &x, sizeof x, "utter_backend_info", err);
}

utter_status utter_backend_get(size_t i, utter_backend_info *info)
{
    return get(i, 0, info, "utter_backend_get");
}

utter_status utter_backend_get_device(size_t i, int32_t device, utter_backend_info *info)
{
    return get(i, device, info, "utter_backend_get_device");
}
