/* breaks.c - where sentences and clauses end. A full stop is a guess in most languages (initials,
 * abbreviations, ordinals); where a rule doubts, it does not break: two sentences spoken as one
 * sound better than one torn apart. */
#include "text/breaks.h"
#include <string.h>

#define MAX_WORD_BYTES 24 /* of a word before a full stop that may be an abbreviation */
#define MAX_OPENERS    8  /* quotes, brackets and dashes skipped to see how a sentence begins */

/* ---- Characters ----------------------------------------------------------------------------- */

bool ut_is_line_break(uint32_t cp)
{
    return cp == '\n' || cp == '\r' || cp == 0x85 || cp == 0x2028 || cp == 0x2029;
}

/* Is one grapheme cluster with whatever is before it: combining marks, joiners, emoji modifiers. */
static bool is_attached(uint32_t cp)
{
    int32_t state = 0;
    return cp >= 0x300 && !ut_char_break_between('.', cp, &state);
}

bool ut_text_peek(const ut_text *t, size_t at, ut_glyph *g)
{
    *g = (ut_glyph){0, 0, UT_CHAR_OTHER};
    if (at >= t->n)
        return t->ended;
    g->len = ut_utf8_decode(t->s + at, t->n - at, &g->cp);
    g->cls = ut_char_classify(g->cp);
    if (g->cls == UT_CHAR_SPACE && !ut_is_line_break(g->cp)) {
        uint32_t next;
        if (at + g->len >= t->n)
            return t->ended;
        ut_utf8_decode(t->s + at + g->len, t->n - at - g->len, &next);
        if (is_attached(next))
            g->cls = UT_CHAR_OTHER;
    }
    return true;
}

/* Byte offset of the character before `at` (> 0). */
static size_t step_back(const ut_text *t, size_t at)
{
    do
        at--;
    while (at > 0 && ((unsigned char)t->s[at] & 0xc0) == 0x80);
    return at;
}

/* Marks that end a sentence, by what they need to be believed. */
enum {
    MARK_DOT = 1,      /* a full stop: white space, and a word that is no abbreviation */
    MARK_ELLIPSIS = 2, /* white space, and something that begins a sentence */
    MARK_LOUD = 4,     /* ! and ?: white space */
    MARK_STRONG = 8    /* marks of scripts that use them for nothing else: nothing */
};

static unsigned mark_kind(uint32_t cp)
{
    switch (cp) {
    case '.':
        return MARK_DOT;
    case 0x2026:
        return MARK_ELLIPSIS;
    case '!':
    case '?':
    case 0x203c: /* double ! */
    case 0x203d: /* interrobang */
    case 0x2047: /* ?? */
    case 0x2048: /* ?! */
    case 0x2049: /* !? */
        return MARK_LOUD;
    case 0x0589: /* Armenian */
    case 0x061f: /* Arabic ? */
    case 0x06d4: /* Urdu */
    case 0x0964: /* danda */
    case 0x0965:
    case 0x104b: /* Myanmar */
    case 0x1362: /* Ethiopic */
    case 0x1367:
    case 0x1368:
    case 0x17d4: /* Khmer */
    case 0x17d5:
    case 0x3002: /* ideographic full stop, and its halfwidth form below */
    case 0xff01: /* fullwidth ! */
    case 0xff0e: /* fullwidth . */
    case 0xff1f: /* fullwidth ? */
    case 0xff61:
        return MARK_STRONG;
    default:
        return 0;
    }
}

typedef enum clause_kind {
    CLAUSE_NO,
    CLAUSE_SPACED, /* ends a clause before white space: 1,000 and 12:30 stay whole */
    CLAUSE_BARE,   /* needs no space, but no number on both sides */
    CLAUSE_DASH    /* needs white space on both sides */
} clause_kind;

static clause_kind clause_mark(uint32_t cp)
{
    switch (cp) {
    case ',':
    case ';':
    case ':':
    case 0x060c: /* Arabic comma and semicolon */
    case 0x061b:
    case 0x104a: /* Myanmar */
    case 0x1363: /* Ethiopic */
    case 0x1364:
    case 0x1365:
        return CLAUSE_SPACED;
    case 0x2014: /* em dash and longer */
    case 0x2015:
    case 0x2e3a:
    case 0x2e3b:
    case 0x3001: /* ideographic comma */
    case 0xff0c: /* fullwidth , : ; and the halfwidth ideographic comma */
    case 0xff1a:
    case 0xff1b:
    case 0xff64:
        return CLAUSE_BARE;
    case '-':
    case 0x2013:
        return CLAUSE_DASH;
    default:
        return CLAUSE_NO;
    }
}

