#include <fmt/format.h>

#include "base/units.h"
#include "safety/checks/table.h"

namespace squall::safety {

namespace {

std::string in_words(std::uint64_t bytes) {
  return base::humanize(base::Quantity{static_cast<double>(bytes), base::Dimension::kSize});
}

}  // namespace

CheckResult check_evidence_room(const Situation& situation) {
  if (!situation.free_bytes || !situation.free_bytes->ok()) {
    return cannot_tell(situation.free_bytes ? situation.free_bytes->error().to_string()
                                            : "free space was not looked up",
                       "check the folder .squall beside the system map");
  }
  const std::uint64_t free = situation.free_bytes->value();
  const std::string figures =
      fmt::format("{} free, {} needed", in_words(free), in_words(situation.needed_bytes));
  if (free >= situation.needed_bytes) return pass(figures);
  return block(fmt::format("not enough room for the record: {}", figures),
               "free some space where the system map lies, or move the map to a larger disk");
}

}  // namespace squall::safety
