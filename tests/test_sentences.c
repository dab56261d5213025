/* test_sentences.c - cutting text: where, how long, and that it does not matter how it arrived. */
#include "base/alloc.h"
#include "base/buf.h"
#include "text/sentences.h"
#include "text/utf8.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

/* What was certain of the next chunk; it only grows, and the chunk begins with it. */
static void check_begun(ut_splitter *s, ut_buf *begun)
{
    size_t n;
    const char *text = ut_splitter_begun(s, &n);
    assert_true(n >= begun->len);
    if (n > 0)
        assert_memory_equal(text, begun->data ? begun->data : (const uint8_t *)"", begun->len);
    ut_buf_clear(begun);
    ut_buf_append(begun, text ? text : "", n);
}

static void check_chunk_begins(const char *chunk, size_t n, ut_buf *begun)
{
    assert_true(n >= begun->len);
    if (begun->len > 0)
        assert_memory_equal(chunk, begun->data, begun->len);
    ut_buf_clear(begun);
}

/* Chunks one after another, a newline after each. step: bytes per push; 0: random sizes. */
static char *split(const char *text, size_t n, size_t max_chars, size_t step)
{
    ut_splitter *s = ut_splitter_new(max_chars);
    ut_buf out;
    ut_err err = {0};
    uint32_t seed = (uint32_t)n * 7919u + (uint32_t)max_chars;
    const char *chunk;
    size_t len;
    ut_buf begun;
    ut_buf_init(&out, (size_t)1 << 24);
    ut_buf_init(&begun, (size_t)1 << 24);
    ut_buf_puts(&out, "");
    for (size_t at = 0; at < n;) {
        seed = seed * 1664525u + 1013904223u;
        size_t k = step ? step : 1 + (seed >> 27);
        if (k > n - at)
            k = n - at;
        assert_int_equal(ut_splitter_push(s, text + at, k, &err), UTTER_OK);
        at += k;
        while ((chunk = ut_splitter_next(s, &len)) != NULL) {
            assert_int_equal(chunk[len], 0);
            check_chunk_begins(chunk, len, &begun);
            ut_buf_append(&out, chunk, len);
            ut_buf_puts(&out, "\n");
        }
        check_begun(s, &begun);
    }
    assert_int_equal(ut_splitter_finish(s, &err), UTTER_OK);
    while ((chunk = ut_splitter_next(s, &len)) != NULL) {
        check_chunk_begins(chunk, len, &begun);
        ut_buf_append(&out, chunk, len);
        ut_buf_puts(&out, "\n");
    }
    assert_int_equal(begun.len, 0);
    ut_buf_free(&begun);
    assert_int_equal(ut_splitter_pending(s), 0);
    ut_splitter_free(s);
    return (char *)out.data;
}

/* ---- Where ---------------------------------------------------------------------------------- */

typedef struct split_case {
    size_t max_chars;
    const char *text, *chunks;
} split_case;

static void check_cases(const split_case *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char *got = split(cases[i].text, strlen(cases[i].text), cases[i].max_chars, 1);
        if (strcmp(got, cases[i].chunks) != 0)
            fail_msg("%s\n--- became\n%s--- expected\n%s", cases[i].text, got, cases[i].chunks);
        ut_free(got);
    }
}

#define CHECK_CASES(cases) check_cases((cases), sizeof(cases) / sizeof *(cases))

