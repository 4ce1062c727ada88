#include "inject/programs.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <deque>

#include "base/process.h"
#include "base/units.h"
#include "inject/json_fields.h"
#include "inject/wire.h"
#include "inject/workers/workers.h"

namespace squall::inject {

namespace {

using base::Json;

constexpr std::size_t kOutputLimit = 4096;
constexpr int kAgainMilliseconds = 20;
constexpr int kEndLimitMilliseconds = 2000;  // for a starter that was stopped

std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span{text.data(), text.size()});
}

base::Result<Json> json_of(const std::vector<std::byte>& packet) {
  return base::parse_json({reinterpret_cast<const char*>(packet.data()), packet.size()},
                          kPacketLimit);
}

// As login would give it: nothing of ours.
std::map<std::string, std::string> clean_environment(uid_t user) {
  std::map<std::string, std::string> environment{
      {"PATH", "/usr/local/bin:/usr/bin:/bin"}, {"HOME", "/"}, {"LANG", "C.UTF-8"}};
  std::array<char, 4096> buffer{};
  passwd entry{};
  passwd* found = nullptr;
  if (::getpwuid_r(user, &entry, buffer.data(), buffer.size(), &found) == 0 && found != nullptr) {
    environment["HOME"] = entry.pw_dir;
    environment["USER"] = entry.pw_name;
    environment["LOGNAME"] = entry.pw_name;
  }
  return environment;
}

// ---- the starter process
// --------------------------------------------------------------------------

// What one side says to the other. What cannot be sent now (no memory, no room) is sent later: the
// other side waits for it. That the other side is gone shows where we listen.
class Outbox {
 public:
  void say(int socket, const Json& json) {
    unsent_.push_back(dump(json));
    flush(socket);
  }
  void flush(int socket) {
    while (!unsent_.empty() && send_packet(socket, bytes_of(unsent_.front())).ok())
      unsent_.pop_front();
  }
  bool empty() const { return unsent_.empty(); }

 private:
  std::deque<std::string> unsent_;
};

struct RunningProgram {
  std::uint64_t id = 0;
  ProgramRequest::Purpose purpose = ProgramRequest::Purpose::kCommand;
  base::ChildProcess child;  // a program
  base::PidFd pidfd;         // kScratch and kWorker: forked, not executed
  base::UniqueFd channel;    // kWorker
  base::UniqueFd output_pipe;
  std::string output;
  base::Instant deadline = base::Instant::max();
  base::Duration limit{};
  bool timed_out = false;
  bool unwanted = false;  // the holder wants its end

  bool forked() const {
    return purpose == ProgramRequest::Purpose::kScratch ||
           purpose == ProgramRequest::Purpose::kWorker;
  }
  const base::PidFd& process() const { return forked() ? pidfd : child.pidfd(); }
};

class Starter {
 public:
  explicit Starter(base::UniqueFd socket) : socket_(std::move(socket)) {}

  // Until the holder is gone.
  void serve() {
    while (serve_once()) {
    }
    for (const RunningProgram& program : programs_) kill_program(program);
  }

 private:
  bool serve_once() {
    std::vector<pollfd> requests{{.fd = socket_.get(), .events = POLLIN, .revents = 0}};
    base::Instant earliest = base::Instant::max();
    for (const RunningProgram& program : programs_) {
      requests.push_back({.fd = program.process().get(), .events = POLLIN, .revents = 0});
      requests.push_back({.fd = program.output_pipe.get(), .events = POLLIN, .revents = 0});
      requests.push_back({.fd = program.channel.get(), .events = POLLIN, .revents = 0});
      earliest = std::min(earliest, program.deadline);
    }
    const bool tries_again = !outbox_.empty() || std::any_of(programs_.begin(), programs_.end(),
                                                             [](const RunningProgram& p) {
                                                               return p.unwanted || p.timed_out;
                                                             });
    int timeout = -1;
    if (earliest != base::Instant::max()) {
      const auto left =
          std::chrono::ceil<std::chrono::milliseconds>(earliest - base::BootClock::now());
      timeout = static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 60'000));
    }
    if (tries_again)
      timeout = std::min(timeout < 0 ? kAgainMilliseconds : timeout, kAgainMilliseconds);
    if (::poll(requests.data(), requests.size(), timeout) < 0) return errno == EINTR;
    outbox_.flush(socket_.get());
    for (RunningProgram& program : programs_) look_after(program);
    std::erase_if(programs_, [](const RunningProgram& p) { return p.id == 0; });
    return requests[0].revents == 0 || take_request();
  }

