// The host's policy on any bytes: what is not right is told, and what is right has bounds.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/text.h"
#include "inject/policy.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace squall;  // NOLINT: a fuzzer
  const std::string_view text{reinterpret_cast<const char*>(data), size};
  const auto policy = inject::parse_policy(text, "policy.yaml");
  if (!policy.ok()) {
    const std::string told = policy.error().to_string();
    SQUALL_CHECK(policy.error().code == base::ErrorCode::kBadFile);
    SQUALL_CHECK(base::is_valid_utf8(told) && told.find('\x1b') == std::string::npos);
    return 0;
  }
  SQUALL_CHECK(policy->longest_fault > base::Duration::zero());
  for (const inject::PolicyRule& rule : policy->rules) {
    // A rule for nobody or for nothing is a mistake; root needs none, and gets none by mistake.
    SQUALL_CHECK(!rule.users.empty() || !rule.groups.empty());
    SQUALL_CHECK(!rule.kinds.empty());
    SQUALL_CHECK(rule.longest_fault >= base::Duration::zero());
    for (const std::string& path : rule.paths) SQUALL_CHECK(path.starts_with('/'));
  }
  return 0;
}
