#include "api_server.h"

#include <fmt/format.h>
#include <httplib.h>
#include <sys/random.h>
#include <sys/socket.h>

#include <array>
#include <nlohmann/json.hpp>

#include "log.h"
#include "pipeline.h"
#include "spool.h"
#include "workflow_store.h"

namespace orchestrator {
namespace {

using nlohmann::json;

constexpr int kThreads = 128;  // one a kept-alive connection, mostly asleep
constexpr int kPrimaryConnections = 8;
constexpr int kStandbyConnections = 4;
constexpr int kCacheConnections = 64;
constexpr int kBacklog = 128;
constexpr std::size_t kBodyMax = 256 * 1024;
constexpr milliseconds kDatabaseDeadline{1'000};
constexpr milliseconds kCacheBudget{250};
constexpr milliseconds kPatience{500};
constexpr const char* kRetryAfterSeconds = "2";
constexpr const char* kSessionSeconds = "3600";

void answer(httplib::Response& response, int status, std::string body) {
  response.status = status;
  response.set_content(std::move(body), "application/json");
}

void answer_error(httplib::Response& response, int status, const std::string& message) {
  answer(response, status,
         json{{"error", message}}.dump(-1, ' ', false, json::error_handler_t::replace));
}

void answer_unavailable(httplib::Response& response, const std::string& message) {
  response.set_header("Retry-After", kRetryAfterSeconds);
  answer_error(response, 503, message);
}

void answer_failed_query(httplib::Response& response, const QueryResult& result) {
  if (result.unavailable()) {
    answer_unavailable(response, "database: " + result.error());
  } else {
    answer_error(response, 400, result.error());
  }
}

std::string new_session() {
  std::array<unsigned char, 16> bytes{};
  if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) return "";
  std::string session;
  for (const unsigned char byte : bytes) session += fmt::format("{:02x}", byte);
  return session;
}

}  // namespace

ApiServer::ApiServer(const Settings& settings)
    : settings_(settings),
      primaries_(
          kPrimaryConnections,
          [this] { return std::make_unique<Database>(settings_.primary_dsn, kDatabaseDeadline); }),
      standbys_(
          kStandbyConnections,
          [this] { return std::make_unique<Database>(settings_.standby_dsn, kDatabaseDeadline); }),
      caches_(kCacheConnections,
              [this] {
                return std::make_unique<Cache>(settings_.sentinel_port, settings_.queue_password,
                                               CachePolicy::with(settings_.cures, kCacheBudget));
              }),
      recent_(settings_.cures, caches_, primaries_),
      server_(std::make_unique<httplib::Server>()) {}

ApiServer::~ApiServer() = default;

bool ApiServer::serve() {
  add_routes();
  // To connect takes PostgreSQL five round trips, and a query one: a pool that is cold when the
  // database becomes slow stays cold, since nobody waits so long.
  if (settings_.cures.warm_pool)
    primaries_.warm([](Database& database) { return database.query("SELECT 1").ok(); });
  int listener = -1;
  server_->new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
  server_->set_keep_alive_max_count(1'000'000);
  server_->set_keep_alive_timeout(30);
  server_->set_tcp_nodelay(true);
  server_->set_payload_max_length(kBodyMax);
  server_->set_socket_options([&listener](int socket) {
    const int yes = 1;
    ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    ::setsockopt(socket, SOL_SOCKET, SO_REUSEPORT, &yes, sizeof(yes));
    listener = socket;
  });
  if (!server_->bind_to_port("127.0.0.1", settings_.api_port)) {
    log_warning(fmt::format("cannot listen on port {}", settings_.api_port));
    return false;
  }
  // The library listens with a backlog of five; a burst of new connections would lose its first
  // packets and wait a second for the next attempt.
  ::listen(listener, kBacklog);
  log_info(fmt::format("ready on port {}", settings_.api_port));
  return server_->listen_after_bind();
}

void ApiServer::add_routes() {
  using httplib::Request;
  using httplib::Response;
  server_->Post("/workflows", [this](const Request& request, Response& response) {
    create_workflow(request, response);
  });
  server_->Get("/workflows/recent",
               [this](const Request&, Response& response) { list_recent(response); });
  server_->Get(R"(/workflows/by-ref/([^/]+))", [this](const Request& request, Response& response) {
    const std::string reference = request.matches[1];
    show_workflow(response,
                  [&](WorkflowStore store) { return store.find_by_reference(reference); });
  });
  server_->Get(R"(/workflows/(\d{1,18}))", [this](const Request& request, Response& response) {
    const std::int64_t workflow = std::stoll(request.matches[1]);
    show_workflow(response, [&](WorkflowStore store) { return store.find(workflow); });
  });
  server_->Post("/sessions", [this](const Request& request, Response& response) {
    create_session(request, response);
  });
  server_->Get(R"(/sessions/([0-9a-f]{32}))", [this](const Request& request, Response& response) {
    show_session(request.matches[1], response);
  });
  server_->Get("/consistency",
               [this](const Request&, Response& response) { show_consistency(response); });
  server_->Get("/healthz", [this](const Request&, Response& response) { show_health(response); });
  server_->set_exception_handler(
      [](const Request& request, Response& response, std::exception_ptr) {
        log_warning(fmt::format("{} {} failed unexpectedly", request.method, request.path));
        answer_error(response, 500, "internal error");
      });
}

void ApiServer::create_workflow(const httplib::Request& request, httplib::Response& response) {
  std::string error;
  const Pipeline pipeline = read_pipeline(request.body, error);
  if (!error.empty()) return answer_error(response, 400, error);
  // Work that nobody can end is better not accepted.
  if (settings_.cures.mind_the_spool && is_nearly_full(settings_.spool))
    return answer_unavailable(response, "the spool is full; nothing is lost, try again later");
  std::string owner;
  if (request.has_header("X-Session")) {
    owner = user_of(request.get_header_value("X-Session"), response);
    if (owner.empty()) return;
  }
  const auto database = primaries_.borrow(kPatience);
  if (!database) return answer_unavailable(response, "all database connections are in use");
  const auto result = WorkflowStore(*database).create(pipeline, owner);
  if (!result.ok()) return answer_failed_query(response, result);
  // No row: another request with this client_ref is being committed at this moment.
  if (result.rows() != 1)
    return answer_unavailable(response, "the same client_ref is being created");
  const bool created = result.truth(0, 2);
  const json body = {{"id", result.number(0, 0)},
                     {"client_ref", pipeline.client_ref},
                     {"state", result.text(0, 1)},
                     {"created", created}};
  answer(response, created ? 201 : 200, body.dump());
}

void ApiServer::list_recent(httplib::Response& response) {
  RecentAnswer recent = recent_.read();
  switch (recent.source) {
    case RecentAnswer::Source::kNone:
      return answer_unavailable(response, recent.body);
    case RecentAnswer::Source::kCache:
      response.set_header("X-Cache", "hit");
      break;
    case RecentAnswer::Source::kStaleCache:
      response.set_header("X-Cache", "stale");
      break;
    case RecentAnswer::Source::kDatabase:
      response.set_header("X-Cache", "miss");
      break;
  }
  answer(response, 200, std::move(recent.body));
}

template <typename Ask>
void ApiServer::show_workflow(httplib::Response& response, Ask ask) {
  if (const auto database = primaries_.borrow(kPatience)) {
    const auto result = ask(WorkflowStore(*database));
    if (result.ok() && result.rows() == 1) {
      return answer(response, 200, std::string(result.text(0, 0)));
    }
    if (result.ok()) return answer_error(response, 404, "no such workflow");
    if (!result.unavailable()) return answer_failed_query(response, result);
  }
  if (const auto standby = standbys_.borrow(kPatience)) {
    const auto result = ask(WorkflowStore(*standby));
    if (result.ok() && result.rows() == 1) {
      response.set_header("X-Source", "standby");
      return answer(response, 200, std::string(result.text(0, 0)));
    }
  }
  // The standby may be a moment behind: that it does not know a workflow proves nothing.
  answer_unavailable(response, "the primary database does not answer");
}

void ApiServer::create_session(const httplib::Request& request, httplib::Response& response) {
  const json body = json::parse(request.body, nullptr, /*allow_exceptions=*/false);
  if (!body.is_object() || !body.contains("user") || !body["user"].is_string() ||
      body["user"].get_ref<const std::string&>().empty()) {
    return answer_error(response, 400, "user is missing");
  }
  const std::string session = new_session();
  const auto cache = caches_.borrow(kPatience);
  if (!cache) return answer_unavailable(response, "all cache connections are in use");
  const auto reply = cache->command(
      {"SET", "session:" + session, body["user"].get<std::string>(), "EX", kSessionSeconds});
  if (!reply.ok()) return answer_unavailable(response, "cache: " + reply.text);
  answer(response, 201, json{{"session", session}}.dump());
}

std::string ApiServer::user_of(const std::string& session, httplib::Response& response) {
  const auto cache = caches_.borrow(kPatience);
  if (!cache) {
    answer_unavailable(response, "all cache connections are in use");
    return "";
  }
  const auto reply = cache->command({"GET", "session:" + session});
  if (!reply.ok()) {
    answer_unavailable(response, "cache: " + reply.text);
  } else if (reply.text.empty()) {
    answer_error(response, 401, "no such session; POST /sessions makes one");
  }
  return reply.ok() ? reply.text : "";
}

void ApiServer::show_session(const std::string& session, httplib::Response& response) {
  const std::string user = user_of(session, response);
  if (!user.empty()) answer(response, 200, json{{"user", user}}.dump());
}

void ApiServer::show_consistency(httplib::Response& response) {
  const auto database = primaries_.borrow(kPatience);
  if (!database) return answer_unavailable(response, "all database connections are in use");
  const auto result = WorkflowStore(*database).last_audit();
  if (!result.ok()) return answer_failed_query(response, result);
  if (result.rows() != 1) return answer_unavailable(response, "no audit has been made yet");
  answer(response, 200, std::string(result.text(0, 0)));
}

void ApiServer::show_health(httplib::Response& response) {
  const auto database = primaries_.borrow(kPatience);
  const auto cache = caches_.borrow(kPatience);
  const bool database_up = database && database->query("SELECT 1").ok();
  const bool cache_up = cache && cache->command({"PING"}).ok();
  const auto word = [](bool up) { return up ? "up" : "down"; };
  const json body = {{"status", database_up && cache_up ? "ok" : "degraded"},
                     {"database", word(database_up)},
                     {"cache", word(cache_up)},
                     {"member", settings_.member}};
  answer(response, 200, body.dump());
}

}  // namespace orchestrator
