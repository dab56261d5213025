# The libraries utter uses, each behind one file of ours. utf8proc and jansson are required;
# libsndfile and soxr are optional (see `utter info`); cmocka is for tests.

option(UT_SNDFILE "Read and write FLAC, Ogg and MP3 through libsndfile" ON)
option(UT_SOXR "Resample through soxr" ON)

find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)
set(UT_LINK_LIBRARIES PkgConfig::UTF8PROC PkgConfig::JANSSON Threads::Threads m)
set(UT_DEFINITIONS "")

if(UT_SNDFILE)
    pkg_check_modules(SNDFILE IMPORTED_TARGET sndfile)
    if(SNDFILE_FOUND)
        list(APPEND UT_LINK_LIBRARIES PkgConfig::SNDFILE)
        list(APPEND UT_DEFINITIONS UT_HAVE_SNDFILE=1)
    endif()
endif()
if(UT_SOXR)
    pkg_check_modules(SOXR IMPORTED_TARGET soxr)
    if(SOXR_FOUND)
        list(APPEND UT_LINK_LIBRARIES PkgConfig::SOXR)
        list(APPEND UT_DEFINITIONS UT_HAVE_SOXR=1)
    endif()
endif()
pkg_check_modules(CMOCKA cmocka)
