#include "engine/interruption.h"

#include <pthread.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace squall::engine {

base::Result<Interruption> Interruption::take() {
  Interruption interruption;
  sigset_t wanted;
  sigemptyset(&wanted);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&wanted, signal);
  if (const int error = pthread_sigmask(SIG_BLOCK, &wanted, &interruption.previous_); error != 0) {
    interruption.owner_ = false;
    return base::system_error("blocking signals", error);
  }
  interruption.fd_.reset(signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!interruption.fd_) return base::system_error("signalfd", errno);
  return interruption;
}

Interruption::Interruption(Interruption&& other) noexcept
    : fd_(std::move(other.fd_)),
      previous_(other.previous_),
      owner_(std::exchange(other.owner_, false)) {}

Interruption::~Interruption() {
  if (owner_) pthread_sigmask(SIG_SETMASK, &previous_, nullptr);
}

int Interruption::next() const {
  signalfd_siginfo info{};
  if (read(fd_.get(), &info, sizeof info) != static_cast<ssize_t>(sizeof info)) return 0;
  return static_cast<int>(info.ssi_signo);
}

}  // namespace squall::engine
