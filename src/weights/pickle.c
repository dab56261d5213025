/* pickle.c - the pickle machine (opcodes as in Python's pickletools, protocols 0 to 5). It has a
 * stack, a memo and no way to call anything: callables are names in a fixed list, and what they
 * would build is known here. */
#include "weights/pickle.h"

#include "base/alloc.h"
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

typedef ut_pickle_value value;

/* ---- The callables -------------------------------------------------------------------------- */

typedef enum meaning {
    REBUILD_TENSOR,    /* (storage, offset, size, stride, ...) -> tensor */
    REBUILD_PARAMETER, /* (tensor, ...) -> that tensor */
    NEW_DICT,          /* () -> dict */
    STORAGE_CLASS,     /* only named, never called */
    METADATA           /* -> something opaque */
} meaning;

typedef struct ut_pickle_callable {
    const char *module, *name;
    meaning meaning;
    ut_dtype dtype; /* of STORAGE_CLASS */
} callable;

static const callable known_callables[] = {
    {"torch._utils", "_rebuild_tensor_v2", REBUILD_TENSOR, 0},
    {"torch._utils", "_rebuild_parameter", REBUILD_PARAMETER, 0},
    {"torch._utils", "_rebuild_parameter_with_state", REBUILD_PARAMETER, 0},
    {"collections", "OrderedDict", NEW_DICT, 0},
    {"torch", "FloatStorage", STORAGE_CLASS, UT_F32},
    {"torch", "BFloat16Storage", STORAGE_CLASS, UT_BF16},
    {"torch", "HalfStorage", STORAGE_CLASS, UT_F16},
    {"torch", "DoubleStorage", STORAGE_CLASS, UT_F64},
    {"torch", "IntStorage", STORAGE_CLASS, UT_I32},
    {"torch", "LongStorage", STORAGE_CLASS, UT_I64},
    {"torch", "CharStorage", STORAGE_CLASS, UT_I8},
    {"torch", "ByteStorage", STORAGE_CLASS, UT_U8},
    {"torch", "BoolStorage", STORAGE_CLASS, UT_BOOL},
    /* What training scripts leave beside the tensors. */
    {"torch", "Size", METADATA, 0},
    {"torch", "device", METADATA, 0},
    {"torch", "float32", METADATA, 0},
    {"torch", "float16", METADATA, 0},
    {"torch", "bfloat16", METADATA, 0},
    {"torch.serialization", "_get_layout", METADATA, 0},
    {"collections", "defaultdict", METADATA, 0},
    {"argparse", "Namespace", METADATA, 0},
    {"pathlib", "PosixPath", METADATA, 0},
    {"_codecs", "encode", METADATA, 0},
    {"numpy", "dtype", METADATA, 0},
    {"numpy", "ndarray", METADATA, 0},
    {"numpy.core.multiarray", "scalar", METADATA, 0},
    {"numpy.core.multiarray", "_reconstruct", METADATA, 0},
    {"numpy._core.multiarray", "scalar", METADATA, 0},
    {"numpy._core.multiarray", "_reconstruct", METADATA, 0},
    {"builtins", "set", METADATA, 0},
    {"builtins", "list", METADATA, 0},
    {"builtins", "dict", METADATA, 0},
    {"builtins", "int", METADATA, 0},
    {"builtins", "float", METADATA, 0},
    {"__builtin__", "set", METADATA, 0},
    {"__builtin__", "list", METADATA, 0},
    {"__builtin__", "dict", METADATA, 0},
    {"__builtin__", "int", METADATA, 0},
    {"__builtin__", "float", METADATA, 0},
};

/* ---- The machine ---------------------------------------------------------------------------- */

typedef struct machine {
    const char *file;
    const uint8_t *data; /* [n] */
    size_t n;
    size_t at; /* next byte */
    size_t op; /* first byte of the current opcode, for messages */
    value *stack;
    size_t n_stack, cap_stack;
    value *memo; /* [cap_memo]; entries not set are marks */
    size_t n_memo, cap_memo;
    const ut_pickle_dict *result;
    ut_arena *arena;
    utter_status st; /* of the first failure; handlers return false then */
    ut_err *err;
} machine;

#define FAIL(m, fmt, ...)                                                                          \
    ((m)->st = ut_fail((m)->err, UTTER_ERR_FORMAT, "%s: data.pkl byte %zu: " fmt, (m)->file,       \
                       (m)->op, __VA_ARGS__),                                                      \
     false)

