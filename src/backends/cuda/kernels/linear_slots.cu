/* linear_slots.cu - products of a decoding step's slots with matrices of bf16. */
#include "backends/cuda/kernels/linear_slots.cuh"

SLOTS_KERNELS(linear_slots, CU_BF16, 8, 4, 2)
SLOTS_KERNELS(linear_slots, CU_BF16, 16, 4, 2)
SLOTS_KERNELS(linear_slots, CU_BF16, 32, 4, 2)
SLOTS_KERNELS(linear_slots, CU_BF16, 64, 2, 2)