/* With max_chars 24, sentences of more than 16 characters stay alone: every cut shows. */
static void sentences_end_where_they_should(void **state)
{
    (void)state;
    static const split_case cases[] = {
        {30, "Mr. Smith and Dr. Who met. They talked about U.S. law.",
         "Mr. Smith and Dr. Who met.\nThey talked about U.S. law.\n"},
        {60, "J. R. R. Tolkien wrote it, e.g. in 1937. Then he paid 3.14 pounds to St. John.",
         "J. R. R. Tolkien wrote it, e.g. in 1937.\nThen he paid 3.14 pounds to St. John.\n"},
        {40, "So do I. Let us go to No. 5 by 10. Downing St.",
         "So do I.\nLet us go to No. 5 by 10. Downing St.\n"},
        {24, "No. I will not do it. Why not, you ask me.",
         "No.\nI will not do it.\nWhy not, you ask me.\n"},
        {30, "Bread, milk, etc. are here. Also eggs, etc. The end of the list.",
         "Bread, milk, etc. are here.\nAlso eggs, etc.\nThe end of the list.\n"},
        {30, "Well... maybe not today. Well... Maybe not tomorrow then.",
         "Well... maybe not today.\nWell...\nMaybe not tomorrow then.\n"},
        {30, "See a.b.com or https://x.y/z?a=b!c now. End of it all here.",
         "See a.b.com or\nhttps://x.y/z?a=b!c now.\nEnd of it all here.\n"},
        {24, "i wrote it small. and this as well. ok?",
         "i wrote it small.\nand this as well.\nok?\n"},
        {30, "What?! No way!!! Are you sure of that?",
         "What?!\nNo way!!!\nAre you sure of that?\n"},
        {60, "Wait . . . what is this? It is tokenised . As you see .",
         "Wait . . . what is this?\nIt is tokenised . As you see .\n"},
        {30, "It ran on v2.0.1. Then on 3.2 it broke down.",
         "It ran on v2.0.1.\nThen on 3.2 it broke down.\n"},
    };
    CHECK_CASES(cases);
}

static void quotes_and_brackets_close_behind_the_mark(void **state)
{
    (void)state;
    static const split_case cases[] = {
        {30, "\"Really?\" he asked her twice. \"Yes.\" She did not look up.",
         "\"Really?\" he asked her twice.\n\"Yes.\"\nShe did not look up.\n"},
        {30, "(It was late.) She went home, [or so.] He stayed all night.",
         "(It was late.)\nShe went home, [or so.]\nHe stayed all night.\n"},
        {30, "He said \xe2\x80\x9cHello there.\xe2\x80\x9d Then he left for good.",
         "He said \xe2\x80\x9cHello there.\xe2\x80\x9d\nThen he left for good.\n"},
        {30, "\xe2\x80\x9eGuten Tag.\xe2\x80\x9c Er ging weiter, ohne Hut.",
         "\xe2\x80\x9eGuten Tag.\xe2\x80\x9c\nEr ging weiter, ohne Hut.\n"},
        {30,
         "\xc2\xab\xc2\xa0"
         "Bonjour.\xc2\xa0\xc2\xbb Il est parti sans rien.",
         "\xc2\xab\xc2\xa0"
         "Bonjour.\xc2\xa0\xc2\xbb\nIl est parti sans rien.\n"},
        {30, "Er kam an. \xc2\xbbHallo.\xc2\xab Er blieb nicht lange.",
         "Er kam an.\n\xc2\xbbHallo.\xc2\xab\nEr blieb nicht lange.\n"},
        {30, "**Note this.** It is *bold.* And it is quite long.",
         "**Note this.**\nIt is *bold.*\nAnd it is quite long.\n"},
    };
    CHECK_CASES(cases);
}