/* Belongs to the sentence whose mark it follows. An initial quotation mark does in German and other
 * languages, but in Chinese (after a strong mark) it opens the next sentence. */
static bool is_closer(uint32_t cp, bool strong)
{
    if (cp == '"' || cp == '\'' || cp == '*' || cp == '_' || cp == 0xff02 || cp == 0xff07)
        return true;
    if (cp < 0x80)
        return cp == ')' || cp == ']' || cp == '}';
    ut_punct_kind kind = ut_punct_classify(cp);
    return kind == UT_PUNCT_CLOSE || kind == UT_PUNCT_FINAL ||
           (kind == UT_PUNCT_INITIAL && !strong) || is_attached(cp);
}

/* May stand before the first word of a sentence. */
static bool is_opener(uint32_t cp)
{
    if (cp == '"' || cp == '\'' || cp == '*' || cp == '_' || cp == 0xbf || cp == 0xa1)
        return true;
    ut_punct_kind kind = ut_punct_classify(cp);
    return kind == UT_PUNCT_OPEN || kind == UT_PUNCT_INITIAL || kind == UT_PUNCT_FINAL ||
           kind == UT_PUNCT_DASH;
}

/* Scripts that put no space between sentences: kana and Han. */
static bool is_unspaced(uint32_t cp)
{
    return (cp >= 0x3040 && cp <= 0x30ff) || (cp >= 0x3400 && cp <= 0x4dbf) ||
           (cp >= 0x4e00 && cp <= 0x9fff) || (cp >= 0xf900 && cp <= 0xfaff) ||
           (cp >= 0x20000 && cp <= 0x3ffff);
}

/* ---- The word before a full stop ------------------------------------------------------------ */

typedef enum word_kind {
    WORD_PLAIN,
    WORD_NONE,          /* no word: white space or another mark */
    WORD_ABBREVIATION,  /* a sentence goes on after it */
    WORD_BEFORE_NUMBER, /* it goes on if a number follows */
    WORD_EITHER         /* it goes on if a small letter or a number follows */
} word_kind;

/* ASCII entries are in small letters and match any case. */
static const char *const never_last[] = {
    "adm",
    "approx",
    "bros",
    "bzw",
    "ca",
    "capt",
    "cf",
    "cmdr",
    "col",
    "dept",
    "det",
    "dipl",
    "dr",
    "dra",
    "frl",
    "ft",
    "gen",
    "gov",
    "hon",
    "hr",
    "hrsg",
    "ing",
    "insp",
    "lt",
    "maj",
    "mgr",
    "mlle",
    "mme",
    "mr",
    "mrs",
    "ms",
    "msgr",
    "mt",
    "mx",
    "pres",
    "prof",
    "rep",
    "rev",
    "sen",
    "sgt",
    "sig",
    "sra",
    "srta",
    "st",
    "ste",
    "supt",
    "univ",
    "vgl",
    "viz",
    "vs",
    "\xd0\xb8\xd0\xbc", /* Russian: im. */
    "\xd1\x81\xd0\xbc", /* sm. */
    "\xd1\x83\xd0\xbb", /* ul. */
};
static const char *const before_number[] = {"abs", "art",  "bd",  "ch",  "chap", "eq",  "eqs",
                                            "fig", "figs", "kap", "no",  "nos",  "nr",  "num",
                                            "par", "pp",   "sec", "tab", "vol",  "vols"};
static const char *const either[] = {
    "al",
    "apr",
    "aug",
    "ave",
    "blvd",
    "co",
    "corp",
    "dec",
    "ed",
    "eds",
    "etc",
    "ext",
    "feb",
    "hrs",
    "inc",
    "jan",
    "jr",
    "jul",
    "jun",
    "ltd",
    "mar",
    "max",
    "min",
    "nov",
    "oct",
    "sep",
    "sept",
    "sr",
    "usw",
    "\xd0\xb4\xd1\x80", /* Russian: dr. */
    "\xd0\xbf\xd1\x80", /* pr. */
};

static bool is_in(const char *word, size_t n, const char *const *list, size_t n_list)
{
    for (size_t i = 0; i < n_list; i++)
        if (strlen(list[i]) == n && memcmp(list[i], word, n) == 0)
            return true;
    return false;
}

#define IS_IN(word, n, list) is_in((word), (n), (list), sizeof(list) / sizeof *(list))

static bool is_word_char(uint32_t cp)
{
    ut_char_class cls = ut_char_classify(cp);
    return cls == UT_CHAR_LETTER || cls == UT_CHAR_NUMBER || cp == '.' || cp == '\'' || cp == '-' ||
           cp == 0x2019 || ut_char_is_mark(cp);
}