  bool take_request() {
    auto packet = receive_packet(socket_.get());
    if (!packet.ok()) return false;
    if (packet->empty()) return true;
    const auto json = json_of(*packet);
    if (!json.ok()) return false;
    if (const std::uint64_t id = unsigned_field(*json, "end"); id != 0) {
      for (RunningProgram& program : programs_) {
        if (program.id != id) continue;
        program.unwanted = true;
        kill_program(program);
      }
      return true;
    }
    if (const std::uint64_t id = unsigned_field(*json, "tell"); id != 0) {
      for (const RunningProgram& program : programs_) {
        if (program.id != id || !program.channel) continue;
        const std::string text = text_field(*json, "text");
        if (auto sent = send_packet(program.channel.get(), bytes_of(text)); !sent.ok()) continue;
      }
      return true;
    }
    start(*json);
    return true;
  }

  void start(const Json& json) {
    RunningProgram program;
    program.id = unsigned_field(json, "id");
    const std::string purpose = text_field(json, "purpose");
    if (purpose == "service") program.purpose = ProgramRequest::Purpose::kService;
    if (purpose == "scratch") program.purpose = ProgramRequest::Purpose::kScratch;
    if (purpose == "worker") program.purpose = ProgramRequest::Purpose::kWorker;
    base::Status started;
    if (program.purpose == ProgramRequest::Purpose::kScratch) {
      started = start_scratch(program);
    } else if (program.purpose == ProgramRequest::Purpose::kWorker) {
      started = start_worker(texts_field(json, "argv"), program);
    } else {
      started = start_program(json, program);
    }
    if (!started.ok()) return say_error(program.id, started.error());
    say({{"id", program.id}, {"started", to_json(program.process().identity())}});
    programs_.push_back(std::move(program));
  }

  static void become(const Account& account, base::SpawnOptions& options) {
    options.user = account.user;
    options.group = account.group;
    options.supplementary_groups = account.groups;
    options.no_new_privileges = true;
    options.environment = clean_environment(account.user);
  }

  static base::Status start_program(const Json& json, RunningProgram& program) {
    base::SpawnOptions options;
    options.argv = texts_field(json, "argv");
    options.working_directory = text_field(json, "directory");
    options.new_session = true;
    if (field(json, "account").is_object())
      become(account_from_json(field(json, "account")), options);
    add_environment(field(json, "environment"), options);
    std::array<int, 2> pipe{-1, -1};
    if (program.purpose == ProgramRequest::Purpose::kCommand) {
      if (::pipe2(pipe.data(), O_CLOEXEC) != 0) return base::system_error("create a pipe", errno);
      ::fcntl(pipe[0], F_SETFL, O_NONBLOCK);
      options.standard_output = pipe[1];
      options.standard_error = pipe[1];
      options.parent_death_signal = SIGKILL;
      program.limit = base::Duration{integer_field(json, "limit_ns")};
      program.deadline = base::BootClock::now() + program.limit;
    }
    program.output_pipe.reset(pipe[0]);
    const base::UniqueFd write_end{pipe[1]};
    SQUALL_ASSIGN(program.child, base::spawn(options));
    return {};
  }

  // To the environment of its account, or else to ours.
  static void add_environment(const Json& more, base::SpawnOptions& options) {
    if (!more.is_object() || more.empty()) return;
    std::map<std::string, std::string> all = options.environment.value_or(our_environment());
    for (const auto& [name, value] : more.items()) {
      if (value.is_string()) all[name] = value.get<std::string>();
    }
    options.environment = std::move(all);
  }

