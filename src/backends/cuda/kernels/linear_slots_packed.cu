/* linear_slots_packed.cu - products of a decoding step's slots with matrices of CU_Q8 and CU_Q4. */
#include "backends/cuda/kernels/linear_slots.cuh"

SLOTS_KERNELS(linear_slots_q8, CU_Q8, 8, 4, 2)
SLOTS_KERNELS(linear_slots_q8, CU_Q8, 16, 4, 2)
SLOTS_KERNELS(linear_slots_q8, CU_Q8, 32, 4, 2)
SLOTS_KERNELS(linear_slots_q8, CU_Q8, 64, 2, 2)
SLOTS_KERNELS(linear_slots_q4, CU_Q4, 8, 4, 2)
SLOTS_KERNELS(linear_slots_q4, CU_Q4, 16, 4, 2)
SLOTS_KERNELS(linear_slots_q4, CU_Q4, 32, 4, 2)
SLOTS_KERNELS(linear_slots_q4, CU_Q4, 64, 2, 2)