/* Letters in groups of at most two between full stops (U.S, e.g, Ph.D), or a single letter with
 * case that is not the English I: an initial. */
static bool is_initials(const ut_text *t, size_t begin, size_t end)
{
    int group = 0, n_groups = 0;
    bool cased = true;
    for (size_t at = begin; at < end;) {
        uint32_t cp = 0;
        at += ut_utf8_decode(t->s + at, end - at, &cp);
        if (cp == '.') {
            group = 0;
            continue;
        }
        if (ut_char_classify(cp) != UT_CHAR_LETTER || ++group > 2)
            return false;
        n_groups += group == 1;
        cased = cased && (ut_char_is_lower(cp) || ut_char_is_upper(cp));
    }
    if (n_groups > 1)
        return true;
    return n_groups == 1 && group == 1 && cased && t->s[begin] != 'I';
}

static word_kind word_before(const ut_text *t, size_t end)
{
    size_t begin = end;
    bool digits = true;
    while (begin > 0 && end - begin <= MAX_WORD_BYTES) {
        size_t at = step_back(t, begin);
        uint32_t cp = 0;
        ut_utf8_decode(t->s + at, begin - at, &cp);
        if (!is_word_char(cp))
            break;
        digits = digits && ut_char_classify(cp) == UT_CHAR_NUMBER;
        begin = at;
    }
    size_t n = end - begin;
    if (n == 0)
        return WORD_NONE;
    if (n > MAX_WORD_BYTES)
        return WORD_PLAIN;
    if (digits && n <= 2) /* an ordinal or the number of an item */
        return WORD_ABBREVIATION;
    char word[MAX_WORD_BYTES];
    for (size_t i = 0; i < n; i++) {
        char c = t->s[begin + i];
        word[i] = c >= 'A' && c <= 'Z' ? (char)(c + 'a' - 'A') : c;
    }
    if (IS_IN(word, n, never_last) || is_initials(t, begin, end))
        return WORD_ABBREVIATION;
    if (IS_IN(word, n, before_number))
        return WORD_BEFORE_NUMBER;
    return IS_IN(word, n, either) ? WORD_EITHER : WORD_PLAIN;
}

/* ---- Sentences ------------------------------------------------------------------------------ */

/* A place in the text, and how many characters it is from where the rule began to look. */
typedef struct cursor {
    size_t at, chars;
    ut_glyph g; /* the character there */
} cursor;

static bool advance(const ut_text *t, cursor *c)
{
    c->at += c->g.len;
    c->chars++;
    return ut_text_peek(t, c->at, &c->g);
}

/* Move c over white space and what may open a sentence, to its first word or whatever else there
 * is. False: unsure. *far: so much white space that nothing goes on after it. */
static bool find_start(const ut_text *t, cursor *c, bool *far)
{
    int openers = 0, spaces = 0;
    *far = false;
    while (c->g.len) {
        if (c->g.cls == UT_CHAR_SPACE) {
            if (++spaces > UT_BREAK_LOOKAHEAD) {
                *far = true;
                return true;
            }
        } else if (c->g.cls != UT_CHAR_PUNCT || !is_opener(c->g.cp) || ++openers > MAX_OPENERS) {
            return true;
        }
        if (!advance(t, c))
            return false;
    }
    return true;
}

/* Does a sentence end at marks of these kinds before white space? next: what follows it. closed:
 * quotes or brackets close in between. word: before a single full stop. */
static bool ends_sentence(unsigned marks, word_kind word, bool closed, ut_glyph next)
{
    bool lower = next.cls == UT_CHAR_LETTER && ut_char_is_lower(next.cp);
    if (next.len == 0)
        return true;
    if (next.cls == UT_CHAR_PUNCT && (mark_kind(next.cp) || clause_mark(next.cp) != CLAUSE_NO))
        return false;                                /* . . . */
    if (lower && (closed || marks == MARK_ELLIPSIS)) /* "Really?" he asked. */
        return false;
    if (marks != MARK_DOT || closed)
        return true;
    switch (word) {
    case WORD_ABBREVIATION:
        return false;
    case WORD_BEFORE_NUMBER:
        return next.cls != UT_CHAR_NUMBER;
    case WORD_EITHER:
        return !lower && next.cls != UT_CHAR_NUMBER;
    case WORD_NONE:
        return !lower;
    case WORD_PLAIN:
        break;
    }
    return true;
}

