/* test_bpe.c - pre-splitter, merges and loader of the byte-level tokeniser. The cases of
 * data/bpe_cases.h come from a literal rendering in Python; recorded texts of the reference
 * implementation are compared by ut-parity. */
#include "base/alloc.h"
#include "base/os.h"
#include "data/bpe_cases.h"
#include "text/bpe.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static utter_status load_strings(ut_bpe **out, const char *ranks, const char *specials, ut_err *err)
{
    return ut_bpe_load_tiktoken_memory(out, (ut_bpe_source){"ranks", ranks, strlen(ranks)},
                                       (ut_bpe_source){"specials", specials, strlen(specials)},
                                       UT_PRESPLIT_S1, err);
}

/* Lines for all single bytes, the rank of byte b being b or 255 - b, then `more`. */
static char *byte_ranks(bool descending, const char *more)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    ut_buf text;
    ut_buf_init(&text, 1 << 20);
    for (int b = 0; b < 256; b++)
        ut_buf_printf(&text, "%c%c== %d\n", digits[b >> 2], digits[(b & 3) << 4],
                      descending ? 255 - b : b);
    ut_buf_puts(&text, more);
    return (char *)text.data;
}

static int set_up(void **state)
{
    ut_err err = {0};
    ut_bpe *b;
    char *ranks = byte_ranks(false, bpe_merged);
    if (load_strings(&b, ranks, bpe_specials, &err) != UTTER_OK)
        print_error("%s\n", err.msg);
    ut_free(ranks);
    *state = b;
    return b ? 0 : -1;
}

static int tear_down(void **state)
{
    ut_bpe_free(*state);
    return 0;
}

/* ---- Encoding ------------------------------------------------------------------------------- */

static void texts_become_the_expected_tokens(void **state)
{
    const ut_bpe *b = *state;
    for (size_t i = 0; i < sizeof bpe_cases / sizeof *bpe_cases; i++) {
        const bpe_case *c = &bpe_cases[i];
        ut_buf ids;
        ut_err err = {0};
        ut_buf_init(&ids, 1 << 20);
        assert_int_equal(ut_bpe_encode(b, c->text, c->n, c->specials, &ids, &err), UTTER_OK);
        if (ut_buf_n_i32(&ids) != (size_t)c->n_ids)
            fail_msg("case %zu: %zu tokens, expected %d", i, ut_buf_n_i32(&ids), c->n_ids);
        for (int k = 0; k < c->n_ids; k++)
            if (ut_buf_i32(&ids)[k] != c->ids[k])
                fail_msg("case %zu: token %d is %d, expected %d", i, k, ut_buf_i32(&ids)[k],
                         c->ids[k]);
        ut_buf_free(&ids);
    }
}

/* The definition, searched afresh for every join: token boundaries of s[0..n) in part[], their
 * number returned. */
static size_t merge_slowly(const ut_bpe *b, const char *s, size_t n, int32_t *ids)
{
    size_t begin[301], parts = n;
    for (size_t i = 0; i <= n; i++)
        begin[i] = i;
    for (;;) {
        int32_t best = INT32_MAX;
        size_t at = 0;
        for (size_t i = 0; i + 1 < parts; i++)
            for (int32_t id = 0; id < best && id < ut_bpe_n_ranks(b); id++) {
                size_t len;
                const char *token = ut_bpe_token(b, id, &len);
                if (len == begin[i + 2] - begin[i] && memcmp(token, s + begin[i], len) == 0) {
                    best = id;
                    at = i;
                }
            }
        if (best == INT32_MAX)
            break;
        memmove(begin + at + 1, begin + at + 2, (parts - at - 1) * sizeof *begin);
        parts--;
    }
    for (size_t i = 0; i < parts; i++)
        for (int32_t id = 0; id < ut_bpe_n_ranks(b); id++) {
            size_t len;
            const char *token = ut_bpe_token(b, id, &len);
            if (len == begin[i + 1] - begin[i] && memcmp(token, s + begin[i], len) == 0)
                ids[i] = id;
        }
    return parts;
}

