/* test_bpe_vocab.c - tokenisers of vocab.json and merges.txt: joins by listed pairs, Qwen2's
 * pre-splitter, normal form C, and the loader. Recorded texts of the reference implementation are
 * compared by ut-parity. */
#include "base/alloc.h"
#include "base/json.h"
#include "text/bpe.h"
#include "text/utf8.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

/* Tokens after those of the single bytes, and the joins. bc has no join of its own. */
static const char *const more_tokens[] = {
    "ab", "bc", "abc", "cc", "\304\240a", "12", "..", "\xc4\x8a\xc4\x8a", "\xc3\x83\xc2\xa9"};
enum { N_MORE = sizeof more_tokens / sizeof more_tokens[0], FIRST_MORE = 256 };
enum { AB = 256, BC, ABC, CC, SPACE_A, TWELVE, DOTS, BREAKS, E_ACUTE, END, TURN };

static const char merges[] = "#version: 0.2\n"
                             "a b\n"
                             "c c\n"
                             "ab c\n"
                             "\xc4\xa0 a\n"
                             "1 2\n"
                             ". .\n"
                             "\xc4\x8a \xc4\x8a\r\n"
                             "\xc3\x83 \xc2\xa9";

static const char config[] = "{\"added_tokens_decoder\": {\"265\": {\"content\": \"<|end|>\"},"
                             "\"266\": {\"content\": \"<turn>\", \"special\": false}}}";

/* vocab.json with the single bytes in order of value; `extra` is put in front. */
static char *vocab_json(const char *extra)
{
    ut_buf text;
    ut_json_writer w;
    ut_buf_init(&text, 1 << 20);
    ut_json_writer_init(&w, &text, 0);
    ut_json_begin_object(&w, NULL);
    if (extra)
        ut_json_put_int(&w, extra, FIRST_MORE + N_MORE);
    for (int b = 0, next = 256; b < 256; b++) {
        const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        char key[5] = "";
        ut_utf8_encode((uint32_t)(printable ? b : next++), key);
        ut_json_put_int(&w, key, b);
    }
    for (int i = 0; i < N_MORE; i++)
        ut_json_put_int(&w, more_tokens[i], FIRST_MORE + i);
    assert_true(ut_json_end_all(&w));
    return (char *)text.data;
}

static utter_status load(ut_bpe **out, const char *vocab, const char *joins, const char *added,
                         ut_err *err)
{
    return ut_bpe_load_vocab_memory(out, (ut_bpe_source){"vocab", vocab, strlen(vocab)},
                                    (ut_bpe_source){"merges", joins, strlen(joins)},
                                    (ut_bpe_source){"config", added, strlen(added)},
                                    UT_PRESPLIT_QWEN2, err);
}

static int set_up(void **state)
{
    ut_err err = {0};
    ut_bpe *b;
    char *vocab = vocab_json(NULL);
    if (load(&b, vocab, merges, config, &err) != UTTER_OK)
        print_error("%s\n", err.msg);
    ut_free(vocab);
    *state = b;
    return b ? 0 : -1;
}

static int tear_down(void **state)
{
    ut_bpe_free(*state);
    return 0;
}

static void expect(const ut_bpe *b, const char *text, bool specials, int n, const int32_t *want)
{
    ut_buf ids;
    ut_err err = {0};
    ut_buf_init(&ids, 1 << 20);
    assert_int_equal(ut_bpe_encode(b, text, strlen(text), specials, &ids, &err), UTTER_OK);
    if (ut_buf_n_i32(&ids) != (size_t)n)
        fail_msg("\"%s\": %zu tokens, expected %d", text, ut_buf_n_i32(&ids), n);
    for (int i = 0; i < n; i++)
        if (ut_buf_i32(&ids)[i] != want[i])
            fail_msg("\"%s\": token %d is %d, expected %d", text, i, (int)ut_buf_i32(&ids)[i],
                     (int)want[i]);
    ut_buf_free(&ids);
}

#define EXPECT(text, specials, ...)                                                                \
    expect(b, text, specials, (int)(sizeof((int32_t[]){__VA_ARGS__}) / sizeof(int32_t)),           \
           (int32_t[]){__VA_ARGS__})

/* ---- Encoding ------------------------------------------------------------------------------- */

static void only_listed_pairs_join(void **state)
{
    const ut_bpe *b = *state;
    EXPECT("abc", false, ABC);
    EXPECT("bc", false, 'b', 'c'); /* a token, but nothing makes it */
    EXPECT("abcc", false, AB, CC); /* c c stands before ab c */
    EXPECT("bca", false, 'b', 'c', 'a');
    EXPECT("aab", false, 'a', AB);
}

