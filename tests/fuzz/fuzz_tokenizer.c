/* fuzz_tokenizer.c - the first byte says what the rest is: 'L' a rank file, a line "---" and the
 * special tokens to load; anything else a text for a small tokeniser. Tokens must spell the text.
 */
#include "base/buf.h"
#include "text/bpe.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void encode(const ut_bpe *b, const char *text, size_t n, bool specials)
{
    ut_buf ids;
    ut_buf_init(&ids, (size_t)1 << 26);
    if (ut_bpe_encode(b, text, n, specials, &ids, NULL) == UTTER_OK) {
        size_t at = 0;
        for (size_t i = 0; i < ut_buf_n_i32(&ids); i++) {
            size_t len;
            const char *token = ut_bpe_token(b, ut_buf_i32(&ids)[i], &len);
            if (!token || len > n - at || memcmp(token, text + at, len) != 0)
                abort();
            at += len;
        }
        if (at != n)
            abort();
    }
    ut_buf_free(&ids);
}

static void load_and_encode(const char *data, size_t size)
{
    static const char line[] = "\n---\n", text[] = "Hello, <|a|> w\xc3\xb6rld?!  aaaaaaaaa\n\n 12";
    size_t cut = size, skip = 0;
    for (size_t i = 0; i + 5 <= size && !skip; i++) {
        if (memcmp(data + i, line, 5) == 0) {
            cut = i + 1;
            skip = 4;
        }
    }
    ut_bpe *b;
    ut_err err = {0};
    if (ut_bpe_load_tiktoken_memory(
            &b, (ut_bpe_source){"ranks", data, cut},
            (ut_bpe_source){"specials", data + cut + skip, size - cut - skip}, UT_PRESPLIT_S1,
            &err) == UTTER_OK) {
        encode(b, text, sizeof text - 1, true);
        encode(b, text, sizeof text - 1, false);
    } else if (err.status == UTTER_OK || !err.msg[0]) {
        abort();
    }
    ut_bpe_free(b);
}

/* Single bytes and a few joined ones, in the form of a rank file. */
static ut_bpe *small_tokenizer(void)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    static const char specials[] = "{\"<|a|>\": 264, \"<|a|>b\": 265, \"<\": 266}";
    ut_buf text;
    ut_buf_init(&text, 1 << 16);
    for (int b = 0; b < 256; b++)
        ut_buf_printf(&text, "%c%c== %d\n", digits[b >> 2], digits[(b & 3) << 4], b);
    ut_buf_puts(&text, "YWE= 256\nYWFhYQ== 257\nYWI= 258\nYWJh 259\n"   /* aa aaaa ab aba */
                       "YmFiYQ== 260\nICA= 261\nCgo= 262\nw7Y= 263\n"); /* baba, spaces, \n\n, oe */
    ut_bpe *b;
    ut_bpe_load_tiktoken_memory(&b, (ut_bpe_source){"ranks", text.data, text.len},
                                (ut_bpe_source){"specials", specials, sizeof specials - 1},
                                UT_PRESPLIT_S1, NULL);
    ut_buf_free(&text);
    return b;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    const char *rest = (const char *)data + 1;
    if (data[0] == 'L') {
        load_and_encode(rest, size - 1);
        return 0;
    }
    static ut_bpe *b;
    if (!b)
        b = small_tokenizer();
    if (!b)
        abort();
    encode(b, rest, size - 1, true);
    encode(b, rest, size - 1, false);
    return 0;
}
