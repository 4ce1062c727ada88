#include "inject/wire.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "base/frame.h"
#include "inject/json_fields.h"

namespace squall::inject {

namespace {

using base::Json;

enum class Type : std::uint16_t {
  kHello = 1,
  kArm = 2,
  kRenew = 3,
  kRevert = 4,
  kRehearse = 5,
  kEnd = 6,
  kRelease = 7,
  kReady = 101,
  kEvent = 102,
  kRehearsed = 103,
  kFinished = 104,
  kStop = 105,
  kStatus = 106,
  kStatusReply = 107,
};

constexpr std::array<std::pair<LeaseState, std::string_view>, 7> kStates{{
    {LeaseState::kArming, "arming"},
    {LeaseState::kArmed, "armed"},
    {LeaseState::kEffective, "effective"},
    {LeaseState::kReverting, "reverting"},
    {LeaseState::kReverted, "reverted"},
    {LeaseState::kVerified, "verified"},
    {LeaseState::kFailed, "failed"},
}};

base::Error corrupt(std::string message) {
  return base::Error{.code = base::ErrorCode::kCorrupt,
                     .message = std::move(message),
                     .hint = "engine and holder must be of the same version of Squall"};
}

Json error_to_json(const base::Error& error) {
  return {{"code", static_cast<int>(error.code)},
          {"message", error.message},
          {"hint", error.hint},
          {"context", error.context}};
}

base::Error error_from_json(const Json& json) {
  base::Error error;
  const std::int64_t code = integer_field(json, "code");
  const auto last = static_cast<std::int64_t>(base::ErrorCode::kRevertNotVerified);
  if (code >= 0 && code <= last) error.code = static_cast<base::ErrorCode>(code);
  error.message = text_field(json, "message");
  error.hint = text_field(json, "hint");
  error.context = texts_field(json, "context");
  return error;
}

Json lease_to_json(const ActiveLease& lease) {
  Json processes = Json::array();
  for (const auto& process : lease.processes) processes.push_back(to_json(process));
  return {{"lease", lease.lease.text()},
          {"run", lease.run},
          {"experiment", lease.experiment},
          {"fault", lease.fault},
          {"kind", lease.kind},
          {"reason", lease.reason},
          {"targets", lease.targets},
          {"processes", processes},
          {"owner", lease.owner},
          {"state", to_string(lease.state)},
          {"ends_ns", base::to_nanoseconds(lease.ends)},
          {"holder", to_json(lease.holder)},
          {"holder_alive", lease.holder_alive},
          {"overlap", lease.overlap}};
}

ActiveLease active_lease_from(const Json& json) {
  ActiveLease lease;
  lease.lease = lease_id_from(text_field(json, "lease")).value_or(base::LeaseId{});
  lease.run = text_field(json, "run");
  lease.experiment = text_field(json, "experiment");
  lease.fault = text_field(json, "fault");
  lease.kind = text_field(json, "kind");
  lease.reason = text_field(json, "reason");
  lease.targets = texts_field(json, "targets");
  const Json& processes = field(json, "processes");
  if (processes.is_array()) {
    for (const Json& item : processes) lease.processes.push_back(identity_of(item));
  }
  lease.owner = text_field(json, "owner");
  lease.state = lease_state_from(text_field(json, "state")).value_or(LeaseState::kFailed);
  lease.ends = base::instant_from_nanoseconds(integer_field(json, "ends_ns"));
  lease.holder = identity_field(json, "holder");
  lease.holder_alive = boolean_field(json, "holder_alive");
  lease.overlap = boolean_field(json, "overlap");
  return lease;
}

struct Encoder {
  Type type = Type::kHello;
  Json body = Json::object();