static bool no_memory(machine *m)
{
    m->st = ut_fail(m->err, UTTER_ERR_NOMEM, "%s: data.pkl of %zu bytes", m->file, m->n);
    return false;
}

static const char *kind_text(ut_pickle_kind kind)
{
    static const char *const text[] = {
        [UT_PICKLE_OPAQUE] = "another object", [UT_PICKLE_INT] = "an integer",
        [UT_PICKLE_STRING] = "a string",       [UT_PICKLE_TUPLE] = "a tuple",
        [UT_PICKLE_DICT] = "a dict",           [UT_PICKLE_STORAGE] = "a storage",
        [UT_PICKLE_TENSOR] = "a tensor",       [UT_PICKLE_CALLABLE] = "a class or function",
        [UT_PICKLE_MARK] = "a mark",
    };
    return text[kind];
}

static bool expect(machine *m, const char *what, ut_pickle_kind want, value found)
{
    return found.kind == want ||
           FAIL(m, "%s is %s, expected %s", what, kind_text(found.kind), kind_text(want));
}

/* n bytes of operand. */
static bool take(machine *m, uint64_t n, const uint8_t **out)
{
    if (n > m->n - m->at)
        return FAIL(m, "%" PRIu64 " bytes of operand, but only %zu are left", n, m->n - m->at);
    *out = m->data + m->at;
    m->at += (size_t)n;
    return true;
}

static bool skip(machine *m, uint64_t n)
{
    const uint8_t *p;
    return take(m, n, &p);
}

/* A little-endian unsigned integer of n <= 8 bytes. */
static bool take_uint(machine *m, size_t n, uint64_t *out)
{
    const uint8_t *p;
    if (!take(m, n, &p))
        return false;
    *out = 0;
    for (size_t i = n; i-- > 0;)
        *out = *out << 8 | p[i];
    return true;
}

static bool push(machine *m, value v)
{
    if (m->n_stack == m->cap_stack) {
        const size_t cap = m->cap_stack > 0 ? 2 * m->cap_stack : 256;
        value *grown = ut_realloc(m->stack, cap, sizeof *grown);
        if (!grown)
            return no_memory(m);
        m->stack = grown;
        m->cap_stack = cap;
    }
    m->stack[m->n_stack++] = v;
    return true;
}

static bool push_int(machine *m, int64_t i)
{
    return push(m, (value){.kind = UT_PICKLE_INT, .u.integer = i});
}

static bool push_opaque(machine *m)
{
    return push(m, (value){.kind = UT_PICKLE_OPAQUE});
}

/* There must be n values on top of the stack, no mark among them. */
static bool need(machine *m, size_t n)
{
    bool enough = n <= m->n_stack;
    for (size_t i = 0; i < n && enough; i++)
        enough = m->stack[m->n_stack - 1 - i].kind != UT_PICKLE_MARK;
    return enough ||
           FAIL(m, "opcode 0x%02x finds fewer than %zu values on the stack", m->data[m->op], n);
}

static bool peek(machine *m, value *out)
{
    if (!need(m, 1))
        return false;
    *out = m->stack[m->n_stack - 1];
    return true;
}

static bool pop(machine *m, value *out)
{
    if (!peek(m, out))
        return false;
    m->n_stack--;
    return true;
}

/* How many values lie above the topmost mark. */
static bool count_to_mark(machine *m, size_t *n)
{
    for (size_t i = m->n_stack; i-- > 0;) {
        if (m->stack[i].kind == UT_PICKLE_MARK) {
            *n = m->n_stack - 1 - i;
            return true;
        }
    }
    return FAIL(m, "opcode 0x%02x finds no mark on the stack", m->data[m->op]);
}

/* Drop everything down to the topmost mark, and the mark. */
static bool pop_to_mark(machine *m)
{
    size_t n;
    if (!count_to_mark(m, &n))
        return false;
    m->n_stack -= n + 1;
    return true;
}

/* ---- Strings, numbers, memo ----------------------------------------------------------------- */

