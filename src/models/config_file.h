/* config_file.h - opening the JSON files of a checkpoint directory. */
#ifndef UT_MODELS_CONFIG_FILE_H
#define UT_MODELS_CONFIG_FILE_H

#include "base/json.h"

/* DIR/NAME. *doc is the caller's: ut_json_free; NULL on failure. */
utter_status ut_config_open(ut_json **doc, const char *dir, const char *name, ut_err *err);

#endif
