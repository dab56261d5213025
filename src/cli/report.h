/* report.h - what `utter say` tells about its work: a line while it runs, a line at the end, and
 * statistics as JSON. */
#ifndef UT_CLI_REPORT_H
#define UT_CLI_REPORT_H

#include "utter.h"
#include <stdbool.h>
#include <stdio.h>

typedef struct ut_progress {
    bool shown;  /* standard error is a terminal and it was not switched off */
    double next; /* time of the next update */
    int width;   /* columns the line takes now */
} ut_progress;

void ut_progress_begin(ut_progress *p, bool wanted);
/* Several times a second at most. text_left: bytes to speak; -1: not known. */
void ut_progress_update(ut_progress *p, const utter_stream *s, long long text_left);
void ut_progress_clear(ut_progress *p); /* before anything else is printed, and at the end */

/* The line for people: "say.wav: 12.3 s of audio in 4.5 s, ...". */
void ut_report_line(FILE *f, const utter_stats *s, const char *output);
/* One JSON object on one line. interrupted: the user stopped it. False: it could not be written. */
bool ut_report_json(FILE *f, const utter_stats *s, const utter_engine_info *e, const char *voice,
                    const char *output, bool interrupted);

#endif
