/* sentences.c - the sentence splitter's buffer and lengths: scans the text once, character by
 * character, remembers the best places to cut, and decides when nothing that may follow can change
 * the decision. What a mark means is for breaks.c to say. */
#include "text/sentences.h"
#include "base/alloc.h"
#include "base/buf.h"
#include "text/breaks.h"
#include <string.h>

#define MIN_CHARS 16

/* A place to cut at: the text from the head to the end of its last character that is not white
 * space. bytes 0: there is none. */
typedef struct cut {
    size_t bytes, chars;
} cut;

/* The scan of the chunk that begins at the head. Offsets are relative to the head. */
typedef struct scan {
    size_t at, chars;  /* scanned so far */
    cut content;       /* all of it, less white space at the end */
    cut sentence;      /* last sentence end that leaves the chunk within the joining limit */
    cut clause;        /* last clause end within max_chars */
    cut space;         /* last white space */
    cut cluster;       /* last border of grapheme clusters */
    bool speakable;    /* a letter or number was seen, ... */
    size_t first_word; /* ... first here */
    size_t marks_end;  /* marks before this offset have been asked about */
    uint32_t last;     /* the character before `at`, */
    int32_t border;    /* and the state of ut_char_break_between */
    int n_spaces;      /* in the run of white space before `at` */
    int n_lines;       /* line breaks in it; CR LF is one */
} scan;

struct ut_splitter {
    size_t max_chars, join_chars;
    ut_buf text;    /* pushed and not dropped yet */
    size_t head;    /* in text: where the next chunk begins */
    size_t valid;   /* in text: whole UTF-8 sequences reach to here */
    size_t dropped; /* bytes of the whole text before text.data[0] */
    bool ended, failed;
    bool spoken; /* a chunk has come out */
    scan scan;
    size_t chunk_end; /* in text: where the 0 of the borrowed chunk is; 0: none lent */
    char chunk_byte;  /* the byte it replaces */
};

ut_splitter *ut_splitter_new(size_t max_chars)
{
    ut_splitter *s = ut_calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->max_chars = max_chars < MIN_CHARS ? MIN_CHARS : max_chars;
    s->join_chars = s->max_chars / 3 * 2 + s->max_chars % 3 * 2 / 3;
    ut_buf_init(&s->text, UT_SPLITTER_MAX_PENDING);
    return s;
}

void ut_splitter_free(ut_splitter *s)
{
    if (!s)
        return;
    ut_buf_free(&s->text);
    ut_free(s);
}

void ut_splitter_reset(ut_splitter *s)
{
    ut_buf_clear(&s->text);
    s->head = s->valid = s->dropped = s->chunk_end = 0;
    s->ended = s->failed = s->spoken = false;
    s->scan = (scan){0};
}

size_t ut_splitter_pending(const ut_splitter *s)
{
    return s->text.len - s->head;
}

/* ---- Text coming in ------------------------------------------------------------------------- */

/* Put back the byte under the 0 of the chunk that was lent. */
static void take_back_chunk(ut_splitter *s)
{
    if (s->chunk_end)
        s->text.data[s->chunk_end] = (uint8_t)s->chunk_byte;
    s->chunk_end = 0;
}

/* Drop what is before the head once that is at least half, so that each byte moves once. */
static void compact(ut_splitter *s)
{
    if (s->head == 0 || s->head < s->text.len - s->head)
        return;
    ut_buf_consume(&s->text, s->head);
    s->dropped += s->head;
    s->valid -= s->head;
    s->head = 0;
}

/* Can s[0..n), 1 <= n < 4, be the beginning of a valid sequence? */
static bool is_sequence_start(const char *s, size_t n)
{
    unsigned char lead = (unsigned char)s[0];
    char full[4] = {s[0], lead == 0xe0 ? '\xa0' : lead == 0xf0 ? '\x90' : '\x80', '\x80', '\x80'};
    uint32_t cp;
    memcpy(full, s, n);
    return ut_utf8_decode(full, sizeof full, &cp) > n;
}

static utter_status fail_utf8(ut_splitter *s, ut_err *err)
{
    s->failed = true;
    return ut_fail(err, UTTER_ERR_TEXT, "invalid UTF-8 at byte %zu of the text",
                   s->dropped + s->valid);
}

utter_status ut_splitter_push(ut_splitter *s, const char *text, size_t n, ut_err *err)
{
    take_back_chunk(s);
    if (s->failed)
        return fail_utf8(s, err);
    if (s->ended)
        return ut_fail(err, UTTER_ERR_ARG, "text was pushed after its end");
    compact(s);
    if (n > s->text.max - s->text.len)
        return ut_fail(err, UTTER_ERR_LIMIT,
                       "%zu bytes of text wait to be taken, expected at most %zu", s->text.len,
                       s->text.max);
    if (!ut_buf_append(&s->text, text, n))
        return ut_fail(err, UTTER_ERR_NOMEM, "text of %zu bytes", n);
    const char *data = (const char *)s->text.data;
    while (s->valid < s->text.len) {
        uint32_t cp;
        size_t left = s->text.len - s->valid;
        size_t len = ut_utf8_decode(data + s->valid, left, &cp);
        if (len == 0) {
            if (left < 4 && is_sequence_start(data + s->valid, left))
                break;
            s->text.len = s->valid;
            s->text.data[s->valid] = 0;
            return fail_utf8(s, err);
        }
        s->valid += len;
    }
    return UTTER_OK;
}

utter_status ut_splitter_finish(ut_splitter *s, ut_err *err)
{
    take_back_chunk(s);
    s->ended = true;
    if (!s->failed && s->valid == s->text.len)
        return UTTER_OK;
    if (s->text.data) {
        s->text.len = s->valid;
        s->text.data[s->valid] = 0;
    }
    return fail_utf8(s, err);
}

