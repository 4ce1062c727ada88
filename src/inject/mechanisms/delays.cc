// Delay by the packet scheduler and by netem: held up for 10 ms, how long do packets take?

#include <fmt/format.h>

#include <algorithm>

#include "base/units.h"
#include "inject/faults/network/netem_fault.h"
#include "inject/faults/network/scheduled_fault.h"
#include "inject/mechanisms/mechanism_trial.h"
#include "inject/scratch_network.h"

namespace squall::inject {

namespace {

using base::Duration;

constexpr Duration kAsked = std::chrono::milliseconds(10);
constexpr Duration kLimit = std::chrono::seconds(2);
constexpr int kPackets = 200;

PacketRule packets_to(const ScratchTalk& talk) {
  return {.protocol = PacketRule::Protocol::kUdp,
          .source = {},
          .destination = PacketEndpoint{.address = {127, 0, 0, 1}, .port = talk.port()},
          .user = {},
          .group = {}};
}

base::Result<TrialResult> measure(Fault& fault, const ScratchTalk& talk, const char* what) {
  auto armed = drive(fault, &Fault::arm, kLimit);
  auto times = armed.ok() ? talk.one_way_times(kPackets)
                          : base::Result<std::vector<Duration>>{armed.error()};
  auto reverted = drive(fault, &Fault::revert, kLimit);
  auto verified = drive(fault, &Fault::verify, kLimit);
  SQUALL_TRY(std::move(armed));
  if (!times.ok()) return times.error();
  SQUALL_TRY(std::move(reverted));
  SQUALL_TRY(std::move(verified));
  return TrialResult{.detail = fmt::format("delayed {} packets of {}", kPackets, what),
                     .precision = delay_precision(kAsked, std::move(times).value())};
}

}  // namespace

std::string delay_precision(Duration asked, std::vector<Duration> measured) {
  std::sort(measured.begin(), measured.end());
  const auto quantile = [&](double share) {
    const auto last = static_cast<double>(measured.size() - 1);
    return base::humanize(measured[static_cast<std::size_t>(share * last)]);
  };
  return fmt::format("{} asked: {} (p50), {} (p99)", base::humanize(asked), quantile(0.5),
                     quantile(0.99));
}

base::Result<TrialResult> try_packet_scheduler(Programs& programs) {
  // Its worker is in our network, so the trial is, too.
  SQUALL_ASSIGN(const ScratchTalk talk, ScratchTalk::create());
  PacketRule rule = packets_to(talk);
  rule.chain = PacketRule::Chain::kArriving;
  rule.action = PacketRule::Action::kQueue;
  rule.loopback = true;
  PacketProfile profile;
  profile.delay = kAsked;
  TrialContext context{programs};
  ScheduledFault fault{
      "packets to a scratch port", {rule}, {profile}, 1, "delayed", Marking{}, context};
  return measure(fault, talk, "a scratch port of the loopback interface");
}

base::Result<TrialResult> try_netem(Programs& programs) {
  SQUALL_ASSIGN(const ScratchNetwork network, ScratchNetwork::create());
  SQUALL_ASSIGN(const ScratchTalk talk, ScratchTalk::create());
  PacketRule rule = packets_to(talk);
  rule.chain = PacketRule::Chain::kOutgoing;
  rule.action = PacketRule::Action::kPriority;
  TrialContext context{programs};
  NetemFault fault{"packets to a scratch port", {rule}, {"lo"}, {.delay = kAsked}, context};
  return measure(fault, talk, "a network namespace of our own");
}

}  // namespace squall::inject
