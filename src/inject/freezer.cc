#include "inject/freezer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/files.h"
#include "base/ids.h"
#include "base/text.h"

namespace squall::inject {

namespace {

std::string file_of(const Freezer& freezer) {
  return freezer.folder + (freezer.v2 ? "/cgroup.freeze" : "/freezer.state");
}

std::string_view word_for(const Freezer& freezer, bool frozen) {
  if (freezer.v2) return frozen ? "1" : "0";
  return frozen ? "FROZEN" : "THAWED";
}

base::Status write_word(const std::string& path, std::string_view word) {
  const base::UniqueFd file{::open(path.c_str(), O_WRONLY | O_CLOEXEC)};
  if (!file) return base::system_error("open " + path, errno);
  if (::write(file.get(), word.data(), word.size()) < 0)
    return base::system_error(fmt::format("write {} to {}", word, path), errno);
  return {};
}

}  // namespace

base::Result<Freezer> freezer_of(pid_t pid, bool v2) {
  if (!v2) {
    // v2 has no controller of this name: what is found is v1's.
    SQUALL_ASSIGN(auto group, controller_group_of(pid, "freezer", "freezer"));
    return Freezer{.folder = std::move(group.folder), .v2 = false};
  }
  SQUALL_ASSIGN(const std::string mount, v2_mount());
  SQUALL_ASSIGN(const std::string path, v2_group_of(pid));
  return Freezer{.folder = mount + path, .v2 = true};
}

base::Result<Freezer> freezer_of(pid_t pid) {
  auto group = freezer_of(pid, false);
  return group.ok() ? std::move(group) : freezer_of(pid, true);
}

base::Result<std::string> freezer_mount(bool v2) {
  if (v2) return v2_mount();
  SQUALL_ASSIGN(const auto hierarchy, controller_hierarchy("freezer", "freezer"));
  return hierarchy.folder;
}

base::Result<FreezeState> read_freezer(const Freezer& freezer) {
  SQUALL_ASSIGN(const std::string state, base::read_pseudo_file(file_of(freezer)));
  if (freezer.v2) {
    SQUALL_ASSIGN(const std::string events,
                  base::read_pseudo_file(freezer.folder + "/cgroup.events"));
    return FreezeState{.asked = base::trim(state) == "1",
                       .frozen = events.find("frozen 1") != std::string::npos};
  }
  SQUALL_ASSIGN(const std::string asked,
                base::read_pseudo_file(freezer.folder + "/freezer.self_freezing"));
  return FreezeState{.asked = base::trim(asked) == "1", .frozen = base::trim(state) == "FROZEN"};
}

base::Status freeze(const Freezer& freezer) {
  return write_word(file_of(freezer), word_for(freezer, true));
}

base::Status thaw(const Freezer& freezer) {
  return write_word(file_of(freezer), word_for(freezer, false));
}

std::string thaw_by_hand(const Freezer& freezer) {
  return fmt::format("echo {} > {}", word_for(freezer, false), file_of(freezer));
}

std::string freeze_by_hand(const Freezer& freezer) {
  return fmt::format("echo {} > {}", word_for(freezer, true), file_of(freezer));
}

base::Result<ScratchFreezer> ScratchFreezer::create(bool v2) {
  SQUALL_ASSIGN(std::string mount, freezer_mount(v2));
  std::string name = "/squall-scratch-" + base::LeaseId::generate().text();
  if (::mkdir((mount + name).c_str(), 0755) != 0)
    return base::system_error("create cgroup " + mount + name, errno);
  return ScratchFreezer{std::move(mount), std::move(name)};
}

ScratchFreezer::~ScratchFreezer() {
  if (!name_.empty()) ::rmdir((mount_ + name_).c_str());
}

base::Status ScratchFreezer::add(pid_t pid) const {
  return write_word(mount_ + name_ + "/cgroup.procs", fmt::format("{}", pid));
}

base::Status ScratchFreezer::remove_process(pid_t pid) const {
  return write_word(mount_ + "/cgroup.procs", fmt::format("{}", pid));
}

}  // namespace squall::inject
