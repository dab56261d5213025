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
endfunction()

# A program linked with the library, allowed to see internal headers (tools, tests, benchmarks).
function(ut_program name)
    add_executable(${name} ${ARGN})
    ut_compile_options(${name})
    target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/src)
    target_link_libraries(${name} PRIVATE utter)
endfunction()

# A cmocka test program, run by ctest from the source tree's root. What it writes goes to the
# directory in UT_TEST_TMP. Extra arguments after the sources: LABELS engine ...
function(ut_test name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "LABELS")
    ut_program(${name} ${arg_UNPARSED_ARGUMENTS})
    target_include_directories(${name} PRIVATE ${CMOCKA_INCLUDE_DIRS})
    target_link_libraries(${name} PRIVATE ${CMOCKA_LINK_LIBRARIES})
    add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
    set_tests_properties(${name} PROPERTIES LABELS "${arg_LABELS}" TIMEOUT 600
        ENVIRONMENT "UT_TEST_TMP=${PROJECT_BINARY_DIR}/test-files;TSAN_OPTIONS=halt_on_error=1")
endfunction()
