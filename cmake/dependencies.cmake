# Every library comes from a Debian 12 package; ./dev installs what is missing. Nothing is downloaded here.
find_package(Threads REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS CXX)
find_package(OpenSSL 3.0 REQUIRED COMPONENTS Crypto SSL)
find_package(Boost 1.74 REQUIRED)
find_package(Eigen3 3.4 REQUIRED NO_MODULE)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(CLI11 REQUIRED)
find_package(fmt REQUIRED)
# oneDNN by hand: the package's own CMake file insists on the OpenCL headers, which strata does not use.
find_library(STRATA_DNNL_LIBRARY dnnl REQUIRED)
find_path(STRATA_DNNL_INCLUDE oneapi/dnnl/dnnl.hpp REQUIRED)
add_library(DNNL::dnnl UNKNOWN IMPORTED)
set_target_properties(DNNL::dnnl PROPERTIES IMPORTED_LOCATION ${STRATA_DNNL_LIBRARY}
                      INTERFACE_INCLUDE_DIRECTORIES ${STRATA_DNNL_INCLUDE})

find_package(PkgConfig REQUIRED)
pkg_check_modules(pcre2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(utf8proc REQUIRED IMPORTED_TARGET libutf8proc)
pkg_check_modules(zlib REQUIRED IMPORTED_TARGET zlib)
pkg_check_modules(libpng REQUIRED IMPORTED_TARGET libpng)
pkg_check_modules(turbojpeg REQUIRED IMPORTED_TARGET libturbojpeg)
find_path(STRATA_TL_EXPECTED_DIR tl/expected.hpp REQUIRED)
find_path(STRATA_RANDOM123_DIR Random123/philox.h REQUIRED)