static void long_pieces_merge_by_the_definition(void **state)
{
    const ut_bpe *b = *state;
    static const char letters[] = "aaeehlothernsing";
    uint32_t seed = 12345;
    for (int round = 0; round < 40; round++) {
        char s[300];
        size_t n = 20 + (size_t)round * 7;
        for (size_t i = 0; i < n; i++) {
            seed = seed * 1664525u + 1013904223u;
            s[i] = letters[seed >> 28];
        }
        int32_t expected[300];
        size_t n_expected = merge_slowly(b, s, n, expected);
        ut_buf ids;
        ut_buf_init(&ids, 1 << 20);
        assert_int_equal(ut_bpe_encode(b, s, n, false, &ids, NULL), UTTER_OK);
        assert_int_equal(ut_buf_n_i32(&ids), n_expected);
        assert_memory_equal(ids.data, expected, n_expected * sizeof *expected);
        ut_buf_free(&ids);
    }
}

/* A megabyte without a space: a merge loop that searches all pairs after each join would need
 * days. The limit leaves room for sanitizers on a slow machine; the encoder takes 0.2 s. */
static void a_megabyte_without_a_space(void **state)
{
    const ut_bpe *b = *state;
    const size_t n = 1000000;
    char *s = ut_malloc(n);
    ut_buf ids;
    ut_buf_init(&ids, 8 * n);
    for (int kind = 0; kind < 3; kind++) {
        uint32_t seed = 1;
        for (size_t i = 0; i < n; i++) {
            seed = seed * 1664525u + 1013904223u;
            s[i] = kind == 0 ? 'a' : kind == 1 ? "helotnrs"[seed >> 29] : ' ';
        }
        ut_buf_clear(&ids);
        double begin = ut_time_now();
        assert_int_equal(ut_bpe_encode(b, s, n, true, &ids, NULL), UTTER_OK);
        assert_true(ut_time_now() - begin < 20);
        size_t total = 0;
        for (size_t i = 0; i < ut_buf_n_i32(&ids); i++) {
            size_t len;
            const char *token = ut_bpe_token(b, ut_buf_i32(&ids)[i], &len);
            assert_memory_equal(s + total, token, len);
            total += len;
        }
        assert_int_equal(total, n);
    }
    ut_buf_free(&ids);
    ut_free(s);
}

/* Blocks of 400,000 characters, not bytes, are encoded by themselves. */
static void blocks_end_after_400000_characters(void **state)
{
    const ut_bpe *b = *state;
    const size_t chars = 400001, n = 2 * chars;
    char *s = ut_malloc(n);
    for (size_t i = 0; i < chars; i++)
        memcpy(s + 2 * i, i % 2 ? "\xc3\xa9" : "\xc3\xa0", 2);
    ut_buf whole, parts;
    ut_buf_init(&whole, 8 * n);
    ut_buf_init(&parts, 8 * n);
    assert_int_equal(ut_bpe_encode(b, s, n, false, &whole, NULL), UTTER_OK);
    assert_int_equal(ut_bpe_encode(b, s, n - 2, false, &parts, NULL), UTTER_OK);
    assert_int_equal(ut_bpe_encode(b, s + n - 2, 2, false, &parts, NULL), UTTER_OK);
    assert_int_equal(whole.len, parts.len);
    assert_memory_equal(whole.data, parts.data, whole.len);
    ut_buf_free(&whole);
    ut_buf_free(&parts);
    ut_free(s);

    /* "hello" is one token, but not across the border. */
    static const char tail[] = "hello";
    s = ut_malloc(400003);
    memset(s, '5', 399998);
    memcpy(s + 399998, tail, 5);
    ut_buf_init(&whole, 1 << 22);
    assert_int_equal(ut_bpe_encode(b, s, 400003, false, &whole, NULL), UTTER_OK);
    size_t len;
    const char *last = ut_bpe_token(b, ut_buf_i32(&whole)[ut_buf_n_i32(&whole) - 1], &len);
    assert_true(len <= 3);
    assert_memory_equal(last, tail + 5 - len, len);
    ut_buf_free(&whole);
    ut_free(s);
}