/* A length of n_length bytes and as many bytes of text, or of no interest. */
static bool op_bytes(machine *m, size_t n_length, bool text)
{
    uint64_t length;
    const uint8_t *p;
    if (!take_uint(m, n_length, &length) || !take(m, length, &p))
        return false;
    if (!text)
        return push_opaque(m);
    const value v = {.kind = UT_PICKLE_STRING, .n = (uint32_t)length, .u.string = (const char *)p};
    return push(m, v);
}

/* BININT of 4 bytes is signed, the shorter ones are not. */
static bool op_int(machine *m, size_t n)
{
    uint64_t u;
    if (!take_uint(m, n, &u))
        return false;
    return push_int(m, n == 4 && u > INT32_MAX ? (int64_t)u - ((int64_t)1 << 32) : (int64_t)u);
}

/* Two's complement of any length; those that do not fit int64_t describe no tensor. */
static bool op_long(machine *m, size_t n_length)
{
    uint64_t length;
    const uint8_t *p;
    if (!take_uint(m, n_length, &length) || !take(m, length, &p))
        return false;
    if (length > 8)
        return push_opaque(m);
    uint64_t u = length > 0 && p[length - 1] & 0x80 ? UINT64_MAX : 0;
    for (size_t i = (size_t)length; i-- > 0;)
        u = u << 8 | p[i];
    int64_t i;
    memcpy(&i, &u, sizeof i);
    return push_int(m, i);
}

static bool memo_put(machine *m, uint64_t id)
{
    value v;
    if (!peek(m, &v))
        return false;
    if (id >= m->at) /* ids are counted up, and every entry takes a byte or more to make */
        return FAIL(m, "memo entry %" PRIu64 " is out of sequence", id);
    if (id >= m->cap_memo) {
        const size_t cap = 2 * (size_t)id + 256;
        value *grown = ut_realloc(m->memo, cap, sizeof *grown);
        if (!grown)
            return no_memory(m);
        for (size_t i = m->cap_memo; i < cap; i++)
            grown[i] = (value){.kind = UT_PICKLE_MARK};
        m->memo = grown;
        m->cap_memo = cap;
    }
    m->n_memo += m->memo[id].kind == UT_PICKLE_MARK;
    m->memo[id] = v;
    return true;
}

static bool op_put(machine *m, size_t n)
{
    uint64_t id;
    return take_uint(m, n, &id) && memo_put(m, id);
}

static bool op_get(machine *m, size_t n)
{
    uint64_t id;
    if (!take_uint(m, n, &id))
        return false;
    if (id >= m->cap_memo || m->memo[id].kind == UT_PICKLE_MARK)
        return FAIL(m, "memo entry %" PRIu64 " was never set", id);
    return push(m, m->memo[id]);
}

/* ---- Tuples, dicts, what is opaque ---------------------------------------------------------- */

/* Replace the top n values, and the mark below them if there is one, by a tuple. */
static bool make_tuple(machine *m, size_t n, bool marked)
{
    value *item = NULL;
    if (!need(m, n))
        return false;
    if (n > 0) {
        item = ut_arena_alloc(m->arena, n * sizeof *item);
        if (!item)
            return no_memory(m);
        memcpy(item, m->stack + m->n_stack - n, n * sizeof *item);
    }
    m->n_stack -= n + marked;
    return push(m, (value){.kind = UT_PICKLE_TUPLE, .n = (uint32_t)n, .u.item = item});
}

static bool op_tuple(machine *m)
{
    size_t n;
    return count_to_mark(m, &n) && make_tuple(m, n, true);
}

/* Items for the opaque object below them. */
static bool op_append(machine *m, bool marked)
{
    value v;
    if (!(marked ? pop_to_mark(m) : pop(m, &v)) || !peek(m, &v))
        return false;
    return v.kind == UT_PICKLE_OPAQUE ||
           FAIL(m, "what items are appended to is %s, expected a list", kind_text(v.kind));
}

static bool push_dict(machine *m)
{
    ut_pickle_dict *d = ut_arena_alloc(m->arena, sizeof *d);
    return d ? push(m, (value){.kind = UT_PICKLE_DICT, .u.dict = d}) : no_memory(m);
}

static bool dict_append(machine *m, ut_pickle_dict *d, const value *items, size_t n_pairs)
{
    if (n_pairs > d->cap - d->n) {
        const size_t cap = 2 * d->n + n_pairs;
        struct ut_pickle_pair *grown = ut_arena_alloc(m->arena, cap * sizeof *grown);
        if (!grown)
            return no_memory(m);
        if (d->n > 0)
            memcpy(grown, d->pair, d->n * sizeof *grown);
        d->pair = grown;
        d->cap = cap;
    }
    for (size_t i = 0; i < n_pairs; i++)
        d->pair[d->n++] = (struct ut_pickle_pair){items[2 * i], items[2 * i + 1]};
    return true;
}

