// resource.connections: uses up the connections of a server by holding many, as an application with
// a leak does. They are sockets of the holder: the kernel closes them when it dies.

#include <fmt/format.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <set>

#include "base/fd.h"
#include "base/text.h"
#include "base/units.h"
#include "inject/fault.h"
#include "inject/faults/network/scope.h"
#include "inject/faults/resource/socket_address.h"
#include "inject/json_fields.h"

namespace squall::inject {

namespace {

using base::Json;
using model::LifetimeClass;
using model::ParameterDescriptor;
using model::ValueType;

constexpr std::string_view kMechanism = "connections of the holder";
constexpr std::array<std::string_view, 1> kMechanisms{kMechanism};
constexpr std::array<std::string_view, 0> kCapabilities{};
constexpr std::array<std::string_view, 2> kHolds{"tcp", "postgres"};
constexpr std::array<ParameterDescriptor, 6> kParameters{{
    {.name = "service",
     .type = ValueType::kService,
     .required = true,
     .summary = "The server whose connections are used up."},
    {.name = "connections",
     .type = ValueType::kInteger,
     .required = true,
     .minimum = 1,
     .maximum = 20000,
     .summary = "How many connections are held to each address of the service."},
    {.name = "hold",
     .type = ValueType::kChoice,
     .default_text = "tcp",
     .summary = "`tcp` connects and is silent (Redis and most servers count that); `postgres` also "
                "starts a session, which PostgreSQL counts.",
     .choices = kHolds},
    {.name = "user",
     .type = ValueType::kText,
     .default_text = "postgres",
     .minimum = 1,
     .maximum = 63,
     .summary = "With `hold: postgres`, the role that asks for the session; no password is sent."},
    {.name = "database",
     .type = ValueType::kText,
     .default_text = "postgres",
     .minimum = 1,
     .maximum = 63,
     .summary = "With `hold: postgres`, the database."},
    {.name = "port",
     .type = ValueType::kInteger,
     .minimum = 1,
     .maximum = 65535,
     .summary = "Only this one of the ports on which it listens."},
}};

constexpr model::FaultKindDescriptor kDescriptor{
    .name = "resource.connections",
    .summary = "Uses up the connections that a server allows.",
    .effect =
        "Who connects anew is turned away or waits, as the server decides. Those who are connected "
        "stay so; a place that they give up is taken.",
    .revert = "The connections are closed. The kernel does the same when the holder dies.",
    .proof =
        "Effect: how many of the sockets TCP_INFO calls established, and how many the server "
        "turned away. Revert: the kernel's socket table has none of them any more.",
    .weakest = LifetimeClass::kKernelHeld,
    .mechanisms = kMechanisms,
    .capabilities = kCapabilities,
    .parameters = kParameters,
    .can_be_effective = true,
    .example =
        "- resource.connections: { service: db, connections: 100, hold: postgres }\n"
        "  name: pool-exhausted\n"
        "  at: 5s\n"
        "  for: 20s\n",
};

constexpr std::size_t kOpenedPerStep = 64;
constexpr std::size_t kClosedPerStep = 256;
constexpr std::size_t kTriedAgainPerLook = 4;
constexpr base::Duration kPause = std::chrono::milliseconds(1);
constexpr base::Duration kLook = std::chrono::milliseconds(5);
constexpr base::Duration kWatch = std::chrono::milliseconds(200);
constexpr base::Duration kNoticeEvery = std::chrono::seconds(10);
constexpr base::Duration kSettled = std::chrono::milliseconds(50);
constexpr base::Duration kSettleLimit = std::chrono::seconds(10);
constexpr base::Duration kCloseLimit = std::chrono::seconds(2);
constexpr rlim_t kOtherDescriptors = 128;  // the holder's own

// Length, protocol 3.0, then names and values, each ended by a zero byte.
std::string startup_message(const std::string& user, const std::string& database) {
  std::string body{"\0\3\0\0", 4};
  for (const std::string& text : {std::string("user"), user, std::string("database"), database,
                                  std::string("application_name"), std::string("squall")})
    body.append(text).push_back('\0');
  body.push_back('\0');
  const std::size_t size = body.size() + 4;
  std::string message;
  for (const int shift : {24, 16, 8, 0}) message.push_back(static_cast<char>(size >> shift & 0xff));
  return message + body;
}

// One place that we want at the server.
struct Place {
  enum class State { kEmpty, kConnecting, kGreeting, kHeld, kTurnedAway };
  std::size_t endpoint = 0;
  State state = State::kEmpty;
  base::UniqueFd socket;
  std::string why;  // kTurnedAway
};

class Connections final : public Fault {
 public:
  Connections(std::vector<PacketEndpoint> endpoints, std::size_t count, std::string greeting,
              FaultContext& context)
      : endpoints_(std::move(endpoints)), greeting_(std::move(greeting)), context_(context) {
    for (std::size_t i = 0; i < count; ++i) {
      for (std::size_t endpoint = 0; endpoint < endpoints_.size(); ++endpoint)
        places_.push_back({.endpoint = endpoint, .socket = {}, .why = {}});
    }
  }

