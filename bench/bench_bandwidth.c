/* bench_bandwidth.c - memory reads and fused multiply-adds per second for 1 .. all threads: the
 * two limits that every other number is compared with. usage: bench_bandwidth [GIB] */
#include "base/os.h"
#include "machine.h"
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    const double gib = argc > 1 ? strtod(argv[1], NULL) : 1.0;
    printf("threads   read GB/s   multiply-add GFLOP/s\n");
    for (int n = 1; n <= ut_physical_cores(); n++)
        printf("%7d   %9.1f   %20.1f\n", n,
               1e-9 * machine_read_bandwidth(n, (size_t)(gib * 1073741824.0)),
               1e-9 * machine_fma_peak(n));
    return 0;
}