static void marks_of_other_scripts(void **state)
{
    (void)state;
    static const split_case cases[] = {
        /* Each sentence of 6 characters; no two fit into 2/3 of 16. */
        {16,
         "\xe4\xbb\x8a\xe5\xa4\xa9\xe5\xa4\xa9\xe6\xb0\x94\xe5\xa5\xbd\xe3\x80\x82"
         "\xe4\xbd\xa0\xe5\xa5\xbd\xe5\x90\x97\xe4\xbd\xa0\xef\xbc\x9f"
         "\xe5\xa5\xbd\xe5\xa5\xbd\xe5\xa5\xbd\xe5\xa5\xbd\xe5\xa5\xbd\xef\xbc\x81",
         "\xe4\xbb\x8a\xe5\xa4\xa9\xe5\xa4\xa9\xe6\xb0\x94\xe5\xa5\xbd\xe3\x80\x82\n"
         "\xe4\xbd\xa0\xe5\xa5\xbd\xe5\x90\x97\xe4\xbd\xa0\xef\xbc\x9f\n"
         "\xe5\xa5\xbd\xe5\xa5\xbd\xe5\xa5\xbd\xe5\xa5\xbd\xe5\xa5\xbd\xef\xbc\x81\n"},
        /* A Chinese quotation opens behind the full stop and closes behind the next. */
        {16,
         "\xe4\xbb\x96\xe8\xaf\xb4\xe3\x80\x82\xe2\x80\x9c\xe4\xbd\xa0\xe5\xa5\xbd"
         "\xe3\x80\x82\xe2\x80\x9d\xe5\xa5\xbd\xe5\xa5\xbd\xe5\xa5\xbd\xe5\xa5\xbd\xe5\xa5\xbd"
         "\xe5\xa5\xbd\xe3\x80\x82",
         "\xe4\xbb\x96\xe8\xaf\xb4\xe3\x80\x82\n\xe2\x80\x9c\xe4\xbd\xa0\xe5\xa5\xbd"
         "\xe3\x80\x82\xe2\x80\x9d\n\xe5\xa5\xbd\xe5\xa5\xbd\xe5\xa5\xbd\xe5\xa5\xbd\xe5\xa5\xbd"
         "\xe5\xa5\xbd\xe3\x80\x82\n"},
        /* ASCII marks between Han characters; a fullwidth decimal point. */
        {16,
         "\xe4\xbb\x80\xe4\xb9\x88?\xe5\xa5\xbd\xef\xbc\x93\xef\xbc\x8e\xef\xbc\x91\xe5\xa5\xbd",
         "\xe4\xbb\x80\xe4\xb9\x88?"
         "\n\xe5\xa5\xbd\xef\xbc\x93\xef\xbc\x8e\xef\xbc\x91\xe5\xa5\xbd\n"},
        {16, "\xd9\x87\xd9\x84 \xd8\xa3\xd9\x86\xd8\xaa\xd8\x9f \xd9\x86\xd8\xb9\xd9\x85.",
         "\xd9\x87\xd9\x84 \xd8\xa3\xd9\x86\xd8\xaa\xd8\x9f\n\xd9\x86\xd8\xb9\xd9\x85.\n"},
        {16,
         "\xe0\xa4\xaf\xe0\xa4\xb9 \xe0\xa4\xb9\xe0\xa5\x88\xe0\xa5\xa4"
         "\xe0\xa4\xb5\xe0\xa4\xb9 \xe0\xa4\xa5\xe0\xa4\xbe\xe0\xa5\xa4",
         "\xe0\xa4\xaf\xe0\xa4\xb9 \xe0\xa4\xb9\xe0\xa5\x88\xe0\xa5\xa4\n"
         "\xe0\xa4\xb5\xe0\xa4\xb9 \xe0\xa4\xa5\xe0\xa4\xbe\xe0\xa5\xa4\n"},
        {24,
         "\xd0\xad\xd1\x82\xd0\xbe \xd0\xb3. \xd0\x9c\xd0\xbe\xd1\x81\xd0\xba\xd0\xb2\xd0\xb0. "
         "\xd0\x94\xd0\xb0.",
         "\xd0\xad\xd1\x82\xd0\xbe \xd0\xb3. \xd0\x9c\xd0\xbe\xd1\x81\xd0\xba\xd0\xb2\xd0\xb0.\n"
         "\xd0\x94\xd0\xb0.\n"},
    };
    CHECK_CASES(cases);
}

