#include <fmt/format.h>
#include <linux/capability.h>

#include <cstdlib>

#include "base/files.h"
#include "inject/faults/process/targets.h"
#include "inject/json_fields.h"
#include "inject/workers/proc_view.h"
#include "inject/workers/tracer/tracer.h"

namespace squall::inject {

namespace {

using base::Json;

constexpr std::size_t kMostCalls = 512;
constexpr int kLargestCall = 1023;

base::Error senseless() {
  return base::Error{.code = base::ErrorCode::kCorrupt,
                     .message = "the tracer's configuration makes no sense"};
}

base::Result<std::vector<int>> numbers_field(const Json& json, const char* name) {
  const Json& list = field(json, name);
  std::vector<int> numbers;
  if (!list.is_array() || list.size() > kMostCalls) return senseless();
  for (const Json& item : list) {
    if (!item.is_number_integer()) return senseless();
    const auto number = item.get<std::int64_t>();
    if (number < 0 || number > kLargestCall) return senseless();
    numbers.push_back(static_cast<int>(number));
  }
  return numbers;
}

}  // namespace

Json to_json(const TracerConfiguration& configuration) {
  Json json = order_to_json(configuration);
  json.update({{"children", configuration.children},
               {"afterwards", configuration.afterwards},
               {"calls", configuration.calls},
               {"path", configuration.path},
               {"known_calls", configuration.known_calls},
               {"any_calls", configuration.any_calls}});
  return json;
}

base::Result<TracerConfiguration> tracer_configuration_from_json(const Json& json) {
  TracerConfiguration result;
  SQUALL_ASSIGN(static_cast<InterceptionOrder&>(result), order_from_json(json, "the tracer"));
  result.children = boolean_field(json, "children");
  result.afterwards = boolean_field(json, "afterwards");
  result.path = text_field(json, "path");
  SQUALL_ASSIGN(result.calls, numbers_field(json, "calls"));
  SQUALL_ASSIGN(result.known_calls, numbers_field(json, "known_calls"));
  SQUALL_ASSIGN(result.any_calls, numbers_field(json, "any_calls"));
  const bool on_files = !result.known_calls.empty() || !result.any_calls.empty();
  if (on_files != result.path.starts_with('/') || (!on_files && result.calls.empty()))
    return senseless();
  return result;
}

base::Status check_traceable(pid_t process, bool fails_calls) {
#ifndef __x86_64__
  if (fails_calls) {
    return base::Error{
        .code = base::ErrorCode::kUnsupported,
        .message =
            "on this processor a call and its result cannot be set in one step: a tracer "
            "that is killed in between would leave a false result",
        .hint = "delay the calls instead, or use x86_64"};
  }
#endif
  const auto scope = base::read_pseudo_file("/proc/sys/kernel/yama/ptrace_scope");
  if (scope.ok() && std::atoi(scope->c_str()) >= 3) {
    return base::Error{.code = base::ErrorCode::kUnsupported,
                       .message = "this kernel lets nobody trace (kernel.yama.ptrace_scope is 3)",
                       .hint = "it can be lowered only by a reboot with another setting"};
  }
  if (!has_capability(CAP_SYS_PTRACE)) {
    return base::Error{.code = base::ErrorCode::kPermission,
                       .message = "to trace a process CAP_SYS_PTRACE is needed",
                       .hint = "run as root with it; in a container: --cap-add SYS_PTRACE"};
  }
  SQUALL_ASSIGN(const ProcView view, ProcView::open());
  for (const pid_t id : view.threads(process)) {
    const auto facts = view.thread(id);
    if (!facts) continue;
    if (facts->tracer != 0) {
      return base::Error{
          .code = base::ErrorCode::kConflict,
          .message =
              fmt::format("process {} is being traced by process {}", process, facts->tracer),
          .hint = "a process has one tracer only: end the debugger, strace or agent"};
    }
    if (facts->seccomp != 0 && fails_calls) {
      return base::Error{
          .code = base::ErrorCode::kUnsupported,
          .message = fmt::format("process {} has a system call filter (seccomp), which would see "
                                 "a call without number and might kill it",
                                 process),
          .hint =
              "delay the calls instead, or let them be made and then fail (`done: true` of "
              "syscall.fault)"};
    }
  }
  return {};
}

}  // namespace squall::inject