/* The top n values are keys and values for the dict below them (and below the mark). */
static bool set_items(machine *m, size_t n, bool marked)
{
    if (n % 2 != 0)
        return FAIL(m, "%zu keys and values, expected pairs", n);
    if (!need(m, n))
        return false;
    const value *items = m->stack + m->n_stack - n;
    m->n_stack -= n + marked; /* the values stay where they are until something is pushed */
    value target;
    if (!peek(m, &target))
        return false;
    if (target.kind == UT_PICKLE_OPAQUE)
        return true;
    return expect(m, "what items are set in", UT_PICKLE_DICT, target) &&
           dict_append(m, target.u.dict, items, n / 2);
}

static bool op_set_items(machine *m)
{
    size_t n;
    return count_to_mark(m, &n) && set_items(m, n, true);
}

/* ---- Callables and what they build ---------------------------------------------------------- */

static bool push_callable(machine *m, const char *module, size_t n_module, const char *name,
                          size_t n_name)
{
    for (size_t i = 0; i < sizeof known_callables / sizeof known_callables[0]; i++) {
        const callable *c = &known_callables[i];
        if (strlen(c->module) == n_module && memcmp(c->module, module, n_module) == 0 &&
            strlen(c->name) == n_name && memcmp(c->name, name, n_name) == 0)
            return push(m, (value){.kind = UT_PICKLE_CALLABLE, .u.callable = c});
    }
    return FAIL(m, "it uses %.*s.%.*s, which is not part of a dict of tensors",
                (int)(n_module < 100 ? n_module : 100), module, (int)(n_name < 100 ? n_name : 100),
                name);
}

/* GLOBAL: two lines of text. */
static bool op_global(machine *m)
{
    const char *line[2];
    size_t n[2];
    for (int i = 0; i < 2; i++) {
        line[i] = (const char *)m->data + m->at;
        const char *end = m->at < m->n ? memchr(line[i], '\n', m->n - m->at) : NULL;
        if (!end)
            return FAIL(m, "%s", "the name of a global has no end");
        n[i] = (size_t)(end - line[i]);
        m->at += n[i] + 1;
    }
    return push_callable(m, line[0], n[0], line[1], n[1]);
}

static bool op_stack_global(machine *m)
{
    value module, name;
    return pop(m, &name) && pop(m, &module) &&
           expect(m, "the module of a global", UT_PICKLE_STRING, module) &&
           expect(m, "the name of a global", UT_PICKLE_STRING, name) &&
           push_callable(m, module.u.string, module.n, name.u.string, name.n);
}

/* ('storage', class, key, device, number of elements) -> storage. */
static bool op_persistent_id(machine *m)
{
    value id;
    if (!pop(m, &id) || !expect(m, "a persistent id", UT_PICKLE_TUPLE, id))
        return false;
    const value *part = id.u.item;
    if (id.n != 5 || part[0].kind != UT_PICKLE_STRING || part[0].n != 7 ||
        memcmp(part[0].u.string, "storage", 7) != 0)
        return FAIL(m, "a persistent id of %u parts, expected the 5 of a storage", id.n);
    if (!expect(m, "the class of a storage", UT_PICKLE_CALLABLE, part[1]) ||
        !expect(m, "the key of a storage", UT_PICKLE_STRING, part[2]) ||
        !expect(m, "the size of a storage", UT_PICKLE_INT, part[4]))
        return false;
    const callable *c = part[1].u.callable;
    if (c->meaning != STORAGE_CLASS)
        return FAIL(m, "the class of a storage is %s.%s, expected torch.FloatStorage or the like",
                    c->module, c->name);
    ut_pickle_storage *s = ut_arena_alloc(m->arena, sizeof *s);
    if (!s)
        return no_memory(m);
    *s = (ut_pickle_storage){.key = part[2].u.string,
                             .n_key = part[2].n,
                             .dtype = c->dtype,
                             .n_elements = part[4].u.integer};
    return push(m, (value){.kind = UT_PICKLE_STORAGE, .u.storage = s});
}