static void blank_lines_always_cut(void **state)
{
    (void)state;
    static const split_case cases[] = {
        {200, "A title\n\nSome text. More.\n \t\nThe end", "A title\nSome text. More.\nThe end\n"},
        {200,
         "a\r\n\r\nb\r\rc\xc2\x85\xc2\x85"
         "d\xe2\x80\xa9"
         "e",
         "a\nb\nc\nd\ne\n"},
        {200, "\n\n  \r\n one  \n\n\n\n\n two \n\n", "one\ntwo\n"},
        /* One line break, CR LF or not, is a space. */
        {200, "one\r\ntwo\nthree\rfour", "one\r\ntwo\nthree\rfour\n"},
        {200, "Go to Dr.\n\nNo", "Go to Dr.\nNo\n"},
    };
    CHECK_CASES(cases);
}

/* ---- How long ------------------------------------------------------------------------------- */

static void sentences_are_joined_and_cut_by_length(void **state)
{
    (void)state;
    static const split_case cases[] = {
        /* First the first sentence; then as many as fit into 20 of 30 characters. */
        {30, "One. Two two. Three three. Four. Five five five five.",
         "One.\nTwo two.\nThree three. Four.\nFive five five five.\n"},
        /* Between 20 and 30: alone. Exactly 30: still whole. 31: cut. */
        {30, "Ah. Bbbb bbbb bbbb bbbb bbbb bb. Cccc cccc cccc cccc cccc ccc.",
         "Ah.\nBbbb bbbb bbbb bbbb bbbb bb.\nCccc cccc cccc cccc cccc ccc.\n"},
        {30, "Aaaa aaaa aaaa aaaa aaaa aaaa. Dddd dddd dddd dddd dddd ddddd.",
         "Aaaa aaaa aaaa aaaa aaaa aaaa.\nDddd dddd dddd dddd dddd\nddddd.\n"},
        /* At the last clause mark that fits; a comma inside a number is none. */
        {30, "He took 1,000 pounds, a hat, and left the house for good.",
         "He took 1,000 pounds, a hat,\nand left the house for good.\n"},
        {30, "It was at 12:30 today: the best time of all times.",
         "It was at 12:30 today:\nthe best time of all times.\n"},
        {30, "The well-known man - a thief - had nothing to say at all.",
         "The well-known man - a thief -\nhad nothing to say at all.\n"},
        {30,
         "The man\xe2\x80\x94"
         "a thief\xe2\x80\x94had nothing left to say.",
         "The man\xe2\x80\x94"
         "a thief\xe2\x80\x94\nhad nothing left to say.\n"},
        /* At a space, else anywhere. */
        {16, "wordy wordy wordy wordy words", "wordy wordy\nwordy wordy\nwords\n"},
        {16, "abcdefghijklmnopqrstuvwxyz", "abcdefghijklmnop\nqrstuvwxyz\n"},
        {16, "a abcdefghijklmnopqrstuvwxyz", "a\nabcdefghijklmnop\nqrstuvwxyz\n"},
        {1, "abcdefghijklmnopqrst", "abcdefghijklmnop\nqrst\n"},
        {16, "aaaaaaaaaaaaaaa, bb", "aaaaaaaaaaaaaaa,\nbb\n"},
    };
    CHECK_CASES(cases);
}

static void clusters_stay_whole_while_they_fit(void **state)
{
    (void)state;
    /* 15 letters, then e with two marks: the border is before the e. */
    static const split_case cases[] = {
        {16, "abcdefghijklmnoe\xcc\x81\xcc\xa3z", "abcdefghijklmno\ne\xcc\x81\xcc\xa3z\n"},
        {16, "abcdefghijklmn\xf0\x9f\x91\xa8\xe2\x80\x8d\xf0\x9f\x91\xa9zz",
         "abcdefghijklmn\n\xf0\x9f\x91\xa8\xe2\x80\x8d\xf0\x9f\x91\xa9zz\n"},
        /* A mark on white space keeps the words together; on a full stop, too. */
        {16, "abcdefghijkl \xcc\x81mnopqr", "abcdefghijkl \xcc\x81mn\nopqr\n"},
        {30, "One.\xcc\x81 Two is a bit longer.", "One.\xcc\x81\nTwo is a bit longer.\n"},
    };
    CHECK_CASES(cases);

    /* One letter with 40 marks is longer than a chunk may be. */
    char text[1 + 2 * 40 + 1] = "a";
    for (int i = 0; i < 40; i++)
        memcpy(text + 1 + 2 * i, "\xcc\x81", 2);
    char *got = split(text, 81, 16, 1);
    assert_int_equal(strchr(got, '\n') - got, 1 + 2 * 15);
    ut_free(got);
}

