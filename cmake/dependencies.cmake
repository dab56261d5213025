# The libraries utter uses, each behind one file of ours. utf8proc and jansson are required;
# libsndfile and soxr are optional (see `utter info`); cmocka is for tests.
#
# Results: UT_LINK_LIBRARIES, UT_DEFINITIONS; for those who link the static library UT_MODULES (names
# for pkg-config) and UT_PC_LIBS (linker flags; the modules' own, as their private ones name
# libraries that need not be installed).

option(UT_SNDFILE "Read and write FLAC, Ogg and MP3 through libsndfile" ON)
option(UT_SOXR "Resample through soxr" ON)

find_package(PkgConfig REQUIRED)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)
set(UT_LINK_LIBRARIES PkgConfig::UTF8PROC PkgConfig::JANSSON m)
set(UT_DEFINITIONS "")
set(UT_MODULES "libutf8proc jansson")
set(UT_PC_LIBS ${UTF8PROC_LDFLAGS} ${JANSSON_LDFLAGS} -lm)

if(WIN32)
    list(APPEND UT_DEFINITIONS UTF8PROC_STATIC) # threads are the system's own
else()
    set(THREADS_PREFER_PTHREAD_FLAG ON)
    find_package(Threads REQUIRED)
    list(APPEND UT_LINK_LIBRARIES Threads::Threads)
    list(APPEND UT_PC_LIBS -pthread)
endif()
if(UT_SNDFILE)
    pkg_check_modules(SNDFILE IMPORTED_TARGET sndfile)
    if(SNDFILE_FOUND)
        list(APPEND UT_LINK_LIBRARIES PkgConfig::SNDFILE)
        list(APPEND UT_DEFINITIONS UT_HAVE_SNDFILE=1)
        string(APPEND UT_MODULES " sndfile")
        list(APPEND UT_PC_LIBS ${SNDFILE_LDFLAGS})
    endif()
endif()
if(UT_SOXR)
    pkg_check_modules(SOXR IMPORTED_TARGET soxr)
    if(SOXR_FOUND)
        list(APPEND UT_LINK_LIBRARIES PkgConfig::SOXR)
        list(APPEND UT_DEFINITIONS UT_HAVE_SOXR=1)
        string(APPEND UT_MODULES " soxr")
        list(APPEND UT_PC_LIBS ${SOXR_LDFLAGS})
    endif()
endif()
list(JOIN UT_PC_LIBS " " UT_PC_LIBS)

pkg_check_modules(CMOCKA IMPORTED_TARGET cmocka)
option(UT_TESTS "Build the tests (needs cmocka)" ${CMOCKA_FOUND})
if(UT_TESTS AND NOT CMOCKA_FOUND)
    message(FATAL_ERROR "UT_TESTS is ON, but cmocka was not found (scripts/setup --test)")
endif()
