// resource.port: stands on an address and port with a socket of our own, so that nobody else can
// listen there. The kernel gives it back when the holder closes the socket or dies.

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/fd.h"
#include "base/text.h"
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

constexpr std::string_view kMechanism = "socket of the holder";
constexpr std::array<std::string_view, 1> kMechanisms{kMechanism};
constexpr std::array<std::string_view, 1> kCapabilities{"CAP_NET_BIND_SERVICE"};
constexpr std::array<std::string_view, 2> kProtocols{"tcp", "udp"};
constexpr std::array<ParameterDescriptor, 3> kParameters{{
    {.name = "port",
     .type = ValueType::kInteger,
     .required = true,
     .minimum = 1,
     .maximum = 65535,
     .summary = "The port that is occupied."},
    {.name = "address",
     .type = ValueType::kText,
     .default_text = "127.0.0.1",
     .summary = "The address on which it is occupied; `0.0.0.0` or `::` is every one."},
    {.name = "protocol",
     .type = ValueType::kChoice,
     .default_text = "tcp",
     .summary = "The protocol.",
     .choices = kProtocols},
}};

constexpr model::FaultKindDescriptor kDescriptor{
    .name = "resource.port",
    .summary = "Occupies a port, as a foreign program that was faster.",
    .effect =
        "Whoever wants to listen there gets EADDRINUSE. TCP clients get through to a socket that "
        "never answers; UDP packets are swallowed.",
    .revert = "The socket is closed. The kernel does the same when the holder dies.",
    .proof =
        "Effect: the kernel's socket table shows our socket there. Revert: it does not any more.",
    .weakest = LifetimeClass::kKernelHeld,
    .mechanisms = kMechanisms,
    .capabilities = kCapabilities,
    .parameters = kParameters,
    .can_be_effective = true,
    .example =
        "- resource.port: { port: 8080 }\n"
        "  name: port-taken\n"
        "  at: 5s\n"
        "  for: 20s\n",
};

constexpr std::uint16_t kSshPort = 22;
constexpr int kBacklog = 128;

struct Place {
  PacketEndpoint endpoint;
  bool udp = false;
  bool any_six = false;  // "::"
  std::string text() const {
    return fmt::format("{} {}", udp ? "udp" : "tcp",
                       any_six ? fmt::format("[::]:{}", endpoint.port) : endpoint.text());
  }
};

base::Result<Place> place_of(const std::string& address, std::uint16_t port,
                             const std::string& protocol) {
  SQUALL_ASSIGN(PacketEndpoint endpoint, PacketEndpoint::parse(address, port));
  Place place{.endpoint = std::move(endpoint), .udp = protocol == "udp"};
  place.any_six = place.endpoint.address.empty() && address.find(':') != std::string::npos;
  return place;
}

// Would the socket be in the way of ours?
bool overlaps(const host::Socket& socket, const Place& place) {
  if (socket.protocol.starts_with("udp") != place.udp || socket.protocol == "unix" ||
      socket.local.port != place.endpoint.port)
    return false;
  if (!place.udp && socket.state != host::SocketState::kListening) return false;
  const auto theirs = PacketEndpoint::parse(socket.local.address, socket.local.port);
  if (!theirs.ok() || place.endpoint.address.empty()) return true;
  if (!theirs->address.empty()) return theirs->address == place.endpoint.address;
  // An address of IPv6 is not taken by who listens on every address of IPv4.
  return place.endpoint.address.size() == 4 || socket.protocol.ends_with('6');
}

// Who stands there; empty when nobody does.
std::string occupant(const host::Host& host, const Place& place) {
  const auto in_the_way = [&](const host::Socket& socket) { return overlaps(socket, place); };
  auto sockets = host.sockets(host::Host::Owners::kSkip);
  if (!sockets.ok() || std::none_of(sockets->begin(), sockets->end(), in_the_way)) return {};
  // To find owners takes long on a host with many descriptors: only when there is one to name.
  sockets = host.sockets(host::Host::Owners::kResolve);
  if (!sockets.ok()) return "a process that cannot be found out";
  for (const host::Socket& socket : *sockets) {
    if (!in_the_way(socket)) continue;
    for (const pid_t owner : socket.owners) {
      const auto process = host.process(owner);
      if (process.ok()) return fmt::format("{} (pid {})", process->name, owner);
    }
    return "a process that we may not see";
  }
  return {};
}