/* ---- Where to cut --------------------------------------------------------------------------- */

/* The chunk would become longer than max_chars: the best cut there is. cluster: the last border of
 * grapheme clusters. */
static size_t best_cut(const scan *sc, const cut *cluster)
{
    const cut *by_rank[] = {&sc->sentence, &sc->clause, &sc->space, cluster, &sc->content};
    size_t i = 0;
    while (by_rank[i]->bytes == 0)
        i++;
    return by_rank[i]->bytes;
}

/* One white space character. True: the text before it is a chunk. */
static bool scan_space(scan *sc, ut_glyph g)
{
    if (sc->n_spaces == 0)
        sc->space = sc->content;
    if (++sc->n_spaces > UT_BREAK_LOOKAHEAD || g.cp == 0x2029)
        return true;
    if (ut_is_line_break(g.cp) && !(g.cp == '\n' && sc->last == '\r') && ++sc->n_lines > 1)
        return true;
    sc->at += g.len;
    sc->chars++;
    sc->last = g.cp;
    sc->border = 0;
    return false;
}

/* One character that is not white space, within max_chars. */
static void scan_glyph(scan *sc, ut_glyph g)
{
    if (!sc->speakable && (g.cls == UT_CHAR_LETTER || g.cls == UT_CHAR_NUMBER)) {
        sc->speakable = true;
        sc->first_word = sc->at;
    }
    sc->at += g.len;
    sc->chars++;
    sc->content = (cut){sc->at, sc->chars};
    sc->last = g.cp;
    sc->n_spaces = sc->n_lines = 0;
}

/* Bytes of the next chunk, from the head, which is not at white space. 0: more text is needed, or
 * there is none. */
static size_t find_cut(ut_splitter *s)
{
    scan *sc = &s->scan;
    ut_text t = {(const char *)s->text.data + s->head, s->valid - s->head, s->ended};
    for (;;) {
        ut_glyph g;
        if (!ut_text_peek(&t, sc->at, &g))
            return 0;
        if (g.len == 0)
            return sc->content.bytes;
        if (g.cls == UT_CHAR_SPACE) {
            if (scan_space(sc, g))
                return sc->content.bytes;
            continue;
        }
        int32_t border = sc->border;
        cut cluster = sc->cluster;
        if (sc->at > 0 && ut_char_break_between(sc->last, g.cp, &border))
            cluster = sc->content;
        if (sc->chars >= s->max_chars || (sc->sentence.bytes && sc->chars >= s->join_chars))
            return best_cut(sc, &cluster);
        if (g.cls == UT_CHAR_PUNCT && sc->at >= sc->marks_end) {
            size_t end, n;
            ut_break kind = ut_break_at(&t, sc->at, &end, &n);
            if (kind == UT_BREAK_UNSURE)
                return 0;
            sc->marks_end = end;
            cut here = {end, sc->chars + n};
            if (kind == UT_BREAK_CLAUSE && here.chars <= s->max_chars)
                sc->clause = here;
            if (kind == UT_BREAK_SENTENCE && here.chars <= s->max_chars) {
                bool joins = here.chars <= s->join_chars;
                if (!s->spoken || (!joins && sc->sentence.bytes == 0))
                    return end;
                if (!joins)
                    return sc->sentence.bytes;
                sc->sentence = here;
            }
        }
        sc->border = border;
        sc->cluster = cluster;
        scan_glyph(sc, g);
    }
}

/* Does text[0..n) end in a character that is not white space? */
static bool ends_in_word(const char *text, size_t n)
{
    size_t at = n;
    uint32_t cp;
    while (at > 0 && ((unsigned char)text[--at] & 0xc0) == 0x80)
        continue;
    return n > 0 && ut_utf8_decode(text + at, n - at, &cp) > 0 &&
           ut_char_classify(cp) != UT_CHAR_SPACE;
}

const char *ut_splitter_begun(ut_splitter *s, size_t *n)
{
    const scan *sc = &s->scan;
    take_back_chunk(s);
    *n = 0;
    if (!s->text.data || !sc->speakable)
        return NULL;
    const char *text = (const char *)s->text.data + s->head;
    /* every later cut is at one of these or behind it: see best_cut */
    size_t end = sc->sentence.bytes ? sc->sentence.bytes
                 : sc->clause.bytes ? sc->clause.bytes
                                    : sc->space.bytes;
    while (end > 0 && !(s->head + end < s->valid && text[end] == ' ' && ends_in_word(text, end)))
        end--;
    if (end == 0 || sc->first_word >= end)
        return NULL;
    *n = end;
    return text;
}

/* Move the head over white space. False: more text is needed. */
static bool skip_space(ut_splitter *s)
{
    ut_text t = {(const char *)s->text.data, s->valid, s->ended};
    ut_glyph g;
    while (s->head < s->valid) {
        if (!ut_text_peek(&t, s->head, &g))
            return false;
        if (g.cls != UT_CHAR_SPACE)
            return true;
        s->head += g.len;
    }
    return false;
}

const char *ut_splitter_next(ut_splitter *s, size_t *n)
{
    *n = 0;
    take_back_chunk(s);
    for (;;) {
        if (s->scan.at == 0 && !skip_space(s))
            return NULL;
        size_t bytes = find_cut(s);
        if (bytes == 0)
            return NULL;
        bool speakable = s->scan.speakable && s->scan.first_word < bytes;
        char *chunk = (char *)s->text.data + s->head;
        s->head += bytes;
        s->scan = (scan){0};
        if (!speakable)
            continue;
        s->spoken = true;
        s->chunk_end = s->head;
        s->chunk_byte = chunk[bytes];
        chunk[bytes] = 0;
        *n = bytes;
        return chunk;
    }
}