  Step arm() override {
    if (!noted_) {
      if (auto enough = allow_descriptors(); !enough.ok())
        return Step::failed(std::move(enough).error());
      const Json note{{"connecting", places_text()}, {"count", places_.size()}};
      if (auto noted = context_.note(note); !noted.ok()) return Step::failed(noted.error());
      noted_ = true;
      since_ = base::BootClock::now();
    }
    // Some at a time, so that the server's queue takes them.
    std::size_t opened = 0;
    for (; next_ < places_.size() && opened < kOpenedPerStep; ++next_, ++opened)
      open(places_[next_]);
    look();
    if (next_ < places_.size()) return Step::wait(kPause);
    return Step::done(fmt::format("asked {} for {} connections", places_text(), places_.size()));
  }

  Step effective() override {
    look();
    const std::size_t pending = count(Place::State::kConnecting) + count(Place::State::kGreeting);
    const base::Duration took = base::BootClock::now() - since_;
    // A server accepts first and turns away then.
    const bool settling = base::BootClock::now() - changed_at_ < kSettled;
    if ((pending > 0 || settling) && took < kSettleLimit) return Step::wait(kLook);
    const std::size_t held = established();
    const std::string turned_away = reasons();
    if (count(Place::State::kHeld) == 0) {
      return Step::failed(base::Error{
          .code = base::ErrorCode::kUnavailable,
          .message = fmt::format("none of {} connections to {} is held{}", places_.size(),
                                 places_text(), turned_away),
          .hint = "does the server run, and does it let this host, user and database in?"});
    }
    std::string text =
        fmt::format("{} of {} connections to {} are established after {}{}", held, places_.size(),
                    places_text(), base::humanize(took), turned_away);
    if (pending > 0) text += fmt::format("; {} are not answered", pending);
    return Step::done(text, Json{{"established", held},
                                 {"turned_away", count(Place::State::kTurnedAway)},
                                 {"unanswered", pending}}
                                .dump());
  }

  // A server that ends our connections (a timeout for idle ones, a restart) does not end the fault.
  Step hold() override {
    look();
    std::size_t again = 0;
    for (Place& place : places_) {
      if (again == kTriedAgainPerLook) break;
      if (place.state != Place::State::kTurnedAway) continue;
      open(place);
      ++again;
    }
    Step step = Step::wait(kWatch);
    const base::Instant now = base::BootClock::now();
    if (lost_ > 0 && now - told_at_ > kNoticeEvery) {
      step.text = fmt::format("the server closed {} of our connections; they are opened again",
                              std::exchange(lost_, 0));
      told_at_ = now;
    }
    return step;
  }

  Step revert() override {
    if (recalled_) return Step::done("the kernel closed the connections when their holder died");
    std::size_t closed = 0;
    for (Place& place : places_) {
      if (!place.socket) continue;
      if (closed++ == kClosedPerStep) return Step::wait(kPause);
      place.socket.reset();
      place.state = Place::State::kEmpty;
    }
    return Step::done(fmt::format("closed {} connections to {}", inodes_.size(), places_text()));
  }

