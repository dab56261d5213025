/* figures.c - see figures.h. */
#include "figures.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

int figures_open(figures *f, const char *path, const char *series, const char *model_dir)
{
    *f = (figures){.series = series};
    size_t end = strlen(model_dir), n = 0;
    while (end > 0 && model_dir[end - 1] == '/')
        end--;
    size_t start = end;
    while (start > 0 && model_dir[start - 1] != '/')
        start--;
    for (; start < end && n + 1 < sizeof f->model; start++) {
        const unsigned char c = (unsigned char)model_dir[start];
        f->model[n++] = (char)(isalnum(c) || strchr("-_.", c) ? c : '_');
    }
    if (path)
        f->file = fopen(path, "a");
    return !path || f->file;
}

void figures_close(figures *f)
{
    if (f->file)
        fclose(f->file);
    f->file = NULL;
}

void figures_put(const figures *f, const char *figure, int slots, double value)
{
    if (!f->file)
        return;
    fprintf(f->file,
            "{\"series\":\"%s\",\"model\":\"%s\",\"figure\":\"%s\",\"slots\":%d,\"value\":%.9g}\n",
            f->series, f->model, figure, slots, value);
    fflush(f->file);
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double figures_median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, by_value);
    return v[n / 2];
}
