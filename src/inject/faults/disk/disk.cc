#include "inject/faults/disk/disk.h"

#include <fmt/format.h>
#include <seccomp.h>
#include <sys/stat.h>

#include <filesystem>

#include "base/files.h"
#include "base/text.h"
#include "base/units.h"
#include "inject/state_directory.h"

namespace squall::inject {

namespace {

using model::LifetimeClass;

bool traces(const model::Parameters& parameters) {
  return parameters.text("open_files") == "trace";
}

std::string accesses_text(const model::Parameters& parameters, bool with_syncs) {
  std::vector<std::string> parts;
  if (parameters.boolean("opens")) parts.emplace_back("opens");
  if (parameters.boolean("reads")) parts.emplace_back("reads");
  if (parameters.boolean("writes")) parts.emplace_back("writes");
  if (with_syncs && parameters.boolean("syncs")) parts.emplace_back("syncs");
  return base::enumerate(parts);
}

std::vector<int> numbers_of(std::initializer_list<const char*> names) {
  std::vector<int> numbers;
  for (const char* name : names) {
    if (const int number = seccomp_syscall_resolve_name(name); number >= 0)
      numbers.push_back(number);
  }
  return numbers;
}

// Files and folders of Squall's own that a run needs: were they held up by a worker that hangs,
// nobody could end it.
std::vector<std::string> own_files(const BindRequest& request) {
  const StateDirectory state{request.state_directory};
  std::vector<std::string> files{state.leases(), state.durable_leases(), state.runs(),
                                 request.record_directory, request.map.file};
  const auto maps = base::read_pseudo_file("/proc/self/maps");  // our binary and its libraries
  for (const std::string& line : base::split(maps.ok() ? *maps : std::string{}, '\n')) {
    const std::size_t at = line.find('/');
    if (at != std::string::npos && (files.empty() || files.back() != line.substr(at)))
      files.push_back(line.substr(at));
  }
  return files;
}

// Is `file`, which need not exist yet, the file or folder `info`, or in it? By inodes, so that
// other mounts of the same folder count, too.
bool lies_in(std::string file, const struct stat& info) {
  std::filesystem::path path{file};
  while (!path.empty()) {
    struct stat found {};
    if (::stat(path.c_str(), &found) == 0 && found.st_dev == info.st_dev &&
        found.st_ino == info.st_ino)
      return true;
    if (path == path.root_path()) return false;
    path = path.parent_path();
  }
  return false;
}

base::Status check_not_our_own(const BindRequest& request, const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) {
    return base::Error{.code = base::ErrorCode::kNotFound,
                       .message = fmt::format("there is no file or folder {}", path),
                       .hint = "`path` names what the service reads and writes"};
  }
  if (!S_ISDIR(info.st_mode) && !S_ISREG(info.st_mode)) {
    return base::Error{.code = base::ErrorCode::kUnsupported,
                       .message = path + " is neither a file nor a folder",
                       .hint = "name the folder in which it lies"};
  }
  for (const std::string& file : own_files(request)) {
    if (file.empty() || !lies_in(file, info)) continue;
    return base::Error{.code = base::ErrorCode::kBlocked,
                       .message = fmt::format(
                           "{} holds {}, which Squall itself needs to end the fault", path, file),
                       .hint = "name a folder that holds the service's files only"};
  }
  return {};
}

// A path means the same for us and for the traced process only in the same mounts.
base::Status check_same_mounts(const ChosenMembers& members) {
  struct stat ours {};
  if (::stat("/proc/self/ns/mnt", &ours) != 0)
    return base::system_error("look at our mounts", errno);
  for (const host::Member& member : members.chosen) {
    const std::string link = fmt::format("/proc/{}/ns/mnt", member.process.identity.pid);
    struct stat theirs {};
    if (::stat(link.c_str(), &theirs) != 0) return base::system_error("look at " + link, errno);
    if (theirs.st_ino == ours.st_ino) continue;
    return base::Error{
        .code = base::ErrorCode::kUnsupported,
        .message = fmt::format("{} has mounts of its own: which of its open files lie in `path` "
                               "cannot be told from here",
                               describe_member(member)),
        .hint = "say `open_files: none`, or use syscall.fault"};
  }
  return {};
}

base::Status check_sensible(const model::Parameters& parameters) {
  if (parameters.boolean("syncs") && !traces(parameters)) {
    return base::Error{.code = base::ErrorCode::kBadFile,
                       .message =
                           "`syncs` needs `open_files: trace`: the kernel tells nobody else "
                           "of an fsync before it is made",
                       .hint = "say `open_files: trace`, or `syncs: false`"};
  }
  if (accesses_text(parameters, true).empty()) {
    return base::Error{.code = base::ErrorCode::kBadFile,
                       .message = "no access is chosen",
                       .hint = "say `true` for one of `opens`, `reads`, `writes` and `syncs`"};
  }
  const bool traced =
      parameters.boolean("reads") || parameters.boolean("writes") || parameters.boolean("syncs");
  if (!traces(parameters) || traced) return {};
  return base::Error{.code = base::ErrorCode::kBadFile,
                     .message = "with opens alone there is nothing to trace",
                     .hint = "say `open_files: none`"};
}

void append(std::vector<int>& numbers, const std::vector<int>& more) {
  numbers.insert(numbers.end(), more.begin(), more.end());
}

}  // namespace

