/* fuzz_sentences.c - the first byte gives the length of chunks, the second that of pushes, the rest
 * is the text. It is split pushed as a whole, and pushed in pieces: the same chunks must come out,
 * within their limits. */
#include "base/buf.h"
#include "text/sentences.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void take(ut_splitter *s, ut_buf *out, size_t max_chars)
{
    size_t n;
    for (const char *chunk; (chunk = ut_splitter_next(s, &n)) != NULL;) {
        size_t chars = 0;
        for (size_t i = 0; i < n; i++)
            chars += ((unsigned char)chunk[i] & 0xc0) != 0x80;
        if (n == 0 || chunk[n] != 0 || chars > max_chars)
            abort();
        ut_buf_append(out, chunk, n + 1);
    }
}

/* The chunks of a text with a 0 after each, and at the end whether it was valid. */
static void split(const char *text, size_t n, size_t max_chars, size_t step, ut_buf *out)
{
    ut_splitter *s = ut_splitter_new(max_chars);
    utter_status st = UTTER_OK;
    ut_buf_init(out, (size_t)1 << 28);
    for (size_t at = 0; at < n && st == UTTER_OK; at += step) {
        st = ut_splitter_push(s, text + at, n - at < step ? n - at : step, NULL);
        take(s, out, max_chars);
        if (st == UTTER_OK && ut_splitter_pending(s) > 4 * (max_chars + 3 * 64) + 64)
            abort();
    }
    st = ut_splitter_finish(s, NULL);
    take(s, out, max_chars);
    ut_buf_append(out, st == UTTER_OK ? "+" : "-", 1);
    ut_splitter_free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    const char *text = (const char *)data + 2;
    size_t n = size - 2;
    ut_buf whole, pieces;
    split(text, n, 16 + (size_t)data[0], n ? n : 1, &whole);
    split(text, n, 16 + (size_t)data[0], 1 + (size_t)data[1] % 32, &pieces);
    if (whole.len != pieces.len || memcmp(whole.data, pieces.data, whole.len) != 0)
        abort();
    ut_buf_free(&whole);
    ut_buf_free(&pieces);
    return 0;
}
