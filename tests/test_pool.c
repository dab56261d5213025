/* test_pool.c - the thread pool: every item exactly once, whatever the numbers of items and
 * threads, awake or asleep; writes are seen on both sides; a member does one thing at a time. */
#include "backends/cpu/pool.h"
#include "base/os.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

enum { MAX_ITEMS = 100, MAX_MEMBERS = 8 };

typedef struct job {
    int32_t input; /* written before the job, read by every item */
    int32_t n_items;
    int32_t output[MAX_ITEMS];           /* written by items, read after */
    _Atomic int busy[MAX_MEMBERS];       /* members inside an item */
    _Atomic int errors, members_helping; /* other than the caller */
    int n_members;
} job;

static void do_item(void *arg, int32_t item, int member)
{
    job *j = arg;
    if (member < 0 || member >= j->n_members || item < 0 || item >= j->n_items ||
        atomic_fetch_add(&j->busy[member], 1) != 0)
        atomic_fetch_add(&j->errors, 1);
    if (member > 0)
        atomic_fetch_add(&j->members_helping, 1);
    j->output[item] += j->input + item;
    atomic_fetch_sub(&j->busy[member], 1);
}

static ut_pool *open_pool(int n)
{
    ut_err err = {0};
    ut_pool *p;
    assert_int_equal(ut_pool_new(&p, n, &err), UTTER_OK);
    assert_int_equal(ut_pool_size(p), n);
    return p;
}

static void run_job(ut_pool *p, job *j, int32_t n_items, int32_t input, bool wake)
{
    memset(j->output, 0, sizeof j->output);
    j->n_items = n_items;
    j->input = input;
    ut_pool_run(p, do_item, j, n_items, wake);
    for (int32_t i = 0; i < MAX_ITEMS; i++)
        assert_int_equal(j->output[i], i < n_items ? input + i : 0);
    assert_int_equal(j->errors, 0);
}

static void test_every_item_once(void **state)
{
    (void)state;
    for (int n = 1; n <= MAX_MEMBERS; n++) {
        ut_pool *p = open_pool(n);
        job j = {.n_members = n};
        for (int32_t i = 0; i < 300; i++)
            run_job(p, &j, i % (MAX_ITEMS + 1), i, i % 2);
        ut_pool_free(p);
    }
    ut_pool_free(NULL);
}

static void wait_seconds(double s)
{
    for (const double start = ut_time_now(); ut_time_now() - start < s;)
        ut_thread_pause();
}

/* Members go to sleep between jobs; a job that asks for it gets them up. */
static void test_sleeping_members(void **state)
{
    (void)state;
    ut_pool *p = open_pool(3);
    job j = {.n_members = 3};
    for (int32_t i = 0; i < 100; i++) {
        wait_seconds(i % 4 ? 2e-4 : 1e-5);
        run_job(p, &j, 1 + i % 60, i, i % 3 != 0);
    }
    ut_pool_free(p);
}

static void slow_item(void *arg, int32_t item, int member)
{
    do_item(arg, item, member);
    wait_seconds(2e-3);
}

/* Items that take long: others help, and the caller sleeps until the last is done. */
static void test_others_help(void **state)
{
    (void)state;
    ut_pool *p = open_pool(2);
    job j = {.n_members = 2, .n_items = 20};
    ut_pool_run(p, slow_item, &j, 20, true);
    assert_int_equal(j.errors, 0);
    assert_true(j.members_helping > 0);
    ut_pool_free(p);
}

/* A failed assertion must not leave a thread that is not the test's: failures are counted. */
static void other_caller(void *arg)
{
    _Atomic int *failures = arg;
    job j = {.n_members = 2, .n_items = MAX_ITEMS};
    ut_err err = {0};
    ut_pool *p;
    if (ut_pool_new(&p, 2, &err) != UTTER_OK) {
        atomic_fetch_add(failures, 1);
        return;
    }
    for (int32_t i = 0; i < 500; i++)
        ut_pool_run(p, do_item, &j, MAX_ITEMS, true);
    for (int32_t i = 0; i < MAX_ITEMS; i++)
        if (j.output[i] != 500 * i)
            atomic_fetch_add(failures, 1);
    atomic_fetch_add(failures, j.errors);
    ut_pool_free(p);
}

static void test_two_pools(void **state)
{
    (void)state;
    _Atomic int failures = 0;
    ut_thread *t = ut_thread_start(other_caller, &failures, -1);
    assert_non_null(t);
    other_caller(&failures);
    ut_thread_join(t);
    assert_int_equal(failures, 0);
}

static void test_limits(void **state)
{
    (void)state;
    ut_err err = {0};
    ut_pool *p;
    assert_int_equal(ut_pool_new(&p, 0, &err), UTTER_ERR_ARG);
    assert_null(p);
    assert_int_equal(ut_pool_new(&p, 257, NULL), UTTER_ERR_ARG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_item_once), cmocka_unit_test(test_sleeping_members),
        cmocka_unit_test(test_others_help),     cmocka_unit_test(test_two_pools),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
