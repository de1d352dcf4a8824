# Compiler settings, the packages Shale is built on, and the two functions that declare a target.

find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
pkg_check_modules(MICROHTTPD REQUIRED IMPORTED_TARGET libmicrohttpd)
pkg_check_modules(GNUTLS REQUIRED IMPORTED_TARGET gnutls)
pkg_check_modules(URING REQUIRED IMPORTED_TARGET liburing)
pkg_check_modules(XML2 REQUIRED IMPORTED_TARGET libxml-2.0)
pkg_check_modules(CRYPTO REQUIRED IMPORTED_TARGET libcrypto)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)
pkg_check_modules(ISAL REQUIRED IMPORTED_TARGET libisal)
find_library(ROCKSDB_LIBRARY rocksdb REQUIRED)
find_path(ROCKSDB_INCLUDE rocksdb/c.h REQUIRED)
add_library(rocksdb_c INTERFACE)
target_link_libraries(rocksdb_c INTERFACE ${ROCKSDB_LIBRARY})
target_include_directories(rocksdb_c SYSTEM INTERFACE ${ROCKSDB_INCLUDE})

add_compile_options(-Wall -Wextra -Werror -Wshadow -Wconversion -Wno-sign-conversion
    -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition -Wpointer-arith
    -Wwrite-strings -Wcast-qual -Wvla -Wundef -Wformat=2 -Wimplicit-fallthrough -fno-common
    -fno-omit-frame-pointer -D_GNU_SOURCE)

if(SHALE_SANITIZE STREQUAL "address")
    add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=all)
    add_link_options(-fsanitize=address,undefined)
elseif(SHALE_SANITIZE STREQUAL "thread")
    add_compile_options(-fsanitize=thread)
    add_link_options(-fsanitize=thread)
endif()
if(SHALE_FUZZ)
    add_compile_options(-fsanitize=fuzzer-no-link)
endif()

# A library of one folder. HEADERS are public (under include/), USES are private dependencies, EXPORTS
# are those that a public header includes. What is not listed here cannot be included.
function(shale_library name)
    cmake_parse_arguments(PARSE_ARGV 1 L "" "" "SOURCES;HEADERS;USES;EXPORTS")
    add_library(${name} STATIC ${L_SOURCES})
    list(TRANSFORM L_HEADERS PREPEND include/)
    target_sources(${name} PUBLIC FILE_SET HEADERS BASE_DIRS include FILES ${L_HEADERS})
    target_link_libraries(${name} PUBLIC ${L_EXPORTS} PRIVATE ${L_USES})
endfunction()

# A cmocka program tests/unit/test_<name>.c, run by ctest. PRIVATE names libraries whose private
# headers the test includes.
function(shale_unit_test name)
    cmake_parse_arguments(PARSE_ARGV 1 T "" "TIMEOUT" "USES;PRIVATE;SOURCES")
    add_executable(test_${name} test_${name}.c ${T_SOURCES})
    target_link_libraries(test_${name} PRIVATE ${T_USES} ${T_PRIVATE} cmocka)
    foreach(library ${T_PRIVATE})
        get_target_property(directory ${library} SOURCE_DIR)
        target_include_directories(test_${name} PRIVATE ${directory})
    endforeach()
    target_compile_options(test_${name} PRIVATE -Wno-missing-prototypes)
    add_test(NAME unit.${name} COMMAND test_${name})
    if(NOT T_TIMEOUT)
        set(T_TIMEOUT 120)
    endif()
    set_tests_properties(unit.${name} PROPERTIES TIMEOUT ${T_TIMEOUT} LABELS unit)
endfunction()
