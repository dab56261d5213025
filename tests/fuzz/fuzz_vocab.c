/* fuzz_vocab.c - the first byte says what the rest is: 'L' a vocab.json, a line "---", a
 * merges.txt, a line "---" and a tokenizer_config.json to load; anything else a text for a small
 * tokeniser of that kind. Tokens must spell the text's normal form. */
#include "base/alloc.h"
#include "base/json.h"
#include "text/bpe.h"
#include "text/utf8.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void encode(const ut_bpe *b, const char *text, size_t n)
{
    ut_buf ids;
    char *normal = NULL;
    size_t n_normal = 0, at = 0;
    ut_buf_init(&ids, (size_t)1 << 26);
    if (ut_bpe_encode(b, text, n, false, &ids, NULL) == UTTER_OK &&
        ut_utf8_nfc(text, n, &normal, &n_normal, NULL) == UTTER_OK) {
        for (size_t i = 0; i < ut_buf_n_i32(&ids); i++) {
            size_t len;
            const char *token = ut_bpe_token(b, ut_buf_i32(&ids)[i], &len);
            if (!token || len > n_normal - at || memcmp(token, normal + at, len) != 0)
                abort();
            at += len;
        }
        if (at != n_normal)
            abort();
    }
    ut_free(normal);
    ut_buf_free(&ids);
    ut_buf_init(&ids, (size_t)1 << 26);
    (void)ut_bpe_encode(b, text, n, true, &ids, NULL);
    ut_buf_free(&ids);
}

/* The bytes up to the next line "---", and what is behind it. */
static ut_bpe_source part(const char *name, const char **data, size_t *size)
{
    static const char line[] = "\n---\n";
    const ut_bpe_source all = {name, *data, *size};
    for (size_t i = 0; i + 5 <= *size; i++)
        if (memcmp(*data + i, line, 5) == 0) {
            *data += i + 5;
            *size -= i + 5;
            return (ut_bpe_source){name, all.data, i + 1};
        }
    *data += *size;
    *size = 0;
    return all;
}

static void load_and_encode(const char *data, size_t size)
{
    static const char text[] = "Hello, <|a|> w\xc3\xb6rld?!  aaaaaaaaa\n\n 12";
    const ut_bpe_source vocab = part("vocab", &data, &size), merges = part("merges", &data, &size);
    ut_bpe *b;
    ut_err err = {0};
    if (ut_bpe_load_vocab_memory(&b, vocab, merges, (ut_bpe_source){"config", data, size},
                                 UT_PRESPLIT_QWEN2, &err) == UTTER_OK)
        encode(b, text, sizeof text - 1);
    else if (err.status == UTTER_OK || !err.msg[0])
        abort();
    ut_bpe_free(b);
}

static ut_bpe *small_tokenizer(void)
{
    static const char merges[] = "a a\naa a\n\304\240 a\nc b\n";
    static const char config[] = "{\"added_tokens_decoder\": {\"260\": {\"content\": \"<|a|>\"}}}";
    static const char *const joined[] = {"aa", "aaa", "\304\240a", "cb"};
    ut_buf text;
    ut_json_writer w;
    ut_buf_init(&text, 1 << 16);
    ut_json_writer_init(&w, &text, 0);
    ut_json_begin_object(&w, NULL);
    for (int c = 0, next = 256; c < 256; c++) {
        const int printable = (c >= 33 && c <= 126) || (c >= 161 && c <= 172) || c >= 174;
        char key[5] = "";
        ut_utf8_encode((uint32_t)(printable ? c : next++), key);
        ut_json_put_int(&w, key, c);
    }
    for (int i = 0; i < 4; i++)
        ut_json_put_int(&w, joined[i], 256 + i);
    ut_bpe *b = NULL;
    if (!ut_json_end_all(&w) ||
        ut_bpe_load_vocab_memory(&b, (ut_bpe_source){"vocab", text.data, text.len},
                                 (ut_bpe_source){"merges", merges, sizeof merges - 1},
                                 (ut_bpe_source){"config", config, sizeof config - 1},
                                 UT_PRESPLIT_QWEN2, NULL) != UTTER_OK)
        abort();
    ut_buf_free(&text);
    return b;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static ut_bpe *small;
    if (size == 0)
        return 0;
    if (data[0] == 'L') {
        load_and_encode((const char *)data + 1, size - 1);
        return 0;
    }
    if (!small)
        small = small_tokenizer();
    encode(small, (const char *)data + 1, size - 1);
    return 0;
}
