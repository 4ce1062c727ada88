#pragma once
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

namespace orchestrator {

// Lends connections to the threads of the API, at most `limit` at a time. Threads wait for one
// rather than open more: a database that is slow must not be given more to do.
template <typename Connection>
class ConnectionPool {
 public:
  using Lease = std::unique_ptr<Connection, std::function<void(Connection*)>>;

  ConnectionPool(int limit, std::function<std::unique_ptr<Connection>()> make)
      : limit_(limit), make_(std::move(make)) {}

  // Empty when none came free in time. The pool must outlive the lease.
  Lease borrow(std::chrono::milliseconds patience) {
    std::unique_lock lock(mutex_);
    if (!returned_.wait_for(lock, patience, [&] { return !idle_.empty() || lent_ < limit_; })) {
      return {};
    }
    ++lent_;
    std::unique_ptr<Connection> connection;
    if (idle_.empty()) {
      connection = make_();
    } else {
      connection = std::move(idle_.back());
      idle_.pop_back();
    }
    return Lease(connection.release(), [this](Connection* lent) { give_back(lent); });
  }

  // Opens all of them before anybody needs one, until `prepare(connection)` says no. Not while the
  // pool is in use.
  template <typename Prepare>
  void warm(Prepare prepare) {
    for (int i = 0; i < limit_; ++i) {
      auto connection = make_();
      if (!prepare(*connection)) return;
      idle_.push_back(std::move(connection));
    }
  }

 private:
  void give_back(Connection* connection) {
    {
      const std::scoped_lock lock(mutex_);
      --lent_;
      idle_.emplace_back(connection);
    }
    returned_.notify_one();
  }

  int limit_;
  std::function<std::unique_ptr<Connection>()> make_;
  std::mutex mutex_;
  std::condition_variable returned_;
  int lent_ = 0;
  std::vector<std::unique_ptr<Connection>> idle_;
};

}  // namespace orchestrator
