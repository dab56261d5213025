/* utf8.c - UTF-8, Unicode categories and normal form C. Decoding is ours; categories, grapheme
 * borders and the decomposition and composition tables are utf8proc's. Nothing here keeps state. */
#include "text/utf8.h"
#include "base/alloc.h"
#include <string.h>
#include <utf8proc.h>

size_t ut_utf8_decode(const char *s, size_t n, uint32_t *cp)
{
    const unsigned char *p = (const unsigned char *)s;
    if (n == 0)
        return 0;
    if (p[0] < 0x80) {
        *cp = p[0];
        return 1;
    }
    /* Length, and the range of the second byte that rules out overlong forms, surrogates and
     * values past U+10FFFF (Unicode standard, table 3-7). */
    size_t len;
    unsigned char lo = 0x80, hi = 0xbf;
    if (p[0] >= 0xc2 && p[0] <= 0xdf) {
        len = 2;
    } else if (p[0] >= 0xe0 && p[0] <= 0xef) {
        len = 3;
        if (p[0] == 0xe0)
            lo = 0xa0;
        else if (p[0] == 0xed)
            hi = 0x9f;
    } else if (p[0] >= 0xf0 && p[0] <= 0xf4) {
        len = 4;
        if (p[0] == 0xf0)
            lo = 0x90;
        else if (p[0] == 0xf4)
            hi = 0x8f;
    } else {
        return 0;
    }
    if (n < len || p[1] < lo || p[1] > hi)
        return 0;
    uint32_t v = (p[0] & (0xffu >> (len + 1))) << 6 | (p[1] & 0x3fu);
    for (size_t i = 2; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        v = v << 6 | (p[i] & 0x3fu);
    }
    *cp = v;
    return len;
}

size_t ut_utf8_encode(uint32_t cp, char out[4])
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xc0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 0x3f));
        return 2;
    }
    if (cp >= 0xd800 && cp <= 0xdfff)
        return 0;
    if (cp < 0x10000) {
        out[0] = (char)(0xe0 | cp >> 12);
        out[1] = (char)(0x80 | (cp >> 6 & 0x3f));
        out[2] = (char)(0x80 | (cp & 0x3f));
        return 3;
    }
    if (cp > 0x10ffff)
        return 0;
    out[0] = (char)(0xf0 | cp >> 18);
    out[1] = (char)(0x80 | (cp >> 12 & 0x3f));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3f));
    out[3] = (char)(0x80 | (cp & 0x3f));
    return 4;
}

utter_status ut_utf8_check(const char *s, size_t n, ut_err *err)
{
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        size_t len = ut_utf8_decode(s + i, n - i, &cp);
        if (len == 0)
            return ut_fail(err, UTTER_ERR_TEXT, "invalid UTF-8 at byte %zu (0x%02x)", i,
                           (unsigned)(unsigned char)s[i]);
        i += len;
    }
    return UTTER_OK;
}

/* ---- Categories ----------------------------------------------------------------------------- */

/* The White_Space property; PropList.txt has listed these 25 since Unicode 6.3. */
static bool is_white_space(uint32_t cp)
{
    if (cp < 0x80)
        return cp == ' ' || (cp >= '\t' && cp <= '\r');
    return cp == 0x85 || cp == 0xa0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200a) ||
           cp == 0x2028 || cp == 0x2029 || cp == 0x202f || cp == 0x205f || cp == 0x3000;
}

static utf8proc_category_t category(uint32_t cp)
{
    return cp > 0x10ffff ? UTF8PROC_CATEGORY_CN : utf8proc_category((utf8proc_int32_t)cp);
}

ut_char_class ut_char_classify(uint32_t cp)
{
    if (is_white_space(cp))
        return UT_CHAR_SPACE;
    switch (category(cp)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return UT_CHAR_LETTER;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return UT_CHAR_NUMBER;
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
        return UT_CHAR_PUNCT;
    default:
        return UT_CHAR_OTHER;
    }
}

bool ut_char_is_mark(uint32_t cp)
{
    utf8proc_category_t c = category(cp);
    return c == UTF8PROC_CATEGORY_MN || c == UTF8PROC_CATEGORY_MC || c == UTF8PROC_CATEGORY_ME;
}

bool ut_char_is_lower(uint32_t cp)
{
    return category(cp) == UTF8PROC_CATEGORY_LL;
}

bool ut_char_is_upper(uint32_t cp)
{
    utf8proc_category_t c = category(cp);
    return c == UTF8PROC_CATEGORY_LU || c == UTF8PROC_CATEGORY_LT;
}

ut_punct_kind ut_punct_classify(uint32_t cp)
{
    switch (category(cp)) {
    case UTF8PROC_CATEGORY_PS:
        return UT_PUNCT_OPEN;
    case UTF8PROC_CATEGORY_PE:
        return UT_PUNCT_CLOSE;
    case UTF8PROC_CATEGORY_PI:
        return UT_PUNCT_INITIAL;
    case UTF8PROC_CATEGORY_PF:
        return UT_PUNCT_FINAL;
    case UTF8PROC_CATEGORY_PD:
        return UT_PUNCT_DASH;
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PO:
        return UT_PUNCT_OTHER;
    default:
        return UT_PUNCT_NONE;
    }
}

