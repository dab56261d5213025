/* figures.h - what a program of this folder measured, as a line of JSON for scripts. */
#ifndef UT_BENCH_FIGURES_H
#define UT_BENCH_FIGURES_H

#include <stdio.h>

typedef struct figures {
    FILE *file;         /* NULL: nothing is written */
    const char *series; /* name of the program, and of what was measured: both without quotes */
    char model[64];
} figures;

/* Append to the file at path; the model's name is its folder's. 0 when the file cannot be
 * opened. path NULL: nothing will be written. */
int figures_open(figures *f, const char *path, const char *series, const char *model_dir);
void figures_close(figures *f);

/* {"series":"...","model":"...","figure":"frame_ms","slots":1,"value":1.25} */
void figures_put(const figures *f, const char *figure, int slots, double value);

/* The value in the middle; sorts v [n]. */
double figures_median(double *v, int n);

#endif