static void texts_are_split_as_qwen2_does(void **state)
{
    const ut_bpe *b = *state;
    EXPECT("12", false, '1', '2'); /* every digit is a piece */
    EXPECT(" a", false, SPACE_A);
    EXPECT("  a", false, ' ', SPACE_A);
    EXPECT("   ", false, ' ', ' ', ' ');
    EXPECT("...", false, DOTS, '.'); /* punctuation stays together, unlike in S1's pattern */
    EXPECT("\n\n", false, BREAKS);
    EXPECT(" \n\na", false, ' ', BREAKS, 'a');
    EXPECT("a 1", false, 'a', ' ', '1');
    EXPECT("ab'S", false, AB, '\'', 'S');
}

static void texts_are_normalised_first(void **state)
{
    const ut_bpe *b = *state;
    EXPECT("\xc3\xa9", false, E_ACUTE);
    EXPECT("e\xcc\x81", false, E_ACUTE);
}

static void special_tokens_need_to_be_asked_for(void **state)
{
    const ut_bpe *b = *state;
    EXPECT("ab<|end|>c<turn>", true, AB, END, 'c', TURN);
    EXPECT("<turn>", false, '<', 't', 'u', 'r', 'n', '>');
    assert_int_equal(ut_bpe_special(b, "<|end|>"), END);
    assert_int_equal(ut_bpe_size(b), TURN + 1);
    assert_int_equal(ut_bpe_n_ranks(b), END);
    size_t n;
    assert_memory_equal(ut_bpe_token(b, SPACE_A, &n), " a", 2);
    assert_int_equal(n, 2);
}

/* The definition: of all neighbours that are a listed pair, join the leftmost of the first listed;
 * again until there are none. */
static size_t join_slowly(int32_t *ids, size_t n)
{
    static const int32_t pairs[][3] = {{'a', 'b', AB}, {'c', 'c', CC}, {AB, 'c', ABC}};
    for (;;) {
        size_t best = 3, at = 0;
        for (size_t i = 0; i + 1 < n; i++)
            for (size_t r = 0; r < best; r++)
                if (ids[i] == pairs[r][0] && ids[i + 1] == pairs[r][1]) {
                    best = r;
                    at = i;
                }
        if (best == 3)
            return n;
        ids[at] = pairs[best][2];
        memmove(ids + at + 1, ids + at + 2, (n - at - 2) * sizeof *ids);
        n--;
    }
}

static void pieces_join_by_the_definition(void **state)
{
    const ut_bpe *b = *state;
    uint32_t seed = 4711;
    for (int round = 0; round < 300; round++) {
        char s[200];
        int32_t want[200];
        const size_t n = 1 + (size_t)round % 199;
        for (size_t i = 0; i < n; i++) {
            seed = seed * 1664525u + 1013904223u;
            s[i] = "aabbccc"[(seed >> 16) % 7];
            want[i] = s[i];
        }
        s[n] = 0;
        expect(b, s, false, (int)join_slowly(want, n), want);
    }
}

static void failures_leave_the_ids_alone(void **state)
{
    const ut_bpe *b = *state;
    utter_status st = UTTER_ERR_NOMEM;
    ut_buf ids;
    ut_err err = {0};
    ut_buf_init(&ids, 1000);
    assert_true(ut_buf_push_i32(&ids, 42));
    assert_int_equal(ut_bpe_encode(b, "a\xff", 2, false, &ids, &err), UTTER_ERR_TEXT);
    for (uint64_t k = 1; st != UTTER_OK; k++) {
        ut_err_clear(&err);
        assert_true(k < 50);
        assert_int_equal(ut_buf_n_i32(&ids), 1);
        ut_alloc_fail_at(k);
        st = ut_bpe_encode(b, "abc e\xcc\x81", 7, false, &ids, &err);
        ut_alloc_fail_at(0);
        assert_true(st == UTTER_OK || st == UTTER_ERR_NOMEM);
    }
    ut_buf_free(&ids);
}

/* ---- Loading -------------------------------------------------------------------------------- */

