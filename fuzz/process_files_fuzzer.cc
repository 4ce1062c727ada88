// Files of /proc about processes, whose names and arguments anybody may choose.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "host/proc_files.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace squall;  // NOLINT: a fuzzer
  const std::string_view text{reinterpret_cast<const char*>(data), size};
  if (const auto fields = host::parse_stat(text))
    SQUALL_CHECK(text.find(fields->name) != std::string_view::npos);
  (void)host::parse_status_user(text);
  std::size_t total = 0;
  for (const std::string& word : host::parse_cmdline(text)) {
    SQUALL_CHECK(word.find('\0') == std::string::npos);
    total += word.size() + 1;
  }
  SQUALL_CHECK(total <= size + 1);
  SQUALL_CHECK(host::parse_cgroup_path(text).size() <= size);
  const std::string_view id = host::parse_container_id(text);
  SQUALL_CHECK(id.empty() || id.size() == 64);
  (void)host::parse_link_inode(text, "net");
  return 0;
}
