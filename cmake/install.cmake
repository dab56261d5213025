# What `cmake --install` puts where: program, libraries, headers, voices, manual page, and the files
# through which pkg-config and CMake's find_package(utter) find them.

include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/utter)

install(TARGETS utter EXPORT utter ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
set_target_properties(utter PROPERTIES EXPORT_NAME utter_static)
if(UT_SHARED)
    install(TARGETS utter_shared EXPORT utter DESTINATION ${CMAKE_INSTALL_LIBDIR})
    set_target_properties(utter_shared PROPERTIES EXPORT_NAME utter)
endif()
install(FILES include/utter.h include/utter_status.h TYPE INCLUDE)
install(FILES docs/utter.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(DIRECTORY voices/ DESTINATION ${CMAKE_INSTALL_DATADIR}/utter/voices)
install(FILES LICENSE README.md TYPE DOC)

# Relative, so that `cmake --install --prefix` and moved trees work.
file(RELATIVE_PATH UT_PC_TO_PREFIX ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
file(RELATIVE_PATH UT_PC_LIBDIR ${CMAKE_INSTALL_PREFIX} ${CMAKE_INSTALL_FULL_LIBDIR})
file(RELATIVE_PATH UT_PC_INCLUDEDIR ${CMAKE_INSTALL_PREFIX} ${CMAKE_INSTALL_FULL_INCLUDEDIR})
configure_file(cmake/utter.pc.in utter.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/utter.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

install(EXPORT utter NAMESPACE utter:: FILE utterTargets.cmake DESTINATION ${package_dir})
configure_package_config_file(cmake/utterConfig.cmake.in utterConfig.cmake
    INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(utterConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/utterConfig.cmake ${PROJECT_BINARY_DIR}/utterConfigVersion.cmake
    DESTINATION ${package_dir})