  static std::map<std::string, std::string> our_environment() {
    std::map<std::string, std::string> all;
    for (char** entry = environ; *entry != nullptr; ++entry) {
      const std::string text = *entry;
      const std::size_t at = text.find('=');
      if (at != std::string::npos) all[text.substr(0, at)] = text.substr(at + 1);
    }
    return all;
  }

  static base::Status start_scratch(RunningProgram& program) {
    const pid_t pid = ::fork();
    if (pid < 0) return base::system_error("fork a scratch process", errno);
    if (pid == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::syscall(SYS_close_range, 0u, ~0u, 0u);
      while (true) ::pause();
    }
    SQUALL_ASSIGN(program.pidfd, base::PidFd::open(pid));
    return {};
  }

  // Forked and not executed: see docs/decisions/0006-workers.md.
  static base::Status start_worker(const std::vector<std::string>& argv, RunningProgram& program) {
    const Worker* worker = argv.size() == 2 ? find_worker(argv[0]) : nullptr;
    if (worker == nullptr)
      return base::Error{.code = base::ErrorCode::kUnsupported, .message = "no such worker"};
    std::array<int, 2> pair{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.data()) != 0)
      return base::system_error("create a socket pair", errno);
    program.channel.reset(pair[0]);
    const base::UniqueFd theirs{pair[1]};
    const pid_t starter = ::getpid();
    const pid_t pid = ::fork();
    if (pid < 0) return base::system_error("fork a worker", errno);
    if (pid == 0) worker_main(*worker, argv[1], theirs.get(), starter);
    SQUALL_ASSIGN(program.pidfd, base::PidFd::open(pid));
    return {};
  }

  void forward_reports(RunningProgram& program) {
    while (program.channel) {
      const auto packet = receive_packet(program.channel.get());
      if (!packet.ok()) return program.channel.reset();
      if (packet->empty()) return;
      say({{"id", program.id},
           {"report", std::string(reinterpret_cast<const char*>(packet->data()), packet->size())}});
    }
  }

  static void drain(RunningProgram& program) {
    std::array<char, 4096> buffer;
    while (program.output_pipe) {
      const ssize_t got = ::read(program.output_pipe.get(), buffer.data(), buffer.size());
      if (got < 0 && errno == EINTR) continue;
      if (got < 0 && errno == EAGAIN) return;
      if (got <= 0) return program.output_pipe.reset();
      program.output.append(buffer.data(), static_cast<std::size_t>(got));
      if (program.output.size() > kOutputLimit)
        program.output.erase(0, program.output.size() - kOutputLimit);
    }
  }

  // Sets id to 0 when the program has ended and was told.
  void look_after(RunningProgram& program) {
    if (!program.process().ended() && base::BootClock::now() >= program.deadline) {
      program.timed_out = true;
      program.deadline = base::Instant::max();
    }
    // Until it has ended: a signal may fail.
    if (program.unwanted || program.timed_out) kill_program(program);
    drain(program);
    forward_reports(program);
    if (!program.process().ended()) return;
    if (program.timed_out) {
      say_error(program.id,
                base::Error{.code = base::ErrorCode::kTimeout,
                            .message = fmt::format("it still ran after {} and was killed",
                                                   base::format_duration(program.limit)),
                            .hint = "raise `timeout`, or find out what it waits for"},
                program.output);
    } else {
      say({{"id", program.id}, {"exit_status", reap(program)}, {"output", program.output}});
    }
    program.id = 0;
  }

  static int reap(RunningProgram& program) {
    int status = 0;
    if (program.forked()) {
      ::waitpid(program.pidfd.identity().pid, &status, WNOHANG);
    } else {
      status = program.child.wait({}).value_or(0);
    }
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  }

  // Services are left alone: they outlive us.
  static void kill_program(const RunningProgram& program) {
    if (program.purpose == ProgramRequest::Purpose::kService) return;
    const pid_t pid = program.process().identity().pid;
    // The program leads its own group (setsid), and its number is not given away before we wait for
    // it. A command that still runs here has not been waited for.
    if (program.purpose == ProgramRequest::Purpose::kCommand) ::kill(-pid, SIGKILL);
    if (auto sent = program.process().signal(SIGKILL); !sent.ok()) return;  // it has ended
  }

  void say(const Json& json) { outbox_.say(socket_.get(), json); }
  void say_error(std::uint64_t id, const base::Error& error, const std::string& output = {}) {
    say({{"id", id},
         {"error", error.message},
         {"code", static_cast<int>(error.code)},
         {"hint", error.hint},
         {"output", output}});
  }

  base::UniqueFd socket_;
  std::vector<RunningProgram> programs_;
  Outbox outbox_;
};

