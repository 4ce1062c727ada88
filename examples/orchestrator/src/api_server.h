#pragma once
// The HTTP API. It keeps no state: any member answers any request, and all members listen on the
// same port (SO_REUSEPORT), so that the kernel spreads connections over those that live.

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "cache.h"
#include "connection_pool.h"
#include "database.h"
#include "recent_workflows.h"
#include "settings.h"

namespace httplib {
class Server;
struct Request;
struct Response;
}  // namespace httplib

namespace orchestrator {

class ApiServer {
 public:
  explicit ApiServer(const Settings& settings);
  ~ApiServer();

  // Serves until it is killed. False when the port cannot be had.
  bool serve();

 private:
  void add_routes();
  void create_workflow(const httplib::Request& request, httplib::Response& response);
  void list_recent(httplib::Response& response);
  // `ask` is the query, asked of the primary and, while that is away, of the standby.
  template <typename Ask>
  void show_workflow(httplib::Response& response, Ask ask);
  void create_session(const httplib::Request& request, httplib::Response& response);
  void show_session(const std::string& session, httplib::Response& response);
  void show_consistency(httplib::Response& response);
  void show_health(httplib::Response& response);
  // The user of a session; empty after an answer has been given because there is none.
  std::string user_of(const std::string& session, httplib::Response& response);

  Settings settings_;
  ConnectionPool<Database> primaries_;
  ConnectionPool<Database> standbys_;
  ConnectionPool<Cache> caches_;
  RecentWorkflows recent_;
  std::unique_ptr<httplib::Server> server_;
};

}  // namespace orchestrator
