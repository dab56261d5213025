/* utter_status.h - the status codes of utter, alone, so that internal layers need nothing else. */
#ifndef UTTER_STATUS_H
#define UTTER_STATUS_H

/* Code, name, what it means. The one list that codes, names and documentation come from. */
#define UTTER_STATUS_MAP(X)                                                                        \
    X(OK, 0, "no error")                                                                           \
    X(ERR_ARG, 1, "an argument is out of range or missing")                                        \
    X(ERR_NOMEM, 2, "memory could not be had")                                                     \
    X(ERR_IO, 3, "a file could not be read or written")                                            \
    X(ERR_FORMAT, 4, "a file is not what its name or header says")                                 \
    X(ERR_MODEL, 5, "a checkpoint lacks something or has it in the wrong shape")                   \
    X(ERR_TEXT, 6, "the text cannot be spoken as given")                                           \
    X(ERR_AUDIO, 7, "the audio cannot be used as given")                                           \
    X(ERR_BACKEND, 8, "a backend is not available or failed")                                      \
    X(ERR_LIMIT, 9, "a limit of the model or of the call is exceeded")                             \
    X(ERR_CANCELLED, 10, "the caller asked to stop")                                               \
    X(ERR_UNSUPPORTED, 11, "this build or model does not do that")                                 \
    X(ERR_NOT_FOUND, 12, "no such voice, file or model")                                           \
    X(ERR_INTERNAL, 13, "a defect of utter itself; please report it")

typedef enum utter_status {
#define UTTER_STATUS_ENUM(name, value, text) UTTER_##name = value,
    UTTER_STATUS_MAP(UTTER_STATUS_ENUM)
#undef UTTER_STATUS_ENUM
} utter_status;

#endif