static void failures_leave_the_ids_alone(void **state)
{
    const ut_bpe *b = *state;
    ut_buf ids;
    ut_err err = {0};
    ut_buf_init(&ids, 3 * sizeof(int32_t));
    assert_true(ut_buf_push_i32(&ids, 42));
    assert_int_equal(ut_bpe_encode(b, "ab\xff", 3, false, &ids, &err), UTTER_ERR_TEXT);
    assert_string_equal(err.msg, "invalid UTF-8 at byte 2 (0xff)");
    ut_err_clear(&err);
    assert_int_equal(ut_bpe_encode(b, "5555", 4, false, &ids, &err), UTTER_ERR_LIMIT);
    assert_non_null(strstr(err.msg, "at most 2"));
    assert_int_equal(ut_buf_n_i32(&ids), 1);
    assert_int_equal(ut_buf_i32(&ids)[0], 42);
    assert_int_equal(ut_bpe_encode(b, "55", 2, false, &ids, NULL), UTTER_OK);
    assert_int_equal(ut_buf_n_i32(&ids), 3);
    ut_buf_free(&ids);
}

static void encoding_without_memory(void **state)
{
    const ut_bpe *b = *state;
    utter_status st = UTTER_ERR_NOMEM;
    uint64_t k = 1;
    for (; st != UTTER_OK; k++) {
        ut_buf ids;
        ut_buf_init(&ids, 1 << 20);
        assert_true(k < 50);
        ut_alloc_fail_at(k);
        st = ut_bpe_encode(b, "zyxwvutsrqponmlkjihgfedcba some more 12345678901234567890", 55, true,
                           &ids, NULL);
        ut_alloc_fail_at(0);
        if (st != UTTER_OK) {
            assert_int_equal(st, UTTER_ERR_NOMEM);
            assert_int_equal(ids.len, 0);
        }
        ut_buf_free(&ids);
    }
    assert_true(k > 3);
}

static void tokens_and_specials_can_be_asked(void **state)
{
    const ut_bpe *b = *state;
    size_t n;
    assert_int_equal(ut_bpe_n_ranks(b), BPE_N_RANKS);
    assert_int_equal(ut_bpe_size(b), BPE_N_RANKS + 6);
    assert_int_equal(ut_bpe_special(b, "<|begin|>"), BPE_N_RANKS);
    assert_int_equal(ut_bpe_special(b, "<|im_end|>"), BPE_N_RANKS + 1);
    assert_int_equal(ut_bpe_special(b, "<|semantic:10|>"), BPE_N_RANKS + 5);
    assert_int_equal(ut_bpe_special(b, "<|im_end|>xx"), -1);
    assert_int_equal(ut_bpe_special(b, "<|im_end"), -1);
    assert_int_equal(ut_bpe_special(b, ""), -1);
    assert_string_equal(ut_bpe_token(b, BPE_N_RANKS + 5, &n), "<|semantic:10|>");
    assert_int_equal(n, 15);
    assert_memory_equal(ut_bpe_token(b, 65, &n), "A", 1);
    assert_int_equal(n, 1);
    assert_null(ut_bpe_token(b, BPE_N_RANKS + 6, &n));
    assert_null(ut_bpe_token(b, -1, &n));
    assert_int_equal(n, 0);
}

/* ---- Loading -------------------------------------------------------------------------------- */

static void ranks_may_come_in_any_order(void **state)
{
    (void)state;
    /* CR LF, empty lines, skipped `=` lines, no newline at the end: two more tokens. */
    char *ranks = byte_ranks(true, "\n= 256\r\nYWI= 257\r\n\r\nYWFh 256");
    ut_bpe *b;
    ut_err err = {0};
    if (load_strings(&b, ranks, "{\"<|x|>\": 258}", &err) != UTTER_OK)
        fail_msg("%s", err.msg);
    ut_buf ids;
    ut_buf_init(&ids, 1000);
    assert_int_equal(ut_bpe_encode(b, "aabaaa<|x|>", 11, true, &ids, &err), UTTER_OK);
    /* aaa has no way to be made from pairs: only the whole piece could be it. */
    static const int32_t expected[] = {255 - 'a', 257, 255 - 'a', 255 - 'a', 255 - 'a', 258};
    assert_int_equal(ut_buf_n_i32(&ids), 6);
    assert_memory_equal(ids.data, expected, sizeof expected);
    ut_buf_clear(&ids);
    assert_int_equal(ut_bpe_encode(b, "aaa", 3, true, &ids, &err), UTTER_OK);
    assert_int_equal(ut_buf_n_i32(&ids), 1);
    assert_int_equal(ut_buf_i32(&ids)[0], 256);
    ut_buf_free(&ids);
    ut_bpe_free(b);
    ut_free(ranks);
}

