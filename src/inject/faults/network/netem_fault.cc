#include "inject/faults/network/netem_fault.h"

#include <fmt/format.h>
#include <net/if.h>

#include <algorithm>

#include "base/text.h"
#include "base/units.h"
#include "inject/json_fields.h"

namespace squall::inject {

namespace {

using base::Duration;
using base::Json;

constexpr Duration kLook = std::chrono::milliseconds(5);
constexpr Duration kSlowLook = std::chrono::milliseconds(50);
constexpr Duration kWatch = std::chrono::milliseconds(500);
// Then what still waits is dropped with its queue.
constexpr Duration kDrainLimit = std::chrono::milliseconds(200);
constexpr Duration kGoneLimit = std::chrono::seconds(2);
// Room for twice what 500,000 packets/s hold.
constexpr double kPacketsPerSecond = 500'000;
constexpr double kLeastPackets = 10'000;
constexpr double kMostPackets = 4'000'000;

// The same for the same lease, so that a replay knows it. The kernel itself gives out numbers from
// 0x8000.
std::uint16_t tree_number(const std::string& lease) {
  std::uint32_t hash = 0x811c9dc5u;  // FNV-1a
  for (const char c : lease) hash = (hash ^ static_cast<unsigned char>(c)) * 0x01000193u;
  return static_cast<std::uint16_t>(0x1000 + hash % 0x7000);
}

std::vector<SlowBand> bands_of(const NetemDelay& delay) {
  std::vector<SlowBand> bands;
  for (const int times : {1, 2}) {
    const double packets =
        2 * kPacketsPerSecond * times * base::to_seconds(delay.delay + delay.jitter);
    bands.push_back(
        {.delay = times * delay.delay,
         .jitter = times * delay.jitter,
         .limit = static_cast<std::uint32_t>(std::clamp(packets, kLeastPackets, kMostPackets))});
  }
  return bands;
}

}  // namespace

NetemFault::NetemFault(std::string what, std::vector<PacketRule> rules,
                       std::vector<std::string> interfaces, NetemDelay delay, FaultContext& context)
    : what_(std::move(what)),
      rules_(std::move(rules)),
      delay_(delay),
      context_(context),
      name_("squall_" + context.lease().text()),
      tree_(tree_number(context.lease().text())) {
  for (std::string& name : interfaces) places_.push_back({.name = std::move(name), .reverted = {}});
}

Step NetemFault::arm() {
  auto control = TrafficControl::open();
  if (!control.ok()) return Step::failed(std::move(control).error());
  control_ = std::move(*control);
  if (auto noted = context_.note({{"table", name_}}); !noted.ok())
    return Step::failed(noted.error());
  for (Place& place : places_) {
    if (auto put = put_tree(place); !put.ok()) return Step::failed(std::move(put).error());
  }
  if (auto put = put_table(); !put.ok()) return Step::failed(std::move(put).error());
  std::vector<std::string> names;
  for (const Place& place : places_) names.push_back(place.name);
  return Step::done(fmt::format("netem delays {} on {}", what_, base::enumerate(names)),
                    Json{{"table", name_}, {"tree", tree_}, {"interfaces", names}}.dump());
}

base::Status NetemFault::put_tree(Place& place) {
  place.index = static_cast<int>(::if_nametoindex(place.name.c_str()));
  SQUALL_ASSIGN(const auto foreign, control_->foreign_root(place.index));
  if (foreign) {
    return base::Error{.code = base::ErrorCode::kConflict,
                       .message = fmt::format("interface {} has queues of its own ({})", place.name,
                                              foreign->kind),
                       .hint = "somebody shapes its traffic; leave `mechanism` out"};
  }
  SQUALL_TRY(context_.note({{"tree", tree_}, {"interface", place.name}, {"index", place.index}}));
  place.noted = true;
  SQUALL_TRY(control_->add_tree(place.index, tree_, bands_of(delay_)));
  SQUALL_ASSIGN(const auto all, control_->list(place.index));
  const auto netems = std::count_if(all.begin(), all.end(), [&](const QueueDiscipline& queue) {
    return queue.kind == "netem" && queue.parent >> 16 == tree_;
  });
  if (netems != 2)
    return base::Error{.message = fmt::format("netem did not appear on {}", place.name)};
  place.in_place = true;
  return {};
}

base::Status NetemFault::put_table() {
  std::vector<PacketRule> rules = rules_;
  for (PacketRule& rule : rules) rule.priority = band_priority(tree_, rule.priority);
  SQUALL_ASSIGN(NftTable table, NftTable::create(name_, rules));
  table_ = std::move(table);
  SQUALL_ASSIGN(const bool there, table_->there());
  if (!there) return base::Error{.message = fmt::format("table {} did not appear", name_)};
  since_ = base::BootClock::now();
  return {};
}

base::Result<QueueDiscipline> NetemFault::slow_bands() const {
  QueueDiscipline sum;
  for (const Place& place : places_) {
    if (!place.in_place) continue;
    SQUALL_ASSIGN(const auto all, control_->list(place.index));
    for (const QueueDiscipline& queue : all) {
      if (queue.kind != "netem" || queue.parent >> 16 != tree_) continue;
      sum.packets += queue.packets;
      sum.dropped += queue.dropped;
      sum.waiting += queue.waiting;
    }
  }
  return sum;
}

Step NetemFault::effective() {
  const auto counts = table_->packets();
  if (!counts.ok()) return Step::failed(counts.error());
  const auto passed = slow_bands();
  if (!passed.ok()) return Step::failed(passed.error());
  const Duration since = base::BootClock::now() - since_;
  if (counts->hit == 0 || passed->packets == 0)
    return Step::wait(since < std::chrono::seconds(1) ? kLook : kSlowLook);
  return Step::done(fmt::format("the first of {} are through netem, {} after arming", what_,
                                base::humanize(since)),
                    Json{{"packets", counts->hit}, {"through_netem", passed->packets}}.dump());
}

// Who replaces our tree takes the fault away.
Step NetemFault::hold() {
  for (const Place& place : places_) {
    const auto root = control_->foreign_root(place.index);
    if (root.ok() && *root && (*root)->handle >> 16 == tree_) continue;
    return Step::broken(
        base::Error{.code = base::ErrorCode::kConflict,
                    .message = fmt::format("somebody replaced the queues of {}", place.name),
                    .hint = "look who else changes them (a network manager, tc)"});
  }
  return Step::wait(kWatch);
}

Step NetemFault::revert() {
  if (!control_) {
    auto control = TrafficControl::open();
    if (!control.ok()) return Step::failed(std::move(control).error());
    control_ = std::move(*control);
  }
  if (table_ && !removed_) {
    if (const auto counts = table_->packets(); counts.ok()) counts_ = *counts;
    if (auto removed = table_->remove(); !removed.ok()) {
      table_.reset();  // closing the socket removes it too, a little later
      return Step::failed(std::move(removed).error());
    }
    removed_ = true;
    since_ = base::BootClock::now();
  }
  // Nothing new is delayed from here on; what waits may still pass.
  QueueDiscipline seen;
  if (const auto bands = slow_bands(); bands.ok()) seen = *bands;
  if (removed_ && seen.waiting > 0 && base::BootClock::now() - since_ < kDrainLimit)
    return Step::wait(kLook);
  std::vector<std::string> texts;
  for (Place& place : places_) {
    if (auto taken = take_tree(place); !taken.ok()) return Step::failed(std::move(taken).error());
    if (!place.reverted.empty()) texts.push_back(place.reverted);
  }
  if (texts.empty()) return Step::done("there was nothing of ours");
  std::string text = base::enumerate(texts);
  if (seen.packets > 0)
    text += fmt::format("; netem passed {} packets", base::humanize_count(seen.packets));
  if (seen.dropped > 0) text += fmt::format(" and dropped {}, for too many waited", seen.dropped);
  if (seen.waiting > 0) text += fmt::format("; {} that still waited were dropped", seen.waiting);
  return Step::done(text, Json{{"packets", counts_.hit}, {"through_netem", seen.packets}}.dump());
}

base::Status NetemFault::take_tree(Place& place) {
  if (!place.noted) return {};
  const auto removed = control_->remove_tree(place.index, tree_);
  if (!removed.ok() && removed.error().code == base::ErrorCode::kNotFound) {
    place.reverted = fmt::format("interface {} is gone", place.name);
  } else if (!removed.ok()) {
    return removed.error();
  } else if (*removed) {
    place.reverted = fmt::format("{} has its default queue again", place.name);
  } else if (place.reverted.empty()) {
    SQUALL_ASSIGN(const auto root, control_->foreign_root(place.index));
    place.reverted = root ? fmt::format("somebody else gave {} the queue {}: left as it is",
                                        place.name, root->kind)
                          : fmt::format("{} has its default queue", place.name);
  }
  place.in_place = false;
  return {};
}

Step NetemFault::verify() {
  const base::Instant now = base::BootClock::now();
  if (!gone_wait_since_) gone_wait_since_ = now;
  const auto there = table_ ? table_->there() : NftTable::exists(name_);
  if (!there.ok()) return Step::failed(there.error());
  if (*there && now - *gone_wait_since_ < kGoneLimit) return Step::wait(kLook);
  if (*there) {
    return Step::failed(
        base::Error{.code = base::ErrorCode::kRevertNotVerified,
                    .message = fmt::format("table inet {} is still there", name_),
                    .hint = fmt::format("find its owner: nft list table inet {}", name_)});
  }
  for (const Place& place : places_) {
    if (!place.noted) continue;
    const auto root = control_->foreign_root(place.index);
    if (!root.ok() && root.error().code != base::ErrorCode::kNotFound)
      return Step::failed(root.error());
    if (!root.ok() || !*root || (*root)->handle >> 16 != tree_) continue;
    return Step::failed(
        base::Error{.code = base::ErrorCode::kRevertNotVerified,
                    .message = fmt::format("our queues are still at the root of {}", place.name),
                    .hint = fmt::format("tc qdisc del dev {} root", place.name)});
  }
  return Step::done(fmt::format("there is no table {} and no queue of ours any more", name_),
                    Json{{"table", name_}, {"exists", false}}.dump());
}

void NetemFault::recall(const Json& found) {
  if (const std::string name = text_field(found, "table"); !name.empty()) name_ = name;
  const std::string interface = text_field(found, "interface");
  for (Place& place : places_) {
    if (place.name != interface) continue;
    place.index = static_cast<int>(integer_field(found, "index"));
    place.noted = true;
    tree_ = static_cast<std::uint16_t>(unsigned_field(found, "tree"));
  }
}

}  // namespace squall::inject
