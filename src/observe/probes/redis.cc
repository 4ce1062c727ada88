// The answer of a command as a number, and how Redis answers at all. hiredis speaks the protocol;
// connecting and waiting are ours, so that every question has one deadline.

#include <fmt/format.h>
#include <hiredis/hiredis.h>

#include <array>
#include <memory>

#include "base/files.h"
#include "base/text.h"
#include "observe/address.h"
#include "observe/common_parameters.h"
#include "observe/number_text.h"
#include "observe/probes/kinds.h"
#include "observe/ticking_probe.h"

namespace squall::observe {
namespace {

using evidence::Outcome;
using model::ValueType;

constexpr std::array<model::ParameterDescriptor, 7> kParameters = {{
    {.name = "address",
     .type = ValueType::kText,
     .required = true,
     .minimum = 3,
     .maximum = 300,
     .summary = "Where Redis listens: host:port."},
    {.name = "command",
     .type = ValueType::kArgv,
     .default_text = "[PING]",
     .summary = "The command and its arguments: [LLEN, queue:ready]. It should not write."},
    {.name = "user", .type = ValueType::kText, .summary = "User name, where there is one."},
    {.name = "password_file",
     .type = ValueType::kPath,
     .summary = "A file that holds the password and nothing else."},
    every_parameter("1s"),
    timeout_parameter("1s"),
    kAlwaysParameter,
}};
constexpr std::array<model::SignalDescriptor, 3> kSignals = {{
    {.field = "value",
     .type = model::SignalType::kGauge,
     .unit = "",
     .summary = "An integer, the number in a text, or the length of a list."},
    kLatencySignal,
    kSuccessSignal,
}};

struct FreeReply {
  void operator()(void* reply) const { freeReplyObject(reply); }
};
using Reply = std::unique_ptr<redisReply, FreeReply>;
struct FreeReader {
  void operator()(redisReader* reader) const { redisReaderFree(reader); }
};

std::string encode(const std::vector<std::string>& arguments) {
  std::vector<const char*> texts;
  std::vector<std::size_t> lengths;
  for (const std::string& argument : arguments) {
    texts.push_back(argument.data());
    lengths.push_back(argument.size());
  }
  char* buffer = nullptr;
  const int length = static_cast<int>(redisFormatCommandArgv(
      &buffer, static_cast<int>(texts.size()), texts.data(), lengths.data()));
  if (length < 0) return {};
  std::string bytes(buffer, static_cast<std::size_t>(length));
  redisFreeCommand(buffer);
  return bytes;
}

std::optional<double> value_of(const redisReply& reply) {
  switch (reply.type) {
    case REDIS_REPLY_INTEGER:
      return static_cast<double>(reply.integer);
    case REDIS_REPLY_ARRAY:
      return static_cast<double>(reply.elements);
    case REDIS_REPLY_STRING:
    case REDIS_REPLY_STATUS:
      return value_of_text({reply.str, static_cast<std::size_t>(reply.len)});
    default:
      return std::nullopt;
  }
}

// One connection, one question at a time.
class RedisClient {
 public:
  RedisClient(const Resolver& resolver, std::vector<std::string> login)
      : resolver_(resolver), login_(std::move(login)) {}

  base::Result<Reply> ask(const std::vector<std::string>& command, base::Instant deadline) {
    connecting_ = true;
    const bool kept = fd_.valid();
    if (!kept) SQUALL_TRY(connect(deadline));
    connecting_ = false;
    auto reply = exchange(command, deadline);
    if (reply.ok()) return reply;
    close();
    // As for a kept connection of any database: it may have been closed long ago.
    if (!kept || reply.error().code != base::ErrorCode::kUnavailable) return reply;
    connecting_ = true;
    SQUALL_TRY(connect(deadline));
    connecting_ = false;
    reply = exchange(command, deadline);
    if (!reply.ok()) close();
    return reply;
  }
  bool failed_connecting() const { return connecting_; }
  void close() { fd_.reset(); }

 private:
  base::Status connect(base::Instant deadline) {
    SQUALL_ASSIGN(fd_, connect_within(resolver_, deadline));
    reader_.reset(redisReaderCreate());
    if (login_.empty()) return {};
    auto reply = exchange(login_, deadline);
    base::Status status;
    if (!reply.ok()) {
      status = reply.error();
    } else if ((*reply)->type == REDIS_REPLY_ERROR) {
      status = base::Error{.code = base::ErrorCode::kUnavailable,
                           .message = "Redis refuses the password",
                           .hint = "check `user` and `password_file`"};
    }
    if (!status.ok()) close();
    return status;
  }

