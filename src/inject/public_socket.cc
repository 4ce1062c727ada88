#include "inject/public_socket.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>

#include "base/log.h"
#include "base/text.h"
#include "inject/registry.h"

namespace squall::inject {

namespace {

using Clock = base::MonotonicClock;

constexpr std::size_t kMost = 64;
constexpr std::size_t kMostOfOne = 8;
constexpr int kMostAccepted = 16;                        // in one turn
constexpr auto kRequestLimit = std::chrono::seconds(5);  // to say what is wanted
constexpr auto kStopLimit = std::chrono::seconds(45);    // for holders to end
constexpr auto kReplayPause = std::chrono::seconds(2);
constexpr std::size_t kTextLimit = 300;
constexpr std::size_t kLeasesShown = 100;
constexpr std::size_t kTargetsShown = 8;

std::string cut(const std::string& text) {
  return base::printable(text.size() <= kTextLimit ? text : text.substr(0, kTextLimit) + "...");
}

}  // namespace

ActiveLease public_view(ActiveLease lease) {
  if (lease.kind == "command") lease.targets = {"a command of " + lease.owner};
  lease.run = cut(lease.run);
  lease.experiment = cut(lease.experiment);
  lease.fault = cut(lease.fault);
  lease.kind = cut(lease.kind);
  lease.reason = cut(lease.reason);
  lease.owner = cut(lease.owner);
  if (lease.targets.size() > kTargetsShown) {
    const std::size_t more = lease.targets.size() - kTargetsShown;
    lease.targets.resize(kTargetsShown);
    lease.targets.push_back(fmt::format("{} more", more));
  }
  for (std::string& target : lease.targets) target = cut(target);
  if (lease.processes.size() > kTargetsShown) lease.processes.resize(kTargetsShown);
  return lease;
}

struct PublicSocket::Visitor {
  struct Holder {
    std::string run;
    base::UniqueFd socket;
  };
  base::UniqueFd socket;
  uid_t user = 0;
  Moment until;
  bool stopping = false;
  std::vector<Holder> holders;  // that were told to end and have not said so yet
  Finished answer;
};

PublicSocket::PublicSocket(base::UniqueFd listener, std::string state_directory)
    : listener_(std::move(listener)), state_directory_(std::move(state_directory)) {}
PublicSocket::~PublicSocket() = default;

PublicSocket::Moment PublicSocket::watch(PollSet& events) const {
  events.watch(listener_.get());
  Moment next = Moment::max();
  for (const Visitor& visitor : visitors_) {
    events.watch(visitor.socket.get());
    for (const auto& holder : visitor.holders) events.watch(holder.socket.get());
    next = std::min(next, visitor.until);
  }
  return next;
}

bool PublicSocket::serve(const PollSet& events) {
  for (Visitor& visitor : visitors_) {
    if (visitor.stopping)
      follow_stop(visitor, events);
    else if (events.is_ready(visitor.socket.get()))
      take_request(visitor);
    if (Clock::now() >= visitor.until) visitor.socket.reset();
  }
  std::erase_if(visitors_, [](const Visitor& visitor) { return !visitor.socket; });
  if (events.is_ready(listener_.get())) accept_visitors();
  const auto now = Clock::now();
  if (!replay_wanted_ || now - last_replay_ < kReplayPause) return false;
  replay_wanted_ = false;
  last_replay_ = now;
  return true;
}

void PublicSocket::accept_visitors() {
  for (int i = 0; i < kMostAccepted; ++i) {
    base::UniqueFd socket{
        ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
    if (!socket) return;
    ucred peer{};
    socklen_t size = sizeof peer;
    if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) continue;
    // Whoever comes too often is turned away; whoever is many makes the oldest ones leave.
    const auto of_one = std::count_if(visitors_.begin(), visitors_.end(),
                                      [&](const auto& each) { return each.user == peer.uid; });
    if (peer.uid != 0 && static_cast<std::size_t>(of_one) >= kMostOfOne) continue;
    if (visitors_.size() >= kMost) visitors_.erase(visitors_.begin());
    Visitor visitor;
    visitor.socket = std::move(socket);
    visitor.user = peer.uid;
    visitor.until = Clock::now() + kRequestLimit;
    visitors_.push_back(std::move(visitor));
  }
}

void PublicSocket::take_request(Visitor& visitor) {
  const auto packet = receive_packet(visitor.socket.get());
  if (packet.ok() && packet->empty()) return;
  auto message = packet.ok() ? decode(*packet) : base::Result<Message>{packet.error()};
  if (message.ok() && std::holds_alternative<StatusMessage>(*message))
    return answer_status(visitor);
  const auto* stop = message.ok() ? std::get_if<StopMessage>(&*message) : nullptr;
  if (stop == nullptr) return visitor.socket.reset();
  begin_stop(visitor, *stop);
}

void PublicSocket::answer_status(Visitor& visitor) {
  StatusReply reply;
  if (auto leases = active_leases(state_directory_); leases.ok()) {
    reply.complete = leases->size() <= kLeasesShown;
    if (!reply.complete) leases->resize(kLeasesShown);
    for (ActiveLease& lease : *leases) reply.leases.push_back(public_view(std::move(lease)));
  }
  auto packet = encode(reply);
  while (!packet.ok() && !reply.leases.empty()) {
    reply.leases.resize(reply.leases.size() / 2);
    reply.complete = false;
    packet = encode(reply);
  }
  if (packet.ok()) (void)send_packet(visitor.socket.get(), *packet);
  visitor.socket.reset();
}

void PublicSocket::begin_stop(Visitor& visitor, const StopMessage& request) {
  visitor.stopping = true;
  visitor.until = Clock::now() + kStopLimit;
  const std::string who = user_text(visitor.user);
  const std::string why = cut(request.why);
  base::log_info(
      "asked to stop",
      {{"who", who}, {"why", why}, {"run", request.everything ? "everything" : request.run}});
  if (request.everything) {
    if (auto engaged = engage_kill_switch(who, why, state_directory_); !engaged.ok())
      visitor.answer.left.push_back("the kill switch: " + engaged.error().to_string());
  }
  const StateDirectory directory{state_directory_};
  for (const RunFile& run : run_files(directory)) {
    if (!request.run.empty() && run.run != request.run) continue;
    auto told = tell_holder_to_stop(run, who, why);
    if (told.ok()) visitor.holders.push_back({run.run, std::move(*told)});
  }
  if (auto leases = active_leases(state_directory_); leases.ok()) {
    for (const ActiveLease& lease : *leases)
      replay_wanted_ = replay_wanted_ || (!lease.holder_alive && lease.holder.pid != 0);
  }
  follow_stop(visitor, PollSet{});
}

// Each holder says when it has ended; one that dies before that is replayed by its keeper.
void PublicSocket::follow_stop(Visitor& visitor, const PollSet& events) {
  for (auto& holder : visitor.holders) {
    if (!events.is_ready(holder.socket.get())) continue;
    const auto packet = receive_packet(holder.socket.get());
    if (packet.ok() && packet->empty()) continue;
    auto message = packet.ok() ? decode(*packet) : base::Result<Message>{packet.error()};
    if (const auto* ended = message.ok() ? std::get_if<Finished>(&*message) : nullptr) {
      visitor.answer.leases += ended->leases;
      visitor.answer.left.insert(visitor.answer.left.end(), ended->left.begin(), ended->left.end());
    }
    holder.socket.reset();
  }
  std::erase_if(visitor.holders, [](const auto& holder) { return !holder.socket; });
  if (!visitor.holders.empty()) return;
  if (const auto packet = encode(visitor.answer); packet.ok())
    (void)send_packet(visitor.socket.get(), *packet);
  visitor.socket.reset();
}

}  // namespace squall::inject
