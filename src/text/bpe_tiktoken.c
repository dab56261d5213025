/* bpe_tiktoken.c - loads a tokeniser from a tiktoken rank file and a JSON object of special
 * tokens. Strict: a file that is not exactly what bpe.h says is refused with the line at fault. */
#include "base/alloc.h"
#include "base/json.h"
#include "base/os.h"
#include "text/bpe.h"
#include "text/bpe_table.h"
#include <string.h>

#define MAX_FILE_BYTES  ((size_t)16 << 20) /* Qwen's 151643 tokens take 2.5 MB */
#define MAX_TOKEN_BYTES 1024               /* the longest in published vocabularies is 256 */
#define MAX_LINE_BYTES  (MAX_TOKEN_BYTES / 3 * 4 + 32)

/* The reference implementation encodes longer texts in blocks of this many characters, and so
 * never joins across a block's end. */
#define BLOCK_CHARS 400000

/* ---- Lines of a rank file ------------------------------------------------------------------- */

typedef struct line_reader {
    const char *at, *end;
    size_t number; /* of the line read last, from 1 */
} line_reader;

typedef struct line {
    const char *s;
    size_t n; /* without \n or \r\n */
} line;

/* The next line that counts: not empty, and its token field is not `=`. */
static bool next_line(line_reader *r, line *out)
{
    while (r->at < r->end) {
        const char *begin = r->at;
        const char *newline = memchr(begin, '\n', (size_t)(r->end - begin));
        const char *end = newline ? newline : r->end;
        r->at = newline ? newline + 1 : r->end;
        r->number++;
        if (end > begin && end[-1] == '\r')
            end--;
        size_t n = (size_t)(end - begin);
        if (n == 0 || (n >= 2 && begin[0] == '=' && begin[1] == ' '))
            continue;
        *out = (line){begin, n};
        return true;
    }
    return false;
}

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Decode canonical base64 (padded, unused bits 0). out holds n / 4 * 3 bytes. 0: not base64. */
static size_t base64_decode(const char *s, size_t n, char *out)
{
    if (n == 0 || n % 4 != 0)
        return 0;
    size_t pad = s[n - 1] != '=' ? 0 : s[n - 2] != '=' ? 1 : 2, len = 0;
    for (size_t i = 0; i < n; i += 4) {
        size_t digits = i + 4 == n ? 4 - pad : 4;
        uint32_t v = 0;
        for (size_t k = 0; k < 4; k++) {
            int d = k < digits ? base64_digit(s[i + k]) : 0;
            if (d < 0)
                return 0;
            v = v << 6 | (uint32_t)d;
        }
        if ((digits == 3 && (v & 0xff)) || (digits == 2 && (v & 0xffff)))
            return 0;
        for (size_t k = 0; k + 1 < digits; k++)
            out[len++] = (char)(v >> (16 - 8 * k));
    }
    return len;
}

/* A decimal number without sign or leading zeros, below 10^9. */
static bool parse_rank(const char *s, size_t n, int32_t *out)
{
    if (n == 0 || n > 9 || (n > 1 && s[0] == '0'))
        return false;
    int32_t v = 0;
    for (size_t i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9')
            return false;
        v = v * 10 + (s[i] - '0');
    }
    *out = v;
    return true;
}

/* ---- Ranks ---------------------------------------------------------------------------------- */

/* Enter one line; its token's bytes go to b->bytes + *used. line_of [n_ranks]: number of the line
 * that has a rank, 0 for none yet. */
static utter_status load_line(ut_bpe *b, const char *name, size_t number, line l, size_t *used,
                              size_t *line_of, ut_err *err)
{
    const char *space = memchr(l.s, ' ', l.n);
    int32_t rank;
    if (l.n > MAX_LINE_BYTES)
        return ut_fail(err, UTTER_ERR_FORMAT, "%s: line %zu has %zu bytes, expected at most %d",
                       name, number, l.n, MAX_LINE_BYTES);
    if (!space || !parse_rank(space + 1, l.n - (size_t)(space + 1 - l.s), &rank))
        return ut_fail(err, UTTER_ERR_FORMAT,
                       "%s: line %zu is not a base64 token, a space and a rank", name, number);
    size_t size = base64_decode(l.s, (size_t)(space - l.s), b->bytes + *used);
    if (size == 0)
        return ut_fail(err, UTTER_ERR_FORMAT, "%s: line %zu: the token is not base64", name,
                       number);
    if (rank >= b->n_ranks)
        return ut_fail(err, UTTER_ERR_FORMAT,
                       "%s: line %zu: rank %d, expected ranks below the number of tokens, %d", name,
                       number, rank, b->n_ranks);
    if (line_of[rank])
        return ut_fail(err, UTTER_ERR_FORMAT, "%s: line %zu: rank %d is taken by line %zu", name,
                       number, rank, line_of[rank]);
    b->token[rank] = (ut_bpe_span){(uint32_t)*used, (uint32_t)size};
    int32_t other = ut_bpe_enter(b, rank);
    if (other != UT_BPE_NONE)
        return ut_fail(err, UTTER_ERR_FORMAT, "%s: line %zu has the token of line %zu", name,
                       number, line_of[other]);
    line_of[rank] = number;
    *used += size;
    return UTTER_OK;
}

