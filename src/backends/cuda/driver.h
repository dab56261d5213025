/* driver.h - the part of the CUDA driver API that the backend uses, as a table of functions found
 * at run time. Nothing of NVIDIA's is needed to compile or link this; types and numbers are those
 * of the driver API's stable binary interface (names with _v2 where the interface has versions). */
#ifndef UT_BACKENDS_CUDA_DRIVER_H
#define UT_BACKENDS_CUDA_DRIVER_H

#include "backends/cuda/args.h"
#include "base/dynlib.h"
#include <stddef.h>
#include <stdint.h>

typedef int cu_result; /* 0: success */
typedef int cu_device;
typedef uint64_t cu_ptr; /* an address of the device */
typedef struct cu_context_handle *cu_context;
typedef struct cu_module_handle *cu_module;
typedef struct cu_function_handle *cu_function;
typedef struct cu_stream_handle *cu_stream;
typedef struct cu_event_handle *cu_event;
typedef struct cu_graph_handle *cu_graph;
typedef struct cu_graph_exec_handle *cu_graph_exec;

enum {
    CU_OK = 0,
    CU_OUT_OF_MEMORY = 2,
    CU_NOT_READY = 600,
    CU_TIMED_OUT = 702,

    CU_ATTR_SM_COUNT = 16,
    CU_ATTR_L2_BYTES = 38,
    CU_ATTR_CC_MAJOR = 75,
    CU_ATTR_CC_MINOR = 76,
    CU_ATTR_COOPERATIVE = 95,
    CU_ATTR_SHARED_PER_BLOCK = 97, /* with the attribute below raised */

    CU_FUNC_REGISTERS = 4,
    CU_FUNC_PTX_VERSION = 5, /* 80 for 8.0: what the kernel was compiled for */
    CU_FUNC_MAX_DYNAMIC_SHARED = 8,
    CU_FUNC_LARGE_CLUSTERS = 14, /* may a cluster have more than 8 blocks? */
    CU_HOST_PORTABLE_MAPPED = 3,
    CU_STREAM_NON_BLOCKING = 1,
    CU_STREAM_URGENT = -1, /* a priority: lower numbers go first */
    CU_EVENT_NO_TIMING = 2,
    CU_EVENT_TIMING = 0,
    CU_CAPTURE_THREAD_LOCAL = 1,

    CU_LAUNCH_COOPERATIVE = 2,
    CU_LAUNCH_CLUSTER = 4,
    CU_LAUNCH_PROGRAMMATIC = 6, /* may start before the kernel in front has ended */

    CU_TENSOR_F16 = 6,
    CU_TENSOR_BF16 = 9,
    CU_TENSOR_SWIZZLE_64 = 2,  /* 16-byte group g of line i of a box, of 64 bytes: g ^ i / 2 % 4 */
    CU_TENSOR_SWIZZLE_128 = 3, /* of 128 bytes: g ^ i % 8 */
    CU_TENSOR_PROMOTE_256 = 3  /* bytes that the second-level cache asks for together */
};

/* How a kernel is launched, as the driver lays it out. */
typedef struct cu_launch_attribute {
    int id;
    int pad;
    int value[16]; /* [0]: on or off; of a cluster, its blocks along x, y and z */
} cu_launch_attribute;

typedef struct cu_launch_config {
    unsigned grid[3], block[3], shared_bytes;
    cu_stream stream;
    cu_launch_attribute *attributes;
    unsigned n_attributes;
} cu_launch_config;