  Step verify() override {
    if (recalled_ || inodes_.empty())
      return Step::done(recalled_ ? "their holder is dead" : "nothing was connected");
    const auto sockets = context_.host().sockets(host::Host::Owners::kSkip);
    if (!sockets.ok()) return Step::failed(sockets.error());
    const auto left = std::count_if(sockets->begin(), sockets->end(), [&](const auto& socket) {
      return socket.inode != 0 && inodes_.contains(socket.inode) &&
             socket.state == host::SocketState::kEstablished && leads_to_us(socket);
    });
    if (left == 0) {
      return Step::done(fmt::format("none of our connections to {} is left", places_text()),
                        Json{{"established", 0}}.dump());
    }
    const base::Instant now = base::BootClock::now();
    if (!verifying_since_) verifying_since_ = now;
    if (now - *verifying_since_ < kCloseLimit) return Step::wait(kLook);
    return Step::failed(
        base::Error{.code = base::ErrorCode::kRevertNotVerified,
                    .message = fmt::format("{} of our connections are still there", left),
                    .hint = "end the holder: `squall status` names it"});
  }

  void recall(const Json& found) override {
    recalled_ = recalled_ || !text_field(found, "connecting").empty();
  }

 private:
  base::Status allow_descriptors() const {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return base::system_error("getrlimit", errno);
    const rlim_t needed = places_.size() + kOtherDescriptors;
    if (limit.rlim_cur >= needed) return {};
    limit.rlim_cur = needed;
    if (needed <= limit.rlim_max && ::setrlimit(RLIMIT_NOFILE, &limit) == 0) return {};
    return base::Error{
        .code = base::ErrorCode::kExhausted,
        .message = fmt::format("{} connections need {} descriptors; the holder may have {}",
                               places_.size(), needed, limit.rlim_max),
        .hint = "lower `connections`, or raise the hard limit: ulimit -Hn"};
  }