base::Error taken_by(const Place& place, const std::string& who) {
  return {.code = base::ErrorCode::kConflict,
          .message = fmt::format("{} is taken by {}", place.text(), who),
          .hint =
              "occupy a port on which nobody listens yet; to make a service lose its port, "
              "stop it first"};
}

class PortFault final : public Fault {
 public:
  PortFault(Place place, FaultContext& context) : place_(std::move(place)), context_(context) {}

  Step arm() override {
    SocketAddress address = socket_address(place_.endpoint);
    if (place_.any_six) {
      PacketEndpoint any = place_.endpoint;
      any.address.assign(16, 0);
      address = socket_address(any);
    }
    const int type = place_.udp ? SOCK_DGRAM : SOCK_STREAM;
    socket_.reset(::socket(address.family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    struct stat info {};
    if (!socket_ || ::fstat(socket_.get(), &info) != 0)
      return Step::failed(base::system_error("create a socket", errno));
    inode_ = info.st_ino;
    if (auto noted = context_.note({{"occupying", place_.text()}, {"inode", inode_}}); !noted.ok())
      return Step::failed(std::move(noted).error());
    if (::bind(socket_.get(), address.get(), address.size) != 0 ||
        (!place_.udp && ::listen(socket_.get(), kBacklog) != 0))
      return Step::failed(refused(errno));
    return Step::done(fmt::format("stands on {}", place_.text()));
  }

  Step effective() override {
    const auto there = in_table();
    if (!there.ok()) return Step::failed(there.error());
    if (*there) {
      return Step::done(fmt::format("the kernel shows our socket on {}", place_.text()),
                        Json{{"inode", inode_}, {"place", place_.text()}}.dump());
    }
    return Step::failed(base::Error{
        .message = fmt::format("the kernel does not show our socket on {}", place_.text())});
  }

  Step revert() override {
    if (recalled_) return Step::done("the kernel closed the socket when its holder died");
    if (!socket_ && inode_ == 0) return Step::done("nothing was occupied");
    socket_.reset();
    return Step::done(fmt::format("{} is free again", place_.text()));
  }

  Step verify() override {
    if (inode_ == 0) return Step::done("nothing was occupied");
    const auto there = in_table();
    if (!there.ok()) return Step::failed(there.error());
    if (*there) {
      return Step::failed(
          base::Error{.code = base::ErrorCode::kRevertNotVerified,
                      .message = fmt::format("our socket is still on {}", place_.text()),
                      .hint = fmt::format("some process keeps it open: ss -lnp sport = :{}",
                                          place_.endpoint.port)});
    }
    std::string text = fmt::format("our socket is not on {} any more", place_.text());
    if (const std::string who = occupant(context_.host(), place_); !who.empty())
      text += fmt::format("; {} stands there now", who);
    return Step::done(text, Json{{"inode", inode_}, {"place", place_.text()}}.dump());
  }

  void recall(const Json& found) override {
    if (text_field(found, "occupying").empty()) return;
    inode_ = unsigned_field(found, "inode");
    recalled_ = true;
  }

 private:
  base::Error refused(int error) const {
    if (error == EADDRINUSE) {
      const std::string who = occupant(context_.host(), place_);
      if (!who.empty()) return taken_by(place_, who);
      return {.code = base::ErrorCode::kConflict,
              .message = fmt::format("{} is in use by connections that are open or have just been "
                                     "closed",
                                     place_.text()),
              .hint = "the kernel keeps them for a minute: try again then"};
    }
    base::Error result = base::system_error("stand on " + place_.text(), error);
    if (error == EADDRNOTAVAIL) result.hint = "the address is none of this host's";
    if (error == EACCES) result.hint = "ports below 1024 need CAP_NET_BIND_SERVICE";
    return result;
  }

  base::Result<bool> in_table() const {
    SQUALL_ASSIGN(const auto sockets, context_.host().sockets(host::Host::Owners::kSkip));
    return std::any_of(sockets.begin(), sockets.end(), [&](const host::Socket& socket) {
      return socket.inode == inode_ && overlaps(socket, place_);
    });
  }

  Place place_;
  FaultContext& context_;
  base::UniqueFd socket_;
  std::uint64_t inode_ = 0;
  bool recalled_ = false;
};

void describe_port(const model::SystemMap&, const model::FaultSpecification& fault,
                   model::PlannedFault& planned) {
  const model::Parameters& parameters = fault.parameters;
  planned.target = fmt::format("{} port {} of {}", parameters.text("protocol"),
                               parameters.integer("port"), parameters.text("address"));
  planned.processes_max = 0;
  planned.changes = {{.change = fmt::format("a socket of Squall's stands on {}", planned.target),
                      .revert = "it is closed; the kernel does that when its owner dies",
                      .lifetime = LifetimeClass::kKernelHeld}};
}

base::Result<model::FaultBinding> bind_port(const BindRequest& request) {
  const model::Parameters& parameters = request.fault.parameters;
  const auto port = static_cast<std::uint16_t>(parameters.integer("port"));
  const std::string address = parameters.text("address");
  const std::string protocol = parameters.text("protocol");
  auto place = place_of(address, port, protocol);
  if (!place.ok()) {
    return base::Error{.code = base::ErrorCode::kBadFile,
                       .message = fmt::format("`address` is `{}`, which is no IP address", address),
                       .hint = "write an address of this host, such as 127.0.0.1"};
  }
  if (port == kSshPort) {
    return base::Error{.code = base::ErrorCode::kUnsupported,
                       .message = "port 22 is SSH's; Squall never takes that",
                       .hint = "occupy another port"};
  }
  if (!is_local(place->endpoint)) {
    return base::Error{.code = base::ErrorCode::kUnsupported,
                       .message = fmt::format("{} is not on this host", address),
                       .hint = "run the experiment there"};
  }
  if (const std::string who = occupant(request.host, *place); !who.empty())
    return taken_by(*place, who);
  model::FaultBinding binding = new_binding(request, kMechanism, LifetimeClass::kKernelHeld);
  binding.targets = {{.service = {}, .member = {}, .process = {}, .description = place->text()}};
  binding.details = model::Parameters{
      Json{{"address", address},
           {"port", port},
           {"protocol", protocol},
           {"resources", Json::array({fmt::format("port/{}/{}", protocol, port)})}}};
  return binding;
}

base::Result<std::unique_ptr<Fault>> create_port(const model::FaultBinding& binding,
                                                 FaultContext& context) {
  const Json& details = binding.details.json();
  const std::uint64_t port = unsigned_field(details, "port");
  auto place = place_of(text_field(details, "address"), static_cast<std::uint16_t>(port),
                        text_field(details, "protocol"));
  if (binding.mechanism != kMechanism || !place.ok() || port == 0 || port > 65535)
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the binding names no address and port"};
  return std::unique_ptr<Fault>{std::make_unique<PortFault>(std::move(*place), context)};
}

base::Result<Reach> reach_port(const model::FaultBinding& binding) {
  const std::uint64_t port = unsigned_field(binding.details.json(), "port");
  return Reach{.ports = {port > 65535 ? std::uint16_t{0} : static_cast<std::uint16_t>(port)}};
}

// A port of the loopback interface that was free a moment ago.
base::Result<std::uint16_t> free_port(bool udp) {
  const base::UniqueFd probe{::socket(AF_INET, (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0)};
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* name = reinterpret_cast<sockaddr*>(&address);
  if (!probe || ::bind(probe.get(), name, size) != 0 ||
      ::getsockname(probe.get(), name, &size) != 0)
    return base::system_error("find a free port", errno);
  return ntohs(address.sin_port);
}

base::Result<std::string> rehearse_port(const model::FaultBinding& binding, FaultContext& context) {
  const std::string protocol = text_field(binding.details.json(), "protocol");
  SQUALL_ASSIGN(const std::uint16_t port, free_port(protocol == "udp"));
  SQUALL_ASSIGN(Place place, place_of("127.0.0.1", port, protocol));
  PortFault fault{std::move(place), context};
  return rehearse_life(fault, "occupied a free port of the loopback interface");
}

}  // namespace

extern const FaultKind kResourcePort;
const FaultKind kResourcePort{.descriptor = &kDescriptor,
                              .describe = describe_port,
                              .bind = bind_port,
                              .create = create_port,
                              .rehearse = rehearse_port,
                              .reach = reach_port};

}  // namespace squall::inject
