#pragma once
// Members that end while a fault holds them, and who comes up in their place. A fault has one place
// for each target of its binding; a process of the service that came up anew may take the place of
// one that ended, and no other. So a fault never holds more live members than its plan allows, and
// never one that ran beside its targets. See docs/decisions/0010-joining.md.

#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "inject/fault.h"
#include "inject/faults/process/targets.h"
#include "model/system_map.h"

namespace squall::inject {

// Of kinds whose faults a new member may join.
inline constexpr model::ParameterDescriptor kJoinsParameter{
    .name = "joins",
    .type = model::ValueType::kBoolean,
    .default_text = "true",
    .summary =
        "A member that is restarted meanwhile is hit again; `false`: it runs without the "
        "fault, as when a restart is the remedy."};
bool joins(const model::Parameters& parameters);
// " and what comes up in its place", or nothing: for the plan.
std::string_view joining_text(const model::Parameters& parameters);

class Successors {
 public:
  struct Plan {
    model::Service service;
    std::vector<Target> targets;  // a place for each
    std::vector<Target> before;   // all members at bind: none of them is new
    bool joins = true;
    bool claims = true;  // false: what holds the member is not the member's own (a cgroup)
  };
  // From a binding of process_binding(). Where it names no service nobody joins: a replay must undo
  // the fault all the same.
  static base::Result<Plan> plan_of(const model::FaultBinding& binding);

  // What a kind does with a new member, which it may touch now. Called again as its step says.
  // Done: the text goes on "... came up in place of pid 7 and ". Failed: it runs without the fault.
  using Join = std::function<Step(const Target& fresh)>;

  // `ended`: what is told of a member that ended, "died while paused".
  Successors(Plan plan, std::string ended, FaultContext& context)
      : plan_(std::move(plan)), ended_(std::move(ended)), context_(context) {}

  // For arm(): opens the targets. kNotFound as open_targets().
  base::Status open();
  bool open_already() const { return !places_.empty(); }

  // For hold(): waits, with news as text. Looks at the service's processes only while a place is
  // free, twice a second. Done when nobody is left and nobody may come.
  Step hold(const Join& join);

 private:
  struct Place {
    Target occupant;
    base::PidFd process;
    std::string container = {};              // of the occupant; a restarted one has the same
    std::optional<base::Instant> free = {};  // since when
    bool joining = false;
    pid_t former = 0;
  };

  void notice_ends(base::Instant now);
  void look(base::Instant now);
  base::Result<std::vector<Target>> running_now() const;
  base::Result<std::vector<Target>> running_in_containers() const;
  bool fits(const Target& candidate, const Place& place) const;
  void take(Place& place, const Target& candidate);
  void advance_joins(const Join& join, Step& step);
  void tell_without(const Place& place, const Target& fresh, const base::Error& error);
  bool in_containers() const;

  Plan plan_;
  std::string ended_;
  FaultContext& context_;
  std::vector<Place> places_;
  std::set<std::pair<pid_t, std::uint64_t>> seen_;  // took a place, or may not
  base::Instant next_look_;
  std::optional<base::Instant> blind_since_;  // no look succeeded since
  bool told_blind_ = false;
  std::size_t joined_ = 0;
  std::vector<std::string> news_;
};

}  // namespace squall::inject