  void open(Place& place) {
    place.why.clear();
    const PacketEndpoint& endpoint = endpoints_[place.endpoint];
    SocketAddress address = socket_address(endpoint);
    if (endpoint.address.empty()) {  // it listens on every address: this host's own will do
      PacketEndpoint own = endpoint;
      own.address = {127, 0, 0, 1};
      address = socket_address(own);
    }
    place.socket.reset(::socket(address.family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    struct stat info {};
    if (!place.socket || ::fstat(place.socket.get(), &info) != 0)
      return turn_away(place, base::system_error("socket", errno).message);
    inodes_.insert(info.st_ino);
    place.state = Place::State::kConnecting;
    if (::connect(place.socket.get(), address.get(), address.size) != 0 && errno != EINPROGRESS)
      turn_away(place, base::system_error("connect", errno).message);
  }

  // Not one of those that the revert has to close.
  void turn_away(Place& place, std::string why) {
    struct stat info {};
    if (place.socket && ::fstat(place.socket.get(), &info) == 0) inodes_.erase(info.st_ino);
    place.socket.reset();
    place.state = Place::State::kTurnedAway;
    place.why = std::move(why);
    changed_at_ = base::BootClock::now();
  }

  // Takes up what has happened to the sockets since the last look.
  void look() {
    std::vector<pollfd> requests;
    std::vector<Place*> asked;
    for (Place& place : places_) {
      if (!place.socket) continue;
      const bool connecting = place.state == Place::State::kConnecting;
      requests.push_back({.fd = place.socket.get(),
                          .events = static_cast<short>(connecting ? POLLOUT : POLLIN | POLLRDHUP),
                          .revents = 0});
      asked.push_back(&place);
    }
    if (requests.empty() || ::poll(requests.data(), requests.size(), 0) <= 0) return;
    for (std::size_t i = 0; i < requests.size(); ++i) {
      if (requests[i].revents == 0) continue;
      if (asked[i]->state == Place::State::kConnecting)
        connected(*asked[i]);
      else
        heard(*asked[i]);
    }
  }

  void connected(Place& place) {
    int error = 0;
    socklen_t size = sizeof error;
    ::getsockopt(place.socket.get(), SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) return turn_away(place, base::system_error("connect", error).message);
    changed_at_ = base::BootClock::now();
    if (greeting_.empty()) {
      place.state = Place::State::kHeld;
      return;
    }
    // It always fits into the buffer of a fresh socket.
    const ssize_t sent =
        ::send(place.socket.get(), greeting_.data(), greeting_.size(), MSG_NOSIGNAL);
    if (sent != static_cast<ssize_t>(greeting_.size()))
      return turn_away(place, base::system_error("send", errno).message);
    place.state = Place::State::kGreeting;
  }

  void heard(Place& place) {
    std::array<char, 4096> buffer;
    const ssize_t size = ::recv(place.socket.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) return;
    const std::string_view text{buffer.data(),
                                static_cast<std::size_t>(std::max<ssize_t>(size, 0))};
    if (place.state == Place::State::kGreeting && text.starts_with('R')) {
      place.state = Place::State::kHeld;  // a session that wants to be, or is, authenticated
      return;
    }
    const bool refused = place.state == Place::State::kGreeting && !text.empty();
    if (!refused && !text.empty()) {
      // What a server says before it closes (Redis: "-ERR max number of clients reached").
      if (greeting_.empty()) place.why = base::printable(base::trim(text.substr(0, 80)));
      return;
    }
    if (place.state == Place::State::kHeld && place.why.empty()) ++lost_;
    turn_away(place, refused             ? postgres_error(text)
                     : place.why.empty() ? std::string("closed by the server")
                                         : std::string(place.why));
  }

  // An ErrorResponse: fields of a letter and a text each; M is the message.
  static std::string postgres_error(std::string_view text) {
    if (!text.starts_with('E') || text.size() < 6) return "an answer that is not PostgreSQL's";
    std::size_t at = 5;
    while (at < text.size() && text[at] != '\0') {
      const std::size_t end = std::min(text.find('\0', at + 1), text.size());
      if (text[at] == 'M') return base::printable(text.substr(at + 1, end - at - 1));
      at = end + 1;
    }
    return "an error of the server";
  }

  std::size_t count(Place::State state) const {
    return static_cast<std::size_t>(std::count_if(
        places_.begin(), places_.end(), [&](const Place& place) { return place.state == state; }));
  }

  // By the kernel's word.
  std::size_t established() const {
    std::size_t number = 0;
    for (const Place& place : places_) {
      tcp_info info{};
      socklen_t size = sizeof info;
      if (place.state == Place::State::kHeld &&
          ::getsockopt(place.socket.get(), IPPROTO_TCP, TCP_INFO, &info, &size) == 0 &&
          info.tcpi_state == TCP_ESTABLISHED)
        ++number;
    }
    return number;
  }

  std::string reasons() const {
    const std::size_t number = count(Place::State::kTurnedAway);
    if (number == 0) return {};
    std::set<std::string> why;
    for (const Place& place : places_) {
      if (place.state == Place::State::kTurnedAway && why.size() < 3) why.insert(place.why);
    }
    return fmt::format("; {} were turned away: {}", number,
                       base::enumerate({why.begin(), why.end()}));
  }

  bool leads_to_us(const host::Socket& socket) const {
    return std::any_of(endpoints_.begin(), endpoints_.end(), [&](const PacketEndpoint& endpoint) {
      return endpoint.port == socket.remote.port;
    });
  }

  std::string places_text() const {
    std::vector<std::string> texts;
    for (const PacketEndpoint& endpoint : endpoints_) texts.push_back(endpoint.text());
    return base::enumerate(texts);
  }

  std::vector<PacketEndpoint> endpoints_;
  std::string greeting_;
  FaultContext& context_;
  std::vector<Place> places_;
  std::set<std::uint64_t> inodes_;
  std::size_t next_ = 0;
  std::size_t lost_ = 0;
  bool noted_ = false;
  bool recalled_ = false;
  base::Instant since_;
  base::Instant changed_at_;
  base::Instant told_at_;
  std::optional<base::Instant> verifying_since_;
};

void describe_connections(const model::SystemMap&, const model::FaultSpecification& fault,
                          model::PlannedFault& planned) {
  const model::Parameters& parameters = fault.parameters;
  const std::string service = parameters.text("service");
  planned.target = fmt::format("connections of {}", service);
  planned.services = {service};
  planned.processes_max = 0;
  planned.changes = {
      {.change = fmt::format("Squall holds {} connections to {} ({})",
                             parameters.integer("connections"), service, parameters.text("hold")),
       .revert = "they are closed; the kernel does that when their owner dies",
       .lifetime = LifetimeClass::kKernelHeld}};
}

base::Result<model::FaultBinding> bind_connections(const BindRequest& request) {
  const model::Parameters& parameters = request.fault.parameters;
  const std::string name = parameters.text("service");
  const model::Service* service = request.map.service(name);
  if (service == nullptr)
    return base::Error{.code = base::ErrorCode::kNotFound,
                       .message = fmt::format("the system map has no service {}", name)};
  const auto port = static_cast<std::uint16_t>(parameters.optional_integer("port").value_or(0));
  SQUALL_ASSIGN(const auto endpoints, endpoints_of(request, *service, port));
  const auto probes = evidence_probes(request.map, *service, endpoints, {});
  if (!probes.empty()) {
    return base::Error{
        .code = base::ErrorCode::kUnsupported,
        .message = fmt::format("the fault would also take connections from Squall's own evidence: "
                               "probe {}",
                               base::enumerate(probes)),
        .hint = "if the probe stands for a caller, say so: `from: SERVICE`; else give `port:`"};
  }
  Json places = Json::array();
  Json resources = Json::array();
  model::FaultBinding binding = new_binding(request, kMechanism, LifetimeClass::kKernelHeld);
  for (const PacketEndpoint& endpoint : endpoints) {
    const std::string text = endpoint.text();
    places.push_back({{"address", endpoint.address}, {"port", endpoint.port}});
    resources.push_back("connections/" + text);
    binding.targets.push_back({.service = name,
                               .member = {},
                               .process = {},
                               .description = fmt::format("connections of {} at {}", name, text)});
  }
  Json details = {
      {"places", places}, {"count", parameters.integer("connections")}, {"resources", resources}};
  if (parameters.text("hold") == "postgres") {
    details["user"] = parameters.text("user");
    details["database"] = parameters.text("database");
  }
  binding.details = model::Parameters{details};
  return binding;
}

base::Result<std::vector<PacketEndpoint>> endpoints_from(const Json& details) {
  std::vector<PacketEndpoint> endpoints;
  for (const Json& item : field(details, "places")) {
    PacketEndpoint endpoint;
    for (const Json& byte : field(item, "address")) {
      if (byte.is_number_unsigned()) endpoint.address.push_back(byte.get<std::uint8_t>());
    }
    endpoint.port = static_cast<std::uint16_t>(unsigned_field(item, "port"));
    const std::size_t size = endpoint.address.size();
    if (endpoint.port != 0 && (size == 0 || size == 4 || size == 16))
      endpoints.push_back(std::move(endpoint));
  }
  if (!endpoints.empty()) return endpoints;
  return base::Error{.code = base::ErrorCode::kCorrupt,
                     .message = "the binding names no address to connect to"};
}

base::Result<std::unique_ptr<Fault>> create_connections(const model::FaultBinding& binding,
                                                        FaultContext& context) {
  const Json& details = binding.details.json();
  SQUALL_ASSIGN(auto endpoints, endpoints_from(details));
  const std::uint64_t count = unsigned_field(details, "count");
  if (binding.mechanism != kMechanism || count == 0 || count > 20000)
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the binding names no number of connections"};
  std::string greeting;
  if (const std::string user = text_field(details, "user"); !user.empty())
    greeting = startup_message(user, text_field(details, "database"));
  return std::unique_ptr<Fault>{std::make_unique<Connections>(
      std::move(endpoints), static_cast<std::size_t>(count), std::move(greeting), context)};
}

base::Result<Reach> reach_connections(const model::FaultBinding& binding) {
  Reach reach;
  SQUALL_ASSIGN(const auto endpoints, endpoints_from(binding.details.json()));
  for (const PacketEndpoint& endpoint : endpoints) reach.ports.push_back(endpoint.port);
  return reach;
}

// Against a listening socket of our own: its queue completes the connections.
base::Result<std::string> rehearse_connections(const model::FaultBinding&, FaultContext& context) {
  const base::UniqueFd listener{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* name = reinterpret_cast<sockaddr*>(&address);
  if (!listener || ::bind(listener.get(), name, size) != 0 || ::listen(listener.get(), 16) != 0 ||
      ::getsockname(listener.get(), name, &size) != 0)
    return base::system_error("listen on a scratch port", errno);
  Connections fault{
      {PacketEndpoint{.address = {127, 0, 0, 1}, .port = ntohs(address.sin_port)}}, 4, {}, context};
  return rehearse_life(fault, "held 4 connections to a scratch port");
}

}  // namespace

extern const FaultKind kResourceConnections;
const FaultKind kResourceConnections{.descriptor = &kDescriptor,
                                     .describe = describe_connections,
                                     .bind = bind_connections,
                                     .create = create_connections,
                                     .rehearse = rehearse_connections,
                                     .reach = reach_connections};

}  // namespace squall::inject