/* No-break spaces stand between a French sentence and its closing guillemet: move *c behind it. */
static bool take_spaced_closer(const ut_text *t, cursor *c)
{
    if (c->g.cp != 0xa0 && c->g.cp != 0x202f)
        return true;
    cursor ahead = *c;
    if (!advance(t, &ahead))
        return false;
    if (ahead.g.cp != 0xbb && ahead.g.cp != 0x203a)
        return true;
    if (!advance(t, &ahead))
        return false;
    *c = ahead;
    return true;
}

/* c is at the first of a run of sentence marks. */
static ut_break sentence_break(const ut_text *t, cursor *c)
{
    size_t begin = c->at;
    uint32_t first = c->g.cp;
    unsigned marks = 0, kind, n_dots = 0;
    while (c->chars <= UT_BREAK_LOOKAHEAD && (kind = mark_kind(c->g.cp)) != 0) {
        marks |= kind;
        n_dots += kind == MARK_DOT;
        if (!advance(t, c))
            return UT_BREAK_UNSURE;
    }
    if (marks & (MARK_LOUD | MARK_STRONG))
        marks &= MARK_LOUD | MARK_STRONG;
    else if (n_dots > 1 || (marks & MARK_ELLIPSIS))
        marks = MARK_ELLIPSIS;
    size_t marks_end = c->at;
    while (c->chars <= UT_BREAK_LOOKAHEAD && c->g.len &&
           is_closer(c->g.cp, (marks & MARK_STRONG) != 0))
        if (!advance(t, c))
            return UT_BREAK_UNSURE;
    if (c->chars > UT_BREAK_LOOKAHEAD)
        return UT_BREAK_NONE;

    if (marks & MARK_STRONG) {
        bool clause_goes_on = c->g.cls == UT_CHAR_PUNCT && clause_mark(c->g.cp) != CLAUSE_NO;
        bool decimal_point = first == 0xff0e && c->g.cls == UT_CHAR_NUMBER;
        return clause_goes_on || decimal_point ? UT_BREAK_NONE : UT_BREAK_SENTENCE;
    }
    if (c->g.len && c->g.cls != UT_CHAR_SPACE)
        return marks == MARK_LOUD && is_unspaced(c->g.cp) ? UT_BREAK_SENTENCE : UT_BREAK_NONE;
    if (!take_spaced_closer(t, c))
        return UT_BREAK_UNSURE;
    bool closed = c->at > marks_end, far;
    cursor start = *c;
    if (!find_start(t, &start, &far))
        return UT_BREAK_UNSURE;
    word_kind word = marks == MARK_DOT ? word_before(t, begin) : WORD_PLAIN;
    return far || ends_sentence(marks, word, closed, start.g) ? UT_BREAK_SENTENCE : UT_BREAK_NONE;
}

/* ---- Clauses -------------------------------------------------------------------------------- */

/* c is at a clause mark. */
static ut_break clause_break(const ut_text *t, cursor *c, clause_kind kind)
{
    ut_glyph before = {0, 0, UT_CHAR_SPACE};
    if (c->at > 0) {
        size_t at = step_back(t, c->at);
        before.len = ut_utf8_decode(t->s + at, c->at - at, &before.cp);
        before.cls = ut_char_classify(before.cp);
    }
    do
        if (!advance(t, c))
            return UT_BREAK_UNSURE;
    while (c->chars <= UT_BREAK_LOOKAHEAD && c->g.len &&
           (clause_mark(c->g.cp) == kind || is_closer(c->g.cp, kind == CLAUSE_BARE)));
    if (c->chars > UT_BREAK_LOOKAHEAD)
        return UT_BREAK_NONE;
    bool spaced = c->g.len == 0 || c->g.cls == UT_CHAR_SPACE;
    bool breaks = spaced;
    if (kind == CLAUSE_DASH)
        breaks = spaced && before.cls == UT_CHAR_SPACE;
    else if (kind == CLAUSE_BARE)
        breaks = before.cls != UT_CHAR_NUMBER || c->g.cls != UT_CHAR_NUMBER;
    return breaks ? UT_BREAK_CLAUSE : UT_BREAK_NONE;
}

ut_break ut_break_at(const ut_text *t, size_t at, size_t *end, size_t *n_chars)
{
    cursor c = {at, 0, {0, 0, UT_CHAR_OTHER}};
    if (!ut_text_peek(t, at, &c.g))
        return UT_BREAK_UNSURE;
    clause_kind clause = clause_mark(c.g.cp);
    ut_break result = UT_BREAK_NONE;
    if (mark_kind(c.g.cp))
        result = sentence_break(t, &c);
    else if (clause != CLAUSE_NO)
        result = clause_break(t, &c, clause);
    else
        advance(t, &c);
    *end = c.at;
    *n_chars = c.chars;
    return result;
}