static bool copy_integers(machine *m, const char *what, value tuple, int64_t *out)
{
    for (uint32_t i = 0; i < tuple.n; i++) {
        if (!expect(m, what, UT_PICKLE_INT, tuple.u.item[i]))
            return false;
        out[i] = tuple.u.item[i].u.integer;
    }
    return true;
}

/* (storage, offset, size, stride, requires_grad, hooks, ...) -> tensor. */
static bool rebuild_tensor(machine *m, value args)
{
    const value *part = args.u.item;
    if (args.n < 4)
        return FAIL(m, "a tensor of %u parts, expected 4 or more", args.n);
    if (!expect(m, "a tensor's storage", UT_PICKLE_STORAGE, part[0]) ||
        !expect(m, "a tensor's offset", UT_PICKLE_INT, part[1]) ||
        !expect(m, "a tensor's size", UT_PICKLE_TUPLE, part[2]) ||
        !expect(m, "a tensor's stride", UT_PICKLE_TUPLE, part[3]))
        return false;
    if (part[2].n > UT_MAX_DIMS || part[3].n != part[2].n)
        return FAIL(m, "a tensor of %u dimensions with %u strides, expected as many and at most %d",
                    part[2].n, part[3].n, UT_MAX_DIMS);
    ut_pickle_tensor *t = ut_arena_alloc(m->arena, sizeof *t);
    if (!t)
        return no_memory(m);
    t->storage = part[0].u.storage;
    t->offset = part[1].u.integer;
    t->n_dims = (int)part[2].n;
    return copy_integers(m, "an extent of a tensor", part[2], t->dim) &&
           copy_integers(m, "a stride of a tensor", part[3], t->stride) &&
           push(m, (value){.kind = UT_PICKLE_TENSOR, .u.tensor = t});
}

/* callable, arguments -> object. */
static bool op_call(machine *m)
{
    value args, what;
    if (!pop(m, &args) || !pop(m, &what) ||
        !expect(m, "what is called", UT_PICKLE_CALLABLE, what) ||
        !expect(m, "the arguments of a call", UT_PICKLE_TUPLE, args))
        return false;
    const callable *c = what.u.callable;
    switch (c->meaning) {
    case REBUILD_TENSOR:
        return rebuild_tensor(m, args);
    case REBUILD_PARAMETER:
        if (args.n == 0)
            return FAIL(m, "%s", "a parameter without data");
        return expect(m, "a parameter's data", UT_PICKLE_TENSOR, args.u.item[0]) &&
               push(m, args.u.item[0]);
    case NEW_DICT:
        if (args.n != 0)
            return FAIL(m, "OrderedDict is made from %u arguments, expected none", args.n);
        return push_dict(m);
    case METADATA:
        return push_opaque(m);
    case STORAGE_CLASS:
        break;
    }
    return FAIL(m, "%s.%s is called, expected only to be named", c->module, c->name);
}

/* An object's state, such as the _metadata of an OrderedDict: of no interest. */
static bool op_build(machine *m)
{
    value v;
    if (!pop(m, &v) || !peek(m, &v))
        return false;
    return v.kind == UT_PICKLE_DICT || v.kind == UT_PICKLE_OPAQUE || v.kind == UT_PICKLE_TENSOR ||
           FAIL(m, "what gets a state is %s, expected an object", kind_text(v.kind));
}

/* ---- Running -------------------------------------------------------------------------------- */

static bool op_proto(machine *m)
{
    uint64_t version;
    if (!take_uint(m, 1, &version))
        return false;
    return version <= 5 || FAIL(m, "protocol %d, expected 2 to 5", (int)version);
}

static bool op_stop(machine *m)
{
    value v;
    if (!pop(m, &v) || !expect(m, "the checkpoint", UT_PICKLE_DICT, v))
        return false;
    m->result = v.u.dict;
    return true;
}

