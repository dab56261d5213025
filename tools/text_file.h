/* text_file.h - a text that was put together in a buffer, as a file. */
#ifndef UT_TOOLS_TEXT_FILE_H
#define UT_TOOLS_TEXT_FILE_H

#include "base/buf.h"
#include "base/err.h"

/* Write DIR/name. complete false: memory ran out while the text was made, and nothing is written.
 */
utter_status text_file_write(const char *dir, const char *name, const ut_buf *text, bool complete,
                             ut_err *err);

#endif
