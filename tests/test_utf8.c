/* test_utf8.c - UTF-8, categories, normal form C, grapheme borders. */
#include "base/alloc.h"
#include "text/utf8.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static bool is_scalar(uint32_t cp)
{
    return cp <= 0x10ffff && !(cp >= 0xd800 && cp <= 0xdfff);
}

static void every_scalar_value_survives(void **state)
{
    (void)state;
    for (uint32_t cp = 0; cp < 0x110010; cp++) {
        char s[4];
        size_t n = ut_utf8_encode(cp, s);
        if (!is_scalar(cp)) {
            assert_int_equal(n, 0);
            continue;
        }
        assert_int_equal(n, cp < 0x80 ? 1 : cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4);
        uint32_t back = UINT32_MAX;
        assert_int_equal(ut_utf8_decode(s, 4, &back), n);
        assert_int_equal(back, cp);
        for (size_t cut = 0; cut < n; cut++)
            assert_int_equal(ut_utf8_decode(s, cut, &back), 0);
    }
}

/* Every sequence of three bytes, against the definition: the shortest encoding of a scalar. */
static void every_three_bytes_are_judged(void **state)
{
    (void)state;
    for (uint32_t v = 0; v < 1u << 24; v++) {
        const unsigned char b[3] = {(unsigned char)(v >> 16), (unsigned char)(v >> 8),
                                    (unsigned char)v};
        size_t expected = 0;
        uint32_t cp = 0;
        if (b[0] < 0x80) {
            expected = 1;
            cp = b[0];
        } else if (b[0] >> 5 == 6 && b[1] >> 6 == 2) {
            cp = (b[0] & 0x1fu) << 6 | (b[1] & 0x3fu);
            expected = cp >= 0x80 ? 2 : 0;
        } else if (b[0] >> 4 == 14 && b[1] >> 6 == 2 && b[2] >> 6 == 2) {
            cp = (b[0] & 0x0fu) << 12 | (b[1] & 0x3fu) << 6 | (b[2] & 0x3fu);
            expected = cp >= 0x800 && is_scalar(cp) ? 3 : 0;
        }
        uint32_t got = 0;
        size_t n = ut_utf8_decode((const char *)b, 3, &got);
        if (n != expected || (n && got != cp))
            fail_msg("%02x %02x %02x: %zu bytes, U+%04X", b[0], b[1], b[2], n, got);
    }
}

static void bad_sequences_are_located(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t n, offset;
    } bad[] = {
        {"\x80", 1, 0},
        {"abc\xff", 4, 3},
        {"ab\xc0\xaf", 4, 2},                   /* overlong / */
        {"\xf0\x8f\xbf\xbf", 4, 0},             /* overlong */
        {"\xf4\x90\x80\x80", 4, 0},             /* U+110000 */
        {"\xe4\xbd\xa0\xed\xa0\x80", 6, 3},     /* a surrogate */
        {"\xe4\xbd\xa0\xe4\xbd", 5, 3},         /* truncated */
        {"\xf0\x9f\x98\x80\xf0\x9f\x98", 7, 4}, /* truncated */
        {"\xf0\x9f\x98\x20", 4, 0},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ut_err err = {0};
        char expected[32];
        snprintf(expected, sizeof expected, "at byte %zu ", bad[i].offset);
        assert_int_equal(ut_utf8_check(bad[i].text, bad[i].n, &err), UTTER_ERR_TEXT);
        assert_non_null(strstr(err.msg, expected));
    }
    assert_int_equal(ut_utf8_check("", 0, NULL), UTTER_OK);
    assert_int_equal(ut_utf8_check("a\0b\xf4\x8f\xbf\xbf", 7, NULL), UTTER_OK);
}

