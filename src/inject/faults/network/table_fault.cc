#include "inject/faults/network/table_fault.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/fd.h"
#include "base/units.h"
#include "inject/json_fields.h"

namespace squall::inject {

namespace {

using base::Json;

// The kernel removes a dead owner's table within some 30 ms.
constexpr base::Duration kOrphanLimit = std::chrono::seconds(2);
constexpr base::Duration kLook = std::chrono::milliseconds(5);
constexpr base::Duration kSlowLook = std::chrono::milliseconds(50);

}  // namespace

TableFault::TableFault(std::string what, std::vector<PacketRule> rules, Marking marked,
                       FaultContext& context, std::optional<NetworkNamespace> place)
    : what_(std::move(what)),
      rules_(std::move(rules)),
      context_(context),
      marks_(std::move(marked), context),
      name_("squall_" + context.lease().text()),
      place_(std::move(place)),
      draws_(std::any_of(rules_.begin(), rules_.end(),
                         [](const PacketRule& rule) { return rule.share != 0; })) {}

std::string TableFault::met() const {
  if (!draws_) return fmt::format("met {} packets", counts_.hit);
  const double share = counts_.matched == 0 ? 0
                                            : 100.0 * static_cast<double>(counts_.hit) /
                                                  static_cast<double>(counts_.matched);
  return fmt::format("dropped {} of {} packets, {:.2f} %", counts_.hit, counts_.matched, share);
}

std::string TableFault::counts_proof() const {
  Json proof{{"packets", counts_.hit}};
  if (draws_) proof["of"] = counts_.matched;
  return proof.dump();
}

Step TableFault::arm() {
  // Nothing to undo from a journal, but a replay must know what to look for.
  Json found{{"table", name_}};
  if (auto loaded = marks_.load(found); !loaded.ok()) return Step::failed(loaded.error());
  if (auto noted = context_.note(found); !noted.ok()) return Step::failed(noted.error());
  if (auto attached = marks_.attach(); !attached.ok()) return Step::failed(attached.error());
  auto table = place_.create(name_, rules_);
  if (!table.ok()) return Step::failed(std::move(table).error());
  table_ = std::move(*table);
  armed_at_ = base::BootClock::now();
  const auto there = table_->there();
  if (!there.ok()) return Step::failed(there.error());
  if (!*there)
    return Step::failed(base::Error{.message = fmt::format("table {} did not appear", name_)});
  Json proof{{"table", name_}, {"rules", rules_.size()}};
  marks_.add_proof(proof);
  return Step::done(fmt::format("table inet {} is in place with {} rules for {}{}", name_,
                                rules_.size(), what_, marks_.text()),
                    proof.dump());
}

Step TableFault::effective() {
  const auto counts = table_->packets();
  if (!counts.ok()) return Step::failed(counts.error());
  counts_ = *counts;
  const base::Duration since = base::BootClock::now() - armed_at_;
  if (counts_.hit > 0) {
    const std::string after = base::humanize(since);
    return Step::done(
        draws_ ? fmt::format("{} ({}), {} after arming", met(), what_, after)
               : fmt::format("met {} of the {}, {} after arming", counts_.hit, what_, after),
        counts_proof());
  }
  return Step::wait(since < std::chrono::seconds(1) ? kLook : kSlowLook);
}

Step TableFault::hold() {
  return either(marks_.hold(), place_.hold());
}

Step TableFault::revert() {
  if (!table_) {
    marks_.end();
    return Step::done("there was no table of ours");
  }
  if (removed_) return Step::done(fmt::format("table inet {} was deleted", name_));
  if (const auto counts = table_->packets(); counts.ok()) counts_ = *counts;
  if (auto removed = table_->remove(); !removed.ok()) {
    // Closing the socket removes it too, a little later.
    table_.reset();
    return Step::failed(std::move(removed).error());
  }
  // The socket is closed with this object, after the revert was told: closing it waits some 10 ms
  // for the kernel's own cleaning up, although the rules are out of force already.
  removed_ = true;
  marks_.end();
  return Step::done(fmt::format("table inet {} is deleted; it {}", name_, met()), counts_proof());
}

Step TableFault::verify() {
  const auto there = table_ ? table_->there() : place_.exists(name_);
  if (!there.ok()) return Step::failed(there.error());
  const auto marking = marks_.any_left();
  if (!marking.ok()) return Step::failed(marking.error());
  if (!*there && !*marking)
    return Step::done(fmt::format("there is no table {} any more", name_),
                      Json{{"table", name_}, {"exists", false}}.dump());
  const base::Instant now = base::BootClock::now();
  if (!gone_wait_since_) gone_wait_since_ = now;
  if (now - *gone_wait_since_ < kOrphanLimit) return Step::wait(kLook);
  if (!*there) return Step::failed(FaultMarks::left_behind());
  return Step::failed(base::Error{
      .code = base::ErrorCode::kRevertNotVerified,
      .message =
          fmt::format("table inet {} is still there: some process keeps its socket open", name_),
      .hint = fmt::format("find it: nft list table inet {} names the owner's process", name_)});
}

void TableFault::recall(const Json& found) {
  if (const std::string name = text_field(found, "table"); !name.empty()) name_ = name;
  marks_.recall(found);
}

base::Result<std::unique_ptr<Fault>> create_table_fault(const model::FaultBinding& binding,
                                                        FaultContext& context) {
  const Json& details = binding.details.json();
  std::vector<PacketRule> rules;
  for (const Json& item : field(details, "rules")) {
    SQUALL_ASSIGN(PacketRule rule, rule_from_json(item));
    rules.push_back(std::move(rule));
  }
  if (rules.empty()) {
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the binding holds no packet rules"};
  }
  SQUALL_ASSIGN(auto marked, marking_from_json(field(details, "marked")));
  return std::unique_ptr<Fault>{std::make_unique<TableFault>(
      text_field(details, "what"), std::move(rules), std::move(marked), context,
      namespace_from_json(field(details, "network_namespace")))};
}

base::Result<Reach> reach_rules(const model::FaultBinding& binding) {
  Reach reach;
  // The rules are made in the network of this process.
  if (const auto place = namespace_from_json(field(binding.details.json(), "network_namespace")))
    reach.processes.push_back(place->process);
  for (const Json& item : field(binding.details.json(), "rules")) {
    SQUALL_ASSIGN(const PacketRule rule, rule_from_json(item));
    if (rule.action == PacketRule::Action::kMark) continue;  // harms nobody
    const std::size_t before = reach.ports.size();
    for (const auto* end : {&rule.source, &rule.destination}) {
      if (*end && (*end)->port != 0) reach.ports.push_back((*end)->port);
    }
    if (reach.ports.size() == before) reach.ports.push_back(0);
  }
  return reach;
}

Json table_details(const std::string& what, const std::vector<PacketRule>& rules,
                   const std::vector<PacketEndpoint>& endpoints) {
  Json list = Json::array();
  for (const PacketRule& rule : rules) list.push_back(to_json(rule));
  Json resources = Json::array();
  Json places = Json::array();
  for (const PacketEndpoint& endpoint : endpoints) {
    resources.push_back("network/" + endpoint.text());
    places.push_back(endpoint.text());
  }
  return {{"what", what}, {"rules", list}, {"endpoints", places}, {"resources", resources}};
}

namespace {

// A loopback socket that listens, and one that knocks at it again and again.
class ScratchPair {
 public:
  static base::Result<ScratchPair> create(bool six) {
    ScratchPair pair;
    pair.six_ = six;
    pair.listener_.reset(
        ::socket(six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!pair.listener_) return base::system_error("create a scratch socket", errno);
    sockaddr_storage address = pair.loopback(0);
    socklen_t size = sizeof address;
    auto* name = reinterpret_cast<sockaddr*>(&address);
    if (::bind(pair.listener_.get(), name, pair.address_size()) != 0 ||
        ::listen(pair.listener_.get(), 4) != 0 ||
        ::getsockname(pair.listener_.get(), name, &size) != 0)
      return base::system_error("listen on a scratch port", errno);
    pair.port_ = ntohs(six ? reinterpret_cast<sockaddr_in6*>(&address)->sin6_port
                           : reinterpret_cast<sockaddr_in*>(&address)->sin_port);
    return pair;
  }

  std::uint16_t port() const { return port_; }

  static void knock(void* self) {
    auto& pair = *static_cast<ScratchPair*>(self);
    pair.client_.reset(
        ::socket(pair.six_ ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const sockaddr_storage address = pair.loopback(pair.port_);
    // Answered by a drop or a reset, which the counters see; the result does not matter.
    [[maybe_unused]] const int connected = ::connect(
        pair.client_.get(), reinterpret_cast<const sockaddr*>(&address), pair.address_size());
  }

 private:
  socklen_t address_size() const { return six_ ? sizeof(sockaddr_in6) : sizeof(sockaddr_in); }
  sockaddr_storage loopback(std::uint16_t port) const {
    sockaddr_storage storage{};
    if (six_) {
      auto* address = reinterpret_cast<sockaddr_in6*>(&storage);
      address->sin6_family = AF_INET6;
      address->sin6_addr = in6addr_loopback;
      address->sin6_port = htons(port);
    } else {
      auto* address = reinterpret_cast<sockaddr_in*>(&storage);
      address->sin_family = AF_INET;
      address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      address->sin_port = htons(port);
    }
    return storage;
  }

  bool six_ = false;
  base::UniqueFd listener_;
  base::UniqueFd client_;
  std::uint16_t port_ = 0;
};

}  // namespace

base::Result<std::string> rehearse_table_fault(const model::FaultBinding& binding,
                                               FaultContext& context) {
  std::vector<PacketRule> rules;
  bool six = false;
  for (const Json& item : field(binding.details.json(), "rules")) {
    SQUALL_ASSIGN(PacketRule rule, rule_from_json(item));
    for (const auto* endpoint : {&rule.source, &rule.destination})
      six = six || (*endpoint && (*endpoint)->address.size() == 16);
    rules.push_back(std::move(rule));
  }
  SQUALL_ASSIGN(ScratchPair pair, ScratchPair::create(six));
  // The same rules, aimed at our port, and at us as the sender.
  for (PacketRule& rule : rules) {
    if (rule.user) rule.user = ::geteuid();
    rule.group.reset();                             // we are in no group that could be named
    if (rule.share != 0) rule.share = kShareWhole;  // the first knock must be met
    for (auto* endpoint : {&rule.source, &rule.destination}) {
      if (!*endpoint) continue;
      const std::uint16_t port = (*endpoint)->port == 0 ? std::uint16_t{0} : pair.port();
      SQUALL_ASSIGN(**endpoint, PacketEndpoint::parse(six ? "::1" : "127.0.0.1", port));
    }
  }
  SQUALL_ASSIGN(const Marking marking, marking_from_json(field(binding.details.json(), "marked")));
  SQUALL_ASSIGN(Marking marked, scratch_marking(marking, pair.port()));
  TableFault fault{"packets to a scratch port", rules, std::move(marked), context};
  return rehearse_life(fault, "cut a scratch port of the loopback interface", ScratchPair::knock,
                       &pair);
}

}  // namespace squall::inject