bool ut_char_break_between(uint32_t a, uint32_t b, int32_t *state)
{
    utf8proc_int32_t s = *state;
    bool border =
        utf8proc_grapheme_break_stateful((utf8proc_int32_t)a, (utf8proc_int32_t)b, &s) != 0;
    *state = border ? 0 : s;
    return border;
}

/* ---- Normal form C -------------------------------------------------------------------------- */

#define NFC_OPTIONS ((utf8proc_option_t)(UTF8PROC_STABLE | UTF8PROC_COMPOSE))
#define FIRST_UNSURE                                                                               \
    0x300u               /* everything below is its own normal form and combines with nothing      \
                          */
#define MAX_DECOMPOSE 18 /* code points that one becomes at most, in any Unicode version */

static unsigned combining_class(int32_t cp)
{
    return (unsigned)utf8proc_get_property(cp)->combining_class;
}

/* Put cps[0..n), all of combining class > 0, into the order of their classes, equal ones staying
 * as they are. Counting, so that a text of nothing but marks is no slower than any other.
 * tmp [n]. */
static void order_marks(int32_t *cps, size_t n, int32_t *tmp)
{
    size_t start[257] = {0};
    bool sorted = true;
    for (size_t i = 1; i < n && sorted; i++)
        sorted = combining_class(cps[i - 1]) <= combining_class(cps[i]);
    if (sorted)
        return;
    for (size_t i = 0; i < n; i++)
        start[combining_class(cps[i]) + 1]++;
    for (int c = 0; c < 256; c++)
        start[c + 1] += start[c];
    for (size_t i = 0; i < n; i++)
        tmp[start[combining_class(cps[i])]++] = cps[i];
    memcpy(cps, tmp, n * sizeof *cps);
}

/* Canonical decomposition of valid UTF-8; out NULL only counts. */
static size_t decompose(const char *s, size_t n, int32_t *out)
{
    size_t total = 0;
    for (size_t i = 0; i < n;) {
        int32_t piece[MAX_DECOMPOSE];
        int bound_class = 0;
        uint32_t cp = 0;
        i += ut_utf8_decode(s + i, n - i, &cp);
        utf8proc_ssize_t len = utf8proc_decompose_char((utf8proc_int32_t)cp, piece, MAX_DECOMPOSE,
                                                       NFC_OPTIONS, &bound_class);
        if (len < 1 || len > MAX_DECOMPOSE) { /* not assigned: stands for itself */
            piece[0] = (int32_t)cp;
            len = 1;
        }
        if (out)
            memcpy(out + total, piece, (size_t)len * sizeof *out);
        total += (size_t)len;
    }
    return total;
}

/* Bytes of cps[0..n) as UTF-8; out NULL only counts. */
static size_t encode(const int32_t *cps, size_t n, char *out)
{
    size_t total = 0;
    for (size_t i = 0; i < n; i++) {
        char c[4];
        size_t len = ut_utf8_encode((uint32_t)cps[i], c);
        if (out)
            memcpy(out + total, c, len);
        total += len;
    }
    return total;
}

/* No code point of valid UTF-8 is one that normalisation can change. */
static bool is_surely_nfc(const char *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        uint32_t cp = 0;
        i += ut_utf8_decode(s + i, n - i, &cp);
        if (cp >= FIRST_UNSURE)
            return false;
    }
    return true;
}

utter_status ut_utf8_nfc(const char *s, size_t n, char **out, size_t *out_n, ut_err *err)
{
    *out = NULL;
    *out_n = 0;
    utter_status st = ut_utf8_check(s, n, err);
    if (st != UTTER_OK)
        return st;
    if (is_surely_nfc(s, n)) {
        *out = ut_malloc(n + 1);
        if (!*out)
            return ut_fail(err, UTTER_ERR_NOMEM, "text of %zu bytes", n);
        if (n)
            memcpy(*out, s, n);
        (*out)[n] = 0;
        *out_n = n;
        return UTTER_OK;
    }

    size_t len = decompose(s, n, NULL);
    int32_t *cps = ut_calloc(len, 2 * sizeof *cps); /* its second half is for order_marks */
    if (!cps) {
        st = ut_fail(err, UTTER_ERR_NOMEM, "text of %zu bytes", n);
        goto done;
    }
    decompose(s, n, cps);
    for (size_t i = 0; i < len;) {
        size_t j = i;
        while (j < len && combining_class(cps[j]) > 0)
            j++;
        if (j > i + 1)
            order_marks(cps + i, j - i, cps + len);
        i = j > i ? j : i + 1;
    }
    utf8proc_ssize_t composed = utf8proc_normalize_utf32(cps, (utf8proc_ssize_t)len, NFC_OPTIONS);
    if (composed < 0) {
        st = ut_fail(err, UTTER_ERR_INTERNAL, "normal form C: %s", utf8proc_errmsg(composed));
        goto done;
    }
    size_t n_bytes = encode(cps, (size_t)composed, NULL);
    char *text = ut_malloc(n_bytes + 1);
    if (!text) {
        st = ut_fail(err, UTTER_ERR_NOMEM, "text of %zu bytes", n);
        goto done;
    }
    encode(cps, (size_t)composed, text);
    text[n_bytes] = 0;
    *out = text;
    *out_n = n_bytes;
done:
    ut_free(cps);
    return st;
}
