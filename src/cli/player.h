/* player.h - sound to the loudspeaker, through a program that the system has. */
#ifndef UT_CLI_PLAYER_H
#define UT_CLI_PLAYER_H

#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>

typedef struct ut_player ut_player;

/* Is there one? ERR_NOT_FOUND names all that were looked for. */
utter_status ut_player_check(ut_err *err);
/* Find a player and start it. Those that read a pipe (paplay, aplay, ffplay) come first: they play
 * while speech is made; the others (pw-play, afplay, PowerShell) play when it is complete. */
utter_status ut_player_open(ut_player **out, int sample_rate, ut_err *err);
/* Mono samples. Returns once they are queued; a full queue (a minute) makes it wait. */
utter_status ut_player_write(ut_player *p, const float *x, size_t n, ut_err *err);
/* Wait until all is played, or with abort stop at once; free. NULL is fine. */
utter_status ut_player_close(ut_player *p, bool abort, ut_err *err);

#endif
