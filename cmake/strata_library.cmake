# strata_library(NAME [DEPS folder...] [LIBS target...])
#   One static library from the *.cpp files of the current folder (without sub-folders named in their own
#   CMakeLists.txt). DEPS are other strata folders, LIBS are third-party targets.
#   PRECOMPILE are third-party headers that most of its files take, read once.
# strata_test(NAME DEPS ...)  one GoogleTest program from the *_test.cpp files of the current folder.
find_program(STRATA_CCACHE ccache)
if(STRATA_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # The two are what ccache asks for to keep objects made with precompiled headers.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros ${STRATA_CCACHE})
endif()
find_program(STRATA_MOLD mold)
if(STRATA_MOLD)
  add_link_options(-fuse-ld=mold)
endif()

add_library(strata_options INTERFACE)
# -Wno-restrict: GCC 12 sees overlaps in std::string operator+ that are not there (GCC bug 105651).
# -Wno-missing-field-initializers: designated initialisers leave defaulted members out on purpose.
# -ffp-contract=off: the merge must give the same bits on every machine; kernels that want FMA ask for it by intrinsic
# or by their own compile option.
target_compile_options(strata_options INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Werror -ffp-contract=off
                       $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict> -Wno-missing-field-initializers)
target_include_directories(strata_options INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/common)
target_include_directories(strata_options SYSTEM INTERFACE ${STRATA_TL_EXPECTED_DIR} ${STRATA_RANDOM123_DIR})
set(STRATA_TEST_TIMEOUT 300)
if(STRATA_SANITIZE)
  set(STRATA_TEST_TIMEOUT 1800)
  # _GLIBCXX_ASSERTIONS: bounds of vector, span and string too, which the sanitizers see only past the allocation.
  target_compile_definitions(strata_options INTERFACE STRATA_NO_CLONES _GLIBCXX_ASSERTIONS)
  # -O1 -g1: GCC 12 takes many minutes over Eigen with sanitizers at -O2 -g, and lines are all a report needs.
  # -Wno-maybe-uninitialized: under sanitizers GCC 12 sees uninitialised values inside std::regex that are not there.
  target_compile_options(strata_options INTERFACE -O1 -g1 -fsanitize=${STRATA_SANITIZE} -fno-omit-frame-pointer
                         -fno-sanitize-recover=all $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
  target_link_options(strata_options INTERFACE -fsanitize=${STRATA_SANITIZE})
  # The thread sanitizer does not know Asio's fences, and GCC warns of them; its mutexes order the same.
  target_compile_definitions(strata_options INTERFACE BOOST_ASIO_DISABLE_FENCED_BLOCK)
endif()

function(strata_library name)
  cmake_parse_arguments(arg "" "" "DEPS;LIBS;PRIVATE_LIBS;PRECOMPILE" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  file(GLOB nested CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*/*.cpp)
  foreach(file IN LISTS nested)   # sub-folders without a CMakeLists.txt of their own belong to this library
    get_filename_component(folder ${file} DIRECTORY)
    if(NOT EXISTS ${folder}/CMakeLists.txt)
      list(APPEND sources ${file})
    endif()
  endforeach()
  list(TRANSFORM arg_DEPS PREPEND strata_)
  if(sources)
    add_library(strata_${name} STATIC ${sources})
    target_link_libraries(strata_${name} PUBLIC strata_options ${arg_DEPS} ${arg_LIBS} PRIVATE ${arg_PRIVATE_LIBS})
    if(arg_PRECOMPILE)
      target_precompile_headers(strata_${name} PRIVATE ${arg_PRECOMPILE})
    endif()
  else()
    add_library(strata_${name} INTERFACE)
    target_link_libraries(strata_${name} INTERFACE strata_options ${arg_DEPS} ${arg_LIBS})
  endif()
endfunction()

# What no one waits for - commands, tests - is compiled in half the time, not optimised to the last.
# With precompiled headers GCC 12 reports overflows inside the standard library that are not there.
set(STRATA_QUICK_OPTIONS $<$<CONFIG:Release>:-O1>
    "$<$<CXX_COMPILER_ID:GNU>:-Wno-array-bounds;-Wno-stringop-overflow;-Wno-stringop-overread>")

function(strata_test name)
  cmake_parse_arguments(arg "" "" "DEPS;LIBS;LABELS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*_test.cpp)
  if(NOT sources)
    return()
  endif()
  list(TRANSFORM arg_DEPS PREPEND strata_)
  add_executable(${name}_test ${sources})
  target_link_libraries(${name}_test PRIVATE strata_options ${arg_DEPS} ${arg_LIBS} GTest::gmock GTest::gtest_main)
  target_compile_options(${name}_test PRIVATE ${STRATA_QUICK_OPTIONS})
  target_precompile_headers(${name}_test REUSE_FROM strata_test_headers)
  target_include_directories(${name}_test PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  target_compile_definitions(${name}_test PRIVATE STRATA_SOURCE_DIR="${PROJECT_SOURCE_DIR}"
                             STRATA_BINARY="$<TARGET_FILE:strata>")
  gtest_discover_tests(${name}_test DISCOVERY_TIMEOUT ${STRATA_TEST_TIMEOUT}
                       PROPERTIES TIMEOUT ${STRATA_TEST_TIMEOUT} LABELS "${arg_LABELS}")
endfunction()