[[noreturn]] void starter_main(int socket) {
  // The starter keeps nothing of the holder's: with a copy of its sockets, the engine could not see
  // that the holder died.
  if (socket != 3) {
    ::dup3(socket, 3, O_CLOEXEC);
  }
  ::syscall(SYS_close_range, 4u, ~0u, 0u);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::prctl(PR_SET_NAME, "squall-starter");
  Starter starter{base::UniqueFd{3}};
  starter.serve();
  ::_exit(0);
}

// ---- the holder's side
// ----------------------------------------------------------------------------

class StarterClient final : public Programs {
 public:
  StarterClient(base::UniqueFd socket, base::PidFd starter)
      : socket_(std::move(socket)), starter_(std::move(starter)) {}
  StarterClient(const StarterClient&) = delete;
  StarterClient& operator=(const StarterClient&) = delete;
  ~StarterClient() override {
    socket_.reset();  // the starter ends its commands and itself
    pollfd request{.fd = starter_.get(), .events = POLLIN, .revents = 0};
    if (::poll(&request, 1, kEndLimitMilliseconds) == 0) {
      if (auto sent = starter_.signal(SIGKILL); !sent.ok()) return;
    }
    int status = 0;
    while (::waitpid(starter_.identity().pid, &status, 0) < 0 && errno == EINTR) {
    }
  }

  std::uint64_t start(const ProgramRequest& request) override {
    const std::uint64_t id = ++last_id_;
    Json json = {{"id", id},
                 {"purpose", purpose_text(request.purpose)},
                 {"argv", request.argv},
                 {"directory", request.directory},
                 {"limit_ns", request.limit.count()}};
    if (request.account) json["account"] = to_json(*request.account);
    if (!request.environment.empty()) json["environment"] = request.environment;
    outcomes_[id] = {};
    say(json);
    return id;
  }

  ProgramOutcome outcome(std::uint64_t id) override {
    take_replies();
    return outcomes_[id];
  }

  int fd() const override { return lost() ? -1 : socket_.get(); }
  base::ProcessIdentity process() const override { return starter_.identity(); }
  bool lost() const override { return starter_.ended(); }

  void end(std::uint64_t id) override { say({{"end", id}}); }

  void tell(std::uint64_t id, const std::string& text) override {
    say({{"tell", id}, {"text", text}});
  }

 private:
  static std::string_view purpose_text(ProgramRequest::Purpose purpose) {
    switch (purpose) {
      case ProgramRequest::Purpose::kService:
        return "service";
      case ProgramRequest::Purpose::kCommand:
        return "command";
      case ProgramRequest::Purpose::kScratch:
        return "scratch";
      case ProgramRequest::Purpose::kWorker:
        return "worker";
    }
    return "command";
  }

  static base::Error no_starter() {
    return base::Error{.code = base::ErrorCode::kUnavailable,
                       .message = "the process that starts programs for the holder is gone",
                       .hint = "run `squall cleanup` when the run has ended"};
  }

  void say(const Json& json) { outbox_.say(socket_.get(), json); }

  void take_replies() {
    outbox_.flush(socket_.get());
    while (true) {
      auto packet = receive_packet(socket_.get());
      if (packet.ok() && packet->empty()) return;
      const auto json = packet.ok() ? json_of(*packet) : base::Result<Json>{no_starter()};
      if (!json.ok()) return fail_all();
      take_reply(*json);
    }
  }