static void classes_follow_unicode(void **state)
{
    (void)state;
    static const struct {
        uint32_t cp;
        ut_char_class cls;
    } known[] = {
        {'a', UT_CHAR_LETTER},    {0xe9, UT_CHAR_LETTER},    {0x4f60, UT_CHAR_LETTER},
        {0x2b0, UT_CHAR_LETTER},  {0x1c5, UT_CHAR_LETTER},   {0x17f, UT_CHAR_LETTER},
        {'7', UT_CHAR_NUMBER},    {0x664, UT_CHAR_NUMBER},   {0xbd, UT_CHAR_NUMBER},
        {0x2167, UT_CHAR_NUMBER}, {'.', UT_CHAR_PUNCT},      {'_', UT_CHAR_PUNCT},
        {0x3002, UT_CHAR_PUNCT},  {0xab, UT_CHAR_PUNCT},     {0x2014, UT_CHAR_PUNCT},
        {'$', UT_CHAR_OTHER},     {'<', UT_CHAR_OTHER},      {0x301, UT_CHAR_OTHER},
        {0x1f600, UT_CHAR_OTHER}, {0x200b, UT_CHAR_OTHER},   {0x180e, UT_CHAR_OTHER},
        {0x1c, UT_CHAR_OTHER},    {0, UT_CHAR_OTHER},        {0xe000, UT_CHAR_OTHER},
        {0xfeff, UT_CHAR_OTHER},  {0x110000, UT_CHAR_OTHER},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (ut_char_classify(known[i].cp) != known[i].cls)
            fail_msg("U+%04X is class %d", known[i].cp, (int)ut_char_classify(known[i].cp));

    int n_spaces = 0;
    for (uint32_t cp = 0; cp < 0x110000; cp++)
        n_spaces += ut_char_classify(cp) == UT_CHAR_SPACE;
    assert_int_equal(n_spaces, 25);
    assert_int_equal(ut_char_classify(0x85), UT_CHAR_SPACE);
    assert_int_equal(ut_char_classify(0xa0), UT_CHAR_SPACE);
    assert_int_equal(ut_char_classify(0x3000), UT_CHAR_SPACE);

    assert_true(ut_char_is_mark(0x301) && ut_char_is_mark(0x93f) && ut_char_is_mark(0x20dd));
    assert_false(ut_char_is_mark('a') || ut_char_is_mark(0x200d));
    assert_true(ut_char_is_lower('a') && ut_char_is_upper('A') && ut_char_is_upper(0x1c5));
    assert_false(ut_char_is_lower(0x4f60) || ut_char_is_upper(0x4f60) || ut_char_is_upper('1'));
    assert_int_equal(ut_punct_classify('('), UT_PUNCT_OPEN);
    assert_int_equal(ut_punct_classify(0x300d), UT_PUNCT_CLOSE);
    assert_int_equal(ut_punct_classify(0x201c), UT_PUNCT_INITIAL);
    assert_int_equal(ut_punct_classify(0x201d), UT_PUNCT_FINAL);
    assert_int_equal(ut_punct_classify('-'), UT_PUNCT_DASH);
    assert_int_equal(ut_punct_classify('"'), UT_PUNCT_OTHER);
    assert_int_equal(ut_punct_classify('a'), UT_PUNCT_NONE);
}

/* Expected forms are those of Python's unicodedata.normalize. */
static void normal_form_c(void **state)
{
    (void)state;
    static const struct {
        const char *text, *nfc;
    } cases[] = {
        {"", ""},
        {"plain caf\xc3\xa9", "plain caf\xc3\xa9"},
        {"cafe\xcc\x81", "caf\xc3\xa9"},
        {"\xe2\x84\xab", "\xc3\x85"},                             /* angstrom sign */
        {"a\xcc\x81\xcc\xa3", "\xe1\xba\xa1\xcc\x81"},            /* the dot below goes first */
        {"\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab", "\xed\x95\x9c"}, /* Hangul jamo */
        {"\xe0\xa5\x98", "\xe0\xa4\x95\xe0\xa4\xbc"},             /* excluded from composition */
        {"\xcd\x84", "\xcc\x88\xcc\x81"},
        {"\xe1\xbe\x82", "\xe1\xbe\x82"},
        {"\xef\xac\x81", "\xef\xac\x81"}, /* a compatibility character stays */
        {"\xf0\x9d\x85\x9e", "\xf0\x9d\x85\x97\xf0\x9d\x85\xa5"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *out;
        size_t n;
        ut_err err = {0};
        assert_int_equal(ut_utf8_nfc(cases[i].text, strlen(cases[i].text), &out, &n, &err),
                         UTTER_OK);
        assert_string_equal(out, cases[i].nfc);
        assert_int_equal(n, strlen(cases[i].nfc));
        ut_free(out);
    }

    char *out = (char *)1;
    size_t n = 1;
    ut_err err = {0};
    assert_int_equal(ut_utf8_nfc("x\xff", 2, &out, &n, &err), UTTER_ERR_TEXT);
    assert_null(out);
    assert_int_equal(ut_utf8_nfc("a\0e\xcc\x81", 5, &out, &n, NULL), UTTER_OK);
    assert_int_equal(n, 4);
    assert_memory_equal(out, "a\0\xc3\xa9", 5);
    ut_free(out);
}

/* Marks in the worst order: sorting them pair by pair would take hours. */
static void normal_form_of_nothing_but_marks(void **state)
{
    (void)state;
    const size_t pairs = 400000;
    char *text = ut_malloc(1 + 4 * pairs), *out;
    size_t n;
    text[0] = 'a';
    for (size_t i = 0; i < pairs; i++)
        memcpy(text + 1 + 4 * i, "\xcc\x81\xcc\xa3", 4);
    assert_int_equal(ut_utf8_nfc(text, 1 + 4 * pairs, &out, &n, NULL), UTTER_OK);
    assert_int_equal(n, 3 + 4 * pairs - 2); /* a and one dot below became U+1EA1 */
    assert_memory_equal(out, "\xe1\xba\xa1\xcc\xa3\xcc\xa3", 7);
    assert_memory_equal(out + 3 + 2 * (pairs - 1), "\xcc\x81\xcc\x81", 4);
    ut_free(out);
    ut_free(text);
}

static void normal_form_without_memory(void **state)
{
    (void)state;
    static const char *const texts[] = {"ascii", "e\xcc\x81"};
    for (int t = 0; t < 2; t++) {
        utter_status st = UTTER_ERR_NOMEM;
        for (uint64_t k = 1; st != UTTER_OK; k++) {
            char *out = (char *)1;
            size_t n;
            ut_err err = {0};
            assert_true(k < 10);
            ut_alloc_fail_at(k);
            st = ut_utf8_nfc(texts[t], strlen(texts[t]), &out, &n, &err);
            ut_alloc_fail_at(0);
            if (st != UTTER_OK) {
                assert_int_equal(st, UTTER_ERR_NOMEM);
                assert_null(out);
            }
            ut_free(out);
        }
    }
}

/* Number of borders inside a text. */
static int borders(const uint32_t *cps, int n)
{
    int32_t s = 0;
    int count = 0;
    for (int i = 0; i + 1 < n; i++)
        count += ut_char_break_between(cps[i], cps[i + 1], &s);
    return count;
}

static void grapheme_borders(void **state)
{
    (void)state;
    static const uint32_t accent[] = {'e', 0x301, 'x'};
    static const uint32_t family[] = {0x1f468, 0x200d, 0x1f469, 0x200d, 0x1f467};
    static const uint32_t flags[] = {0x1f1e9, 0x1f1ea, 0x1f1eb, 0x1f1f7};
    static const uint32_t skin[] = {0x1f44d, 0x1f3fd, '!'};
    static const uint32_t hangul[] = {0x1112, 0x1161, 0x11ab, 0x1112};
    assert_int_equal(borders(accent, 3), 1);
    assert_int_equal(borders(family, 5), 0);
    assert_int_equal(borders(flags, 4), 1);
    assert_int_equal(borders(skin, 3), 1);
    assert_int_equal(borders(hangul, 4), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_scalar_value_survives),
        cmocka_unit_test(every_three_bytes_are_judged),
        cmocka_unit_test(bad_sequences_are_located),
        cmocka_unit_test(classes_follow_unicode),
        cmocka_unit_test(normal_form_c),
        cmocka_unit_test(normal_form_of_nothing_but_marks),
        cmocka_unit_test(normal_form_without_memory),
        cmocka_unit_test(grapheme_borders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