  base::Result<Reply> exchange(const std::vector<std::string>& command, base::Instant deadline) {
    SQUALL_TRY(send_all(fd_.get(), encode(command), deadline));
    std::array<char, 16 * 1024> buffer;
    while (true) {
      void* reply = nullptr;
      if (redisReaderGetReply(reader_.get(), &reply) != REDIS_OK) {
        return base::Error{.code = base::ErrorCode::kCorrupt,
                           .message = resolver_.text() + " does not speak Redis' protocol",
                           .hint = "check the address; TLS is not spoken by this probe"};
      }
      if (reply != nullptr) return Reply(static_cast<redisReply*>(reply));
      SQUALL_ASSIGN(const std::size_t size,
                    receive_some(fd_.get(), buffer.data(), buffer.size(), deadline));
      if (size == 0) {
        return base::Error{.code = base::ErrorCode::kUnavailable,
                           .message = resolver_.text() + " closed the connection",
                           .hint = "look at the log of the server"};
      }
      redisReaderFeed(reader_.get(), buffer.data(), size);
    }
  }

  const Resolver& resolver_;
  std::vector<std::string> login_;
  base::UniqueFd fd_;
  std::unique_ptr<redisReader, FreeReader> reader_;
  bool connecting_ = false;
};

class RedisProbe final : public TickingProbe {
 public:
  RedisProbe(const model::ProbeSpecification& specification, ProbeContext context,
             const HostAndPort& address)
      : TickingProbe(specification.name, std::move(context),
                     specification.parameters.duration("every"),
                     specification.parameters.duration("timeout")),
        parameters_(specification.parameters),
        command_(parameters_.texts("command")),
        resolver_(address.host, address.port),
        series_(sink(), this->context().slices) {}

  base::Status check() override {
    SQUALL_TRY(open());
    // The command itself may write, so that a check only greets.
    const auto reply = client_->ask({"PING"}, base::BootClock::now() + std::chrono::seconds(3));
    if (!reply.ok()) return reply.error();
    const std::string_view text = (*reply)->type == REDIS_REPLY_ERROR ? (*reply)->str : "";
    if (text.starts_with("NOAUTH") || text.starts_with("WRONGPASS")) {
      return base::Error{.code = base::ErrorCode::kPermission,
                         .message = "Redis at " + resolver_.text() + " wants a password",
                         .hint = "put it into a file and name that with password_file"};
    }
    return {};
  }

  base::Status prepare() override {
    SQUALL_TRY(open());
    SQUALL_ASSIGN(value_, declare_gauge("value"));
    return series_.declare(name());
  }

 private:
  base::Status open() {
    SQUALL_TRY(resolver_.resolve());
    if (client_ != nullptr) return {};
    std::vector<std::string> login;
    if (const auto file = parameters_.optional_text("password_file")) {
      SQUALL_ASSIGN(const std::string password, base::read_file(*file, 4096));
      login.emplace_back("AUTH");
      if (const auto user = parameters_.optional_text("user")) login.push_back(*user);
      login.emplace_back(base::trim(password));
    }
    client_ = std::make_unique<RedisClient>(resolver_, std::move(login));
    return {};
  }

  Outcome outcome_of(const base::Error& error) const {
    if (error.code == base::ErrorCode::kTimeout) return Outcome::kTimeout;
    if (error.code == base::ErrorCode::kCorrupt) return Outcome::kProtocol;
    return client_->failed_connecting() ? Outcome::kConnect : Outcome::kReset;
  }

  void tick(base::Instant intended) override {
    evidence::RequestSample sample{.intended = intended, .sent = now()};
    const auto reply = client_->ask(command_, intended + limit());
    sample.done = now();
    if (!reply.ok()) {
      sample.outcome = outcome_of(reply.error());
      resolver_.refresh();
      note(reply.error().to_string());
    } else if ((*reply)->type == REDIS_REPLY_ERROR) {
      sample.outcome = Outcome::kStatus;
      note("Redis answers: " +
           base::printable({(*reply)->str, static_cast<std::size_t>((*reply)->len)}));
    } else if (const auto value = value_of(**reply)) {
      add(value_, *value);
    }
    series_.add(sample);
  }

  model::Parameters parameters_;
  std::vector<std::string> command_;
  Resolver resolver_;
  RequestSeries series_;
  evidence::SeriesId value_ = 0;
  std::unique_ptr<RedisClient> client_;
};

}  // namespace

constexpr model::ProbeKindDescriptor kRedisProbe = {
    .name = "redis",
    .summary = "Sends Redis a command and keeps the answer as a number.",
    .parameters = kParameters,
    .signals = kSignals,
    .example = "backlog: { redis: { address: \"127.0.0.1:6379\", command: [LLEN, jobs] } }"};

base::Result<std::unique_ptr<Probe>> make_redis_probe(
    const model::ProbeSpecification& specification, ProbeContext context) {
  SQUALL_ASSIGN(const HostAndPort address,
                parse_host_and_port(specification.parameters.text("address")));
  return std::unique_ptr<Probe>(
      std::make_unique<RedisProbe>(specification, std::move(context), address));
}

}  // namespace squall::observe