/* X(name in the table, name in the library, parameters) */
#define CU_DRIVER_FUNCTIONS(X)                                                                     \
    X(init, "cuInit", (unsigned))                                                                  \
    X(driver_version, "cuDriverGetVersion", (int *))                                               \
    X(error_name, "cuGetErrorName", (cu_result, const char **))                                    \
    X(error_string, "cuGetErrorString", (cu_result, const char **))                                \
    X(device_count, "cuDeviceGetCount", (int *))                                                   \
    X(device_get, "cuDeviceGet", (cu_device *, int))                                               \
    X(device_name, "cuDeviceGetName", (char *, int, cu_device))                                    \
    X(device_memory, "cuDeviceTotalMem_v2", (size_t *, cu_device))                                 \
    X(device_attribute, "cuDeviceGetAttribute", (int *, int, cu_device))                           \
    X(context_retain, "cuDevicePrimaryCtxRetain", (cu_context *, cu_device))                       \
    X(context_release, "cuDevicePrimaryCtxRelease_v2", (cu_device))                                \
    X(context_set, "cuCtxSetCurrent", (cu_context))                                                \
    X(module_load, "cuModuleLoadData", (cu_module *, const void *))                                \
    X(module_unload, "cuModuleUnload", (cu_module))                                                \
    X(module_function, "cuModuleGetFunction", (cu_function *, cu_module, const char *))            \
    X(function_set, "cuFuncSetAttribute", (cu_function, int, int))                                 \
    X(function_get, "cuFuncGetAttribute", (int *, int, cu_function))                               \
    X(mem_info, "cuMemGetInfo_v2", (size_t *, size_t *))                                           \
    X(mem_alloc, "cuMemAlloc_v2", (cu_ptr *, size_t))                                              \
    X(mem_free, "cuMemFree_v2", (cu_ptr))                                                          \
    X(host_alloc, "cuMemHostAlloc", (void **, size_t, unsigned))                                   \
    X(host_free, "cuMemFreeHost", (void *))                                                        \
    X(host_device_pointer, "cuMemHostGetDevicePointer_v2", (cu_ptr *, void *, unsigned))           \
    X(to_device, "cuMemcpyHtoDAsync_v2", (cu_ptr, const void *, size_t, cu_stream))                \
    X(to_host, "cuMemcpyDtoHAsync_v2", (void *, cu_ptr, size_t, cu_stream))                        \
    X(copy, "cuMemcpyDtoDAsync_v2", (cu_ptr, cu_ptr, size_t, cu_stream))                           \
    X(set8, "cuMemsetD8Async", (cu_ptr, unsigned char, size_t, cu_stream))                         \
    X(set32, "cuMemsetD32Async", (cu_ptr, unsigned, size_t, cu_stream))                            \
    X(stream_new, "cuStreamCreateWithPriority", (cu_stream *, unsigned, int))                      \
    X(stream_free, "cuStreamDestroy_v2", (cu_stream))                                              \
    X(stream_query, "cuStreamQuery", (cu_stream))                                                  \
    X(stream_wait, "cuStreamWaitEvent", (cu_stream, cu_event, unsigned))                           \
    X(event_new, "cuEventCreate", (cu_event *, unsigned))                                          \
    X(event_free, "cuEventDestroy_v2", (cu_event))                                                 \
    X(event_record, "cuEventRecord", (cu_event, cu_stream))                                        \
    X(event_query, "cuEventQuery", (cu_event))                                                     \
    X(event_elapsed, "cuEventElapsedTime", (float *, cu_event, cu_event))                          \
    X(launch_with, "cuLaunchKernelEx", (const cu_launch_config *, cu_function, void **, void **))  \
    X(capture_begin, "cuStreamBeginCapture_v2", (cu_stream, int))                                  \
    X(capture_end, "cuStreamEndCapture", (cu_stream, cu_graph *))                                  \
    X(graph_instantiate, "cuGraphInstantiateWithFlags",                                            \
      (cu_graph_exec *, cu_graph, unsigned long long))                                             \
    X(graph_launch, "cuGraphLaunch", (cu_graph_exec, cu_stream))                                   \
    X(graph_free, "cuGraphDestroy", (cu_graph))                                                    \
    X(graph_exec_free, "cuGraphExecDestroy", (cu_graph_exec))

/* Those that drivers before 12.0 have not: NULL. */
#define CU_DRIVER_LATER(X)                                                                         \
    X(max_clusters, "cuOccupancyMaxActiveClusters",                                                \
      (int *, cu_function, const cu_launch_config *))                                              \
    X(tensor_map, "cuTensorMapEncodeTiled",                                                        \
      (cu_tensor_map * out, int type, unsigned rank, cu_ptr, const uint64_t *dims,                 \
       const uint64_t *strides, const uint32_t *box, const uint32_t *steps, int interleave,        \
       int swizzle, int promote, int fill))

typedef struct cu_driver {
    ut_dynlib *lib;
#define X(name, symbol, parameters) cu_result(*name) parameters;
    CU_DRIVER_FUNCTIONS(X)
    CU_DRIVER_LATER(X)
#undef X
} cu_driver;

/* Load and initialise the driver; on failure false and one line that says why. */
bool cu_driver_open(cu_driver *d, char *why, size_t size);
void cu_driver_close(cu_driver *d);

/* "out of memory" or whatever the driver says about a result. Never NULL. */
const char *cu_driver_text(const cu_driver *d, cu_result r);

#endif