  void operator()(const Hello& m) {
    type = Type::kHello;
    const HolderOptions& o = m.options;
    body = {{"mode", m.mode == Hello::Mode::kReplay ? "replay" : "hold"},
            {"run", o.run},
            {"experiment", o.experiment},
            {"reason", o.reason},
            {"system_directory", o.system_directory},
            {"renewal_limit_ns", o.renewal_limit.count()},
            {"state_directory", o.state_directory},
            {"owner", m.owner},
            {"engine", to_json(m.engine)},
            {"caller", to_json(m.caller)},
            {"policy_file", m.policy_file}};
  }
  void operator()(const ReleaseMessage&) { type = Type::kRelease; }
  void operator()(const ArmMessage& m) {
    type = Type::kArm;
    body = {{"lease", m.lease.text()},
            {"binding", model::to_json(m.request.binding)},
            {"duration_ns", m.request.duration.count()}};
  }
  void operator()(const RenewMessage&) { type = Type::kRenew; }
  void operator()(const RevertMessage& m) {
    type = Type::kRevert;
    body = {{"lease", m.lease.text()}, {"cause", m.cause}};
  }
  void operator()(const RehearseMessage& m) {
    type = Type::kRehearse;
    body = {{"id", m.id}, {"binding", model::to_json(m.binding)}};
  }
  void operator()(const EndMessage&) { type = Type::kEnd; }
  void operator()(const Ready& m) {
    type = Type::kReady;
    body = {{"holder", to_json(m.holder)}};
  }
  void operator()(const LeaseEvent& m) {
    type = Type::kEvent;
    body = {{"lease", m.lease.text()},
            {"fault", m.fault},
            {"state", to_string(m.state)},
            {"at_ns", base::to_nanoseconds(m.at)},
            {"text", m.text},
            {"proof", m.proof},
            {"cause", m.cause},
            {"still_active", m.still_active},
            {"notice", m.notice}};
  }
  void operator()(const RehearsedMessage& m) {
    type = Type::kRehearsed;
    body = {{"id", m.id}, {"text", m.text}};
    if (m.error) body["error"] = error_to_json(*m.error);
  }
  void operator()(const Finished& m) {
    type = Type::kFinished;
    body = {{"leases", m.leases}, {"left", m.left}};
  }
  void operator()(const StopMessage& m) {
    type = Type::kStop;
    body = {{"who", m.who},
            {"why", m.why},
            {"cause", m.cause},
            {"run", m.run},
            {"everything", m.everything}};
  }
  void operator()(const StatusMessage&) { type = Type::kStatus; }
  void operator()(const StatusReply& m) {
    type = Type::kStatusReply;
    body = {{"leases", Json::array()}, {"complete", m.complete}};
    for (const ActiveLease& lease : m.leases) body["leases"].push_back(lease_to_json(lease));
  }
};

base::Result<base::LeaseId> lease_field(const Json& json) {
  const auto id = lease_id_from(text_field(json, "lease"));
  if (!id) return corrupt("a message names no lease");
  return *id;
}

base::Result<Message> decode_hello(const Json& json) {
  Hello hello;
  const std::string mode = text_field(json, "mode");
  if (mode != "hold" && mode != "replay") return corrupt("a greeting has an unknown mode");
  hello.mode = mode == "replay" ? Hello::Mode::kReplay : Hello::Mode::kHold;
  hello.options.run = text_field(json, "run");
  hello.options.experiment = text_field(json, "experiment");
  hello.options.reason = text_field(json, "reason");
  hello.options.system_directory = text_field(json, "system_directory");
  hello.options.renewal_limit = base::Duration{integer_field(json, "renewal_limit_ns")};
  hello.options.state_directory = text_field(json, "state_directory");
  hello.owner = text_field(json, "owner");
  hello.engine = identity_field(json, "engine");
  hello.caller = account_from_json(field(json, "caller"));
  hello.policy_file = text_field(json, "policy_file");
  if (hello.options.renewal_limit <= base::Duration::zero())
    return corrupt("a greeting has no renewal limit");
  return Message{std::move(hello)};
}

base::Result<Message> decode_arm(const Json& json) {
  ArmMessage arm;
  SQUALL_ASSIGN(arm.lease, lease_field(json));
  SQUALL_ASSIGN(arm.request.binding, model::fault_binding_from_json(field(json, "binding")));
  arm.request.duration = base::Duration{integer_field(json, "duration_ns")};
  return Message{std::move(arm)};
}

base::Result<Message> decode_event(const Json& json) {
  LeaseEvent event;
  SQUALL_ASSIGN(event.lease, lease_field(json));
  const auto state = lease_state_from(text_field(json, "state"));
  if (!state) return corrupt("an event has an unknown state");
  event.state = *state;
  event.fault = text_field(json, "fault");
  event.at = base::instant_from_nanoseconds(integer_field(json, "at_ns"));
  event.text = text_field(json, "text");
  event.proof = text_field(json, "proof");
  event.cause = text_field(json, "cause");
  event.still_active = boolean_field(json, "still_active");
  event.notice = boolean_field(json, "notice");
  return Message{std::move(event)};
}

base::Result<Message> decode_body(Type type, const Json& json) {
  switch (type) {
    case Type::kHello:
      return decode_hello(json);
    case Type::kArm:
      return decode_arm(json);
    case Type::kRenew:
      return Message{RenewMessage{}};
    case Type::kRevert: {
      RevertMessage revert;
      SQUALL_ASSIGN(revert.lease, lease_field(json));
      revert.cause = text_field(json, "cause");
      return Message{std::move(revert)};
    }
    case Type::kRehearse: {
      RehearseMessage rehearse;
      rehearse.id = unsigned_field(json, "id");
      SQUALL_ASSIGN(rehearse.binding, model::fault_binding_from_json(field(json, "binding")));
      return Message{std::move(rehearse)};
    }
    case Type::kEnd:
      return Message{EndMessage{}};
    case Type::kReady:
      return Message{Ready{.holder = identity_field(json, "holder")}};
    case Type::kEvent:
      return decode_event(json);
    case Type::kRehearsed: {
      RehearsedMessage rehearsed{
          .id = unsigned_field(json, "id"), .text = text_field(json, "text"), .error = {}};
      if (field(json, "error").is_object()) rehearsed.error = error_from_json(json["error"]);
      return Message{std::move(rehearsed)};
    }
    case Type::kFinished:
      return Message{Finished{.leases = static_cast<int>(integer_field(json, "leases")),
                              .left = texts_field(json, "left")}};
    case Type::kStop:
      return Message{StopMessage{.who = text_field(json, "who"),
                                 .why = text_field(json, "why"),
                                 .cause = text_field(json, "cause"),
                                 .run = text_field(json, "run"),
                                 .everything = boolean_field(json, "everything")}};
    case Type::kRelease:
      return Message{ReleaseMessage{}};
    case Type::kStatus:
      return Message{StatusMessage{}};
    case Type::kStatusReply: {
      StatusReply reply{.leases = {}, .complete = boolean_field(json, "complete")};
      const Json& leases = field(json, "leases");
      if (leases.is_array()) {
        for (const Json& item : leases) reply.leases.push_back(active_lease_from(item));
      }
      return Message{std::move(reply)};
    }
  }
  return corrupt(fmt::format("a message has the unknown type {}", static_cast<int>(type)));
}

}  // namespace

std::string_view to_string(LeaseState state) {
  for (const auto& [value, name] : kStates) {
    if (value == state) return name;
  }
  return "failed";
}

std::optional<LeaseState> lease_state_from(std::string_view text) {
  for (const auto& [value, name] : kStates) {
    if (name == text) return value;
  }
  return std::nullopt;
}

std::optional<base::LeaseId> lease_id_from(std::string_view text) {
  base::LeaseId id;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id.value, 16);
  if (error != std::errc{} || end != text.data() + text.size() || text.size() != 16)
    return std::nullopt;
  return id;
}