static void what_cannot_be_spoken_is_skipped(void **state)
{
    (void)state;
    static const split_case cases[] = {
        {100, "", ""},
        {100, " \n\t \n\n ", ""},
        {100, "...", ""},
        {100, "\xf0\x9f\x8e\x89 \xf0\x9f\x98\x80!", ""},
        {100, "***\n\nHello.\n\n---\n\n\xe2\x80\x94\n\nBye.", "Hello.\nBye.\n"},
        {100, "... Hello. ... Bye.", "Hello. ...\nBye.\n"},
        {16, "==================================== ok", "==== ok\n"},
    };
    /* The first chunk that is spoken is still a sentence alone. */
    static const split_case first[] = {{100, "!!!\n\nOne. Two. Three.", "One.\nTwo. Three.\n"}};
    CHECK_CASES(cases);
    CHECK_CASES(first);
}

/* ---- Properties ----------------------------------------------------------------------------- */

static const char *const fragments[] = {
    "a",
    "Word",
    "the",
    "I",
    "U.S",
    "Mr",
    "etc",
    "e.g",
    "12",
    "3.14",
    "No",
    " ",
    " ",
    " ",
    " ",
    "  ",
    "\n",
    "\r\n",
    "\n\n",
    ".",
    ".",
    ".",
    ",",
    ";",
    ":",
    "!",
    "?",
    "...",
    "-",
    "\xe2\x80\x94",
    "\"",
    "'",
    "(",
    ")",
    "\xe2\x80\x9c",
    "\xe2\x80\x9d",
    "\xc2\xab",
    "\xc2\xbb",
    "\xc2\xa0",
    "\xe3\x80\x82",
    "\xef\xbc\x8c",
    "\xe4\xbd\xa0\xe5\xa5\xbd",
    "\xef\xbc\x8e",
    "\xef\xbc\x93",
    "\xcc\x81",
    "\xe2\x80\x8d",
    "\xf0\x9f\x98\x80",
    "\xf0\x9f\x8f\xbd",
    "\xe0\xa5\xa4",
    "\xd0\xb3",
    "abcdefghijklmnopqrstuvwxyz",
    "!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!",
    "                                                                          ",
    "\xe2\x80\xa9",
    "\xe3\x80\x80",
    "*",
};

static size_t random_text(uint32_t *seed, char *out, size_t max)
{
    size_t n = 0;
    *seed = *seed * 1664525u + 1013904223u;
    int count = (int)(*seed >> 24);
    for (int i = 0; i < count; i++) {
        *seed = *seed * 1664525u + 1013904223u;
        const char *f = fragments[(*seed >> 16) % (sizeof fragments / sizeof *fragments)];
        size_t len = strlen(f);
        if (n + len > max)
            break;
        memcpy(out + n, f, len);
        n += len;
    }
    return n;
}

static size_t count_chars(const char *s, size_t n)
{
    size_t chars = 0;
    for (size_t i = 0; i < n; i++)
        chars += ((unsigned char)s[i] & 0xc0) != 0x80;
    return chars;
}

/* Nothing but white space and what cannot be spoken. */
static bool is_silent(const char *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        i += ut_utf8_decode(s + i, n - i, &cp);
        ut_char_class cls = ut_char_classify(cp);
        if (cls == UT_CHAR_LETTER || cls == UT_CHAR_NUMBER)
            return false;
    }
    return true;
}

/* The chunks of text[0..n) lie in it one after another, with nothing spoken between them; each is
 * short enough, trimmed, spoken, and ends between clusters. */
