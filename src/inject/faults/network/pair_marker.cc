#include "inject/faults/network/pair_marker.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <pair_marker.skel.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <string_view>

#include "base/text.h"
#include "inject/cgroup.h"
#include "inject/json_fields.h"
#include "inject/process_table.h"
#include "inject/service_json.h"

namespace squall::inject {

namespace {

using base::Json;

// As `struct place` of pair_marker.bpf.c.
struct Place {
  std::array<std::uint8_t, 16> address{};
  std::uint16_t port = 0;
  std::uint16_t unused = 0;
};
static_assert(sizeof(Place) == 20);

Place place_of(const PacketEndpoint& endpoint) {
  Place place;
  place.port = htons(endpoint.port);
  if (endpoint.address.size() == 4) {
    place.address[10] = place.address[11] = 0xff;
    std::copy(endpoint.address.begin(), endpoint.address.end(), place.address.begin() + 12);
  } else if (endpoint.address.size() == 16) {
    std::copy(endpoint.address.begin(), endpoint.address.end(), place.address.begin());
  }
  return place;
}

constexpr std::size_t kMostPairs = 63;
// No pair's: for the trial on a socket of our own.
constexpr std::uint64_t kTrialBit = std::uint64_t{1} << kMostPairs;
// Processes are looked for until no new one turns up; each turn finds those born in the one before.
constexpr int kMostTurns = 16;
// The holder ends a fault at its deadline; the kernel's own deadline is for a holder that hangs.
constexpr base::Duration kGrace = std::chrono::seconds(1);
constexpr base::Duration kUnknownDuration = std::chrono::seconds(60);

thread_local std::string first_complaint;

int keep_first_complaint(libbpf_print_level level, const char* format, va_list arguments) {
  if (level != LIBBPF_WARN || !first_complaint.empty()) return 0;
  std::array<char, 256> line{};
  std::vsnprintf(line.data(), line.size(), format, arguments);
  first_complaint = base::trim(line.data());
  return 0;
}

base::Error bpf_error(std::string what, int error_number) {
  base::Error error = base::system_error(std::move(what), error_number);
  if (!first_complaint.empty()) error.message += " (" + first_complaint + ")";
  if (error_number == EPERM || error_number == EACCES) {
    error.code = base::ErrorCode::kPermission;
    error.hint =
        "CAP_BPF and CAP_NET_ADMIN are needed, and a kernel whose lockdown does not forbid BPF";
  } else {
    error.code = base::ErrorCode::kUnsupported;
    error.hint = "Linux 5.12 or newer with CONFIG_CGROUP_BPF and BTF is needed";
  }
  return error;
}

base::Error open_error(int error_number) {
  base::Error error = base::system_error("take a look at a socket of the caller", error_number);
  error.code = base::ErrorCode::kUnsupported;
  error.hint = "CAP_SYS_PTRACE is needed, and kernel.yama.ptrace_scope below 3";
  return error;
}

// The sockets among the descriptors of a process. Those that it closes meanwhile are left out.
base::Result<std::vector<base::UniqueFd>> sockets_of(const base::PidFd& process, bool only_one) {
  std::vector<base::UniqueFd> sockets;
  const std::string folder = fmt::format("/proc/{}/fd", process.identity().pid);
  const std::unique_ptr<DIR, int (*)(DIR*)> handle{::opendir(folder.c_str()), ::closedir};
  if (handle == nullptr) {
    if (errno == ENOENT) return sockets;
    return open_error(errno);
  }
  while (const dirent* item = ::readdir(handle.get())) {
    std::array<char, 16> link{};
    const ssize_t length =
        ::readlinkat(::dirfd(handle.get()), item->d_name, link.data(), link.size());
    if (length < 8 || std::memcmp(link.data(), "socket:[", 8) != 0) continue;
    base::UniqueFd socket{
        static_cast<int>(::syscall(SYS_pidfd_getfd, process.get(), std::atoi(item->d_name), 0))};
    if (!socket && (errno == EBADF || errno == ESRCH)) continue;
    if (!socket) return open_error(errno);
    int family = 0;
    socklen_t size = sizeof family;
    if (::getsockopt(socket.get(), SOL_SOCKET, SO_DOMAIN, &family, &size) != 0) continue;
    if (family != AF_INET && family != AF_INET6) continue;
    sockets.push_back(std::move(socket));
    if (only_one) break;
  }
  return sockets;
}

struct DestroyMarker {
  void operator()(pair_marker* marker) const { pair_marker__destroy(marker); }
};

}  // namespace

struct PairMarker::Loaded {
  std::unique_ptr<pair_marker, DestroyMarker> object;