static void files_that_are_not_tokenisers_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *more, *specials, *message;
    } bad[] = {
        {"YWI=", "{}", "ranks: line 257 is not a base64 token, a space and a rank"},
        {"YWI= ", "{}", "line 257 is not a base64"},
        {"YWI= 256 1", "{}", "line 257 is not a base64"},
        {"YWI= -1", "{}", "line 257 is not a base64"},
        {"YWI= 0256", "{}", "line 257 is not a base64"},
        {"YWI= 9999999999", "{}", "line 257 is not a base64"},
        {"YWI 256", "{}", "line 257: the token is not base64"},
        {"YW-= 256", "{}", "line 257: the token is not base64"},
        {"Y=I= 256", "{}", "line 257: the token is not base64"},
        {"==== 256", "{}", "line 257: the token is not base64"},
        {"YWJ= 256", "{}", "line 257: the token is not base64"},
        {" 256", "{}", "line 257: the token is not base64"},
        {"YWI= 258\nYWJj 256", "{}", "line 257: rank 258, expected ranks below"},
        {"YWI= 256\nYWJj 7", "{}", "line 258: rank 7 is taken by line 249"},
        {"YWI= 256\nYWI= 257", "{}", "line 258 has the token of line 257"},
        {"", "[]", "specials: the document is an array, expected an object"},
        {"", "{\"a\": 1, \"a\": 2}", "specials"},
        {"", "{\"<|a|>\": 257}", "<|a|> is 257, expected a named token with the id"},
        {"", "{\"<|a|>\": 256, \"<|b|>\": 256}", "<|b|> is 256"},
        {"", "{\"<|a|>\": \"256\"}", "<|a|>"},
        {"", "{\"\": 256}", "named"},
        {"", "", "specials"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char *ranks = byte_ranks(true, bad[i].more);
        ut_bpe *b = (ut_bpe *)1;
        ut_err err = {0};
        assert_int_equal(load_strings(&b, ranks, bad[i].specials, &err), UTTER_ERR_FORMAT);
        assert_null(b);
        if (!strstr(err.msg, bad[i].message))
            fail_msg("\"%s\" does not say \"%s\"", err.msg, bad[i].message);
        ut_free(ranks);
    }
    ut_bpe *b;
    ut_err err = {0};
    assert_int_equal(load_strings(&b, "", "{}", &err), UTTER_ERR_FORMAT);
    ut_err_clear(&err);
    assert_int_equal(load_strings(&b, "= 0\n", "{}", &err), UTTER_ERR_FORMAT);
    assert_string_equal(err.msg, "ranks: no tokens");
    ut_err_clear(&err);
    assert_int_equal(load_strings(&b, "YQ== 0\n", "{}", &err), UTTER_ERR_FORMAT);
    assert_string_equal(err.msg, "ranks: no token for the single byte 0x00");
    ut_err_clear(&err);
    assert_int_equal(ut_bpe_load_tiktoken(&b, "no/such/file", "nor/this", UT_PRESPLIT_S1, &err),
                     UTTER_ERR_NOT_FOUND);
    assert_non_null(strstr(err.msg, "no/such/file"));
}

static void loading_without_memory(void **state)
{
    (void)state;
    utter_status st = UTTER_ERR_NOMEM;
    uint64_t k = 1;
    char *ranks = byte_ranks(false, bpe_merged);
    for (; st != UTTER_OK; k++) {
        ut_bpe *b = (ut_bpe *)1;
        ut_err err = {0};
        assert_true(k < 100);
        ut_alloc_fail_at(k);
        st = load_strings(&b, ranks, bpe_specials, &err);
        ut_alloc_fail_at(0);
        if (st != UTTER_OK) {
            assert_int_equal(st, UTTER_ERR_NOMEM);
            assert_null(b);
        }
        ut_bpe_free(b);
    }
    assert_true(k > 5);
    ut_free(ranks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_become_the_expected_tokens),
        cmocka_unit_test(long_pieces_merge_by_the_definition),
        cmocka_unit_test(a_megabyte_without_a_space),
        cmocka_unit_test(blocks_end_after_400000_characters),
        cmocka_unit_test(failures_leave_the_ids_alone),
        cmocka_unit_test(encoding_without_memory),
        cmocka_unit_test(tokens_and_specials_can_be_asked),
        cmocka_unit_test(ranks_may_come_in_any_order),
        cmocka_unit_test(files_that_are_not_tokenisers_are_refused),
        cmocka_unit_test(loading_without_memory),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