static void check_chunks(const char *text, size_t n, size_t max_chars)
{
    ut_splitter *s = ut_splitter_new(max_chars);
    size_t at = 0, len;
    const char *chunk;
    assert_int_equal(ut_splitter_push(s, text, n, NULL), UTTER_OK);
    assert_int_equal(ut_splitter_finish(s, NULL), UTTER_OK);
    while ((chunk = ut_splitter_next(s, &len)) != NULL) {
        size_t begin = at;
        while (begin + len <= n &&
               (memcmp(text + begin, chunk, len) != 0 || !is_silent(text + at, begin - at)))
            begin++;
        assert_true(begin + len <= n);
        assert_true(count_chars(chunk, len) <= max_chars);
        assert_false(is_silent(chunk, len));
        at = begin + len;
        uint32_t first = 0, last = 0, next = 0;
        size_t tail = len - 1;
        while (((unsigned char)chunk[tail] & 0xc0) == 0x80)
            tail--;
        ut_utf8_decode(chunk, len, &first);
        ut_utf8_decode(chunk + tail, len - tail, &last);
        assert_int_not_equal(ut_char_classify(last), UT_CHAR_SPACE);
        if (at < n) {
            int32_t border = 0;
            ut_utf8_decode(text + at, n - at, &next);
            assert_true(ut_char_break_between(last, next, &border));
        }
    }
    assert_true(is_silent(text + at, n - at));
    ut_splitter_free(s);
}

static void chunks_do_not_depend_on_the_pushes(void **state)
{
    (void)state;
    uint32_t seed = 2024;
    char text[4096];
    for (int round = 0; round < 1500; round++) {
        static const size_t lengths[] = {16, 17, 40, 200, 100000};
        size_t n = random_text(&seed, text, sizeof text);
        size_t max_chars = lengths[round % 5];
        char *at_once = split(text, n, max_chars, n ? n : 1);
        char *bytewise = split(text, n, max_chars, 1);
        char *random = split(text, n, max_chars, 0);
        if (strcmp(at_once, bytewise) != 0 || strcmp(at_once, random) != 0)
            fail_msg("round %d:\n%.*s\n--- at once\n%s--- by bytes\n%s--- random\n%s", round,
                     (int)n, text, at_once, bytewise, random);
        ut_free(at_once);
        ut_free(bytewise);
        ut_free(random);
        check_chunks(text, n, max_chars);
    }
}

/* Chunks come out while text arrives, and what waits is bounded by the chunk length whatever the
 * text; so is the memory: nothing is allocated once the buffer has its size. */
static void memory_is_bounded(void **state)
{
    (void)state;
    static const char *const endless[] = {
        "a",
        " ",
        ".",
        "!",
        "\n",
        ",",
        "\xf0\x9f\x98\x80",
        "\xcc\x81",
        "-",
        "\"",
        "\xe3\x80\x82",
        "Mr. ",
        "A sentence. ",
        "\xe4\xbd\xa0",
        "a,",
        "a.",
        ". ",
        "\" ",
        "'\"",
        "\xe2\x80\x8d",
        "a.\"",
        "x. \"",
    };
    const size_t max_chars = 100, bound = 4 * (max_chars + 3 * 64) + 64;
    for (size_t k = 0; k < sizeof endless / sizeof *endless; k++) {
        ut_splitter *s = ut_splitter_new(max_chars);
        size_t unit = strlen(endless[k]), len;
        uint64_t allocations = 0;
        for (size_t i = 0; i < 200000; i++) {
            assert_int_equal(ut_splitter_push(s, endless[k], unit, NULL), UTTER_OK);
            while (ut_splitter_next(s, &len))
                assert_true(len <= 4 * max_chars);
            if (ut_splitter_pending(s) > bound)
                fail_msg("%zu bytes wait of %zu times \"%s\"", ut_splitter_pending(s), i,
                         endless[k]);
            if (i == 2000)
                allocations = ut_alloc_count();
        }
        assert_int_equal(ut_alloc_count(), allocations);
        ut_splitter_free(s);
    }
}