base::Result<std::vector<std::byte>> encode(const Message& message) {
  Encoder encoder;
  std::visit(encoder, message);
  std::vector<std::byte> packet;
  const std::string text =
      encoder.body.dump(-1, ' ', false, Json::error_handler_t::replace);  // names may be any bytes
  base::append_frame(packet, static_cast<std::uint16_t>(encoder.type), base::BootClock::now(),
                     text);
  if (packet.size() <= kPacketLimit) return packet;
  return base::Error{
      .code = base::ErrorCode::kExhausted,
      .message = fmt::format("a message to the holder would be {} bytes; at most {} fit",
                             packet.size(), kPacketLimit),
      .hint = "the fault is bound to very many targets; bind it to fewer"};
}

base::Result<Message> decode(std::span<const std::byte> packet) {
  const base::DecodedFrame decoded = base::decode_frame(packet);
  if (!decoded.frame) return corrupt("a message is not a frame of ours");
  if (decoded.frame->size != packet.size()) return corrupt("a message has bytes behind its frame");
  const auto& payload = decoded.frame->payload;
  const std::string_view text{reinterpret_cast<const char*>(payload.data()), payload.size()};
  SQUALL_ASSIGN(const Json json, base::parse_json(text, kPacketLimit));
  if (!json.is_object()) return corrupt("a message is not a JSON object");
  return decode_body(static_cast<Type>(decoded.frame->type), json);
}

}  // namespace squall::inject