  void take_reply(const Json& json) {
    const auto found = outcomes_.find(unsigned_field(json, "id"));
    if (found == outcomes_.end()) return;
    ProgramOutcome& outcome = found->second;
    if (json.contains("started")) outcome.started = identity_field(json, "started");
    if (json.contains("exit_status"))
      outcome.exit_status = static_cast<int>(integer_field(json, "exit_status"));
    if (json.contains("error")) {
      outcome.error = base::Error{.code = static_cast<base::ErrorCode>(integer_field(json, "code")),
                                  .message = text_field(json, "error"),
                                  .hint = text_field(json, "hint")};
    }
    if (json.contains("output")) outcome.output = text_field(json, "output");
    if (json.contains("report")) outcome.report = text_field(json, "report");
  }

  void fail_all() {
    for (auto& [id, outcome] : outcomes_) {
      if (!outcome.exit_status && !outcome.error) outcome.error = no_starter();
    }
  }

  base::UniqueFd socket_;
  base::PidFd starter_;
  Outbox outbox_;
  std::uint64_t last_id_ = 0;
  std::map<std::uint64_t, ProgramOutcome> outcomes_;
};

}  // namespace

// The numbers of refused ones are far from those of the others.
constexpr std::uint64_t kFirstRefused = std::uint64_t{1} << 62;

std::uint64_t GrantedPrograms::start(const ProgramRequest& request) {
  const bool program = request.purpose == ProgramRequest::Purpose::kService ||
                       request.purpose == ProgramRequest::Purpose::kCommand;
  if (grant_.caller.is_root()) return programs_.start(request);
  if (!program) return start_forked(request);
  const bool service = request.purpose == ProgramRequest::Purpose::kService;
  const auto account = service ? grant_.start_as : std::optional<Account>{grant_.caller};
  if (!account || account->is_root()) return refuse("start services");
  ProgramRequest granted = request;
  granted.account = account;
  return programs_.start(granted);
}

// Workers that meet processes by themselves are told here whose they may touch, whatever the
// binding says: a tracer has the rights of the traced, a file gate holds accesses of these users
// only.
std::uint64_t GrantedPrograms::start_forked(const ProgramRequest& request) {
  const bool worker = request.purpose == ProgramRequest::Purpose::kWorker;
  if (!worker || request.argv.size() != 2) return programs_.start(request);
  auto configuration = base::parse_json(request.argv[1]);
  if (!configuration.ok() || !configuration->is_object())
    return refuse("start a worker without orders");
  if (request.argv[0] == "tracer") {
    if (!grant_.trace_as || grant_.trace_as->is_root()) return refuse("trace processes");
    (*configuration)["account"] = to_json(*grant_.trace_as);
  }
  if (request.argv[0] == "file_gate") {
    std::vector<uid_t> users = grant_.targets;
    users.push_back(grant_.caller.user);
    (*configuration)["users"] = users;
  }
  ProgramRequest granted = request;
  granted.argv[1] = configuration->dump();
  return programs_.start(granted);
}

std::uint64_t GrantedPrograms::refuse(std::string_view what) {
  const std::uint64_t id = kFirstRefused + refused_.size();
  refused_[id] =
      base::Error{.code = base::ErrorCode::kBlocked,
                  .message = fmt::format("{} may not {} here", user_text(grant_.caller.user), what),
                  .hint = "ask root for a rule in the host's policy: docs/files.md"};
  return id;
}

ProgramOutcome GrantedPrograms::outcome(std::uint64_t id) {
  const auto refused = refused_.find(id);
  if (refused == refused_.end()) return programs_.outcome(id);
  ProgramOutcome outcome;
  outcome.error = refused->second;
  return outcome;
}

base::Result<std::unique_ptr<Programs>> fork_starter() {
  std::array<int, 2> pair{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.data()) != 0)
    return base::system_error("create a socket pair", errno);
  base::UniqueFd ours{pair[0]};
  base::UniqueFd theirs{pair[1]};
  const pid_t pid = ::fork();
  if (pid < 0) return base::system_error("fork the starter", errno);
  if (pid == 0) starter_main(theirs.release());
  SQUALL_ASSIGN(base::PidFd starter, base::PidFd::open(pid));
  return std::unique_ptr<Programs>{
      std::make_unique<StarterClient>(std::move(ours), std::move(starter))};
}

}  // namespace squall::inject