static void files_that_are_not_tokenisers_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *extra, *merges, *config, *message;
    } bad[] = {
        {NULL, "a b c d\nb c", "{}", "merges: line 1"},
        {NULL, "a b\nab", "{}", "merges: line 2 is not two tokens"},
        {NULL, "a b\na  b", "{}", "merges: line 2"},
        {NULL, "a b\n\xe4\xbd\xa0 b", "{}", "merges: line 2"},
        {NULL, "a b\nx y", "{}", "merges: line 2: the two tokens or what they become"},
        {NULL, "a b\na b", "{}", "merges: line 2 has a pair for the second time"},
        {"\xe4\xbd\xa0", "", "{}", "is no token"},
        {NULL, "", "{\"added_tokens_decoder\": {\"7\": {\"content\": \"x\"}}}", "has the id 7"},
        {NULL, "", "{\"added_tokens_decoder\": {\"x\": {\"content\": \"x\"}}}", "has the id x"},
        {NULL, "", "{\"added_tokens_decoder\": {\"99999999\": {\"content\": \"x\"}}}", "99999999"},
        {NULL, "", "{\"added_tokens_decoder\": {\"265\": {\"content\": \"\"}}}", "empty content"},
        {NULL, "", "{\"added_tokens_decoder\": {\"265\": {}}}", "content is missing"},
        {NULL, "", "", "config"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char *vocab = vocab_json(bad[i].extra);
        ut_bpe *b = (ut_bpe *)1;
        ut_err err = {0};
        assert_int_equal(load(&b, vocab, bad[i].merges, bad[i].config, &err), UTTER_ERR_FORMAT);
        assert_null(b);
        if (!strstr(err.msg, bad[i].message))
            fail_msg("case %zu: \"%s\" does not say \"%s\"", i, err.msg, bad[i].message);
        ut_free(vocab);
    }
    static const char *const vocabularies[][2] = {
        {"{}", "no tokens"},
        {"{\"a\": 0}", "no token for the single byte 0x00"},
        {"{\"a\": 1}", "a is 1, expected an integer in 0..0"},
        {"{\"a\": 0, \"b\": 0}", "b is 0, which another token has too"},
    };
    for (size_t i = 0; i < sizeof vocabularies / sizeof vocabularies[0]; i++) {
        ut_bpe *b;
        ut_err err = {0};
        assert_int_equal(load(&b, vocabularies[i][0], "", "{}", &err), UTTER_ERR_FORMAT);
        if (!strstr(err.msg, vocabularies[i][1]))
            fail_msg("\"%s\" does not say \"%s\"", err.msg, vocabularies[i][1]);
    }
    ut_bpe *b;
    ut_err err = {0};
    assert_int_equal(
        ut_bpe_load_vocab(&b, "no/such/file", "nor/this", "nor/that", UT_PRESPLIT_QWEN2, &err),
        UTTER_ERR_NOT_FOUND);
}

static void special_ids_may_have_gaps(void **state)
{
    (void)state;
    ut_bpe *b;
    ut_err err = {0};
    char *vocab = vocab_json(NULL);
    assert_int_equal(load(&b, vocab, "",
                          "{\"added_tokens_decoder\": {\"270\": {\"content\": \"<x>\"}, \"266\": "
                          "{\"content\": \"<y>\"}}}",
                          &err),
                     UTTER_OK);
    EXPECT("<y><x>", true, 266, 270);
    ut_bpe_free(b);
    ut_free(vocab);
}

static void loading_without_memory(void **state)
{
    (void)state;
    utter_status st = UTTER_ERR_NOMEM;
    char *vocab = vocab_json(NULL);
    for (uint64_t k = 1; st != UTTER_OK; k++) {
        ut_bpe *b = (ut_bpe *)1;
        ut_err err = {0};
        assert_true(k < 2000);
        ut_alloc_fail_at(k);
        st = load(&b, vocab, merges, config, &err);
        ut_alloc_fail_at(0);
        if (st != UTTER_OK) {
            assert_int_equal(st, UTTER_ERR_NOMEM);
            assert_null(b);
        }
        ut_bpe_free(b);
    }
    ut_free(vocab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_listed_pairs_join),
        cmocka_unit_test(texts_are_split_as_qwen2_does),
        cmocka_unit_test(texts_are_normalised_first),
        cmocka_unit_test(special_tokens_need_to_be_asked_for),
        cmocka_unit_test(pieces_join_by_the_definition),
        cmocka_unit_test(failures_leave_the_ids_alone),
        cmocka_unit_test(files_that_are_not_tokenisers_are_refused),
        cmocka_unit_test(special_ids_may_have_gaps),
        cmocka_unit_test(loading_without_memory),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
