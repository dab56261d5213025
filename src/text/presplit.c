/* presplit.c - the pre-splitters. Each alternative of a pattern is a function that says how many
 * bytes it matches at the start of the text, 0 for none; the first that matches wins, as in Perl.
 * A function that looks at code points reads them once, through peek(). */
#include "text/presplit.h"
#include "text/utf8.h"

typedef struct text_view {
    const char *s;
    size_t n;
} text_view;

typedef struct glyph {
    uint32_t cp;
    size_t len; /* bytes; 0 at the end of the text */
    ut_char_class cls;
} glyph;

static glyph peek(text_view t, size_t at)
{
    glyph g = {0, 0, UT_CHAR_OTHER};
    if (at < t.n) {
        g.len = ut_utf8_decode(t.s + at, t.n - at, &g.cp);
        g.cls = ut_char_classify(g.cp);
    }
    return g;
}

static bool is_newline(glyph g)
{
    return g.len && (g.cp == '\r' || g.cp == '\n');
}

/* (?i:'s|'t|'re|'ve|'m|'ll|'d), first alternative first. Case folding makes U+017F, the long s,
 * an s; no other letter of these has a third form. */
static size_t match_contraction(text_view t)
{
    if (t.n < 2 || t.s[0] != '\'')
        return 0;
    char a = (char)(t.s[1] | 0x20), b = t.n > 2 ? (char)(t.s[2] | 0x20) : 0;
    if (a == 's' || a == 't' || a == 'm' || a == 'd')
        return 2;
    if (((a == 'r' || a == 'v') && b == 'e') || (a == 'l' && b == 'l'))
        return 3;
    if (t.n > 2 && t.s[1] == '\xc5' && t.s[2] == '\xbf')
        return 3;
    return 0;
}

/* \p{L}* from `at` on. */
static size_t skip_letters(text_view t, size_t at)
{
    for (glyph g = peek(t, at); g.len && g.cls == UT_CHAR_LETTER; g = peek(t, at))
        at += g.len;
    return at;
}

/* [^\r\n\p{L}\p{N}]?\p{L}+ */
static size_t match_word(text_view t)
{
    glyph g = peek(t, 0);
    if (g.cls == UT_CHAR_LETTER)
        return skip_letters(t, 0);
    if (is_newline(g) || g.cls == UT_CHAR_NUMBER)
        return 0;
    size_t end = skip_letters(t, g.len);
    return end > g.len ? end : 0;
}

/* ` ?[^\s\p{L}\p{N}]+[\r\n]*` */
static size_t match_symbols(text_view t)
{
    size_t begin = t.s[0] == ' ' ? 1 : 0, at = begin;
    for (glyph g = peek(t, at); g.len && (g.cls == UT_CHAR_PUNCT || g.cls == UT_CHAR_OTHER);
         g = peek(t, at))
        at += g.len;
    if (at == begin)
        return 0;
    while (at < t.n && (t.s[at] == '\r' || t.s[at] == '\n'))
        at++;
    return at;
}

/* \s*[\r\n]+ | \s+(\?!\S) | \s+ : a run of white space up to its last newline; else the whole run,
 * together with a literal `?!` and one more character where they follow. */
static size_t match_space_s1(text_view t)
{
    size_t at = 0, after_newline = 0;
    for (glyph g = peek(t, 0); g.len && g.cls == UT_CHAR_SPACE; g = peek(t, at)) {
        at += g.len;
        if (is_newline(g))
            after_newline = at;
    }
    if (after_newline)
        return after_newline;
    if (at && t.n - at > 2 && t.s[at] == '?' && t.s[at + 1] == '!') {
        glyph g = peek(t, at + 2);
        if (g.cls != UT_CHAR_SPACE)
            return at + 2 + g.len;
    }
    return at;
}

/* (?i:'s|'t|'re|'ve|'m|'ll|'d) | \p{P} | [^\r\n\p{L}\p{N}]?\p{L}+ | \p{N} |
 *  ?[^\s\p{L}\p{N}]+[\r\n]* | \s*[\r\n]+ | \s+(\?!\S) | \s+ */
static size_t next_s1(text_view t)
{
    size_t len = match_contraction(t);
    if (len)
        return len;
    glyph g = peek(t, 0);
    if (g.cls == UT_CHAR_PUNCT || g.cls == UT_CHAR_NUMBER)
        return g.len;
    len = match_word(t);
    if (!len)
        len = match_symbols(t);
    return len ? len : match_space_s1(t);
}

/* \s*[\r\n]+ | \s+(?!\S) | \s+ : a run of white space up to its last newline; else all of it but
 * its last character, which goes with what follows; else, alone or at the end of the text, all. */
static size_t match_space_qwen2(text_view t)
{
    size_t at = 0, last = 0, after_newline = 0;
    for (glyph g = peek(t, 0); g.len && g.cls == UT_CHAR_SPACE; g = peek(t, at)) {
        last = at;
        at += g.len;
        if (is_newline(g))
            after_newline = at;
    }
    if (after_newline)
        return after_newline;
    return at < t.n && last > 0 ? last : at;
}

/* (?i:'s|'t|'re|'ve|'m|'ll|'d) | [^\r\n\p{L}\p{N}]?\p{L}+ | \p{N} |  ?[^\s\p{L}\p{N}]+[\r\n]* |
 * \s*[\r\n]+ | \s+(?!\S) | \s+ */
static size_t next_qwen2(text_view t)
{
    size_t len = match_contraction(t);
    if (!len)
        len = match_word(t);
    if (len)
        return len;
    glyph g = peek(t, 0);
    if (g.cls == UT_CHAR_NUMBER)
        return g.len;
    len = match_symbols(t);
    return len ? len : match_space_qwen2(t);
}

size_t ut_presplit_next(ut_presplit kind, const char *s, size_t n)
{
    text_view t = {s, n};
    switch (kind) {
    case UT_PRESPLIT_S1:
        return next_s1(t);
    case UT_PRESPLIT_QWEN2:
        return next_qwen2(t);
    }
    return n; /* not reached: ut_presplit has no other value */
}
