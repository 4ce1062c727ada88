# Every third-party library, all from Debian 12. Static archives are preferred where Debian ships
# them, because start-up time and memory are features; see docs/decisions/.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(nlohmann_json REQUIRED)
set(OPENSSL_USE_STATIC_LIBS ON)
find_package(OpenSSL REQUIRED)
find_package(Boost 1.81 REQUIRED)
find_package(CLI11 REQUIRED)
pkg_check_modules(LIBNFTNL REQUIRED IMPORTED_TARGET libnftnl)
pkg_check_modules(LIBMNL REQUIRED IMPORTED_TARGET libmnl)

# A static archive if there is one, else the shared library.
function(squall_find_archive variable name)
  find_library(${variable} NAMES lib${name}.a ${name} REQUIRED)
endfunction()
squall_find_archive(YAML_CPP_STATIC yaml-cpp)
squall_find_archive(SQLITE_STATIC sqlite3)
squall_find_archive(HIREDIS_STATIC hiredis)
squall_find_archive(SECCOMP_STATIC seccomp)
squall_find_archive(CAP_NG_STATIC cap-ng)

add_library(yaml-cpp INTERFACE)
target_link_libraries(yaml-cpp INTERFACE ${YAML_CPP_STATIC})
add_library(SQLite::SQLite3 INTERFACE IMPORTED)
target_link_libraries(SQLite::SQLite3 INTERFACE ${SQLITE_STATIC} ${CMAKE_DL_LIBS})
