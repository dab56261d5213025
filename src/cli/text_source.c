/* text_source.c - reading text in pieces, so that a book needs no more memory than a sentence. */
#include "cli/text_source.h"
#include "base/alloc.h"
#include "base/buf.h"
#include "base/os.h"
#include <errno.h>
#include <string.h>

static utter_status join(ut_text_source *s, int argc, char **argv, ut_err *err)
{
    ut_buf text;
    ut_buf_init(&text, SIZE_MAX / 2);
    bool ok = true;
    for (int i = 0; i < argc && ok; i++)
        ok = (i == 0 || ut_buf_puts(&text, " ")) && ut_buf_puts(&text, argv[i]);
    s->name = "the text";
    s->size = (int64_t)text.len;
    s->args = ok ? ut_strdup(text.len ? (const char *)text.data : "") : NULL;
    ut_buf_free(&text);
    return s->args ? UTTER_OK : ut_fail(err, UTTER_ERR_NOMEM, "no memory for the text");
}

/* Bytes of a regular file, -1 of anything else. */
static int64_t file_size(FILE *f)
{
    if (fseek(f, 0, SEEK_END) != 0)
        return -1;
    long size = ftell(f);
    return fseek(f, 0, SEEK_SET) == 0 ? size : -1;
}

utter_status ut_text_source_open(ut_text_source *s, const char *path, int argc, char **argv,
                                 ut_err *err)
{
    memset(s, 0, sizeof *s);
    s->size = -1;
    bool dash = argc == 1 && strcmp(argv[0], "-") == 0;
    if (path && argc > 0)
        return ut_fail(err, UTTER_ERR_ARG, "text is given both as argument and as file");
    if (argc > 0 && !dash)
        return join(s, argc, argv, err);
    if (!path && !dash && ut_is_terminal(stdin))
        return ut_fail(err, UTTER_ERR_ARG, "no text: give it as argument, -f FILE, or - for input");
    if (!path || strcmp(path, "-") == 0) {
        s->name = "standard input";
        s->file = stdin;
        ut_binary_mode(stdin);
        return UTTER_OK;
    }
    s->name = path;
    if (ut_dir_exists(path))
        return ut_fail(err, UTTER_ERR_IO, "%s: is a directory, expected a text file", path);
    s->file = ut_fopen(path, "rb");
    if (!s->file)
        return ut_fail(err, UTTER_ERR_IO, "%s: %s", path, strerror(errno));
    s->size = file_size(s->file);
    return UTTER_OK;
}

/* Up to size bytes, until the end of a line: what a person or a program wrote is spoken at once. */
static size_t read_file(FILE *f, char *out, size_t size)
{
    size_t n = 0;
    while (n < size) {
        int c = getc(f);
        if (c == EOF)
            break;
        out[n++] = (char)c;
        if (c == '\n')
            break;
    }
    return n;
}

utter_status ut_text_source_read(ut_text_source *s, char *out, size_t size, size_t *n, ut_err *err)
{
    if (s->args) {
        size_t left = strlen(s->args) - (size_t)s->read;
        *n = left < size ? left : size;
        memcpy(out, s->args + s->read, *n);
    } else {
        errno = 0;
        *n = read_file(s->file, out, size);
        if (ferror(s->file) && errno != EINTR)
            return ut_fail(err, UTTER_ERR_IO, "%s: %s", s->name, strerror(errno));
    }
    s->read += (int64_t)*n;
    if (!s->started && *n >= 3 && memcmp(out, "\xef\xbb\xbf", 3) == 0) {
        *n -= 3;
        memmove(out, out + 3, *n);
        if (*n == 0) { /* the mark was a piece of its own */
            s->started = true;
            return ut_text_source_read(s, out, size, n, err);
        }
    }
    s->started = true;
    return UTTER_OK;
}

void ut_text_source_close(ut_text_source *s)
{
    ut_free(s->args);
    if (s->file && s->file != stdin)
        fclose(s->file);
    memset(s, 0, sizeof *s);
}
