# squall_room(name USES rooms... LIBRARIES targets...)
# One folder under src is one static library. Registration is by explicit tables, never by static
# constructors: the linker drops those from archives.
function(squall_room name)
  cmake_parse_arguments(ROOM "" "" "USES;LIBRARIES" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${name}/*.cc)
  list(FILTER sources EXCLUDE REGEX "/src/cli/main\\.cc$")
  if(NOT sources)
    add_library(squall_${name} INTERFACE)
    set(scope INTERFACE)
  else()
    add_library(squall_${name} STATIC ${sources})
    set(scope PUBLIC)
  endif()
  target_include_directories(squall_${name} ${scope} ${CMAKE_SOURCE_DIR}/src)
  list(TRANSFORM ROOM_USES PREPEND squall_)
  if(NOT name STREQUAL "base")
    list(APPEND ROOM_USES squall_base)
  endif()
  target_link_libraries(squall_${name} ${scope} squall_flags ${ROOM_USES} ${ROOM_LIBRARIES}
                        Threads::Threads)
endfunction()

# squall_test(name LABELS labels... USES rooms... SOURCES files...)
# One test program; its cases are listed to CTest one by one.
function(squall_test name)
  cmake_parse_arguments(TEST "" "TIMEOUT" "LABELS;USES;SOURCES;LIBRARIES" ${ARGN})
  add_executable(${name} ${TEST_SOURCES})
  list(TRANSFORM TEST_USES PREPEND squall_)
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR}/tests)
  target_compile_definitions(${name} PRIVATE
    SQUALL_SOURCE_DIR="${CMAKE_SOURCE_DIR}" SQUALL_BINARY_DIR="${CMAKE_BINARY_DIR}")
  target_link_libraries(${name} PRIVATE ${TEST_USES} ${TEST_LIBRARIES} squall_flags
                        GTest::gtest GTest::gtest_main)
  if(NOT TEST_TIMEOUT)
    set(TEST_TIMEOUT 120)
  endif()
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60
    PROPERTIES LABELS "${TEST_LABELS}" TIMEOUT ${TEST_TIMEOUT})
endfunction()