static bool step(machine *m)
{
    value v;
    switch (m->data[m->at++]) {
    case 0x80: /* PROTO */
        return op_proto(m);
    case 0x95: /* FRAME */
        return skip(m, 8);
    case '.': /* STOP */
        return op_stop(m);
    case '(': /* MARK */
        return push(m, (value){.kind = UT_PICKLE_MARK});
    case '0': /* POP */
        return pop(m, &v);
    case '1': /* POP_MARK */
        return pop_to_mark(m);
    case '2': /* DUP */
        return peek(m, &v) && push(m, v);

    case 'N': /* NONE */
        return push_opaque(m);
    case 0x88: /* NEWTRUE */
        return push_int(m, 1);
    case 0x89: /* NEWFALSE */
        return push_int(m, 0);
    case 'J': /* BININT */
        return op_int(m, 4);
    case 'K': /* BININT1 */
        return op_int(m, 1);
    case 'M': /* BININT2 */
        return op_int(m, 2);
    case 0x8a: /* LONG1 */
        return op_long(m, 1);
    case 0x8b: /* LONG4 */
        return op_long(m, 4);
    case 'G': /* BINFLOAT */
        return skip(m, 8) && push_opaque(m);
    case 0x8c: /* SHORT_BINUNICODE */
    case 'U':  /* SHORT_BINSTRING */
        return op_bytes(m, 1, true);
    case 'X': /* BINUNICODE */
    case 'T': /* BINSTRING */
        return op_bytes(m, 4, true);
    case 0x8d: /* BINUNICODE8 */
        return op_bytes(m, 8, true);
    case 'C': /* SHORT_BINBYTES */
        return op_bytes(m, 1, false);
    case 'B': /* BINBYTES */
        return op_bytes(m, 4, false);
    case 0x8e: /* BINBYTES8 */
    case 0x96: /* BYTEARRAY8 */
        return op_bytes(m, 8, false);

    case 'q': /* BINPUT */
        return op_put(m, 1);
    case 'r': /* LONG_BINPUT */
        return op_put(m, 4);
    case 0x94: /* MEMOIZE */
        return memo_put(m, m->n_memo);
    case 'h': /* BINGET */
        return op_get(m, 1);
    case 'j': /* LONG_BINGET */
        return op_get(m, 4);

    case ')': /* EMPTY_TUPLE */
        return make_tuple(m, 0, false);
    case 0x85: /* TUPLE1 */
        return make_tuple(m, 1, false);
    case 0x86: /* TUPLE2 */
        return make_tuple(m, 2, false);
    case 0x87: /* TUPLE3 */
        return make_tuple(m, 3, false);
    case 't': /* TUPLE */
        return op_tuple(m);
    case ']':  /* EMPTY_LIST */
    case 0x8f: /* EMPTY_SET */
        return push_opaque(m);
    case 'l':  /* LIST */
    case 0x91: /* FROZENSET */
        return pop_to_mark(m) && push_opaque(m);
    case 'a': /* APPEND */
        return op_append(m, false);
    case 'e':  /* APPENDS */
    case 0x90: /* ADDITEMS */
        return op_append(m, true);
    case '}': /* EMPTY_DICT */
        return push_dict(m);
    case 's': /* SETITEM */
        return set_items(m, 2, false);
    case 'u': /* SETITEMS */
        return op_set_items(m);

    case 'c': /* GLOBAL */
        return op_global(m);
    case 0x93: /* STACK_GLOBAL */
        return op_stack_global(m);
    case 'Q': /* BINPERSID */
        return op_persistent_id(m);
    case 'R':  /* REDUCE */
    case 0x81: /* NEWOBJ */
        return op_call(m);
    case 0x92: /* NEWOBJ_EX, with keyword arguments on top */
        return pop(m, &v) && op_call(m);
    case 'b': /* BUILD */
        return op_build(m);
    default:
        return FAIL(m, "opcode 0x%02x is not part of a dict of tensors", m->data[m->op]);
    }
}

utter_status ut_pickle_read(const ut_pickle_dict **out, ut_arena *arena, const char *file,
                            const uint8_t *data, size_t n, ut_err *err)
{
    *out = NULL;
    if (n > UT_PICKLE_MAX_BYTES)
        return ut_fail(err, UTTER_ERR_FORMAT, "%s: data.pkl has %zu bytes, expected at most %zu",
                       file, n, UT_PICKLE_MAX_BYTES);
    machine m = {.file = file, .data = data, .n = n, .arena = arena, .err = err};
    bool running = true;
    while (running && !m.result) {
        m.op = m.at;
        running = m.at < n ? step(&m) : FAIL(&m, "%s", "it ends without STOP");
    }
    ut_free(m.stack);
    ut_free(m.memo);
    *out = m.result;
    return m.st;
}
