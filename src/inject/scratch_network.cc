#include "inject/scratch_network.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

namespace squall::inject {

namespace {

// Of the calling thread, wherever it is.
constexpr const char* kOwnNetwork = "/proc/thread-self/ns/net";
constexpr base::Duration kArrivalLimit = std::chrono::seconds(2);

base::Status bring_loopback_up() {
  const base::UniqueFd socket{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  request.ifr_flags = IFF_UP;
  if (!socket || ::ioctl(socket.get(), SIOCSIFFLAGS, &request) != 0)
    return base::system_error("bring up the loopback interface of a scratch network", errno);
  return {};
}

}  // namespace

base::Result<ScratchNetwork> ScratchNetwork::create() {
  base::UniqueFd before{::open(kOwnNetwork, O_RDONLY | O_CLOEXEC)};
  if (!before) return base::system_error(std::string("open ") + kOwnNetwork, errno);
  if (::unshare(CLONE_NEWNET) != 0) {
    base::Error error = base::system_error("make a network namespace", errno);
    error.hint = "CAP_SYS_ADMIN is needed: run as root";
    return error;
  }
  ScratchNetwork network{std::move(before)};
  SQUALL_TRY(bring_loopback_up());
  return network;
}

ScratchNetwork::~ScratchNetwork() {
  // Who could leave it can return; to go on in the wrong network would be worse than to end.
  if (before_) SQUALL_CHECK(::setns(before_.get(), CLONE_NEWNET) == 0);
}

base::Result<ScratchTalk> ScratchTalk::create() {
  ScratchTalk talk;
  for (base::UniqueFd* socket : {&talk.server_, &talk.client_}) {
    socket->reset(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!*socket) return base::system_error("create a scratch socket", errno);
  }
  sockaddr_in address{};
  socklen_t size = sizeof address;
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* name = reinterpret_cast<sockaddr*>(&address);
  if (::bind(talk.server_.get(), name, size) != 0 ||
      ::getsockname(talk.server_.get(), name, &size) != 0 ||
      ::connect(talk.client_.get(), name, size) != 0)
    return base::system_error("open a scratch port", errno);
  talk.port_ = ntohs(address.sin_port);
  return talk;
}

void ScratchTalk::speak(void* self) {
  const auto& talk = *static_cast<ScratchTalk*>(self);
  char byte = 0;
  [[maybe_unused]] const ssize_t sent = ::send(talk.client_.get(), &byte, 1, 0);
  while (::recv(talk.server_.get(), &byte, 1, 0) >= 0) {
  }
}

base::Result<std::vector<base::Duration>> ScratchTalk::one_way_times(int count) const {
  std::array<char, 8> rest{};
  while (::recv(server_.get(), rest.data(), rest.size(), 0) >= 0) {
  }
  std::vector<base::Duration> times;
  base::Instant next = base::BootClock::now();
  base::Instant last = next;
  for (int sent = 0; static_cast<int>(times.size()) < count;) {
    base::Instant now = base::BootClock::now();
    if (sent < count && now >= next) {
      const base::Duration when = now.time_since_epoch();
      if (::send(client_.get(), &when, sizeof when, 0) == sizeof when) ++sent;
      next += std::chrono::milliseconds(1);
    }
    base::Duration when{};
    while (::recv(server_.get(), &when, sizeof when, 0) == sizeof when) {
      last = base::BootClock::now();
      times.push_back(last.time_since_epoch() - when);
    }
    now = base::BootClock::now();
    if (now - last > kArrivalLimit) {
      return base::Error{.code = base::ErrorCode::kTimeout,
                         .message = "datagrams of a scratch network did not arrive"};
    }
    const base::Duration pause = sent < count ? next - now : std::chrono::milliseconds(10);
    const timespec timeout{.tv_sec = 0,
                           .tv_nsec = std::max<std::int64_t>(0, pause.count()) % 1'000'000'000};
    pollfd request{.fd = server_.get(), .events = POLLIN, .revents = 0};
    ::ppoll(&request, 1, &timeout, nullptr);
  }
  return times;
}

}  // namespace squall::inject