static void a_megabyte_without_a_space(void **state)
{
    (void)state;
    const size_t n = 1000000;
    char *text = ut_malloc(n);
    memset(text, 'x', n);
    ut_splitter *s = ut_splitter_new(300);
    size_t len, total = 0, chunks = 0;
    assert_int_equal(ut_splitter_push(s, text, n, NULL), UTTER_OK);
    assert_int_equal(ut_splitter_finish(s, NULL), UTTER_OK);
    while (ut_splitter_next(s, &len)) {
        assert_true(len <= 300);
        total += len;
        chunks++;
    }
    assert_int_equal(total, n);
    assert_int_equal(chunks, (n + 299) / 300);
    ut_splitter_free(s);
    ut_free(text);
}

/* ---- Calls ---------------------------------------------------------------------------------- */

static void the_first_sentence_comes_as_soon_as_it_is_certain(void **state)
{
    (void)state;
    ut_splitter *s = ut_splitter_new(200);
    size_t n;
    assert_int_equal(ut_splitter_push(s, "Hello there", 11, NULL), UTTER_OK);
    assert_null(ut_splitter_next(s, &n));
    assert_int_equal(n, 0);
    assert_int_equal(ut_splitter_push(s, "! ", 2, NULL), UTTER_OK);
    assert_null(ut_splitter_next(s, &n)); /* "! he said" could follow a quotation */
    assert_int_equal(ut_splitter_pending(s), 13);
    assert_int_equal(ut_splitter_push(s, "H", 1, NULL), UTTER_OK);
    assert_string_equal(ut_splitter_next(s, &n), "Hello there!");
    assert_int_equal(n, 12);
    assert_int_equal(ut_splitter_pending(s), 2);
    assert_null(ut_splitter_next(s, &n));
    assert_int_equal(ut_splitter_push(s, "ow", 2, NULL), UTTER_OK);
    assert_int_equal(ut_splitter_finish(s, NULL), UTTER_OK);
    assert_string_equal(ut_splitter_next(s, &n), "How");
    assert_null(ut_splitter_next(s, &n));
    assert_null(ut_splitter_next(s, &n));
    ut_err err = {0};
    assert_int_equal(ut_splitter_push(s, "x", 1, &err), UTTER_ERR_ARG);

    ut_splitter_reset(s); /* as new: the first sentence is alone again */
    assert_int_equal(ut_splitter_push(s, "Oh no. Ah yes.", 14, NULL), UTTER_OK);
    assert_int_equal(ut_splitter_finish(s, NULL), UTTER_OK);
    assert_string_equal(ut_splitter_next(s, &n), "Oh no.");
    assert_string_equal(ut_splitter_next(s, &n), "Ah yes.");
    ut_splitter_free(s);
    ut_splitter_free(NULL);
}

static void words_are_certain_before_their_sentence_ends(void **state)
{
    (void)state;
    static const struct {
        const char *text, *begun;
    } cases[] = {{"Hello", ""},
                 {"Hello ", ""}, /* a mark may follow the space */
                 {"Hello t", "Hello"},
                 {"Hello there", "Hello"},
                 {"Hello there, my dear f", "Hello there,"}, /* a cut may still be at the comma */
                 {"Hello my dear friend an", "Hello my dear friend"},
                 {"Hello\nmy d", "Hello\nmy"},
                 {"Hello\nmy", ""},
                 {"... -- .", ""}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ut_splitter *s = ut_splitter_new(100);
        ut_err err = {0};
        size_t n;
        assert_int_equal(ut_splitter_push(s, cases[i].text, strlen(cases[i].text), &err), UTTER_OK);
        assert_null(ut_splitter_next(s, &n));
        const char *begun = ut_splitter_begun(s, &n);
        if (n != strlen(cases[i].begun) || (n > 0 && memcmp(begun, cases[i].begun, n) != 0))
            fail_msg("\"%s\": \"%.*s\"", cases[i].text, (int)n, begun ? begun : "");
        ut_splitter_free(s);
    }
}

