# Compile options of every target, and the shapes that targets come in.

option(UT_WERROR "Warnings are errors" OFF)
set(UT_SANITIZE "" CACHE STRING "Sanitizers: 'address,undefined' or 'thread'")

function(ut_compile_options target)
    target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Wshadow -Wvla
        -Wmissing-prototypes -Wdouble-promotion -ffp-contract=off
        $<$<BOOL:${UT_WERROR}>:-Werror>)
    target_compile_definitions(${target} PRIVATE _GNU_SOURCE ${UT_DEFINITIONS})
    if(UT_SANITIZE)
        target_compile_options(${target} PRIVATE -fsanitize=${UT_SANITIZE} -fno-omit-frame-pointer
            -fno-sanitize-recover=all)
        target_link_options(${target} PUBLIC -fsanitize=${UT_SANITIZE})
    endif()
    if(UT_FUZZ)
        target_compile_options(${target} PRIVATE -fsanitize=fuzzer-no-link)
    endif()
endfunction()

# A program linked with the library, allowed to see internal headers (tools, tests, benchmarks).
function(ut_program name)
    add_executable(${name} ${ARGN})
    ut_compile_options(${name})
    target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/src)
    target_link_libraries(${name} PRIVATE utter)
endfunction()

# ut_test(name sources... [LABELS label...]): a cmocka test program, run by ctest from the source
# tree's root. What it writes goes to the directory in UT_TEST_TMP. Label `threads` marks the tests
# that the thread sanitizer's build runs.
function(ut_test name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "LABELS")
    ut_program(${name} ${arg_UNPARSED_ARGUMENTS})
    target_link_libraries(${name} PRIVATE PkgConfig::CMOCKA)
    add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
    ut_test_properties(${name} "${arg_LABELS}")
endfunction()

# What every test gets, however it was added: a directory of its own, for tests run side by side.
function(ut_test_properties name labels)
    file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/test-files/${name})
    set_tests_properties(${name} PROPERTIES LABELS "${labels}" TIMEOUT 900
        ENVIRONMENT "UT_TEST_TMP=${PROJECT_BINARY_DIR}/test-files/${name}")
endfunction()