/* Fill token, bytes (from 0 on; *used says how far) and the table of b, whose arrays have room. */
static utter_status load_ranks(ut_bpe *b, ut_bpe_source src, size_t *used, ut_err *err)
{
    size_t *line_of = ut_calloc((size_t)b->n_ranks, sizeof *line_of);
    if (!line_of || !ut_bpe_table_init(b, b->n_ranks)) {
        ut_free(line_of);
        return ut_fail(err, UTTER_ERR_NOMEM, "%s: %d tokens", src.name, b->n_ranks);
    }
    line_reader r = {src.data, (const char *)src.data + src.size, 0};
    line l;
    utter_status st = UTTER_OK;
    while (st == UTTER_OK && next_line(&r, &l))
        st = load_line(b, src.name, r.number, l, used, line_of, err);
    const int missing = st == UTTER_OK ? ut_bpe_enter_bytes(b) : -1;
    if (missing >= 0)
        st = ut_fail(err, UTTER_ERR_FORMAT, "%s: no token for the single byte 0x%02x", src.name,
                     (unsigned)missing);
    ut_free(line_of);
    return st;
}

/* ---- Special tokens ------------------------------------------------------------------------- */

static utter_status load_specials(ut_bpe *b, ut_json_value specials, size_t used, ut_err *err)
{
    int32_t id = b->n_ranks;
    for (ut_json_iter it = {0}; ut_json_next(specials, &it); id++) {
        size_t n = strlen(it.key);
        int32_t stored;
        utter_status st = ut_json_get_i32(it.value, 0, INT32_MAX, &stored, err);
        if (st != UTTER_OK)
            return st;
        if (n == 0 || stored != id)
            return ut_json_fail(it.value, err,
                                "is %d, expected a named token with the id that its place gives, "
                                "%d",
                                stored, id);
        memcpy(b->bytes + used, it.key, n + 1);
        b->token[id] = (ut_bpe_span){(uint32_t)used, (uint32_t)n};
        used += n + 1;
    }
    ut_bpe_sort_specials(b);
    return UTTER_OK;
}

/* ---- Loading -------------------------------------------------------------------------------- */

static utter_status load(ut_bpe *b, ut_bpe_source ranks, const ut_json *doc, ut_err *err)
{
    ut_json_value specials = ut_json_root(doc);
    utter_status st = ut_json_get_object(specials, err);
    if (st != UTTER_OK)
        return st;
    line_reader r = {ranks.data, (const char *)ranks.data + ranks.size, 0};
    line l;
    size_t n_bytes = ranks.size; /* more than its tokens have once decoded */
    while (next_line(&r, &l))
        b->n_ranks++;
    if (b->n_ranks == 0)
        return ut_fail(err, UTTER_ERR_FORMAT, "%s: no tokens", ranks.name);
    for (ut_json_iter it = {0}; ut_json_next(specials, &it);)
        n_bytes += strlen(it.key) + 1;
    size_t n_specials = ut_json_size(specials);
    b->size = b->n_ranks + (int32_t)n_specials;
    b->token = ut_calloc((size_t)b->size, sizeof *b->token);
    b->bytes = ut_malloc(n_bytes);
    b->by_name = ut_calloc(n_specials, sizeof *b->by_name);
    if (!b->token || !b->bytes || !b->by_name)
        return ut_fail(err, UTTER_ERR_NOMEM, "%s: %d tokens", ranks.name, b->size);
    size_t used = 0;
    st = load_ranks(b, ranks, &used, err);
    return st == UTTER_OK ? load_specials(b, specials, used, err) : st;
}

utter_status ut_bpe_load_tiktoken_memory(ut_bpe **out, ut_bpe_source ranks, ut_bpe_source special,
                                         ut_presplit presplit, ut_err *err)
{
    *out = NULL;
    if (ranks.size > MAX_FILE_BYTES)
        return ut_fail(err, UTTER_ERR_FORMAT, "%s: %zu bytes, expected at most %zu", ranks.name,
                       ranks.size, MAX_FILE_BYTES);
    if (ranks.size == 0)
        return ut_fail(err, UTTER_ERR_FORMAT, "%s: empty, expected lines of tokens", ranks.name);
    ut_json *doc = NULL;
    ut_bpe *b = NULL;
    utter_status st = ut_json_parse(&doc, special.name, special.data, special.size, err);
    if (st != UTTER_OK)
        goto done;
    b = ut_calloc(1, sizeof *b);
    if (!b) {
        st = ut_fail(err, UTTER_ERR_NOMEM, "%s", ranks.name);
        goto done;
    }
    b->presplit = presplit;
    b->block_chars = BLOCK_CHARS;
    st = load(b, ranks, doc, err);
    if (st != UTTER_OK)
        goto done;
    *out = b;
    b = NULL;
done:
    ut_bpe_free(b);
    ut_json_free(doc);
    return st;
}

utter_status ut_bpe_load_tiktoken(ut_bpe **out, const char *ranks_path, const char *special_path,
                                  ut_presplit presplit, ut_err *err)
{
    *out = NULL;
    ut_map ranks = {0}, special = {0};
    utter_status st = ut_map_open(&ranks, ranks_path, err);
    if (st == UTTER_OK)
        st = ut_map_open(&special, special_path, err);
    if (st == UTTER_OK)
        st = ut_bpe_load_tiktoken_memory(out, (ut_bpe_source){ranks_path, ranks.data, ranks.size},
                                         (ut_bpe_source){special_path, special.data, special.size},
                                         presplit, err);
    ut_map_close(&special);
    ut_map_close(&ranks);
    return st;
}