static void invalid_text_is_located_in_the_whole(void **state)
{
    (void)state;
    ut_splitter *s = ut_splitter_new(100);
    ut_err err = {0};
    size_t n;
    assert_int_equal(ut_splitter_push(s, "One. Two. \xe4", 11, &err), UTTER_OK);
    assert_string_equal(ut_splitter_next(s, &n), "One.");
    assert_int_equal(ut_splitter_push(s, "\xbd", 1, &err), UTTER_OK);
    assert_int_equal(ut_splitter_push(s, "\xa0 three\xe4\xbdz", 10, &err), UTTER_ERR_TEXT);
    assert_string_equal(err.msg, "invalid UTF-8 at byte 19 of the text");
    ut_err_clear(&err);
    assert_int_equal(ut_splitter_push(s, "more", 4, &err), UTTER_ERR_TEXT);
    assert_string_equal(err.msg, "invalid UTF-8 at byte 19 of the text");
    ut_err_clear(&err);
    assert_int_equal(ut_splitter_finish(s, &err), UTTER_ERR_TEXT);
    assert_string_equal(ut_splitter_next(s, &n), "Two. \xe4\xbd\xa0 three");
    assert_null(ut_splitter_next(s, &n));

    ut_splitter_reset(s);
    ut_err_clear(&err);
    assert_int_equal(ut_splitter_push(s, "ab\xf0\x9f\x98", 5, &err), UTTER_OK);
    assert_int_equal(ut_splitter_finish(s, &err), UTTER_ERR_TEXT);
    assert_string_equal(err.msg, "invalid UTF-8 at byte 2 of the text");
    assert_string_equal(ut_splitter_next(s, &n), "ab");

    static const char *const never[] = {"\xc0", "\xf5", "\xe0\x80", "\xed\xa0", "\xf4\x90", "\x80"};
    for (size_t i = 0; i < sizeof never / sizeof *never; i++) {
        ut_splitter_reset(s);
        assert_int_equal(ut_splitter_push(s, never[i], strlen(never[i]), NULL), UTTER_ERR_TEXT);
    }
    ut_splitter_free(s);
}

static void without_memory(void **state)
{
    (void)state;
    ut_alloc_fail_at(1);
    assert_null(ut_splitter_new(100));
    ut_alloc_fail_at(0);
    ut_splitter *s = ut_splitter_new(100);
    size_t n;
    ut_err err = {0};
    ut_alloc_fail_at(1);
    assert_int_equal(ut_splitter_push(s, "Hello.", 6, &err), UTTER_ERR_NOMEM);
    ut_alloc_fail_at(0);
    assert_int_equal(ut_splitter_push(s, "Hello.", 6, NULL), UTTER_OK);
    assert_int_equal(ut_splitter_finish(s, NULL), UTTER_OK);
    assert_string_equal(ut_splitter_next(s, &n), "Hello.");
    ut_splitter_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sentences_end_where_they_should),
        cmocka_unit_test(quotes_and_brackets_close_behind_the_mark),
        cmocka_unit_test(marks_of_other_scripts),
        cmocka_unit_test(blank_lines_always_cut),
        cmocka_unit_test(sentences_are_joined_and_cut_by_length),
        cmocka_unit_test(clusters_stay_whole_while_they_fit),
        cmocka_unit_test(what_cannot_be_spoken_is_skipped),
        cmocka_unit_test(chunks_do_not_depend_on_the_pushes),
        cmocka_unit_test(memory_is_bounded),
        cmocka_unit_test(a_megabyte_without_a_space),
        cmocka_unit_test(the_first_sentence_comes_as_soon_as_it_is_certain),
        cmocka_unit_test(words_are_certain_before_their_sentence_ends),
        cmocka_unit_test(invalid_text_is_located_in_the_whole),
        cmocka_unit_test(without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