void describe_disk(const model::FaultSpecification& fault, const std::string& what,
                   model::PlannedFault& planned) {
  const model::Parameters& parameters = fault.parameters;
  const std::string path = parameters.text("path");
  const std::string share = base::format_share(parameters.number("share"));
  planned.target = fmt::format("{} at {}", describe_selection(parameters), path);
  planned.services = {parameters.text("service")};
  planned.processes_max = planned_count(parameters);
  planned.changes.clear();
  if (const std::string accesses = accesses_text(parameters, false); !accesses.empty()) {
    planned.changes.push_back(
        {.change = fmt::format(
             "a fanotify permission group holds all accesses to {}, and {} of the "
             "{} of {}{} {}, on files that are opened from then on",
             path, share, accesses, describe_selection(parameters), joining_text(parameters), what),
         .revert = "the group is closed; the kernel lets everything go when its owner dies",
         .lifetime = LifetimeClass::kKernelHeld});
  }
  if (!traces(parameters)) return;
  planned.changes.push_back(
      {.change =
           fmt::format("every thread of {}{} is traced (ptrace), and {} of its reads, writes and "
                       "syncs, as far as chosen, {} on files in {} that are open already{}",
                       describe_selection(parameters), joining_text(parameters), share, what, path,
                       parameters.boolean("syncs") ? "; syncs on all" : ""),
       .revert = "the tracer is ended; the kernel lets the threads go when it dies",
       .lifetime = LifetimeClass::kKernelHeld});
}

base::Result<model::FaultBinding> bind_disk(const BindRequest& request,
                                            const Interception& interception) {
  const model::Parameters& parameters = request.fault.parameters;
  SQUALL_TRY(check_sensible(parameters));
  std::error_code error;
  const auto canonical = std::filesystem::canonical(parameters.text("path"), error);
  const std::string path = error ? parameters.text("path") : canonical.string();
  SQUALL_TRY(check_not_our_own(request, path));
  SQUALL_ASSIGN(const ChosenMembers members, choose_members(request));
  std::vector<base::ProcessIdentity> processes;
  for (const host::Member& member : members.chosen) processes.push_back(member.process.identity);
  InterceptionWorkers workers;
  if (!accesses_text(parameters, false).empty()) {
    FileGateConfiguration& gate = workers.gate.emplace();
    gate.interception = interception;
    gate.seed = seed_of(request);
    gate.processes = processes;
    gate.path = path;
    gate.tree = parameters.boolean("tree");
    gate.opens = parameters.boolean("opens");
    gate.reads = parameters.boolean("reads");
    gate.writes = parameters.boolean("writes");
    SQUALL_TRY(check_gate(*workers.gate));
    SQUALL_TRY(marked_paths(path, workers.gate->tree));
  }
  if (traces(parameters)) {
    SQUALL_TRY(check_same_mounts(members));
    TracerConfiguration tracer;
    tracer.interception = interception;
    tracer.seed = seed_of(request) + 1;
    tracer.processes = processes;
    tracer.path = path;
    if (parameters.boolean("reads"))
      append(tracer.known_calls, numbers_of({"read", "pread64", "readv", "preadv", "preadv2"}));
    if (parameters.boolean("writes")) {
      append(tracer.known_calls, numbers_of({"write", "pwrite64", "writev", "pwritev", "pwritev2",
                                             "ftruncate", "fallocate"}));
    }
    if (parameters.boolean("syncs"))
      append(tracer.any_calls, numbers_of({"fsync", "fdatasync", "sync_file_range"}));
    SQUALL_TRY(check_all_traceable(members, tracer));
    workers.tracer = std::move(tracer);
  }
  return bind_interception(request, members, workers);
}

}  // namespace squall::inject