  base::Status put(const bpf_map* map, const void* key, std::size_t key_size,
                   std::uint64_t bits) const {
    std::uint64_t before = 0;
    if (bpf_map__lookup_elem(map, key, key_size, &before, sizeof before, 0) != 0) before = 0;
    const std::uint64_t value = before | bits;
    if (bpf_map__update_elem(map, key, key_size, &value, sizeof value, BPF_ANY) != 0)
      return bpf_error(fmt::format("enter {} into BPF", bpf_map__name(map)), errno);
    return {};
  }

  std::uint64_t pairs_of_socket(int socket) const {
    std::uint64_t value = 0;
    const int got =
        bpf_map__lookup_elem(object->maps.sockets, &socket, sizeof socket, &value, sizeof value, 0);
    return got == 0 ? value : 0;
  }

  base::Status attach_programs() const {
    SQUALL_ASSIGN(const std::string mount, v2_mount());
    const base::UniqueFd root{::open(mount.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (!root) return base::system_error("open " + mount, errno);
    auto& links = object->links;
    links.follow_child = bpf_program__attach(object->progs.follow_child);
    if (links.follow_child == nullptr) return bpf_error("follow forks with BPF", errno);
    links.enter_socket = bpf_program__attach_cgroup(object->progs.enter_socket, root.get());
    if (links.enter_socket == nullptr) return bpf_error("attach BPF to " + mount, errno);
    links.mark_packet = bpf_program__attach_cgroup(object->progs.mark_packet, root.get());
    if (links.mark_packet == nullptr) return bpf_error("attach BPF to " + mount, errno);
    return try_own_socket();
  }

  // Proves that sockets are entered, and that our process numbers are the kernel's.
  base::Status try_own_socket() const {
    const auto self = static_cast<std::uint32_t>(::getpid());
    SQUALL_TRY(put(object->maps.callers, &self, sizeof self, kTrialBit));
    const base::UniqueFd socket{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
    const bool entered = socket && pairs_of_socket(socket.get()) == kTrialBit;
    bpf_map__delete_elem(object->maps.callers, &self, sizeof self, 0);
    if (entered) return {};
    return base::Error{.code = base::ErrorCode::kUnsupported,
                       .message = "a new socket of our own was not seen by its process",
                       .hint = "run Squall in the host's own PID namespace and cgroup namespace"};
  }
};

PairMarker::PairMarker(std::unique_ptr<Loaded> loaded) : loaded_(std::move(loaded)) {}
PairMarker::PairMarker(PairMarker&&) noexcept = default;
PairMarker& PairMarker::operator=(PairMarker&&) noexcept = default;
PairMarker::~PairMarker() = default;

base::Result<PairMarker> PairMarker::load(const Marking& marking, base::Instant deadline) {
  const std::vector<MarkedPair>& pairs = marking.pairs;
  if (pairs.size() > kMostPairs) {
    return base::Error{.code = base::ErrorCode::kExhausted,
                       .message = fmt::format("{} pairs are too many to tell apart", pairs.size()),
                       .hint = fmt::format("name at most {}", kMostPairs)};
  }
  libbpf_set_print(keep_first_complaint);
  first_complaint.clear();
  auto loaded = std::make_unique<Loaded>();
  loaded->object.reset(pair_marker__open());
  if (loaded->object == nullptr) return bpf_error("read the embedded BPF program", errno);
  loaded->object->rodata->mark_bit = kMarkBit;
  loaded->object->rodata->pid_offset = marking.layout.pid;
  loaded->object->rodata->tgid_offset = marking.layout.tgid;
  if (const int result = pair_marker__load(loaded->object.get()); result != 0)
    return bpf_error("load a BPF program", -result);
  loaded->object->bss->deadline_ns = static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(deadline.time_since_epoch()).count());
  PairMarker marker{std::move(loaded)};
  const auto& object = *marker.loaded_->object;
  for (const bpf_program* program :
       {object.progs.enter_socket, object.progs.follow_child, object.progs.mark_packet}) {
    bpf_prog_info info{};
    std::uint32_t size = sizeof info;
    if (bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &size) != 0)
      return bpf_error("ask for the number of a BPF program", errno);
    marker.programs_.push_back(info.id);
  }
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    for (const PacketEndpoint& endpoint : pairs[i].endpoints) {
      const Place place = place_of(endpoint);
      SQUALL_TRY(
          marker.loaded_->put(object.maps.endpoints, &place, sizeof place, std::uint64_t{1} << i));
    }
  }
  marker.pairs_ = pairs;
  return marker;
}

base::Status PairMarker::attach() {
  first_complaint.clear();
  SQUALL_TRY(loaded_->attach_programs());
  return enter_processes(pairs_);
}

base::Status PairMarker::join(const std::vector<std::size_t>& pairs,
                              const base::ProcessIdentity& caller) {
  std::vector<MarkedPair> only(pairs_.size());
  for (const std::size_t pair : pairs) only[pair].callers = {caller};
  return enter_processes(only);
}

base::Status PairMarker::enter_processes(const std::vector<MarkedPair>& pairs) {
  std::map<pid_t, std::uint64_t> known;
  for (int turn = 0; turn < kMostTurns; ++turn) {
    SQUALL_ASSIGN(const auto table, read_process_table());
    std::map<pid_t, std::pair<base::ProcessIdentity, std::uint64_t>> found;
    for (std::size_t i = 0; i < pairs.size(); ++i) {
      for (const base::ProcessIdentity& caller : pairs[i].callers) {
        for (const ProcessEntry& entry : tree_of(table, caller)) {
          auto& [identity, bits] = found[entry.identity.pid];
          identity = entry.identity;
          bits |= std::uint64_t{1} << i;
        }
      }
    }
    bool grown = false;
    for (const auto& [pid, process] : found) {
      const auto& [identity, bits] = process;
      if ((known[pid] & bits) == bits) continue;
      grown = true;
      known[pid] |= bits;
      const auto number = static_cast<std::uint32_t>(pid);
      // From here on its new sockets are entered by the kernel, so none of the old ones is missed.
      SQUALL_TRY(loaded_->put(loaded_->object->maps.callers, &number, sizeof number, bits));
      SQUALL_TRY(enter_sockets_of(identity, bits));
    }
    if (!grown) break;
  }
  processes_ += known.size();
  if (!known.empty()) return {};
  return base::Error{.code = base::ErrorCode::kNotFound,
                     .message = "none of the callers' processes runs any more",
                     .hint = "is the service running?"};
}

base::Status PairMarker::enter_sockets_of(const base::ProcessIdentity& identity,
                                          std::uint64_t pairs) {
  const auto process = base::PidFd::open(identity);
  if (!process.ok()) return {};  // it ended
  SQUALL_ASSIGN(const auto sockets, sockets_of(*process, /*only_one=*/false));
  for (const base::UniqueFd& socket : sockets) {
    const int fd = socket.get();
    SQUALL_TRY(loaded_->put(loaded_->object->maps.sockets, &fd, sizeof fd, pairs));
  }
  sockets_ += sockets.size();
  return {};
}

base::Result<bool> PairMarker::any_left(const std::vector<std::uint32_t>& programs) {
  for (const std::uint32_t program : programs) {
    const base::UniqueFd left{bpf_prog_get_fd_by_id(program)};
    if (left) return true;
    if (errno != ENOENT) return bpf_error("look for a BPF program", errno);
  }
  return false;
}

base::Result<TaskLayout> PairMarker::check(const std::vector<base::ProcessIdentity>& callers) {
  SQUALL_ASSIGN(const TaskLayout layout, TaskLayout::of_this_kernel());
  SQUALL_ASSIGN(const PairMarker marker, load({.pairs = {}, .layout = layout},
                                              base::BootClock::now() + std::chrono::seconds(1)));
  SQUALL_TRY(marker.loaded_->attach_programs());
  for (const base::ProcessIdentity& caller : callers) {
    SQUALL_ASSIGN(const auto process, base::PidFd::open(caller));
    SQUALL_TRY(sockets_of(process, /*only_one=*/true));
  }
  return layout;
}

base::Result<TaskLayout> TaskLayout::of_this_kernel() {
  libbpf_set_print(keep_first_complaint);
  first_complaint.clear();
  const std::unique_ptr<btf, void (*)(btf*)> types{btf__load_vmlinux_btf(), btf__free};
  if (types == nullptr) return bpf_error("read the types of this kernel (BTF)", errno);
  const std::int32_t number = btf__find_by_name_kind(types.get(), "task_struct", BTF_KIND_STRUCT);
  if (number < 0) return bpf_error("find task_struct in this kernel's BTF", -number);
  const btf_type* task = btf__type_by_id(types.get(), static_cast<std::uint32_t>(number));
  TaskLayout layout;
  for (std::uint32_t i = 0; i < btf_vlen(task); ++i) {
    const std::string_view name = btf__name_by_offset(types.get(), btf_members(task)[i].name_off);
    if (name == "pid") layout.pid = btf_member_bit_offset(task, i) / 8;
    if (name == "tgid") layout.tgid = btf_member_bit_offset(task, i) / 8;
  }
  if (layout.pid != 0 && layout.tgid != 0) return layout;
  return bpf_error("find pid and tgid in this kernel's task_struct", ENOENT);
}

Json to_json(const Marking& marking) {
  Json list = Json::array();
  for (const MarkedPair& pair : marking.pairs) {
    Json callers = Json::array();
    for (const base::ProcessIdentity& caller : pair.callers) callers.push_back(to_json(caller));
    Json endpoints = Json::array();
    for (const PacketEndpoint& endpoint : pair.endpoints) endpoints.push_back(to_json(endpoint));
    list.push_back({{"callers", callers}, {"endpoints", endpoints}, {"joining", pair.joining}});
  }
  return {{"pairs", list},
          {"task_layout", {{"pid", marking.layout.pid}, {"tgid", marking.layout.tgid}}}};
}

base::Result<Marking> marking_from_json(const Json& json) {
  Marking marking;
  if (json.is_null()) return marking;
  const Json& layout = field(json, "task_layout");
  marking.layout.pid = static_cast<std::uint32_t>(unsigned_field(layout, "pid"));
  marking.layout.tgid = static_cast<std::uint32_t>(unsigned_field(layout, "tgid"));
  bool good = marking.layout.pid != 0 && marking.layout.tgid != 0;
  for (const Json& item : field(json, "pairs")) {
    MarkedPair pair;
    for (const Json& caller : field(item, "callers")) {
      pair.callers.push_back(identity_of(caller));
      good = good && pair.callers.back().pid > 1;
    }
    for (const Json& place : field(item, "endpoints")) {
      const auto endpoint = endpoint_from_json(place);
      good = good && endpoint && endpoint->port != 0;
      if (endpoint) pair.endpoints.push_back(*endpoint);
    }
    pair.joining = text_field(item, "joining");
    good = good && !pair.callers.empty() && !pair.endpoints.empty();
    marking.pairs.push_back(std::move(pair));
  }
  if (good && !marking.pairs.empty()) return marking;
  return base::Error{.code = base::ErrorCode::kCorrupt,
                     .message = "the binding does not say whose packets to mark"};
}

base::Result<Marking> scratch_marking(const Marking& marking, std::uint16_t port) {
  if (marking.pairs.empty()) return Marking{};
  SQUALL_ASSIGN(const auto self, base::identify_process(::getpid()));
  return Marking{.pairs = {{.callers = {self}, .endpoints = {{.address = {}, .port = port}}}},
                 .layout = marking.layout};
}

// ---- in the life of a fault
// -----------------------------------------------------------------------------------

base::Status FaultMarks::load(Json& noted) {
  if (marking_.pairs.empty()) return {};
  const base::Duration lasts =
      context_.duration() > base::Duration::zero() ? context_.duration() : kUnknownDuration;
  SQUALL_ASSIGN(PairMarker marker,
                PairMarker::load(marking_, base::BootClock::now() + lasts + kGrace));
  programs_ = marker.programs();
  marker_ = std::move(marker);
  add_proof(noted);
  return {};
}

void FaultMarks::add_proof(Json& proof) const {
  if (!programs_.empty()) proof["bpf_programs"] = programs_;
}

base::Status FaultMarks::attach() {
  if (!marker_) return {};
  SQUALL_TRY(marker_->attach());
  SQUALL_TRY(follow());
  for (std::size_t i = 0; i < marking_.pairs.size(); ++i) {
    const bool is_followed =
        std::any_of(followed_.begin(), followed_.end(), [&](const Followed& each) {
          return std::find(each.pairs.begin(), each.pairs.end(), i) != each.pairs.end();
        });
    if (is_followed) continue;
    for (const base::ProcessIdentity& caller : marking_.pairs[i].callers) {
      const bool known =
          std::any_of(callers_.begin(), callers_.end(),
                      [&](const base::PidFd& each) { return each.identity() == caller; });
      if (known) continue;
      SQUALL_ASSIGN(auto process, open_if_there(caller));
      if (process) callers_.push_back(std::move(*process));
    }
  }
  return {};
}

base::Status FaultMarks::follow() {
  std::map<std::string, std::vector<std::size_t>> numbers;
  for (std::size_t i = 0; i < marking_.pairs.size(); ++i) {
    if (!marking_.pairs[i].joining.empty()) numbers[marking_.pairs[i].joining].push_back(i);
  }
  for (auto& [text, pairs] : numbers) {
    SQUALL_ASSIGN(const Json json, base::parse_json(text));
    Successors::Plan plan;
    SQUALL_ASSIGN(plan.service, service_from_json(field(json, "service")));
    for (const Json& item : field(json, "members")) plan.before.push_back(target_from_json(item));
    plan.targets = plan.before;
    plan.claims = false;  // another fault may have a hold on the process itself
    Successors members{std::move(plan), "ended while its packets were marked", context_};
    // Where one has ended already, nobody knows what came in its place since.
    if (!members.open().ok()) continue;
    followed_.push_back({.pairs = std::move(pairs), .members = std::move(members)});
  }
  return {};
}

Step FaultMarks::hold() {
  Step step = tell_ends();
  for (Followed& each : followed_) {
    step = either(std::move(step), each.members.hold([&](const Target& fresh) {
      if (auto noted = context_.note({{"marking", to_json(fresh.identity)}}); !noted.ok())
        return Step::failed(std::move(noted).error());
      if (auto joined = marker_->join(each.pairs, fresh.identity); !joined.ok())
        return Step::failed(std::move(joined).error());
      return Step::done("its packets are marked");
    }));
  }
  return step;
}

Step FaultMarks::tell_ends() {
  std::vector<std::string> ended;
  std::erase_if(callers_, [&](const base::PidFd& caller) {
    if (!caller.ended()) return false;
    ended.push_back(fmt::format("pid {}", caller.identity().pid));
    return true;
  });
  if (callers_.empty() && ended.empty()) return Step::done({});
  Step step = Step::wait_for({});
  for (const base::PidFd& caller : callers_) step.descriptors.push_back(caller.get());
  if (ended.empty()) return step;
  step.again = std::chrono::milliseconds(1);
  step.text = fmt::format("{} ended: what takes its place is not marked and runs without the fault",
                          base::enumerate(ended));
  return step;
}

void FaultMarks::recall(const Json& found) {
  for (const Json& program : field(found, "bpf_programs")) {
    if (program.is_number_unsigned()) programs_.push_back(program.get<std::uint32_t>());
  }
}

void FaultMarks::end() {
  followed_.clear();
  callers_.clear();
  marker_.reset();
}

base::Error FaultMarks::left_behind() {
  return base::Error{
      .code = base::ErrorCode::kRevertNotVerified,
      .message = "the BPF programs that mark packets are still there: some process keeps them open",
      .hint = "without a table they do nothing; `bpftool prog show` names the process"};
}

std::string FaultMarks::text() const {
  if (!marker_) return {};
  return fmt::format("; marked are the packets of {}, {} of which were open",
                     base::counted(marker_->processes(), "process", "processes"),
                     base::counted(marker_->sockets(), "socket"));
}

}  // namespace squall::inject
