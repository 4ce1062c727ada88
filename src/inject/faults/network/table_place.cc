#include "inject/faults/network/table_place.h"

#include <fmt/format.h>

namespace squall::inject {

namespace {

constexpr base::Duration kLook = std::chrono::milliseconds(5);

}  // namespace

base::Result<NftTable> TablePlace::create(const std::string& name,
                                          const std::vector<PacketRule>& rules) {
  if (!place_) return NftTable::create(name, rules);
  SQUALL_ASSIGN(resident_, base::PidFd::open(place_->process));
  SQUALL_ASSIGN(const InNamespace inside, InNamespace::enter(*place_));
  return NftTable::create(name, rules);
}

base::Result<bool> TablePlace::exists(const std::string& name) const {
  if (!place_) return NftTable::exists(name);
  const auto inside = InNamespace::enter(*place_);
  if (!inside.ok() && inside.error().code == base::ErrorCode::kNotFound) return false;
  if (!inside.ok()) return inside.error();
  return NftTable::exists(name);
}

Step TablePlace::hold() {
  if (!resident_.valid()) return Step::done({});
  if (!resident_.ended()) return Step::wait_for({resident_.get()});
  resident_ = {};
  Step step = Step::wait(kLook);
  step.text =
      fmt::format("{} ended, and its network with it: what is started in its place is not touched",
                  place_->text);
  return step;
}

}  // namespace squall::inject
