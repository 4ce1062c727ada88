#pragma once
// Bringing back the members that a fault ended: by the map's `start`, or by waiting for whoever
// supervises them. Shared by process.kill and process.restart.

#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "inject/fault.h"
#include "inject/faults/process/targets.h"
#include "model/system_map.h"

namespace squall::inject {

enum class Restore { kStart, kAwait, kNone };
std::string_view to_string(Restore restore);
std::optional<Restore> restore_from(std::string_view text);

// The parameters that say who brings members back, and within which time.
constexpr model::ParameterDescriptor restore_parameter(std::string_view default_text,
                                                       std::string_view summary,
                                                       std::span<const std::string_view> choices) {
  return {.name = "restore",
          .type = model::ValueType::kChoice,
          .default_text = default_text,
          .summary = summary,
          .choices = choices};
}
constexpr model::ParameterDescriptor limit_parameter(std::string_view summary) {
  return {.name = "limit",
          .type = model::ValueType::kDuration,
          .default_text = "30s",
          .minimum = 1e8,
          .maximum = 6e11,
          .summary = summary};
}

class Revival {
 public:
  struct Plan {
    model::Service service;
    std::string directory;       // where start argv run
    std::vector<Target> before;  // all members at bind
    Restore restore = Restore::kStart;
    base::Duration limit{};                               // how long a replacement may take
    std::map<std::string, std::string> environment = {};  // added for those that it starts
  };
  // kCorrupt when the details are not those of a process kind.
  static base::Result<Plan> plan_of(const model::FaultBinding& binding);

  Revival(Plan plan, FaultContext& context) : plan_(std::move(plan)), context_(context) {}

  // `lost`: the members that ended. Starts those that did not come back by themselves. May be
  // called again: what was started and still runs is not started twice.
  Step begin(const std::vector<Target>& lost);
  // Done when each of `lost` has a replacement; fails when `limit` is over since the first call.
  Step await(const std::vector<Target>& lost);
  // Has it had anybody started?
  bool has_asked() const { return !attempts_.empty(); }
  // The same look without a limit; empty while somebody is missing. For notices.
  base::Result<std::string> replaced(const std::vector<Target>& lost);

 private:
  struct Attempt {
    std::string member;
    std::uint64_t program = 0;
    int starts = 0;
    base::Instant last;
  };
  struct Look {
    std::vector<host::Member> fresh;     // not there before the fault
    std::vector<Target> missing;         // lost ones without a replacement
    std::vector<Target> gone_otherwise;  // neither killed by us nor there
  };

  base::Result<Look> look(const std::vector<Target>& lost);
  base::Status start(const Target& target);
  bool start_is_open() const;
  base::Status start_failed_again(const std::vector<Target>& missing);
  std::vector<std::string> start_argv(const std::string& member) const;
  base::Error not_back(const Look& look) const;

  Plan plan_;
  FaultContext& context_;
  std::vector<Attempt> attempts_;
  std::optional<base::Instant> waiting_since_;
};

}  // namespace squall::inject
